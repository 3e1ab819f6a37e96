//! One workflow's policy: the union of everything that its jobs may do.
//!
//! Owns which jobs a workflow's policy governs (those of the reusable workflows that it calls too: a called job counts as
//! its caller's), and what the policy does: it blocks only when every job did and all that they allowed is known.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use tidegate_control_wire::text::printable;
use tidegate_policy::endpoint::Endpoint;
use tidegate_policy::verdict::Mode;

use super::actions;
use super::args::Choice;
use super::block::{Block, Wanted};
use super::find::{Repository, WorkflowFile};
use super::item::Items;
use super::policy::{Governed, Listed, Policy, State};
use super::workflow::{Does, Job, Workflow};

/// Jobs of one policy at most, those of called workflows included.
const MAX_JOBS: usize = 1_000;
/// Jobs that are other workflows' jobs, of one workflow: where each is a job in the end there are as many of these, and
/// those between.
const MAX_CALLS: usize = 4 * MAX_JOBS;
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
    pub(super) fn policy(&self, file: &'a WorkflowFile, items: &mut Items) -> Outcome {
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
            items,
            governed: Vec::new(),
            blocks: Vec::new(),
            unknown: Vec::new(),
            unhardened: Vec::new(),
            calls: 0,
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
struct Sum<'a, 'i> {
    union: &'i Union<'a>,
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

impl<'a> Sum<'a, '_> {
    fn workflow(&mut self, place: &Place<'a>) {
        let workflows = self.union.workflows;
        let Some(workflow) = workflows.get(place.file) else {
            return;
        };
        for job in &workflow.jobs {
            if self.governed.len() == MAX_JOBS || self.calls == MAX_CALLS {
                return self.too_many(place.line.unwrap_or(job.line));
            }
            match &job.does {
                Does::Steps { blocks, actions } => self.job(place, job, (blocks, actions)),
                Does::Calls(called) => self.call(place, job, called),
            }
        }
    }

    fn too_many(&mut self, line: u32) {
        let why = format!("there are more than {MAX_JOBS} jobs, those of called workflows included");
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
        let hidden = actions
            .iter()
            .find_map(|action| actions::hidden(&repository.root, action));
        if let Some((action, at)) = &hidden {
            let why = format!(
                "its Harden-Runner step is inside of a local action, {}{action}:{at}, which is not read",
                repository.shown
            );
            self.items
                .lost(line, &what, &why, "write to the policy what that step allows");
            self.unknown.push(format!("{what} is hardened by {action}"));
        }
        let file = format!("{}.github/workflows/{}", repository.shown, place.file);
        for block in blocks {
            if !block.complete {
                self.unknown.push(format!("not all that {what} allows is known"));
            }
            self.blocks.push((label.clone(), file.clone(), block));
        }
        let state = State::of(blocks, hidden.is_some());
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
                let label = printable(label);
                if let Some(one) = listed
                    .get_mut(known)
                    .filter(|one| !one.jobs.iter().any(|job| **job == label))
                {
                    one.jobs.push(label.into_owned());
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

    /// Switches that every step has. One that only some have would change the others.
    fn flags(&mut self) -> Vec<&'static str> {
        let mut counted: BTreeMap<&'static str, (usize, u32)> = BTreeMap::new();
        for (flag, line) in self.blocks.iter().flat_map(|(_, _, block)| &block.flags) {
            counted.entry(flag).or_insert((0, *line)).0 += 1;
        }
        let all = self.blocks.len();
        for (flag, (count, _)) in counted.iter().filter(|(_, (count, _))| *count < all) {
            let why =
                format!("{count} of {all} Harden-Runner steps have it, and a policy has it for all of them");
            self.items.lost(
                0,
                flag,
                &why,
                "write it to the policy if it is to hold for every job",
            );
        }
        counted.retain(|_, (count, _)| *count == all);
        counted.into_keys().collect()
    }

    /// What the policy does. Reasons against blocking are told whenever somebody wants it to.
    fn mode(&mut self) -> Mode {
        let unhardened = self.governed.iter().filter(|one| one.state == State::Unhardened);
        let audited = self.governed.iter().filter(|one| one.state == State::Audit);
        let mut reasons: Vec<String> = audited.map(|one| format!("job {} audits", one.job)).collect();
        reasons.extend(unhardened.map(|one| format!("job {} has no Harden-Runner step", one.job)));
        let unknown = self
            .blocks
            .iter()
            .filter(|(_, _, block)| block.mode == Wanted::Unknown);
        reasons.extend(unknown.map(|(label, _, _)| format!("what job {label} does is not known")));
        reasons.append(&mut self.unknown);
        let blocks = self
            .blocks
            .iter()
            .any(|(_, _, block)| block.mode == Wanted::Block);
        let why = shortened(&mut reasons);
        match self.union.choice {
            Choice::Audit => Mode::Audit,
            Choice::Keep if reasons.is_empty() => Mode::Block,
            Choice::Keep if !blocks => Mode::Audit,
            Choice::Keep => {
                let todo = "see to it, then write `egress-policy: block` to the policy";
                self.items.changed(
                    0,
                    "egress-policy: audit",
                    &format!("it was block for some, but {why}"),
                    todo,
                );
                Mode::Audit
            }
            Choice::Block if reasons.is_empty() => Mode::Block,
            Choice::Block => {
                let todo = "simulate the policy before it is attached";
                self.items
                    .changed(0, "egress-policy: block", &format!("by --mode, but {why}"), todo);
                Mode::Block
            }
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

/// The first few, each once.
fn shortened(reasons: &mut Vec<String>) -> String {
    const SHOWN: usize = 4;
    let mut seen = HashSet::new();
    reasons.retain(|reason| seen.insert(reason.clone()));
    let mut text = reasons.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if let Some(more) = reasons.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let _ = write!(text, "; and {more} more reasons");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn workflow(text: &str) -> Workflow {
        Workflow::read(text, &mut Items::new("x.yml")).unwrap()
    }

    /// Twenty jobs that each call the next file's twenty, ten files deep, and at the end nothing: 20^10 ways.
    #[test]
    fn workflows_that_only_call_each_other_come_to_an_end() {
        const FILES: [&str; 11] = [
            "0.yml", "1.yml", "2.yml", "3.yml", "4.yml", "5.yml", "6.yml", "7.yml", "8.yml", "9.yml",
            "10.yml",
        ];
        let mut read = BTreeMap::new();
        for (one, next) in FILES.iter().zip(&FILES[1..]) {
            let mut text = "on: push\njobs:\n".to_owned();
            for n in 0..20 {
                let _ = writeln!(text, "  j{n}: {{uses: {LOCAL}{next}}}");
            }
            if *one == "0.yml" {
                text.push_str("  own: {steps: [{uses: step-security/harden-runner@v2}]}\n");
            }
            read.insert(*one, workflow(&text));
        }
        read.insert("10.yml", workflow("on: workflow_call\njobs: {}\n"));
        let file = WorkflowFile {
            path: "0.yml".into(),
            name: "0.yml".into(),
            shown: "0.yml".into(),
        };
        let repository = Repository {
            owner: "acme".into(),
            name: "web".into(),
            root: "/nonexistent".into(),
            shown: String::new(),
            workflows: Vec::new(),
        };
        let union = Union {
            repository: &repository,
            workflows: &read,
            choice: Choice::Keep,
        };
        let mut items = Items::new("0.yml");
        assert!(matches!(union.policy(&file, &mut items), Outcome::Unhardened));
        let told = format!("{:?}", items.kept);
        assert!(told.contains("more than 1000 jobs"), "{told}");
    }
}
