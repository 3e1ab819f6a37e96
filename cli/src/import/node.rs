//! Looking into a tree of YAML: keys, texts, lists.

use tidegate_policy::document::tree::{Node, Value};

/// A mapping's entries; none for what is no mapping.
pub(super) fn entries(node: &Node) -> &[(Node, Node)] {
    match &node.value {
        Value::Map(entries) => entries,
        Value::Null | Value::Bool(_) | Value::Number | Value::Text(_) | Value::List(_) => &[],
    }
}

/// A list's items; none for what is no list.
pub(super) fn items(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        Value::Null | Value::Bool(_) | Value::Number | Value::Text(_) | Value::Map(_) => &[],
    }
}

/// A text.
pub(super) fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) => Some(text),
        Value::Null | Value::Bool(_) | Value::Number | Value::List(_) | Value::Map(_) => None,
    }
}

/// A key's value, and the key: the first of that name.
pub(super) fn entry<'n>(node: &'n Node, name: &str) -> Option<(&'n Node, &'n Node)> {
    let named = |(key, _): &&(Node, Node)| text(key) == Some(name);
    entries(node).iter().find(named).map(|(key, value)| (key, value))
}

/// A key's value.
pub(super) fn value<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    entry(node, name).map(|(_, value)| value)
}

/// `true` or `false`, quoted or not.
pub(super) fn boolean(node: &Node) -> Option<bool> {
    match &node.value {
        Value::Bool(value) => Some(*value),
        Value::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::Text(text) if text.is_empty() || text.eq_ignore_ascii_case("false") => Some(false),
        Value::Null => Some(false),
        Value::Text(_) | Value::Number | Value::List(_) | Value::Map(_) => None,
    }
}
