//! Lists of words in every style that YAML has for them: items with dashes, in brackets, folded and literal texts, plain
//! and quoted ones.

use std::ops::Range;

use tidegate_policy::document::tree::{Node, Tree, Value};
use tidegate_policy::endpoint::list::{Placed as Char, split_placed};

use super::List;
use super::splice::{Change, Text, indent};

/// A word of a list and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) list: List,
    /// The spelling that it is known by.
    pub(super) canonical: String,
    /// As written.
    pub(super) text: String,
    pub(super) line: u32,
    pub(super) column: u32,
}

/// The words of a list that has no endpoints.
pub(super) fn tokens(tree: &Tree<'_>, value: &Node) -> Vec<Placed> {
    let texts: Vec<&Node> = match &value.value {
        Value::List(items) => items.iter().collect(),
        Value::Text(_) => vec![value],
        Value::Null | Value::Bool(_) | Value::Number | Value::Map(_) => Vec::new(),
    };
    let words = texts
        .into_iter()
        .flat_map(|node| split_placed(tree.characters(node)));
    let placed = words.map(|token| Placed {
        list: List::Detections,
        canonical: token.text.clone(),
        text: token.text,
        line: token.line,
        column: token.column,
    });
    placed.collect()
}

/// Ways to add words to a list that stands there.
pub(super) fn add(text: &Text<'_>, tree: &Tree<'_>, value: &Node, words: &[String]) -> Vec<Vec<Change>> {
    let ways = match &value.value {
        Value::List(items) => match items.last() {
            Some(last) => to_items(text, tree, last, words),
            None => to_empty(text, words),
        },
        Value::Text(_) => to_text(text, tree, value, words),
        Value::Null => below(text, value, words),
        Value::Bool(_) | Value::Number | Value::Map(_) => Vec::new(),
    };
    ways.into_iter().map(|change| vec![change]).collect()
}

/// The first and the last character that is no white space.
fn ends(tree: &Tree<'_>, node: &Node) -> Option<(Char, Char)> {
    let chars = tree.characters(node);
    let mut visible = chars.iter().filter(|one| !one.char.is_whitespace());
    let first = visible.next()?;
    Some((*first, *visible.next_back().unwrap_or(first)))
}

fn to_items(text: &Text<'_>, tree: &Tree<'_>, last: &Node, words: &[String]) -> Vec<Change> {
    let line = text.line(last.line);
    let end = ends(tree, last).map(|(_, end)| end);
    let mut ways = Vec::new();
    if line.trim_start_matches([' ', '\t']).starts_with("- ") {
        let (before, below) = (indent(line), end.map_or(last.line, |end| end.line));
        for style in Quotes::ALL {
            let lines: Vec<String> = words
                .iter()
                .map(|word| format!("{before}- {}", style.around(word)))
                .collect();
            ways.extend(text.insert_after(below, &lines));
        }
    }
    let Some(end) = end.and_then(|end| text.offset(end.line, end.column + 1)) else {
        return ways;
    };
    // Behind the quote that closes it.
    let end = end + usize::from(text.from(end).starts_with(['"', '\'']));
    for style in Quotes::ALL {
        let more: Vec<String> = words.iter().map(|word| style.around(word)).collect();
        let more = format!(", {}", more.join(", "));
        ways.push(Change {
            range: end..end,
            with: more,
        });
    }
    ways
}

/// `[]`, whichever there is: what becomes of another one is read again, and refused.
fn to_empty(text: &Text<'_>, words: &[String]) -> Vec<Change> {
    let quoted: Vec<String> = words.iter().map(|word| Quotes::Double.around(word)).collect();
    let with = format!("[{}]", quoted.join(", "));
    let whole = text.from(0);
    let brackets = whole.match_indices('[').filter_map(|(at, _)| {
        let inside = whole.get(at + 1..)?;
        let close = inside.find(']')?;
        inside
            .get(..close)?
            .trim()
            .is_empty()
            .then_some(at..at + close + 2)
    });
    brackets
        .take(8)
        .map(|range| Change {
            range,
            with: with.clone(),
        })
        .collect()
}

/// A key without a value.
fn below(text: &Text<'_>, value: &Node, words: &[String]) -> Vec<Change> {
    // It stands where its key does, or right behind it.
    let line = value.line.max(1);
    let mut ways = Vec::new();
    for at in [line, line.saturating_sub(1)] {
        let before = indent(text.line(at));
        for style in Quotes::ALL {
            let lines: Vec<String> = words
                .iter()
                .map(|word| format!("{before}  - {}", style.around(word)))
                .collect();
            ways.extend(text.insert_after(at, &lines));
        }
    }
    ways
}

