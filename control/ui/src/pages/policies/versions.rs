//! The versions of a policy, a deleted one too: their texts, what differs between two, the way back to one, and a policy
//! made again from one.
//!
//! Texts stay on the server until they stand in a form: addresses name a version, never carry it.

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::edit::{Draft, editor};
use super::parts::Diff;
use super::{Named, review};
use crate::client::Payload;
use crate::error::{Failure, Problem};
use crate::form::Fields;
use crate::page::{Area, Page, done, show, show_with};
use crate::session::Session;
use crate::text::Text;
use crate::time::When;
use crate::{EDITOR_BODY, Ui};

pub(super) fn routes() -> Router<Ui> {
    Router::new()
        .route(
            "/ui/orgs/{owner}/policies/{name}/versions/{version}",
            get(version),
        )
        .route("/ui/orgs/{owner}/policies/{name}/diff", get(compare))
        .route("/ui/orgs/{owner}/policies/{name}/again", get(again))
        .route(
            "/ui/orgs/{owner}/policies/{name}/rollback",
            get(ask).post(rollback),
        )
        .layer(DefaultBodyLimit::max(EDITOR_BODY))
}

/// A version as it was written.
#[derive(Debug, Deserialize)]
struct Version {
    version: u32,
    yaml: String,
    apply: Text,
    created_at: When,
    created_by: Text,
}

impl Version {
    fn is_for_next_job(&self) -> bool {
        self.apply.raw() == "next-job"
    }
}

/// Which of the policies that had a name, and which of its versions.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Of {
    /// Of a deleted policy.
    id: String,
    version: String,
}

async fn read(session: &Session, named: &Named, of: &Of) -> Result<Version, Problem> {
    let place = named.api(&["versions", &of.version], &[("id", &of.id)]);
    session.api.get(&place).await
}

#[derive(Template)]
#[template(path = "policies/version.html")]
struct VersionPage {
    page: Page,
    named: Named,
    one: Version,
    /// The newest.
    newest: u32,
    is_deleted: bool,
    history: String,
    compare: String,
    rollback: String,
    edit: String,
    again: String,
}

/// One version's text.
async fn version(
    session: Session,
    Path((owner, name, version)): Path<(String, String, String)>,
    Query(of): Query<Of>,
) -> Result<Response, Failure> {
    let (named, of) = (Named { owner, name }, Of { version, ..of });
    let policy = named.load_of(&session.api, &of.id).await?.policy;
    let one = read(&session, &named, &of).await?;
    let (id, number) = (of.id.as_str(), of.version.as_str());
    let title = format!("Version {number} of {}", named.name);
    Ok(show(&VersionPage {
        page: session.page(&title, Area::Policies).of(&named.owner),
        newest: policy.version,
        is_deleted: policy.deleted_at.is_some(),
        history: named.page(&["history"], &[("id", id)]),
        compare: named.page(&["diff"], &[("id", id), ("to", number)]),
        rollback: named.page(&["rollback"], &[("to", number)]),
        edit: named.page(&["edit"], &[("version", number)]),
        again: named.page(&["again"], &[("id", id), ("version", number)]),
        named,
        one,
    }))
}

