//! The summary as a page of Markdown: what somebody whose build broke needs first, first.
//!
//! Owns layout and its bounds. Whatever comes from a job, a policy or the network goes through [`code`] or
//! [`crate::text::markdown`]; nothing else of it reaches the page. Forges cut or refuse a step's summary over 1 MiB, so this
//! one stays far below and says what it leaves out.

use std::fmt::Write as _;

use tidegate_policy::event::Kind;
use tidegate_policy::verdict::Mode;

use super::{Destination, JobSummary, told};
use crate::text::{cut, markdown};

/// Longest page, in bytes.
pub const MAX_MARKDOWN: usize = 128 << 10;
/// How far each list may fill the page; what comes behind a list always finds room.
const REFUSED_END: usize = 56 << 10;
const WOULD_REFUSE_END: usize = 88 << 10;
const PERMITTED_END: usize = 120 << 10;
/// Bytes of lines that are advised.
const ADVISED: usize = 8 << 10;
/// Lines that are advised at most; a longer list is a job for a baseline.
const MAX_ADVISED: usize = 100;
/// Longest text in a cell, in characters.
const MAX_CELL: usize = 300;
/// Policies that are named.
const MAX_POLICIES: usize = 8;

pub(super) fn render(summary: &JobSummary) -> String {
    let mut page = Page {
        text: String::with_capacity(8 << 10),
    };
    page.headline(summary);
    page.job(summary);
    page.counts(summary);
    page.refused("Refused", &summary.refused, summary.unlisted.refused, REFUSED_END);
    page.refused(
        "Would be refused in block mode",
        &summary.would_refuse,
        summary.unlisted.would_refuse,
        WOULD_REFUSE_END,
    );
    page.allow(summary);
    page.permitted(summary);
    page.foot(summary);
    debug_assert!(
        page.text.len() <= MAX_MARKDOWN,
        "the shares of the page fit into it"
    );
    page.text
}

struct Page {
    text: String,
}

