//! Deleting a policy: what it is attached to and what its jobs fall back to, before it is confirmed.

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

use super::parts::{Fall, FallsBack, falls};
use super::{Mode, Named, list_of};
use crate::Ui;
use crate::error::{Failure, Problem};
use crate::form::Fields;
use crate::page::{Area, Page, done, show_with};
use crate::session::Session;
use crate::text::Text;

pub(super) fn routes() -> Router<Ui> {
    Router::new().route("/ui/orgs/{owner}/policies/{name}/delete", get(ask).post(delete))
}

#[derive(Debug, Deserialize)]
struct Preview {
    mode: Mode,
    detached: Vec<Text>,
    falls_back: Vec<FallsBack>,
    shown: String,
}

#[derive(Template)]
#[template(path = "policies/delete.html")]
struct DeletePage {
    page: Page,
    named: Named,
    preview: Preview,
    falls: Vec<Fall>,
    impact: String,
    problem: Option<Problem>,
}

async fn ask(session: Session, Path(named): Path<Named>) -> Result<Response, Failure> {
    confirm(&session, named, None).await
}

async fn confirm(session: &Session, named: Named, problem: Option<Problem>) -> Result<Response, Failure> {
    let place = named.api(&[], &[("dry_run", "true")]);
    let mut preview: Preview = session.api.delete(&place, None).await?.json()?;
    let title = format!("Delete {}", named.name);
    let page = session
        .page(&title, Area::Policies)
        .of(&named.owner)
        .with(&["impact.js"]);
    let status = problem.as_ref().map_or(StatusCode::OK, Problem::status);
    let falls = falls(std::mem::take(&mut preview.falls_back));
    Ok(show_with(
        status,
        &DeletePage {
            page,
            impact: named.page(&["impact"], &[]),
            named,
            falls,
            preview,
            problem,
        },
    ))
}

async fn delete(
    State(ui): State<Ui>,
    session: Session,
    Path(named): Path<Named>,
    fields: Fields,
) -> Result<Response, Failure> {
    let place = named.api(&[], &[("shown", fields.get("shown"))]);
    match session.api.delete(&place, None).await {
        Ok(_) => Ok(done(&ui, &list_of(&named.owner), "policy-deleted")),
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            confirm(&session, named, Some(problem)).await
        }
    }
}
