//! What an import takes of a baseline, and why it leaves out the rest.
//!
//! Everything that could be somebody's trick, or nobody's intent, is left out, and said: a policy that is too narrow is
//! noticed at once, one that is too wide never. An endpoint is written only when the policy grammar reads exactly this one
//! name or address and nothing else back from it.

use compact_str::CompactString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_policy::endpoint::parse::{Role, parse_endpoint};
use tidegate_policy::endpoint::{Endpoint, Host, Ports, Protocols};
use tidegate_policy::verdict::Mode;
use utoipa::ToSchema;

use super::detection::Status;
use super::sighting::{Target, Transport, address};
use super::standing::State;

/// Runs that an endpoint was reached in at least, unless somebody asks otherwise.
pub const MIN_RUNS: u64 = 2;

/// An endpoint as a scope's jobs were seen to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What.
    pub target: Target,
    /// By anybody first.
    pub first_at: Timestamp,
    /// By anybody last.
    pub last_at: Timestamp,
    /// How often, by anybody.
    pub calls: u64,
    /// Trusted runs that reached it.
    pub runs: u64,
    /// Runs of pull requests from forks that did.
    pub fork_runs: u64,
    /// Runs of claimed identities that did.
    pub claimed_runs: u64,
    /// First reached by a trusted run after the baseline was stable once.
    pub late: bool,
    /// Somebody said that it is expected.
    pub accepted: bool,
    /// A resolver made the name out of an allowed one.
    pub suffix: bool,
    /// How its detection stands, when it has one.
    pub detection: Option<Status>,
}

/// What an import asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Reached last at this time or after.
    pub since: Option<Timestamp>,
    /// Reached in so many trusted runs at least.
    pub min_runs: u64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            since: None,
            min_runs: MIN_RUNS,
        }
    }
}

/// Why an import leaves an endpoint out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LeftOut {
    /// Only pull requests from forks reached it.
    ForkPullRequest,
    /// Only identities without a credential did.
    Claimed,
    /// A single run did.
    SingleRun,
    /// Fewer runs did than were asked for.
    FewRuns,
    /// A resolver made the name by appending a search suffix to an allowed one.
    SearchSuffix,
    /// It has an open detection: new since the baseline was stable, and nobody said that it is expected.
    OpenDetection,
    /// Its detection was resolved, and not as expected.
    Unexpected,
    /// It was not reached since the time that was asked for.
    NotSince,
    /// It is no endpoint of the policy grammar: a strange name, or an address that is never dialled.
    NotAnEndpoint,
}

impl LeftOut {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::ForkPullRequest,
        Self::Claimed,
        Self::SingleRun,
        Self::FewRuns,
        Self::SearchSuffix,
        Self::OpenDetection,
        Self::Unexpected,
        Self::NotSince,
        Self::NotAnEndpoint,
    ];

    /// After a number of endpoints: "3 …".
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::ForkPullRequest => "reached by pull requests from forks only",
            Self::Claimed => "reached by claimed identities only",
            Self::SingleRun => "reached in a single run",
            Self::FewRuns => "reached in too few runs",
            Self::SearchSuffix => "made by a search suffix",
            Self::OpenDetection => "with an open detection",
            Self::Unexpected => "whose detection was not resolved as expected",
            Self::NotSince => "not reached since then",
            Self::NotAnEndpoint => "that no policy can name",
        }
    }
}

/// Why an endpoint is left out; empty when it is taken.
pub fn left_out(seen: &Seen, wanted: &Wanted) -> Vec<LeftOut> {
    let nobody = seen.runs == 0;
    let reasons = [
        (nobody && seen.fork_runs > 0, LeftOut::ForkPullRequest),
        (nobody && seen.claimed_runs > 0, LeftOut::Claimed),
        (seen.runs == 1 && wanted.min_runs > 1, LeftOut::SingleRun),
        (seen.runs > 1 && seen.runs < wanted.min_runs, LeftOut::FewRuns),
        (seen.suffix, LeftOut::SearchSuffix),
        (
            is_outside(seen) && seen.detection != Some(Status::Resolved),
            LeftOut::OpenDetection,
        ),
        (
            is_outside(seen) && seen.detection == Some(Status::Resolved),
            LeftOut::Unexpected,
        ),
        (
            wanted.since.is_some_and(|since| seen.last_at < since),
            LeftOut::NotSince,
        ),
        (rule(&seen.target).is_none(), LeftOut::NotAnEndpoint),
    ];
    let mut all: Vec<LeftOut> = reasons
        .into_iter()
        .filter_map(|(applies, reason)| applies.then_some(reason))
        .collect();
    // Nobody's at all: rows that lost what they counted. Never an import.
    if nobody && all.is_empty() {
        all.push(LeftOut::FewRuns);
    }
    all
}

