//! The baselines that a batch touches, advanced in the order of time. Pure; reading and writing them is [`rows`]'.

mod rows;

use std::collections::BTreeMap;

use compact_str::CompactString;
use hashbrown::HashMap;
use jiff::Timestamp;
use tidegate_policy::job::Scope;

use super::batch::Group;
use super::prior::First;
use crate::baseline::sighting::{Run, scopes};
use crate::baseline::{Standing, Status, Target, Trust};

pub(in crate::store) use rows::{read_standing, stamp};

/// Endpoints of a scope that trusted runs reached.
pub(super) const MAX_ENDPOINTS: i64 = 10_000;
/// Endpoints of a scope that only strangers reached.
pub(super) const MAX_STRANGERS: i64 = 1_000;
/// What a group of events does to one baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deed {
    /// A run that is new here.
    Run,
    /// It reached something for the first time.
    Reached,
    /// It reached something again.
    Repeated,
}

/// A step of one baseline: when, by which run, what, and the number of the group that did it. In this order: of one
/// moment, a run's steps stand together.
type Step = (Timestamp, CompactString, Deed, usize);

/// Whether what a run reached lies in the baseline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It does, or the baseline was never stable.
    Inside,
    /// It does not.
    Outside,
    /// It does not, and an open detection says so.
    Told(String),
}

/// An endpoint of a baseline.
#[derive(Clone, Debug)]
struct Row {
    first: Timestamp,
    last: Timestamp,
    calls: u64,
    runs: u64,
    fork_runs: u64,
    claimed_runs: u64,
    late: bool,
    accepted: bool,
    detection: String,
    status: Option<Status>,
    changed: bool,
}

/// One scope's baseline, as far as a batch touches it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    standing: Standing,
    endpoints: i64,
    strangers: i64,
    dropped: u64,
    last: Option<Timestamp>,
    rows: HashMap<Target, Row>,
    steps: Vec<Step>,
}

/// Baselines by scope. Ordered, so that rows are written in the order of their key.
#[derive(Debug, Default)]
pub(super) struct Ledgers(BTreeMap<String, (Scope, Ledger)>);

impl Ledgers {
    fn of(&mut self, scope: Scope) -> &mut Ledger {
        let (_, ledger) = self
            .0
            .entry(scope.to_string())
            .or_insert_with(|| (scope, Ledger::default()));
        ledger
    }

    /// Enters a deed of a group in the baselines of its scopes: as the first of its run where it is, else as a repetition
    /// (of a run: nothing).
    pub(super) fn enter(&mut self, deed: Deed, group: &Group<'_>, number: usize, first: First) {
        let Some(run) = Run::of(group.job) else { return };
        for scope in scopes(group.job) {
            let is_first = match scope {
                Scope::Workflow(_) => first.workflow,
                Scope::Repository(_) | Scope::Organization(_) => first.wide,
                Scope::Cluster(_) | Scope::Network(_) | Scope::Lease(_) => first.cluster,
            };
            let deed = match (deed, is_first) {
                (deed, true) => deed,
                (Deed::Run, false) => continue,
                (Deed::Reached | Deed::Repeated, false) => Deed::Repeated,
            };
            self.of(scope)
                .steps
                .push((group.first, run.run.clone(), deed, number));
        }
    }

    /// Counts what found no room.
    pub(super) fn drop_one(&mut self, group: &Group<'_>) {
        for scope in scopes(group.job) {
            let ledger = self.of(scope);
            ledger.dropped = ledger.dropped.saturating_add(1);
        }
    }

