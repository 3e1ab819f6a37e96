//! Pages of lists.

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::problem::Refused;
use crate::model::PageRequest;

/// Which part of a list is wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// `next` of the page before.
    #[serde(default)]
    pub(super) after: Option<String>,
    /// Items at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    pub(super) limit: Option<u32>,
}

/// How much of each item a list has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fields {
    /// Everything, documents included.
    #[default]
    All,
    /// What a table shows.
    Summary,
}

/// As the store takes it. A limit out of bounds is refused, not bent.
pub(super) fn page_request(paging: Paging) -> Result<PageRequest, Refused> {
    let limit = paging.limit.unwrap_or(PageRequest::DEFAULT);
    if !(1..=PageRequest::MOST).contains(&limit) {
        let detail = format!("limit: 1 to {}, not {limit}", PageRequest::MOST);
        return Err(Refused::bad("limit", detail));
    }
    Ok(PageRequest {
        after: paging.after,
        limit,
    })
}

/// Longest text that is searched for, in characters.
const MAX_SEARCH: usize = 255;

/// What is searched for; nothing when it is empty.
pub(super) fn searched(text: Option<String>) -> Result<Option<String>, Refused> {
    if text
        .as_ref()
        .is_some_and(|text| text.chars().count() > MAX_SEARCH)
    {
        return Err(Refused::bad(
            "search",
            format!("search: at most {MAX_SEARCH} characters"),
        ));
    }
    Ok(text.filter(|text| !text.is_empty()))
}
