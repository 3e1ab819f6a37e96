//! Endpoints for a policy's text from what jobs reached, from a job, or from a list: chosen before anything is added.

use askama::Template;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::edit::{Draft, editor};
use super::propose::{Edits, propose};
use crate::error::{Failure, Problem};
use crate::form::Fields;
use crate::page::{Area, Page, show};
use crate::proposal::Covered;
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;

/// Scopes that the picker offers.
const OFFERED: &str = "200";

#[derive(Debug, Deserialize)]
struct Seen {
    scope: Text,
}

#[derive(Debug, Deserialize)]
struct Scopes {
    items: Vec<Seen>,
}

/// Scopes to import from: the organization's, and clusters for whoever may see them.
pub(super) async fn scopes(session: &Session, owner: &str) -> Result<Vec<Text>, Failure> {
    let mut queries = vec![vec![("owner", owner), ("limit", OFFERED)]];
    if session.who.owners.is_empty() {
        queries.push(vec![("kind", "cluster"), ("limit", OFFERED)]);
    }
    let mut all = Vec::new();
    for query in queries {
        let found: Scopes = session.api.get(&url(&["scopes"], &query)).await?;
        all.extend(found.items.into_iter().map(|one| one.scope));
    }
    all.dedup();
    Ok(all)
}

#[derive(Debug, Serialize)]
struct Source<'f> {
    scopes: Vec<&'f str>,
    endpoints: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Wanted<'f> {
    owner: &'f str,
    from: Source<'f>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_runs: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    collapse: Vec<&'f str>,
}

#[derive(Debug, Deserialize)]
struct Found {
    endpoint: Text,
    chosen: bool,
    runs: Option<u64>,
    last_seen: Option<When>,
}

#[derive(Debug, Deserialize)]
struct LeftOut {
    phrase: Text,
    count: u64,
}

#[derive(Debug, Deserialize)]
struct Pattern {
    pattern: Text,
    covers: usize,
}

#[derive(Debug, Deserialize)]
struct Drafted {
    endpoints: Vec<Found>,
    left_out: Vec<LeftOut>,
    #[serde(default)]
    unreadable: Vec<Text>,
    collapsed: Vec<Collapsed>,
    suggestions: Vec<Pattern>,
}

#[derive(Debug, Deserialize)]
struct Collapsed {
    pattern: Text,
    endpoints: Vec<Text>,
}

/// An endpoint of a job.
#[derive(Debug, Deserialize)]
struct JobEndpoint {
    line: Option<String>,
}

#[derive(Debug, Deserialize)]
struct JobEndpoints {
    items: Vec<JobEndpoint>,
}

/// A line of the list to choose from.
struct Choice {
    endpoint: Text,
    runs: Option<u64>,
    last_seen: Option<When>,
    /// Why it need not be added.
    covered: Option<Covered>,
    is_pattern: bool,
}

#[derive(Template)]
#[template(path = "policies/import.html")]
struct ImportPage {
    page: Page,
    draft: Draft,
    choices: Vec<Choice>,
    fresh: usize,
    left_out: Vec<LeftOut>,
    unreadable: Vec<Text>,
    suggestions: Vec<Pattern>,
    scopes: Vec<String>,
    job: String,
    list: String,
    min_runs: String,
    /// Wildcards that were chosen: the next preview has them, too.
    wild: Vec<String>,
    /// Endpoints that were unticked.
    unticked: Vec<String>,
}

impl ImportPage {
    fn is_ticked(&self, one: &Choice) -> bool {
        one.covered.is_none() && self.unticked.iter().all(|other| other != one.endpoint.raw())
    }
}

/// True when a form names something to import from.
pub(super) fn is_asked(fields: &Fields) -> bool {
    fields.has("job") || fields.has("list") || fields.all("scope").any(|scope| !scope.trim().is_empty())
}

/// Shows what would be added.
pub(super) async fn preview(session: &Session, draft: Draft, fields: &Fields) -> Result<Response, Failure> {
    match found(session, &draft, fields).await {
        Ok(page) => Ok(show(&page)),
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            editor(session, draft, (Some(problem), Vec::new())).await
        }
    }
}

