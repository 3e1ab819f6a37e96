//! What the page of events is asked, as its address has it.
//!
//! Owns the way from an address to a question of the API and back, and what a text in the search box means.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::text::{Text, url};

/// Length of the short id of an event, and its characters.
const ID: usize = 8;
const ID_DIGITS: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A question about events. Empty fields ask nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    pub(super) org: String,
    pub(super) repo: String,
    pub(super) workflow: String,
    pub(super) job: String,
    pub(super) run: String,
    pub(super) verdict: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) reason: String,
    pub(super) gateway: String,
    pub(super) network: String,
    pub(super) source: String,
    pub(super) policy: String,
    pub(super) scope: String,
    pub(super) unidentified: String,
    pub(super) id: String,
    /// `1h`, `24h`, `7d`: from so long ago on. `since` goes before it.
    pub(super) span: String,
    pub(super) since: String,
    pub(super) until: String,
    pub(super) after: String,
}

/// Words of a choice, with what stands in the address.
pub(super) type Choice = (&'static str, &'static str);

pub(super) const VERDICTS: &[Choice] = &[
    ("", "Every verdict"),
    ("refuse,would-refuse", "Refused or would be"),
    ("refuse", "Refused"),
    ("would-refuse", "Would be refused"),
    ("permit", "Permitted"),
];
pub(super) const SPANS: &[Choice] = &[
    ("", "Any time"),
    ("1h", "Last hour"),
    ("24h", "Last 24 hours"),
    ("7d", "Last 7 days"),
];
pub(super) const KINDS: &[Choice] = &[
    ("", "Every kind"),
    ("dns", "DNS"),
    ("tls", "TLS"),
    ("http", "HTTP"),
    ("quic", "QUIC"),
    ("tcp", "TCP"),
    ("udp", "UDP"),
    ("icmp", "ICMP"),
    ("ip", "Other IP"),
];
pub(super) const LEASES: &[Choice] = &[
    ("", "With or without a job"),
    ("false", "Of jobs"),
    ("true", "Without a job"),
];

impl Asked {
    /// What lasts: all but times and the place.
    pub(super) fn lasting(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("org", self.org.trim()),
            ("repo", self.repo.trim()),
            ("workflow", self.workflow.trim()),
            ("job", self.job.trim()),
            ("run", self.run.trim()),
            ("verdict", self.verdict.trim()),
            ("name", self.name.trim()),
            ("kind", self.kind.trim()),
            ("reason", self.reason.trim()),
            ("gateway", self.gateway.trim()),
            ("network", self.network.trim()),
            ("source", self.source.trim()),
            ("policy", self.policy.trim()),
            ("scope", self.scope.trim()),
            ("unidentified", self.unidentified.trim()),
            ("id", self.id.trim()),
        ]
    }

    /// Fields with their times as they stand in the address.
    fn fields(&self) -> Vec<(&'static str, &str)> {
        let mut fields = self.lasting();
        fields.extend([
            ("span", self.span.trim()),
            ("since", self.since.trim()),
            ("until", self.until.trim()),
        ]);
        fields
    }

    /// This question's page, from a cursor on.
    pub(super) fn here(&self, after: &str) -> String {
        let mut query = self.fields();
        query.push(("after", after));
        url(&["ui", "events"], &query)
    }

    /// All of its events as a file.
    pub(super) fn export(&self, format: &str) -> String {
        let mut query = self.fields();
        query.push(("format", format));
        url(&["ui", "events", "export"], &query)
    }

    /// The stream of what comes behind a number.
    pub(super) fn stream(&self, position: &str) -> String {
        let mut query = self.lasting();
        query.push(("after", position));
        url(&["ui", "events", "stream"], &query)
    }

    /// The same question with times as the API has them.
    pub(super) fn at(&self, now: Timestamp) -> Self {
        let mut asked = self.clone();
        asked.since = match self.since.trim() {
            "" => span(self.span.trim(), now),
            since => exact(since),
        };
        asked.until = exact(self.until.trim());
        asked
    }

    /// For the API.
    pub(super) fn query(&self) -> Vec<(&'static str, &str)> {
        let mut query = self.lasting();
        query.extend([("since", self.since.as_str()), ("until", self.until.as_str())]);
        query
    }

    /// It has no end: there may be more to follow.
    pub(super) fn is_open(&self) -> bool {
        self.until.trim().is_empty() && self.id.trim().is_empty()
    }

    /// Something is asked.
    pub(super) fn is_filtered(&self) -> bool {
        self.fields().iter().any(|(_, value)| !value.is_empty())
    }

    /// One event is asked for.
    pub(super) fn is_of_one(&self) -> bool {
        !self.id.trim().is_empty()
    }

    /// A name was asked for that may as well be an event's id: where the event of that id is.
    pub(super) fn perhaps_id(&self) -> Option<String> {
        let name = self.name.trim();
        can_be_id(name).then(|| url(&["ui", "events"], &[("id", name)]))
    }

    /// Something is asked that stands behind "More filters".
    pub(super) fn has_more(&self) -> bool {
        let few = ["org", "verdict", "name", "span", "repo"];
        let fields = self.fields();
        fields
            .iter()
            .any(|(name, value)| !few.contains(name) && !value.is_empty())
    }

    /// What is asked, each with the same question without it.
    pub(super) fn tokens(&self) -> Vec<(&'static str, Text, String)> {
        let fields = self.fields();
        let of = |(name, value): &(&'static str, &str)| {
            let rest: Vec<_> = fields
                .iter()
                .copied()
                .filter(|(other, _)| other != name)
                .collect();
            (*name, Text::from(*value), url(&["ui", "events"], &rest))
        };
        fields
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(of)
            .collect()
    }
}

