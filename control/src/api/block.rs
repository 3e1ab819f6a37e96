//! The global block list: what is on it, and the deployment's own entries.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_control_wire::record::BlockLayer;
use tidegate_policy::document::blocklist::BlockList;
use tidegate_policy::document::diagnostic::Severity;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::documents::text;
use super::errors;
use super::extract::{MAX_BODY, Media, Names, Params, from_json, media_type, read, unsupported};
use super::jobs::ById;
use super::lists::{Paging, page_request, searched};
use super::problem::Refused;
use super::state::ApiState;
use crate::model::BlockEntryView;
use crate::store::BlockImport;

/// Largest list that is imported, in bytes.
const MAX_LIST: usize = 4 << 20;

/// Which entries are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichEntries {
    /// `builtin`, `feed` or `deployment`.
    #[serde(default)]
    #[param(inline, value_type = Option<Layer>)]
    layer: Option<BlockLayer>,
    /// Part of the pattern.
    #[serde(default)]
    #[param(max_length = 255)]
    search: Option<String>,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Items at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Where entries come from, for the OpenAPI document.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "a shape of the OpenAPI document")]
pub(super) enum Layer {
    Builtin,
    Feed,
    Deployment,
}

/// Entries, and how many there are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EntryList {
    /// By layer and pattern.
    items: Vec<BlockEntryView>,
    /// Where the next page begins.
    next: Option<String>,
    /// All entries by layer, whatever the filter.
    #[schema(value_type = BTreeMap<String, u64>)]
    counters: BTreeMap<BlockLayer, u64>,
    /// When each layer last changed; null for one that never had an entry.
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    updated: BTreeMap<BlockLayer, Option<Timestamp>>,
    /// When the list last changed, whichever layer.
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Timestamp>,
    /// When the feed was last found to be current; null without a feed.
    #[schema(value_type = Option<String>, format = DateTime)]
    feed_checked_at: Option<Timestamp>,
}

/// An entry to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEntry {
    /// A name, `*.name`, address or range.
    #[schema(example = "*.evil.example")]
    pattern: String,
    /// Why.
    reason: String,
    /// When it ends by itself.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// Beside a body that is a whole list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListBeside {
    /// Why, for every entry of a list.
    #[serde(default)]
    reason: Option<String>,
    /// When all of them end by themselves.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// Entries of the global block list, by layer and pattern.
#[utoipa::path(get, path = "/global-block/entries", tag = "global-block", params(WhichEntries),
    responses((status = 200, body = EntryList)))]
pub(super) async fn list_entries(
    State(state): State<ApiState>,
    Params(which): Params<WhichEntries>,
) -> Result<Response, Refused> {
    let page = page_request(Paging {
        after: which.after,
        limit: which.limit,
    })?;
    let search = searched(which.search)?;
    let found = state
        .store
        .block_entries(which.layer, &page, search.as_deref())
        .await
        .map_err(errors::of_query)?;
    let layers = state.store.block_summary().await.map_err(errors::of_query)?;
    let updated: BTreeMap<_, _> = layers
        .iter()
        .map(|(layer, one)| (*layer, one.updated_at))
        .collect();
    let list = EntryList {
        items: found.items,
        next: found.next,
        counters: layers.iter().map(|(layer, one)| (*layer, one.entries)).collect(),
        updated_at: updated.values().flatten().max().copied(),
        updated,
        feed_checked_at: state.store.feed_checked_at().await.map_err(errors::of_query)?,
    };
    Ok(axum::Json(list).into_response())
}

/// Adds an entry of the deployment, or a whole list of them.
///
/// A list is plain, a hosts file or a response policy zone, as it looks; `reason` stands in the query. A line that is not
/// understood refuses all of it.
#[utoipa::path(post, path = "/global-block/entries", tag = "global-block", params(ListBeside),
    request_body(content((NewEntry = "application/json"), (String = "text/plain"), (String = "application/x-rpz"))),
    responses((status = 201, body = BlockEntryView), (status = 200, body = BlockImport, description = "A list")))]
pub(super) async fn add_entries(
    State(state): State<ApiState>,
    caller: Caller,
    Params(beside): Params<ListBeside>,
    request: Request,
) -> Result<Response, Refused> {
    caller.check_unlimited("the global block list")?;
    match media_type(request.headers())? {
        Some(Media::Json) if beside.reason.is_some() || beside.expires_at.is_some() => {
            let detail = "`reason` and `expires_at` stand in the JSON body; in the query they go with a list";
            Err(Refused::bad("reason", detail))
        }
        Some(Media::Json) => {
            let new: NewEntry = from_json(&read(request, MAX_BODY).await?)?;
            let entry = state
                .store
                .add_block_entry(&new.pattern, &new.reason, new.expires_at, &caller.actor)
                .await?;
            Ok((StatusCode::CREATED, axum::Json(entry)).into_response())
        }
        Some(Media::List) => {
            let reason = beside
                .reason
                .ok_or_else(|| Refused::bad("reason", "say why, in the query: ?reason=…"))?;
            let patterns = patterns(text(read(request, MAX_LIST).await?)?).await?;
            let imported = state
                .store
                .import_block_entries(patterns, &reason, beside.expires_at, &caller.actor)
                .await?;
            Ok(axum::Json(imported).into_response())
        }
        Some(Media::Yaml) | None => Err(unsupported("application/json, text/plain or application/x-rpz")),
    }
}

/// The patterns of a list without errors. Large ones take a while: not on a thread that others wait for.
async fn patterns(text: String) -> Result<Vec<String>, Refused> {
    let work = move || {
        let list = BlockList::parse(&text);
        if list.diagnostics.iter().any(|one| one.severity == Severity::Error) {
            return Err(Refused::document(&list.diagnostics, &text, "list"));
        }
        if list.entries.is_empty() {
            let detail =
                "the list has no entry: a name, `*.name`, address or range a line, a hosts file or a zone";
            return Err(Refused::invalid("list", detail));
        }
        Ok(list.entries.iter().map(|one| one.entry.to_string()).collect())
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| errors::internal("the list could not be read"))?
}

/// Removes an entry of the deployment. The program's list and the feed's can't be changed from here.
#[utoipa::path(delete, path = "/global-block/entries/{id}", tag = "global-block", params(ById),
    responses((status = 204, description = "Removed")))]
pub(super) async fn remove_entry(
    State(state): State<ApiState>,
    caller: Caller,
    Names(ById { id }): Names<ById>,
) -> Result<Response, Refused> {
    caller.check_unlimited("the global block list")?;
    state
        .store
        .remove_block_entry(&id, &caller.actor)
        .await
        .map_err(errors::of_query)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
