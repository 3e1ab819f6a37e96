//! Documents of other programs as trees with places: the reader below the readers of policies, for those who find
//! policies in what is none (`tidegate import` reads workflow files).
//!
//! Owns nothing but the door: one YAML parser, one set of bounds, one way to a place in the text. It knows no keys.

use super::diagnostic::Diagnostic;
use super::place::Source;
use crate::endpoint::list::Placed;

pub use super::node::{Node, Value};

/// A document that was read.
pub struct Tree<'a> {
    source: Source<'a>,
    root: Node,
}

impl<'a> Tree<'a> {
    /// Reads a document that is nested at most `deepest` levels. Aliases may repeat no more than a small multiple of the
    /// text; how long the text may be is the caller's to bound. The error is ready to be shown.
    pub fn read(text: &'a str, deepest: usize) -> Result<Self, Diagnostic> {
        let source = Source::new(text);
        let root = super::node::read(&source, deepest)?;
        Ok(Self { source, root })
    }

    /// The document.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// The characters of a text, each where it stands; none for what is no text.
    pub fn characters(&self, node: &Node) -> Vec<Placed> {
        self.source.characters(node)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_document_of_somebody_else_is_a_tree_with_places() {
        let text = "\
on: push
jobs:
  build: &job
    with:
      list: >
        a
        b
  test: *job
";
        let tree = Tree::read(text, 32).unwrap();
        let get = |node: &Node, key: &str| {
            let Value::Map(entries) = &node.value else {
                panic!("{key} in {node:?}");
            };
            let named = entries
                .iter()
                .find(|(name, _)| name.value == Value::Text(key.into()));
            named.map(|(_, value)| value.clone()).unwrap()
        };
        for job in ["build", "test"] {
            let list = get(&get(&get(&get(tree.root(), "jobs"), job), "with"), "list");
            let b = tree.characters(&list).into_iter().find(|one| one.char == 'b');
            assert_eq!(
                b.map(|b| (b.line, b.column)),
                Some((7, 9)),
                "an alias stands where its anchor does"
            );
        }
    }

    #[test]
    fn depth_is_bounded_by_who_reads() {
        let deep = format!("{}x{}", "[".repeat(20), "]".repeat(20));
        assert!(Tree::read(&deep, 32).is_ok());
        let error = Tree::read(&deep, 8).map(|_| ()).unwrap_err();
        assert!(error.message.contains("nested too deeply"), "{}", error.message);
    }
}
