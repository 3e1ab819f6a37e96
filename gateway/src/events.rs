//! The event pipeline: from verdicts on the data plane to lines of NDJSON.
//!
//! Owns a bounded queue ([`queue`]), the aggregation of refusal floods ([`aggregate`]) and the rotated
//! file ([`log`]). The data plane only pushes: it never waits for a disk, and what does not fit is
//! dropped by rule and counted.

pub mod aggregate;
pub mod log;
pub mod queue;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use compact_str::CompactString;
use metrics::{Counter, Gauge, counter, gauge};
use tidegate_dns::clock::Clock;
use tidegate_policy::event::{EventId, EventIds, EventSink, NetworkEvent};

use aggregate::Aggregator;
use log::EventLog;
use queue::EventQueue;

/// Events queued between the data plane and the writer at most: about 16 MiB.
pub const QUEUE_EVENTS: usize = 32_768;
/// How long the writer waits for events before it looks whether an aggregate is due.
const TICK: Duration = Duration::from_millis(500);

/// The sink that the data plane writes to.
pub struct EventPipeline {
    gateway: CompactString,
    ids: EventIds,
    queue: EventQueue,
    dropped: Counter,
    queued: Gauge,
}

impl EventPipeline {
    /// A pipeline for the gateway called `name`; ids start at `seed` (random).
    pub fn new(name: &str, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            gateway: name.into(),
            ids: EventIds::new(seed),
            queue: EventQueue::new(QUEUE_EVENTS),
            dropped: counter!("tidegate_events_dropped_total"),
            queued: gauge!("tidegate_events_queued"),
        })
    }

    /// Starts the writer's thread. It ends, with everything written, after [`EventPipeline::close`].
    pub fn write_to(
        self: &Arc<Self>,
        log: Option<EventLog>,
        clock: Clock,
    ) -> std::io::Result<JoinHandle<()>> {
        let pipeline = Arc::clone(self);
        std::thread::Builder::new()
            .name("events".into())
            .spawn(move || pipeline.run(log, &clock))
    }

    /// No more events will come: the writer flushes and ends.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Events waiting to be written.
    pub fn backlog(&self) -> usize {
        self.queue.len()
    }

    fn run(&self, mut log: Option<EventLog>, clock: &Clock) {
        let shipped = counter!("tidegate_events_shipped_total");
        let mut aggregator = Aggregator::default();
        loop {
            let (batch, open) = self.queue.take(TICK);
            self.queued.set(self.queue.len() as f64);
            let now = clock.now();
            let mut ready = aggregator.flush(now, !open);
            ready.extend(batch.into_iter().filter_map(|event| aggregator.take(event, now)));
            if !open {
                ready.extend(aggregator.flush(now, true));
            }
            let lost = aggregator.take_lost();
            if let Some(log) = &mut log {
                let written = log.append(&ready);
                shipped.increment(written as u64);
                self.dropped.increment((ready.len() - written) as u64 + lost);
            }
            if !open {
                return;
            }
        }
    }
}

impl EventSink for EventPipeline {
    fn mint(&self) -> EventId {
        self.ids.mint()
    }

    fn emit(&self, mut event: NetworkEvent) {
        event.time = jiff::Timestamp::now();
        event.gateway.clone_from(&self.gateway);
        self.dropped.increment(self.queue.push(event));
    }
}

#[cfg(test)]
mod tests;
