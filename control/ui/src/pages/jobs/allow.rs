//! From a refusal to a policy that allows it, in two clicks: the change is shown as a diff, and made when it is confirmed.
//!
//! Owns which document is changed: the policy that holds the scope of the refusal now, or one of its endpoint sets. The
//! text is the API's proposal, asked for once more when it is stored: nothing that a browser sends becomes a document.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::{Considered, Held};
use crate::Ui;
use crate::client::{Api, Payload};
use crate::error::{Failure, Problem};
use crate::form::Fields;
use crate::page::{Area, Page, done, show, show_with};
use crate::proposal::Proposal;
use crate::session::Session;
use crate::text::{Text, local, url};

pub(super) fn routes() -> Router<Ui> {
    Router::new().route("/ui/allow", get(ask).post(store))
}

/// What is to be allowed, and where the refusal came from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    /// `policy` or `set`.
    to: String,
    /// As a policy writes it: `evil.test:443`.
    endpoint: String,
    /// The scope whose policy refused.
    scope: String,
    /// The policy that refused, and its version.
    policy: String,
    version: String,
    /// The job that was refused; empty for none.
    job: String,
    /// The endpoint set that was chosen.
    set: String,
}

impl Asked {
    fn of(fields: &Fields) -> Self {
        let text = |name| fields.get(name).to_owned();
        Self {
            to: text("to"),
            endpoint: text("endpoint"),
            scope: text("scope"),
            policy: text("policy"),
            version: text("version"),
            job: text("job"),
            set: text("set"),
        }
    }

    fn is_set(&self) -> bool {
        self.to == "set"
    }

    /// The same page for another document.
    fn href(&self, to: &str, set: &str) -> String {
        url(
            &["ui", "allow"],
            &[
                ("to", to),
                ("endpoint", &self.endpoint),
                ("scope", &self.scope),
                ("policy", &self.policy),
                ("version", &self.version),
                ("job", &self.job),
                ("set", set),
            ],
        )
    }

    /// Where one came from.
    fn back(&self) -> String {
        if self.job.is_empty() {
            return "/ui/events".to_owned();
        }
        local(&url(&["ui", "jobs", &self.job], &[])).into_owned()
    }
}

/// A policy or a set that is to be changed.
#[derive(Clone, Debug)]
struct Target {
    owner: String,
    name: String,
    is_set: bool,
}

impl Target {
    fn kind(&self) -> &'static str {
        if self.is_set { "endpoint set" } else { "policy" }
    }

    /// As forms and addresses name it.
    fn field(&self) -> &'static str {
        if self.is_set { "set" } else { "policy" }
    }

    fn path(&self, more: &[&str]) -> String {
        let list = if self.is_set { "endpoint-sets" } else { "policies" };
        let mut segments = vec!["orgs", self.owner.as_str(), list, self.name.as_str()];
        segments.extend_from_slice(more);
        url(&segments, &[])
    }

    fn href(&self) -> String {
        format!("/ui{}", self.path(&[]))
    }

    async fn propose(&self, api: &Api, endpoint: &str) -> Result<Proposal, Problem> {
        #[derive(Serialize)]
        struct ToPolicy<'e> {
            allow: [&'e str; 1],
        }
        #[derive(Serialize)]
        struct ToSet<'e> {
            add: [&'e str; 1],
        }
        let path = self.path(&["propose"]);
        let reply = if self.is_set {
            api.post(&path, &ToSet { add: [endpoint] }).await?
        } else {
            api.post(&path, &ToPolicy { allow: [endpoint] }).await?
        };
        reply.json()
    }
}

#[derive(Template)]
#[template(path = "jobs/allow.html")]
struct AllowPage {
    page: Page,
    asked: Asked,
    /// The policy that holds the scope now.
    held: Option<Held>,
    /// The sets to choose from, those that the policy uses first: name, whether it uses it.
    sets: Vec<(Text, bool)>,
    target: Option<Target>,
    proposal: Option<Proposal>,
    problem: Option<Problem>,
}

impl AllowPage {
    /// The policy that refused is not the one that stands there now.
    fn is_another(&self) -> bool {
        let held = self.held.as_ref();
        !self.asked.policy.is_empty() && held.is_some_and(|held| held.name.raw() != self.asked.policy)
    }

    /// The policy was changed since.
    fn is_newer(&self) -> bool {
        let held = self.held.as_ref();
        !self.asked.version.is_empty()
            && !self.is_another()
            && held.is_some_and(|held| held.version.to_string() != self.asked.version)
    }

    /// No policy decided: the default of a network did, which stands in a gateway's file.
    fn is_default(&self) -> bool {
        self.asked.scope.is_empty() || self.asked.scope.starts_with("network:")
    }

    /// The set that the form is for is used by the policy.
    fn is_used(&self) -> bool {
        let chosen = self.target.as_ref().map(|target| target.name.as_str());
        self.sets
            .iter()
            .any(|(name, used)| *used && Some(name.raw()) == chosen)
    }
}

#[derive(Debug, Deserialize)]
struct Effective {
    considered: Vec<Considered>,
}

