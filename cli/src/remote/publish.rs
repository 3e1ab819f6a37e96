//! Files become policies or endpoint sets: each based on the version that was just read.
//!
//! Owns what `policy apply`, `set apply` and `policy sync` have in common: asking what is wrong with a document, showing
//! it with carets of its file, and never writing over a version that nobody here has seen.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tidegate_control::diff::Diff;
use tidegate_control::model::{Apply, DiagnosticView};
use tidegate_policy::document::MAX_BYTES;

use super::client::{Answer, Call, CallError, Client};
use super::document::{Document, check_names, name_of};
use super::show;
use crate::out::say;

/// Kinds of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Policy(Apply),
    Set,
}

/// Where documents go, and whether they do.
pub(super) struct Publisher<'a> {
    pub(super) client: &'a Client,
    pub(super) owner: &'a str,
    pub(super) kind: Kind,
    pub(super) dry_run: bool,
    pub(super) json: bool,
}

/// A policy to be made.
#[derive(Serialize)]
pub(super) struct Create<'a> {
    pub(super) name: &'a str,
    pub(super) yaml: &'a str,
}

/// Another text.
#[derive(Serialize)]
pub(super) struct Update<'a> {
    pub(super) yaml: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) apply: Option<Apply>,
}

#[derive(Serialize)]
struct CheckRequest<'a> {
    owner: &'a str,
    yaml: &'a str,
    kind: &'static str,
}

/// What the control plane has to say about a document.
#[derive(Deserialize)]
pub(super) struct Checked {
    pub(super) ok: bool,
    #[serde(default)]
    pub(super) diagnostics: Vec<DiagnosticView>,
}

/// What is read of a policy or a set.
#[derive(Deserialize)]
struct Stored {
    name: String,
    version: u32,
    yaml: String,
    #[serde(default)]
    diagnostics: Vec<DiagnosticView>,
}

impl Kind {
    /// As people say it.
    fn noun(self) -> &'static str {
        match self {
            Self::Policy(_) => "policy",
            Self::Set => "endpoint set",
        }
    }

    /// As the API's paths say it.
    fn collection(self) -> &'static str {
        match self {
            Self::Policy(_) => "policies",
            Self::Set => "endpoint-sets",
        }
    }

    /// As `POST /check` says it.
    fn word(self) -> &'static str {
        match self {
            Self::Policy(_) => "policy",
            Self::Set => "endpoint-set",
        }
    }
}

impl Publisher<'_> {
    /// Takes every file in turn; the first that can't be stored ends it. A dry run fails when any has errors.
    pub(super) async fn files(&self, files: &[PathBuf], named: Option<&str>) -> anyhow::Result<ExitCode> {
        check_names(files.len(), named)?;
        let mut outcome = ExitCode::SUCCESS;
        for file in files {
            if !self.file(file, named).await? {
                outcome = ExitCode::FAILURE;
            }
        }
        Ok(outcome)
    }

    /// Takes one file; false when a dry run found errors.
    async fn file(&self, file: &Path, named: Option<&str>) -> anyhow::Result<bool> {
        let name = name_of(file, named)?;
        let document = Document::read(file, MAX_BYTES)?;
        let path = ["orgs", self.owner, self.kind.collection(), name.as_str()];
        let current = found(self.client.call(Method::GET, &path)?.send().await)?;
        let before: Option<Stored> = current.as_ref().map(Answer::peek).transpose()?;
        if !self.json {
            announce(&name, before.as_ref(), &document.yaml);
        }
        if self.dry_run {
            return self.only_check(&document).await;
        }
        match (&current, before) {
            (Some(answer), Some(before)) if before.yaml == document.yaml => {
                if self.json {
                    show::json(&answer.json);
                }
            }
            _ => self.store(&name, &document, current.as_ref()).await?,
        }
        Ok(true)
    }

    async fn only_check(&self, document: &Document) -> anyhow::Result<bool> {
        let answer = check(self.client, self.owner, self.kind, &document.yaml).await?;
        if self.json {
            show::json(&answer.json);
        }
        let checked: Checked = answer.read()?;
        eprint!("{}", document.render(&checked.diagnostics));
        Ok(checked.ok)
    }

    async fn store(&self, name: &str, document: &Document, current: Option<&Answer>) -> anyhow::Result<()> {
        let noun = self.kind.noun();
        let sent = self.call(name, document, current)?.send().await;
        let answer = explained(sent, document).with_context(|| format!("{noun} {name:?} was not applied"))?;
        let stored: Stored = answer.peek()?;
        eprint!("{}", document.render(&stored.diagnostics));
        if self.json {
            show::json(&answer.json);
        } else {
            say!(
                "{noun} {} is at version {}",
                show::cell(&stored.name),
                stored.version
            );
        }
        Ok(())
    }

    /// The request that stores a document over what was read, or where nothing was.
    fn call(&self, name: &str, document: &Document, current: Option<&Answer>) -> anyhow::Result<Call<'_>> {
        let yaml = document.yaml.as_str();
        let path = ["orgs", self.owner, self.kind.collection(), name];
        let put = |apply| -> anyhow::Result<Call<'_>> {
            Ok(self
                .client
                .call(Method::PUT, &path)?
                .json(&Update { yaml, apply }))
        };
        Ok(match (self.kind, current) {
            (Kind::Policy(_), None) => self
                .client
                .call(Method::POST, &path[..3])?
                .json(&Create { name, yaml }),
            (Kind::Policy(apply), Some(current)) => put(Some(apply))?.if_match(current.tag()?),
            (Kind::Set, None) => put(None)?.if_absent(),
            (Kind::Set, Some(current)) => put(None)?.if_match(current.tag()?),
        })
    }
}

/// What is about to change.
fn announce(name: &str, before: Option<&Stored>, new: &str) {
    let name = show::cell(name);
    match before {
        None => say!(
            "{name}: new, {}",
            show::count(new.lines().count() as u64, "line", "lines")
        ),
        Some(before) if before.yaml == new => say!("{name}: unchanged, version {}", before.version),
        Some(before) => {
            let diff = Diff::of(&before.yaml, new);
            say!(
                "{name}: version {} with +{} -{} lines",
                before.version,
                diff.added,
                diff.removed
            );
            show::text(&diff.unified);
            if diff.truncated {
                say!("… and more");
            }
        }
    }
}

/// What is there, or that nothing is.
fn found(answer: Result<Answer, CallError>) -> Result<Option<Answer>, CallError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Shows what a refusal says about the document that was sent, with carets, as `tidegate check` does.
pub(super) fn explained(answer: Result<Answer, CallError>, document: &Document) -> Result<Answer, CallError> {
    answer.inspect_err(|error| eprint!("{}", document.render(error.diagnostics())))
}

/// Asks what there is to say about a document, without storing it.
pub(super) async fn check(client: &Client, owner: &str, kind: Kind, yaml: &str) -> anyhow::Result<Answer> {
    let kind = kind.word();
    let request = CheckRequest { owner, yaml, kind };
    let call = client.call(Method::POST, &["check"])?.json(&request);
    Ok(call.send().await?)
}
