//! From calls to the answer: taken in, judged once each, and what limits all that is said of them.

use compact_str::CompactString;
use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;
use tidegate_control_wire::event::{EventJob, EventRecord};
use tidegate_policy::DnsName;
use tidegate_policy::event::Kind;

use super::call::Call;
use super::candidate::Candidate;
use super::judge::foresee;
use super::lists::Lists;
use super::report::{Completeness, JobOf, Simulation, Tried, Window};

/// Different calls that are judged at most, all candidates together.
pub const MAX_CALLS: usize = 100_000;
/// Different calls that are judged of each, though there are many.
const LEAST_CALLS: usize = 2_000;
/// Jobs that a line names.
pub(super) const MAX_JOBS: usize = 5;
/// Lines of a list, when few candidates are tried, and of each when many are.
const MAX_LINES: usize = 200;
const FEW_LINES: usize = 20;
const FEW: usize = 3;
/// Names of chains that are kept.
const MAX_CHAINS: usize = 50_000;
/// Jobs and runs that are told apart.
const MAX_COUNTED: usize = 200_000;

/// What is kept for a candidate at most: less when many are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) calls: usize,
    chains: usize,
    counted: usize,
    pub(super) lines: usize,
}

impl Bounds {
    /// With so many candidates.
    pub(super) fn of(candidates: usize) -> Self {
        let share = |whole: usize| whole / candidates.max(1);
        Self {
            calls: share(MAX_CALLS).max(LEAST_CALLS),
            chains: share(MAX_CHAINS).max(LEAST_CALLS),
            counted: share(MAX_COUNTED).max(LEAST_CALLS),
            lines: if candidates > FEW { FEW_LINES } else { MAX_LINES },
        }
    }
}

/// How a call was recorded.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) verdicts: u64,
    pub(super) last: Timestamp,
    pub(super) jobs: Vec<JobOf>,
    /// Every job of theirs that is told apart, by its number.
    pub(super) who: HashSet<u32>,
}

/// How much of the record was read.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// The span that was asked for.
    pub since: Timestamp,
    /// Its end.
    pub until: Timestamp,
    /// From here on every event was read.
    pub events_since: Timestamp,
    /// There are more different sums than were read.
    pub more_sums: bool,
    /// What gateways dropped.
    pub dropped: u64,
}

/// Calls of the jobs that a candidate would govern.
#[derive(Debug)]
pub(super) struct Tally {
    candidate: Candidate,
    whole: Calls,
    /// The calls of the day that is being read: they count when all of it was.
    open: Calls,
    /// Names in the CNAME chains of a workflow's answers, and the names that were asked.
    chains: HashMap<(CompactString, CompactString, CompactString), Vec<DnsName>>,
    /// Jobs that are told apart, numbered.
    jobs: HashMap<CompactString, u32>,
    runs: HashSet<CompactString>,
}

/// Different calls, and how much of the record they come from.
#[derive(Debug, Default)]
struct Calls {
    seen: HashMap<Call, Seen>,
    events: u64,
    sums: u64,
    left_out: u64,
    aggregated: u64,
}

impl Calls {
    fn take(&mut self, call: Call, new: Seen, most: usize) {
        if self.seen.len() >= most && !self.seen.contains_key(&call) {
            self.left_out = self.left_out.saturating_add(new.verdicts);
            return;
        }
        let seen = self.seen.entry(call).or_insert_with(|| Seen {
            verdicts: 0,
            last: new.last,
            jobs: Vec::new(),
            who: HashSet::new(),
        });
        seen.who.extend(new.who);
        seen.verdicts = seen.verdicts.saturating_add(new.verdicts);
        seen.last = seen.last.max(new.last);
        for job in new.jobs {
            if seen.jobs.len() < MAX_JOBS && !seen.jobs.contains(&job) {
                seen.jobs.push(job);
            }
        }
    }

    fn add(&mut self, other: Self, most: usize) {
        self.events += other.events;
        self.left_out = self.left_out.saturating_add(other.left_out);
        self.aggregated = self.aggregated.saturating_add(other.aggregated);
        for (call, seen) in other.seen {
            self.take(call, seen, most);
        }
    }
}

