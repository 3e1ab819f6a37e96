//! Changes of documents, proposed: the text that somebody would write, with its difference and what there is to say about
//! it. Stores nothing; what people do with it is theirs. Bodies and answers are [`shapes`]'.

mod shapes;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use tidegate_policy::document::{Detection, EndpointSet, Lockdown, ParseOptions};
use tidegate_policy::endpoint::Endpoint;
use tidegate_policy::endpoint::cover::covered_by;
use tidegate_policy::endpoint::parse::{Role, parse_endpoint};
use tidegate_policy::verdict::Mode;

pub(super) use self::shapes::ProposedMode;
use self::shapes::{
    CoveredEndpoint, LockdownChange, Proposal, ProposeRequest, ProposeSetRequest, ProposedLockdown,
};
use super::auth::Caller;
use super::documents::check_size;
use super::errors;
use super::etag::Tag;
use super::extract::{LargeJson, Names};
use super::policies::{Named, tail};
use super::problem::Refused;
use super::sets::identity;
use super::state::ApiState;
use crate::diff::Diff;
use crate::document::edit::{self, EditError, Edits, Kind, LockdownEdit};
use crate::document::{CheckedPolicy, CheckedSet, unknown_sets, views};
use crate::model::PolicyMode;
use crate::store::StoreError;

/// Endpoints, or names of sets, in one request at most.
const MAX_WORDS: usize = 2_000;

/// A text that is stored, with what tells it from others of its name.
struct Base {
    yaml: String,
    version: u32,
    etag: Option<String>,
}

/// Changes a policy's text as asked, keeping comments and styles, and shows the difference. Stores nothing.
///
/// The policy need not be stored when `yaml` is given. What is allowed already, by itself or by a set that it uses, is
/// named and not written again. A text that can't be changed without touching anything else is refused.
#[utoipa::path(post, path = "/orgs/{owner}/policies/{name}/propose", tag = "policies", params(Named),
    request_body = ProposeRequest, responses((status = 200, body = Proposal)))]
pub(super) async fn propose_policy(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<Named>,
    LargeJson(request): LargeJson<ProposeRequest>,
) -> Result<Response, Refused> {
    caller.check_owner(&named.owner)?;
    let stored = match state.store.policy(&named.owner, &named.name).await {
        Ok(policy) => Some(Base {
            etag: header(&Tag::new(policy.version, tail(&policy.id), b"")),
            version: policy.version,
            yaml: policy.yaml,
        }),
        Err(StoreError::NotFound { .. }) if request.yaml.is_some() => None,
        Err(error) => return Err(errors::of_query(error)),
    };
    let (request, stored, edits, used) = off_the_threads(move || {
        let edits = edits(&request)?;
        let stored_text = stored.as_ref().map(|base| base.yaml.as_str());
        let used = used_sets(
            &edits,
            request.yaml.as_deref().or(stored_text).unwrap_or_default(),
        )?;
        Ok((request, stored, edits, used))
    })
    .await?;
    let sets = texts_of(&state, &named.owner, used).await?;
    let work = Work {
        kind: Kind::Policy,
        name: named.name.clone(),
        owner: named.owner.clone(),
        given: request.yaml,
        stored,
        against_stored: request.against_stored,
        strict: state.store.is_strict(),
        known_sets: state
            .store
            .set_names(&named.owner)
            .await
            .map_err(errors::of_query)?,
        sets,
    };
    done(work, move || Ok(edits)).await
}

/// Changes an endpoint set's text as asked, keeping comments and styles, and shows the difference. Stores nothing.
#[utoipa::path(post, path = "/orgs/{owner}/endpoint-sets/{name}/propose", tag = "endpoint-sets", params(Named),
    request_body = ProposeSetRequest, responses((status = 200, body = Proposal)))]
