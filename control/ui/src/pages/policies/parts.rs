//! Parts of several of these pages: differences between texts, what jobs fall back to, a text by lines.

use serde::Deserialize;

use super::Mode;
use crate::text::Text;

pub(super) use crate::diff::Diff;

/// A policy that lost a scope.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Displaced {
    pub(super) scope: Text,
    pub(super) policy: Text,
    pub(super) owner: Text,
}

/// A scope whose policy goes.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct FallsBack {
    pub(super) scope: Text,
    pub(super) to: Option<FallBack>,
    #[serde(default)]
    pub(super) by_cluster: Vec<InCluster>,
}

/// What its jobs get in one cluster, where no wider scope's policy decides.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct InCluster {
    pub(super) cluster: Text,
    pub(super) to: Option<FallBack>,
    pub(super) defaults: Vec<Text>,
}

/// The policy of a wider scope.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct FallBack {
    pub(super) scope: Text,
    pub(super) owner: Text,
    pub(super) policy: Text,
    pub(super) mode: Mode,
}

/// Scopes that fall back to the same: two hundred repositories are one line.
#[derive(Clone, Debug)]
pub(super) struct Fall {
    pub(super) to: Option<FallBack>,
    pub(super) by_cluster: Vec<InCluster>,
    pub(super) scopes: Vec<Text>,
}

/// Scopes by what they fall back to, in the order in which that comes.
pub(super) fn falls(all: Vec<FallsBack>) -> Vec<Fall> {
    let mut falls: Vec<Fall> = Vec::new();
    for one in all {
        let same = |fall: &&mut Fall| fall.to == one.to && fall.by_cluster == one.by_cluster;
        match falls.iter_mut().find(same) {
            Some(fall) => fall.scopes.push(one.scope),
            None => falls.push(Fall {
                to: one.to,
                by_cluster: one.by_cluster,
                scopes: vec![one.scope],
            }),
        }
    }
    falls
}

/// A text by lines, with their numbers.
pub(super) fn lines(text: &str) -> Vec<(usize, Text)> {
    text.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.into()))
        .collect()
}
