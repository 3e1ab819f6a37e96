//! A network event as pages show it: one row each, with what can be done about it.
//!
//! Owns words and links of `templates/jobs/row.html`. The record itself is the
//! wire's; its texts are printable since they were read there, and the templates escape them for HTML.

use serde::Deserialize;
use tidegate_control_wire::event::EventRecord;
use tidegate_control_wire::summary::advice::{allow_line, reason};

use crate::text::{Text, url};
use crate::time::When;

/// An event.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Event {
    #[serde(flatten)]
    pub(crate) record: EventRecord,
    /// Its reason in a sentence.
    #[serde(default)]
    pub(crate) meaning: Option<Text>,
}

impl Event {
    /// `permit`, `refuse` or `would-refuse`: the badge's colour.
    pub(crate) fn verdict(&self) -> &'static str {
        self.record.verdict.as_str()
    }

    pub(crate) fn time(&self) -> When {
        When(self.record.time)
    }

    /// What tells the row from others on one page: ids are unique among one gateway's events.
    pub(crate) fn key(&self) -> String {
        format!("{}-{}", self.record.gateway, self.record.id)
    }

    /// The name that was judged, else the address; a dash where there is neither.
    pub(crate) fn target(&self) -> String {
        let endpoint = self.record.endpoint();
        if endpoint.is_empty() {
            "—".to_owned()
        } else {
            endpoint.to_string()
        }
    }

    /// The address beside a name.
    pub(crate) fn address(&self) -> Option<String> {
        self.record.name.as_ref()?;
        self.record.address.map(|address| address.to_string())
    }

    /// `443 tls`, `lookup A`.
    pub(crate) fn traffic(&self) -> String {
        let kind = self.record.kind.as_str();
        match (kind, self.record.port, self.record.qtype.as_deref()) {
            ("dns", _, Some(asked)) => format!("lookup {asked}"),
            ("dns", _, None) => "lookup".to_owned(),
            (kind, 0, _) => kind.to_owned(),
            (kind, port, _) => format!("{port} {kind}"),
        }
    }

    pub(crate) fn bytes(&self) -> String {
        let (up, down) = (self.record.bytes_up, self.record.bytes_down);
        if up == 0 && down == 0 {
            return String::new();
        }
        // Each number stays together; in a narrow column one stands below the other.
        let whole = |bytes| size(bytes).replace(' ', "\u{a0}");
        format!("{}\u{a0}↑ {}\u{a0}↓", whole(up), whole(down))
    }

    /// Why it was decided so, in a sentence; the code where no sentence is known.
    pub(crate) fn why(&self) -> String {
        match (&self.meaning, &self.record.reason) {
            (Some(meaning), _) => meaning.to_string(),
            (None, Some(reason)) => reason.to_string(),
            (None, None) => String::new(),
        }
    }

    /// The line of a policy that would allow it, where a line would.
    pub(crate) fn line(&self) -> Option<String> {
        let reason = reason(self.record.reason.as_deref()?)?;
        let line = allow_line(
            reason,
            &self.record.endpoint(),
            self.record.port,
            self.record.kind,
        )?;
        Some(line.to_string())
    }

    /// Where it can be allowed: in the policy that decided (`to` is `policy`), or in an endpoint set (`set`).
    pub(crate) fn allow(&self, to: &str) -> Option<String> {
        let line = self.line()?;
        let from = Refused {
            scope: self.record.scope.as_deref().unwrap_or_default(),
            policy: self.record.policy.as_deref().unwrap_or_default(),
            version: self.record.policy_version,
            job: self.record.job.as_ref().map_or("", |job| job.id.as_str()),
        };
        Some(from.allow(to, &line))
    }

    /// The rule that decided, where one did.
    pub(crate) fn ruled(&self) -> Option<Ruled<'_>> {
        Some(Ruled {
            policy: self.record.policy.as_deref()?,
            scope: self.record.scope.as_deref()?,
            rule: self.record.rule.as_deref()?,
            source: self.record.rule_source.as_deref()?,
        })
    }
}

