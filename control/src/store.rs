//! The store: policies, sets, attachments, history, identities, leases, tokens, the block list. SQLite or PostgreSQL.
//!
//! Owns all SQL. Rules that need a look at what is stored (a name that is taken, a scope that is held, a version that
//! moved on) are kept here, inside of the transaction; who may do what is the API's to ask. Every change of something
//! that gateways know is entered in `changes`, every change by anybody in the audit log.

mod attachments;
mod audit;
mod backup;
mod baselines;
mod block;
pub mod chain;
mod changes;
mod days;
mod db;
mod detections;
mod error;
mod events;
mod gateways;
mod ingest;
mod issuers;
mod jobs;
mod leases;
mod losses;
mod meta;
mod names;
mod observe;
mod orgs;
mod pages;
mod policies;
mod policy_list;
mod preview;
mod prune;
mod publish;
mod read;
mod recorded;
mod records;
mod refused;
mod retention;
mod rollups;
mod runs;
mod seen;
mod sets;
mod snapshot;
mod sql;
mod stats;
mod strangers;
mod subjects;
mod sums;
mod suppressions;
mod time;
mod tokens;
mod tx;
mod unidentified;
mod versions;
mod warnings;
mod writer;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::Semaphore;

use db::Half;
use observe::{Observing, Upkeep};
use strangers::Strangers;
use subjects::Subjects;

pub use attachments::AttachRequest;
pub use audit::{AuditDraft, AuditFilter};
pub use backup::Backup;
pub use baselines::{BaselineFilter, Candidate, Shown};
pub use block::{BlockImport, BlockUpdate, LayerSummary, MAX_ENTRIES, MAX_LAYER};
pub use changes::{ChangesPage, MAX_BLOCK_DELTA, MAX_PAGE, Since};
pub use db::{Backend, Db, place};
pub use detections::{DetectionCounters, DetectionFilter, Said};
pub use error::StoreError;
pub use events::{EventFilter, EventRun, EventTail, NamePattern, Place, StoredEvent};
pub use ingest::{Item, Recorded};
pub use jobs::{JobFilter, LeaseFilter};
pub use leases::{ClaimError, Claimed};
pub use meta::MetaKey;
pub(crate) use names::owner as owner_name;
pub use orgs::{OwnerCounts, Stands};
pub use policies::PolicyFilter;
pub use prune::{Pruned, Retention};
pub use publish::{Attaching, Expected, Put};
pub use recorded::{Further, RecordOf, RecordedEvents, RecordedSum};
pub use retention::{EventRetention, Forgotten};
pub use runs::{Legs, MAX_LEGS, MAX_RUN, RunView};
pub use seen::{JudgedSums, LastJob, MAX_SEEN, SeenWorkflow, WorkflowSums};
pub use stats::{FirstSeenQuestion, IdlePolicies, RefusedNames, days_ago};
pub use suppressions::{MAX_SUPPRESSIONS, SuppressionDraft};
pub use time::Micros;
pub use tx::{ChangeKind, Tx};
pub use unidentified::UnidentifiedFilter;
pub use writer::Boxed;

/// The store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
    events: Db,
    observing: Observing,
    subjects: Arc<Subjects>,
    strangers: Arc<Strangers>,
    /// Every refusal stands in the indexes of refusals.
    indexed: Arc<AtomicBool>,
    kept: EventRetention,
    strict: bool,
    snapshots: Arc<Semaphore>,
    _upkeep: Arc<Upkeep>,
}

impl Store {
    /// Opens the store at a URL: `sqlite:///path/control.db` or `postgres://user@host/database`. Tables are brought up
    /// to date.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let (db, events) = (
            Db::open(url, Half::Policies).await?,
            Db::open(url, Half::Events).await?,
        );
        let observing = Observing::open(&db, &events).await?;
        Ok(Self {
            _upkeep: Arc::new(Upkeep::start(observing.clone())),
            db,
            events,
            observing,
            subjects: Arc::default(),
            strangers: Arc::default(),
            indexed: Arc::default(),
            kept: EventRetention::default(),
            strict: false,
            snapshots: Arc::new(Semaphore::new(snapshot::AT_ONCE)),
        })
    }

    /// Whether patterns that strangers can register names for are refused (`tidegate check --strict` warns of them).
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Whether they are.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// The database below, for the newest generation and for what it is.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// The half that holds what jobs reached, for the newest event.
    pub fn events_db(&self) -> &Db {
        &self.events
    }
}