impl Page {
    /// Writing to a string does not fail.
    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = self.text.write_fmt(text);
    }

    fn headline(&mut self, summary: &JobSummary) {
        let (refused, would) = (
            told(&summary.refused).count(),
            told(&summary.would_refuse).count(),
        );
        let counts = &summary.counts;
        let line = if refused > 0 {
            format!("⛔ Tidegate refused {}", destinations(refused))
        } else if counts.refuse > 0 {
            "⛔ Tidegate refused connections".to_owned()
        } else if would > 0 {
            format!("⚠️ Tidegate would refuse {} in block mode", destinations(would))
        } else if counts.permit + counts.would_refuse > 0 {
            "✅ Tidegate refused nothing".to_owned()
        } else {
            "Tidegate saw no traffic of this job".to_owned()
        };
        self.put(format_args!("## {line}\n\n"));
    }

    fn job(&mut self, summary: &JobSummary) {
        if let Some(job) = &summary.job {
            let told = [
                ("", &job.repo),
                ("workflow ", &job.workflow),
                ("job ", &job.job),
                ("run ", &job.run_id),
            ];
            let mut parts: Vec<String> = told
                .into_iter()
                .filter(|(_, text)| !text.is_empty())
                .map(|(what, text)| format!("{what}{}", code(text)))
                .collect();
            if job.run_attempt > 1 {
                parts.push(format!("attempt {}", job.run_attempt));
            }
            parts.push(format!("identity {}", job.assurance.as_str()));
            self.put(format_args!("{}\n\n", parts.join(" · ")));
        }
        for policy in summary.policies.iter().take(MAX_POLICIES) {
            let mode = match policy.mode {
                Mode::Audit => "audit: nothing is refused, only recorded",
                Mode::Block => "block",
            };
            let (name, scope) = (code(&policy.name), code(&policy.scope));
            let version = policy.version;
            self.put(format_args!(
                "Policy {name} version {version} ({mode}) from {scope}\n\n"
            ));
        }
        if summary.policies.is_empty() {
            self.put(format_args!("No policy decided about this job's traffic.\n\n"));
        }
        let more = summary.policies.len().saturating_sub(MAX_POLICIES);
        if more > 0 {
            self.put(format_args!(
                "… and {more} more policies, one after the other.\n\n"
            ));
        }
    }

    fn counts(&mut self, summary: &JobSummary) {
        let counts = &summary.counts;
        self.put(format_args!(
            "| Refused | Would be refused | Permitted | Sent | Received |\n|---:|---:|---:|---:|---:|\n\
             | **{}** | {} | {} | {} | {} |\n\n",
            counts.refuse,
            counts.would_refuse,
            counts.permit,
            bytes(counts.bytes_up),
            bytes(counts.bytes_down),
        ));
    }

    fn refused(&mut self, title: &str, all: &[Destination], unlisted: u64, end: usize) {
        if all.is_empty() && unlisted == 0 {
            return;
        }
        self.put(format_args!(
            "### {title}\n\n| Destination | Why | Rule | Times | Events |\n|---|---|---|---:|---|\n"
        ));
        let rows = told(all).map(|one| {
            let rule = match (&one.rule, &one.nearest) {
                (Some(rule), _) => format!("{} {}", code(rule), from(one)),
                (None, Some(nearest)) => format!("none; nearest {}", code(nearest)),
                (None, None) => "none".to_owned(),
            };
            format!(
                "| {} | {} | {rule} | {} | {} |\n",
                target(one),
                why(one),
                one.count,
                ids(one)
            )
        });
        self.rows(rows, unlisted, end);
    }

    fn permitted(&mut self, summary: &JobSummary) {
        let all = &summary.permitted;
        if all.is_empty() && summary.unlisted.permitted == 0 {
            return;
        }
        let shown = told(all).count();
        self.put(format_args!(
            "<details><summary>Permitted: {}</summary>\n\n| Destination | Rule | Times | Sent | Received |\n\
             |---|---|---:|---:|---:|\n",
            destinations(shown)
        ));
        let rows = told(all).map(|one| {
            let rule = one.rule.as_ref().map_or_else(
                || "none".to_owned(),
                |rule| format!("{} {}", code(rule), from(one)),
            );
            format!(
                "| {} | {rule} | {} | {} | {} |\n",
                target(one),
                one.count,
                bytes(one.bytes_up),
                bytes(one.bytes_down)
            )
        });
        self.rows(rows, summary.unlisted.permitted, PERMITTED_END);
        self.put(format_args!("</details>\n\n"));
    }

    /// Rows as long as they end before `end`, and how many did not.
    fn rows(&mut self, rows: impl Iterator<Item = String>, unlisted: u64, end: usize) {
        let mut left_out = 0_usize;
        for row in rows {
            if left_out == 0 && self.text.len() + row.len() <= end {
                self.text.push_str(&row);
            } else {
                left_out += 1;
            }
        }
        self.text.push('\n');
        if left_out > 0 {
            self.put(format_args!("… and {left_out} more.\n\n"));
        }
        if unlisted > 0 {
            self.put(format_args!(
                "… and {unlisted} more times, for destinations beyond those that are told apart.\n\n"
            ));
        }
    }

    /// What to add to the policy, ready to be pasted.
    fn allow(&mut self, summary: &JobSummary) {
        // The type promises plain characters; a summary that came over the network only says so.
        let plain = |line: &&str| {
            line.len() <= MAX_CELL
                && line
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || ".-_:[]/".contains(c))
        };
        let mut lines: Vec<&str> = Vec::new();
        let mut room = (WOULD_REFUSE_END + ADVISED).saturating_sub(self.text.len());
        for one in told(&summary.refused).chain(told(&summary.would_refuse)) {
            let Some(line) = one.allow.as_deref().filter(plain) else {
                continue;
            };
            if lines.contains(&line) {
                continue;
            }
            if lines.len() >= MAX_ADVISED || room < line.len() + 3 {
                break;
            }
            room -= line.len() + 3;
            lines.push(line);
        }
        if lines.is_empty() {
            return;
        }
        let policy = match summary.policies.last() {
            Some(policy) => format!("the policy {} ({})", code(&policy.name), code(&policy.scope)),
            None => "the job's policy".to_owned(),
        };
        self.put(format_args!(
            "### To allow\n\nWhat the job really needs of these goes into {policy}:\n\n```yaml\nallowed-endpoints: >\n"
        ));
        for line in lines {
            self.put(format_args!("  {line}\n"));
        }
        self.text.push_str("```\n\n");
    }

    fn foot(&mut self, summary: &JobSummary) {
        let suffixes = summary.counts.search_suffix;
        if suffixes > 0 {
            self.put(format_args!(
                "Not counted above: {suffixes} lookups of allowed names with a search suffix appended. Resolvers make them \
                 by themselves.\n\n"
            ));
        }
        if let Some(gateway) = &summary.gateway {
            self.put(format_args!("As the gateway {} saw it.\n\n", code(gateway)));
        }
        if let Some(since) = summary.since {
            self.put(format_args!(
                "**Not the whole job:** only what happened since {since:.0} is counted here.\n\n"
            ));
        }
        if summary.dropped > 0 {
            self.put(format_args!(
                "**Not complete:** {} events were dropped before they were counted.\n\n",
                summary.dropped
            ));
        }
        if let Some(url) = summary.link.as_deref().and_then(link) {
            self.put(format_args!("[All events of this job]({url})\n"));
        }
    }
}

