//! One file of a synced directory: `{name, attach, policy}`, and the policy's text as it is written there.
//!
//! Pure. The text is what the store keeps and people read again, so it is cut out of the file, never written anew from
//! what a YAML reader understood. How, by what follows `policy:` at the beginning of a line:
//!
//! - nothing or a comment: the lines below, up to the next key at the beginning of a line, each without the indentation
//!   of the first one that is not a comment. Comments at the very beginning of lines stay when more of the policy
//!   follows them; else they belong to what comes next.
//! - `|`: the block text that a YAML reader finds there.
//! - something else (`{egress-policy: audit}`): the text from there on, up to the next key.
//!
//! What was cut out is read and compared with what the file says as a whole: an alias to something outside, or a way of
//! writing that isn't foreseen here, is refused, never guessed at.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Value;
use tidegate_policy::job::Scope;
use unicode_normalization::UnicodeNormalization as _;

use crate::remote::document::Document;

/// A policy as a file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PolicyFile {
    /// Its name, in Unicode's form C, as the store has names.
    pub(crate) name: String,
    /// Line of the name.
    pub(crate) name_line: u32,
    /// Where it is to be attached, in the canonical spelling, each with its line.
    pub(crate) scopes: BTreeMap<String, u32>,
    /// Its text, and where that stands.
    pub(crate) document: Document,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub(crate) struct FileError {
    /// The file.
    pub(crate) file: String,
    /// The line, from 1.
    pub(crate) line: u32,
    /// Why.
    pub(crate) reason: String,
}

/// What people write.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    #[serde(default)]
    attach: Option<Vec<String>>,
    policy: Value,
}

impl PolicyFile {
    /// Reads a file.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, FileError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let wrong = |line: u32, reason: String| FileError {
            file: file.to_owned(),
            line,
            reason,
        };
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let raw: Raw = serde_yaml::from_str(text)
            .map_err(|error| wrong(line_of_error(&lines, &error), error.to_string()))?;
        let name_line = line_of_key(&lines, "name").unwrap_or(1);
        let mut scopes = BTreeMap::new();
        for written in raw.attach.unwrap_or_default() {
            let line = line_of_scope(&lines, &written);
            let scope = canonical(&written).map_err(|reason| wrong(line, reason))?;
            if scopes.insert(scope, line).is_some() {
                return Err(wrong(line, format!("{written:?} stands here twice")));
            }
        }
        let key = line_of_key(&lines, "policy").ok_or_else(|| {
            wrong(
                1,
                "write `policy:` at the beginning of a line, so that its text can be told from the rest"
                    .into(),
            )
        })?;
        let cut = cut_out(&lines, key as usize - 1, &raw.policy).map_err(|reason| wrong(key, reason))?;
        Ok(Self {
            name: raw.name.nfc().collect(),
            name_line,
            scopes,
            document: Document {
                file: file.to_owned(),
                text: text.to_owned(),
                ..cut
            },
        })
    }
}

/// A scope that a policy can be attached to, as the store spells it.
fn canonical(written: &str) -> Result<String, String> {
    match written.parse::<Scope>() {
        Ok(scope) => Ok(scope.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Line of a key at the beginning of a line, from 1.
fn line_of_key(lines: &[&str], key: &str) -> Option<u32> {
    let at = lines.iter().position(|line| after_key(line, key).is_some())?;
    Some(at as u32 + 1)
}

/// The line that an error is about. A key that stands there twice is found by itself: the reader's place is the
/// mapping's, not the key's.
fn line_of_error(lines: &[&str], error: &serde_yaml::Error) -> u32 {
    let text = error.to_string();
    let twice = text
        .split_once("duplicate field `")
        .and_then(|(_, rest)| rest.split('`').next());
    let again = twice.and_then(|key| lines.iter().rposition(|line| after_key(line, key).is_some()));
    let place = error.location().map_or(1, |place| place.line() as u32);
    again.map_or(place, |at| at as u32 + 1)
}

/// What follows a key at the beginning of a line.
fn after_key<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let rest = line
        .strip_prefix(key)?
        .trim_start_matches([' ', '\t'])
        .strip_prefix(':')?;
    (rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])).then_some(rest)
}

