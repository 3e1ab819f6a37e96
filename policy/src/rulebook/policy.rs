//! One policy in the form that decisions run on.
//!
//! Compiles a document with the endpoint sets that it uses; afterwards nothing here changes. Driven by
//! whoever loads policies (`gateway` from files and the store, `cli` for `explain`).

use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::HashMap;
use thiserror::Error;

use super::RuleList;
use crate::compile::rules::RuleSource;
use crate::document::{EndpointSet, HostSettings, Platform, PolicyDocument, SourcedEndpoint};
use crate::verdict::Mode;

/// What identifies a compiled policy in events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyMeta {
    /// Immutable id in the store; the file name for policies from files.
    pub id: CompactString,
    /// Name for people.
    pub name: CompactString,
    /// Version, from 1; grows with each change.
    pub version: u32,
}

/// A policy in the form that decisions run on.
#[derive(Debug)]
pub struct CompiledPolicy {
    /// Who it is.
    pub meta: PolicyMeta,
    /// Whether its refusals are carried out.
    pub mode: Mode,
    /// Whether echo requests to ticketed or covered addresses are answered.
    pub icmp: bool,
    /// What it says to agents on the runner; nothing that is decided here.
    pub host: HostSettings,
    denied: RuleList,
    allowed: Arc<RuleList>,
    platform: Option<Arc<RuleList>>,
}

/// A policy that can't be compiled.
#[derive(Debug, Error)]
pub enum CompileError {
    /// It uses an endpoint set that does not exist.
    #[error("policy {policy} uses the endpoint set {set:?}, which does not exist; known sets: {known}")]
    UnknownSet {
        /// The policy's name.
        policy: CompactString,
        /// The missing set.
        set: String,
        /// The sets there are, comma separated.
        known: String,
    },
    /// It decides nothing about egress (it has only `lockdown-mode`).
    #[error(
        "policy {policy} has neither egress-policy nor allowed-endpoints, so it can't decide about egress"
    )]
    NoEgress {
        /// The policy's name.
        policy: CompactString,
    },
}

impl CompiledPolicy {
    /// Compiles a document with the endpoint sets that it uses and the platform pack that it chose.
    pub fn compile(
        document: &PolicyDocument,
        meta: PolicyMeta,
        sets: &HashMap<String, EndpointSet>,
        pack: &Arc<RuleList>,
    ) -> Result<Self, CompileError> {
        let Some(mode) = document.mode() else {
            return Err(CompileError::NoEgress { policy: meta.name });
        };
        let mut allowed: Vec<(&SourcedEndpoint, RuleSource)> = document
            .allowed_endpoints
            .iter()
            .map(|one| (one, RuleSource::Policy))
            .collect();
        for used in &document.use_sets {
            let Some(set) = sets.get(used) else {
                let mut known: Vec<&str> = sets.keys().map(String::as_str).collect();
                known.sort_unstable();
                let known = known.join(", ");
                return Err(CompileError::UnknownSet {
                    policy: meta.name,
                    set: used.clone(),
                    known,
                });
            };
            let source = RuleSource::Set(used.as_str().into());
            allowed.extend(set.endpoints.iter().map(|one| (one, source.clone())));
        }
        let denied = document
            .denied_endpoints
            .iter()
            .map(|one| (one, RuleSource::Policy));
        Ok(Self {
            meta,
            mode,
            icmp: document.icmp,
            host: document.host,
            denied: RuleList::compile(denied),
            allowed: Arc::new(RuleList::compile(allowed)),
            platform: match document.platform {
                Platform::GithubActions => Some(Arc::clone(pack)),
                Platform::None => None,
            },
        })
    }
}

impl CompiledPolicy {
    /// The denied endpoints.
    pub fn denied(&self) -> &RuleList {
        &self.denied
    }

    /// The allowed endpoints, those of used sets included.
    pub fn allowed(&self) -> &Arc<RuleList> {
        &self.allowed
    }

    /// The platform pack, when the document asks for it.
    pub fn platform(&self) -> Option<&RuleList> {
        self.platform.as_deref()
    }
}
