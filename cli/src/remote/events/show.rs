//! Events on a terminal, or as lines of JSON.
//!
//! Owns that nothing of an event acts on a terminal: names, jobs and rules are text of strangers, and the control plane's
//! word that it escaped them is not taken.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

use serde_json::Value;
use tidegate_control_wire::event::EventRecord;
use tidegate_control_wire::text::{cut, is_unprintable, printable};
use tidegate_policy::event::Kind;
use tidegate_policy::verdict::Verdict;

use crate::remote::when;

/// Columns of the table; the last one is as wide as it likes.
const HEADER: [&str; COLUMNS] = [
    "TIME", "VERDICT", "KIND", "ENDPOINT", "JOB", "REASON", "ID", "RULE",
];
const COLUMNS: usize = 8;
/// The verdict's column.
const VERDICT: usize = 1;
/// Columns are as wide as their widest text so far, up to this many characters.
const WIDEST: usize = 60;
/// Longest text of one column, in characters.
const LONGEST: usize = 300;

/// What is shown of events, and where.
pub(super) struct Shown {
    json: bool,
    colour: bool,
    widths: [usize; COLUMNS],
    begun: bool,
}

/// An event, ready to be shown.
pub(super) enum Row {
    /// As a line of the table, with its verdict where it is known.
    Cells([String; COLUMNS], Option<Verdict>),
    /// As JSON.
    Json(String),
}

impl Shown {
    /// As tables or as JSON; with colours on a terminal, where they are wanted.
    pub(super) fn new(json: bool, no_colour: bool) -> Self {
        Self {
            json,
            colour: !json && !no_colour && std::io::stdout().is_terminal(),
            widths: [20, 12, 4, 24, 16, 11, 8, 0],
            begun: false,
        }
    }

    /// An event as it will be shown.
    pub(super) fn row(&self, event: Value) -> Row {
        if self.json {
            return Row::Json(harmless(&event.to_string()));
        }
        if let Ok(event) = serde_json::from_value::<EventRecord>(event.clone()) {
            return Row::Cells(cells(&event), Some(event.verdict));
        }
        // Of a newer control plane: what it is can be seen, how to read it is not known.
        let mut cells = [const { String::new() }; COLUMNS];
        cells[COLUMNS - 1] = cell(&event.to_string());
        Row::Cells(cells, None)
    }

    /// Shows an event that came alone. False when nobody reads any more.
    pub(super) fn event(&mut self, event: Value) -> bool {
        let row = self.row(event);
        self.together(vec![row])
    }

    /// Shows events together, in columns that fit all of them. False when nobody reads any more.
    pub(super) fn together(&mut self, rows: Vec<Row>) -> bool {
        for row in &rows {
            if let Row::Cells(cells, _) = row {
                for (width, cell) in self.widths.iter_mut().zip(cells) {
                    *width = (*width).max(cell.chars().count().min(WIDEST));
                }
            }
        }
        let mut text = String::new();
        for row in rows {
            if !self.begun && !self.json {
                self.line(&mut text, &HEADER.map(str::to_owned), None);
            }
            self.begun = true;
            match row {
                Row::Cells(cells, verdict) => self.line(&mut text, &cells, verdict),
                Row::Json(line) => {
                    text.push_str(&line);
                    text.push('\n');
                }
            }
        }
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
    }

    /// Says of nothing that it is nothing.
    pub(super) fn end(&self, nothing: &str) {
        if !self.begun && !self.json {
            crate::out::say!("{nothing}");
        }
    }

    fn line(&self, text: &mut String, cells: &[String; COLUMNS], verdict: Option<Verdict>) {
        let begin = text.len();
        for (at, (cell, width)) in cells.iter().zip(self.widths).enumerate() {
            let colour = verdict.filter(|_| self.colour && at == VERDICT).map(colour);
            let padding = width.saturating_sub(cell.chars().count());
            // Writing to a string does not fail.
            let _ = match colour {
                Some(colour) => write!(text, "\u{1b}[{colour}m{cell}\u{1b}[0m{:padding$}  ", ""),
                None => write!(text, "{cell}{:padding$}  ", ""),
            };
        }
        text.truncate(begin + text[begin..].trim_end().len());
        text.push('\n');
    }
}

/// Select Graphic Rendition: red, yellow, green.
const fn colour(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Refuse => 31,
        Verdict::WouldRefuse => 33,
        Verdict::Permit => 32,
    }
}

fn cells(event: &EventRecord) -> [String; COLUMNS] {
    let job = event.job.as_ref().map(|job| match job.job.as_str() {
        "" => job.repo.to_string(),
        name => format!("{} {name}", job.repo),
    });
    let or_dash = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), cell);
    [
        when::show(event.time),
        event.verdict.as_str().to_owned(),
        event.kind.as_str().to_owned(),
        cell(&endpoint(event)),
        or_dash(job.as_deref()),
        or_dash(event.reason.as_deref()),
        cell(&event.id),
        or_dash(event.rule.as_deref()),
    ]
}

