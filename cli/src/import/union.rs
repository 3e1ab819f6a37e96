//! One workflow's policy: the union of everything that its jobs may do.
//!
//! Owns which jobs a workflow's policy governs (those of the reusable workflows that it calls too: a called job counts as
//! its caller's), and that what is too much is left out and told. What the policy does is [`does`]'s.

mod does;

use std::collections::{BTreeMap, HashMap};

use tidegate_control_wire::text::{cut, printable};
use tidegate_policy::endpoint::Endpoint;

use super::actions::{Actions, Hidden};
use super::args::Choice;
use super::block::Block;
use super::find::{Repository, WorkflowFile};
use super::item::Items;
use super::policy::{Governed, Listed, Policy, State};
use super::workflow::{Does, Job, Workflow};

/// Jobs of one policy at most, those of called workflows included.
const MAX_JOBS: usize = 1_000;
/// Jobs that are other workflows' jobs, of one workflow: where each is a job in the end there are as many of these, and
/// those between.
const MAX_CALLS: usize = 4 * MAX_JOBS;
/// Endpoints and local actions of all jobs together, before the same ones become one. A called workflow counts as often as
/// it is called.
const MAX_ENTRIES: usize = 500_000;
/// Characters of a job's label in what is written.
const LONGEST: usize = 300;
/// How deep called workflows call others, as GitHub bounds it.
const DEEPEST: usize = 10;
const LOCAL: &str = "./.github/workflows/";

/// What a workflow came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A policy, still without a name.
    Policy(Box<Policy>),
    /// None, and the items say why.
    Told,
    /// No job of it has a Harden-Runner step.
    Unhardened,
}

/// The workflows of one repository.
pub(super) struct Union<'a> {
    pub(super) repository: &'a Repository,
    /// By file name.
    pub(super) workflows: &'a BTreeMap<&'a str, Workflow>,
    pub(super) choice: Choice,
}

impl<'a> Union<'a> {
    /// The policy of a workflow.
    pub(super) fn policy(
        &self,
        file: &'a WorkflowFile,
        actions: &mut Actions<'_>,
        items: &mut Items,
    ) -> Outcome {
        let Some(workflow) = self.workflows.get(file.name.as_str()) else {
            return Outcome::Told;
        };
        if workflow.only_called {
            if !workflow.has_blocks() {
                return Outcome::Unhardened;
            }
            let why = "only other workflows start it: its jobs are governed by the policies of those";
            let todo = "nothing for callers in this repository; the policies of others need its endpoints";
            items.note(0, &file.name, why, todo);
            return Outcome::Told;
        }
        let mut sum = Sum {
            union: self,
            actions,
            items,
            governed: Vec::new(),
            blocks: Vec::new(),
            unknown: Vec::new(),
            unhardened: Vec::new(),
            calls: 0,
            entries: 0,
        };
        sum.workflow(&Place {
            file: &file.name,
            prefix: String::new(),
            line: None,
            callers: Vec::new(),
        });
        if sum.blocks.is_empty() {
            return Outcome::Unhardened;
        }
        if sum
            .blocks
            .iter()
            .all(|(_, _, block)| block.stored && block.allowed.is_empty())
        {
            let why = "all of its Harden-Runner steps take their policy from a policy store";
            items.lost(
                0,
                "the policy",
                why,
                "create it from that store's policy, or from a baseline",
            );
            return Outcome::Told;
        }
        Outcome::Policy(Box::new(sum.policy(file)))
    }
}

/// Everything that one policy is made of.
struct Sum<'a, 'i, 'r> {
    union: &'i Union<'a>,
    actions: &'i mut Actions<'r>,
    items: &'i mut Items,
    governed: Vec<Governed>,
    /// With the label of the job and the path of the file that it stands in.
    blocks: Vec<(String, String, &'a Block)>,
    /// Why the policy can't say everything.
    unknown: Vec<String>,
    /// Jobs without a Harden-Runner step, with the line to look at.
    unhardened: Vec<(u32, String)>,
    /// Jobs that are other workflows' jobs. Workflows that only call each other are many ways long before they are one job.
    calls: usize,
    /// Endpoints and local actions so far.
    entries: usize,
}

/// A workflow that is being summed up.
struct Place<'a> {
    file: &'a str,
    /// What its jobs are called before their names: the jobs that call it.
    prefix: String,
    /// The line of the job that calls it, in the workflow that the policy is for.
    line: Option<u32>,
    /// The workflows on the way here.
    callers: Vec<&'a str>,
}

impl<'a> Sum<'a, '_, '_> {
    fn workflow(&mut self, place: &Place<'a>) {
        let workflows = self.union.workflows;
        let Some(workflow) = workflows.get(place.file) else {
            return;
        };
        for job in &workflow.jobs {
            if self.governed.len() == MAX_JOBS || self.calls == MAX_CALLS {
                let why = format!("there are more than {MAX_JOBS} jobs, those of called workflows included");
                return self.too_many(place.line.unwrap_or(job.line), why);
            }
            if self.entries > MAX_ENTRIES {
                let why = format!("its jobs have more than {MAX_ENTRIES} endpoints and local actions");
                return self.too_many(place.line.unwrap_or(job.line), why);
            }
            match &job.does {
                Does::Steps { blocks, actions } => self.job(place, job, (blocks, actions)),
                Does::Calls(called) => self.call(place, job, called),
            }
        }
    }

    fn too_many(&mut self, line: u32, why: String) {
        if !self.unknown.contains(&why) {
            self.items
                .lost(line, "jobs", &why, "write to the policy what the others allow");
            self.unknown.push(why);
        }
    }

