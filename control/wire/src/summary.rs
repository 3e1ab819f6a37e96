//! What a job is told about itself when it ends: verdicts counted, destinations with their grounds, refused first.
//!
//! Owns the tally that verdicts are added to ([`tally`]), the shape of the summary ([`JobSummary`]), its page of Markdown
//! ([`page`]) and what is advised about a refusal ([`advice`]). Gateways feed it from live events, the store from
//! recorded ones, and both must say the same. It does no I/O and reads no clock. Every text in it is a stranger's: it is
//! printable ([`crate::text::printable`]) from the tally on, and escaped once more where it becomes Markdown.

pub mod advice;
mod page;
mod seen;
mod tally;

use compact_str::CompactString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_policy::event::Kind;
use tidegate_policy::verdict::{Mode, Verdict};

pub use page::MAX_MARKDOWN;
pub use seen::Seen;
pub use tally::{MAX_DESTINATIONS, MAX_TEXT, Tally};

use crate::event::EventJob;

/// A job's summary: the JSON of `GET /v1/summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSummary {
    /// The job; absent for a source without one.
    pub job: Option<EventJob>,
    /// The policies that decided, in the order in which they came into force; several when it changed.
    pub policies: Vec<PolicyUsed>,
    /// Verdicts and bytes.
    pub counts: Counts,
    /// What was refused, in the order in which it was first tried.
    pub refused: Vec<Destination>,
    /// What audit mode let through and block mode would refuse, in the same order.
    pub would_refuse: Vec<Destination>,
    /// What was permitted, in the same order.
    pub permitted: Vec<Destination>,
    /// Verdicts about destinations that found no place in the lists.
    pub unlisted: Unlisted,
    /// The gateway that saw all this; absent when it is what all of them saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<CompactString>,
    /// When not everything since the job's start is counted: since when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Events that were dropped before they were counted: of this job or, where nobody knows whose they were, of all
    /// jobs meanwhile.
    #[serde(default)]
    pub dropped: u64,
    /// Where more is to be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// What a summary says besides its counts.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The job.
    pub job: Option<EventJob>,
    /// The policy in force, though no verdict may have named it yet.
    pub policy: Option<PolicyUsed>,
    /// [`JobSummary::gateway`].
    pub gateway: Option<CompactString>,
    /// [`JobSummary::since`].
    pub since: Option<Timestamp>,
    /// [`JobSummary::dropped`].
    pub dropped: u64,
    /// [`JobSummary::link`].
    pub link: Option<String>,
}

/// A policy that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyUsed {
    /// Its name.
    pub name: CompactString,
    /// Its version.
    pub version: u32,
    /// Its mode.
    pub mode: Mode,
    /// The scope that it came from.
    pub scope: CompactString,
}

/// Verdicts by kind, and bytes of all flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Permitted.
    pub permit: u64,
    /// Let through by audit mode.
    pub would_refuse: u64,
    /// Refused.
    pub refuse: u64,
    /// Refused, or would be, because a resolver appended a search suffix to an allowed name. Counted here only: they
    /// tell nothing about the job.
    pub search_suffix: u64,
    /// Bytes from the runner.
    pub bytes_up: u64,
    /// Bytes to the runner.
    pub bytes_down: u64,
}

/// Verdicts that no list has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlisted {
    /// Refused.
    pub refused: u64,
    /// Would be refused.
    pub would_refuse: u64,
    /// Permitted.
    pub permitted: u64,
}

/// One destination, with one verdict for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The name, else the address; empty when there is neither.
    pub endpoint: CompactString,
    /// The port; 0 for lookups and for protocols without ports.
    #[serde(default)]
    pub port: u16,
    /// What kind of traffic; `dns` is a lookup of the name.
    pub kind: Kind,
    /// The verdict.
    pub verdict: Verdict,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<CompactString>,
    /// That reason in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meaning: Option<CompactString>,
    /// The deciding rule, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<CompactString>,
    /// Where that rule stands: policy, set, platform, host, global.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_source: Option<CompactString>,
    /// The allowed endpoint that came nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<CompactString>,
    /// The line of `allowed-endpoints` that would allow it, where a line would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<CompactString>,
    /// What else can be done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<CompactString>,
    /// Name of the deciding policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<CompactString>,
    /// Verdicts.
    pub count: u64,
    /// Bytes from the runner.
    #[serde(default)]
    pub bytes_up: u64,
    /// Bytes to the runner.
    #[serde(default)]
    pub bytes_down: u64,
    /// Ids of the first events, at most three.
    pub ids: Vec<CompactString>,
    /// The first verdict.
    pub first: Timestamp,
    /// The last one.
    pub last: Timestamp,
    /// Processes behind it, as an agent on the runner reported them, at most three.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<CompactString>,
}

impl JobSummary {
    /// The summary as a page of Markdown, as GitHub shows it behind a job: at most [`MAX_MARKDOWN`] bytes.
    pub fn markdown(&self) -> String {
        page::render(self)
    }

    /// What was refused and deserves an annotation: without lookups that a flow to the same name tells about as well.
    pub fn refusals(&self) -> impl Iterator<Item = &Destination> {
        told(&self.refused)
    }
}

/// The destinations without lookups that say no more than a flow to the same name.
fn told(all: &[Destination]) -> impl Iterator<Item = &Destination> {
    let flows: hashbrown::HashSet<(&str, Option<&str>)> = all
        .iter()
        .filter(|one| one.kind != Kind::Dns)
        .map(|one| (one.endpoint.as_str(), one.reason.as_deref()))
        .collect();
    all.iter().filter(move |one| {
        one.kind != Kind::Dns || !flows.contains(&(one.endpoint.as_str(), one.reason.as_deref()))
    })
}

impl Destination {
    /// Endpoint, port and protocol: `evil.test:443`, `evil.test (lookup)`, `[2001:db8::1]:53/udp`. Printable.
    pub fn target(&self) -> String {
        let endpoint = crate::text::printable(&self.endpoint);
        let host = match endpoint.parse::<std::net::Ipv6Addr>() {
            Ok(v6) => format!("[{v6}]"),
            Err(_) => endpoint.into_owned(),
        };
        match (self.kind, self.port) {
            (Kind::Dns, _) => format!("{host} (lookup)"),
            (Kind::Udp, port) => format!("{host}:{port}/udp"),
            (Kind::Tls | Kind::Http | Kind::Quic | Kind::Tcp, port) => format!("{host}:{port}"),
            (Kind::Icmp | Kind::Ip, _) => format!("{host} ({})", self.kind.as_str()),
        }
    }

    /// One line of plain, printable text: what was refused, why, what came nearest, what would allow it and the id to
    /// ask with. For annotations and terminals; line breaks don't come about.
    pub fn told(&self) -> String {
        let mut said = format!("{}: {}", self.target(), self.verdict.as_str());
        for (before, text, after) in [
            (" (", &self.reason, ")."),
            (" ", &self.meaning, ""),
            (" Rule: ", &self.rule, "."),
            (" Nearest allowed: ", &self.nearest, "."),
            (" To allow it, add to allowed-endpoints: ", &self.allow, "."),
            (" ", &self.advice, ""),
        ] {
            if let Some(text) = text {
                said.push_str(before);
                said.push_str(&crate::text::printable(text));
                said.push_str(after);
            }
        }
        if let Some(id) = self.ids.first() {
            said.push_str(" Event ");
            said.push_str(&crate::text::printable(id));
        }
        said
    }
}

#[cfg(test)]
mod tests;
