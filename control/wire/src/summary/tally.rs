//! The tally: verdicts of one job, by destination, in bounded memory.
//!
//! Owns what is merged into one destination, and what happens at the bounds: verdicts are always counted, destinations
//! beyond the bound are not listed. Pure.

use compact_str::CompactString;
use hashbrown::{Equivalent, HashMap};
use jiff::Timestamp;
use tidegate_policy::event::Kind;
use tidegate_policy::verdict::{Reason, Verdict};

use super::{About, Counts, Destination, JobSummary, PolicyUsed, Seen, Unlisted, advice};
use crate::batch::ProcessReport;
use crate::text::{cut, printable};

/// Destinations that are listed for each verdict.
pub const MAX_DESTINATIONS: usize = 512;
/// Bytes of text that all of them hold together; the entry that reaches it is the last one to add any.
pub const MAX_TEXT: usize = 256 << 10;
/// What an entry holds besides its text, in bytes; measured, and rounded up.
const ENTRY: usize = 512;
/// Policies that are told apart.
const MAX_POLICIES: usize = 16;
/// First events that are named.
const MAX_IDS: usize = 3;
/// Processes that are named for a destination.
const MAX_PROCESSES: usize = 3;
/// Longest name, in characters: 255 bytes, every one escaped.
const MAX_NAME: usize = 4 * 255;
/// Longest rule, or name of a policy or process, in characters.
const MAX_RULE: usize = 300;

/// Verdicts of one job.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    counts: Counts,
    policies: Vec<PolicyUsed>,
    destinations: HashMap<Key, Entry>,
    listed: [usize; 3],
    unlisted: Unlisted,
    text: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    verdict: Verdict,
    kind: Kind,
    port: u16,
    endpoint: CompactString,
    reason: Option<CompactString>,
}

/// [`Key`], borrowed: hashes like it, because the fields hash alike in the same order.
#[derive(Hash)]
struct Sought<'a> {
    verdict: Verdict,
    kind: Kind,
    port: u16,
    endpoint: &'a str,
    reason: Option<&'a str>,
}

impl Equivalent<Key> for Sought<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.verdict == key.verdict
            && self.kind == key.kind
            && self.port == key.port
            && self.endpoint == key.endpoint
            && self.reason == key.reason.as_deref()
    }
}

#[derive(Clone, Debug)]
struct Entry {
    rule: Option<CompactString>,
    rule_source: Option<CompactString>,
    nearest: Option<CompactString>,
    policy: Option<CompactString>,
    count: u64,
    bytes_up: u64,
    bytes_down: u64,
    ids: Vec<CompactString>,
    first: Timestamp,
    last: Timestamp,
    processes: Vec<CompactString>,
}

impl Tally {
    /// Counts an event of the job.
    pub fn add(&mut self, seen: &Seen<'_>) {
        self.add_within(seen, true);
    }

    /// The same; without room for them, no further destinations are listed.
    pub fn add_within(&mut self, seen: &Seen<'_>, room: bool) {
        self.counts.bytes_up = self.counts.bytes_up.saturating_add(seen.bytes_up);
        self.counts.bytes_down = self.counts.bytes_down.saturating_add(seen.bytes_down);
        self.note_policy(seen);
        if seen.reason == Some(Reason::SearchSuffix.as_str()) {
            self.counts.search_suffix = self.counts.search_suffix.saturating_add(seen.count);
            return;
        }
        let total = match seen.verdict {
            Verdict::Permit => &mut self.counts.permit,
            Verdict::Refuse => &mut self.counts.refuse,
            Verdict::WouldRefuse => &mut self.counts.would_refuse,
        };
        *total = total.saturating_add(seen.count);
        self.list(seen, room);
    }

