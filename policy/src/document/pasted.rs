//! Policies as they are pasted out of workflows: bare, below `with:`, or as a whole step.

use super::diagnostic::Severity;
use super::keys;
use super::node::{Node, Value};
use super::reader::Reader;

const ACTION: &str = "step-security/harden-runner";

/// A mapping's entries.
type Map = [(Node, Node)];

/// The policy's own mapping: the root, or the `with:` of a pasted step. `None` after an error.
pub(super) fn unwrapped<'n>(reader: &mut Reader<'_>, root: &'n Node) -> Option<&'n Map> {
    let step = match &root.value {
        Value::List(items) => match items.as_slice() {
            [only] if entry(only, "with").is_some() => only,
            _ => root,
        },
        Value::Map(_) | Value::Null | Value::Bool(_) | Value::Number | Value::Text(_) => root,
    };
    let Value::Map(map) = &step.value else {
        let kind = root.value.kind();
        let message = format!("expected a policy, a mapping with keys like `egress-policy`, found {kind}");
        reader.error(root, message, None);
        return None;
    };
    if let Some((key, with)) = entry(step, "with") {
        return inside_of_step(reader, map, key, with);
    }
    if let Some((key, _)) = entry(step, "jobs").or_else(|| entry(step, "steps")) {
        let hint = "paste the `with:` block of its Harden-Runner step";
        reader.error(key, "this is a workflow", Some(hint.into()));
        return None;
    }
    Some(map)
}

fn inside_of_step<'n>(reader: &mut Reader<'_>, step: &Map, key: &Node, with: &'n Node) -> Option<&'n Map> {
    for (name, key, value) in reader.entries(step) {
        match &value.value {
            Value::Text(action) if name == "uses" && !is_harden_runner(action) => {
                reader.error(
                    value,
                    "only the `with:` of a Harden-Runner step is a policy",
                    None,
                );
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number
            | Value::Text(_)
            | Value::List(_)
            | Value::Map(_) => {
                if !keys::STEP.contains(&name) {
                    reader.unknown_key(key, name, keys::STEP);
                }
            }
        }
    }
    let Value::Map(inner) = &with.value else {
        let message = format!("expected a mapping below `with`, found {}", with.value.kind());
        reader.error(key, message, None);
        return None;
    };
    let message = "the `with:` block of a step is read as the policy";
    reader.report(Severity::Note, key, message, None);
    Some(inner)
}

fn entry<'n>(node: &'n Node, name: &str) -> Option<(&'n Node, &'n Node)> {
    let Value::Map(map) = &node.value else { return None };
    let found = map
        .iter()
        .find(|(key, _)| matches!(&key.value, Value::Text(text) if text == name));
    found.map(|(key, value)| (key, value))
}

fn is_harden_runner(action: &str) -> bool {
    action
        .strip_prefix(ACTION)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
}
