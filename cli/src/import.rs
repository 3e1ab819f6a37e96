//! `tidegate import harden-runner`: policies out of the workflow files of a tree of repositories.
//!
//! Owns the way from a directory to a directory: find repositories ([`find`]), read their workflows ([`workflow`]), make one
//! policy of each ([`union`]), write them as `tidegate policy sync` wants them ([`mod@write`]), and tell everything that could
//! not be kept ([`report`]). Nothing is guessed, nothing is left out silently: what is not in a policy is in the report.
//! It talks to nobody; what it reads is a stranger's and bounded ([`disk`]).

mod actions;
pub(crate) mod args;
mod block;
mod disk;
mod find;
mod item;
mod list;
mod markdown;
mod names;
mod node;
mod policy;
mod report;
mod union;
mod workflow;
mod write;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;

use crate::out::say;
use actions::Actions;
use args::{HardenRunner, Import, ImportAction};
use find::Repository;
use item::Items;
use names::Names;
use policy::Policy;
use report::Report;
use union::{Outcome, Union};
use workflow::Workflow;

/// Runs `tidegate import`.
pub(crate) fn run(args: &Import) -> anyhow::Result<ExitCode> {
    match &args.action {
        ImportAction::HardenRunner(args) => harden_runner(args),
    }
}

/// Imports. What can't be kept is no failure: it is reported.
fn harden_runner(args: &HardenRunner) -> anyhow::Result<ExitCode> {
    write::check(&args.output, args.force)?;
    let found = find::find(&args.dir, args.owner.as_deref())?;
    if found.repositories.is_empty() && found.items.is_empty() {
        bail!(
            "{} has no workflow files: expected DIR/OWNER/REPO/.github/workflows/*.yml, DIR/REPO/.github/workflows/*.yml, or a \
             repository as DIR",
            args.dir.display()
        );
    }
    let mut report = Report::new(found.items);
    let mut names = Names::default();
    for repository in &found.repositories {
        import(repository, args, &mut names, &mut report);
    }
    write::all(&args.output, &report)?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        tell(args, &report);
    }
    Ok(ExitCode::SUCCESS)
}

/// Imports one repository.
fn import(repository: &Repository, args: &HardenRunner, names: &mut Names, report: &mut Report) {
    report.repositories += 1;
    let mut read: BTreeMap<&str, Workflow> = BTreeMap::new();
    let mut told: Vec<Items> = Vec::new();
    for file in &repository.workflows {
        report.workflows += 1;
        let mut items = Items::new(&file.shown);
        match disk::text(&file.path).map(|text| Workflow::read(&text, &mut items)) {
            Ok(Some(workflow)) => {
                read.insert(&file.name, workflow);
            }
            Ok(None) => {}
            Err(error) => items.lost(0, "the whole file", &error.to_string(), disk::MEND),
        }
        told.push(items);
    }
    let union = Union {
        repository,
        workflows: &read,
        choice: args.mode,
    };
    let mut actions = Actions::new(&repository.root);
    for (file, mut items) in repository.workflows.iter().zip(told) {
        if read.contains_key(file.name.as_str()) {
            match union.policy(file, &mut actions, &mut items) {
                Outcome::Policy(policy) => named(*policy, names, report, &mut items),
                Outcome::Unhardened => report.without.push(file.shown.clone()),
                Outcome::Told => {}
            }
        }
        report.take(items);
    }
}

/// Gives a policy its name and takes it, when the policy crate does.
fn named(mut policy: Policy, names: &mut Names, report: &mut Report, items: &mut Items) {
    policy.name = names.give(&policy.owner, &policy.repo, &policy.workflow);
    match policy.check() {
        Ok(()) => report.policies.push(policy),
        Err(why) => items.lost(
            0,
            "the whole policy",
            &why,
            "make its list shorter, or write the policy by hand",
        ),
    }
}

fn tell(args: &HardenRunner, report: &Report) {
    say!("{}", report.summary());
    let output = args.output.display();
    say!("read {output}/{} for what was not kept, then:", write::REPORT);
    for owner in report.owners() {
        say!("  tidegate policy sync {output}/{owner} --owner {owner} --dry-run");
    }
}
