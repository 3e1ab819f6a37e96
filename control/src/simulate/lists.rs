//! The lists of an answer: calls that are decided alike are one line, with a few of the jobs that made them.

use std::collections::BTreeSet;

use compact_str::CompactString;
use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;
use tidegate_policy::event::Kind;
use tidegate_policy::verdict::Verdict;

use super::call::Call;
use super::judge::Foreseen;
use super::report::{Affected, Change, Counted, Counts, Dns, JobOf, Unchanged};
use super::tally::{MAX_JOBS, Seen};

/// Calls that are decided alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Line {
    endpoint: CompactString,
    port: u16,
    kind: Kind,
    before: Verdict,
    after: Option<Verdict>,
    reason: Option<&'static str>,
    rule: Option<(CompactString, u32)>,
    nearest: Option<CompactString>,
    why: Option<&'static str>,
}

#[derive(Debug)]
struct Sum {
    verdicts: u64,
    last: Timestamp,
    jobs: Vec<JobOf>,
    workflows: BTreeSet<(CompactString, CompactString)>,
}

#[derive(Debug, Default)]
struct List(HashMap<Line, Sum>);

/// Which list; their order in [`Lists::by_outcome`].
#[derive(Clone, Copy)]
enum Which {
    NewlyPermitted,
    NewlyRefused,
    WouldRefuse,
    Undecided,
    Same,
}

/// Every list, and what stands in none.
#[derive(Debug, Default)]
pub(super) struct Lists {
    by_outcome: [List; 4],
    pub(super) unchanged: Unchanged,
    pub(super) dns: Dns,
    /// Jobs with a line in the first three lists, by their numbers.
    jobs: [HashSet<u32>; 3],
}

impl Which {
    fn of(call: &Call, foreseen: &Foreseen) -> Self {
        match (call.passed(), foreseen.verdict()) {
            (_, None) => Self::Undecided,
            (true, Some(Verdict::Refuse)) => Self::NewlyRefused,
            (false, Some(Verdict::Permit | Verdict::WouldRefuse)) => Self::NewlyPermitted,
            (true, Some(Verdict::WouldRefuse)) => Self::WouldRefuse,
            (true, Some(Verdict::Permit)) | (false, Some(Verdict::Refuse)) => Self::Same,
        }
    }
}

impl Lists {
    /// A query for a name that flows went to.
    pub(super) fn follow(&mut self, call: &Call, seen: &Seen, foreseen: &Foreseen) {
        let sum = match Which::of(call, foreseen) {
            Which::NewlyPermitted => &mut self.dns.newly_permitted,
            Which::NewlyRefused => &mut self.dns.newly_refused,
            Which::WouldRefuse => &mut self.dns.would_refuse,
            Which::Undecided => &mut self.dns.undecided,
            Which::Same => &mut self.dns.unchanged,
        };
        *sum = sum.saturating_add(seen.verdicts);
    }

    /// A call that stands for itself.
    pub(super) fn enter(&mut self, call: &Call, seen: &Seen, foreseen: &Foreseen) {
        let [permitted, refused, would_refuse, undecided] = &mut self.by_outcome;
        let [jobs_permitted, jobs_refused, jobs_would] = &mut self.jobs;
        let (list, jobs) = match Which::of(call, foreseen) {
            Which::NewlyPermitted => (permitted, Some(jobs_permitted)),
            Which::NewlyRefused => (refused, Some(jobs_refused)),
            Which::WouldRefuse => (would_refuse, Some(jobs_would)),
            Which::Undecided => (undecided, None),
            Which::Same => {
                let counted = if call.passed() {
                    &mut self.unchanged.permitted
                } else {
                    &mut self.unchanged.refused
                };
                counted.calls += 1;
                counted.verdicts = counted.verdicts.saturating_add(seen.verdicts);
                return;
            }
        };
        if let Some(jobs) = jobs {
            jobs.extend(&seen.who);
        }
        list.add(call, seen, foreseen);
    }