/// The editor of a new policy with the text of a version of one that was deleted, under its name.
async fn again(
    session: Session,
    Path(named): Path<Named>,
    Query(of): Query<Of>,
) -> Result<Response, Failure> {
    let one = read(&session, &named, &of).await?;
    let mut notices = vec![format!(
        "This is the text of version {} of the deleted policy {}. Nothing is stored yet. The new policy has a history of \
         its own and is attached to nothing.",
        one.version, named.name
    )];
    match named.load(&session.api).await {
        Ok(_) => notices.push(format!(
            "There is a policy with the name {} now: give this one another name.",
            named.name
        )),
        Err(problem) if problem.status == 404 => {}
        Err(problem) => return Err(problem.into()),
    }
    let draft = Draft {
        named,
        is_new: true,
        yaml: one.yaml,
        etag: String::new(),
    };
    editor(&session, draft, (None, notices)).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Versions {
    id: String,
    from: String,
    to: String,
}

#[derive(Debug, Deserialize)]
struct Compared {
    from: u32,
    to: u32,
    #[serde(flatten)]
    diff: Diff,
}

#[derive(Template)]
#[template(path = "policies/compare.html")]
struct ComparePage {
    page: Page,
    named: Named,
    /// Of a deleted policy.
    id: String,
    compared: Compared,
}

impl ComparePage {
    fn left(&self) -> String {
        format!("Version {}", self.compared.from)
    }

    fn right(&self) -> String {
        format!("Version {}", self.compared.to)
    }
}

/// Two versions side by side, whole.
async fn compare(
    session: Session,
    Path(named): Path<Named>,
    Query(asked): Query<Versions>,
) -> Result<Response, Failure> {
    let query = [
        ("id", asked.id.as_str()),
        ("from", &asked.from),
        ("to", &asked.to),
    ];
    let compared = session.api.get(&named.api(&["diff"], &query)).await?;
    let title = format!("Versions of {}", named.name);
    Ok(show(&ComparePage {
        page: session.page(&title, Area::Policies).of(&named.owner),
        id: asked.id,
        named,
        compared,
    }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct To {
    to: String,
}

#[derive(Template)]
#[template(path = "policies/rollback.html")]
struct RollbackPage {
    page: Page,
    named: Named,
    to: String,
    version: u32,
    etag: String,
    attached: usize,
    diff: Diff,
    yaml: String,
    impact: String,
    problem: Option<Problem>,
}

impl RollbackPage {
    fn left(&self) -> String {
        format!("Version {}, now", self.version)
    }

    fn right(&self) -> Text {
        format!("Version {}", self.to).into()
    }
}

async fn ask(
    session: Session,
    Path(named): Path<Named>,
    Query(asked): Query<To>,
) -> Result<Response, Failure> {
    confirm(&session, named, asked.to, None).await
}

async fn confirm(
    session: &Session,
    named: Named,
    to: String,
    problem: Option<Problem>,
) -> Result<Response, Failure> {
    let stored = named.load(&session.api).await?;
    let version = stored.policy.version;
    let old: Version = session.api.get(&named.api(&["versions", &to], &[])).await?;
    let query = [("from", version.to_string()), ("to", to.clone())];
    let query: Vec<_> = query
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let diff: Diff = session.api.get(&named.api(&["diff"], &query)).await?;
    let title = format!("Roll back {}", named.name);
    let page = session
        .page(&title, Area::Policies)
        .of(&named.owner)
        .with(&["impact.js"]);
    let status = problem.as_ref().map_or(StatusCode::OK, Problem::status);
    Ok(show_with(
        status,
        &RollbackPage {
            page,
            impact: named.page(&["impact"], &[]),
            attached: stored.policy.attachments.len(),
            etag: stored.etag,
            yaml: old.yaml,
            named,
            to,
            version,
            diff,
            problem,
        },
    ))
}

#[derive(Debug, Serialize)]
struct Rollback {
    to: u32,
    apply: &'static str,
}

async fn rollback(
    State(ui): State<Ui>,
    session: Session,
    Path(named): Path<Named>,
    fields: Fields,
) -> Result<Response, Failure> {
    let to = fields.get("to").to_owned();
    let body = Rollback {
        to: to.parse().unwrap_or_default(),
        apply: review::apply(&fields),
    };
    let tag = Some(fields.get("etag"));
    let asked = session
        .api
        .send(
            Method::POST,
            &named.api(&["rollback"], &[]),
            tag,
            Payload::json(&body),
        )
        .await;
    match asked {
        Ok(_) => Ok(done(&ui, &named.page(&[], &[]), "policy-rolled-back")),
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            confirm(&session, named, to, Some(problem)).await
        }
    }
}
