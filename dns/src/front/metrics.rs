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

/// All handles.
pub(crate) struct FrontMetrics {
    queries: [[Counter; 4]; 3],
    durations: [Histogram; 4],
    dropped: [Counter; 3],
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
        Self {
            queries,
            durations,
            dropped,
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

    pub(crate) fn dropped(&self, cause: Dropped) {
        let [malformed, limit, send] = &self.dropped;
        match cause {
            Dropped::Malformed => malformed.increment(1),
            Dropped::Limit => limit.increment(1),
            Dropped::Send => send.increment(1),
        }
    }
}
