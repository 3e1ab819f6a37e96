//! Documents as the store takes them: read by the same reader as `tidegate check`, with its diagnostics.
//!
//! Pure. Owns the parsed form that the API shows. Which endpoint sets exist is the store's to know
//! ([`unknown_sets`] says it in the reader's own manner).

pub mod edit;

use serde_json::{Value, json};
use tidegate_policy::document::diagnostic::Severity;
use tidegate_policy::document::keys::nearest;
use tidegate_policy::document::{
    Diagnostic, EndpointSet, ParseOptions, Platform, PolicyDocument, SourcedEndpoint,
};
use tidegate_policy::verdict::Mode;

use crate::model::{DiagnosticView, PolicyMode};

/// A policy without errors, as far as it can be judged alone.
#[derive(Clone, Debug)]
pub struct CheckedPolicy {
    /// What it decides about egress.
    pub mode: PolicyMode,
    /// Whether it decides lockdown.
    pub lockdown: bool,
    /// How many endpoints it lists itself, denied ones included.
    pub endpoints: u32,
    /// The parsed form.
    pub parsed: Value,
    /// Endpoint sets that it uses, each once, with their lines.
    pub sets: Vec<(String, u32)>,
    /// Warnings and notes.
    pub diagnostics: Vec<Diagnostic>,
}

/// A set without errors.
#[derive(Clone, Debug)]
pub struct CheckedSet {
    /// How many endpoints it lists.
    pub endpoints: u32,
    /// Warnings and notes.
    pub diagnostics: Vec<Diagnostic>,
}

impl CheckedPolicy {
    /// Reads a policy; every diagnostic when one is an error. Takes up to a fraction of a second for the largest.
    pub fn check(yaml: &str, options: &ParseOptions) -> Result<Self, Vec<Diagnostic>> {
        let read = PolicyDocument::parse(yaml, options);
        let Some(document) = read.document else {
            return Err(read.diagnostics);
        };
        let line = |name: &String| (name.clone(), document.line_of_set(name).unwrap_or(1));
        Ok(Self {
            mode: match document.mode() {
                None => PolicyMode::None,
                Some(Mode::Audit) => PolicyMode::Audit,
                Some(Mode::Block) => PolicyMode::Block,
            },
            lockdown: document.decides_lockdown(),
            endpoints: (document.allowed_endpoints.len() + document.denied_endpoints.len()) as u32,
            parsed: parsed(&document),
            sets: document.use_sets.iter().map(line).collect(),
            diagnostics: read.diagnostics,
        })
    }
}

impl CheckedSet {
    /// Reads an endpoint set; every diagnostic when one is an error.
    pub fn check(yaml: &str, options: &ParseOptions) -> Result<Self, Vec<Diagnostic>> {
        let read = EndpointSet::parse(yaml, options);
        let Some(set) = read.document else {
            return Err(read.diagnostics);
        };
        Ok(Self {
            endpoints: set.endpoints.len() as u32,
            diagnostics: read.diagnostics,
        })
    }
}

/// The parsed form of a policy, keys as in the document: endpoints in their canonical spelling with their lines,
/// defaults filled in, `null` for a facet that it does not decide.
fn parsed(document: &PolicyDocument) -> Value {
    let endpoints = |list: &[SourcedEndpoint]| -> Vec<Value> {
        list.iter()
            .map(|one| json!({"endpoint": one.endpoint.to_string(), "line": one.line}))
            .collect()
    };
    let lockdown = document.lockdown.as_ref().map(|lockdown| {
        let detections: Vec<&str> = lockdown.detections.iter().map(|one| one.as_str()).collect();
        json!({"enabled": lockdown.enabled, "detections": detections})
    });
    json!({
        "egress-policy": document.mode().map(Mode::as_str),
        "allowed-endpoints": endpoints(&document.allowed_endpoints),
        "denied-endpoints": endpoints(&document.denied_endpoints),
        "use": document.use_sets,
        "platform": match document.platform {
            Platform::GithubActions => "github-actions",
            Platform::None => "none",
        },
        "icmp": document.icmp,
        "lockdown-mode": lockdown,
        "not-enforced": document.not_enforced,
    })
}

