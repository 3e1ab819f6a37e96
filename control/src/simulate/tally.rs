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
use super::report::{Completeness, JobOf, SimulatedPolicy, Simulation, Window};

/// Different calls that are judged at most.
pub const MAX_CALLS: usize = 100_000;
/// Jobs that a line names.
pub(super) const MAX_JOBS: usize = 5;
/// Names of chains that are kept.
const MAX_CHAINS: usize = 50_000;
/// Jobs and runs that are told apart.
const MAX_COUNTED: usize = 200_000;
/// Seconds of a day.
const DAY: i64 = 86_400;

/// How a call was recorded.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) verdicts: u64,
    pub(super) last: Timestamp,
    pub(super) jobs: Vec<JobOf>,
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
pub struct Tally {
    candidate: Candidate,
    whole: Calls,
    /// The calls of the day that is being read: they count when all of it was.
    open: Calls,
    /// In days since 1970, UTC.
    day: i64,
    /// Names in the CNAME chains of a workflow's answers, and the names that were asked.
    chains: HashMap<(CompactString, CompactString, CompactString), Vec<DnsName>>,
    jobs: HashSet<CompactString>,
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
    fn take(&mut self, call: Call, new: Seen) {
        if self.seen.len() >= MAX_CALLS && !self.seen.contains_key(&call) {
            self.left_out = self.left_out.saturating_add(new.verdicts);
            return;
        }
        let seen = self.seen.entry(call).or_insert_with(|| Seen {
            verdicts: 0,
            last: new.last,
            jobs: Vec::new(),
        });
        seen.verdicts = seen.verdicts.saturating_add(new.verdicts);
        seen.last = seen.last.max(new.last);
        for job in new.jobs {
            if seen.jobs.len() < MAX_JOBS && !seen.jobs.contains(&job) {
                seen.jobs.push(job);
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.left_out = self.left_out.saturating_add(other.left_out);
        self.aggregated = self.aggregated.saturating_add(other.aggregated);
        for (call, seen) in other.seen {
            self.take(call, seen);
        }
    }
}

impl Tally {
    /// Nothing yet.
    pub fn new(candidate: Candidate) -> Self {
        Self {
            candidate,
            whole: Calls::default(),
            open: Calls::default(),
            day: i64::MAX,
            chains: HashMap::new(),
            jobs: HashSet::new(),
            runs: HashSet::new(),
        }
    }

    /// Takes events, each with the time that it is filed under, the newest first. For those before `from` sums stand.
    pub fn events(&mut self, events: &[(Timestamp, EventRecord)], from: Timestamp) {
        for (at, event) in events.iter().filter(|(at, _)| *at >= from) {
            let Some(call) = Call::of(event) else { continue };
            if !self.candidate.governs(&call.identity()) {
                continue;
            }
            let day = at.as_second().div_euclid(DAY);
            if day != self.day {
                self.close();
                self.day = day;
            }
            self.open.events += 1;
            if event.count > 1 {
                self.open.aggregated = self.open.aggregated.saturating_add(event.count);
            }
            self.chain(event, &call);
            let jobs = event.job.iter().map(job_of).collect();
            if let Some(job) = &event.job {
                count(&mut self.jobs, &job.id);
                let run = compact_str::format_compact!("{} {}", job.repo, job.run_id);
                count(&mut self.runs, &run);
            }
            let seen = Seen {
                verdicts: event.count,
                last: *at,
                jobs,
            };
            self.open.take(call, seen);
        }
    }

    /// All events of the day that was being read were read.
    pub fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.whole.add(open);
    }

    /// They were not, and sums stand for it.
    pub fn drop_open_day(&mut self) {
        self.open = Calls::default();
    }

    /// Takes a sum of some days.
    pub fn sum(&mut self, call: Call, verdicts: u64, last: Timestamp) {
        if verdicts == 0 || !self.candidate.governs(&call.identity()) {
            return;
        }
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
        };
        self.whole.take(call, seen);
    }

    /// Keeps which name's chain an answer's names are of.
    fn chain(&mut self, event: &EventRecord, call: &Call) {
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
            if self.chains.len() >= MAX_CHAINS && !self.chains.contains_key(&key) {
                return;
            }
            let owners = self.chains.entry(key).or_default();
            if owners.len() < MAX_JOBS && !owners.contains(&asked) {
                owners.push(asked.clone());
            }
        }
    }

    /// Judges everything and puts the answer together. A hundred thousand calls take a second or so.
    pub fn report(mut self, policy: SimulatedPolicy, scopes: Vec<String>, read: Read) -> Simulation {
        self.close();
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
        let completeness = self.completeness(&facts, read);
        let (jobs, runs) = (self.jobs.len() as u64, self.runs.len() as u64);
        let window = Window {
            since: read.since,
            until: read.until,
        };
        let (counts, dns, unchanged) = (lists.counts(), lists.dns, lists.unchanged);
        let [newly_permitted, newly_refused, would_refuse, undecided] = lists.lines();
        Simulation {
            policy,
            scopes,
            window,
            jobs,
            runs,
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

    fn completeness(&self, facts: &Facts, read: Read) -> Completeness {
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
        completeness.sentences = sentences(&completeness, &read);
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

fn count(set: &mut HashSet<CompactString>, value: &CompactString) {
    if set.len() < MAX_COUNTED && !set.contains(value) {
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

fn sentences(told: &Completeness, read: &Read) -> Vec<String> {
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
            "{} verdicts were left out: more than {MAX_CALLS} different calls.",
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
