//! Writing an endpoint set: the editor, the last look at what changes, and what happens when somebody else was faster.
//!
//! One form goes through all of it; its buttons (`do`) say what is done with the text. Nothing is stored but by `save`.

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::{Set, place, policy, read};
use crate::client::Payload;
use crate::error::{Diagnostic, Failure, Problem};
use crate::form::Fields;
use crate::page::{Area, Page, done, show, show_part, show_with};
use crate::proposal::Proposal;
use crate::session::Session;
use crate::text::{Text, url};
use crate::{EDITOR_BODY, Ui};

/// What a new set begins with.
const BLANK: &str =
    "# One endpoint a line: NAME[:PORT][/PROTOCOL], *.NAME, an address or a range.\n- git.example:443\n";

pub(super) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/orgs/{owner}/new-endpoint-set", get(new).post(create))
        .route(
            "/ui/orgs/{owner}/endpoint-sets/{name}/edit",
            get(edit).post(change),
        )
        .route("/ui/orgs/{owner}/check-endpoint-set", post(check_part))
        .layer(DefaultBodyLimit::max(EDITOR_BODY))
}

/// What a check has to say.
#[derive(Debug, Default, Deserialize)]
struct Checked {
    ok: bool,
    diagnostics: Vec<Diagnostic>,
}

/// A set as it is written.
#[derive(Debug)]
struct Draft {
    owner: Text,
    /// Empty, or as it was typed, while the set is new.
    name: Text,
    is_new: bool,
    yaml: String,
    /// The `ETag` of what was read; empty for a new set.
    tag: String,
}

impl Draft {
    fn back(&self) -> String {
        if self.is_new {
            return url(&["ui", "orgs", self.owner.raw(), "endpoint-sets"], &[]);
        }
        place(&self.owner, &self.name, "")
    }

    fn action(&self) -> String {
        if self.is_new {
            return url(&["ui", "orgs", self.owner.raw(), "new-endpoint-set"], &[]);
        }
        place(&self.owner, &self.name, "edit")
    }

    fn check(&self) -> String {
        url(&["ui", "orgs", self.owner.raw(), "check-endpoint-set"], &[])
    }

    fn page(&self, session: &Session) -> Page {
        let title = if self.is_new {
            "New endpoint set".to_owned()
        } else {
            format!("Edit {}", self.name)
        };
        session.page(&title, Area::EndpointSets).of(self.owner.raw())
    }
}

#[derive(Template)]
#[template(path = "sets/edit.html")]
struct Editor {
    page: Page,
    draft: Draft,
    used_by: Vec<Text>,
    checked: Checked,
    problem: Option<Problem>,
    /// What somebody else saved meanwhile.
    theirs: Option<Set>,
}

impl Editor {
    /// An editor with the draft, and with who uses the set.
    async fn of(session: &Session, draft: Draft) -> Result<Self, Problem> {
        let mut editor = Self {
            page: draft.page(session).with(&["editor.js"]),
            used_by: Vec::new(),
            checked: Checked::default(),
            problem: None,
            theirs: None,
            draft,
        };
        if !editor.draft.is_new {
            let (set, _) = read(session, editor.draft.owner.raw(), editor.draft.name.raw()).await?;
            editor.used_by = set.used_by;
        }
        Ok(editor)
    }
}

async fn new(session: Session, Path(owner): Path<String>) -> Result<Response, Failure> {
    let draft = Draft {
        owner: owner.into(),
        name: Text::default(),
        is_new: true,
        yaml: BLANK.to_owned(),
        tag: String::new(),
    };
    Ok(show(&Editor::of(&session, draft).await?))
}

async fn edit(session: Session, Path((owner, name)): Path<(String, String)>) -> Result<Response, Failure> {
    let (set, tag) = read(&session, &owner, &name).await?;
    let draft = Draft {
        owner: set.owner,
        name: set.name,
        is_new: false,
        yaml: set.yaml,
        tag,
    };
    let mut editor = Editor::of(&session, draft).await?;
    editor.checked.ok = true;
    Ok(show(&editor))
}

async fn create(
    State(ui): State<Ui>,
    session: Session,
    Path(owner): Path<String>,
    fields: Fields,
) -> Result<Response, Failure> {
    let draft = Draft {
        owner: owner.into(),
        name: fields.get("name").into(),
        is_new: true,
        yaml: fields.document("yaml"),
        tag: String::new(),
    };
    if fields.get("do") == "save" && draft.name.is_empty() {
        let detail = "give the set a name, by which policies use it";
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
        let mut editor = Editor::of(&session, draft).await?;
        editor.problem = Some(problem);
        return Ok(show_with(StatusCode::UNPROCESSABLE_ENTITY, &editor));
    }
    act(&ui, &session, draft, &fields).await
}

