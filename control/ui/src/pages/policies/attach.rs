//! Where a policy is attached: scopes chosen, pasted or matched by a pattern; the effect is shown before it is confirmed.

mod chosen;

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};

use self::chosen::{Chosen, list, unticked};
use super::parts::{Displaced, Fall, FallsBack, falls};
use super::{Mode, Named, Policy};
use crate::error::{Failure, Problem};
use crate::form::Fields;
use crate::page::{Area, Page, done, show_with};
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;
use crate::{EDITOR_BODY, Ui};

/// Scopes that are offered at once, and that can be attached at once.
const OFFERED: &str = "100";
const MOST: u64 = 1_000;

pub(super) fn routes() -> Router<Ui> {
    Router::new()
        .route(
            "/ui/orgs/{owner}/policies/{name}/attach",
            get(choose).post(change),
        )
        .route("/ui/orgs/{owner}/policies/{name}/detach", get(detach))
        .layer(DefaultBodyLimit::max(EDITOR_BODY))
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    search: String,
    kind: String,
    pattern: String,
}

#[derive(Debug, Deserialize)]
struct Holder {
    name: Text,
    #[serde(default)]
    mode: Mode,
}

/// A scope that was seen.
#[derive(Debug, Deserialize)]
struct Seen {
    scope: Text,
    #[serde(default)]
    last_seen: Option<When>,
    #[serde(default)]
    policy: Option<Holder>,
}

#[derive(Debug, Deserialize)]
struct Scopes {
    items: Vec<Seen>,
    #[serde(default)]
    total: u64,
}

#[derive(Template)]
#[template(path = "policies/attach.html")]
struct ChoosePage {
    page: Page,
    named: Named,
    policy: Policy,
    chosen: Chosen,
    offered: Vec<Seen>,
    total: u64,
    problem: Option<Problem>,
}

impl ChoosePage {
    fn is_ticked(&self, scope: &Text) -> bool {
        self.chosen.add.iter().any(|one| one == scope.raw())
    }

    fn is_kept(&self, scope: &Text) -> bool {
        self.chosen.left.iter().all(|one| one != scope.raw())
    }

    /// More are like the pattern than can be attached at once.
    fn are_too_many(&self) -> bool {
        self.total > MOST
    }
}

async fn choose(
    session: Session,
    Path(named): Path<Named>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let chosen = Chosen {
        asked,
        ..Chosen::default()
    };
    choices(&session, named, chosen, None).await
}

async fn choices(
    session: &Session,
    named: Named,
    mut chosen: Chosen,
    problem: Option<Problem>,
) -> Result<Response, Failure> {
    let stored = named.load(&session.api).await?;
    let query = scope_query(&named.owner, &chosen.asked, OFFERED);
    let found: Scopes = session.api.get(&url(&["scopes"], &query)).await?;
    let held = &stored.policy.attachments;
    let offered: Vec<Seen> = found
        .items
        .into_iter()
        .filter(|one| !held.contains(&one.scope))
        .collect();
    chosen.keep_all(&offered, held);
    let title = format!("Attach {}", named.name);
    let status = problem.as_ref().map_or(StatusCode::OK, Problem::status);
    let page = session
        .page(&title, Area::Policies)
        .of(&named.owner)
        .with(&["select.js"]);
    Ok(show_with(
        status,
        &ChoosePage {
            page,
            named,
            policy: stored.policy,
            chosen,
            offered,
            total: found.total,
            problem,
        },
    ))
}

/// What the picker asks for. Clusters have no owner.
fn scope_query<'a>(owner: &'a str, asked: &'a Asked, limit: &'a str) -> Vec<(&'a str, &'a str)> {
    let owner = if asked.kind == "cluster" { "" } else { owner };
    vec![
        ("owner", owner),
        ("kind", asked.kind.trim()),
        ("search", asked.search.trim()),
        ("pattern", asked.pattern.trim()),
        ("limit", limit),
    ]
}

/// Scopes as people paste them: one a line or separated by spaces and commas. `acme/web` is a repository, `acme` an
/// organization, `acme/web/ci.yml` a workflow.
fn pasted(text: &str) -> Vec<String> {
    let words = text
        .split([' ', ',', ';', '\t', '\n', '\r'])
        .map(str::trim)
        .filter(|word| !word.is_empty());
    let scope = |word: &str| match (word.contains(':'), word.matches('/').count()) {
        (true, _) => word.to_owned(),
        (false, 0) => format!("org:{word}"),
        (false, 1) => format!("repo:{word}"),
        (false, _) => format!("workflow:{word}"),
    };
    words.map(scope).collect()
}

/// What is asked of `attachments`.
#[derive(Debug, Default, Serialize)]
struct Wanted {
    add: Vec<String>,
    remove: Vec<String>,
    replace: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    shown: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Preview {
    mode: Mode,
    attach: Vec<Text>,
    detach: Vec<Text>,
    unchanged: Vec<Text>,
    displaced: Vec<Displaced>,
    falls_back: Vec<FallsBack>,
    warnings: Vec<Text>,
    shown: String,
}

#[derive(Template)]
#[template(path = "policies/attach_confirm.html")]
struct ConfirmPage {
    page: Page,
    named: Named,
    preview: Preview,
    falls: Vec<Fall>,
    impact: String,
    problem: Option<Problem>,
}

impl ConfirmPage {
    /// The button that does it.
    fn button(&self) -> String {
        let scopes = |count| super::counted(count, "scope", "scopes");
        match (self.preview.attach.len(), self.preview.detach.len()) {
            (0, left) => format!("Detach from {}", scopes(left)),
            (taken, 0) => format!("Attach to {}", scopes(taken)),
            (taken, left) => format!("Attach to {} and detach from {}", scopes(taken), scopes(left)),
        }
    }
}

/// Preview or confirmation, as the button says.
async fn change(
    ui: State<Ui>,
    session: Session,
    Path(named): Path<Named>,
    fields: Fields,
) -> Result<Response, Failure> {
    if fields.get("do") == "confirm" {
        return confirm(&ui, &session, named, &fields).await;
    }
    let wanted = match wanted(&session, &named, &fields).await {
        Ok(wanted) => wanted,
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            return choices(&session, named, Chosen::of(&fields), Some(problem)).await;
        }
    };
    preview(&session, named, (wanted, None), Chosen::of(&fields)).await
}

