//! Policies drafted from what jobs were seen to reach, or from a list: shown, chosen from, collapsed; stored by nobody here.
//! Bodies and answers are [`shapes`]'.

mod shapes;

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use tidegate_control_wire::text::printable;
use tidegate_policy::document::ParseOptions;
use tidegate_policy::endpoint::Endpoint;
use tidegate_policy::endpoint::parse::{Role, parse_endpoint};
use tidegate_policy::job::Scope;

use self::shapes::{
    Collapse, CollapseWord, DraftBaseline, DraftEndpoint, DraftRequest, Drafted, LeftOutCount,
};
use super::auth::Caller;
use super::baselines::{ImportMode, min_runs};
use super::errors;
use super::extract::LargeJson;
use super::problem::Refused;
use super::state::ApiState;
use super::turns::Bounds;
use crate::baseline::collapse;
use crate::baseline::import::{self, Wanted, counted, told};
use crate::baseline::{LeftOut, Target};
use crate::document::{CheckedPolicy, views};
use crate::store::{Candidate, owner_name};

/// Drafts: thousands of endpoints are read, compared and written.
pub(super) const DRAFTS: Bounds = Bounds {
    what: "drafts",
    at_once: 2,
    waiting: 16,
    again: 2,
};
/// Scopes of one draft at most.
const MAX_SCOPES: usize = 20;
/// Endpoints that are given, chosen or left out, at most.
const MAX_ENDPOINTS: usize = 5_000;
/// Patterns that are asked for at most.
const MAX_PATTERNS: usize = 200;
/// Names that a suggestion covers at least.
const SUGGEST_FROM: usize = 3;

/// Drafts a policy from baselines, or from endpoints that are given, and shows what it would have and what it leaves out.
/// Stores nothing.
///
/// A cluster's baseline concerns every owner, so it needs a token without limits.
#[utoipa::path(post, path = "/baselines/draft", tag = "baselines", request_body = DraftRequest,
    responses((status = 200, body = Drafted)))]
pub(super) async fn draft_policy(
    State(state): State<ApiState>,
    caller: Caller,
    LargeJson(request): LargeJson<DraftRequest>,
) -> Result<Response, Refused> {
    owner_name(&request.owner)?;
    caller.check_owner(&request.owner)?;
    check(&request)?;
    let texts: Vec<String> = request
        .from
        .scope
        .iter()
        .chain(&request.from.scopes)
        .cloned()
        .collect();
    let mut scopes: Vec<Scope> = super::attachments::scopes("from.scopes", &texts)?;
    scopes.sort_unstable();
    scopes.dedup();
    for scope in &scopes {
        caller.check_scope(scope)?;
    }
    let min_runs = min_runs(request.min_runs).map_err(|detail| Refused::invalid("min_runs", detail))?;
    let wanted = Wanted {
        since: request.since,
        min_runs,
    };
    let turn = state.drafts.take().await?;
    let mut found = Vec::new();
    for scope in &scopes {
        found.push(
            state
                .store
                .baseline(scope, &wanted)
                .await
                .map_err(errors::of_query)?,
        );
    }
    let now = state.now();
    let work = move || {
        // Nothing stops this work: who goes away leaves it no room for another.
        let _turn = turn;
        drafted(&request, &found, (wanted, now))
    };
    let made = tokio::task::spawn_blocking(work).await;
    let drafted = made.map_err(|_| errors::internal("the draft could not be made"))??;
    Ok(axum::Json(drafted).into_response())
}

fn check(request: &DraftRequest) -> Result<(), Refused> {
    let from = &request.from;
    if from.scope.is_none() && from.scopes.is_empty() && from.endpoints.is_empty() {
        let detail = "name a `scope` whose baseline is looked at, or give `endpoints`";
        return Err(Refused::invalid("from", detail));
    }
    let patterns = match &request.collapse {
        Some(Collapse::Patterns(patterns)) => patterns.len(),
        Some(Collapse::Word(CollapseWord::Auto)) | None => 0,
    };
    let bounds = [
        ("from.scopes", from.scopes.len(), MAX_SCOPES),
        ("from.endpoints", from.endpoints.len(), MAX_ENDPOINTS),
        ("include", request.include.len(), MAX_ENDPOINTS),
        ("exclude", request.exclude.len(), MAX_ENDPOINTS),
        ("collapse", patterns, MAX_PATTERNS),
    ];
    match bounds.into_iter().find(|(_, length, most)| length > most) {
        None => Ok(()),
        Some((field, _, most)) => Err(Refused::invalid(field, format!("at most {most} at once"))),
    }
}

/// What could be taken, by its canonical spelling.
type Found = BTreeMap<String, DraftEndpoint>;