    /// A job with steps.
    fn job(&mut self, place: &Place<'a>, job: &Job, (blocks, actions): (&'a [Block], &[String])) {
        let repository = self.union.repository;
        let (label, line) = (place.label(job), place.line.unwrap_or(job.line));
        let what = format!("job {label}");
        let hidden = self.hidden(actions, (line, &what));
        let file = format!("{}.github/workflows/{}", repository.shown, place.file);
        for block in blocks {
            self.entries += block.allowed.len();
            if !block.complete {
                self.unknown.push(format!("not all that {what} allows is known"));
            }
            self.blocks.push((label.clone(), file.clone(), block));
        }
        let state = State::of(blocks, hidden);
        if state == State::Unhardened {
            self.unhardened.push((line, what));
        }
        self.governed.push(Governed {
            job: printable(&label).into_owned(),
            file,
            line: job.line,
            state,
        });
    }

    /// True when a step may hide in one of a job's local actions; it is told.
    fn hidden(&mut self, actions: &[String], (line, what): (u32, &str)) -> bool {
        self.entries += actions.len();
        let mut leads = Hidden::Nothing;
        for action in actions {
            match self.actions.hidden(action) {
                Hidden::Nothing => {}
                Hidden::TooMany => leads = Hidden::TooMany,
                step @ Hidden::Step(..) => {
                    leads = step;
                    break;
                }
            }
        }
        let (why, todo) = match leads {
            Hidden::Nothing => return false,
            Hidden::TooMany => {
                self.unknown.push(format!("{what} uses too many local actions"));
                let why = "it uses more local actions than are looked at: one may have a Harden-Runner step";
                (why.to_owned(), "write to the policy what such a step allows")
            }
            Hidden::Step(action, at) => {
                self.unknown.push(format!("{what} is hardened by {action}"));
                let shown = &self.union.repository.shown;
                let why = format!(
                    "its Harden-Runner step is inside of a local action, {shown}{action}:{at}, which is not read"
                );
                (why, "write to the policy what that step allows")
            }
        };
        self.items.lost(line, what, &why, todo);
        true
    }

    /// A job that is another workflow's jobs.
    fn call(&mut self, place: &Place<'a>, job: &Job, called: &str) {
        let (label, line) = (place.label(job), place.line.unwrap_or(job.line));
        let here = self.union.local(called);
        let known = here.and_then(|name| self.union.workflows.get_key_value(name));
        let mut callers = place.callers.clone();
        callers.push(place.file);
        let why = match (here, known) {
            (Some(_), Some((file, _))) if callers.contains(file) => {
                "it calls its own caller, which GitHub refuses"
            }
            (Some(_), Some((file, _))) if callers.len() <= DEEPEST => {
                self.calls += 1;
                return self.workflow(&Place {
                    file,
                    prefix: format!("{label} / "),
                    line: Some(line),
                    callers,
                });
            }
            (Some(_), Some(_)) => "workflows call each other too deeply",
            (Some(_), None) => "the workflow that it calls was not read",
            (None, _) => {
                "it is another repository's workflow, whose jobs this policy governs: what they may do is not read"
            }
        };
        let todo = "write to the policy what the called workflow's jobs allow";
        self.items
            .lost(line, &format!("job {label}: {called}"), why, todo);
        self.unknown.push(format!("job {label} calls {called}"));
        self.governed.push(Governed {
            job: printable(&label).into_owned(),
            file: format!("{}.github/workflows/{}", self.union.repository.shown, place.file),
            line: job.line,
            state: State::Called,
        });
    }

    fn policy(mut self, file: &WorkflowFile) -> Policy {
        for (line, what) in std::mem::take(&mut self.unhardened) {
            let why = "it has no Harden-Runner step, and the policy governs it too";
            self.items.changed(
                line,
                &what,
                why,
                "simulate the policy before it blocks; add what the job needs",
            );
        }
        let mode = self.mode();
        let repository = self.union.repository;
        let mut listed: Vec<Listed> = Vec::new();
        let mut at: HashMap<&Endpoint, usize> = HashMap::new();
        for (label, path, block) in &self.blocks {
            let label = cut(&printable(label), LONGEST).into_owned();
            for allowed in &block.allowed {
                let next = listed.len();
                let known = *at.entry(&allowed.endpoint).or_insert(next);
                if known == next {
                    listed.push(Listed {
                        endpoint: allowed.endpoint.to_string(),
                        jobs: Vec::new(),
                        file: path.clone(),
                        line: allowed.line,
                    });
                }
                // A job's steps stand one behind the other.
                if let Some(one) = listed
                    .get_mut(known)
                    .filter(|one| one.jobs.last() != Some(&label))
                {
                    one.jobs.push(label.clone());
                }
            }
        }
        let keys = self.flags();
        Policy {
            name: String::new(),
            owner: repository.owner.clone(),
            repo: repository.name.clone(),
            workflow: file.name.clone(),
            scope: format!("workflow:{}/{}/{}", repository.owner, repository.name, file.name),
            source: file.shown.clone(),
            mode,
            keys,
            endpoints: listed,
            jobs: self.governed,
        }
    }
}

impl Place<'_> {
    fn label(&self, job: &Job) -> String {
        format!("{}{}", self.prefix, job.id)
    }
}

impl Union<'_> {
    /// The file name of a called workflow that is this repository's own.
    fn local<'c>(&self, called: &'c str) -> Option<&'c str> {
        if let Some(name) = called.strip_prefix(LOCAL) {
            return Some(name);
        }
        let (path, _) = called.split_once('@')?;
        let own = format!("{}/{}/", self.repository.owner, self.repository.name);
        let is_own = path
            .get(..own.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(&own));
        path.get(own.len()..)
            .filter(|_| is_own)?
            .strip_prefix(".github/workflows/")
    }
}

#[cfg(test)]
mod tests;