pub(super) async fn propose_set(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<Named>,
    LargeJson(request): LargeJson<ProposeSetRequest>,
) -> Result<Response, Refused> {
    caller.check_owner(&named.owner)?;
    let stored = match state.store.set(&named.owner, &named.name).await {
        Ok(set) => Some(Base {
            etag: header(&Tag::new(set.version, &identity(&set), b"")),
            version: set.version,
            yaml: set.yaml,
        }),
        Err(StoreError::NotFound { .. }) if request.yaml.is_some() => None,
        Err(error) => return Err(errors::of_query(error)),
    };
    bounded(&[("add", request.add.len()), ("remove", request.remove.len())])?;
    let edits = move || {
        Ok(Edits {
            allow: endpoints("add", &request.add, Role::Allowed)?,
            remove: removed(&request.remove)?,
            ..Edits::default()
        })
    };
    let work = Work {
        kind: Kind::Set,
        name: named.name,
        owner: named.owner,
        given: request.yaml,
        stored,
        against_stored: request.against_stored,
        strict: state.store.is_strict(),
        known_sets: Vec::new(),
        sets: Vec::new(),
    };
    done(work, edits).await
}

fn header(tag: &Tag) -> Option<String> {
    tag.header().to_str().ok().map(str::to_owned)
}

fn bounded(lists: &[(&'static str, usize)]) -> Result<(), Refused> {
    match lists.iter().find(|(_, length)| *length > MAX_WORDS) {
        None => Ok(()),
        Some((field, _)) => Err(Refused::invalid(field, format!("at most {MAX_WORDS} at once"))),
    }
}

/// Endpoints as people write them.
pub(super) fn endpoints(field: &str, texts: &[String], role: Role) -> Result<Vec<Endpoint>, Refused> {
    let read = |(at, text): (usize, &String)| {
        let read = parse_endpoint(text.trim(), role).map(|(endpoint, _)| endpoint);
        read.map_err(|error| Refused::invalid(&format!("{field}[{at}]"), format!("{text:?}: {error}")))
    };
    texts.iter().enumerate().map(read).collect()
}

impl From<ProposedMode> for Mode {
    fn from(mode: ProposedMode) -> Self {
        match mode {
            ProposedMode::Block => Self::Block,
            ProposedMode::Audit => Self::Audit,
        }
    }
}

/// Endpoints that go, in the spellings that the two lists know them by.
fn removed(texts: &[String]) -> Result<Vec<String>, Refused> {
    let read = endpoints("remove", texts, Role::Allowed)?;
    Ok(read.iter().map(ToString::to_string).collect())
}

fn edits(request: &ProposeRequest) -> Result<Edits, Refused> {
    bounded(&[
        ("allow", request.allow.len()),
        ("deny", request.deny.len()),
        ("remove", request.remove.len()),
        ("use", request.use_sets.len()),
    ])?;
    let plain = |name: &String| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !name.is_empty() && name.len() <= 100 && name.chars().all(fits)
    };
    if let Some(name) = request.use_sets.iter().find(|name| !plain(name)) {
        return Err(Refused::invalid(
            "use",
            format!("{name:?} is no name of an endpoint set"),
        ));
    }
    let lockdown = match &request.lockdown {
        LockdownChange::Keep => LockdownEdit::Keep,
        LockdownChange::Drop => LockdownEdit::Drop,
        LockdownChange::Write(asked) => LockdownEdit::Write(lockdown(asked)?),
    };
    Ok(Edits {
        mode: request.mode.map(Mode::from),
        allow: endpoints("allow", &request.allow, Role::Allowed)?,
        deny: endpoints("deny", &request.deny, Role::Denied)?,
        remove: removed(&request.remove)?,
        use_sets: request.use_sets.clone(),
        lockdown,
    })
}

fn lockdown(asked: &ProposedLockdown) -> Result<Lockdown, Refused> {
    let mut detections = Vec::new();
    for name in &asked.detections {
        let known = Detection::ALL
            .into_iter()
            .find(|one| one.as_str().eq_ignore_ascii_case(name));
        let Some(detection) = known else {
            let all = Detection::ALL.map(Detection::as_str).join(", ");
            let detail = format!("{name:?} is no detection; there are {all}");
            return Err(Refused::invalid("lockdown.detections", detail));
        };
        if !detections.contains(&detection) {
            detections.push(detection);
        }
    }
    Ok(Lockdown {
        enabled: asked.enabled,
        detections,
    })
}

/// The sets that the text uses, when anything is to be allowed.
fn used_sets(edits: &Edits, yaml: &str) -> Result<Vec<String>, Refused> {
    check_size(yaml)?;
    if edits.allow.is_empty() {
        return Ok(Vec::new());
    }
    let Ok(checked) = CheckedPolicy::check(yaml, &ParseOptions::default()) else {
        return Ok(Vec::new());
    };
    Ok(checked.sets.into_iter().map(|(name, _)| name).collect())
}

/// Sets by name, as they are stored; what is not stored is left out.
async fn texts_of(
    state: &ApiState,
    owner: &str,
    names: Vec<String>,
) -> Result<Vec<(String, String)>, Refused> {
    let mut sets = Vec::new();
    for name in names {
        match state.store.set(owner, &name).await {
            Ok(set) => sets.push((name, set.yaml)),
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(errors::of_query(error)),
        }
    }
    Ok(sets)
}

/// Everything that a proposal is made from.
struct Work {
    kind: Kind,
    owner: String,
    name: String,
    given: Option<String>,
    stored: Option<Base>,
    against_stored: bool,
    strict: bool,
    known_sets: Vec<String>,
    /// Texts of the sets that are used, by name.
    sets: Vec<(String, String)>,
}

async fn done(
    work: Work,
    edits: impl FnOnce() -> Result<Edits, Refused> + Send + 'static,
) -> Result<Response, Refused> {
    let proposal = off_the_threads(move || proposal(work, edits()?)).await?;
    Ok(axum::Json(proposal).into_response())
}

/// Off the threads that others wait for: a large text is read several times, thousands of endpoints are.
async fn off_the_threads<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    let made = tokio::task::spawn_blocking(work);
    made.await
        .map_err(|_| errors::internal("the change could not be made"))?
}

