//! The report as Markdown, for people.
//!
//! Pure. Every text of a stranger's file goes through [`markdown`].

use std::fmt::Write as _;

use tidegate_control_wire::text::markdown;
use tidegate_policy::verdict::Mode;

use super::item::{Item, Level};
use super::policy::{Policy, State};
use super::report::{Report, counted};

/// Endpoints of a policy, and policies, that are shown; the whole is in the JSON.
const SHOWN: usize = 200;

/// Writes the report.
pub(super) fn write(report: &Report) -> String {
    let mut text = String::from("# Import from Harden-Runner\n\n");
    let _ = writeln!(text, "{}.\n", report.summary());
    if report.left_out > 0 {
        let _ = writeln!(text, "{} more items are not listed.\n", report.left_out);
    }
    for (level, title) in [
        (Level::Lost, "Not kept"),
        (Level::Changed, "Kept, but different from now on"),
        (Level::Note, "Good to know"),
    ] {
        let items: Vec<&Item> = report.items.iter().filter(|item| item.level == level).collect();
        section(&mut text, title, &items);
    }
    policies(&mut text, &report.policies);
    if !report.without.is_empty() {
        text.push_str("## Workflows without Harden-Runner\n\nNo policy comes of them.\n\n");
        for file in report.without.iter().take(SHOWN) {
            let _ = writeln!(text, "- {}", markdown(file));
        }
        more(&mut text, report.without.len());
    }
    text
}

fn section(text: &mut String, title: &str, items: &[&Item]) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(text, "## {title}");
    let mut file = None;
    for item in items {
        if file.replace(item.file.as_str()) != Some(item.file.as_str()) {
            let _ = writeln!(text, "\n### {}\n", markdown(&item.file));
            text.push_str("| line | what | why | what to do |\n|---|---|---|---|\n");
        }
        let line = if item.line == 0 {
            String::new()
        } else {
            item.line.to_string()
        };
        let [what, why, todo] = [&item.what, &item.why, &item.todo].map(|text| markdown(text));
        let _ = writeln!(text, "| {line} | {what} | {why} | {todo} |");
    }
    text.push('\n');
}

fn policies(text: &mut String, policies: &[Policy]) {
    if policies.is_empty() {
        return;
    }
    text.push_str("## Policies\n");
    for policy in policies.iter().take(SHOWN) {
        let _ = writeln!(
            text,
            "\n### {}/{}\n",
            markdown(&policy.owner),
            markdown(&policy.name)
        );
        let mode = match policy.mode {
            Mode::Audit => "audit",
            Mode::Block => "block",
        };
        let endpoints = counted(policy.endpoints.len(), "endpoint", "endpoints");
        let _ = writeln!(text, "{}: {mode}, {endpoints}.\n", markdown(&policy.scope));
        let jobs = policy.jobs.iter().take(SHOWN);
        let jobs: Vec<String> = jobs
            .map(|one| format!("{} ({})", markdown(&one.job), state(one.state)))
            .collect();
        let _ = writeln!(text, "Jobs: {}.", jobs.join(", "));
        more(text, policy.jobs.len());
        if !policy.endpoints.is_empty() {
            text.push_str("\n| endpoint | jobs |\n|---|---|\n");
        }
        for one in policy.endpoints.iter().take(SHOWN) {
            let _ = writeln!(
                text,
                "| {} | {} |",
                markdown(&one.endpoint),
                markdown(&one.jobs.join(", "))
            );
        }
        more(text, policy.endpoints.len());
    }
    more(text, policies.len());
    text.push('\n');
}

fn state(state: State) -> &'static str {
    match state {
        State::Block => "block",
        State::Audit => "audit",
        State::Unknown => "not known",
        State::Unhardened => "no Harden-Runner",
        State::Called => "a called workflow",
    }
}

fn more(text: &mut String, all: usize) {
    if let Some(more) = all.checked_sub(SHOWN).filter(|more| *more > 0) {
        let _ = writeln!(text, "\n… and {more} more; `report.json` has them.");
    }
}
