//! Keys of a mapping: found, given another value, added, taken away.

use tidegate_policy::document::Lockdown;
use tidegate_policy::document::tree::{Node, Tree, Value};

use super::List;
use super::splice::{Change, Text, indent};

/// A key with its value.
pub(super) fn entry<'n>(map: &'n [(Node, Node)], name: &str) -> Option<(&'n Node, &'n Node)> {
    let named = |key: &Node| matches!(&key.value, Value::Text(text) if text == name);
    map.iter()
        .find(|(key, _)| named(key))
        .map(|(key, value)| (key, value))
}

/// The mapping at a key; empty when there is none.
pub(super) fn map_at<'n>(map: &'n [(Node, Node)], name: &str) -> &'n [(Node, Node)] {
    match entry(map, name) {
        Some((
            _,
            Node {
                value: Value::Map(inner),
                ..
            },
        )) => inner,
        Some(_) | None => &[],
    }
}

/// Ways to give a key one word as its value.
pub(super) fn set_word(
    text: &Text<'_>,
    tree: &Tree<'_>,
    map: &[(Node, Node)],
    name: &'static str,
    word: &str,
) -> Vec<Vec<Change>> {
    let Some((_, value)) = entry(map, name) else {
        let line = format!("{name}: {word}");
        return new_key(
            text,
            tree,
            map,
            &New {
                block: vec![line.clone()],
                flow: line,
                first: true,
            },
        );
    };
    let chars = tree.characters(value);
    let range = match (chars.first(), chars.last()) {
        (Some(first), Some(last)) => {
            let end = text.offset(last.line, last.column + 1);
            text.offset(first.line, first.column).zip(end)
        }
        // `true` and `false` are no texts.
        _ => text.offset(value.line, value.column).map(|start| {
            let rest = text.from(start);
            let length = rest
                .find(|c: char| !c.is_ascii_alphanumeric())
                .unwrap_or(rest.len());
            (start, start + length)
        }),
    };
    let change = range
        .filter(|(start, end)| start <= end)
        .map(|(start, end)| Change {
            range: start..end,
            with: word.to_owned(),
        });
    change.into_iter().map(|change| vec![change]).collect()
}

/// An entry to be, in the two styles of mappings.
struct New {
    /// Its lines, not indented.
    block: Vec<String>,
    /// In braces.
    flow: String,
    /// It belongs to the head of the document.
    first: bool,
}

/// Ways to add a list to a mapping.
pub(super) fn new_list(
    text: &Text<'_>,
    tree: &Tree<'_>,
    map: &[(Node, Node)],
    list: List,
    words: &[String],
) -> Vec<Vec<Change>> {
    let key = list.key();
    let quoted = |word: &String| format!("\"{word}\"");
    match list {
        List::Allowed | List::Denied => {
            let mut block = vec![format!("{key}: >")];
            block.extend(words.iter().map(|word| format!("  {word}")));
            let flow = format!("{key}: \"{}\"", words.join(" "));
            new_key(
                text,
                tree,
                map,
                &New {
                    block,
                    flow,
                    first: false,
                },
            )
        }
        List::Use => {
            let line = format!("{key}: [{}]", words.join(", "));
            new_key(
                text,
                tree,
                map,
                &New {
                    block: vec![line.clone()],
                    flow: line,
                    first: true,
                },
            )
        }
        List::Detections => {
            let flow = format!(
                "{key}: [{}]",
                words.iter().map(quoted).collect::<Vec<_>>().join(", ")
            );
            let mut block = vec![format!("{key}:")];
            block.extend(words.iter().map(|word| format!("  - {word}")));
            let inner = map_at(map, "lockdown-mode");
            let last = inner.last().map_or(0, |(key, value)| last_line(tree, key, value));
            let mut ways: Vec<Vec<Change>> = Vec::new();
            if let Some((first, _)) = inner.first() {
                let before = column_indent(text, first);
                let lines: Vec<String> = block.iter().map(|line| format!("{before}{line}")).collect();
                ways.extend(text.insert_after(last, &lines).map(|change| vec![change]));
            }
            ways.extend(new_key(
                text,
                tree,
                inner,
                &New {
                    block,
                    flow,
                    first: true,
                },
            ));
            ways
        }
    }
}