/// What the form means: ticked and pasted scopes, those of a pattern; those that it held and that are not ticked go.
async fn wanted(session: &Session, named: &Named, fields: &Fields) -> Result<Wanted, Problem> {
    let mut add = list(fields, "add");
    add.extend(pasted(&fields.document("paste")));
    let pattern = fields.get("matching");
    if !pattern.is_empty() {
        let asked = Asked {
            kind: fields.get("matching_kind").to_owned(),
            pattern: pattern.to_owned(),
            search: String::new(),
        };
        let most = MOST.to_string();
        let query = scope_query(&named.owner, &asked, &most);
        let found: Scopes = session.api.get(&url(&["scopes"], &query)).await?;
        if found.items.is_empty() {
            let detail = format!("no scope that was seen is like {pattern:?}");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        if found.total > MOST {
            let detail = format!(
                "{} scopes are like {pattern:?}, and {MOST} can be attached at once; attach to the organization, or \
                 take a pattern that fewer are like",
                found.total
            );
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        add.extend(found.items.into_iter().map(|one| one.scope.raw().to_owned()));
    }
    add.sort_unstable();
    add.dedup();
    let remove = unticked(fields);
    if add.is_empty() && remove.is_empty() {
        let detail =
            "Nothing would change: tick or paste scopes to attach to, or untick some that it is attached to.";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    Ok(Wanted {
        add,
        remove,
        ..Wanted::default()
    })
}

/// Shows the effect.
async fn preview(
    session: &Session,
    named: Named,
    (wanted, problem): (Wanted, Option<Problem>),
    chosen: Chosen,
) -> Result<Response, Failure> {
    let place = named.api(&["attachments"], &[("dry_run", "true")]);
    let asked = match session.api.post(&place, &wanted).await {
        Ok(reply) => reply,
        Err(wrong) => {
            let wrong = Failure::problem(wrong)?;
            return choices(session, named, chosen, Some(wrong)).await;
        }
    };
    let mut preview: Preview = asked.json()?;
    let status = problem.as_ref().map_or(StatusCode::OK, Problem::status);
    let title = match (preview.attach.is_empty(), preview.detach.is_empty()) {
        (true, false) => format!("Detach {}", named.name),
        (false, false) => format!("Modify attachment of {}", named.name),
        (_, true) => format!("Attach {}", named.name),
    };
    let page = session
        .page(&title, Area::Policies)
        .of(&named.owner)
        .with(&["impact.js"]);
    let falls = falls(std::mem::take(&mut preview.falls_back));
    Ok(show_with(
        status,
        &ConfirmPage {
            page,
            impact: named.page(&["impact"], &[]),
            named,
            falls,
            preview,
            problem,
        },
    ))
}

async fn confirm(ui: &Ui, session: &Session, named: Named, fields: &Fields) -> Result<Response, Failure> {
    let wanted = Wanted {
        add: list(fields, "add"),
        remove: list(fields, "remove"),
        replace: fields.has("replace"),
        shown: Some(fields.get("shown").to_owned()).filter(|shown| !shown.is_empty()),
    };
    match session.api.post(&named.api(&["attachments"], &[]), &wanted).await {
        Ok(_) => {
            let said = if wanted.add.is_empty() {
                "policy-detached"
            } else {
                "policy-attached"
            };
            Ok(done(ui, &named.page(&[], &[]), said))
        }
        // Something changed since it was shown: it is shown again, as it is now.
        Err(problem) if problem.status == 409 => {
            let again = Wanted {
                shown: None,
                ..wanted
            };
            let chosen = Chosen::confirmed(&again);
            preview(session, named, (again, Some(problem)), chosen).await
        }
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            choices(session, named, Chosen::confirmed(&wanted), Some(problem)).await
        }
    }
}

/// Leaving every scope, to be confirmed.
async fn detach(session: Session, Path(named): Path<Named>) -> Result<Response, Failure> {
    let stored = named.load(&session.api).await?;
    let remove: Vec<String> = stored
        .policy
        .attachments
        .iter()
        .map(|scope| scope.raw().to_owned())
        .collect();
    if remove.is_empty() {
        let problem = Problem::new(StatusCode::CONFLICT, "It is attached to nothing.");
        return choices(&session, named, Chosen::default(), Some(problem)).await;
    }
    let wanted = Wanted {
        remove,
        ..Wanted::default()
    };
    let chosen = Chosen::confirmed(&wanted);
    preview(&session, named, (wanted, None), chosen).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasted_scopes_are_read_as_people_write_them() {
        let read =
            pasted("repo:acme/web, acme/api\nacme\tworkflow:acme/web/ci.yml acme/web/b.yml;cluster:prod\r\n");
        assert_eq!(
            read,
            [
                "repo:acme/web",
                "repo:acme/api",
                "org:acme",
                "workflow:acme/web/ci.yml",
                "workflow:acme/web/b.yml",
                "cluster:prod"
            ]
        );
    }
}
