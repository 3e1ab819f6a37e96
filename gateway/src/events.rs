//! The event pipeline: from verdicts on the data plane to lines of NDJSON, and to the control plane.
//!
//! Owns a bounded queue ([`queue`]), the aggregation of refusal floods ([`aggregate`]), the rotated
//! file ([`log`]) and, where there is a control plane, the spool from which events reach it ([`spool`]). The data plane only
//! pushes: it never waits for a disk, and what does not fit is dropped by rule and counted.

pub mod aggregate;
mod encode;
pub mod log;
pub mod queue;
pub mod spool;

use std::net::IpAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use compact_str::CompactString;
use metrics::{Counter, Gauge, counter, gauge};
use tidegate_control_wire::batch::{Lane, ProcessReport};
use tidegate_dns::clock::Clock;
use tidegate_policy::Moment;
use tidegate_policy::event::{EventId, EventIds, EventSink, NetworkEvent};
use tokio::sync::watch;

use aggregate::Aggregator;
use encode::{Encoded, Encoder};
use log::EventLog;
use queue::{EventQueue, Losses, PIECE, Queued, Taken};
pub(crate) use spool::Depth;
pub(crate) use spool::ship::{Carrier, ShipError, Shipper};
pub use spool::{DEFAULT_BYTES, MIN_BYTES, Spool};

/// Events queued between the data plane and the writer at most: half a second of 200 000 events/s, in which the writer may
/// not get a core.
pub const QUEUE_EVENTS: usize = 131_072;
/// How long the writer lets events gather after it wrote some: to be woken for each would cost more than the event does,
/// mostly on the side of who emits it. Nobody who reads along minds a hundredth of a second.
const NAP: Duration = Duration::from_millis(10);
/// How long the writer waits for events before it looks whether an aggregate is due.
const TICK: Duration = Duration::from_millis(500);
/// How long [`EventPipeline::settled`] waits at most.
const SETTLE: Duration = Duration::from_millis(500);

/// Who is shown every event.
pub trait Witness: Send + Sync {
    /// Sees events in the order in which they happened, each one once, floods not yet aggregated. Called on the writer's
    /// thread: it must neither block nor take long.
    fn see(&self, events: &mut dyn Iterator<Item = &NetworkEvent>);

    /// Hears how many verdicts were dropped before they could be seen; nobody knows whose they were. Who doesn't count
    /// needn't listen.
    fn lost(&self, _verdicts: u64) {}
}