/// Ways to add the lockdown section.
pub(super) fn new_lockdown(
    text: &Text<'_>,
    tree: &Tree<'_>,
    map: &[(Node, Node)],
    lockdown: &Lockdown,
) -> Vec<Vec<Change>> {
    let names: Vec<&str> = lockdown.detections.iter().map(|one| one.as_str()).collect();
    let mut block = vec![
        "lockdown-mode:".to_owned(),
        format!("  enabled: {}", lockdown.enabled),
    ];
    if !names.is_empty() {
        block.push("  detections:".to_owned());
        block.extend(names.iter().map(|name| format!("    - {name}")));
    }
    let flow = format!(
        "lockdown-mode: {{enabled: {}, detections: [{}]}}",
        lockdown.enabled,
        names.join(", ")
    );
    new_key(
        text,
        tree,
        map,
        &New {
            block,
            flow,
            first: false,
        },
    )
}

/// At the end of the document, behind its mode, before its first key; or in braces before the first one.
fn new_key(text: &Text<'_>, tree: &Tree<'_>, map: &[(Node, Node)], new: &New) -> Vec<Vec<Change>> {
    let Some((first, _)) = map.first() else {
        return Vec::new();
    };
    let before = column_indent(text, first);
    let lines: Vec<String> = new.block.iter().map(|line| format!("{before}{line}")).collect();
    let end = (before.is_empty() && !new.first).then(|| text.append(&lines));
    let mode = entry(map, "egress-policy").and_then(|(key, value)| {
        let line = last_line(tree, key, value);
        text.insert_after(line, &lines)
    });
    let head = text.insert_before(first.line, &lines);
    let flow = text.offset(first.line, first.column).map(|at| Change {
        range: at..at,
        with: format!("{}, ", new.flow),
    });
    let last = map.last().map(|(key, value)| last_line(tree, key, value));
    let behind = last.and_then(|line| text.insert_after(line, &lines));
    let (before, after) = if new.first { (head, behind) } else { (behind, head) };
    let ways = end.into_iter().chain(mode).chain(before).chain(after).chain(flow);
    ways.map(|change| vec![change]).collect()
}

/// What stands before a key, as white space.
fn column_indent(text: &Text<'_>, key: &Node) -> String {
    let line = text.line(key.line);
    let white = indent(line);
    let column = (key.column as usize).saturating_sub(1);
    if white.chars().count() == column {
        white.to_owned()
    } else {
        " ".repeat(column)
    }
}

/// The last line that anything of an entry stands on.
fn last_line(tree: &Tree<'_>, key: &Node, value: &Node) -> u32 {
    let inside = match &value.value {
        Value::Map(map) => map.iter().map(|(key, value)| last_line(tree, key, value)).max(),
        Value::List(items) => items.iter().map(|item| last_line(tree, key, item)).max(),
        Value::Text(_) => tree.characters(value).iter().map(|one| one.line).max(),
        Value::Null | Value::Bool(_) | Value::Number => None,
    };
    inside.unwrap_or_default().max(value.line).max(key.line)
}

/// Ways to take a key away, with all that stands below it.
pub(super) fn without_key(
    text: &Text<'_>,
    tree: &Tree<'_>,
    map: &[(Node, Node)],
    name: &str,
) -> Vec<Vec<Change>> {
    let Some((key, value)) = entry(map, name) else {
        return Vec::new();
    };
    let last = last_line(tree, key, value);
    // A bracket that closes something may stand on a line of its own.
    let ends = [last, last + 1, last + 2];
    let ways = ends
        .into_iter()
        .filter_map(|end| text.without_lines(key.line, end));
    ways.map(|change| vec![change]).collect()
}
