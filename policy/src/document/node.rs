//! A YAML document as a tree whose scalars know where they stand.
//!
//! `serde_yaml` is the only parser: values and places come from the same events, so that what is shown
//! and what is enforced can't differ. It tells places only in errors. So a scalar's visitor stores its
//! value and then *fails*; the list or mapping above catches the failure, which by then carries the place
//! (the event is consumed, reading goes on). Failures without a stored value are real ones.

use std::cell::Cell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::diagnostic::Diagnostic;
use super::explain::{explain, is_second_document};
use super::place::Source;

/// Deepest nesting of a policy; the deepest that one has is list, step, `with`, `lockdown-mode`, `detections`.
pub(super) const MAX_DEPTH: usize = 8;
/// Longest key. Keys are part of the parser's error texts, of which there is one a scalar.
const MAX_KEY: usize = 256;
/// Bytes of scalars, as a multiple of the document: aliases may repeat little.
const EXPANSION: usize = 4;

/// A node. Lists and mappings stand where their first scalar stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it holds.
    pub value: Value,
    /// From 1; 0 when the node is an empty list or mapping.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// It has a local tag (`!x`).
    pub tagged: bool,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any number: no document that is read here has one that counts.
    Number,
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in order; the same key may stand there twice.
    Map(Vec<(Node, Node)>),
}

impl Value {
    fn is_scalar(&self) -> bool {
        match self {
            Self::Null | Self::Bool(_) | Self::Number | Self::Text(_) => true,
            Self::List(_) | Self::Map(_) => false,
        }
    }

    /// For messages: what stands there.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

impl Node {
    fn unplaced(value: Value) -> Self {
        let first = match &value {
            Value::List(items) => items.first(),
            Value::Map(entries) => entries.first().map(|(key, _)| key),
            Value::Null | Value::Bool(_) | Value::Number | Value::Text(_) => None,
        };
        let (line, column) = first.map_or((0, 0), |node| (node.line, node.column));
        Self {
            value,
            line,
            column,
            tagged: false,
        }
    }
}

/// Reads one document, nested at most so deeply; the error is ready to be shown.
pub(super) fn read(source: &Source<'_>, deepest: usize) -> Result<Node, Diagnostic> {
    let budget = Cell::new(source.text().len() * EXPANSION + 1024);
    let mut slot = None;
    let seed = Seed {
        slot: &mut slot,
        budget: &budget,
        depth: 0,
        deepest,
        key: false,
    };
    let outcome = seed.deserialize(serde_yaml::Deserializer::from_str(source.text()));
    match (outcome, slot) {
        (Ok(()), Some(node)) => Ok(node),
        (Ok(()), None) => Ok(Node::unplaced(Value::Null)),
        (Err(error), Some(mut node)) if node.value.is_scalar() && !is_second_document(&error) => {
            (node.line, node.column) = place_of(&error);
            Ok(node)
        }
        (Err(error), _) => Err(explain(source, &error)),
    }
}

/// Where a node goes, and what may still be spent.
struct Seed<'a> {
    slot: &'a mut Option<Node>,
    budget: &'a Cell<usize>,
    depth: usize,
    deepest: usize,
    key: bool,
}

impl Seed<'_> {
    /// Stores a scalar and fails, so that the parser tells the place.
    fn scalar<E: Error>(self, value: Value) -> Result<(), E> {
        let bytes = if let Value::Text(text) = &value {
            text.len()
        } else {
            0
        };
        if self.key && bytes > MAX_KEY {
            return Err(E::custom(format_args!("a key is longer than {MAX_KEY} bytes")));
        }
        self.spend(1 + bytes)?;
        *self.slot = Some(Node::unplaced(value));
        Err(E::custom("placed"))
    }

    fn spend<E: Error>(&self, cost: usize) -> Result<(), E> {
        let left = self.budget.get().checked_sub(cost);
        self.budget
            .set(left.ok_or_else(|| E::custom("aliases repeat more than the document holds"))?);
        Ok(())
    }

    fn below<'b>(&self, slot: &'b mut Option<Node>, key: bool) -> Seed<'b>
    where
        Self: 'b,
    {
        Seed {
            slot,
            budget: self.budget,
            depth: self.depth + 1,
            deepest: self.deepest,
            key,
        }
    }
}

/// A child node out of its slot: placed by its failure when it is a scalar.
fn child<E: Error>(outcome: Result<(), E>, slot: Option<Node>) -> Result<Node, E> {
    match (outcome, slot) {
        (Ok(()), slot) => Ok(slot.unwrap_or_else(|| Node::unplaced(Value::Null))),
        (Err(error), Some(mut node)) if node.value.is_scalar() => {
            (node.line, node.column) = place_of(&error);
            Ok(node)
        }
        (Err(error), _) => Err(error),
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > self.deepest {
            return Err(D::Error::custom("nested too deeply"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a document")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.scalar(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.scalar(Value::Number)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.scalar(Value::Number)
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<(), E> {
        self.scalar(Value::Number)
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<(), E> {
        self.scalar(Value::Number)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.scalar(Value::Number)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.scalar(Value::Text(value.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.scalar(Value::Null)
    }

    /// An empty document.
    fn visit_none<E: Error>(self) -> Result<(), E> {
        *self.slot = Some(Node::unplaced(Value::Null));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let mut items = Vec::new();
        loop {
            self.spend(1)?;
            let mut slot = None;
            let outcome = match access.next_element_seed(self.below(&mut slot, false)) {
                Ok(None) => break,
                Ok(Some(())) => Ok(()),
                Err(error) => Err(error),
            };
            items.push(child(outcome, slot)?);
        }
        *self.slot = Some(Node::unplaced(Value::List(items)));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let mut entries = Vec::new();
        loop {
            self.spend(1)?;
            let mut slot = None;
            let outcome = match access.next_key_seed(self.below(&mut slot, true)) {
                Ok(None) => break,
                Ok(Some(())) => Ok(()),
                Err(error) => Err(error),
            };
            let key = child(outcome, slot)?;
            let mut slot = None;
            let outcome = access.next_value_seed(self.below(&mut slot, false));
            entries.push((key, child(outcome, slot)?));
        }
        *self.slot = Some(Node::unplaced(Value::Map(entries)));
        Ok(())
    }

    /// A local tag: what it tags is read, so that the parser stays in step, and marked.
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        let (_, variant) = access.variant::<IgnoredAny>()?;
        let inner = Seed {
            slot: &mut *self.slot,
            budget: self.budget,
            depth: self.depth + 1,
            deepest: self.deepest,
            key: self.key,
        };
        let outcome = variant.newtype_variant_seed(inner);
        if let Some(node) = self.slot {
            node.tagged = true;
        }
        outcome
    }
}

/// Reads ` at line L column C` off the end of an error's text; absent means the very beginning.
fn place_of(error: &impl fmt::Display) -> (u32, u32) {
    let text = error.to_string();
    let place = text
        .rsplit_once(" at line ")
        .and_then(|(_, place)| place.split_once(" column "));
    place
        .and_then(|(line, column)| Some((line.parse().ok()?, column.parse().ok()?)))
        .unwrap_or((1, 1))
}