    /// Names the process that an agent on the runner saw reach for one of the destinations. Reports about others are
    /// ignored.
    pub fn add_report(&mut self, report: &ProcessReport) {
        let process = short(&report.process.name);
        if process.is_empty() {
            return;
        }
        let name = printable(report.name.trim_end_matches('.')).to_ascii_lowercase();
        let address = report.address.map(|address| address.to_string());
        for (key, entry) in &mut self.destinations {
            if self.text >= MAX_TEXT {
                return;
            }
            let meant = key.endpoint == name || Some(key.endpoint.as_str()) == address.as_deref();
            let port = report.port == 0 || key.port == 0 || key.port == report.port;
            if meant && port {
                self.text += entry.attribute(&process);
            }
        }
    }

    /// What is listed of one name or address, in the order in which it was first tried.
    pub fn seen_of(&self, endpoint: &str) -> Vec<Destination> {
        let entries = self.destinations.iter();
        let mut seen: Vec<Destination> = entries
            .filter(|(key, _)| key.endpoint == endpoint)
            .map(|(key, entry)| entry.destination(key))
            .collect();
        seen.sort_unstable_by(in_order);
        seen
    }

    /// Bytes that the tally holds, about.
    pub fn size(&self) -> usize {
        self.text + self.destinations.len() * ENTRY
    }

    /// The summary.
    pub fn summary(&self, about: About) -> JobSummary {
        let mut policies = self.policies.clone();
        policies.extend(about.policy.filter(|policy| !self.policies.contains(policy)));
        let [mut refused, mut would_refuse, mut permitted] = [const { Vec::new() }; 3];
        for (key, entry) in &self.destinations {
            let list = match key.verdict {
                Verdict::Permit => &mut permitted,
                Verdict::Refuse => &mut refused,
                Verdict::WouldRefuse => &mut would_refuse,
            };
            list.push(entry.destination(key));
        }
        for list in [&mut refused, &mut would_refuse, &mut permitted] {
            list.sort_unstable_by(in_order);
        }
        JobSummary {
            job: about.job,
            policies,
            counts: self.counts,
            refused,
            would_refuse,
            permitted,
            unlisted: self.unlisted,
            gateway: about.gateway,
            since: about.since,
            dropped: about.dropped,
            link: about.link,
        }
    }

    fn note_policy(&mut self, seen: &Seen<'_>) {
        let Some(name) = seen.policy else { return };
        let is_scope = |known: &str| seen.scope.map_or(known.is_empty(), |scope| scope.is(known));
        let known = self.policies.iter().any(|known| {
            known.name == name
                && known.version == seen.policy_version
                && known.mode == seen.mode
                && is_scope(&known.scope)
        });
        if !known && self.policies.len() < MAX_POLICIES {
            self.policies.push(PolicyUsed {
                name: short(name),
                version: seen.policy_version,
                mode: seen.mode,
                scope: seen
                    .scope
                    .map_or_else(CompactString::default, |scope| short(&scope.text())),
            });
        }
    }

    fn list(&mut self, seen: &Seen<'_>, room: bool) {
        let endpoint = cut(&seen.endpoint, MAX_NAME);
        let sought = Sought {
            verdict: seen.verdict,
            kind: seen.kind,
            port: seen.port,
            endpoint: &endpoint,
            reason: seen.reason,
        };
        if let Some(entry) = self.destinations.get_mut(&sought) {
            entry.add(seen);
            if self.text < MAX_TEXT {
                self.text += entry.attribute_of(seen);
            }
            return;
        }
        let (group, unlisted) = match seen.verdict {
            Verdict::Refuse => (&mut self.listed[0], &mut self.unlisted.refused),
            Verdict::WouldRefuse => (&mut self.listed[1], &mut self.unlisted.would_refuse),
            Verdict::Permit => (&mut self.listed[2], &mut self.unlisted.permitted),
        };
        if !room || *group >= MAX_DESTINATIONS || self.text >= MAX_TEXT {
            *unlisted = unlisted.saturating_add(seen.count);
            return;
        }
        *group += 1;
        let mut entry = Entry::new(seen);
        let key = Key {
            verdict: seen.verdict,
            kind: seen.kind,
            port: seen.port,
            endpoint: endpoint.as_ref().into(),
            // A reason that is cut would be another key each time it is sought: it is kept whole. Reasons that come
            // over the network are bounded where they are read.
            reason: seen.reason.map(Into::into),
        };
        self.text += key.endpoint.len() + key.reason.as_ref().map_or(0, CompactString::len);
        entry.add(seen);
        self.text += entry.text() + entry.attribute_of(seen);
        self.destinations.insert(key, entry);
    }
}

