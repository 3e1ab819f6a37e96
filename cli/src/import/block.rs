//! One Harden-Runner step's `with:`: what it allows, what it does, and what of it can't be kept.
//!
//! Pure. The keys are those of the action's `action.yml` (v2); an input that is not written has the default there, so no
//! `egress-policy` is block. Values of `api-key` and `token` are never shown: people write secrets there.

use std::collections::{BTreeMap, HashSet};

use tidegate_policy::document::keys::nearest;
use tidegate_policy::document::tree::{Node, Tree, Value};
use tidegate_policy::endpoint::Endpoint;
use tidegate_policy::endpoint::list::Token;
use tidegate_policy::endpoint::parse::{Role, parse_endpoint};
use tidegate_policy::endpoint::problem::Severity;

use super::item::Items;
use super::list::{is_expression, split, was_misread};
use super::node::{boolean, entries, items as list_items, text};

/// Switches that a policy keeps for host agents.
const FLAGS: [&str; 4] = [
    "disable-telemetry",
    "disable-sudo",
    "disable-sudo-and-containers",
    "disable-file-monitoring",
];
/// Every input of the action.
const KEYS: [&str; 12] = [
    "allowed-endpoints",
    "egress-policy",
    "token",
    "disable-telemetry",
    "disable-sudo",
    "disable-sudo-and-containers",
    "disable-file-monitoring",
    "exempt-files",
    "policy",
    "api-key",
    "use-policy-store",
    "deploy-on-self-hosted-vm",
];
const STORED: &str = "look the policy up where it is kept, and write it to a policy of the same scope";
const EXPRESSION: &str = "it is an expression: its value is known only when the workflow runs";

/// What a step does about the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Block,
    Audit,
    /// Only the running workflow, or a policy store, knows.
    Unknown,
}

/// An endpoint that it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    pub(super) endpoint: Endpoint,
    pub(super) line: u32,
}

/// A step, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) line: u32,
    pub(super) mode: Wanted,
    pub(super) allowed: Vec<Allowed>,
    /// Everything that it allows is in `allowed`.
    pub(super) complete: bool,
    /// Its policy is kept in a policy store.
    pub(super) stored: bool,
    /// Switches that are written as `true`.
    pub(super) flags: BTreeMap<&'static str, u32>,
}

impl Block {
    /// Reads a step's `with:`; the step begins on `line`.
    pub(super) fn read(tree: &Tree<'_>, line: u32, with: Option<&Node>, items: &mut Items) -> Self {
        let block = Self {
            line,
            mode: Wanted::Block,
            allowed: Vec::new(),
            complete: true,
            stored: false,
            flags: BTreeMap::new(),
        };
        let mut reader = Reader { tree, items, block };
        match with {
            None => {}
            Some(with) if matches!(with.value, Value::Map(_) | Value::Null) => reader.keys(with),
            Some(with) => reader.not_known(with.line.max(line), "with", "expected a mapping of inputs"),
        }
        let mut block = reader.block;
        if block.stored && block.mode == Wanted::Block {
            // What the store says takes the place of what the step says, and of what it leaves out.
            block.mode = Wanted::Unknown;
        }
        block
    }
}

struct Reader<'a, 't> {
    tree: &'a Tree<'t>,
    items: &'a mut Items,
    block: Block,
}

impl Reader<'_, '_> {
    fn keys(&mut self, with: &Node) {
        let mut seen: HashSet<String> = HashSet::new();
        for (key, value) in entries(with) {
            let Some(written) = text(key) else {
                self.not_known(key.line, "a key below `with`", "it is no text");
                continue;
            };
            // GitHub compares the names of inputs without case.
            let name = written.to_ascii_lowercase();
            if seen.contains(&name) {
                let why = "it stands here twice: GitHub refuses such a workflow, and only the first is read";
                self.not_known(key.line, written, why);
                continue;
            }
            self.key(&name, key, value);
            seen.insert(name);
        }
    }

    fn key(&mut self, name: &str, key: &Node, value: &Node) {
        let line = key.line;
        match name {
            "egress-policy" => self.mode(line, value),
            "allowed-endpoints" => self.endpoints(line, value),
            "policy" => self.store(line, name, text(value).is_none_or(|text| !text.is_empty())),
            "use-policy-store" => self.store(line, name, boolean(value) != Some(false)),
            // Without them nothing of the network's part is lost.
            "token" | "api-key" => {}
            "exempt-files" => self.items.note(
                line,
                name,
                "it is about files on the runner, which a gateway does not see; it is not kept",
                "leave it to an agent on the host",
            ),
            "deploy-on-self-hosted-vm" => self.items.note(
                line,
                name,
                "the gateway needs nothing on the runner; it is not kept",
                "leave it out once no agent is wanted on the host",
            ),
            "<<" => self.not_known(line, "<<", "GitHub has no merge keys; what it merges is not read"),
            _ => match FLAGS.into_iter().find(|flag| *flag == name) {
                Some(flag) => self.flag(line, flag, value),
                None => self.unknown_key(line, name),
            },
        }
    }

