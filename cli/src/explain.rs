//! `tidegate explain`: the verdict for a name and why, from a policy file or from a running gateway.
//! Exit 0 when every target is permitted, 4 when one is refused.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tidegate_gateway::policies::compile_file;
use tidegate_policy::explain::{Explanation, Target, explain};
use tidegate_policy::job::Scope;
use tidegate_policy::rulebook::{Governing, Rulebook, World};
use tidegate_policy::verdict::Verdict;

use crate::Usage;
use crate::args::Explain;
use crate::out::say;

/// Explains every target.
pub(crate) fn run(args: &Explain) -> anyhow::Result<ExitCode> {
    let targets: Vec<Target> = args
        .targets
        .iter()
        .map(|text| Target::parse(text).map_err(|error| Usage(error.to_string()).into()))
        .collect::<anyhow::Result<_>>()?;
    let explanations = match (&args.policy, &args.job) {
        (Some(file), _) => from_file(file, &args.sets, &targets)?,
        (None, Some(job)) => from_gateway(args, job)?,
        (None, None) => return Err(Usage("name a policy with --policy, or a job with --job".into()).into()),
    };
    if args.json {
        say!("{}", serde_json::to_string_pretty(&explanations)?);
    } else {
        for explanation in &explanations {
            print(explanation);
        }
    }
    let refused = explanations.iter().any(|one| one.verdict != Verdict::Permit);
    Ok(if refused {
        ExitCode::from(4)
    } else {
        ExitCode::SUCCESS
    })
}

fn from_file(file: &Path, sets: &[String], targets: &[Target]) -> anyhow::Result<Vec<Explanation>> {
    let sets = sets
        .iter()
        .map(|text| match text.split_once('=') {
            Some((name, file)) => Ok((name.to_owned(), file.into())),
            None => Err(Usage(format!("{text:?}: write a set as NAME=FILE")).into()),
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let policy = compile_file(file, &sets).map_err(Usage)?;
    let scope = Scope::Lease(policy.meta.name.clone());
    let governing = Governing::Policy(Arc::new(policy), scope);
    let book = Rulebook {
        world: Arc::new(World::default()),
        governing,
        host: None,
    };
    Ok(targets
        .iter()
        .map(|target| Explanation {
            scope: None,
            ..explain(&book, target)
        })
        .collect())
}

fn from_gateway(args: &Explain, job: &str) -> anyhow::Result<Vec<Explanation>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let config = crate::gateway::read_config(&args.config.config)?;
    runtime
        .block_on(tidegate_gateway::status::explain(
            &config.state_dir,
            job,
            &args.targets,
        ))
        .context("can't ask the gateway")
}

fn print(one: &Explanation) {
    say!("{}: {}", one.target, one.verdict.as_str());
    if let Some(reason) = &one.reason {
        say!(
            "  reason   {reason}: {}",
            one.meaning.as_deref().unwrap_or_default()
        );
    }
    if let Some(rule) = &one.rule {
        let line = one.line.map_or_else(String::new, |line| format!(", line {line}"));
        say!(
            "  rule     {rule} ({}{line})",
            one.rule_source.as_deref().unwrap_or("policy")
        );
    }
    if let Some(nearest) = &one.nearest {
        say!("  nearest  {nearest}");
    }
    if let Some(policy) = &one.policy {
        let version = one.policy_version.filter(|version| *version > 0);
        let version = version.map_or_else(String::new, |version| format!(" version {version}"));
        let scope = one
            .scope
            .as_ref()
            .map_or_else(String::new, |scope| format!(", from {scope}"));
        say!("  policy   {policy}{version}, {}{scope}", one.mode.as_str());
    }
}
