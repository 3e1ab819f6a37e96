//! What the doctor says: how bad, what, where, and the command that mends it.
//!
//! Owns the order and the form. What strangers could have written (answers, files) is printable from here on.

use std::process::ExitCode;

use serde::Serialize;
use tidegate_control_wire::text::{cut, printable};

use crate::out::say;

/// Longest text, in characters.
const MAX_TEXT: usize = 1_000;

/// How bad it is, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Severity {
    /// Jobs fail, or reach what no policy judges.
    Problem,
    /// It works, but not as it should, or not for long.
    Warning,
    /// Worth knowing.
    Note,
}

/// One thing to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// What was examined.
    pub(super) check: &'static str,
    /// One sentence.
    pub(super) what: String,
    /// The file, interface, setting or address.
    #[serde(rename = "where")]
    pub(super) place: String,
    /// The command, or, where none does it alone, what to do.
    pub(super) mend: Option<String>,
}

impl Finding {
    pub(super) fn new(
        severity: Severity,
        check: &'static str,
        place: impl Into<String>,
        what: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            check,
            what: shown(&what.into()),
            place: shown(&place.into()),
            mend: None,
        }
    }

    /// With what mends it.
    pub(super) fn mend(self, command: impl Into<String>) -> Self {
        Self {
            mend: Some(shown(&command.into())),
            ..self
        }
    }
}

fn shown(text: &str) -> String {
    cut(&printable(text), MAX_TEXT).into_owned()
}

/// A text as one word of a shell's command.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=[]".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Everything that was said of a machine.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// `runner` or `gateway`.
    machine: &'static str,
    /// Nothing is wrong.
    sound: bool,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(machine: &'static str, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|one| one.severity);
        let sound = findings.iter().all(|one| one.severity != Severity::Problem);
        Self {
            machine,
            sound,
            findings,
        }
    }

    /// Says it; the exit code.
    pub(super) fn say(&self, json: bool) -> ExitCode {
        if json {
            // Plain data with text keys always serializes.
            say!("{}", serde_json::to_string_pretty(self).unwrap_or_default());
        } else {
            self.print();
        }
        if self.sound {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn print(&self) {
        for one in &self.findings {
            let severity = match one.severity {
                Severity::Problem => "problem",
                Severity::Warning => "warning",
                Severity::Note => "note",
            };
            say!("{severity:8} {} ({}): {}", one.check, one.place, one.what);
            if let Some(mend) = &one.mend {
                say!("         mend: {mend}");
            }
        }
        let of = |severity| {
            self.findings
                .iter()
                .filter(|one| one.severity == severity)
                .count()
        };
        match (of(Severity::Problem), of(Severity::Warning)) {
            (0, 0) => say!("this {} is sound", self.machine),
            (0, warnings) => say!("this {} works; {warnings} warned of", self.machine),
            (problems, _) => say!("this {} is not sound: {problems} to mend", self.machine),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_first_and_decide() {
        let finding = |severity| Finding::new(severity, "x", "y", "z\u{1b}[2J\nnext");
        let report = Report::new(
            "runner",
            vec![finding(Severity::Note), finding(Severity::Warning)],
        );
        assert!(report.sound);
        let report = Report::new(
            "runner",
            vec![finding(Severity::Note), finding(Severity::Problem)],
        );
        assert!(!report.sound);
        assert_eq!(report.findings[0].severity, Severity::Problem);
        assert_eq!(report.findings[0].what, "z\\u{1b}[2J\\u{a}next");
    }

    #[test]
    fn words_of_commands_are_words() {
        assert_eq!(word("10.77.1.1"), "10.77.1.1");
        assert_eq!(word("/etc/it's here"), r"'/etc/it'\''s here'");
        assert_eq!(word(""), "''");
    }
}