    /// Advances every baseline; `outcome` hears what lies outside of which, and says how its detection is called.
    pub(super) fn advance(
        &mut self,
        groups: &[(&Group<'_>, Target)],
        mut outcome: impl FnMut(&Scope, usize, Outcome) -> Option<String>,
    ) {
        for (scope, ledger) in self.0.values_mut() {
            let mut steps = std::mem::take(&mut ledger.steps);
            steps.sort_unstable();
            for (at, _, deed, number) in steps {
                ledger.last = ledger.last.max(Some(at));
                if deed == Deed::Run {
                    ledger.standing.run(at);
                    continue;
                }
                let Some((group, target)) = groups.get(number) else {
                    continue;
                };
                let found = ledger.reach(group, target, deed);
                let id = match found {
                    Outcome::Inside => None,
                    Outcome::Outside | Outcome::Told(_) => outcome(scope, number, found),
                };
                if let (Some(id), Some(row)) = (id, ledger.rows.get_mut(target)) {
                    (row.detection, row.status) = (id, Some(Status::New));
                }
            }
        }
    }

    /// Detections are called otherwise, or a rule covers them.
    pub(super) fn settle(&mut self, ids: &HashMap<String, (String, Status)>) {
        for (_, ledger) in self.0.values_mut() {
            for row in ledger.rows.values_mut().filter(|row| row.changed) {
                if let Some((id, status)) = ids.get(&row.detection) {
                    row.detection.clone_from(id);
                    row.accepted |= *status == Status::Suppressed;
                }
            }
        }
    }
}

impl Ledger {
    /// What a group reached.
    fn reach(&mut self, group: &Group<'_>, target: &Target, deed: Deed) -> Outcome {
        if deed != Deed::Reached {
            if let Some(row) = self.rows.get_mut(target) {
                row.repeat(group);
            }
            return Outcome::Inside;
        }
        let trusted = group.trust() == Trust::Trusted;
        let known = self.rows.get(target).map(|row| row.runs);
        let is_new = trusted && known.unwrap_or(0) == 0;
        // A change counts whether there is room for it or not.
        let late = is_new && self.standing.change(group.first);
        let settled = late || self.standing.was_stable(group.first);
        if !self.make_room(known, trusted) {
            self.dropped = self.dropped.saturating_add(1);
            return if settled {
                Outcome::Outside
            } else {
                Outcome::Inside
            };
        }
        let row = self
            .rows
            .entry(target.clone())
            .or_insert_with(|| Row::new(group.first));
        row.repeat(group);
        row.begin(group.trust());
        if is_new {
            // What somebody said of strangers is not said of the scope's own runs.
            (row.late, row.accepted) = (late, false);
        }
        if settled {
            row.outcome(is_new)
        } else {
            Outcome::Inside
        }
    }

    /// Counts a row that is new, or new among those of trusted runs. False when there is no room for it.
    fn make_room(&mut self, known: Option<u64>, trusted: bool) -> bool {
        let (full, strangers_full) = (self.endpoints >= MAX_ENDPOINTS, self.strangers >= MAX_STRANGERS);
        match (known, trusted) {
            (Some(0) | None, true) if full => return false,
            (None, false) if strangers_full => return false,
            (None, true) => self.endpoints += 1,
            (None, false) => self.strangers += 1,
            (Some(0), true) => {
                self.endpoints += 1;
                self.strangers = (self.strangers - 1).max(0);
            }
            (Some(_), _) => {}
        }
        true
    }
}

impl Row {
    fn new(at: Timestamp) -> Self {
        Self {
            first: at,
            last: at,
            calls: 0,
            runs: 0,
            fork_runs: 0,
            claimed_runs: 0,
            late: false,
            accepted: false,
            detection: String::new(),
            status: None,
            changed: true,
        }
    }

    fn repeat(&mut self, group: &Group<'_>) {
        self.first = self.first.min(group.first);
        self.last = self.last.max(group.last);
        self.calls = self.calls.saturating_add(group.calls);
        self.changed = true;
    }

    fn begin(&mut self, trust: Trust) {
        match trust {
            Trust::Trusted => self.runs += 1,
            Trust::Fork => self.fork_runs += 1,
            Trust::Claimed => self.claimed_runs += 1,
        }
    }

    /// In a scope that was stable once.
    fn outcome(&self, is_new: bool) -> Outcome {
        if self.accepted || (self.runs > 0 && !self.late) {
            return Outcome::Inside;
        }
        match self.status {
            // What a stranger's detection said of it is not enough once a trusted run does it.
            Some(Status::New) if !is_new => Outcome::Told(self.detection.clone()),
            Some(Status::New | Status::Suppressed | Status::Resolved) | None => Outcome::Outside,
        }
    }
}

#[cfg(test)]
mod tests;
