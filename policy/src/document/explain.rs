//! The YAML parser's failures in words that help, with hints for the mistakes that policies invite.

use super::diagnostic::{Diagnostic, Place};
use super::place::Source;

/// Turns a failure into a diagnostic.
pub(super) fn explain(source: &Source<'_>, error: &serde_yaml::Error) -> Diagnostic {
    let full = error.to_string();
    if is_second_document(error) {
        let line = source.second_document().unwrap_or(1);
        let place = Place {
            length: 3,
            ..source.clamp(line, 1)
        };
        let diagnostic = Diagnostic::error(place, "a second document begins here").token("---");
        return diagnostic.hint(Some("one file holds one policy"));
    }
    if let Some(offset) = full
        .rsplit_once(" at position ")
        .and_then(|(_, offset)| offset.parse().ok())
    {
        return unreadable(source, offset, &full);
    }
    let (line, column) = error
        .location()
        .map_or((1, 1), |at| (at.line() as u32, at.column() as u32));
    let place = source.clamp(line, column);
    let here = source.line(place.line);
    let special = if full.contains("alias") || full.contains("anchor") {
        star(here, place.line)
    } else {
        None
    };
    special
        .or_else(|| tab(here, place.line))
        .or_else(|| quote(source, &full))
        .unwrap_or_else(|| {
            let (place, word) = source.word(place.line, place.column);
            let diagnostic = Diagnostic::error(place, format!("this is not YAML: {}", problem(&full)));
            diagnostic.token(word).hint(hint(here, &full))
        })
}

/// True for the failure that has no place: the stream goes on after the document.
pub(super) fn is_second_document(error: &serde_yaml::Error) -> bool {
    error.location().is_none() && error.to_string().contains("more than one document")
}

/// A byte that no YAML document may have, by its offset.
fn unreadable(source: &Source<'_>, offset: usize, full: &str) -> Diagnostic {
    let before = source.text().get(..offset).unwrap_or_default();
    let line = before.matches('\n').count() as u32 + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() as u32 + 1;
    Diagnostic::error(
        source.clamp(line, column),
        format!("this is not YAML: {}", problem(full)),
    )
}

/// `*.example.com` without quotes. The parser may stop within it; what to quote begins at the star.
fn star(here: &str, line: u32) -> Option<Diagnostic> {
    let starts = here.match_indices('*').map(|(at, _)| at);
    let at = starts.into_iter().find(|at| {
        here.get(..*at)
            .is_some_and(|before| before.ends_with([' ', '[', ',', '\t']))
    })?;
    let rest = here.get(at..)?;
    let end = rest.find([' ', '\t', ',', ']']).unwrap_or(rest.len());
    let star = rest.get(..end)?;
    let column = here.get(..at)?.chars().count() as u32 + 1;
    let place = Place {
        line,
        column,
        length: star.chars().count() as u32,
    };
    let diagnostic = Diagnostic::error(place, "YAML reads an unquoted `*` as an alias");
    Some(diagnostic.token(star).hint(Some(format!("quote it: \"{star}\""))))
}

fn tab(here: &str, line: u32) -> Option<Diagnostic> {
    let at = here
        .chars()
        .take_while(|c| c.is_whitespace())
        .position(|c| c == '\t')?;
    let place = Place {
        line,
        column: at as u32 + 1,
        length: 1,
    };
    Some(Diagnostic::error(place, "YAML indents with spaces, here is a tab").token("\t"))
}

/// A quote that is never closed: said where it opens, not where the document ends.
fn quote(source: &Source<'_>, full: &str) -> Option<Diagnostic> {
    let (_, context) = full.split_once("while scanning a quoted scalar")?;
    let (_, place) = context.rsplit_once(" at line ")?;
    let (line, column) = place.split_once(" column ")?;
    let (place, word) = source.word(line.parse().ok()?, column.parse().ok()?);
    Some(Diagnostic::error(Place { length: 1, ..place }, "this quote is never closed").token(word))
}

/// The parser's words without places and without the path of keys in front.
fn problem(full: &str) -> &str {
    let text = full.split(" at line ").next().unwrap_or_default();
    let text = text.split(" at position ").next().unwrap_or_default();
    match text.split_once(": ") {
        Some((path, rest)) if !path.contains(' ') => rest,
        Some(_) | None => text,
    }
}

fn hint(here: &str, full: &str) -> Option<&'static str> {
    if here.contains("[:") || here.contains("]:") {
        Some("quote entries that begin with a bracket: \"[2001:db8::1]:443\"")
    } else if full.contains("mapping values are not allowed") {
        Some("is a quote, a `|` or a line break missing before this?")
    } else {
        None
    }
}