fn to_text(text: &Text<'_>, tree: &Tree<'_>, value: &Node, words: &[String]) -> Vec<Change> {
    let Some(start) = text.offset(value.line, value.column) else {
        return Vec::new();
    };
    if is_block(text.from(start)) {
        return to_block(text, tree, value, words);
    }
    let Some((first, last)) = ends(tree, value) else {
        // Quotes with nothing between them.
        let with = words.join(" ");
        return vec![Change {
            range: start + 1..start + 1,
            with,
        }];
    };
    let comma = matches!(&value.value, Value::Text(text) if text.contains(','));
    let between = if comma { ", " } else { " " };
    let joined = words.join(between);
    let (behind, before) = (
        text.offset(last.line, last.column + 1),
        text.offset(first.line, first.column),
    );
    let behind = behind.map(|at| Change {
        range: at..at,
        with: format!("{between}{joined}"),
    });
    // Behind a comment inside of the text they would be a part of it.
    let before = before.map(|at| Change {
        range: at..at,
        with: format!("{joined}{between}"),
    });
    behind.into_iter().chain(before).collect()
}

/// `>` or `|`, perhaps behind an anchor.
fn is_block(from: &str) -> bool {
    let head = from.lines().next().unwrap_or_default();
    let sign = head.split_whitespace().find(|word| !word.starts_with(['&', '!']));
    sign.is_some_and(|sign| sign.starts_with(['>', '|']))
}

fn to_block(text: &Text<'_>, tree: &Tree<'_>, value: &Node, words: &[String]) -> Vec<Change> {
    let (below, before) = match ends(tree, value) {
        // The text is indented as its first line is.
        Some((first, last)) => (last.line, indent(text.line(first.line)).to_owned()),
        None => (value.line, format!("{}  ", indent(text.line(value.line)))),
    };
    let lines: Vec<String> = words.iter().map(|word| format!("{before}{word}")).collect();
    text.insert_after(below, &lines).into_iter().collect()
}

/// The line of a word, when nothing else stands there but a comment, which is about it.
pub(super) fn whole_line(text: &Text<'_>, token: &Placed) -> Option<Change> {
    let range = bytes(text, token)?;
    let line = text.range(token.line)?;
    let before = text.from(line.start).get(..range.start - line.start)?;
    let after = text.from(range.end).get(..line.end.checked_sub(range.end)?)?;
    let lead = before.trim_start();
    let lead = lead.strip_prefix('-').map_or(lead, str::trim_start);
    let rest = after
        .trim_start_matches(['"', '\''])
        .trim_start_matches([' ', '\t', ',']);
    let alone = matches!(lead, "" | "\"" | "'") && (rest.is_empty() || rest.starts_with('#'));
    if alone {
        text.without_lines(token.line, token.line)
    } else {
        None
    }
}

/// Ways to take a word out of its list: its line, or itself with what separates it from the others.
pub(super) fn without(text: &Text<'_>, token: &Placed) -> Vec<Vec<Change>> {
    let Some(bare) = bytes(text, token) else {
        return Vec::new();
    };
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let quote = text
        .from(bare.end)
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '\''));
    let quoted = quote.filter(|quote| text.before(bare.start).ends_with(*quote));
    let whole = quoted.map(|_| bare.start - 1..bare.end + 1);
    for range in whole.into_iter().chain([bare]) {
        let blank = |c: char| c == ' ' || c == '\t';
        let after = text.from(range.end);
        let spaces = after.len() - after.trim_start_matches(blank).len();
        let comma = after
            .get(spaces..)
            .filter(|rest| rest.starts_with(','))
            .map(|rest| {
                let tail = rest.get(1..).unwrap_or_default();
                spaces + 1 + (tail.len() - tail.trim_start_matches(blank).len())
            });
        let before = text.before(range.start);
        let trimmed = before.trim_end_matches(blank);
        let before_comma = trimmed
            .strip_suffix(',')
            .map(|rest| rest.trim_end_matches(blank).len());
        ranges.extend(comma.map(|more| range.start..range.end + more));
        ranges.extend(before_comma.map(|start| start..range.end));
        let (with_before, with_after) = (trimmed.len()..range.end, range.start..range.end + spaces);
        // At the end of a line nothing but the line's end is behind it.
        let is_last = after
            .get(spaces..)
            .is_none_or(|rest| rest.is_empty() || rest.starts_with(['\n', '\r']));
        ranges.extend(if is_last {
            [with_before, with_after]
        } else {
            [with_after, with_before]
        });
        ranges.push(range);
    }
    let line = whole_line(text, token);
    let parts = ranges.into_iter().map(|range| Change {
        range,
        with: String::new(),
    });
    line.into_iter().chain(parts).map(|change| vec![change]).collect()
}

/// The bytes of a word, when it stands there as it is.
fn bytes(text: &Text<'_>, token: &Placed) -> Option<Range<usize>> {
    let start = text.offset(token.line, token.column)?;
    text.from(start)
        .starts_with(&token.text)
        .then(|| start..start + token.text.len())
}

/// How an item is written.
#[derive(Clone, Copy)]
enum Quotes {
    None,
    Double,
}

impl Quotes {
    const ALL: [Self; 2] = [Self::None, Self::Double];

    /// Words have neither quotes nor backslashes.
    fn around(self, word: &str) -> String {
        match self {
            Self::None => word.to_owned(),
            Self::Double => format!("\"{word}\""),
        }
    }
}
