//! One workflow file: its jobs, and what their Harden-Runner steps say.
//!
//! Pure. What reusable workflows and local actions add is [`super::union`]'s to find; here it is only named.

use tidegate_policy::document::tree::{Node, Tree, Value};

use super::block::Block;
use super::disk::MEND;
use super::item::Items;
use super::node::{entries, entry, items as list_items, text, value};

/// Deepest nesting that is read; workflows go about ten levels deep.
pub(super) const DEEPEST: usize = 32;
const ACTION: &str = "step-security/harden-runner";
const NAME: &str = "/harden-runner";

/// A workflow.
#[derive(Clone, Debug)]
pub(super) struct Workflow {
    /// Nothing but other workflows starts it.
    pub(super) only_called: bool,
    pub(super) jobs: Vec<Job>,
}

/// A job.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) line: u32,
    pub(super) does: Does,
}

/// What a job does.
#[derive(Clone, Debug)]
pub(super) enum Does {
    /// Steps: those of Harden-Runner, and the actions of its own repository that it uses.
    Steps {
        blocks: Vec<Block>,
        actions: Vec<String>,
    },
    /// It calls a workflow.
    Calls(String),
}

impl Workflow {
    /// Reads a file. `None` when nothing of it can be read; the items say why.
    pub(super) fn read(text: &str, items: &mut Items) -> Option<Self> {
        let tree = match Tree::read(text, DEEPEST) {
            Ok(tree) => tree,
            Err(diagnostic) => {
                let todo = diagnostic.hint.as_deref().unwrap_or(MEND);
                items.lost(diagnostic.line, "the whole file", &diagnostic.message, todo);
                return None;
            }
        };
        let Some((key, jobs)) = entry(tree.root(), "jobs") else {
            items.lost(0, "the whole file", "it has no `jobs`: it is no workflow", MEND);
            return None;
        };
        if !matches!(jobs.value, Value::Map(_)) {
            let why = format!("expected jobs, found {}", jobs.value.kind());
            items.lost(key.line, "jobs", &why, MEND);
            return None;
        }
        let read = entries(jobs)
            .iter()
            .filter_map(|(key, job)| Job::read(&tree, key, job, items));
        let jobs = read.collect();
        Some(Self {
            only_called: is_only_called(tree.root()),
            jobs,
        })
    }

    /// True when a step of it says something.
    pub(super) fn has_blocks(&self) -> bool {
        self.jobs.iter().any(|job| match &job.does {
            Does::Steps { blocks, .. } => !blocks.is_empty(),
            Does::Calls(_) => false,
        })
    }
}

impl Job {
    fn read(tree: &Tree<'_>, key: &Node, job: &Node, items: &mut Items) -> Option<Self> {
        let id = text(key).filter(|id| *id != "<<");
        let (Some(id), Value::Map(_)) = (id, &job.value) else {
            let what = text(key).unwrap_or("a job");
            items.lost(
                key.line,
                what,
                "it is no job: expected a name and a mapping",
                MEND,
            );
            return None;
        };
        if let Some((merge, _)) = entry(job, "<<") {
            items.lost(
                merge.line,
                "<<",
                "GitHub has no merge keys; what it merges is not read",
                MEND,
            );
        }
        let does = match value(job, "uses").and_then(text) {
            Some(called) => Does::Calls(called.to_owned()),
            None => steps(tree, job, items),
        };
        Some(Self {
            id: id.to_owned(),
            line: key.line,
            does,
        })
    }
}

fn steps(tree: &Tree<'_>, job: &Node, items: &mut Items) -> Does {
    let (mut blocks, mut actions) = (Vec::new(), Vec::new());
    for step in value(job, "steps").map(list_items).unwrap_or_default() {
        let Some((at, uses)) = entry(step, "uses").and_then(|(key, uses)| Some((key.line, text(uses)?)))
        else {
            continue;
        };
        if uses.starts_with("./") {
            actions.push(uses.to_owned());
        } else if is_harden_runner(uses) {
            if let Some((condition, _)) = entry(step, "if") {
                let why = "the step runs only then; the policy always holds";
                items.note(
                    condition.line,
                    "if",
                    why,
                    "look whether the jobs are meant to be governed without it too",
                );
            }
            blocks.push(Block::read(tree, at, value(step, "with"), items));
        } else if named(uses).ends_with(NAME) {
            let why = "it is another action of that name, maybe a fork; what it is told is not read";
            items.lost(at, uses, why, "write to the policy what it allows");
        }
    }
    Does::Steps { blocks, actions }
}

/// The lines of Harden-Runner's steps in a composite action, and the local actions that it uses itself.
pub(super) fn composite(text: &str) -> Option<(Vec<u32>, Vec<String>)> {
    let tree = Tree::read(text, DEEPEST).ok()?;
    let steps = value(tree.root(), "runs").and_then(|runs| value(runs, "steps"))?;
    let (mut lines, mut actions) = (Vec::new(), Vec::new());
    for (key, uses) in list_items(steps).iter().filter_map(|step| entry(step, "uses")) {
        match self::text(uses) {
            Some(uses) if is_harden_runner(uses) => lines.push(key.line),
            Some(uses) if uses.starts_with("./") => actions.push(uses.to_owned()),
            Some(_) | None => {}
        }
    }
    Some((lines, actions))
}

/// An action's name: owner and repository compare without case.
fn named(uses: &str) -> String {
    let name = uses.split_once('@').map_or(uses, |(name, _)| name);
    name.trim().to_ascii_lowercase()
}

fn is_harden_runner(uses: &str) -> bool {
    named(uses) == ACTION
}

fn is_only_called(root: &Node) -> bool {
    let Some(on) = value(root, "on") else { return false };
    let events: Vec<Option<&str>> = match &on.value {
        Value::Text(event) => vec![Some(event)],
        Value::List(events) => events.iter().map(text).collect(),
        Value::Map(events) => events.iter().map(|(event, _)| text(event)).collect(),
        Value::Null | Value::Bool(_) | Value::Number => Vec::new(),
    };
    !events.is_empty() && events.iter().all(|event| *event == Some("workflow_call"))
}
