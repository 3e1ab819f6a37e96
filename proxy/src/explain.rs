//! What a refused client is told: a TLS alert, or a page. Owns the words and the bytes; never writes to a
//! socket, never decides. Built from the refusal's event, so that both say the same.

use std::fmt::Write as _;

use tidegate_policy::event::NetworkEvent;
use tidegate_policy::rulebook::Nearest;
use tidegate_policy::verdict::{Judgement, Reason};

/// AlertDescription `access_denied` (RFC 8446 §6.2): "a valid certificate or PSK was received, but when
/// access control was applied, the sender decided not to proceed"; the nearest there is to "by policy".
const ACCESS_DENIED: u8 = 49;
/// AlertDescription `decode_error`: a message that can't be read.
const DECODE_ERROR: u8 = 50;
/// Content type `alert`, and AlertLevel `fatal`.
const ALERT: u8 = 21;
const FATAL: u8 = 2;

/// Why a flow was refused, in words for its owner.
#[derive(Clone, Debug)]
pub(crate) struct Explanation {
    reason: Reason,
    id: String,
    target: String,
    rule: Option<String>,
    nearest: Nearest,
    policy: Option<String>,
    scope: Option<String>,
    note: Option<String>,
    /// There is a page that tells more.
    more: bool,
}

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageFormat {
    /// For tools.
    Plain,
    /// For browsers: the client's `Accept` prefers it.
    Html,
}

impl PageFormat {
    /// Chooses by the values of `Accept` (RFC 9110 §12.5.1): HTML only where it is asked for by name.
    pub(crate) fn by_accept<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Self {
        let asks = |value: &[u8]| {
            value
                .windows(b"text/html".len())
                .any(|part| part.eq_ignore_ascii_case(b"text/html"))
        };
        if values.any(asks) { Self::Html } else { Self::Plain }
    }
}

impl Explanation {
    /// From an event and the judgement behind it; `more` where the gateway's own pages tell more.
    pub(crate) fn of(event: &NetworkEvent, judgement: &Judgement, more: bool) -> Self {
        let host = match (&event.name, event.original_address.or(event.address)) {
            (Some(name), _) => name.to_string(),
            (None, Some(address)) if address.is_ipv6() => format!("[{address}]"),
            (None, Some(address)) => address.to_string(),
            (None, None) => String::new(),
        };
        let version = |name| {
            event
                .subject
                .policy_version
                .map_or(format!("{name}"), |version| format!("{name} (version {version})"))
        };
        Self {
            reason: judgement
                .refusal()
                .map_or(Reason::NotAllowed, |refusal| refusal.reason),
            id: event.id.to_string(),
            target: format!("{host}:{}", event.port),
            rule: event.rule.as_ref().map(ToString::to_string),
            nearest: event.nearest.clone(),
            policy: event.subject.policy.as_ref().map(version),
            scope: event.subject.scope.as_ref().map(ToString::to_string),
            note: event.note.as_ref().map(ToString::to_string),
            more,
        }
    }

    /// A fatal TLS alert in a plaintext record: 7 octets. `first` is what the client sent so far; its hello's
    /// version is answered in kind (RFC 8446 §5.1 wants 0x0303, TLS 1.0 clients their own).
    pub(crate) fn alert(&self, first: &[u8]) -> [u8; 7] {
        let description = if self.reason == Reason::MalformedTls {
            DECODE_ERROR
        } else {
            ACCESS_DENIED
        };
        let [major, minor] = hello_version(first).clamp(0x0301, 0x0303).to_be_bytes();
        [ALERT, major, minor, 0, 2, FATAL, description]
    }

    /// A whole HTTP/1.1 response that closes the connection. `status` is 403, or what the request itself
    /// deserves (400, 431 …); `head` leaves the body out.
    pub(crate) fn page(&self, status: u16, format: PageFormat, head: bool) -> Vec<u8> {
        self.response(status, format, head, "close")
    }

    /// The same, behind which the connection takes another request.
    pub(crate) fn lasting_page(&self, status: u16, format: PageFormat, head: bool) -> Vec<u8> {
        self.response(status, format, head, "keep-alive")
    }

    /// The same for a port that the flow's own does not decide about.
    pub(crate) fn for_port(mut self, port: u16) -> Self {
        let host = self
            .target
            .rsplit_once(':')
            .map_or(self.target.as_str(), |(host, _)| host);
        self.target = format!("{host}:{port}");
        self
    }

    /// The page's media type and text.
    pub(crate) fn document(&self, format: PageFormat) -> (&'static str, String) {
        match format {
            PageFormat::Plain => ("text/plain", self.text()),
            PageFormat::Html => ("text/html", html(&self.text())),
        }
    }

    /// Header fields for programs: the reason, and the event's id.
    pub(crate) fn marks(&self) -> [(&'static str, &str); 2] {
        [
            ("x-tidegate-reason", self.reason.as_str()),
            ("x-tidegate-event", &self.id),
        ]
    }

    fn response(&self, status: u16, format: PageFormat, head: bool, connection: &str) -> Vec<u8> {
        let (media, body) = self.document(format);
        let mut page = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: {media}; charset=utf-8\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nConnection: {connection}\r\nX-Tidegate-Reason: {}\r\nX-Tidegate-Event: {}\r\n\r\n",
            phrase(status),
            body.len(),
            self.reason.as_str(),
            self.id,
        );
        if !head {
            page.push_str(&body);
        }
        page.into_bytes()
    }