/// Beyond a baseline that was stable once, and nobody said that it is expected.
fn is_outside(seen: &Seen) -> bool {
    seen.late && !seen.accepted
}

/// How a policy names a target, in the canonical spelling; `None` for what a policy can't name.
pub fn rule(target: &Target) -> Option<String> {
    let host = match address(&target.endpoint) {
        Some(std::net::IpAddr::V6(v6)) => format!("[{v6}]"),
        Some(std::net::IpAddr::V4(v4)) => v4.to_string(),
        None => target.endpoint.to_string(),
    };
    let (suffix, protocols) = match target.transport {
        Transport::Tcp => ("", Protocols::Tcp),
        Transport::Udp => ("/udp", Protocols::Udp),
        Transport::Dns | Transport::Ip => return None,
    };
    let (read, _) = parse_endpoint(&format!("{host}:{}{suffix}", target.port), Role::Allowed).ok()?;
    let single = match &read.host {
        // Jobs can ask for names with stars in them.
        Host::Name(pattern) => pattern.as_exact().is_some(),
        Host::Net(net) => net.addr() == net.broadcast(),
    };
    let meant = single && read.ports == Ports::one(target.port) && read.protocols == protocols;
    meant.then(|| spelling(&read))
}

fn spelling(endpoint: &Endpoint) -> String {
    endpoint.to_string()
}

/// How many endpoints were left out, by reason; one that has several counts for each.
pub fn counted<'a>(reasons: impl IntoIterator<Item = &'a [LeftOut]>) -> Vec<(LeftOut, usize)> {
    let mut counts = [0; LeftOut::ALL.len()];
    for reason in reasons.into_iter().flatten() {
        if let Some(at) = LeftOut::ALL.iter().position(|one| one == reason) {
            counts[at] += 1;
        }
    }
    LeftOut::ALL
        .into_iter()
        .zip(counts)
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// "3 reached in a single run, 1 with an open detection".
pub fn told(counts: &[(LeftOut, usize)]) -> String {
    let parts: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {}", reason.phrase()))
        .collect();
    parts.join(", ")
}

/// What a policy that is made from a baseline says of itself.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// The scope, in its one spelling.
    pub scope: &'a str,
    /// When.
    pub now: Timestamp,
    /// The baseline's state.
    pub state: State,
    /// Its trusted runs.
    pub runs: u64,
    /// What was asked for.
    pub wanted: Wanted,
    /// The policy's mode.
    pub mode: Mode,
    /// What is left out, by reason.
    pub left_out: &'a [(LeftOut, usize)],
}

impl Draft<'_> {
    /// The document: a head that says where it comes from, the mode, the endpoints sorted.
    pub fn document(&self, mut endpoints: Vec<String>) -> String {
        endpoints.sort_unstable();
        endpoints.dedup();
        let mut lines = vec![
            format!(
                "# From the baseline of {} on {:.0}.",
                comment(self.scope),
                self.now
            ),
            format!(
                "# It was {} after {} runs; {} endpoints, each reached in {} runs or more{}.",
                self.state.as_str(),
                self.runs,
                endpoints.len(),
                self.wanted.min_runs,
                self.wanted
                    .since
                    .map(|since| format!(", last not before {since:.0}"))
                    .unwrap_or_default(),
            ),
        ];
        if !self.left_out.is_empty() {
            lines.push(format!("# Left out: {}.", told(self.left_out)));
        }
        if self.mode == Mode::Audit {
            lines.push("# It only records yet; `egress-policy: block` enforces it.".to_owned());
        }
        lines.push(format!("egress-policy: {}", self.mode.as_str()));
        // Folded: an IPv6 address in brackets is no list of YAML's there.
        lines.push("allowed-endpoints: >".to_owned());
        lines.extend(endpoints.iter().map(|endpoint| format!("  {endpoint}")));
        let mut text = lines.join("\n");
        text.push('\n');
        text
    }
}

/// Text on one line of a comment: a workflow's file may be called anything.
fn comment(text: &str) -> CompactString {
    tidegate_control_wire::text::printable(text).into()
}

#[cfg(test)]
mod tests;