/// Line that a scope is written on, for messages: the first one from `attach:` on that has its text.
fn line_of_scope(lines: &[&str], written: &str) -> u32 {
    let start = line_of_key(lines, "attach").unwrap_or(1);
    let mut from = lines.iter().skip(start as usize - 1);
    from.position(|line| line.contains(written))
        .map_or(start, |at| start + at as u32)
}

/// A line that holds nothing, or only a comment.
fn is_idle(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// The policy's text and where it stands, from the line of its key on. File and whole text are the caller's to fill in.
fn cut_out(lines: &[&str], key: usize, whole: &Value) -> Result<Document, String> {
    let head = after_key(lines[key], "policy").unwrap_or_default();
    let body = &lines[key + 1..end_of_block(lines, key + 1)];
    if matches!(whole, Value::Null) {
        return Err("`policy` is empty".into());
    }
    let begins = head.trim();
    if begins.starts_with('|') {
        return literal(body, key, whole);
    }
    if !whole.is_mapping() {
        return Err("`policy` is a mapping, or its text as a block after `policy: |`".into());
    }
    let cut = if is_idle(begins) {
        block(body, key)
    } else {
        inline(lines[key], head, body, key)
    };
    match serde_yaml::from_str::<Value>(&cut.yaml) {
        Ok(alone) if alone == *whole => Ok(cut),
        Ok(_) | Err(_) => Err(
            "the policy's text can't be told from the rest: write it as an indented block below `policy:`, without \
             aliases to what stands outside of it"
                .into(),
        ),
    }
}

/// Where the lines end that belong to the key before them: at the next line that begins at its very beginning. Idle
/// lines before that one belong to it, unless they are indented comments.
fn end_of_block(lines: &[&str], from: usize) -> usize {
    let next = lines[from..]
        .iter()
        .position(|line| !is_idle(line) && indentation(line) == 0);
    let mut end = next.map_or(lines.len(), |next| from + next);
    let is_others = |line: &str| line.trim().is_empty() || (is_idle(line) && indentation(line) == 0);
    while end > from && is_others(lines[end - 1]) {
        end -= 1;
    }
    end
}

fn block(body: &[&str], key: usize) -> Document {
    // Empty lines above belong to nobody.
    let above = body.iter().take_while(|line| line.trim().is_empty()).count();
    let body = &body[above..];
    let indent = body
        .iter()
        .find(|line| !is_idle(line))
        .map_or(0, |line| indentation(line));
    let yaml = body
        .iter()
        .map(|line| &line[indentation(line).min(indent)..])
        .collect();
    placed(yaml, key + 1 + above, (indent, indent))
}

fn inline(line: &str, head: &str, body: &[&str], key: usize) -> Document {
    let text = head.trim_start_matches([' ', '\t']);
    let before = line[..line.len() - text.len()].chars().count();
    placed(text.to_owned() + &body.concat(), key, (before, 0))
}

/// A block text: a YAML reader has its words; the place follows from the lines.
fn literal(body: &[&str], key: usize, whole: &Value) -> Result<Document, String> {
    let Value::String(yaml) = whole else {
        return Err("`policy: |` has a tag; leave it out".into());
    };
    let indent = body
        .iter()
        .find(|line| !line.trim().is_empty())
        .map_or(0, |line| indentation(line));
    Ok(placed(yaml.clone(), key + 1, (indent, indent)))
}

/// A text that begins on the line with this index.
fn placed(yaml: String, first: usize, (first_indent, indent): (usize, usize)) -> Document {
    Document {
        file: String::new(),
        text: String::new(),
        yaml,
        first_line: first as u32 + 1,
        first_indent: first_indent as u32,
        indent: indent as u32,
    }
}

#[cfg(test)]
mod tests;
