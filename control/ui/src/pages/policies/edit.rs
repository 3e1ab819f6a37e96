//! The editor: a new policy, or another version of one. Every button is a form's, so that all of it works without
//! scripts; with them the text is checked as it is typed.
//!
//! Owns the text on its way: it goes from page to page in the form, with the tag of the version that it began from, until
//! it is stored or left.

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::propose::{Edits, LockdownChange, ProposedLockdown, propose};
use super::show::{Checked, Lockdown, check};
use super::{Mode, Named, import, list_of, review};
use crate::client::Payload;
use crate::error::{Failure, Problem};
use crate::form::Fields;
use crate::page::{Area, Page, done, show_part, show_with};
use crate::proposal::Covered;
use crate::session::Session;
use crate::text::{Text, url};
use crate::{EDITOR_BODY, Ui};

/// What a new policy begins with.
const BEGINNING: &str = "# Records what it would refuse. Switch to block when nothing else is needed.\negress-policy: audit\n\
                         allowed-endpoints: >\n";
/// Detections of the lockdown section.
const DETECTIONS: [(&str, &str); 3] = [
    (
        "Privileged-Container",
        "A container with the host's privileges is started",
    ),
    (
        "Runner-Worker-Memory-Read",
        "Another process reads the memory of the runner's worker",
    ),
    ("Reverse-Shell", "A shell takes its input from the network"),
];

pub(super) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/orgs/{owner}/new-policy", get(begin).post(change_new))
        .route("/ui/orgs/{owner}/policies/{name}/edit", get(open).post(change))
        .route("/ui/orgs/{owner}/check", post(check_part))
        .layer(DefaultBodyLimit::max(EDITOR_BODY))
}

/// A text that is being written.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) named: Named,
    pub(super) is_new: bool,
    pub(super) yaml: String,
    /// Of the version that it began from; empty for a new policy.
    pub(super) etag: String,
}

impl Draft {
    /// The newest version that is stored.
    pub(super) async fn stored(session: &Session, named: Named) -> Result<Self, Problem> {
        let stored = named.load(&session.api).await?;
        Ok(Self {
            yaml: stored.policy.yaml,
            etag: stored.etag,
            is_new: false,
            named,
        })
    }

    pub(super) fn of(named: Named, is_new: bool, fields: &Fields) -> Self {
        let name = if is_new {
            fields.get("name").to_owned()
        } else {
            named.name
        };
        Self {
            named: Named {
                owner: named.owner,
                name,
            },
            is_new,
            yaml: fields.document("yaml"),
            etag: fields.get("etag").to_owned(),
        }
    }

    /// Where its forms go.
    pub(super) fn action(&self) -> String {
        if self.is_new {
            url(&["ui", "orgs", &self.named.owner, "new-policy"], &[])
        } else {
            self.named.page(&["edit"], &[])
        }
    }

    /// Where leaving it leads.
    pub(super) fn back(&self) -> String {
        if self.is_new {
            list_of(&self.named.owner)
        } else {
            self.named.page(&[], &[])
        }
    }

    pub(super) fn title(&self) -> String {
        if self.is_new {
            "New policy".to_owned()
        } else {
            format!("Edit {}", self.named.name)
        }
    }

    pub(super) fn name(&self) -> Text {
        self.named.shown()
    }

    /// The name that the API is asked with: a new policy may have none yet.
    pub(super) fn asked_as(&self) -> Named {
        let name = if self.named.name.is_empty() {
            "new"
        } else {
            &self.named.name
        };
        Named {
            owner: self.named.owner.clone(),
            name: name.to_owned(),
        }
    }
}

/// A line of the form about a detection.
struct DetectionBox {
    name: &'static str,
    meaning: &'static str,
    is_on: bool,
}

#[derive(Template)]
#[template(path = "policies/edit.html")]
struct EditPage {
    page: Page,
    draft: Draft,
    checked: Checked,
    check: String,
    mode: Mode,
    lockdown: Option<Lockdown>,
    detections: Vec<DetectionBox>,
    scopes: Vec<Text>,
    problem: Option<Problem>,
    notices: Vec<String>,
}

/// The editor with a text in it, and what there is to say.
pub(super) async fn editor(
    session: &Session,
    draft: Draft,
    (problem, notices): (Option<Problem>, Vec<String>),
) -> Result<Response, Failure> {
    let owner = draft.named.owner.clone();
    let checked = match check(session, &owner, &draft.yaml).await {
        Ok(checked) => checked,
        // What can't even be checked is said by the problem.
        Err(_) if problem.is_some() => Checked::default(),
        Err(failure) => return Err(failure),
    };
    let parsed = checked.parsed.clone().unwrap_or_default();
    let lockdown = parsed.lockdown_mode.clone();
    let is_on = |name: &str| {
        lockdown
            .as_ref()
            .is_some_and(|on| on.detections.iter().any(|one| one == name))
    };
    let detections = DETECTIONS.map(|(name, meaning)| DetectionBox {
        is_on: is_on(name),
        name,
        meaning,
    });
    let status = problem.as_ref().map_or(StatusCode::OK, Problem::status);
    let page = session
        .page(&draft.title(), Area::Policies)
        .of(&owner)
        .with(&["editor.js"]);
    Ok(show_with(
        status,
        &EditPage {
            page,
            check: url(&["ui", "orgs", &owner, "check"], &[]),
            mode: parsed.mode(),
            detections: detections.into(),
            scopes: import::scopes(session, &owner).await?,
            lockdown,
            checked,
            problem,
            notices,
            draft,
        },
    ))
}