impl Tally {
    /// Nothing yet.
    pub(super) fn new(candidate: Candidate) -> Self {
        Self {
            candidate,
            whole: Calls::default(),
            open: Calls::default(),
            chains: HashMap::new(),
            jobs: HashMap::new(),
            runs: HashSet::new(),
        }
    }

    /// Takes an event of the day that is being read, with the time that it is filed under.
    pub(super) fn event(&mut self, call: Call, (at, event): (Timestamp, &EventRecord), bounds: Bounds) {
        self.open.events += 1;
        if event.count > 1 {
            self.open.aggregated = self.open.aggregated.saturating_add(event.count);
        }
        self.chain(event, &call, bounds.chains);
        let mut who = HashSet::new();
        if let Some(job) = &event.job {
            who.extend(number(&mut self.jobs, &job.id, bounds.counted));
            let run = compact_str::format_compact!("{} {}", job.repo, job.run_id);
            count(&mut self.runs, &run, bounds.counted);
        }
        let seen = Seen {
            verdicts: event.count,
            last: at,
            jobs: event.job.iter().map(job_of).collect(),
            who,
        };
        self.open.take(call, seen, bounds.calls);
    }

    /// All events of the day that was being read were read.
    pub(super) fn close(&mut self, bounds: Bounds) {
        let open = std::mem::take(&mut self.open);
        self.whole.add(open, bounds.calls);
    }

    /// They were not, and sums stand for it.
    pub(super) fn drop_open_day(&mut self) {
        self.open = Calls::default();
    }

    /// Takes a sum of some days: how often, and when last.
    pub(super) fn sum(&mut self, call: Call, (verdicts, last): (u64, Timestamp), bounds: Bounds) {
        self.whole.sums += 1;
        self.whole.aggregated = self.whole.aggregated.saturating_add(verdicts);
        let job = JobOf {
            repo: call.repo.to_string(),
            workflow: call.workflow.to_string(),
            job: String::new(),
            run_id: String::new(),
            job_id: String::new(),
        };
        let seen = Seen {
            verdicts,
            last,
            jobs: vec![job],
            who: HashSet::new(),
        };
        self.whole.take(call, seen, bounds.calls);
    }

    /// Keeps which name's chain an answer's names are of.
    fn chain(&mut self, event: &EventRecord, call: &Call, most: usize) {
        if event.kind != Kind::Dns || event.answers.is_empty() {
            return;
        }
        let Some(asked) = call.name() else { return };
        for target in event
            .answers
            .iter()
            .filter(|answer| answer.parse::<std::net::IpAddr>().is_err())
        {
            let key = (call.repo.clone(), call.workflow.clone(), target.clone());
            if self.chains.len() >= most && !self.chains.contains_key(&key) {
                return;
            }
            let owners = self.chains.entry(key).or_default();
            if owners.len() < MAX_JOBS && !owners.contains(&asked) {
                owners.push(asked.clone());
            }
        }
    }

    /// Judges everything and puts the answer together.
    pub(super) fn report(self, tried: Tried, read: Read, bounds: Bounds) -> Simulation {
        let calls = &self.whole.seen;
        let flows: HashSet<(&str, &str, &str)> = calls
            .keys()
            .filter(|call| call.kind != Kind::Dns)
            .map(|call| (call.repo.as_str(), call.workflow.as_str(), call.endpoint.as_str()))
            .collect();
        let mut lists = Lists::default();
        let mut facts = Facts::default();
        for (call, seen) in calls {
            let key = (call.repo.clone(), call.workflow.clone(), call.endpoint.clone());
            let owners = self.chains.get(&key).map(Vec::as_slice).unwrap_or_default();
            let foreseen = foresee(&self.candidate, call, owners);
            facts.note(call, seen);
            let place = (call.repo.as_str(), call.workflow.as_str(), call.endpoint.as_str());
            if call.kind == Kind::Dns && flows.contains(&place) {
                lists.follow(call, seen, &foreseen);
            } else {
                lists.enter(call, seen, &foreseen);
            }
        }
        let completeness = self.completeness(&facts, read, bounds.calls);
        let (jobs, runs) = (self.jobs.len() as u64, self.runs.len() as u64);
        let window = Window {
            since: read.since,
            until: read.until,
        };
        let (counts, dns, unchanged) = (lists.counts(), lists.dns, lists.unchanged);
        let affected = lists.affected();
        let [newly_permitted, newly_refused, would_refuse, undecided] = lists.lines(bounds.lines);
        Simulation {
            policy: tried.policy,
            scopes: tried.scopes,
            clusters: tried.clusters,
            window,
            jobs,
            runs,
            affected,
            newly_permitted,
            newly_refused,
            would_refuse,
            undecided,
            counts,
            unchanged,
            dns,
            completeness,
        }
    }

