//! `/why/NAME`: what would happen to the calling job, and why, as a page for people.
//!
//! Owns words and markup, no requests: what is told is looked up by [`super::pages`]. Everything on the page may be a
//! stranger's (names, policies, job ids): as text it is printable, as HTML escaped, and the page may load and run
//! nothing. It shows a source its own job and no other.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use compact_str::CompactString;
use hyper::HeaderMap;
use hyper::header::ACCEPT;
use tidegate_control_wire::summary::{Destination, advice};
use tidegate_control_wire::text::{cut, printable};
use tidegate_policy::endpoint::Transport;
use tidegate_policy::event::{JobRecord, Kind};
use tidegate_policy::explain::{Explanation, Party, Target};
use tidegate_policy::subject::Standing;
use tidegate_policy::verdict::Verdict;

/// What a page may do (Content Security Policy level 3): nothing but wear [`STYLE`], which is named by its SHA-256.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'sha256-vM9lAmkOD6j7UseyesF+qdcclBP/MV4HcCjSszfb0pQ='; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem;\
     color:#1c2430;background:#fff}h1{font-size:1.4rem}dt{font-weight:600;margin-top:.8rem}dd{margin:0}\
     pre,code{font:14px/1.5 ui-monospace,monospace}pre,dd{overflow-wrap:anywhere;white-space:pre-wrap}\
     pre{background:#f2f5f8;padding:.8rem;border-radius:.4rem}\
     @media(prefers-color-scheme:dark){body{color:#e3e8ee;background:#12161c}pre{background:#1d242d}}";
/// Longest text of a line, in characters: the longest name, every byte escaped.
const MAX_LINE: usize = 4 * 255;
/// What was seen of the target is told in as many lines.
const MAX_SEEN: usize = 8;

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// For tools.
    Plain,
    /// For browsers.
    Html,
}

impl Format {
    /// By `Accept` (RFC 9110 §12.5.1): HTML only where it is asked for by name.
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        let asks = |value: &[u8]| {
            let mut parts = value.windows(b"text/html".len());
            parts.any(|part| part.eq_ignore_ascii_case(b"text/html"))
        };
        if headers.get_all(ACCEPT).iter().any(|value| asks(value.as_bytes())) {
            Self::Html
        } else {
            Self::Plain
        }
    }

    /// The media type of a page in this format.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
        }
    }
}

/// What a page tells: a headline, facts, and what to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    title: String,
    facts: Vec<(&'static str, String)>,
    advice: Vec<String>,
    /// A line to be copied.
    line: Option<String>,
}

/// Who asks.
pub(super) struct Caller {
    pub(super) source: IpAddr,
    pub(super) job: Option<Arc<JobRecord>>,
    pub(super) standing: Standing,
    pub(super) network: String,
}

impl Told {
    /// The explanation of a target, to its caller, with what was seen of it so far.
    pub(super) fn of(
        explanation: &Explanation,
        target: &Target,
        caller: &Caller,
        seen: &[Destination],
    ) -> Self {
        let mut told = Self {
            title: match explanation.verdict {
                Verdict::Permit => format!("Tidegate permits {}", explanation.target),
                Verdict::Refuse => format!("Tidegate refuses {}", explanation.target),
                Verdict::WouldRefuse => format!("Tidegate would refuse {} in block mode", explanation.target),
            },
            ..Self::default()
        };
        if let Some(reason) = &explanation.reason {
            let meaning = explanation.meaning.as_deref().unwrap_or_default();
            told.fact("Reason", format!("{reason} - {meaning}"));
        }
        told.grounds(explanation);
        told.caller(caller);
        for one in seen.iter().take(MAX_SEEN) {
            told.fact("So far", seen_line(one));
        }
        told.advise(explanation, target);
        told
    }

    /// What the gateway is, to somebody who found it by its name.
    pub(super) fn welcome(caller: &Caller) -> Self {
        let mut told = Self {
            title: "This is Tidegate, the egress gateway of this network".into(),
            ..Self::default()
        };
        told.caller(caller);
        told.advice
            .push("To ask what becomes of a destination, and why:".into());
        told.line = Some("curl http://tidegate.internal/why/NAME[:PORT][/PROTO]".into());
        told
    }

    /// A question that is none.
    pub(super) fn unclear(problem: &str) -> Self {
        Self {
            title: "That is no question that Tidegate can answer".into(),
            facts: vec![("Problem", shown(problem))],
            advice: vec!["Ask by the name or the address of one destination:".into()],
            line: Some("curl http://tidegate.internal/why/NAME[:PORT][/PROTO]".into()),
        }
    }

    fn fact(&mut self, what: &'static str, text: impl AsRef<str>) {
        self.facts.push((what, shown(text.as_ref())));
    }

