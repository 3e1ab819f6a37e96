//! `tidegate policy sync`: the policies of an owner become what the files of a directory say.
//!
//! Read everything, check everything, plan ([`mod@plan`]), show the plan, then do it ([`mod@run`]) step by step; what is wrong
//! with any file or document ends it before anything was changed. A failure in the middle says what was done and what
//! not; running again goes on from there, because the plan is made anew from what is.

mod directory;
mod file;
mod plan;
mod print;
mod run;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use serde_json::json;
use tidegate_control::document::CheckedPolicy;
use tidegate_control::model::{Apply, Policy};
use tidegate_policy::document::{MAX_BYTES, ParseOptions};

use super::args::policy::PolicySync;
use super::client::Client;
use super::publish::{Checked, Kind, check};
use super::show;
use file::PolicyFile;
use plan::{Plan, Present, Step, Wanted, plan};

/// What is to be done, with all that is known about it.
struct Sync<'a> {
    client: &'a Client,
    owner: &'a str,
    /// By name.
    files: BTreeMap<&'a str, &'a PolicyFile>,
    /// By name, as it was when the plan was made.
    present: BTreeMap<&'a str, &'a Policy>,
    json: bool,
}

/// Syncs, or says what would be done. A dry run succeeds whatever there is to do, unless something is wrong.
pub(super) async fn run(client: &Client, args: &PolicySync, json: bool) -> anyhow::Result<ExitCode> {
    let files = directory::read(&args.dir)?;
    if files.is_empty() && args.prune {
        let dir = args.dir.display();
        bail!(
            "{dir} has no policy file, and --prune would delete every policy of {}",
            args.owner.owner
        );
    }
    check_here(&files)?;
    let owner = args.owner.owner.as_str();
    let present: Vec<Policy> = client
        .list(&["orgs", owner, "policies"], &[], usize::MAX)
        .await?
        .read()?;
    let wanted: Vec<Wanted> = files.iter().map(wanted).collect();
    let plan = plan(
        &wanted,
        &present.iter().map(as_present).collect::<Vec<_>>(),
        args.prune,
    );
    let sync = Sync {
        client,
        owner,
        files: files.iter().map(|file| (file.name.as_str(), file)).collect(),
        present: present
            .iter()
            .map(|policy| (policy.name.as_str(), policy))
            .collect(),
        json,
    };
    if !json {
        print::plan(&sync, &plan);
    }
    sync.check_there(&plan).await?;
    if !args.dry_run {
        run::all(&sync, &plan).await?;
    }
    if json {
        show::json(&json!({"plan": plan, "applied": !args.dry_run}));
    } else {
        print::outcome(&plan, args.dry_run);
    }
    Ok(ExitCode::SUCCESS)
}

fn wanted(file: &PolicyFile) -> Wanted {
    Wanted {
        name: file.name.clone(),
        yaml: file.document.yaml.clone(),
        scopes: file.scopes.keys().cloned().collect(),
    }
}

fn as_present(policy: &Policy) -> Present {
    Present {
        name: policy.name.clone(),
        yaml: policy.yaml.clone(),
        scopes: policy.attachments.iter().cloned().collect(),
    }
}

/// Ends when a document has errors, before anybody was asked anything. What needs the control plane's endpoint sets is
/// checked there.
fn check_here(files: &[PolicyFile]) -> anyhow::Result<()> {
    let mut wrong = 0_u64;
    for file in files {
        let document = &file.document;
        if document.yaml.len() > MAX_BYTES {
            bail!(
                "{}: the policy is larger than {} MiB",
                document.file,
                MAX_BYTES >> 20
            );
        }
        if let Err(diagnostics) = CheckedPolicy::check(&document.yaml, &ParseOptions::default()) {
            eprint!(
                "{}",
                document.render(&tidegate_control::document::views(&diagnostics))
            );
            wrong += 1;
        }
    }
    refuse(wrong)
}

fn refuse(wrong: u64) -> anyhow::Result<()> {
    if wrong > 0 {
        let files = show::count(wrong, "file has errors", "files have errors");
        bail!("{files}; nothing was changed");
    }
    Ok(())
}

impl Sync<'_> {
    /// Ends when the control plane would not take a document that is about to be written.
    async fn check_there(&self, plan: &Plan) -> anyhow::Result<()> {
        let written = |step: &Step| match step {
            Step::Create { policy } | Step::Update { policy } => self.files.get(policy.as_str()).copied(),
            Step::Move { .. } | Step::Attach { .. } | Step::Detach { .. } | Step::Delete { .. } => None,
        };
        let changed: Vec<&PolicyFile> = plan.steps.iter().filter_map(written).collect();
        let bar = show::bar(changed.len(), self.json, "checking");
        let mut wrong = 0;
        for file in changed {
            let document = &file.document;
            let checked: Checked = check(self.client, self.owner, Kind::Policy(Apply::Now), &document.yaml)
                .await?
                .read()?;
            let said = document.render(&checked.diagnostics);
            bar.suspend(|| eprint!("{said}"));
            wrong += u64::from(!checked.ok);
            bar.inc(1);
        }
        bar.finish_and_clear();
        refuse(wrong)
    }
}
