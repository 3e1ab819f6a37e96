//! The Policy Store: policies listed, read, written, attached, deleted, with their history.
//!
//! Owns what these pages have in common: how a policy is read, what is called how, and where each page is.

mod attach;
mod edit;
mod history;
mod impact;
mod import;
mod list;
mod parts;
mod propose;
mod remove;
mod review;
mod selected;
mod show;
mod versions;

use axum::Router;
use serde::Deserialize;

use crate::Ui;
use crate::client::Api;
use crate::error::Problem;
use crate::text::{Text, url};
use crate::time::When;

/// Scopes that the API takes at once.
pub(crate) const MOST_SCOPES: usize = 1_000;

pub(crate) fn routes() -> Router<Ui> {
    Router::new()
        .merge(list::routes())
        .merge(selected::routes())
        .merge(show::routes())
        .merge(edit::routes())
        .merge(review::routes())
        .merge(attach::routes())
        .merge(remove::routes())
        .merge(history::routes())
        .merge(versions::routes())
        .merge(impact::routes())
}

/// What a policy does with what it does not allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    Block,
    Audit,
    #[default]
    None,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Self::Block => "Block",
            Self::Audit => "Audit",
            Self::None => "Lockdown only",
        }
    }

    /// The badge's colour.
    fn kind(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Audit => "audit",
            Self::None => "neutral",
        }
    }
}

/// A policy, as the API shows it.
#[derive(Clone, Debug, Deserialize)]
struct Policy {
    name: Text,
    owner: Text,
    version: u32,
    mode: Mode,
    lockdown: bool,
    yaml: String,
    endpoints: u32,
    attachments: Vec<Text>,
    created_at: When,
    updated_at: When,
    updated_by: Text,
    deleted_at: Option<When>,
}

/// A policy with the tag by which it is changed.
struct Stored {
    policy: Policy,
    etag: String,
}

/// Which policy: parts of a path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Named {
    owner: String,
    name: String,
}

impl Named {
    /// A page of it.
    fn page(&self, rest: &[&str], query: &[(&str, &str)]) -> String {
        let mut segments = vec!["ui", "orgs", &self.owner, "policies", &self.name];
        segments.extend_from_slice(rest);
        url(&segments, query)
    }

    /// A place of the API about it.
    fn api(&self, rest: &[&str], query: &[(&str, &str)]) -> String {
        let mut segments = vec!["orgs", &self.owner, "policies", &self.name];
        segments.extend_from_slice(rest);
        url(&segments, query)
    }

    async fn load(&self, api: &Api) -> Result<Stored, Problem> {
        self.load_of(api, "").await
    }

    /// The one with this id that had the name, a deleted one too; the living one when the id is empty.
    async fn load_of(&self, api: &Api, id: &str) -> Result<Stored, Problem> {
        let reply = api.fetch(&self.api(&[], &[("id", id)])).await?;
        Ok(Stored {
            policy: reply.json()?,
            etag: reply.tag().to_owned(),
        })
    }

    fn shown(&self) -> Text {
        self.name.as_str().into()
    }
}

/// The list of an organization.
fn list_of(owner: &str) -> String {
    url(&["ui", "orgs", owner, "policies"], &[])
}

/// "1 policy", "2 policies".
fn counted(count: usize, one: &str, many: &str) -> String {
    if count == 1 {
        format!("1 {one}")
    } else {
        format!("{count} {many}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policys_places_are_encoded_by_segment() {
        let named = Named {
            owner: "acme".into(),
            name: "base / ü".into(),
        };
        assert_eq!(
            named.page(&["edit"], &[]),
            "/ui/orgs/acme/policies/base%20%2F%20%C3%BC/edit"
        );
        assert_eq!(
            named.api(&[], &[("to", "1")]),
            "/orgs/acme/policies/base%20%2F%20%C3%BC?to=1"
        );
        assert_eq!(counted(1, "scope", "scopes"), "1 scope");
        assert_eq!(counted(0, "scope", "scopes"), "0 scopes");
    }
}