    fn grounds(&mut self, explanation: &Explanation) {
        if let Some(rule) = &explanation.rule {
            let source = explanation.rule_source.as_deref().unwrap_or("policy");
            let line = explanation
                .line
                .map_or_else(String::new, |line| format!(", line {line}"));
            self.fact("Rule", format!("{rule} ({source}{line})"));
        }
        if let Some(nearest) = &explanation.nearest {
            self.fact("Nearest", nearest);
        }
        let mode = explanation.mode.as_str();
        match (&explanation.policy, &explanation.scope) {
            (Some(policy), Some(scope)) => {
                let version = explanation.policy_version.unwrap_or_default();
                self.fact(
                    "Policy",
                    format!("{policy} version {version} ({mode}), from {scope}"),
                );
            }
            (Some(policy), None) => self.fact("Policy", format!("{policy} ({mode})")),
            (None, _) => self.fact("Policy", "none"),
        }
    }

    fn caller(&mut self, caller: &Caller) {
        let Caller { source, network, .. } = caller;
        let job = match (&caller.job, caller.standing) {
            (Some(job), _) => {
                let who = &job.identity;
                let parts = [&who.repo, &who.workflow, &who.job, &who.run_id];
                let parts: Vec<&str> = parts
                    .into_iter()
                    .map(CompactString::as_str)
                    .filter(|part| !part.is_empty())
                    .collect();
                let assurance = who.assurance.as_str();
                format!("{} ({}, {assurance})", parts.join(" / "), job.id)
            }
            (None, Standing::Quarantined) => {
                "none: it has ended, and the machine has not changed since".into()
            }
            (None, Standing::Unbound) => "none: this address is not bound to one".into(),
            (None, Standing::Unleased | Standing::Leased) => {
                format!("none registered: what network {network} does by default holds")
            }
            (None, Standing::Foreign) => "none: this address lies in no runner network".into(),
        };
        self.fact("Job", job);
        self.fact("Source", source.to_string());
    }

    fn advise(&mut self, explanation: &Explanation, target: &Target) {
        if explanation.verdict == Verdict::Permit {
            let hint =
                "A connection is permitted where its address was given to this job for the name by DNS.";
            self.advice
                .extend(matches!(target.party, Party::Name(_)).then(|| hint.to_owned()));
            return;
        }
        let Some(reason) = explanation.reason.as_deref().and_then(advice::reason) else {
            return;
        };
        self.advice.extend(advice::advice(reason).map(str::to_owned));
        let (host, kind) = (host(target), kind(target));
        if let Some(line) = advice::allow_line(reason, &host, target.port, kind) {
            let policy = match (&explanation.policy, &explanation.scope) {
                (Some(policy), Some(scope)) => format!("the policy {} ({})", shown(policy), shown(scope)),
                _ => "the job's policy".into(),
            };
            self.advice.push(format!(
                "To allow it, add this line to allowed-endpoints of {policy}:"
            ));
            self.line = Some(line.into());
        }
    }

    /// The page in a format.
    pub(super) fn page(&self, format: Format) -> String {
        match format {
            Format::Plain => self.text(),
            Format::Html => self.html(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n\n", shown(&self.title));
        for (what, fact) in &self.facts {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{:<9}{fact}", format!("{what}:"));
        }
        for advice in &self.advice {
            let _ = write!(text, "\n{advice}\n");
        }
        if let Some(line) = &self.line {
            let _ = write!(text, "\n  {line}\n");
        }
        text
    }

    fn html(&self) -> String {
        let title = shown(&self.title);
        let title = escaped(&title);
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
             <style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n<dl>\n"
        );
        for (what, fact) in &self.facts {
            let _ = writeln!(html, "<dt>{what}</dt><dd>{}</dd>", escaped(fact));
        }
        html.push_str("</dl>\n");
        for advice in &self.advice {
            let _ = writeln!(html, "<p>{}</p>", escaped(advice));
        }
        if let Some(line) = &self.line {
            let _ = writeln!(html, "<pre>{}</pre>", escaped(line));
        }
        html.push_str("</body></html>\n");
        html
    }
}

/// The name or address of a target, as tallies write it.
pub(super) fn host(target: &Target) -> String {
    match &target.party {
        Party::Name(name) => name.to_string(),
        Party::Address(address) => address.to_string(),
    }
}

const fn kind(target: &Target) -> Kind {
    match target.transport {
        Transport::Tcp | Transport::Quic => Kind::Tls,
        Transport::Udp => Kind::Udp,
    }
}

fn seen_line(one: &Destination) -> String {
    let times = if one.count == 1 { "once" } else { "times" };
    let count = if one.count == 1 {
        times.to_owned()
    } else {
        format!("{} {times}", one.count)
    };
    let reason = one
        .reason
        .as_ref()
        .map_or_else(String::new, |reason| format!(", {reason}"));
    let event = one
        .ids
        .first()
        .map_or_else(String::new, |id| format!("; event {id}"));
    format!("{} {} {count}{reason}{event}", one.target(), verb(one.verdict))
}

const fn verb(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Permit => "permitted",
        Verdict::Refuse => "refused",
        Verdict::WouldRefuse => "let through by audit mode",
    }
}

fn shown(text: &str) -> String {
    cut(&printable(text), MAX_LINE).into_owned()
}

fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut html = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            _ => html.push(c),
        }
    }
    Cow::Owned(html)
}

#[cfg(test)]
mod tests;