async fn begin(session: Session, Path(owner): Path<String>) -> Result<Response, Failure> {
    let draft = Draft {
        named: Named {
            owner,
            name: String::new(),
        },
        is_new: true,
        yaml: BEGINNING.to_owned(),
        etag: String::new(),
    };
    editor(&session, draft, (None, Vec::new())).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    /// A version to begin from.
    version: String,
    /// An endpoint to be allowed.
    allow: String,
}

#[derive(Debug, Deserialize)]
struct Version {
    yaml: String,
}

async fn open(
    session: Session,
    Path(named): Path<Named>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let mut draft = Draft::stored(&session, named).await?;
    let mut notices = Vec::new();
    if !asked.version.is_empty() {
        let old: Version = session
            .api
            .get(&draft.named.api(&["versions", &asked.version], &[]))
            .await?;
        draft.yaml = old.yaml;
        notices.push(format!(
            "This is the text of version {}. It is not stored yet.",
            asked.version
        ));
    }
    if asked.allow.is_empty() {
        return editor(&session, draft, (None, notices)).await;
    }
    let edits = Edits {
        allow: vec![asked.allow],
        ..Edits::default()
    };
    changed(&session, draft, edits).await
}

async fn change_new(
    ui: State<Ui>,
    session: Session,
    Path(owner): Path<String>,
    fields: Fields,
) -> Result<Response, Failure> {
    let named = Named {
        owner,
        name: String::new(),
    };
    act(&ui, &session, Draft::of(named, true, &fields), &fields).await
}

async fn change(
    ui: State<Ui>,
    session: Session,
    Path(named): Path<Named>,
    fields: Fields,
) -> Result<Response, Failure> {
    act(&ui, &session, Draft::of(named, false, &fields), &fields).await
}

/// What the button asks for.
async fn act(ui: &Ui, session: &Session, draft: Draft, fields: &Fields) -> Result<Response, Failure> {
    match fields.get("do") {
        "block" => changed(session, draft, Edits::mode("block")).await,
        "audit" => changed(session, draft, Edits::mode("audit")).await,
        "lockdown" => {
            let lockdown = ProposedLockdown {
                enabled: fields.has("enabled"),
                detections: fields.all("detection").map(str::to_owned).collect(),
            };
            changed(session, draft, Edits::lockdown(LockdownChange::Write(lockdown))).await
        }
        "no-lockdown" => changed(session, draft, Edits::lockdown(LockdownChange::Drop)).await,
        "import" => import::preview(session, draft, fields).await,
        // The Enter key in a field: what is asked for is shown, and nothing is stored.
        "enter" if import::is_asked(fields) => import::preview(session, draft, fields).await,
        "add" => {
            let allow = fields.all("allow").map(str::to_owned).collect();
            changed(
                session,
                draft,
                Edits {
                    allow,
                    ..Edits::default()
                },
            )
            .await
        }
        "review" if draft.is_new => create(ui, session, draft).await,
        "review" => review::page(session, draft, None).await,
        "save" => review::save(ui, session, draft, fields).await,
        _ => editor(session, draft, (None, Vec::new())).await,
    }
}

/// The editor with the text after a change.
async fn changed(session: &Session, mut draft: Draft, edits: Edits) -> Result<Response, Failure> {
    let asked = edits.allow.len();
    match propose(session, &draft, edits).await {
        Ok(proposal) => {
            let mut notices = Vec::new();
            if proposal.changed {
                let lines = super::counted(proposal.diff.added as usize, "line", "lines");
                notices.push(format!(
                    "The text was changed: {lines} added, {} removed. It is not stored yet.",
                    proposal.diff.removed
                ));
            } else {
                notices.push("Nothing had to be changed.".to_owned());
            }
            let covered = proposal.covered.iter().take(10).map(Covered::said);
            notices.extend(covered);
            if asked > 10 && proposal.covered.len() > 10 {
                notices.push(format!(
                    "And {} more were allowed already.",
                    proposal.covered.len() - 10
                ));
            }
            draft.yaml = proposal.yaml;
            editor(session, draft, (None, notices)).await
        }
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            editor(session, draft, (Some(problem), Vec::new())).await
        }
    }
}

#[derive(Debug, Serialize)]
struct NewPolicy<'d> {
    name: &'d str,
    yaml: &'d str,
}

async fn create(ui: &Ui, session: &Session, draft: Draft) -> Result<Response, Failure> {
    let new = NewPolicy {
        name: &draft.named.name,
        yaml: &draft.yaml,
    };
    let place = url(&["orgs", &draft.named.owner, "policies"], &[]);
    match session
        .api
        .send(axum::http::Method::POST, &place, None, Payload::json(&new))
        .await
    {
        Ok(_) => Ok(done(ui, &draft.named.page(&[], &[]), "policy-created")),
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            editor(session, draft, (Some(problem), Vec::new())).await
        }
    }
}

#[derive(Template)]
#[template(path = "policies/check.html")]
struct CheckPart {
    checked: Checked,
}

/// What there is to say about a text, as it is typed.
async fn check_part(
    session: Session,
    Path(owner): Path<String>,
    fields: Fields,
) -> Result<Response, Failure> {
    let checked = check(&session, &owner, &fields.document("yaml")).await?;
    Ok(show_part(&CheckPart { checked }))
}