impl Entry {
    fn new(seen: &Seen<'_>) -> Self {
        Self {
            rule: seen.rule.map(short),
            rule_source: seen.rule_source.map(short),
            nearest: seen.nearest.text(short),
            policy: seen.policy.map(short),
            count: 0,
            bytes_up: 0,
            bytes_down: 0,
            ids: Vec::new(),
            first: seen.time,
            last: seen.time,
            processes: Vec::new(),
        }
    }

    fn text(&self) -> usize {
        [&self.rule, &self.rule_source, &self.nearest, &self.policy]
            .into_iter()
            .flatten()
            .map(CompactString::len)
            .sum()
    }

    /// Adds an event.
    fn add(&mut self, seen: &Seen<'_>) {
        self.count = self.count.saturating_add(seen.count);
        self.bytes_up = self.bytes_up.saturating_add(seen.bytes_up);
        self.bytes_down = self.bytes_down.saturating_add(seen.bytes_down);
        self.first = self.first.min(seen.time);
        self.last = self.last.max(seen.time);
        // An event that only tells later bytes is no verdict that somebody would ask about.
        if seen.count > 0 && self.ids.len() < MAX_IDS {
            self.ids.push(short(&seen.id));
        }
    }

    /// Names the process of an event; returns how many bytes of text the entry holds more.
    fn attribute_of(&mut self, seen: &Seen<'_>) -> usize {
        seen.process.map_or(0, |process| self.attribute(&short(process)))
    }

    fn attribute(&mut self, process: &CompactString) -> usize {
        let fresh = self.processes.len() < MAX_PROCESSES && !self.processes.contains(process);
        if !fresh || process.is_empty() {
            return 0;
        }
        self.processes.push(process.clone());
        process.len()
    }

    fn destination(&self, key: &Key) -> Destination {
        let reason = key.reason.as_deref().and_then(advice::reason);
        let refused = key.verdict != Verdict::Permit;
        Destination {
            endpoint: key.endpoint.clone(),
            port: key.port,
            kind: key.kind,
            verdict: key.verdict,
            reason: key.reason.clone(),
            meaning: reason.map(|reason| reason.meaning().trim().into()),
            rule: self.rule.clone(),
            rule_source: self.rule_source.clone(),
            nearest: self.nearest.clone(),
            allow: reason
                .filter(|_| refused)
                .and_then(|reason| advice::allow_line(reason, &key.endpoint, key.port, key.kind)),
            advice: reason.and_then(advice::advice).map(Into::into),
            policy: self.policy.clone(),
            count: self.count,
            bytes_up: self.bytes_up,
            bytes_down: self.bytes_down,
            ids: self.ids.clone(),
            first: self.first,
            last: self.last,
            processes: self.processes.clone(),
        }
    }
}

/// By the first verdict; where that is the same, by what tells them apart.
fn in_order(one: &Destination, other: &Destination) -> std::cmp::Ordering {
    let key = |one: &Destination| (one.first, one.port, one.kind.as_str());
    key(one)
        .cmp(&key(other))
        .then_with(|| one.endpoint.cmp(&other.endpoint))
        .then_with(|| one.reason.cmp(&other.reason))
}

fn short(text: &str) -> CompactString {
    cut(&printable(text), MAX_RULE).into()
}
