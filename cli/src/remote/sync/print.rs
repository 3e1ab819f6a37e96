//! A plan for people, in the manner of a diff.

use tidegate_control::diff::Diff;

use super::Sync;
use super::plan::{Plan, Step};
use crate::out::say;
use crate::remote::show;

/// Prints what will be done, step by step.
pub(super) fn plan(sync: &Sync<'_>, plan: &Plan) {
    for step in &plan.steps {
        line(step);
        if let Step::Update { policy } = step {
            difference(sync, policy);
        }
    }
    if !plan.kept.is_empty() {
        let kept = show::count(
            plan.kept.len() as u64,
            "policy has no file and stays",
            "policies have no file and stay",
        );
        say!("  {kept}: {}", show::cells(&plan.kept));
    }
    if plan.unchanged > 0 {
        say!(
            "  {} unchanged",
            show::count(plan.unchanged as u64, "policy", "policies")
        );
    }
}

/// One step on one line; what it takes from somebody begins with a minus.
fn line(step: &Step) {
    say!("{}", show::cell(&describe(step)));
}

/// What a step does.
pub(super) fn describe(step: &Step) -> String {
    let join =
        |scopes: &std::collections::BTreeSet<String>| scopes.iter().cloned().collect::<Vec<_>>().join(" ");
    match step {
        Step::Create { policy } => format!("+ create {policy}"),
        Step::Update { policy } => format!("~ update {policy}"),
        Step::Move { policy, from } => {
            let moved: Vec<String> = from
                .iter()
                .map(|(scope, holder)| format!("{scope} (from {holder})"))
                .collect();
            format!("~ move to {policy}: {}", moved.join(" "))
        }
        Step::Attach { policy, scopes } => format!("+ attach {policy}: {}", join(scopes)),
        Step::Detach { policy, scopes } => format!("- detach {policy}: {}", join(scopes)),
        Step::Delete { policy, scopes } if scopes.is_empty() => format!("- delete {policy}"),
        Step::Delete { policy, scopes } => format!("- delete {policy}, and detach it: {}", join(scopes)),
    }
}

fn difference(sync: &Sync<'_>, policy: &str) {
    let (Some(old), Some(new)) = (sync.present.get(policy), sync.files.get(policy)) else {
        return;
    };
    let diff = Diff::of(&old.yaml, &new.document.yaml);
    for line in diff.unified.lines() {
        say!("    {}", show::plain(line));
    }
    if diff.truncated {
        say!("    … and more");
    }
}

/// Prints what came of it.
pub(super) fn outcome(plan: &Plan, dry_run: bool) {
    match (plan.steps.len() as u64, dry_run) {
        (0, _) => say!("nothing to do"),
        (steps, true) => say!(
            "{} to do; this was a dry run",
            show::count(steps, "step", "steps")
        ),
        (steps, false) => say!("{} done", show::count(steps, "step", "steps")),
    }
}