/// The begin of a span. One that is none asks for everything.
fn span(text: &str, now: Timestamp) -> String {
    let hours = match text {
        "1h" => 1,
        "24h" => 24,
        "7d" => 7 * 24,
        _ => return String::new(),
    };
    let since = now.saturating_sub(SignedDuration::from_hours(hours));
    since.map_or_else(
        |_| String::new(),
        |since| since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

/// A time of a form's field (`2026-11-22T17:04`, in UTC) as the API takes it. Whatever else was written goes there as it
/// is, and is refused in its words.
fn exact(text: &str) -> String {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b':' | b'T'));
    match text.len() {
        10 if plain => format!("{text}T00:00:00Z"),
        16 if plain => format!("{text}:00Z"),
        19 if plain => format!("{text}Z"),
        _ => text.to_owned(),
    }
}

/// What a text in the search box means, put into the question that it was typed beside.
pub(super) fn meant(text: &str, asked: &Asked) -> Asked {
    let mut found = Asked {
        after: String::new(),
        ..asked.clone()
    };
    let text = text.trim();
    // One id of twenty has no digit, and every word of eight letters has none: such a text is a name.
    let is_id = can_be_id(text) && text.bytes().any(|byte| byte.is_ascii_digit());
    let field = if text.starts_with("job_") {
        &mut found.job
    } else if text.contains("://") {
        host(text).clone_into(&mut found.name);
        return found;
    } else if text.contains('/') {
        &mut found.repo
    } else if is_id {
        &mut found.id
    } else {
        &mut found.name
    };
    text.clone_into(field);
    found
}

/// The host of an address that was copied from a browser.
fn host(address: &str) -> &str {
    let place = address.split("://").nth(1).unwrap_or_default();
    let place = place.split(['/', '?', '#']).next().unwrap_or_default();
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    if let Some((host, _)) = place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    place.rsplit_once(':').map_or(place, |(host, _)| host)
}

/// True for what an event's id may look like.
fn can_be_id(text: &str) -> bool {
    text.len() == ID
        && text
            .bytes()
            .all(|byte| ID_DIGITS.contains(&byte.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_text_is_searched_for_as_what_it_looks_like() {
        let of = |text: &str| meant(text, &Asked::default());
        assert_eq!(of(" Registry.Example.test ").name, "Registry.Example.test");
        assert_eq!(of("*.example.test").name, "*.example.test");
        assert_eq!(of("192.0.2.1").name, "192.0.2.1");
        assert_eq!(of("2001:db8::1").name, "2001:db8::1");
        assert_eq!(of("acme/web").repo, "acme/web");
        assert_eq!(of("job_01J").job, "job_01J");
        assert_eq!(of("k3v9x2ab").id, "k3v9x2ab");
        assert_eq!(of("K3V9X2AB").id, "K3V9X2AB");
        for word in ["registry", "postgres", "packages", "python3l", "k3v9x2abc"] {
            assert_eq!(of(word).name, word, "a name");
        }
        assert_eq!(of("packages").perhaps_id().unwrap(), "/ui/events?id=packages");
        assert_eq!(of("postgres").perhaps_id(), None);
        assert_eq!(of("https://evil.example:8443/x?y").name, "evil.example");
        assert_eq!(of("https://ada@evil.example/x:y").name, "evil.example");
        assert_eq!(of("https://[2001:db8::1]/x").name, "2001:db8::1");
        assert_eq!(of("https://[2001:db8::1]:8443").name, "2001:db8::1");
        let kept = Asked {
            org: "acme".into(),
            after: "1.2.3".into(),
            ..Asked::default()
        };
        assert_eq!(meant("a.test", &kept).here(""), "/ui/events?org=acme&name=a.test");
    }

    #[test]
    fn times_of_forms_are_utc() {
        let asked = Asked {
            since: "2026-11-22T17:04".into(),
            until: "2026-11-23".into(),
            span: "1h".into(),
            ..Asked::default()
        };
        let at = asked.at("2026-11-22T18:00:00Z".parse().unwrap());
        assert_eq!(
            (at.since.as_str(), at.until.as_str()),
            ("2026-11-22T17:04:00Z", "2026-11-23T00:00:00Z")
        );
        let span = Asked {
            since: String::new(),
            until: "ü".into(),
            ..asked
        };
        let at = span.at("2026-11-22T18:00:00Z".parse().unwrap());
        assert_eq!(
            (at.since.as_str(), at.until.as_str()),
            ("2026-11-22T17:00:00Z", "ü")
        );
    }

    #[test]
    fn each_filter_can_be_taken_back_alone() {
        let asked = Asked {
            org: "acme".into(),
            verdict: "refuse".into(),
            ..Asked::default()
        };
        let tokens = asked.tokens();
        assert_eq!(tokens.len(), 2);
        assert_eq!(tokens[0].2, "/ui/events?verdict=refuse");
        assert!(asked.is_filtered() && !asked.has_more());
    }
}
