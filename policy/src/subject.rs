//! Subjects: one judged party each, with its rulebook, its tickets and its identity.
//!
//! `dns` and `proxy` get a subject for every packet's source from [`crate::lease::LeaseTable`] and hold it
//! as long as they work for it. A policy change swaps the rulebook inside of a living subject; the end
//! of a lease makes another subject.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use compact_str::CompactString;
use ipnet::IpNet;

use crate::event::{EventId, EventSubject, JobRecord, Kind, NetworkEvent};
use crate::job::Assurance;
use crate::rulebook::Rulebook;
use crate::ticket::TicketTable;

/// What kind of runners a network has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunnerKind {
    /// A machine runs one job and goes: an address is quarantined when its lease ended.
    #[default]
    Ephemeral,
    /// A machine runs one job after another.
    Persistent,
}

/// A runner-facing network as decisions see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: CompactString,
    /// Cluster of its jobs.
    pub cluster: CompactString,
    /// Its source ranges.
    pub ranges: Vec<IpNet>,
    /// Kind of its runners.
    pub runners: RunnerKind,
    /// Weaker identities get the default policy.
    pub min_assurance: Option<Assurance>,
    /// Runners are on the gateway's own link, so that the machine behind every source is known sooner or
    /// later.
    pub adjacent: bool,
}

/// Why a source is judged as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It holds a lease.
    Leased,
    /// It holds none: the network's default policy.
    Unleased,
    /// Its lease ended and its machine has not changed.
    Quarantined,
    /// Its machine holds a lease by another address.
    Unbound,
    /// It lies in no network of the gateway.
    Foreign,
}

/// One judged party. Shared: flows and queries in progress keep it alive.
#[derive(Debug)]
pub struct Subject {
    /// Never reused within a process.
    pub id: u64,
    /// The network of its source.
    pub network: Arc<Network>,
    /// Why it is judged as it is.
    pub standing: Standing,
    /// What its events share. The job stands here and nowhere else; the policy may be that of a moment ago.
    told: ArcSwap<EventSubject>,
    tickets: Arc<TicketTable>,
    book: ArcSwap<Rulebook>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
/// [`Subject::swaps`].
static SWAPS: AtomicU64 = AtomicU64::new(0);

impl Subject {
    /// A new subject without tickets.
    pub fn new(
        network: Arc<Network>,
        job: Option<Arc<JobRecord>>,
        standing: Standing,
        book: Arc<Rulebook>,
    ) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let told = EventSubject {
            network: network.name.clone(),
            job,
            ..EventSubject::default()
        };
        Self {
            id,
            network,
            standing,
            told: ArcSwap::from_pointee(told.under(&book)),
            tickets: Arc::default(),
            book: ArcSwap::new(book),
        }
    }

    /// Another subject with the same tickets: the same job, known better.
    #[must_use]
    pub fn succeeded_by(&self, job: Option<Arc<JobRecord>>, standing: Standing, book: Arc<Rulebook>) -> Self {
        let network = Arc::clone(&self.network);
        Self {
            tickets: Arc::clone(&self.tickets),
            ..Self::new(network, job, standing, book)
        }
    }

    /// Its job, when it holds a lease, as far as it is known by now.
    pub fn job(&self) -> Option<Arc<JobRecord>> {
        self.told.load().job.clone()
    }

    /// Puts a fuller record of the same job in place; events from now on carry it.
    pub(crate) fn enrich(&self, job: Arc<JobRecord>) {
        self.told.rcu(|told| EventSubject {
            job: Some(Arc::clone(&job)),
            ..EventSubject::clone(told)
        });
    }

    /// The rulebook of this moment.
    pub fn rulebook(&self) -> Arc<Rulebook> {
        self.book.load_full()
    }

    /// True when `book` is the rulebook of this moment.
    pub fn is_judged_by(&self, book: &Arc<Rulebook>) -> bool {
        Arc::ptr_eq(&self.book.load(), book)
    }

    /// Puts another rulebook in place; decisions from now on use it.
    pub fn swap(&self, book: Arc<Rulebook>) {
        self.book.store(book);
        SWAPS.fetch_add(1, Ordering::Release);
    }

    /// How often any subject of the process got another rulebook. As long as it stays, each has the one that it had.
    pub fn swaps() -> u64 {
        SWAPS.load(Ordering::Acquire)
    }

    /// Its tickets.
    pub fn tickets(&self) -> &Arc<TicketTable> {
        &self.tickets
    }

    /// A new event about this subject, with network, job and policy filled in.
    pub fn event(&self, id: EventId, kind: Kind, source: IpAddr) -> NetworkEvent {
        self.event_under(&self.book.load(), id, kind, source)
    }

    /// The same about a decision made by `book`, which may be another one than that of this moment.
    pub fn event_under(&self, book: &Rulebook, id: EventId, kind: Kind, source: IpAddr) -> NetworkEvent {
        let told = self.told.load();
        if told.is_under(book) {
            return NetworkEvent::about(Arc::clone(&told), id, kind, source);
        }
        let fresh = Arc::new(told.under(book));
        // Kept for the next event, unless a fuller record of the job came meanwhile.
        self.told.compare_and_swap(&told, Arc::clone(&fresh));
        NetworkEvent::about(fresh, id, kind, source)
    }
}