fn drafted(
    request: &DraftRequest,
    found: &[Candidate],
    (wanted, now): (Wanted, Timestamp),
) -> Result<Drafted, Refused> {
    let canonical =
        |texts: &[String]| -> BTreeSet<String> { texts.iter().map(|text| spelled(text)).collect() };
    let (include, exclude) = (canonical(&request.include), canonical(&request.exclude));
    let mut all = seen(found, &include);
    let unreadable = given(&mut all, &request.from.endpoints);
    for (text, one) in &mut all {
        one.chosen = !exclude.contains(text);
    }
    let chosen: Vec<String> = all
        .values()
        .filter(|one| one.chosen)
        .map(|one| one.endpoint.clone())
        .collect();
    let patterns = patterns(request, &chosen)?;
    let suggestions = collapse::suggestions(&chosen, SUGGEST_FROM);
    let (lines, collapsed) = collapse::collapse(chosen, &patterns);
    let reasons = found
        .iter()
        .flat_map(|one| &one.baseline.endpoints)
        .map(|one| one.left_out.as_slice());
    let left_out = counted(reasons);
    let yaml = document(request, found, (wanted, now), (&lines, &left_out));
    let diagnostics = match CheckedPolicy::check(&yaml, &ParseOptions::default()) {
        Ok(checked) => views(&checked.diagnostics),
        Err(errors) => views(&errors),
    };
    Ok(Drafted {
        yaml,
        endpoints: all.into_values().collect(),
        left_out: left_out
            .into_iter()
            .map(|(reason, count)| LeftOutCount {
                reason,
                phrase: reason.phrase(),
                count,
            })
            .collect(),
        unreadable,
        baselines: found
            .iter()
            .map(|one| DraftBaseline {
                scope: one.baseline.scope.clone(),
                state: one.baseline.state,
                runs: one.baseline.runs,
            })
            .collect(),
        collapsed,
        suggestions,
        diagnostics,
    })
}

/// The patterns that stand for several endpoints.
fn patterns(request: &DraftRequest, chosen: &[String]) -> Result<Vec<Endpoint>, Refused> {
    match &request.collapse {
        None => Ok(Vec::new()),
        Some(Collapse::Word(CollapseWord::Auto)) => {
            let by_itself = collapse::suggestions(chosen, SUGGEST_FROM);
            Ok(by_itself
                .iter()
                .filter_map(|one| collapse::pattern(&one.pattern).ok())
                .collect())
        }
        Some(Collapse::Patterns(asked)) => {
            let read = |text: &String| collapse::pattern(text);
            let read: Result<Vec<Endpoint>, _> = asked.iter().map(read).collect();
            read.map_err(|error| Refused::invalid("collapse", error.to_string()))
        }
    }
}

/// As an endpoint is spelled, when it is one.
fn spelled(text: &str) -> String {
    let read = parse_endpoint(text.trim(), Role::Allowed);
    read.map_or_else(|_| text.to_owned(), |(endpoint, _)| endpoint.to_string())
}

/// What an import takes of the baselines, and what of the rest somebody wants all the same.
fn seen(found: &[Candidate], include: &BTreeSet<String>) -> Found {
    let mut all = Found::new();
    for candidate in found {
        for one in &candidate.baseline.endpoints {
            let target = Target {
                endpoint: one.endpoint.as_str().into(),
                port: one.port,
                transport: one.transport,
            };
            let Some(endpoint) = import::rule(&target) else {
                continue;
            };
            if !one.imported && !include.contains(&endpoint) {
                continue;
            }
            let entry = all.entry(endpoint.clone()).or_insert_with(|| DraftEndpoint {
                endpoint,
                chosen: true,
                runs: None,
                first_seen: Some(one.first_seen),
                last_seen: Some(one.last_seen),
                from: Vec::new(),
            });
            entry.runs = entry.runs.max(Some(one.runs));
            entry.first_seen = entry.first_seen.min(Some(one.first_seen));
            entry.last_seen = entry.last_seen.max(Some(one.last_seen));
            entry.from.push(candidate.baseline.scope.clone());
        }
    }
    all
}

/// Adds what is given; says what of it is no endpoint.
fn given(all: &mut Found, texts: &[String]) -> Vec<String> {
    let mut unreadable = Vec::new();
    for text in texts
        .iter()
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
    {
        match parse_endpoint(text, Role::Allowed) {
            Ok((read, _)) => {
                let endpoint = read.to_string();
                all.entry(endpoint.clone()).or_insert_with(|| DraftEndpoint {
                    endpoint,
                    chosen: true,
                    runs: None,
                    first_seen: None,
                    last_seen: None,
                    from: Vec::new(),
                });
            }
            Err(_) => unreadable.push(printable(text).into()),
        }
    }
    unreadable
}

fn document(
    request: &DraftRequest,
    found: &[Candidate],
    (wanted, now): (Wanted, Timestamp),
    (lines, left_out): (&[String], &[(LeftOut, usize)]),
) -> String {
    let mut text = Vec::new();
    for candidate in found {
        let baseline = &candidate.baseline;
        text.push(format!(
            "# From the baseline of {} on {now:.0}: {} after {} runs.",
            printable(&baseline.scope),
            baseline.state.as_str(),
            baseline.runs
        ));
    }
    if found.is_empty() {
        text.push(format!("# From a list of endpoints on {now:.0}."));
    } else {
        let since = wanted.since.map(|since| format!(", last not before {since:.0}"));
        text.push(format!(
            "# Each was reached in {} runs or more{}.",
            wanted.min_runs,
            since.unwrap_or_default()
        ));
    }
    if !left_out.is_empty() {
        text.push(format!("# Left out: {}.", told(left_out)));
    }
    let mode = match request.mode.unwrap_or_default() {
        ImportMode::Audit => {
            text.push("# It only records yet; `egress-policy: block` enforces it.".to_owned());
            "audit"
        }
        ImportMode::Block => "block",
    };
    text.push(format!("egress-policy: {mode}"));
    // Folded: an IPv6 address in brackets is no list of YAML's there.
    text.push("allowed-endpoints: >".to_owned());
    text.extend(lines.iter().map(|line| format!("  {line}")));
    let mut text = text.join("\n");
    text.push('\n');
    text
}
