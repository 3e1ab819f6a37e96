//! What is counted while a fleet runs: one published policy on its way, bytes, failures.
//!
//! Owns the figures that gateways write and the run reads. Never talks to anybody.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use compact_str::CompactString;
use parking_lot::Mutex;
use tidegate_bench::measure::{Quantiles, instant};
use tidegate_control_wire::record::PolicyRecord;
use tokio::sync::Notify;

/// Kinds of failures that are told apart; further ones are counted with the last.
const MAX_KINDS: usize = 24;

/// Shared by all gateways of a fleet.
#[derive(Debug, Default)]
pub struct Watch {
    /// Bytes of streams, as they came (HTTP/2 frames apart).
    pub bytes: AtomicU64,
    /// Commits that came over streams.
    pub commits: AtomicU64,
    /// Acknowledgements that were answered.
    pub acks: AtomicU64,
    /// Connections that were lost after they stood.
    pub lost: AtomicU64,
    /// Connections that could not be made.
    pub refused: AtomicU64,
    failures: Mutex<BTreeMap<String, u64>>,
    marker: Mutex<Option<Marker>>,
    /// A gateway connected, or reached something.
    pub moved: Notify,
}

/// A version of a policy that is on its way to every gateway.
#[derive(Debug)]
struct Marker {
    id: CompactString,
    version: u32,
    begun: Instant,
    arrived: Vec<Duration>,
    acknowledged: Vec<Duration>,
}

/// How long a marker took.
#[derive(Clone, Debug)]
pub struct Reached {
    /// Until it was there, for each gateway.
    pub arrived: Quantiles,
    /// Until the control plane had confirmed the gateway's acknowledgement, for each gateway.
    pub acknowledged: Quantiles,
}

impl Watch {
    /// From now on this version is looked for.
    pub fn expect(&self, id: &str, version: u32) {
        *self.marker.lock() = Some(Marker {
            id: id.into(),
            version,
            begun: instant(),
            arrived: Vec::new(),
            acknowledged: Vec::new(),
        });
    }

    /// True where a batch brings what is looked for.
    pub fn is_marker(&self, record: &PolicyRecord) -> bool {
        let newest = record.versions.last().map(|one| one.version);
        let marker = self.marker.lock();
        marker
            .as_ref()
            .is_some_and(|marker| marker.id == record.id && newest == Some(marker.version))
    }

    /// It is there, at one gateway.
    pub fn arrived(&self) {
        if let Some(marker) = &mut *self.marker.lock() {
            marker.arrived.push(marker.begun.elapsed());
        }
    }

    /// One gateway said so, and was heard.
    pub fn acknowledged(&self) {
        if let Some(marker) = &mut *self.marker.lock() {
            marker.acknowledged.push(marker.begun.elapsed());
        }
        self.moved.notify_one();
    }

    /// At how many gateways it is in force.
    pub fn in_force(&self) -> usize {
        self.marker
            .lock()
            .as_ref()
            .map_or(0, |marker| marker.acknowledged.len())
    }

    /// No marker any more; how long it took.
    pub fn take(&self) -> Reached {
        let marker = self.marker.lock().take();
        let (arrived, acknowledged) =
            marker.map_or_else(Default::default, |marker| (marker.arrived, marker.acknowledged));
        Reached {
            arrived: Quantiles::of(arrived),
            acknowledged: Quantiles::of(acknowledged),
        }
    }

    /// Something failed.
    pub fn failed(&self, what: &anyhow::Error) {
        let mut text = format!("{what:#}");
        // Ids and addresses apart, the same failure is the same text.
        text.retain(|letter| !letter.is_ascii_digit());
        text.truncate(text.char_indices().nth(160).map_or(text.len(), |(at, _)| at));
        let mut failures = self.failures.lock();
        if failures.len() >= MAX_KINDS && !failures.contains_key(&text) {
            "others".clone_into(&mut text);
        }
        *failures.entry(text).or_default() += 1;
    }

    /// What failed since this was asked last, and how often.
    pub fn failures(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.failures.lock())
    }
}
