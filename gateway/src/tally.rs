//! What each job was seen to do, for its summary: a tally a job, kept ten minutes after its end.
//!
//! Owns which job an event is counted for, whose summary a source may read, and the bounds of it all. Counting is
//! [`tidegate_control_wire::summary`]'s. It is fed on the event writer's thread ([`Witness`]), told once a second who
//! holds which source ([`Tallies::follow`]), and asked by the runner API. In memory only: after a restart it says
//! since when it counts. The data plane never waits for it.
//!
//! A job is its lease's id. Only where the configuration leases a whole range, each machine in it is one of its own: it
//! must not read what its neighbours did.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use compact_str::{CompactString, format_compact};
use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;
use parking_lot::Mutex;
use tidegate_control_wire::batch::ProcessReport;
use tidegate_control_wire::id;
use tidegate_control_wire::summary::{About, Destination, JobSummary, PolicyUsed, Seen, Tally};
use tidegate_policy::Moment;
use tidegate_policy::event::{JobRecord, NetworkEvent};
use tidegate_policy::job::Assurance;
use tidegate_policy::lease::{LeaseView, Mac};
use tidegate_policy::rulebook::Rulebook;

use crate::events::{EventPipeline, Witness};
use crate::runner_api::ReportSink;

/// How long a job's tally is kept after its end.
const KEPT: Duration = Duration::from_mins(10);
/// Tallies at once. Beyond it those of ended jobs go first; then further jobs are not tallied.
const MAX_JOBS: usize = 16_384;
/// Bytes of all tallies together. Beyond it verdicts are counted, and no further destinations listed.
const MAX_BYTES: usize = 64 << 20;
/// Events that are counted at once.
const CHUNK: usize = 256;
/// Sources of one job that are remembered.
const MAX_SOURCES: usize = 80;

/// The tallies of all jobs.
pub struct Tallies {
    gateway: CompactString,
    /// When this process began to count.
    born: Timestamp,
    /// Where a job is to be seen; `{job}` stands for its id.
    job_page: Option<String>,
    state: Mutex<State>,
}

struct State {
    jobs: HashMap<CompactString, Job>,
    /// The last job that was seen at a source.
    at: HashMap<IpAddr, CompactString>,
    /// Leases of the configuration that are one machine's.
    fixed: HashSet<CompactString>,
    bytes: usize,
    /// Verdicts that were dropped before anybody saw them, or that found no tally.
    lost: u64,
    max_jobs: usize,
    max_bytes: usize,
    /// There are as many tallies as may be, all of them of living jobs: so it stays until somebody looks again who lives.
    crowded: bool,
}

struct Job {
    tally: Tally,
    record: Arc<JobRecord>,
    sources: HashMap<IpAddr, Option<Mac>>,
    ended: Option<Moment>,
    /// When the tally was begun.
    begun: Timestamp,
    /// [`State::lost`] at that time.
    lost_before: u64,
}

impl Tallies {
    /// No tally yet. `born` is now.
    pub fn new(gateway: &str, job_page: Option<String>, born: Timestamp) -> Self {
        Self {
            gateway: gateway.into(),
            born,
            job_page,
            state: Mutex::new(State {
                jobs: HashMap::new(),
                at: HashMap::new(),
                fixed: HashSet::new(),
                bytes: 0,
                lost: 0,
                max_jobs: MAX_JOBS,
                max_bytes: MAX_BYTES,
                crowded: false,
            }),
        }
    }

    /// Takes over who holds which source by which machine. Jobs that hold none any more have ended; those that ended
    /// long ago are forgotten.
    pub(crate) fn follow(&self, leases: &[LeaseView], now: Moment, wall: Timestamp) {
        let mut state = self.state.lock();
        let fixed = leases.iter().filter(|view| view.lease.expires.is_none());
        state.fixed = fixed.map(|view| view.lease.id.clone()).collect();
        for view in leases {
            if let Some(record) = view.lease.subject.job() {
                let sources = view.sources.iter().map(|source| (source.address, source.mac));
                state.held(&record, sources, wall);
            }
        }
        let living: HashSet<&str> = leases.iter().map(|view| view.lease.id.as_str()).collect();
        for (id, job) in &mut state.jobs {
            if living.contains(id.as_str()) {
                job.ended = None;
            } else {
                job.ended.get_or_insert(now);
            }
        }
        state.forget(|ended| now.since(ended) >= KEPT);
        // A machine may take a new address every second for as long as its job lives.
        let State { jobs, at, .. } = &mut *state;
        at.retain(|source, id| jobs.get(id).is_some_and(|job| job.sources.contains_key(source)));
        // Those that ended just now make room, should somebody need it.
        state.crowded = false;
    }

