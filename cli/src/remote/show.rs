//! Answers for people: tables, pairs, JSON, a bar for long work.
//!
//! Owns that nothing from a server reaches the terminal as a control sequence.

use std::io::{IsTerminal, stderr};

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::client::List;
use crate::out::{print, say};

/// Steps that are worth a bar.
const LONG: usize = 20;

/// A text without what a terminal would act on; line feeds and tabs stay.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => '·',
            // They reorder what stands around them.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '·',
            c => c,
        })
        .collect()
}

/// A text for one cell of a table.
pub(crate) fn cell(text: &str) -> String {
    if text.is_empty() {
        return "-".into();
    }
    plain(text).replace(['\n', '\t'], " ")
}

/// Several texts for one cell, the first few of them.
pub(crate) fn cells(texts: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<&str> = texts.iter().take(SHOWN).map(String::as_str).collect();
    match texts.len().saturating_sub(SHOWN) {
        0 => cell(&shown.join(" ")),
        more => cell(&format!("{} +{more}", shown.join(" "))),
    }
}

/// How things are counted.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Prints a table; `nothing` is said of an empty one.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>, nothing: &str) {
    if rows.is_empty() {
        return say!("{nothing}");
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for line in table.lines() {
        say!("{}", line.trim_end());
    }
}

/// Prints names and what stands for them, one a line.
pub(crate) fn pairs(pairs: &[(&str, String)]) {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in pairs {
        say!("{name:width$}  {}", cell(value));
    }
}

/// Prints JSON.
pub(crate) fn json(value: &Value) {
    say!("{value:#}");
}

/// Prints a text that ends with a line feed or gets one.
pub(crate) fn text(text: &str) {
    print(format_args!(
        "{}{}",
        plain(text),
        if text.ends_with('\n') { "" } else { "\n" }
    ));
}

/// Says on stderr that a list goes on.
pub(crate) fn say_more(list: &List) {
    if list.more {
        eprintln!("… and more; --limit shows them");
    }
}

/// A bar on a terminal for work of so many steps; elsewhere, and for short work, it is not seen.
pub(crate) fn bar(steps: usize, quiet: bool, what: &'static str) -> ProgressBar {
    if steps <= LONG || quiet || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len}");
    let bar = ProgressBar::new(steps as u64).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A count on a terminal for work whose end is not known.
pub(crate) fn counter(quiet: bool, what: &'static str) -> ProgressBar {
    if quiet || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let counter = ProgressBar::no_length().with_message(what);
    match ProgressStyle::with_template("{spinner} {pos} {msg}") {
        Ok(style) => counter.with_style(style),
        Err(_) => counter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_text_moves_no_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\r\u{202e}c\nd\te\u{7f}"), "a·[2Jb··c\nd\te·");
        assert_eq!(cell("two\nlines"), "two lines");
        assert_eq!(cell(""), "-");
    }

    #[test]
    fn many_scopes_are_counted() {
        let scopes: Vec<String> = (0..5).map(|n| format!("org:{n}")).collect();
        assert_eq!(cells(&scopes[..2]), "org:0 org:1");
        assert_eq!(cells(&scopes), "org:0 org:1 org:2 +2");
        assert_eq!(cells(&[]), "-");
    }
}