async fn found(session: &Session, draft: &Draft, fields: &Fields) -> Result<ImportPage, Problem> {
    let scopes: Vec<String> = fields
        .all("scope")
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect();
    let (job, list) = (fields.get("job").to_owned(), fields.document("list"));
    let mut endpoints: Vec<String> = words(&list);
    if !job.is_empty() {
        let reached: JobEndpoints = session.api.get(&url(&["jobs", &job, "endpoints"], &[])).await?;
        endpoints.extend(reached.items.into_iter().filter_map(|one| one.line));
    }
    endpoints.sort_unstable();
    endpoints.dedup();
    if scopes.is_empty() && endpoints.is_empty() {
        let detail = if job.is_empty() {
            "Choose a scope, name a job, or paste endpoints to import from."
        } else {
            "Nothing that this job reached can be written into a policy."
        };
        return Err(Problem::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let min_runs = fields.get("min_runs").to_owned();
    let wanted = Wanted {
        owner: &draft.named.owner,
        from: Source {
            scopes: scopes.iter().map(String::as_str).collect(),
            endpoints,
        },
        min_runs: min_runs.parse().ok(),
        collapse: fields.all("collapse").collect(),
    };
    let drafted: Drafted = session
        .api
        .post(&url(&["baselines", "draft"], &[]), &wanted)
        .await?
        .json()?;
    let gone = |one: &Found| {
        drafted
            .collapsed
            .iter()
            .any(|all| all.endpoints.contains(&one.endpoint))
    };
    let kept = drafted.endpoints.iter().filter(|one| one.chosen && !gone(one));
    let mut choices: Vec<Choice> = kept
        .map(|one| Choice {
            endpoint: one.endpoint.clone(),
            runs: one.runs,
            last_seen: one.last_seen,
            covered: None,
            is_pattern: false,
        })
        .collect();
    choices.extend(drafted.collapsed.iter().map(|one| Choice {
        endpoint: one.pattern.clone(),
        runs: None,
        last_seen: None,
        covered: None,
        is_pattern: true,
    }));
    let edits = Edits {
        allow: choices
            .iter()
            .map(|one| one.endpoint.raw().to_owned())
            .take(2_000)
            .collect(),
        ..Edits::default()
    };
    let proposal = propose(session, draft, edits).await?;
    for one in &mut choices {
        one.covered = proposal
            .covered
            .iter()
            .find(|covered| covered.endpoint == one.endpoint)
            .cloned();
    }
    let ticked: Vec<&str> = fields.all("allow").collect();
    let unticked = fields.all("offered").filter(|one| !ticked.contains(one));
    Ok(ImportPage {
        wild: wanted.collapse.iter().map(|one| (*one).to_owned()).collect(),
        unticked: unticked.map(str::to_owned).collect(),
        page: session
            .page("Import endpoints", Area::Policies)
            .of(&draft.named.owner),
        fresh: choices.iter().filter(|one| one.covered.is_none()).count(),
        choices,
        left_out: drafted.left_out,
        unreadable: drafted.unreadable,
        suggestions: drafted.suggestions,
        draft: draft.clone(),
        scopes,
        job,
        list,
        min_runs,
    })
}

/// Endpoints of a list as people have them: a policy's text, a text with one a line, comments behind `#`.
fn words(list: &str) -> Vec<String> {
    let plain = list
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let words = plain.flat_map(|line| line.split([' ', '\t', ',', '"', '\'', '[', ']']));
    let words = words.map(|word| word.trim_start_matches('-').trim());
    // Keys and modes of a policy's text are none.
    words
        .filter(|word| word.contains('.') || word.contains("::"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_may_be_a_policys_text() {
        let text = "# head a.test\negress-policy: block\nallowed-endpoints: >\n  a.test:443 b.test:443 # why\n  - \"c.test:443\"\nuse: [x]\n";
        assert_eq!(words(text), ["a.test:443", "b.test:443", "c.test:443"]);
    }
}