async fn change(
    State(ui): State<Ui>,
    session: Session,
    Path((owner, name)): Path<(String, String)>,
    fields: Fields,
) -> Result<Response, Failure> {
    let draft = Draft {
        owner: owner.into(),
        name: name.into(),
        is_new: false,
        yaml: fields.document("yaml"),
        tag: fields.get("tag").into(),
    };
    act(&ui, &session, draft, &fields).await
}

/// What the button asks for.
async fn act(ui: &Ui, session: &Session, draft: Draft, fields: &Fields) -> Result<Response, Failure> {
    match fields.get("do") {
        "review" => review(session, draft).await,
        "save" => save(ui, session, draft).await,
        _ => {
            let checked = check(session, draft.owner.raw(), &draft.yaml).await?;
            let mut editor = Editor::of(session, draft).await?;
            editor.checked = checked;
            Ok(show(&editor))
        }
    }
}

#[derive(Debug, Serialize)]
struct Check<'a> {
    owner: &'a str,
    yaml: &'a str,
    kind: &'static str,
}

async fn check(session: &Session, owner: &str, yaml: &str) -> Result<Checked, Problem> {
    let asked = Check {
        owner,
        yaml,
        kind: "endpoint-set",
    };
    session.api.post(&url(&["check"], &[]), &asked).await?.json()
}

#[derive(Template)]
#[template(path = "policies/check.html")]
struct CheckPart {
    checked: Checked,
}

/// The diagnostics alone, as the editor's script asks for them while somebody types.
async fn check_part(
    session: Session,
    Path(owner): Path<String>,
    fields: Fields,
) -> Result<Response, Failure> {
    let checked = check(&session, &owner, &fields.document("yaml")).await?;
    Ok(show_part(&CheckPart { checked }))
}

#[derive(Debug, Serialize)]
struct Propose<'a> {
    yaml: &'a str,
    against_stored: bool,
}

#[derive(Template)]
#[template(path = "sets/review.html")]
struct Review {
    page: Page,
    draft: Draft,
    used_by: Vec<Text>,
    proposal: Proposal,
}

/// The last look at a change.
async fn review(session: &Session, draft: Draft) -> Result<Response, Failure> {
    let path = [
        "orgs",
        draft.owner.raw(),
        "endpoint-sets",
        draft.name.raw(),
        "propose",
    ];
    let asked = Propose {
        yaml: &draft.yaml,
        against_stored: true,
    };
    match session.api.post(&url(&path, &[]), &asked).await {
        Ok(reply) => {
            let (set, _) = read(session, draft.owner.raw(), draft.name.raw()).await?;
            Ok(show(&Review {
                page: draft.page(session),
                used_by: set.used_by,
                proposal: reply.json()?,
                draft,
            }))
        }
        Err(problem) => refused(session, draft, Failure::problem(problem)?).await,
    }
}

#[derive(Debug, Serialize)]
struct Update<'a> {
    yaml: &'a str,
}

async fn save(ui: &Ui, session: &Session, draft: Draft) -> Result<Response, Failure> {
    let path = ["orgs", draft.owner.raw(), "endpoint-sets", draft.name.raw()];
    let update = Payload::json(&Update { yaml: &draft.yaml });
    let sent = session
        .api
        .send(Method::PUT, &url(&path, &[]), Some(&draft.tag), update)
        .await;
    match sent {
        Ok(_) => Ok(done(ui, &place(&draft.owner, &draft.name, ""), "set-saved")),
        Err(problem) => refused(session, draft, Failure::problem(problem)?).await,
    }
}

/// The editor again, with what was wrong; with the newer version beside it when somebody else was faster.
async fn refused(session: &Session, draft: Draft, mut problem: Problem) -> Result<Response, Failure> {
    let status = problem.status();
    let (owner, name) = (draft.owner.clone(), draft.name.clone());
    let mut editor = Editor::of(session, draft).await?;
    editor.checked.diagnostics = std::mem::take(&mut problem.diagnostics);
    if problem.is_stale() || problem.status == 428 {
        let (theirs, tag) = read(session, owner.raw(), name.raw()).await?;
        editor.used_by.clone_from(&theirs.used_by);
        // To save again says which version it goes over.
        editor.draft.tag = tag;
        editor.draft.is_new = false;
        editor.page = editor.draft.page(session).with(&["editor.js"]);
        editor.theirs = Some(theirs);
    }
    editor.problem = Some(problem);
    Ok(show_with(status, &editor))
}