    /// How many jobs the lists are about.
    pub(super) fn affected(&self) -> Affected {
        let [newly_permitted, newly_refused, would_refuse] =
            self.jobs.each_ref().map(|jobs| jobs.len() as u64);
        Affected {
            newly_permitted,
            newly_refused,
            would_refuse,
        }
    }

    /// The lists in numbers.
    pub(super) fn counts(&self) -> Counts {
        let [newly_permitted, newly_refused, would_refuse, undecided] =
            self.by_outcome.each_ref().map(List::counted);
        Counts {
            newly_permitted,
            newly_refused,
            would_refuse,
            undecided,
        }
    }
}

impl Lists {
    /// The lines of every list: newly permitted, newly refused, would be refused, not known.
    pub(super) fn lines(self, most: usize) -> [Vec<Change>; 4] {
        self.by_outcome.map(|list| list.lines(most))
    }
}

impl List {
    fn add(&mut self, call: &Call, seen: &Seen, foreseen: &Foreseen) {
        let refusal = foreseen.refusal();
        let line = Line {
            endpoint: call.endpoint.clone(),
            port: call.port,
            kind: call.kind,
            before: call.verdict,
            after: foreseen.verdict(),
            reason: refusal.map(|refusal| refusal.reason.as_str()),
            rule: foreseen.rule().map(|rule| (rule.text().into(), rule.line())),
            nearest: refusal
                .and_then(|refusal| refusal.nearest.find())
                .map(|rule| rule.text().into()),
            why: match foreseen {
                Foreseen::Undecided(why) => Some(why.trim()),
                Foreseen::Judged(_) => None,
            },
        };
        let sum = self.0.entry(line).or_insert_with(|| Sum {
            verdicts: 0,
            last: seen.last,
            jobs: Vec::new(),
            workflows: BTreeSet::new(),
        });
        sum.verdicts = sum.verdicts.saturating_add(seen.verdicts);
        sum.last = sum.last.max(seen.last);
        sum.workflows.insert((call.repo.clone(), call.workflow.clone()));
        for job in &seen.jobs {
            if sum.jobs.len() < MAX_JOBS && !sum.jobs.contains(job) {
                sum.jobs.push(job.clone());
            }
        }
    }

    fn counted(&self) -> Counted {
        Counted {
            calls: self.0.len() as u64,
            verdicts: self
                .0
                .values()
                .fold(0, |sum, one| sum.saturating_add(one.verdicts)),
        }
    }

    /// What was reached most, first.
    fn lines(self, most: usize) -> Vec<Change> {
        let mut lines: Vec<Change> = self.0.into_iter().map(|(line, sum)| change(line, sum)).collect();
        let key = |one: &Change| {
            (
                one.endpoint.clone(),
                one.port,
                one.kind.as_str(),
                one.before.as_str(),
            )
        };
        lines.sort_by_cached_key(|one| (std::cmp::Reverse(one.verdicts), key(one)));
        lines.truncate(most);
        lines
    }
}

fn change(line: Line, sum: Sum) -> Change {
    let (rule, number) = line.rule.unzip();
    let mut jobs = sum.jobs;
    jobs.sort_by(|one, other| {
        (&one.repo, &one.workflow, &one.job_id).cmp(&(&other.repo, &other.workflow, &other.job_id))
    });
    Change {
        endpoint: line.endpoint.to_string(),
        port: line.port,
        kind: line.kind,
        verdicts: sum.verdicts,
        last_seen: sum.last,
        before: line.before,
        after: line.after,
        reason: line.reason.map(str::to_owned),
        rule: rule.map(|text| text.to_string()),
        line: number.filter(|number| *number > 0),
        nearest: line.nearest.map(|text| text.to_string()),
        why: line.why.map(str::to_owned),
        jobs,
        workflows: sum.workflows.len() as u64,
    }
}