fn proposal(work: Work, mut edits: Edits) -> Result<Proposal, Refused> {
    let stored_text = work.stored.as_ref().map_or("", |base| base.yaml.as_str());
    let base = work.given.as_deref().unwrap_or(stored_text);
    let mut covered = by_sets(&mut edits, &work.sets);
    let edited = edit::edit(base, work.kind, &edits).map_err(|error| refused(&error, base, &work.name))?;
    check_size(&edited.yaml)?;
    covered.extend(edited.covered.into_iter().map(|one| CoveredEndpoint {
        endpoint: one.endpoint,
        by: one.by,
        line: one.line,
        set: None,
    }));
    let options = ParseOptions { strict: work.strict };
    let (mode, diagnostics) = match work.kind {
        Kind::Policy => match CheckedPolicy::check(&edited.yaml, &options) {
            Ok(checked) => {
                let mut all = unknown_sets(&edited.yaml, &checked.sets, &work.known_sets, &work.owner);
                all.extend(checked.diagnostics);
                (checked.mode, all)
            }
            Err(errors) => (PolicyMode::None, errors),
        },
        Kind::Set => match CheckedSet::check(&edited.yaml, &options) {
            Ok(checked) => (PolicyMode::None, checked.diagnostics),
            Err(errors) => (PolicyMode::None, errors),
        },
    };
    let compared = if work.against_stored { stored_text } else { base };
    Ok(Proposal {
        changed: edited.yaml != compared,
        diff: Diff::of(compared, &edited.yaml),
        base_version: work.stored.as_ref().map_or(0, |base| base.version),
        etag: work.stored.and_then(|base| base.etag),
        yaml: edited.yaml,
        mode,
        diagnostics: views(&diagnostics),
        covered,
    })
}

/// Takes out what a set that is used covers.
fn by_sets(edits: &mut Edits, sets: &[(String, String)]) -> Vec<CoveredEndpoint> {
    let mut covered = Vec::new();
    for (name, yaml) in sets {
        let Some(set) = EndpointSet::parse(yaml, &ParseOptions::default()).document else {
            continue;
        };
        let held: Vec<Endpoint> = set.endpoints.iter().map(|one| one.endpoint.clone()).collect();
        let known = covered_by(&edits.allow, &held);
        for (at, by) in known.iter().rev() {
            let endpoint = edits.allow.remove(*at);
            covered.extend(set.endpoints.get(*by).map(|by| CoveredEndpoint {
                endpoint: endpoint.to_string(),
                by: by.text.clone(),
                line: by.line,
                set: Some(name.clone()),
            }));
        }
    }
    covered
}

fn refused(error: &EditError, yaml: &str, name: &str) -> Refused {
    match error {
        EditError::Unreadable(diagnostics) => Refused::document(diagnostics, yaml, name),
        EditError::NotListed(_) => Refused::invalid("remove", error.to_string()),
        EditError::ByHand(_) | EditError::TooMuch => Refused::invalid("yaml", error.to_string()),
    }
}
