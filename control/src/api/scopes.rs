//! Owners and scopes that were seen: what pickers offer.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::extract::Params;
use super::lists::{Paging, page_request, searched};
use super::problem::Refused;
use super::seen::{self, owners_of};
use super::state::ApiState;
use crate::coverage::Table;
use crate::coverage::glob::Pattern;
use crate::coverage::scopes::{ScopeKind, SeenScope, WhichScopes};
use crate::model::{Page, PageRequest};

/// Longest pattern, in characters.
const MAX_PATTERN: usize = 255;

/// Which scopes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichOnes {
    /// Of one kind.
    #[serde(default)]
    #[param(inline)]
    kind: Option<ScopeKind>,
    /// Of an owner.
    #[serde(default)]
    owner: Option<String>,
    /// With this text in them; case does not count.
    #[serde(default)]
    #[param(max_length = 255)]
    search: Option<String>,
    /// Whose name (what stands behind the colon) this pattern matches as a whole: `*` stands for any text, `?` for one
    /// character; case does not count.
    #[serde(default)]
    #[param(max_length = 255)]
    pattern: Option<String>,
    /// Where a policy is attached, or where none is.
    #[serde(default)]
    attached: Option<bool>,
    /// Where the policy of this name is attached.
    #[serde(default)]
    policy: Option<String>,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Items at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A page of scopes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScopeList {
    /// In the order of their text.
    items: Vec<SeenScope>,
    /// Where the next page begins; null on the last.
    next: Option<String>,
    /// How many the parameters leave, on all pages.
    total: u64,
}

/// An owner.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(super) struct OrgView {
    /// Organization or user, lower case.
    owner: String,
    /// Its policies.
    policies: u64,
    /// Those that are attached nowhere.
    unattached: u64,
    /// Workflows that were seen.
    workflows: u64,
    /// Jobs that run now.
    jobs_alive: u64,
    /// When one of its jobs was last seen; null when none was.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen: Option<Timestamp>,
}

/// Scopes that jobs were seen in, and those that a policy is attached to.
///
/// Clusters concern every owner: a token that is limited to owners is shown none. May be some seconds old.
#[utoipa::path(get, path = "/scopes", tag = "policies", params(WhichOnes),
    responses((status = 200, body = ScopeList)))]
pub(super) async fn list_scopes(
    State(state): State<ApiState>,
    caller: Caller,
    Params(asked): Params<WhichOnes>,
) -> Result<Response, Refused> {
    let pattern = asked.pattern.filter(|pattern| !pattern.is_empty());
    if pattern
        .as_ref()
        .is_some_and(|text| text.chars().count() > MAX_PATTERN)
    {
        let detail = format!("pattern: at most {MAX_PATTERN} characters");
        return Err(Refused::bad("pattern", detail));
    }
    let which = WhichScopes {
        owners: owners_of(&caller, asked.owner.as_deref())?,
        kind: asked.kind,
        owner: asked.owner.map(|owner| owner.to_lowercase()),
        search: searched(asked.search)?.map(|search| search.to_lowercase()),
        pattern: pattern.as_deref().map(Pattern::new),
        attached: asked.attached,
        policy: asked.policy,
    };
    let page = page_request(Paging {
        after: asked.after,
        limit: asked.limit,
    })?;
    let table = seen::table(&state, None).await?;
    let question = move |table: &Table| {
        let found = table.scopes(&which, page.after.as_deref(), page.size() as usize);
        ScopeList {
            items: found.items.into_iter().cloned().collect(),
            next: found.next,
            total: found.total,
        }
    };
    Ok(axum::Json(seen::ask(table, question).await?).into_response())
}

/// Every owner that has a policy or was seen, by name.
///
/// May be some seconds old.
#[utoipa::path(get, path = "/orgs", tag = "policies", params(Paging),
    responses((status = 200, body = Page<OrgView>)))]
pub(super) async fn list_orgs(
    State(state): State<ApiState>,
    caller: Caller,
    Params(paging): Params<Paging>,
) -> Result<Response, Refused> {
    let page = page_request(paging)?;
    let table = seen::table(&state, None).await?;
    let question = move |table: &Table| orgs(table, &caller, &page);
    Ok(axum::Json(seen::ask(table, question).await?).into_response())
}

fn orgs(table: &Table, caller: &Caller, page: &PageRequest) -> Page<OrgView> {
    let mut owners: BTreeMap<&str, OrgView> = BTreeMap::new();
    for (owner, counts) in &table.owners {
        let org = owners.entry(owner).or_default();
        org.policies = counts.policies;
        org.unattached = counts.unattached;
        org.jobs_alive = counts.jobs_alive;
    }
    for row in &table.rows {
        let org = owners.entry(&row.owner).or_default();
        org.workflows += 1;
        org.last_seen = org.last_seen.max(Some(row.last_seen));
    }
    // An owner that a token is limited to is there, whether it was seen or not.
    for owner in &caller.token.owners {
        owners.entry(owner).or_default();
    }
    let after = page.after.as_deref();
    let mut rest = owners
        .into_iter()
        .filter(|(owner, _)| caller.owns(owner) && after.is_none_or(|after| *owner > after))
        .map(|(owner, org)| OrgView {
            owner: owner.to_owned(),
            ..org
        });
    let items: Vec<OrgView> = rest.by_ref().take(page.size() as usize).collect();
    let more = rest.next().is_some();
    let next = items.last().filter(|_| more).map(|org| org.owner.clone());
    Page { items, next }
}
