//! Every command line that is shown to people is one: those of the README, and the examples in the help.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use clap::{Command, CommandFactory};

use super::*;

const README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"));

/// A line's words as a shell takes them, up to a comment, a redirection or the next command.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for char in line.chars() {
        match (quote, char) {
            (Some(open), _) if open == char => quote = None,
            (None, '\'' | '"') => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '#' | '>' | '|' | ';' | '&') if word.is_none() => break,
            (_, _) => word.get_or_insert_default().push(char),
        }
    }
    assert_eq!(quote, None, "a quote is left open: {line}");
    words.extend(word);
    words
}

/// What does not parse, of lines from one place.
fn wrong<'l>(place: &str, lines: impl Iterator<Item = &'l str>) -> Vec<String> {
    let parsed = lines.map(|line| (line, Cli::try_parse_from(words(line))));
    let failed = parsed.filter_map(|(line, read)| Some((line, read.err()?)));
    failed
        .map(|(line, error)| format!("{place}: {line}\n{error}"))
        .collect()
}

fn is_command(line: &&str) -> bool {
    line.starts_with("tidegate ")
}

#[test]
fn every_command_line_of_the_readme_is_one() {
    let blocks = README
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(is_command);
    let blocks: Vec<&str> = blocks.collect();
    // Between back ticks; every second piece of the text is.
    let inline: Vec<&str> = README.split('`').skip(1).step_by(2).filter(is_command).collect();
    assert!(blocks.len() > 10 && inline.len() > 5, "{blocks:?} {inline:?}");
    let mut wrong_ones = wrong("README.md", blocks.into_iter());
    // In a sentence a group of commands, or one without its arguments, is named by its words alone.
    let named = |line: &&str| !is_name(&words(line));
    wrong_ones.extend(wrong("README.md", inline.into_iter().filter(named)));
    assert!(wrong_ones.is_empty(), "{}", wrong_ones.join("\n"));
}

/// True for the bare name of a command.
fn is_name(words: &[String]) -> bool {
    let cli = Cli::command();
    let below = |command: Option<&'_ Command>, word: &str| command?.find_subcommand(word).cloned();
    let found = words
        .iter()
        .skip(1)
        .try_fold(cli, |command, word| below(Some(&command), word));
    found.is_some()
}

#[test]
fn every_example_of_the_help_is_a_command_line() {
    let (mut commands, mut examples, mut wrong_ones) = (vec![Cli::command()], 0, Vec::new());
    while let Some(command) = commands.pop() {
        let help = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let lines: Vec<&str> = help.lines().map(str::trim_start).filter(is_command).collect();
        examples += lines.len();
        wrong_ones.extend(wrong(command.get_name(), lines.into_iter()));
        commands.extend(command.get_subcommands().cloned());
    }
    assert!(examples > 30, "only {examples} examples are found");
    assert!(wrong_ones.is_empty(), "{}", wrong_ones.join("\n"));
}

#[test]
fn a_line_that_is_none_is_seen() {
    assert_eq!(
        words("tidegate a 'b c'  --d=\"e\"  # f"),
        ["tidegate", "a", "b c", "--d=e"]
    );
    assert_eq!(wrong("here", ["tidegate status --no-such"].into_iter()).len(), 1);
}
