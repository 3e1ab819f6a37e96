//! Runs that reach things, for tests of baselines and detections.

use jiff::{SignedDuration, Timestamp};
use tidegate_control::baseline::import::Wanted;
use tidegate_control::baseline::model::BaselineEndpoint;
use tidegate_control::baseline::{LeftOut, State};
use tidegate_control::model::PageRequest;
use tidegate_control::store::{Candidate, DetectionFilter, Item, Store};
use tidegate_control_wire::batch::{BatchHead, Lane};
use tidegate_control_wire::event::EventRecord;
use tidegate_policy::job::Scope;

use crate::ingest::{event, head, job};

/// A store and what was sent to it.
pub(crate) struct Watched {
    pub(crate) store: Store,
    seq: std::sync::atomic::AtomicU64,
    spool: String,
}

impl Watched {
    pub(crate) fn new(store: Store) -> Self {
        Self::spooled(store, "s1")
    }

    /// Of another gateway's spool.
    pub(crate) fn spooled(store: Store, spool: &str) -> Self {
        Self {
            store,
            seq: 0.into(),
            spool: spool.into(),
        }
    }

    /// Sends events in one batch.
    pub(crate) async fn tell(&self, events: Vec<EventRecord>) {
        let number = || self.seq.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        let entries: Vec<(u64, Item)> = events.into_iter().map(|event| (number(), event.into())).collect();
        let last = entries.last().map_or(0, |(seq, _)| *seq);
        let head = BatchHead {
            lane: Lane::Permits,
            spool: self.spool.as_str().into(),
            ..head()
        };
        let stored = self.store.ingest("gw-1", head, entries).await.unwrap();
        assert_eq!(stored.stored, last);
    }

    /// `acme/web` reaches a name in so many runs, from this number on.
    pub(crate) async fn runs(&self, from: u64, many: u64, name: &str) {
        let of = |run| reach(run, name);
        self.tell((from..from + many).map(of).collect()).await;
    }

    /// The baseline as an import takes it by default.
    pub(crate) async fn look(&self, scope: &str) -> Candidate {
        self.look_for(scope, Wanted::default()).await
    }

    pub(crate) async fn look_for(&self, scope: &str, wanted: Wanted) -> Candidate {
        let scope: Scope = scope.parse().unwrap();
        self.store.baseline(&scope, &wanted).await.unwrap()
    }

    /// State, runs, and runs since the last change.
    pub(crate) async fn state(&self, scope: &str) -> (State, u64, u64) {
        let baseline = self.look(scope).await.baseline;
        (baseline.state, baseline.runs, baseline.runs_since_change)
    }

    /// Type, endpoint, status and count of every detection, oldest first.
    pub(crate) async fn detections(&self) -> Vec<(String, String, String, u64)> {
        let page = self
            .store
            .detections(&DetectionFilter::default(), &PageRequest::default())
            .await
            .unwrap();
        let shown = page.items.iter().map(|one| {
            (
                one.kind.as_str().to_owned(),
                one.evidence["endpoint"].as_str().unwrap().to_owned(),
                one.status.as_str().to_owned(),
                one.count,
            )
        });
        shown.rev().collect()
    }

    /// The id of the only detection of an endpoint.
    pub(crate) async fn detection_of(&self, endpoint: &str) -> String {
        let page = self
            .store
            .detections(&DetectionFilter::default(), &PageRequest::default())
            .await
            .unwrap();
        let mut of = page
            .items
            .iter()
            .filter(|one| one.evidence["endpoint"] == endpoint);
        let id = of.next().expect("it has a detection").id.clone();
        assert!(of.next().is_none(), "{:?}", page.items);
        id
    }
}

/// A run of `acme/web` reaches a name.
pub(crate) fn reach(run: u64, name: &str) -> EventRecord {
    let mut event = event(name);
    event.id = format!("{run}-{name}").into();
    change(&mut event, |job| {
        job.id = format!("job_{run}").into();
        job.run_id = run.to_string().into();
    });
    event
}

/// With another job.
pub(crate) fn change(
    event: &mut EventRecord,
    change: impl FnOnce(&mut tidegate_control_wire::event::EventJob),
) {
    let mut job = event.job.take().unwrap_or_else(|| job("job_1"));
    change(&mut job);
    event.job = Some(job);
}

/// The same as a pull request from a fork.
pub(crate) fn fork(run: u64, name: &str) -> EventRecord {
    let mut event = reach(run, name);
    change(&mut event, |job| {
        job.event = "pull_request".into();
        job.head_repo = "mallory/web".into();
    });
    event
}

pub(crate) fn days_ago(days: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(24 * days)
}

/// An endpoint of a baseline.
pub(crate) fn endpoint<'c>(candidate: &'c Candidate, name: &str) -> &'c BaselineEndpoint {
    let all = &candidate.baseline.endpoints;
    all.iter()
        .find(|one| one.endpoint == name)
        .unwrap_or_else(|| panic!("no {name} in {all:?}"))
}

/// Why an import leaves an endpoint out.
pub(crate) fn left_out(candidate: &Candidate, name: &str) -> Vec<LeftOut> {
    endpoint(candidate, name).left_out.clone()
}
