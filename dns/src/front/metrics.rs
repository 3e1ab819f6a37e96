//! Pre-registered metric handles of the fronts: a counter looked up by name costs ten times one kept.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use tidegate_policy::verdict::Verdict;

use super::client::Transport;

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Fresh from the cache.
    Hit,
    /// From an upstream.
    Miss,
    /// Stale from the cache.
    Stale,
    /// Made here: refusals, hosts, errors.
    Local,
}

/// Why a packet got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Not a query.
    Malformed,
    /// A bound on work in progress.
    Limit,
    /// The socket refused the answer.
    Send,
}

/// Answers of a batch that the fast path repeated, and queries that it passed on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Repeats {
    /// By verdict: permit, refuse, would-refuse.
    verdicts: [u64; 3],
    hits: usize,
    local: usize,
    pub(crate) passed: u64,
}

impl Repeats {
    /// Counts one answer.
    pub(crate) fn count(&mut self, verdict: Verdict, source: Source) {
        let [permit, refuse, would_refuse] = &mut self.verdicts;
        match verdict {
            Verdict::Permit => *permit += 1,
            Verdict::Refuse => *refuse += 1,
            Verdict::WouldRefuse => *would_refuse += 1,
        }
        match source {
            Source::Local => self.local += 1,
            Source::Hit | Source::Miss | Source::Stale => self.hits += 1,
        }
    }
}

/// All handles.
pub(crate) struct FrontMetrics {
    queries: [[Counter; 4]; 3],
    durations: [Histogram; 4],
    dropped: [Counter; 3],
    /// By verdict, then those that were passed on.
    fast: [Counter; 4],
}

impl FrontMetrics {
    pub(crate) fn new() -> Self {
        let queries = [Verdict::Permit, Verdict::Refuse, Verdict::WouldRefuse].map(|verdict| {
            Transport::ALL.map(|transport| {
                counter!("tidegate_dns_queries_total", "verdict" => verdict.as_str(), "transport" => transport.as_str())
            })
        });
        let durations = ["hit", "miss", "stale", "local"]
            .map(|cache| histogram!("tidegate_dns_query_duration_seconds", "cache" => cache));
        let dropped = ["malformed", "limit", "send"]
            .map(|cause| counter!("tidegate_dns_dropped_total", "cause" => cause));
        let fast = ["permit", "refuse", "would-refuse", "passed"]
            .map(|outcome| counter!("tidegate_dns_fast_total", "outcome" => outcome));
        Self {
            queries,
            durations,
            dropped,
            fast,
        }
    }

    pub(crate) fn judged(&self, verdict: Verdict, transport: Transport) {
        let [permit, refuse, would_refuse] = &self.queries;
        let row = match verdict {
            Verdict::Permit => permit,
            Verdict::Refuse => refuse,
            Verdict::WouldRefuse => would_refuse,
        };
        let [udp, tcp, tls, https] = row;
        let handle = match transport {
            Transport::Udp => udp,
            Transport::Tcp => tcp,
            Transport::Tls => tls,
            Transport::Https => https,
        };
        handle.increment(1);
    }

    pub(crate) fn answered(&self, source: Source, took: Duration) {
        let [hit, miss, stale, local] = &self.durations;
        let handle = match source {
            Source::Hit => hit,
            Source::Miss => miss,
            Source::Stale => stale,
            Source::Local => local,
        };
        handle.record(took.as_secs_f64());
    }

    /// Counts a batch of UDP queries; its answers left after this long.
    pub(crate) fn repeated(&self, repeats: &Repeats, took: Duration) {
        let counts = repeats.verdicts.iter().chain([&repeats.passed]);
        for (handle, count) in self.fast.iter().zip(counts).filter(|(_, count)| **count > 0) {
            handle.increment(*count);
        }
        let judged = self.queries.iter().zip(repeats.verdicts);
        for ([udp, ..], count) in judged.filter(|(_, count)| *count > 0) {
            udp.increment(count);
        }
        let [hit, _, _, local] = &self.durations;
        for (handle, count) in [(hit, repeats.hits), (local, repeats.local)] {
            if count > 0 {
                handle.record_many(took.as_secs_f64(), count);
            }
        }
    }

    pub(crate) fn dropped(&self, cause: Dropped, count: usize) {
        let [malformed, limit, send] = &self.dropped;
        let handle = match cause {
            Dropped::Malformed => malformed,
            Dropped::Limit => limit,
            Dropped::Send => send,
        };
        handle.increment(count as u64);
    }
}