    /// The same for people, a line each.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("Tidegate refused this request to {}.\n\n", self.target);
        let mut line = |what: &str, value: &str| {
            let _ = writeln!(text, "{what:<10}{value}");
        };
        line(
            "Reason:",
            &format!("{} - {}", self.reason.as_str(), self.reason.meaning().trim()),
        );
        match (&self.policy, &self.scope) {
            (Some(policy), Some(scope)) => line("Policy:", &format!("{policy}, from {scope}")),
            (Some(policy), None) => line("Policy:", policy),
            (None, _) => line("Policy:", "none"),
        }
        let nearest = self.nearest.find().map(|rule| rule.text().to_owned());
        let optional = [
            ("Rule:", &self.rule),
            ("Nearest:", &nearest),
            ("Note:", &self.note),
        ];
        for (what, value) in optional {
            if let Some(value) = value {
                line(what, value);
            }
        }
        line("Event:", &self.id);
        if self.more {
            line("More:", &format!("http://tidegate.internal/why/{}", self.target));
        }
        let _ = write!(text, "\n{}\n", self.remedy());
        text
    }

    /// What the owner of the job can do.
    fn remedy(&self) -> String {
        let ask = || {
            format!(
                "To ask for it, add this line to allowed-endpoints of the policy:\n\n  {}",
                self.target
            )
        };
        match self.reason {
            Reason::NotAllowed | Reason::NoName | Reason::Silent | Reason::UnknownProtocol => ask(),
            Reason::Denied => {
                "A denied endpoint refuses it; allowing it elsewhere in the policy changes nothing.".into()
            }
            Reason::GlobalBlock => {
                "It is refused for everyone; the operators of the gateway keep that list.".into()
            }
            Reason::PolicyUnknown | Reason::NoPolicy | Reason::Quarantined | Reason::UnboundSource => {
                "No endpoint line helps: the gateway does not know which job is asking.".into()
            }
            Reason::NeverDial
            | Reason::SearchSuffix
            | Reason::SpoofedSource
            | Reason::Unticketed
            | Reason::Ech
            | Reason::SecondHello
            | Reason::MalformedTls
            | Reason::MalformedHttp
            | Reason::MalformedQuic
            | Reason::MalformedDns
            | Reason::DetectTimeout
            | Reason::Quic
            | Reason::ProxyRequest
            | Reason::Icmp
            | Reason::IpProtocol
            | Reason::Rebinding
            | Reason::RecordType
            | Reason::DnsBudget
            | Reason::ResolveFailed
            | Reason::LeaseChanged
            | Reason::PolicyChanged
            | Reason::Limit => format!("Name the event {} when you ask about it.", self.id),
        }
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        414 => "URI Too Long",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Forbidden",
    }
}

fn html(text: &str) -> String {
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Refused by Tidegate</title>\n\
         <body><pre>{escaped}</pre></body></html>\n"
    )
}

/// `legacy_version` of the hello where its first record holds it, else the record's own version.
fn hello_version(first: &[u8]) -> u16 {
    let at = |index: usize| Some(u16::from_be_bytes([*first.get(index)?, *first.get(index + 1)?]));
    at(9).or_else(|| at(1)).unwrap_or(0x0303)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::Arc;

    use tidegate_policy::DnsName;
    use tidegate_policy::event::{EventIds, EventSubject, Kind};
    use tidegate_policy::verdict::Refusal;

    use super::*;

    fn explained(reason: Reason) -> Explanation {
        let mut event = NetworkEvent::new(EventIds::new(7).mint(), Kind::Http, "10.0.0.2".parse().unwrap());
        event.name = Some(DnsName::parse("evil.test").unwrap());
        event.port = 8080;
        event.subject = Arc::new(EventSubject {
            policy: Some("ci".into()),
            policy_version: Some(3),
            ..EventSubject::default()
        });
        let judgement = Judgement::Refuse(Refusal::because(reason));
        event.judged(&judgement);
        Explanation::of(&event, &judgement, true)
    }

    #[test]
    fn the_alert_is_access_denied_in_the_clients_version_and_decode_error_when_malformed() {
        let hello = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
        assert_eq!(
            explained(Reason::NotAllowed).alert(&hello),
            [21, 3, 3, 0, 2, 2, 49]
        );
        assert_eq!(
            explained(Reason::MalformedTls).alert(&[22, 3, 1]),
            [21, 3, 1, 0, 2, 2, 50]
        );
        assert_eq!(
            explained(Reason::NotAllowed).alert(&[22, 3, 0xff]),
            [21, 3, 3, 0, 2, 2, 49]
        );
    }

    #[test]
    fn the_page_names_policy_reason_event_and_the_line_to_add() {
        let explained = explained(Reason::NotAllowed);
        let page = String::from_utf8(explained.page(403, PageFormat::Plain, false)).unwrap();
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len())),
            "{head}"
        );
        for part in [
            "ci (version 3)",
            "not-allowed",
            &explained.id,
            "\n  evil.test:8080\n",
            "More:     http://tidegate.internal/why/evil.test:8080\n",
        ] {
            assert!(body.contains(part), "{part} in {body}");
        }
        assert!(
            explained
                .page(403, PageFormat::Plain, true)
                .ends_with(b"\r\n\r\n")
        );
    }

    #[test]
    fn html_only_for_those_who_ask_for_it_and_nothing_in_it_is_markup() {
        assert_eq!(
            PageFormat::by_accept([&b"*/*"[..]].into_iter()),
            PageFormat::Plain
        );
        assert_eq!(
            PageFormat::by_accept([&b"Text/HTML,*/*;q=0.8"[..]].into_iter()),
            PageFormat::Html
        );
        let mut explained = explained(Reason::NotAllowed);
        explained.rule = Some("<script>".into());
        let page = String::from_utf8(explained.page(403, PageFormat::Html, false)).unwrap();
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"));
    }
}
