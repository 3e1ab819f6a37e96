//! A policy made of a baseline: shown before it is made, with what is left out and why.

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::{Scope, since};
use crate::error::{Diagnostic, Failure, Problem};
use crate::form::Fields;
use crate::page::{Area, Page, done, show, show_with};
use crate::session::Session;
use crate::text::{Text, url};
use crate::{EDITOR_BODY, Ui};

pub(super) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/baselines/draft", get(back).post(draft))
        .route("/ui/baselines/create", get(back).post(create))
        .layer(DefaultBodyLimit::max(EDITOR_BODY))
}

/// These pages answer forms; who comes by an address begins at the list.
async fn back() -> Redirect {
    Redirect::to("/ui/baselines")
}

#[derive(Debug, Serialize)]
struct From<'f> {
    scope: &'f str,
}

/// What is asked of `POST /baselines/draft`.
#[derive(Debug, Serialize)]
struct Wanted<'f> {
    owner: &'f str,
    from: From<'f>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_runs: Option<u32>,
    mode: &'f str,
    include: Vec<&'f str>,
    exclude: Vec<&'f str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collapse: Option<&'f str>,
}

#[derive(Debug, Deserialize)]
struct LeftOut {
    count: u64,
    phrase: Text,
}

#[derive(Debug, Deserialize)]
struct Collapsed {
    pattern: Text,
    covers: u64,
}

/// What would be made.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Draft {
    yaml: String,
    left_out: Vec<LeftOut>,
    collapsed: Vec<Collapsed>,
    diagnostics: Vec<Diagnostic>,
}

#[derive(Template)]
#[template(path = "baselines/draft.html")]
struct DraftPage {
    page: Page,
    scope: Scope,
    name: Text,
    yaml: String,
    draft: Draft,
    problem: Option<Problem>,
}

/// Shows the policy that an import would make.
async fn draft(session: Session, fields: Fields) -> Result<Response, Failure> {
    let scope = Scope::of(fields.get("scope"));
    let was: Vec<_> = fields.all("was").collect();
    let take: Vec<_> = fields.all("take").collect();
    let wanted = Wanted {
        owner: &scope.owner,
        from: From { scope: &scope.raw },
        since: Some(since(fields.get("since"))).filter(|day| !day.is_empty()),
        min_runs: number(fields.get("min_runs"))?,
        mode: if fields.has("mode") {
            fields.get("mode")
        } else {
            "audit"
        },
        include: take.iter().copied().filter(|one| !was.contains(one)).collect(),
        exclude: was.iter().copied().filter(|one| !take.contains(one)).collect(),
        collapse: fields.has("collapse").then_some("auto"),
    };
    let asked = session
        .api
        .post(&url(&["baselines", "draft"], &[]), &wanted)
        .await;
    let draft: Draft = asked?.json()?;
    let name = suggested(&scope);
    let page = session.page(&title(&scope), Area::Baselines);
    Ok(show(&DraftPage {
        page,
        scope,
        name: name.into(),
        yaml: draft.yaml.clone(),
        draft,
        problem: None,
    }))
}

/// A number of a form; nothing when none was written.
fn number(text: &str) -> Result<Option<u32>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("{text:?} is no number of runs; write one from 1 on"),
        )
    };
    text.parse().map(Some).map_err(wrong)
}

fn title(scope: &Scope) -> String {
    format!("A policy of {}", scope.name)
}

/// A name to begin with: the last part of the scope's, without what no policy is called.
fn suggested(scope: &Scope) -> String {
    let last = scope.name.raw().rsplit('/').next().unwrap_or_default();
    let last = last
        .strip_suffix(".yml")
        .or_else(|| last.strip_suffix(".yaml"))
        .unwrap_or(last);
    let plain: String = last
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '-'
            }
        })
        .take(100)
        .collect();
    plain.trim_matches('.').to_owned()
}

#[derive(Debug, Serialize)]
struct New<'f> {
    name: &'f str,
    yaml: &'f str,
}

#[derive(Debug, Deserialize)]
struct Made {
    owner: Text,
    name: Text,
}

/// Makes the policy as it stands in the form.
async fn create(State(ui): State<Ui>, session: Session, fields: Fields) -> Result<Response, Failure> {
    let scope = Scope::of(fields.get("scope"));
    let yaml = fields.document("yaml");
    let new = New {
        name: fields.get("name"),
        yaml: &yaml,
    };
    let asked = session
        .api
        .post(&url(&["orgs", &scope.owner, "policies"], &[]), &new)
        .await;
    match asked {
        Ok(reply) => {
            let made: Made = reply.json()?;
            let to = url(
                &["ui", "orgs", made.owner.raw(), "policies", made.name.raw()],
                &[],
            );
            Ok(done(&ui, &to, "policy-imported").into_response())
        }
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            let status = problem.status();
            let page = session.page(&title(&scope), Area::Baselines);
            let shown = DraftPage {
                page,
                scope,
                name: new.name.into(),
                yaml: yaml.clone(),
                draft: Draft::default(),
                problem: Some(problem),
            };
            Ok(show_with(status, &shown))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_suggested_name_is_one_that_policies_have() {
        let of = |scope: &str| suggested(&Scope::of(scope));
        assert_eq!(of("org:acme"), "acme");
        assert_eq!(of("repo:acme/web.site"), "web.site");
        assert_eq!(of("workflow:acme/web/release build.yml"), "release-build");
        assert_eq!(of("workflow:acme/web/.yml"), "");
    }

    #[test]
    fn a_number_that_is_none_is_said() {
        assert_eq!(number("").unwrap(), None);
        assert_eq!(number("7").unwrap(), Some(7));
        assert_eq!(number("many").unwrap_err().status, 400);
    }
}