/// The policy that stands at a scope now.
pub(super) async fn holder(api: &Api, scope: &str) -> Result<Option<Held>, Problem> {
    let Some((kind, name)) = scope.split_once(':') else {
        return Ok(None);
    };
    let (repo, workflow);
    let query: &[(&str, &str)] = match kind {
        "org" => &[("owner", name)],
        "repo" => &[("repo", name)],
        "cluster" => &[("cluster", name)],
        "workflow" => {
            let Some((before, file)) = name.rsplit_once('/') else {
                return Ok(None);
            };
            repo = before;
            workflow = file;
            &[("repo", repo), ("workflow", workflow)]
        }
        _ => return Ok(None),
    };
    let effective: Effective = api.get(&url(&["effective"], query)).await?;
    let here = effective
        .considered
        .into_iter()
        .find(|one| one.scope.raw() == scope);
    Ok(here.and_then(|one| one.policy))
}

#[derive(Debug, Deserialize)]
struct Sets {
    items: Vec<Set>,
}

#[derive(Debug, Deserialize)]
struct Set {
    name: Text,
    #[serde(default)]
    used_by: Vec<Text>,
}

/// The sets of the policy's owner, those that it uses first.
async fn sets(api: &Api, held: &Held) -> Result<Vec<(Text, bool)>, Problem> {
    let path = url(
        &["orgs", held.owner.raw(), "endpoint-sets"],
        &[("limit", "1000"), ("fields", "summary")],
    );
    let found: Sets = api.get(&path).await?;
    let mut sets: Vec<(Text, bool)> = found
        .items
        .into_iter()
        .map(|set| {
            let used = set.used_by.contains(&held.name);
            (set.name, used)
        })
        .collect();
    sets.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    Ok(sets)
}

/// Everything that the page shows, but what went wrong.
async fn page_of(session: &Session, asked: Asked) -> Result<AllowPage, Failure> {
    let title = format!("Allow {}", Text::from(asked.endpoint.as_str()));
    let mut shown = AllowPage {
        page: session.page(&title, Area::Policies),
        held: holder(&session.api, &asked.scope).await?,
        sets: Vec::new(),
        target: None,
        proposal: None,
        problem: None,
        asked,
    };
    let Some(held) = shown.held.clone() else {
        return Ok(shown);
    };
    if shown.asked.is_set() {
        shown.sets = sets(&session.api, &held).await?;
    }
    let chosen = shown.asked.set.as_str();
    let name = match (shown.asked.is_set(), chosen) {
        (false, _) => Some(held.name.raw().to_owned()),
        (true, "") => shown.sets.first().map(|(name, _)| name.raw().to_owned()),
        (true, chosen) => Some(chosen.to_owned()),
    };
    shown.target = name.map(|name| Target {
        owner: held.owner.raw().to_owned(),
        name,
        is_set: shown.asked.is_set(),
    });
    if let Some(target) = &shown.target {
        match target.propose(&session.api, &shown.asked.endpoint).await {
            Ok(proposal) => shown.proposal = Some(proposal),
            Err(problem) => shown.problem = Some(Failure::problem(problem)?),
        }
    }
    Ok(shown)
}

async fn ask(session: Session, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    if asked.endpoint.is_empty() {
        let detail = "say what is to be allowed: this page is opened from a refused event";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail).into());
    }
    Ok(show(&page_of(&session, asked).await?))
}

#[derive(Serialize)]
struct Written<'w> {
    yaml: &'w str,
    #[serde(skip_serializing_if = "Option::is_none")]
    apply: Option<&'w str>,
}

/// Stores what was shown: the same proposal, on the same version.
async fn store(State(ui): State<Ui>, session: Session, fields: Fields) -> Result<Response, Failure> {
    let asked = Asked::of(&fields);
    let target = Target {
        owner: fields.get("owner").to_owned(),
        name: fields.get("name").to_owned(),
        is_set: asked.is_set(),
    };
    let outcome = write(&session.api, &target, &asked.endpoint, &fields).await;
    let problem = match outcome {
        Ok(()) => {
            let flash = if target.is_set {
                "endpoint-in-set"
            } else {
                "endpoint-allowed"
            };
            return Ok(done(&ui, &asked.back(), flash));
        }
        Err(problem) => Failure::problem(problem)?,
    };
    let mut shown = page_of(&session, asked).await?;
    let status = problem.status();
    shown.problem = Some(problem);
    Ok(show_with(status, &shown))
}

async fn write(api: &Api, target: &Target, endpoint: &str, fields: &Fields) -> Result<(), Problem> {
    let proposal = target.propose(api, endpoint).await?;
    let apply = match fields.get("apply") {
        "next-job" => "next-job",
        _ => "now",
    };
    let written = Written {
        yaml: &proposal.yaml,
        apply: (!target.is_set).then_some(apply),
    };
    // Of the version that was shown: a newer one is refused, and the page shows what it makes of that.
    let tag = fields.get("etag");
    api.send(Method::PUT, &target.path(&[]), Some(tag), Payload::json(&written))
        .await?;
    Ok(())
}
