//! Diagnostics for people, in the manner of rustc: what, where, the line itself with a caret, a hint.

use std::fmt::Write as _;

use super::diagnostic::{Diagnostic, Severity};
use super::place::Source;

/// Widest part of a line that is shown; longer lines are cut around the caret.
const MAX_WIDTH: usize = 120;

/// How diagnostics are shown.
#[derive(Clone, Copy, Debug)]
pub struct Style<'a> {
    /// What to call the document.
    pub file: &'a str,
    /// With ANSI colours.
    pub colour: bool,
}

/// Shows all diagnostics about a text, each followed by an empty line, and a last line that counts them.
/// Nothing for none.
pub fn render_all(diagnostics: &[Diagnostic], text: &str, style: Style<'_>) -> String {
    let source = Source::new(text);
    let mut out = String::new();
    for one in diagnostics {
        push(&mut out, one, &source, style);
        out.push('\n');
    }
    if !diagnostics.is_empty() {
        let _ = writeln!(out, "{}: {}", style.file, summary(diagnostics));
    }
    out
}

/// Shows one diagnostic about a text.
pub fn render(diagnostic: &Diagnostic, text: &str, style: Style<'_>) -> String {
    let mut out = String::new();
    push(&mut out, diagnostic, &Source::new(text), style);
    out
}

/// `1 error, 2 warnings`.
pub fn summary(diagnostics: &[Diagnostic]) -> String {
    let counted = [Severity::Error, Severity::Warning, Severity::Note].map(|severity| {
        let count = diagnostics.iter().filter(|one| one.severity == severity).count();
        let plural = if count == 1 { "" } else { "s" };
        (count, format!("{count} {}{plural}", severity.as_str()))
    });
    let shown: Vec<String> = counted
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(_, text)| text)
        .collect();
    if shown.is_empty() {
        "nothing to say".into()
    } else {
        shown.join(", ")
    }
}

fn push(out: &mut String, one: &Diagnostic, source: &Source<'_>, style: Style<'_>) {
    let (strong, blue, reset) = match (style.colour, one.severity) {
        (false, _) => ("", "", ""),
        (true, Severity::Error) => ("\x1b[1;31m", "\x1b[1;34m", "\x1b[0m"),
        (true, Severity::Warning) => ("\x1b[1;33m", "\x1b[1;34m", "\x1b[0m"),
        (true, Severity::Note) => ("\x1b[1;32m", "\x1b[1;34m", "\x1b[0m"),
    };
    let line = one.line.to_string();
    let gutter = " ".repeat(line.len());
    let (shown, caret, width) = window(source.line(one.line), one.column as usize, one.length as usize);
    let _ = writeln!(out, "{strong}{}{reset}: {}", one.severity.as_str(), one.message);
    let _ = writeln!(
        out,
        "{gutter}{blue}-->{reset} {}:{}:{}",
        style.file, one.line, one.column
    );
    let _ = writeln!(out, "{gutter} {blue}|{reset}");
    let _ = writeln!(out, "{blue}{line} |{reset} {shown}");
    let _ = writeln!(
        out,
        "{gutter} {blue}|{reset} {}{strong}{}{reset}",
        " ".repeat(caret),
        "^".repeat(width)
    );
    if let Some(hint) = &one.hint {
        let _ = writeln!(out, "{gutter} {blue}={reset} help: {hint}");
    }
}

/// The part of a line to show, where the caret begins in it, and how long it is. A character takes one
/// cell: tabs become spaces and what a terminal would act on becomes `·`.
fn window(line: &str, column: usize, length: usize) -> (String, usize, usize) {
    let start = column.saturating_sub(1);
    let total = line.chars().count();
    let from = if total <= MAX_WIDTH {
        0
    } else {
        start.saturating_sub(MAX_WIDTH / 3)
    };
    let safe = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() || is_format(c) => '·',
        c => c,
    };
    let mut shown = String::new();
    let mut caret = start - from;
    if from > 0 {
        shown.push('…');
        caret += 1;
    }
    shown.extend(line.chars().skip(from).take(MAX_WIDTH).map(safe));
    if total > from + MAX_WIDTH {
        shown.push('…');
    }
    let room = shown.chars().count().saturating_sub(caret);
    (shown, caret, length.min(room).max(1))
}

/// Characters that reorder or hide others (bidirectional controls, zero width).
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