    /// Notes which machine speaks for a job, before the kernel's view of it comes round.
    pub(crate) fn machine(&self, record: &Arc<JobRecord>, source: IpAddr, mac: Option<Mac>, wall: Timestamp) {
        let mut state = self.state.lock();
        if state.is_range(record) {
            return;
        }
        let known = state.jobs.get(&record.id).map(|job| job.sources.clone());
        let mut sources = known.unwrap_or_default();
        sources.insert(source, mac);
        state.held(record, sources.into_iter(), wall);
    }

    /// Hears what an agent on a runner reported.
    pub(crate) fn report(&self, report: &ProcessReport) {
        let mut state = self.state.lock();
        if state.bytes >= state.max_bytes {
            return;
        }
        if let Some(job) = state.jobs.get_mut(&report.job_id) {
            let before = job.tally.size();
            job.tally.add_report(report);
            let grown = job.tally.size() - before;
            state.bytes += grown;
        }
    }

    /// The summary of the job that holds this source at this moment.
    pub(crate) fn of(&self, record: &JobRecord, source: IpAddr, book: &Rulebook) -> JobSummary {
        let policy = book.policy().map(|(policy, scope)| PolicyUsed {
            name: policy.meta.name.clone(),
            version: policy.meta.version,
            mode: policy.mode,
            scope: format_compact!("{scope}"),
        });
        let state = self.state.lock();
        match state.jobs.get(&state.key(record, source)) {
            Some(job) => {
                let about = self.about(record, job.begun, state.lost - job.lost_before);
                job.tally.summary(About { policy, ..about })
            }
            None => Tally::default().summary(About {
                policy,
                ..self.about(record, self.born, state.lost)
            }),
        }
    }

    /// What was seen of one name or address, of the job that holds this source.
    pub(crate) fn seen_of(&self, record: &JobRecord, source: IpAddr, endpoint: &str) -> Vec<Destination> {
        let state = self.state.lock();
        let job = state.jobs.get(&state.key(record, source));
        job.map_or_else(Vec::new, |job| job.tally.seen_of(endpoint))
    }

    /// The summary of the last job at a source that holds none now. `machine` is who is seen there, `None` where machines
    /// are not seen; another one than the job's gets nothing.
    pub(crate) fn left_at(&self, source: IpAddr, machine: Option<Mac>, now: Moment) -> Option<JobSummary> {
        let state = self.state.lock();
        let job = state.jobs.get(state.at.get(&source)?)?;
        let is_over = job.ended.is_some_and(|ended| now.since(ended) >= KEPT);
        if is_over || *job.sources.get(&source)? != machine {
            return None;
        }
        let about = self.about(&job.record, job.begun, state.lost - job.lost_before);
        Some(job.tally.summary(about))
    }

    fn about(&self, record: &JobRecord, begun: Timestamp, dropped: u64) -> About {
        let page = self.job_page.as_ref();
        About {
            job: Some(record.into()),
            policy: None,
            gateway: Some(self.gateway.clone()),
            since: self.since(record, begun),
            dropped,
            link: page.map(|page| page.replace("{job}", &record.id)),
        }
    }

    /// Since when the job is counted, when that is not its beginning. A machine of the configuration has none.
    fn since(&self, record: &JobRecord, begun: Timestamp) -> Option<Timestamp> {
        if record.identity.assurance == Assurance::Static {
            return Some(begun);
        }
        let made = id::made_at("job", &record.id);
        // The time in an id is of whole milliseconds.
        made.is_none_or(|made| made.as_millisecond() < self.born.as_millisecond())
            .then_some(self.born)
    }
}

/// What agents report, for the summaries and for the control plane.
pub(crate) struct Attributed {
    pub(crate) tallies: Arc<Tallies>,
    pub(crate) events: Arc<EventPipeline>,
}

impl ReportSink for Attributed {
    fn report(&self, report: ProcessReport) {
        self.tallies.report(&report);
        self.events.report(report);
    }
}