    fn completeness(&self, facts: &Facts, read: Read, most: usize) -> Completeness {
        let mut completeness = Completeness {
            events_since: read.events_since,
            events: self.whole.events,
            sums: self.whole.sums,
            left_out: self.whole.left_out,
            dropped: read.dropped,
            aggregated: self.whole.aggregated,
            address_only: facts.address_only,
            refused_then: facts.refused_then,
            sentences: Vec::new(),
        };
        completeness.sentences = sentences(&completeness, &read, most);
        completeness
    }
}

fn job_of(job: &EventJob) -> JobOf {
    JobOf {
        repo: job.repo.to_string(),
        workflow: job.workflow.to_string(),
        job: job.job.to_string(),
        run_id: job.run_id.to_string(),
        job_id: job.id.to_string(),
    }
}

/// The number of a job; none for those over the bound.
fn number(jobs: &mut HashMap<CompactString, u32>, id: &CompactString, most: usize) -> Option<u32> {
    if let Some(number) = jobs.get(id) {
        return Some(*number);
    }
    let number = u32::try_from(jobs.len()).ok().filter(|_| jobs.len() < most)?;
    jobs.insert(id.clone(), number);
    Some(number)
}

fn count(set: &mut HashSet<CompactString>, value: &CompactString, most: usize) {
    if set.len() < most && !set.contains(value) {
        set.insert(value.clone());
    }
}

/// What of the calls limits what can be said.
#[derive(Default)]
struct Facts {
    address_only: u64,
    refused_then: u64,
}

impl Facts {
    fn note(&mut self, call: &Call, seen: &Seen) {
        if !call.named {
            self.address_only = self.address_only.saturating_add(seen.verdicts);
        }
        if !call.passed() && call.kind != Kind::Dns {
            self.refused_then = self.refused_then.saturating_add(seen.verdicts);
        }
    }
}

fn sentences(told: &Completeness, read: &Read, most: usize) -> Vec<String> {
    let mut said = Vec::new();
    if told.events + told.sums == 0 {
        said.push("Nothing is recorded of jobs that the candidate would govern in this time.".to_owned());
    }
    if read.events_since > read.since {
        said.push(format!(
            "Before {} only sums by days are left or were read: whole days, names without addresses, no jobs.",
            read.events_since
        ));
    }
    if told.left_out > 0 {
        said.push(format!(
            "{} verdicts were left out: more than {most} different calls.",
            told.left_out
        ));
    }
    if read.more_sums {
        said.push(
            "There are more different sums by days than were read; the oldest are left out.".to_owned(),
        );
    }
    if told.dropped > 0 {
        said.push(format!(
            "Gateways dropped {} verdicts in these days; nobody knows whose.",
            told.dropped
        ));
    }
    if told.refused_then > 0 {
        said.push(format!(
            "{} verdicts were refusals: what those jobs would have gone on to reach is not in the record.",
            told.refused_then
        ));
    }
    if told.address_only > 0 {
        said.push(format!(
            "{} verdicts are on addresses without a name.",
            told.address_only
        ));
    }
    said.push(
        "What gateways know alone is not looked at: their own addresses, internal domains, networks' always-allow lists and \
         assurance."
            .to_owned(),
    );
    said
}
