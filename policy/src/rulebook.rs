//! Everything one job is judged by, immutable, swapped as one pointer.
//!
//! A [`Rulebook`] is the world that all jobs share (global block list, never-dial set, internal domains)
//! plus what governs this job: a compiled policy, or deny-all with its reason.

mod list;
mod nearest;
mod policy;

use std::net::IpAddr;
use std::sync::Arc;

use crate::compile::block::GlobalBlocks;
use crate::compile::rules::RuleRef;
use crate::ech::EchLedger;
use crate::endpoint::{NamePattern, Transport};
use crate::job::Scope;
use crate::name::DnsName;
use crate::special::NeverDial;
use crate::verdict::{Mode, Reason, Refusal};

pub use list::RuleList;
pub use nearest::Nearest;
pub use policy::{CompileError, CompiledPolicy, PolicyMeta};

/// Domains whose names may resolve to private addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    pub global: GlobalBlocks,
    /// Addresses that are never dialled.
    pub never_dial: NeverDial,
    /// Names that may have private addresses.
    pub internal: InternalDomains,
    /// Published ECH configuration ids.
    pub ech: Arc<EchLedger>,
    /// `proxy.destination`.
    pub destination: Destination,
}

impl World {
    /// True when the same follows from both.
    pub fn is_same(&self, other: &Self) -> bool {
        self.global.is_same(&other.global)
            && self.never_dial == other.never_dial
            && self.internal == other.internal
            && Arc::ptr_eq(&self.ech, &other.ech)
            && self.destination == other.destination
    }
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
        Self {
            world,
            governing: Governing::DenyAll(reason),
            host: None,
        }
    }

    /// True when the same follows from both: nothing needs to be judged again. Policies and lists are the
    /// same when they are one compilation.
    pub fn is_same(&self, other: &Self) -> bool {
        let governing = match (&self.governing, &other.governing) {
            (Governing::Policy(one, scope), Governing::Policy(two, other)) => {
                Arc::ptr_eq(one, two) && scope == other
            }
            (Governing::DenyAll(one), Governing::DenyAll(two)) => one == two,
            (Governing::Policy(..), Governing::DenyAll(_))
            | (Governing::DenyAll(_), Governing::Policy(..)) => false,
        };
        let host = match (&self.host, &other.host) {
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        governing && host && (Arc::ptr_eq(&self.world, &other.world) || self.world.is_same(&other.world))
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
    pub(crate) fn permitting<'a>(
        &'a self,
        policy: &'a CompiledPolicy,
    ) -> impl Iterator<Item = &'a RuleList> + Clone {
        std::iter::once(&**policy.allowed())
            .chain(policy.platform())
            .chain(self.host.as_deref())
    }

    /// The denied endpoint that covers a name.
    pub(crate) fn denied_name(&self, name: &DnsName, port: u16, transport: Transport) -> Option<RuleRef> {
        self.policy()
            .and_then(|(policy, _)| policy.denied().find_name(name, port, transport))
    }

    /// The denied endpoint that covers an address.
    pub(crate) fn denied_address(&self, address: IpAddr, port: u16, transport: Transport) -> Option<RuleRef> {
        self.policy()
            .and_then(|(policy, _)| policy.denied().find_address(address, port, transport))
    }
}