impl Witness for Tallies {
    fn see(&self, events: &mut dyn Iterator<Item = &NetworkEvent>) {
        let mut next = events.next();
        while next.is_some() {
            // Who asks for a summary waits for no more than these.
            let mut state = self.state.lock();
            for _ in 0..CHUNK {
                let Some(event) = next else { break };
                if let Some(record) = &event.subject.job {
                    state.count(record, event);
                }
                next = events.next();
            }
        }
    }

    fn lost(&self, verdicts: u64) {
        self.state.lock().lost += verdicts;
    }
}

impl State {
    /// What a job is counted by.
    fn key(&self, record: &JobRecord, source: IpAddr) -> CompactString {
        if self.is_range(record) {
            format_compact!("{}@{source}", record.id)
        } else {
            record.id.clone()
        }
    }

    /// True for one of many machines that the configuration leases as a range.
    fn is_range(&self, record: &JobRecord) -> bool {
        record.identity.assurance == Assurance::Static && !self.fixed.contains(&record.id)
    }

    /// The tally that is counted by `key`, begun when there is none and room for it.
    fn job(&mut self, key: &CompactString, record: &Arc<JobRecord>, wall: Timestamp) -> Option<&mut Job> {
        if !self.jobs.contains_key(key) {
            if self.jobs.len() >= self.max_jobs && !self.crowded {
                self.forget(|_| true);
                self.crowded = self.jobs.len() >= self.max_jobs;
            }
            if self.jobs.len() >= self.max_jobs {
                return None;
            }
            let job = Job {
                tally: Tally::default(),
                record: Arc::clone(record),
                sources: HashMap::new(),
                ended: None,
                begun: wall,
                lost_before: self.lost,
            };
            self.bytes += job.tally.size();
            self.jobs.insert(key.clone(), job);
        }
        self.jobs.get_mut(key)
    }

    fn count(&mut self, record: &Arc<JobRecord>, event: &NetworkEvent) {
        let room = self.bytes < self.max_bytes;
        let is_range = self.is_range(record);
        let of_machine = is_range.then(|| self.key(record, event.source));
        let key = of_machine.as_ref().unwrap_or(&record.id);
        let Some(job) = self.job(key, record, event.time) else {
            self.lost = self.lost.saturating_add(event.count);
            return;
        };
        // A job is known better as it goes on.
        if !Arc::ptr_eq(&job.record, record) {
            job.record = Arc::clone(record);
        }
        if is_range {
            // Nobody says when such a machine comes and goes.
            job.ended = None;
        }
        let before = job.tally.size();
        job.tally.add_within(&Seen::from(event), room);
        let grown = job.tally.size() - before;
        let known = job.sources.contains_key(&event.source);
        let fresh = !known && job.sources.len() < MAX_SOURCES;
        if fresh {
            job.sources.insert(event.source, None);
        }
        // What a job's flows did at last is told after its end, when its source may be another job's already.
        let here = (fresh || known) && job.ended.is_none();
        self.bytes += grown;
        if here {
            self.note_at(event.source, key);
        }
    }

    fn held(
        &mut self,
        record: &Arc<JobRecord>,
        sources: impl Iterator<Item = (IpAddr, Option<Mac>)>,
        wall: Timestamp,
    ) {
        let key = record.id.clone();
        let Some(job) = self.job(&key, record, wall) else {
            return;
        };
        job.record = Arc::clone(record);
        // What joined by link evidence and left again is not the job's any more; a machine once seen stays known.
        let mut now = HashMap::with_capacity(job.sources.len());
        for (source, mac) in sources.take(MAX_SOURCES) {
            let known = job.sources.get(&source).copied().flatten();
            now.insert(source, mac.or(known));
        }
        job.sources.clone_from(&now);
        for source in now.into_keys() {
            self.note_at(source, &key);
        }
    }

    fn note_at(&mut self, source: IpAddr, key: &CompactString) {
        if self.at.get(&source) != Some(key) {
            self.at.insert(source, key.clone());
        }
    }

    /// Forgets the ended jobs for which `which` says so.
    fn forget(&mut self, which: impl Fn(Moment) -> bool) {
        let (jobs, bytes) = (&mut self.jobs, &mut self.bytes);
        let count = jobs.len();
        jobs.retain(|_, job| {
            let gone = job.ended.is_some_and(&which);
            if gone {
                *bytes -= job.tally.size();
            }
            !gone
        });
        if jobs.len() < count {
            self.at.retain(|_, id| jobs.contains_key(id));
        }
    }
}

#[cfg(test)]
mod tests;