/// The sets that a policy uses and its owner does not have, as errors at their places. Empty when all are there.
pub fn unknown_sets(yaml: &str, used: &[(String, u32)], known: &[String], owner: &str) -> Vec<Diagnostic> {
    let missing = used.iter().filter(|(name, _)| !known.contains(name));
    let error = |(name, line): &(String, u32)| {
        let text = yaml.lines().nth(*line as usize - 1).unwrap_or_default();
        let before = text.find(name.as_str()).map_or("", |at| &text[..at]);
        let near = nearest(name, known.iter().map(String::as_str));
        Diagnostic {
            severity: Severity::Error,
            line: *line,
            column: before.chars().count() as u32 + 1,
            length: name.chars().count() as u32,
            message: format!("{owner} has no endpoint set `{name}`"),
            hint: Some(match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "make the set first".to_owned(),
            }),
            token: name.clone(),
        }
    };
    missing.map(error).collect()
}

/// For the API.
pub fn views(diagnostics: &[Diagnostic]) -> Vec<DiagnosticView> {
    let view = |one: &Diagnostic| DiagnosticView {
        severity: one.severity.as_str().to_owned(),
        line: one.line,
        column: one.column,
        length: one.length,
        message: one.message.clone(),
        hint: one.hint.clone(),
    };
    diagnostics.iter().map(view).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_parsed_form_has_the_documents_keys_and_canonical_endpoints() {
        let yaml = "use: [corp]\nallowed-endpoints: >\n  GitHub.COM.:443\n  10.0.0.1/8:5432\nicmp: true\n";
        let checked = CheckedPolicy::check(yaml, &ParseOptions::default()).unwrap();
        assert_eq!(
            checked.parsed,
            json!({
                "egress-policy": "block",
                "allowed-endpoints": [
                    {"endpoint": "github.com:443", "line": 3},
                    {"endpoint": "10.0.0.0/8:5432", "line": 4},
                ],
                "denied-endpoints": [],
                "use": ["corp"],
                "platform": "github-actions",
                "icmp": true,
                "lockdown-mode": null,
                "not-enforced": [],
            })
        );
        assert_eq!((checked.mode, checked.endpoints), (PolicyMode::Block, 2));
        assert_eq!(checked.sets, [("corp".to_owned(), 1)]);
        assert!(!checked.diagnostics.is_empty(), "host bits are warned of");
    }

    #[test]
    fn a_policy_of_lockdown_alone_decides_no_egress() {
        let checked =
            CheckedPolicy::check("lockdown-mode: {enabled: true}\n", &ParseOptions::default()).unwrap();
        assert_eq!((checked.mode, checked.lockdown), (PolicyMode::None, true));
        assert_eq!(checked.parsed["egress-policy"], Value::Null);
    }

    #[test]
    fn an_unknown_set_is_an_error_where_it_is_named() {
        let yaml = "egress-policy: block\nuse: [base, crop-base]\n";
        let used = [("base".to_owned(), 2), ("crop-base".to_owned(), 2)];
        let known = ["base".to_owned(), "corp-base".to_owned()];
        let errors = unknown_sets(yaml, &used, &known, "acme");
        assert_eq!(errors.len(), 1);
        assert_eq!((errors[0].line, errors[0].column, errors[0].length), (2, 13, 9));
        assert_eq!(errors[0].hint.as_deref(), Some("did you mean `corp-base`?"));
    }

    #[test]
    fn what_a_yaml_text_may_not_hold_never_reaches_the_store() {
        // PostgreSQL's texts hold no NUL.
        for yaml in [
            "allowed-endpoints: a\0.test:443\n",
            "\0",
            "# \0\negress-policy: audit\n",
        ] {
            assert!(
                CheckedPolicy::check(yaml, &ParseOptions::default()).is_err(),
                "{yaml:?}"
            );
            assert!(
                CheckedSet::check(yaml, &ParseOptions::default()).is_err(),
                "{yaml:?}"
            );
        }
    }
}