fn target(one: &Destination) -> String {
    let kind = match one.kind {
        Kind::Dns | Kind::Icmp | Kind::Ip | Kind::Udp => "",
        Kind::Tls | Kind::Http | Kind::Quic | Kind::Tcp => one.kind.as_str(),
    };
    let target = one.target();
    let mut cell = match target.strip_suffix(" (lookup)") {
        Some(name) => format!("{} lookup", code(name)),
        None => format!("{} {kind}", code(&target)).trim_end().to_owned(),
    };
    if !one.processes.is_empty() {
        let names: Vec<_> = one.processes.iter().take(3).map(|name| code(name)).collect();
        cell.push_str(" by ");
        cell.push_str(&names.join(", "));
    }
    cell
}

fn why(one: &Destination) -> String {
    let mut said = format!(
        "**{}**",
        markdown(&cut(one.reason.as_deref().unwrap_or("?"), MAX_CELL))
    );
    for text in [&one.meaning, &one.advice].into_iter().flatten() {
        said.push(' ');
        said.push_str(&markdown(&cut(text, MAX_CELL)));
    }
    said
}

fn from(one: &Destination) -> String {
    one.rule_source.as_deref().map_or_else(String::new, |source| {
        format!("({})", markdown(&cut(source, MAX_CELL)))
    })
}

fn ids(one: &Destination) -> String {
    let ids: Vec<_> = one.ids.iter().take(3).map(|id| code(id)).collect();
    ids.join(" ")
}

/// A stranger's text as code: no mention, no emphasis, no link comes about, not even by `www.`.
fn code(text: &str) -> String {
    let text = markdown(&cut(text, MAX_CELL)).replace("www.", "www&#46;");
    format!("<code>{text}</code>")
}

/// A URL that is one, in characters that end neither the link nor the line.
fn link(url: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#[]@!$&'*+,;=%".contains(c);
    let web = url.starts_with("https://") || url.starts_with("http://");
    (web && url.len() <= 2_048 && url.chars().all(plain)).then_some(url)
}

fn destinations(count: usize) -> String {
    match count {
        1 => "1 destination".to_owned(),
        count => format!("{count} destinations"),
    }
}

/// Bytes as people read them.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1_024 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1_023.95 {
            break;
        }
        value /= 1_024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}
