//! Everything one job is judged by, immutable, swapped as one pointer.
//!
//! A [`Rulebook`] is the world that all jobs share (global block list, never-dial set, internal domains)
//! plus what governs this job: a compiled policy, or deny-all with its reason.

use std::net::IpAddr;
use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::HashMap;
use thiserror::Error;

use crate::compile::block::GlobalBlock;
use crate::compile::matcher::Matcher;
use crate::compile::rules::{RuleId, RuleRef, RuleSource, RuleTable};
use crate::document::{EndpointSet, Platform, PolicyDocument, SourcedEndpoint};
use crate::ech::EchLedger;
use crate::endpoint::{NamePattern, Transport};
use crate::job::Scope;
use crate::name::DnsName;
use crate::special::NeverDial;
use crate::verdict::{Mode, Reason, Refusal};

/// Endpoints compiled together with the table that turns a match back into the rule as written.
#[derive(Debug)]
pub struct RuleList {
    matcher: Matcher,
    rules: Arc<RuleTable>,
}

impl RuleList {
    /// Compiles endpoints of one or more sources.
    pub fn compile<'a>(endpoints: impl IntoIterator<Item = (&'a SourcedEndpoint, RuleSource)>) -> Self {
        let mut rules = RuleTable::builder();
        let compiled: Vec<_> = endpoints
            .into_iter()
            .map(|(one, source)| (one.endpoint.clone(), rules.push(&one.text, one.line, source)))
            .collect();
        Self { matcher: Matcher::build(compiled), rules: Arc::new(rules.finish()) }
    }

    /// The rule that covers a name on a port.
    pub fn find_name(&self, name: &DnsName, port: u16, transport: Transport) -> Option<RuleRef> {
        self.matcher.find_name(name, port, transport).map(|id| self.rule(id))
    }

    /// The rule that covers an address on a port.
    pub fn find_address(&self, address: IpAddr, port: u16, transport: Transport) -> Option<RuleRef> {
        self.matcher.find_address(address, port, transport).map(|id| self.rule(id))
    }

    /// The rule by which some port of a name stays permitted after `denied`.
    pub fn any_port(&self, name: &DnsName, denied: &Self) -> Option<RuleRef> {
        self.matcher.any_port_permitted(name, &denied.matcher).map(|id| self.rule(id))
    }

    /// The compiled form, for questions about ancestors, neighbours and whole addresses.
    pub fn matcher(&self) -> &Matcher {
        &self.matcher
    }

    /// The rule behind an id of this list.
    pub fn rule(&self, id: RuleId) -> RuleRef {
        RuleRef::new(&self.rules, id)
    }
}

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
    denied: RuleList,
    allowed: RuleList,
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
    #[error("policy {policy} has neither egress-policy nor allowed-endpoints, so it can't decide about egress")]
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
        let mut allowed: Vec<(&SourcedEndpoint, RuleSource)> =
            document.allowed_endpoints.iter().map(|one| (one, RuleSource::Policy)).collect();
        for used in &document.use_sets {
            let Some(set) = sets.get(used) else {
                let mut known: Vec<&str> = sets.keys().map(String::as_str).collect();
                known.sort_unstable();
                let known = known.join(", ");
                return Err(CompileError::UnknownSet { policy: meta.name, set: used.clone(), known });
            };
            let source = RuleSource::Set(used.as_str().into());
            allowed.extend(set.endpoints.iter().map(|one| (one, source.clone())));
        }
        let denied = document.denied_endpoints.iter().map(|one| (one, RuleSource::Policy));
        Ok(Self {
            meta,
            mode,
            icmp: document.icmp,
            denied: RuleList::compile(denied),
            allowed: RuleList::compile(allowed),
            platform: match document.platform {
                Platform::GithubActions => Some(Arc::clone(pack)),
                Platform::None => None,
            },
        })
    }
}

/// Domains whose names may resolve to private addresses.
#[derive(Clone, Debug, Default)]
pub struct InternalDomains(Vec<NamePattern>);