/// What a refusal came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused<'e> {
    pub(crate) scope: &'e str,
    pub(crate) policy: &'e str,
    pub(crate) version: Option<u32>,
    pub(crate) job: &'e str,
}

impl Refused<'_> {
    /// Where a line is added that ends it: to the policy that decided (`to` is `policy`), or to an endpoint set (`set`).
    pub(crate) fn allow(&self, to: &str, line: &str) -> String {
        let version = self.version.map(|version| version.to_string());
        url(
            &["ui", "allow"],
            &[
                ("to", to),
                ("endpoint", line),
                ("scope", self.scope),
                ("policy", self.policy),
                ("version", version.as_deref().unwrap_or_default()),
                ("job", self.job),
            ],
        )
    }
}

/// A rule that decided, as events tell it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ruled<'e> {
    pub(crate) policy: &'e str,
    pub(crate) scope: &'e str,
    pub(crate) rule: &'e str,
    /// `policy` or `set`, or what no organization writes.
    pub(crate) source: &'e str,
}

/// Bytes for people: `842 B`, `1.4 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let (mut whole, mut unit) = (bytes, 0);
    while whole >= 1_024 * 1_024 && unit + 1 < UNITS.len() {
        whole /= 1_024;
        unit += 1;
    }
    format!("{}.{} {}", whole / 1_024, whole % 1_024 * 10 / 1_024, UNITS[unit])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn event(more: serde_json::Value) -> Event {
        let mut event = serde_json::json!({
            "schema": 1, "time": "2026-11-22T17:04:05Z", "id": "abc", "gateway": "gw-1", "source": "10.0.0.1",
            "kind": "tls", "name": "evil.test", "port": 8443, "mode": "block", "verdict": "refuse",
            "reason": "not-allowed", "policy": "web base", "policy_version": 3, "scope": "repo:acme/web",
            "job": {"id": "job_1", "owner": "acme", "repo": "acme/web", "assurance": "signed"},
        });
        for (key, value) in more.as_object().unwrap() {
            event[key] = value.clone();
        }
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn a_refusal_that_a_line_would_end_leads_to_where_it_is_written() {
        let refused = event(serde_json::json!({}));
        assert_eq!(refused.line().as_deref(), Some("evil.test:8443"));
        assert_eq!(
            refused.allow("policy").as_deref(),
            Some(
                "/ui/allow?to=policy&endpoint=evil.test%3A8443&scope=repo%3Aacme%2Fweb&policy=web%20base&version=3&job=job_1"
            )
        );
        for more in [
            serde_json::json!({"reason": "global-block"}),
            serde_json::json!({"verdict": "permit", "reason": null}),
            serde_json::json!({"reason": "something-newer"}),
        ] {
            assert_eq!(event(more.clone()).allow("policy"), None, "{more}");
        }
    }

    #[test]
    fn rows_say_what_they_are_about() {
        let lookup = event(serde_json::json!({"kind": "dns", "qtype": "AAAA", "port": 53}));
        assert_eq!(lookup.traffic(), "lookup AAAA");
        let bare = event(serde_json::json!({"name": null, "address": "192.0.2.1", "meaning": "Because."}));
        assert_eq!(
            (bare.target().as_str(), bare.address(), bare.why().as_str()),
            ("192.0.2.1", None, "Because.")
        );
        let ping = event(serde_json::json!({"kind": "icmp", "port": 0, "verdict": "would-refuse"}));
        assert_eq!(
            (ping.traffic().as_str(), ping.verdict()),
            ("icmp", "would-refuse")
        );
        assert_eq!(
            event(serde_json::json!({"bytes_up": 5, "bytes_down": 2_000})).bytes(),
            "5\u{a0}B\u{a0}↑ 1.9\u{a0}KiB\u{a0}↓"
        );
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, wanted) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_536, "1.5 KiB"),
            (5 << 20, "5.0 MiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(size(bytes), wanted);
        }
    }
}