/// Has those who count before they make an event of it tell what they have counted of these sources, and waits for them.
pub type Tell = Box<dyn Fn(&[IpAddr]) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The sink that the data plane writes to.
pub struct EventPipeline {
    gateway: CompactString,
    ids: EventIds,
    queue: EventQueue,
    witness: OnceLock<Arc<dyn Witness>>,
    tell: OnceLock<Tell>,
    spool: OnceLock<Arc<Spool>>,
    /// False where events go nowhere: no file, no control plane, nobody who asks for summaries.
    wanted: AtomicBool,
    /// Up to which serial of the queue everything was seen by the witness and handed to the disk.
    taken: watch::Sender<u64>,
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
            witness: OnceLock::new(),
            tell: OnceLock::new(),
            spool: OnceLock::new(),
            wanted: AtomicBool::new(true),
            taken: watch::Sender::new(0),
            dropped: counter!("tidegate_events_dropped_total"),
            queued: gauge!("tidegate_events_queued"),
        })
    }

    /// Shows every event from now on to `witness`. There is one, set at start; another one is not heeded.
    pub fn witness(&self, witness: Arc<dyn Witness>) {
        if self.witness.set(witness).is_err() {
            tracing::error!("events have a witness already");
        }
    }

    /// Lets [`Self::settled`] have `tell` told first. There is one, set at start; another one is not heeded.
    pub fn tells(&self, tell: Tell) {
        if self.tell.set(tell).is_err() {
            tracing::error!("events have somebody who tells already");
        }
    }

    /// Waits until everything that these sources did, and whatever else was queued before the call, was seen by the witness
    /// and is on its way to disk; no longer than half a second. What was dropped at a bound is not waited for.
    pub async fn settled(&self, sources: &[IpAddr]) {
        let told = self.tell.get().map(|tell| tell(sources));
        let mut taken = self.taken.subscribe();
        let settled = async {
            if let Some(told) = told {
                told.await;
            }
            let upto = self.queue.next();
            self.queue.hurry();
            // The sender is ours: it stands.
            drop(taken.wait_for(|taken| *taken >= upto).await);
        };
        // Too late is an answer too: the summary then lacks the last events, and nobody waits for ever.
        drop(tokio::time::timeout(SETTLE, settled).await);
    }

    /// Takes an agent's report, on its way to the control plane. It waits for nothing. Without a control plane nobody asks
    /// for reports, and it is gone.
    pub fn report(&self, report: ProcessReport) {
        self.queue.push_report(report);
    }

    /// Starts the writer's thread. It ends, with everything written, after [`EventPipeline::close`]. Without a sink and
    /// without a witness, events cost nothing from here on: they are forgotten where they are emitted.
    pub fn write_to(self: &Arc<Self>, sinks: Sinks, clock: Clock) -> std::io::Result<JoinHandle<()>> {
        let pipeline = Arc::clone(self);
        if let Some(spool) = &sinks.spool {
            // Set by the first writer; there is no other.
            let _ = self.spool.set(Arc::clone(spool));
        }
        let nobody = sinks.log.is_none() && sinks.spool.is_none() && self.witness.get().is_none();
        self.wanted.store(!nobody, Ordering::Relaxed);
        std::thread::Builder::new()
            .name("events".into())
            .spawn(move || pipeline.run(sinks, &clock))
    }

    /// No more events will come: the writer flushes and ends.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Where events wait for the control plane, once the writer runs; `None` without one.
    pub(crate) fn spool(&self) -> Option<&Arc<Spool>> {
        self.spool.get()
    }

    /// Events waiting to be written.
    pub fn backlog(&self) -> usize {
        self.queue.len()
    }

    fn show(&self, events: &[Queued], lost: Losses) {
        let Some(witness) = self.witness.get() else {
            return;
        };
        if lost.total() > 0 {
            witness.lost(lost.total());
        }
        if !events.is_empty() {
            witness.see(&mut events.iter().map(Deref::deref));
        }
    }

    fn run(&self, mut sinks: Sinks, clock: &Clock) {
        let mut aggregator = Aggregator::default();
        let mut encoder = Encoder::new(&self.gateway);
        sinks.open(clock.now());
        loop {
            let mut taken = self.queue.take(TICK);
            self.queued.set(self.queue.len() as f64);
            self.show(&taken.events, taken.lost);
            let any = !taken.events.is_empty();
            self.write(
                &mut taken,
                (&mut aggregator, &mut encoder),
                &mut sinks,
                clock.now(),
            );
            self.queue.recycle(taken.events);
            self.taken.send_replace(taken.upto);
            if !taken.open {
                sinks.close();
                return;
            }
            if any && !taken.more {
                self.queue.nap(NAP);
            }
        }
    }

    /// Hands on what is ready.
    fn write(
        &self,
        taken: &mut Taken,
        (aggregator, encoder): (&mut Aggregator, &mut Encoder),
        sinks: &mut Sinks,
        now: Moment,
    ) {
        let mut hand_on = |piece: &[Queued], told: (&[ProcessReport], Losses)| {
            let piece = encoder.encode(piece.iter().map(Deref::deref));
            sinks.take(piece, told, now);
        };
        for piece in aggregator.flush(now, !taken.open).chunks(PIECE) {
            hand_on(piece, Default::default());
        }
        aggregator.sift(&mut taken.events, now);
        taken.lost.add(Lane::Refusals, aggregator.take_lost());
        self.dropped.increment(taken.lost.total());
        hand_on(&taken.events, (&taken.reports, taken.lost));
        if !taken.open {
            for piece in aggregator.flush(now, true).chunks(PIECE) {
                hand_on(piece, Default::default());
            }
        }
    }
}

/// Where events go. Both are written with the same bytes.
#[derive(Default)]
pub struct Sinks {
    /// The file for people and log shippers.
    pub log: Option<EventLog>,
    /// What goes to the control plane.
    pub spool: Option<Arc<Spool>>,
}

impl Sinks {
    /// What an earlier process left is on its way from here on.
    fn open(&self, now: Moment) {
        if let Some(spool) = &self.spool {
            spool.open(now);
        }
    }

    fn take(&mut self, events: &Encoded, (reports, lost): (&[ProcessReport], Losses), now: Moment) {
        if let Some(spool) = &self.spool {
            // Before the file: what people read there after a kill is also what the control plane gets.
            if events.len() + reports.len() > 0 || lost.total() > 0 {
                spool.append(events, reports, lost, now);
            } else {
                spool.open(now);
            }
        }
        let Some(log) = &mut self.log else { return };
        let written = log.append(events);
        if self.spool.is_none() {
            // The file is all there is.
            counter!("tidegate_events_shipped_total").increment(written as u64);
            counter!("tidegate_events_dropped_total").increment((events.len() - written) as u64);
        }
    }

    fn close(&self) {
        if let Some(spool) = &self.spool {
            spool.close();
        }
    }
}

impl EventSink for EventPipeline {
    fn mint(&self) -> EventId {
        self.ids.mint()
    }

    fn emit(&self, mut event: NetworkEvent) {
        if !self.wanted.load(Ordering::Relaxed) {
            return;
        }
        // Only what later could not be known.
        event.time = jiff::Timestamp::now();
        self.queue.push(event);
    }
}

#[cfg(test)]
mod tests;