    fn mode(&mut self, line: u32, value: &Node) {
        self.block.mode = match text(value) {
            Some("block") => Wanted::Block,
            Some("audit") => Wanted::Audit,
            Some(other) if is_expression(other) => {
                self.items.lost(
                    line,
                    &format!("egress-policy: {other}"),
                    EXPRESSION,
                    "write `block` or `audit` to the policy",
                );
                Wanted::Unknown
            }
            other => {
                let found = other.map_or(value.value.kind(), |text| text);
                self.items.lost(
                    line,
                    &format!("egress-policy: {found}"),
                    "it is neither `block` nor `audit`: Harden-Runner fails on it",
                    "write `block` or `audit` to the policy",
                );
                Wanted::Unknown
            }
        };
    }

    fn store(&mut self, line: u32, name: &str, wanted: bool) {
        if wanted && !self.block.stored {
            self.block.stored = true;
            self.block.complete = false;
            self.items.lost(
                line,
                name,
                "the policy of this step is kept in a policy store, not in the workflow",
                STORED,
            );
        }
    }

    fn flag(&mut self, line: u32, flag: &'static str, value: &Node) {
        match boolean(value) {
            Some(true) => {
                self.block.flags.insert(flag, line);
            }
            Some(false) => {}
            None => {
                let why = match text(value) {
                    Some(text) if is_expression(text) => EXPRESSION,
                    Some(_) | None => "it is neither `true` nor `false`",
                };
                self.items
                    .lost(line, flag, why, "write it to the policy where it is to hold");
            }
        }
    }

    fn unknown_key(&mut self, line: u32, name: &str) {
        let near = nearest(name, KEYS).map(|near| format!("it probably means `{near}`"));
        self.items.lost(
            line,
            name,
            "Harden-Runner has no such input and ignores it",
            near.as_deref().unwrap_or("leave it out of the workflow"),
        );
    }

    fn endpoints(&mut self, line: u32, value: &Node) {
        match &value.value {
            Value::Null => {}
            Value::Text(_) => self.list(value),
            Value::List(_) => {
                let why = "GitHub takes no lists as inputs; its entries are read";
                self.items.changed(
                    line,
                    "allowed-endpoints",
                    why,
                    "write it as one text in the workflow",
                );
                for item in list_items(value) {
                    self.list(item);
                }
            }
            Value::Bool(_) | Value::Number | Value::Map(_) => {
                let why = format!("expected endpoints, found {}", value.value.kind());
                self.not_known(line, "allowed-endpoints", &why);
            }
        }
    }

    fn list(&mut self, node: &Node) {
        let Some(written) = text(node) else {
            let why = format!("expected an endpoint, found {}", node.value.kind());
            return self.not_known(node.line, "allowed-endpoints", &why);
        };
        let tokens = split(self.tree.characters(node));
        if was_misread(written) && tokens.len() > 1 {
            self.items.changed(
                node.line,
                "allowed-endpoints",
                "Harden-Runner splits at spaces only and misread this list; from now on every entry counts",
                "look whether all of them are meant",
            );
        }
        for token in tokens {
            self.endpoint(&token);
        }
    }

    fn endpoint(&mut self, token: &Token) {
        if is_expression(&token.text) {
            self.block.complete = false;
            let todo = "write to the policy what it stands for";
            return self.items.lost(token.line, &token.text, EXPRESSION, todo);
        }
        match parse_endpoint(&token.text, Role::Allowed) {
            Ok((endpoint, notices)) => {
                for notice in notices.iter().filter(|one| one.kind.severity() > Severity::Note) {
                    let todo = notice.hint.as_deref().unwrap_or("look whether it is meant");
                    self.items
                        .changed(token.line, &token.text, &notice.kind.to_string(), todo);
                }
                self.block.allowed.push(Allowed {
                    endpoint,
                    line: token.line,
                });
            }
            Err(error) => {
                self.block.complete = false;
                let todo = error
                    .hint
                    .as_deref()
                    .unwrap_or("write to the policy what was meant");
                self.items.lost(token.line, &token.text, &error.to_string(), todo);
            }
        }
    }

    /// Something that would have said more: whatever it allows is not known.
    fn not_known(&mut self, line: u32, what: &str, why: &str) {
        self.block.complete = false;
        self.items
            .lost(line, what, why, "write to the policy what was meant");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fmt::Write as _;

    use super::*;
    use crate::import::disk::MAX_FILE;

    /// As many inputs as a file can hold: none is missed, and the last one counts like the first.
    #[test]
    fn a_file_full_of_inputs_is_read_to_its_end() {
        let mut text = String::from("egress-policy: audit\n");
        let mut inputs = 0;
        while (text.len() as u64) < MAX_FILE - 100 {
            let _ = writeln!(text, "k{inputs}: x");
            inputs += 1;
        }
        text.push_str("K0: again\nEgress-Policy: block\nallowed-endpoints: a.test:443\n");
        let tree = Tree::read(&text, 32).unwrap();
        let mut items = Items::new("x.yml");
        let block = Block::read(&tree, 1, Some(tree.root()), &mut items);
        assert_eq!(
            (block.mode, block.allowed.len(), block.complete),
            (Wanted::Audit, 1, false),
            "the first of a name counts, whatever its case"
        );
        assert_eq!(items.kept.len() + items.more, inputs + 2);
    }
}