impl InternalDomains {
    /// Each entry covers its own name and, written without a wildcard too, everything below it.
    pub fn new(patterns: Vec<NamePattern>) -> Self {
        Self(patterns)
    }

    /// True when `name` is listed.
    pub fn contains(&self, name: &DnsName) -> bool {
        self.0.iter().any(|pattern| {
            pattern.matches(name) || pattern.as_exact().is_some_and(|exact| name.is_below(&exact))
        })
    }
}

/// What to do with an allowed name towards an address that was never given for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// The gateway resolves the name and dials that.
    #[default]
    Resolve,
    /// Refused.
    TicketOnly,
}

/// What all jobs of a gateway share.
#[derive(Debug, Default)]
pub struct World {
    /// Names and addresses refused for everyone, in audit too.
    pub global: Arc<GlobalBlock>,
    /// Addresses that are never dialled.
    pub never_dial: NeverDial,
    /// Names that may have private addresses.
    pub internal: InternalDomains,
    /// Published ECH configuration ids.
    pub ech: Arc<EchLedger>,
    /// `proxy.destination`.
    pub destination: Destination,
}

/// What governs a job: its effective policy, or deny-all.
#[derive(Clone, Debug)]
pub enum Governing {
    /// A policy and the scope that it came from.
    Policy(Arc<CompiledPolicy>, Scope),
    /// Everything is refused, for this reason.
    DenyAll(Reason),
}

/// Everything one job is judged by.
#[derive(Debug)]
pub struct Rulebook {
    /// What all jobs share.
    pub world: Arc<World>,
    /// What governs this one.
    pub governing: Governing,
    /// The network's `always-allow` list.
    pub host: Option<Arc<RuleList>>,
}

impl Rulebook {
    /// A rulebook that refuses everything.
    pub fn deny_all(world: Arc<World>, reason: Reason) -> Self {
        Self { world, governing: Governing::DenyAll(reason), host: None }
    }

    /// Mode of the governing policy; deny-all blocks.
    pub fn mode(&self) -> Mode {
        match &self.governing {
            Governing::Policy(policy, _) => policy.mode,
            Governing::DenyAll(_) => Mode::Block,
        }
    }

    /// The governing policy with its scope.
    pub fn policy(&self) -> Option<(&Arc<CompiledPolicy>, &Scope)> {
        match &self.governing {
            Governing::Policy(policy, scope) => Some((policy, scope)),
            Governing::DenyAll(_) => None,
        }
    }

    /// The policy that must exist for a permit, or the refusal of deny-all.
    pub(crate) fn governed(&self) -> Result<&CompiledPolicy, Refusal> {
        match &self.governing {
            Governing::Policy(policy, _) => Ok(policy),
            Governing::DenyAll(reason) => Err(Refusal::because(*reason)),
        }
    }

    /// Every list that can permit, in the order of decision: the policy, its platform pack, the network's.
    pub(crate) fn permitting<'a>(&'a self, policy: &'a CompiledPolicy) -> impl Iterator<Item = &'a RuleList> + Clone {
        std::iter::once(&policy.allowed).chain(policy.platform.as_deref()).chain(self.host.as_deref())
    }

    /// The denied endpoint that covers a name.
    pub(crate) fn denied_name(&self, name: &DnsName, port: u16, transport: Transport) -> Option<RuleRef> {
        self.policy().and_then(|(policy, _)| policy.denied.find_name(name, port, transport))
    }

    /// The denied endpoint that covers an address.
    pub(crate) fn denied_address(&self, address: IpAddr, port: u16, transport: Transport) -> Option<RuleRef> {
        self.policy().and_then(|(policy, _)| policy.denied.find_address(address, port, transport))
    }
}

impl CompiledPolicy {
    /// The denied endpoints.
    pub fn denied(&self) -> &RuleList {
        &self.denied
    }

    /// The allowed endpoints, those of used sets included.
    pub fn allowed(&self) -> &RuleList {
        &self.allowed
    }
}
