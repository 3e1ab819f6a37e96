//! Questions to the table: which rows, in which order, how many of each kind.
//!
//! Pure. What a caller may see is decided by whoever asks: [`Which::owners`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CoverageRow, Table};
use crate::model::PolicyMode;

/// Which rows are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Filter {
    /// In audit mode, and block mode would change nothing.
    ReadyToBlock,
    /// No policy is attached to any of its scopes.
    NoPolicy,
    /// Its last job was not known well enough for its scopes to count.
    BelowMinAssurance,
    /// In audit mode.
    Audit,
    /// In block mode.
    Block,
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Sort {
    /// What was seen last first.
    #[default]
    Last,
    /// By name.
    Name,
    /// What was refused, or would have been, most often first.
    Refusals,
}

/// Which part of the table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Which {
    /// Of these owners, in lower case; empty limits nothing.
    pub(crate) owners: Vec<String>,
    /// Of an owner.
    pub(crate) owner: Option<String>,
    /// Of a repository, `owner/name`.
    pub(crate) repo: Option<String>,
    /// In a cluster.
    pub(crate) cluster: Option<String>,
    /// With this text in its name, any case.
    pub(crate) search: Option<String>,
    /// Of a kind.
    pub(crate) filter: Option<Filter>,
    /// In this order.
    pub(crate) sort: Sort,
}

/// How many rows there are of each kind, whatever kind is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct CoverageCounters {
    /// All.
    pub(crate) all: u64,
    /// No policy is attached to any of their scopes.
    pub(crate) no_policy: u64,
    /// In audit mode.
    pub(crate) audit: u64,
    /// In block mode.
    pub(crate) block: u64,
    /// In audit mode, and block mode would change nothing.
    pub(crate) ready_to_block: u64,
    /// The last job was not known well enough.
    pub(crate) below_min_assurance: u64,
}

/// A page of rows.
pub(crate) struct Found {
    pub(crate) items: Vec<Arc<CoverageRow>>,
    pub(crate) next: Option<String>,
    pub(crate) counters: CoverageCounters,
}

/// A cursor that nobody was given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadCursor;

/// Name, workflow, cluster; owner and repository, for a name may be either's.
type Key<'r> = [&'r str; 5];

impl CoverageRow {
    fn is(&self, filter: Filter) -> bool {
        let mode = self.policy.as_ref().map(|policy| policy.mode);
        match filter {
            Filter::ReadyToBlock => self.ready_to_block,
            Filter::NoPolicy => self.policy.is_none(),
            Filter::BelowMinAssurance => self.below_min_assurance,
            Filter::Audit => mode == Some(PolicyMode::Audit),
            Filter::Block => mode == Some(PolicyMode::Block),
        }
    }

    /// What tells it from all others, and orders it by name.
    fn key(&self) -> Key<'_> {
        let name = if self.repo.is_empty() {
            &self.owner
        } else {
            &self.repo
        };
        [name, &self.workflow, &self.cluster, &self.owner, &self.repo].map(String::as_str)
    }

    /// What it is ordered by, the first first.
    fn rank(&self, sort: Sort) -> i64 {
        match sort {
            Sort::Last => self.last_seen.as_microsecond().saturating_neg(),
            Sort::Name => 0,
            Sort::Refusals => {
                let all = self.counts.refuse.saturating_add(self.counts.would_refuse);
                i64::try_from(all).unwrap_or(i64::MAX).saturating_neg()
            }
        }
    }

    fn lies_in(&self, which: &Which) -> bool {
        let of = |wanted: &Option<String>, own: &str| wanted.as_ref().is_none_or(|wanted| wanted == own);
        let owned = which.owners.is_empty() || which.owners.contains(&self.owner);
        let found = which.search.as_ref().is_none_or(|search| {
            [&self.owner, &self.repo, &self.workflow]
                .iter()
                .any(|text| text.to_lowercase().contains(search.as_str()))
        });
        owned
            && of(&which.owner, &self.owner)
            && of(&which.repo, &self.repo)
            && of(&which.cluster, &self.cluster)
            && found
    }
}

impl CoverageCounters {
    fn add(&mut self, row: &CoverageRow) {
        self.all += 1;
        for (filter, count) in [
            (Filter::NoPolicy, &mut self.no_policy),
            (Filter::Audit, &mut self.audit),
            (Filter::Block, &mut self.block),
            (Filter::ReadyToBlock, &mut self.ready_to_block),
            (Filter::BelowMinAssurance, &mut self.below_min_assurance),
        ] {
            *count += u64::from(row.is(filter));
        }
    }
}

impl Table {
    /// A page of rows behind `after`, `limit` at most.
    pub(crate) fn ask(&self, which: &Which, after: Option<&str>, limit: usize) -> Result<Found, BadCursor> {
        let after = after.map(read_cursor).transpose()?;
        let mut counters = CoverageCounters::default();
        let mut found: Vec<(i64, Key<'_>, &Arc<CoverageRow>)> = Vec::new();
        for row in &self.rows {
            if !row.lies_in(which) {
                continue;
            }
            counters.add(row);
            if which.filter.is_some_and(|filter| !row.is(filter)) {
                continue;
            }
            let place = (row.rank(which.sort), row.key());
            let is_behind = |(rank, key): &(i64, [String; 5])| {
                (place.0, &place.1[..]) > (*rank, key.each_ref().map(String::as_str).as_slice())
            };
            if after.as_ref().is_none_or(is_behind) {
                found.push((place.0, place.1, row));
            }
        }
        found.sort_unstable_by(|one, other| (one.0, one.1).cmp(&(other.0, other.1)));
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found
            .last()
            .filter(|_| more)
            .and_then(|(rank, key, _)| Some(format!("{rank}.{}", serde_json::to_string(key).ok()?)));
        Ok(Found {
            items: found.into_iter().map(|(_, _, row)| Arc::clone(row)).collect(),
            next,
            counters,
        })
    }
}

/// A rank, and a key as JSON: nothing in a text is taken for what stands between two.
fn read_cursor(text: &str) -> Result<(i64, [String; 5]), BadCursor> {
    let (rank, key) = text.split_once('.').ok_or(BadCursor)?;
    let key = serde_json::from_str(key).map_err(|_| BadCursor)?;
    Ok((rank.parse().map_err(|_| BadCursor)?, key))
}
