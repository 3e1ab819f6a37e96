//! An imported policy: what it says and where it comes from, and its file as `tidegate policy sync` reads it.
//!
//! Pure. Owns that what is written is what was summed up: the file's policy is read again by the policy crate.

use std::fmt::Write as _;

use serde::Serialize;
use tidegate_control_wire::text::cut;
use tidegate_policy::document::{MAX_BYTES, ParseOptions, PolicyDocument};
use tidegate_policy::job::Scope;
use tidegate_policy::verdict::Mode;

use super::block::{Block, Wanted};

/// Jobs that a comment behind an endpoint names.
const NAMED: usize = 5;
/// Characters of such a comment.
const COMMENT: usize = 120;

/// A policy.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) owner: String,
    /// Without its owner.
    pub(super) repo: String,
    /// File name.
    pub(super) workflow: String,
    pub(super) scope: String,
    /// The workflow's path below the imported directory.
    pub(super) source: String,
    pub(super) mode: Mode,
    /// Switches for host agents.
    pub(super) keys: Vec<&'static str>,
    pub(super) endpoints: Vec<Listed>,
    /// The jobs that it governs.
    pub(super) jobs: Vec<Governed>,
}

/// An endpoint, and who brought it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Listed {
    pub(super) endpoint: String,
    pub(super) jobs: Vec<String>,
    /// Where it is written first.
    pub(super) file: String,
    pub(super) line: u32,
}

/// A job that a policy governs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Governed {
    pub(super) job: String,
    pub(super) file: String,
    pub(super) line: u32,
    /// What it was told until now.
    pub(super) state: State,
}

/// What a job was told until now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// To block.
    Block,
    /// To audit; of several steps one.
    Audit,
    /// Not readable here: an expression, a policy store, an action.
    Unknown,
    /// It has no Harden-Runner step.
    Unhardened,
    /// It calls a workflow that is not read.
    Called,
}

impl State {
    /// Of a job with these steps; some may hide in a local action.
    pub(super) fn of(blocks: &[Block], hidden: bool) -> Self {
        let any = |mode| blocks.iter().any(|block| block.mode == mode);
        match () {
            () if any(Wanted::Audit) => Self::Audit,
            () if any(Wanted::Unknown) || (hidden && blocks.is_empty()) => Self::Unknown,
            () if blocks.is_empty() => Self::Unhardened,
            () => Self::Block,
        }
    }
}

impl Policy {
    /// The file.
    pub(super) fn file(&self) -> String {
        let mut text = String::from("# Imported from the Harden-Runner steps of\n");
        let _ = writeln!(text, "# {}", cut(&self.source, COMMENT));
        let _ = writeln!(text, "name: {}", scalar(&self.name));
        let _ = writeln!(text, "attach:\n  - {}", scalar(&self.scope));
        text.push_str("policy:\n");
        for line in self.document().lines() {
            let _ = writeln!(text, "  {line}");
        }
        text
    }

    /// The policy alone.
    fn document(&self) -> String {
        let mut text = format!("egress-policy: {}\n", self.mode.as_str());
        for key in &self.keys {
            let _ = writeln!(text, "{key}: true");
        }
        if self.endpoints.is_empty() {
            text.push_str("allowed-endpoints: []\n");
            return text;
        }
        text.push_str("allowed-endpoints:\n");
        for one in &self.endpoints {
            let _ = writeln!(text, "  - {}  # {}", scalar(&one.endpoint), jobs(&one.jobs));
        }
        text
    }

    /// Reads the document as the store will; why not, when it would not take it.
    pub(super) fn check(&self) -> Result<(), String> {
        let document = self.document();
        if document.len() > MAX_BYTES {
            return Err(format!("it is larger than {MAX_BYTES} bytes"));
        }
        let read = PolicyDocument::parse(&document, &ParseOptions::default());
        if let Some(error) = read.errors().next() {
            return Err(format!("{}: {}", error.token, error.message));
        }
        let same = read.document.is_some_and(|read| {
            let texts = read.allowed_endpoints.iter().map(|one| one.endpoint.to_string());
            read.mode() == Some(self.mode) && texts.eq(self.endpoints.iter().map(|one| one.endpoint.clone()))
        });
        if !same {
            return Err("what was written would be read as something else".into());
        }
        match self.scope.parse::<Scope>() {
            Ok(scope) if scope.to_string() == self.scope => Ok(()),
            Ok(_) | Err(_) => Err(format!("{} is no scope", self.scope)),
        }
    }
}

/// The jobs behind an endpoint, for a comment.
fn jobs(jobs: &[String]) -> String {
    let mut text = jobs
        .iter()
        .take(NAMED)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if let Some(more) = jobs.len().checked_sub(NAMED).filter(|more| *more > 0) {
        let _ = write!(text, " +{more}");
    }
    cut(&text, COMMENT).into_owned()
}

/// A text as YAML: plain where that can't be read as anything else, else in double quotes.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(plain)
        && !text.ends_with(':');
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if is_plain && !words.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    // JSON's strings are YAML's in double quotes, but for DEL and the C1 controls, which no name here has.
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(endpoints: &[&str]) -> Policy {
        let listed = |endpoint: &&str| Listed {
            endpoint: (*endpoint).into(),
            jobs: (0..7).map(|n| format!("job{n}")).collect(),
            file: String::new(),
            line: 1,
        };
        Policy {
            name: "web-ci".into(),
            owner: "acme".into(),
            repo: "web".into(),
            workflow: "a: b #c.yml".into(),
            scope: "workflow:acme/web/a: b #c.yml".into(),
            source: "web/.github/workflows/a: b #c.yml".into(),
            mode: Mode::Block,
            keys: vec!["disable-sudo"],
            endpoints: endpoints.iter().map(listed).collect(),
            jobs: Vec::new(),
        }
    }

    #[test]
    fn a_file_is_what_was_summed_up_whatever_its_texts_hold() {
        let policy = policy(&[
            "github.test:443",
            "*.api.test:443",
            "[2001:db8::1]:8443",
            "10.0.0.0/8:22",
        ]);
        assert_eq!(policy.check(), Ok(()));
        let file = policy.file();
        assert!(file.contains("  - \"workflow:acme/web/a: b #c.yml\"\n"), "{file}");
        assert!(
            file.contains("    - \"*.api.test:443\"  # job0, job1, job2, job3, job4 +2\n"),
            "{file}"
        );
    }

    #[test]
    fn a_policy_that_the_store_would_not_take_is_not_written() {
        assert!(policy(&["a..test:443"]).check().is_err());
        let many: Vec<String> = (0..60_000).map(|n| format!("host{n}.test:443")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(policy(&many).check().is_err_and(|why| why.contains("larger")));
    }
}