/// Name or address, with the port where it is the job's choice, and how often.
fn endpoint(event: &EventRecord) -> String {
    let mut text = match (&event.name, event.address) {
        (None, Some(std::net::IpAddr::V6(address))) if event.port != 0 => format!("[{address}]"),
        _ => event.endpoint().to_string(),
    };
    match event.kind {
        // A lookup's port is the resolver's.
        Kind::Dns => {
            if let Some(qtype) = &event.qtype {
                text = format!("{text} {qtype}");
            }
        }
        Kind::Tls | Kind::Http | Kind::Quic | Kind::Tcp | Kind::Udp | Kind::Icmp | Kind::Ip => {
            if event.port != 0 {
                text = format!("{text}:{}", event.port);
            }
        }
    }
    if event.count > 1 {
        text = format!("{text} ×{}", event.count);
    }
    text
}

/// A text of bounded length without what a terminal would act on.
fn cell(text: &str) -> String {
    cut(&printable(text), LONGEST).into_owned()
}

/// JSON without what a terminal would act on: such characters stand in texts only, where they may be written as escapes
/// (RFC 8259 §7).
fn harmless(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unprintable(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    fn event(more: &Value) -> Value {
        let mut event = json!({
            "schema": 1, "time": "2026-05-01T12:00:00.123Z", "id": "0000000a", "gateway": "gw-1", "source": "10.77.1.2",
            "kind": "tls", "name": "forge.test", "port": 443, "mode": "block", "verdict": "permit",
            "rule": "forge.test:443",
            "job": {"id": "job_1", "owner": "acme", "repo": "acme/web", "job": "build", "assurance": "declared"},
        });
        for (key, value) in more.as_object().unwrap() {
            event[key] = value.clone();
        }
        event
    }

    fn line(shown: &mut Shown, more: &Value) -> String {
        let Row::Cells(cells, verdict) = shown.row(event(more)) else {
            panic!("a row of the table");
        };
        let mut text = String::new();
        shown.line(&mut text, &cells, verdict);
        text
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let mut shown = Shown::new(false, true);
        let nasty = "\u{1b}[2J\r\nx\u{9b}31m\u{202e}";
        let told = line(
            &mut shown,
            &json!({"name": nasty, "rule": nasty, "reason": nasty, "id": nasty,
                "job": {"id": "j", "owner": nasty, "repo": nasty, "job": nasty, "assurance": "declared"}}),
        );
        assert!(!told.trim_end_matches('\n').contains(is_unprintable), "{told:?}");
        assert_eq!(told.matches("\\u{1b}[2J\\u{d}\\u{a}x").count(), 6, "{told}");
        let strange = json!({"kind": "\u{1b}[2Jnew"});
        assert!(!line(&mut shown, &strange).trim_end().contains(is_unprintable));
    }

    #[test]
    fn json_says_the_same_and_moves_no_cursor() {
        let shown = Shown::new(true, false);
        let raw = event(&json!({"name": "\u{7f}\u{9b}31m\u{202e}\u{e0041}\u{1b}"}));
        let Row::Json(told) = shown.row(raw.clone()) else {
            panic!("a line of JSON");
        };
        assert!(!told.contains(is_unprintable), "{told}");
        assert_eq!(serde_json::from_str::<Value>(&told).unwrap(), raw);
    }

    #[test]
    fn only_the_verdict_has_a_colour() {
        let mut shown = Shown::new(false, false);
        assert!(
            !line(&mut shown, &json!({})).contains('\u{1b}'),
            "no terminal here"
        );
        shown.colour = true;
        let told = line(&mut shown, &json!({"verdict": "refuse"}));
        assert!(
            told.contains("  \u{1b}[31mrefuse\u{1b}[0m        tls   "),
            "{told:?}"
        );
        assert_eq!(told.matches('\u{1b}').count(), 2);
    }

    /// Events that are followed come one by one: what follows moves no column.
    #[test]
    fn every_verdict_fits_its_column() {
        let mut shown = Shown::new(false, true);
        let kinds = ["permit", "refuse", "would-refuse"].map(|verdict| {
            let told = line(&mut shown, &json!({"verdict": verdict, "reason": "not-allowed"}));
            told.find("tls").unwrap()
        });
        assert_eq!(kinds, [kinds[0]; 3]);
    }

    #[test]
    fn an_endpoint_has_the_port_that_the_job_chose() {
        for (more, shown) in [
            (json!({}), "forge.test:443"),
            (
                json!({"kind": "dns", "port": 53, "qtype": "AAAA"}),
                "forge.test AAAA",
            ),
            (
                json!({"name": null, "address": "2001:db8::1"}),
                "[2001:db8::1]:443",
            ),
            (
                json!({"name": null, "address": "192.0.2.1", "count": 3}),
                "192.0.2.1:443 ×3",
            ),
            (
                json!({"name": null, "address": "2001:db8::1", "kind": "icmp", "port": 0}),
                "2001:db8::1",
            ),
            (json!({"name": null, "kind": "ip", "port": 0}), ""),
        ] {
            let event: EventRecord = serde_json::from_value(event(&more)).unwrap();
            assert_eq!(endpoint(&event), shown, "{more}");
        }
    }
}
