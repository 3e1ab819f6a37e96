//! What has to be done so that an owner's policies are what the files say.
//!
//! Pure. Owns the order: a scope that has a policy before and after has one at every moment between. Policies are
//! written first, scopes are then moved and attached, only then others detached and policies deleted. A policy that
//! loses scopes and gains none is written after they have left it, so that nothing is governed by a text that was never
//! meant for it; where a policy gains and loses and changes at once, that can't always be had.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// Scopes in one step at most: the API takes so many at once.
const MAX_SCOPES: usize = 1_000;
/// Bytes of scopes in one step at most: the API reads bodies of twice that.
const MAX_BYTES: usize = 32 << 10;

/// A policy as the files want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) yaml: String,
    pub(crate) scopes: BTreeSet<String>,
}

/// A policy as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) name: String,
    pub(crate) yaml: String,
    pub(crate) scopes: BTreeSet<String>,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub(crate) enum Step {
    /// Write a policy that is not there, attached nowhere.
    Create { policy: String },
    /// Write another text.
    Update { policy: String },
    /// Take scopes from other policies of the owner: scope and policy that holds it.
    Move {
        policy: String,
        from: BTreeMap<String, String>,
    },
    /// Take scopes that no policy of the owner holds.
    Attach {
        policy: String,
        scopes: BTreeSet<String>,
    },
    /// Leave scopes that no file names.
    Detach {
        policy: String,
        scopes: BTreeSet<String>,
    },
    /// Delete a policy that no file is for, attached to these scopes by then.
    Delete {
        policy: String,
        scopes: BTreeSet<String>,
    },
}

/// What has to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Plan {
    /// In this order.
    pub(crate) steps: Vec<Step>,
    /// Policies that are as their files say.
    pub(crate) unchanged: usize,
    /// Policies without a file that stay.
    pub(crate) kept: Vec<String>,
}

/// Plans. Names and scopes of `wanted` are unique, and those of `present` as well.
pub(crate) fn plan(wanted: &[Wanted], present: &[Present], prune: bool) -> Plan {
    let there: BTreeMap<&str, &Present> = present.iter().map(|one| (one.name.as_str(), one)).collect();
    let holders: BTreeMap<&str, &str> = present
        .iter()
        .flat_map(|one| one.scopes.iter().map(|scope| (scope.as_str(), one.name.as_str())))
        .collect();
    let sought: BTreeSet<&str> = wanted
        .iter()
        .flat_map(|one| &one.scopes)
        .map(String::as_str)
        .collect();
    let files: BTreeSet<&str> = wanted.iter().map(|one| one.name.as_str()).collect();
    let mut stages = Stages::default();
    let mut plan = Plan::default();
    for one in wanted {
        let before = there.get(one.name.as_str());
        stages.want(one, before.copied(), &holders, &sought);
        let same = |present: &&Present| present.yaml == one.yaml && present.scopes == one.scopes;
        plan.unchanged += usize::from(before.is_some_and(same));
    }
    for one in present.iter().filter(|one| !files.contains(one.name.as_str())) {
        if prune {
            let scopes = one
                .scopes
                .iter()
                .filter(|scope| !sought.contains(scope.as_str()))
                .cloned();
            stages.delete.push(Step::Delete {
                policy: one.name.clone(),
                scopes: scopes.collect(),
            });
        } else {
            plan.kept.push(one.name.clone());
        }
    }
    plan.steps = stages.in_order();
    plan
}

/// Steps by when they may be done.
#[derive(Default)]
struct Stages {
    create: Vec<Step>,
    update: Vec<Step>,
    take: Vec<Step>,
    detach: Vec<Step>,
    update_late: Vec<Step>,
    delete: Vec<Step>,
}

impl Stages {
    /// Enters what one policy needs.
    fn want(
        &mut self,
        one: &Wanted,
        before: Option<&Present>,
        holders: &BTreeMap<&str, &str>,
        sought: &BTreeSet<&str>,
    ) {
        let policy = || one.name.clone();
        let none = BTreeSet::new();
        let held = before.map_or(&none, |present| &present.scopes);
        let (mut moved, mut free) = (BTreeMap::new(), BTreeSet::new());
        for scope in one.scopes.difference(held) {
            match holders.get(scope.as_str()) {
                Some(holder) => drop(moved.insert(scope.clone(), (*holder).to_owned())),
                None => drop(free.insert(scope.clone())),
            }
        }
        let loses = held.difference(&one.scopes).next().is_some();
        let dropped = held
            .iter()
            .filter(|scope| !sought.contains(scope.as_str()))
            .cloned();
        match before {
            None => self.create.push(Step::Create { policy: policy() }),
            Some(present) if present.yaml == one.yaml => {}
            Some(_) if loses && moved.is_empty() && free.is_empty() => {
                self.update_late.push(Step::Update { policy: policy() });
            }
            Some(_) => self.update.push(Step::Update { policy: policy() }),
        }
        for from in batches(moved, |(scope, _)| scope.len()) {
            self.take.push(Step::Move {
                policy: policy(),
                from,
            });
        }
        for scopes in batches(free, String::len) {
            self.take.push(Step::Attach {
                policy: policy(),
                scopes,
            });
        }
        for scopes in batches(dropped, String::len) {
            self.detach.push(Step::Detach {
                policy: policy(),
                scopes,
            });
        }
    }

    fn in_order(self) -> Vec<Step> {
        let stages = [
            self.create,
            self.update,
            self.take,
            self.detach,
            self.update_late,
            self.delete,
        ];
        stages.into_iter().flatten().collect()
    }
}

/// As many as one request takes.
fn batches<T, C>(items: impl IntoIterator<Item = T>, size: impl Fn(&T) -> usize) -> Vec<C>
where
    C: Default + Extend<T>,
{
    let mut batches: Vec<C> = Vec::new();
    let (mut count, mut bytes) = (0, 0);
    for item in items {
        // Quotes and a comma.
        let more = size(&item) + 3;
        if batches.is_empty() || count == MAX_SCOPES || bytes + more > MAX_BYTES {
            batches.push(C::default());
            (count, bytes) = (0, 0);
        }
        (count, bytes) = (count + 1, bytes + more);
        if let Some(last) = batches.last_mut() {
            last.extend([item]);
        }
    }
    batches
}

#[cfg(test)]
mod tests;
