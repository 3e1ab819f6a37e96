//! Evidence that policy agreed: without one of these, nothing is dialled and no upstream is asked
//! (invariant 2). Only this crate makes them:
//!
//! ```
//! fn dial(permit: &tidegate_policy::judge::permit::DialPermit) {
//!     permit.address();
//! }
//! ```
//!
//! ```compile_fail
//! fn forge(flow: tidegate_policy::judge::flow::Flow) -> tidegate_policy::judge::permit::DialPermit {
//!     tidegate_policy::judge::permit::DialPermit::new(flow)
//! }
//! ```
//!
//! ```compile_fail
//! use tidegate_policy::judge::permit::{Filtering, QueryPermit};
//! fn forge(name: tidegate_policy::DnsName) -> QueryPermit {
//!     QueryPermit::new(name.clone(), name, Filtering::Observed)
//! }
//! ```

use std::net::IpAddr;

use super::answer::{judge_address, judge_chain};
use super::flow::{Flow, check_dial};
use crate::compile::rules::RuleRef;
use crate::detection::Ech;
use crate::endpoint::Transport;
use crate::name::DnsName;
use crate::rulebook::Rulebook;
use crate::special;
use crate::verdict::{Reason, Refusal};

/// How answers to a permitted query are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filtering {
    /// Block: refused addresses dropped, `ech` and `h3` stripped, rebinding refused.
    Enforced,
    /// Audit: nothing but the global block list.
    Observed,
}

/// Proof that policy allows asking upstreams for one name (and what its chain leads to).
#[derive(Clone, Debug)]
pub struct QueryPermit {
    name: DnsName,
    owner: DnsName,
    filtering: Filtering,
}

impl QueryPermit {
    pub(super) fn new(name: DnsName, owner: DnsName, filtering: Filtering) -> Self {
        Self {
            name,
            owner,
            filtering,
        }
    }

    /// The name that may be asked for.
    pub fn name(&self) -> &DnsName {
        &self.name
    }

    /// The name that tickets for the answer belong to: the asked one, or the head of its chain.
    pub fn owner(&self) -> &DnsName {
        &self.owner
    }

    /// How the answer is to be treated.
    pub fn filtering(&self) -> Filtering {
        self.filtering
    }
}

/// Proof that policy allows dialling one address and port by one transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialPermit {
    flow: Flow,
}

impl DialPermit {
    pub(super) fn new(flow: Flow) -> Self {
        Self {
            flow: Flow {
                address: special::canonical(flow.address),
                ..flow
            },
        }
    }

    /// The address, canonical.
    pub fn address(&self) -> IpAddr {
        self.flow.address
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.flow.port
    }

    /// The transport.
    pub fn transport(&self) -> Transport {
        self.flow.transport
    }
}

/// Proof that policy allows resolving a flow's own name, and dialling what that yields.
#[derive(Clone, Debug)]
pub struct ResolvePermit {
    query: QueryPermit,
    flow: Flow,
    ech: Ech,
}

impl ResolvePermit {
    pub(super) fn new(name: DnsName, flow: Flow, ech: Ech) -> Self {
        Self {
            query: QueryPermit::new(name.clone(), name, Filtering::Enforced),
            flow,
            ech,
        }
    }

    /// What may be asked upstream.
    pub fn query(&self) -> &QueryPermit {
        &self.query
    }

    /// Judges one resolved address: steps 1 to 3 of the order of decision, and rebinding.
    pub fn dial(&self, book: &Rulebook, address: IpAddr) -> Result<DialPermit, Refusal> {
        self.dial_through(book, &[], address)
    }

    /// Like [`Self::dial`], for an address that a chain of further names led to: the global block list
    /// counts for each of them, and the last may be an internal domain.
    pub fn dial_through(
        &self,
        book: &Rulebook,
        chain: &[DnsName],
        address: IpAddr,
    ) -> Result<DialPermit, Refusal> {
        let flow = Flow {
            address: special::canonical(address),
            ..self.flow
        };
        check_dial(book, flow)?;
        judge_chain(book, chain)?;
        judge_address(book, self.query.name(), chain, address)?;
        // The hello was judged against the address that the client made up; what hides in it may be
        // published for another name at the address that is dialled instead.
        if let Ech::Outer { config_id } = self.ech
            && book
                .world
                .ech
                .published(config_id, Some(self.query.name()), flow.address)
        {
            return Err(Refusal::because(Reason::Ech));
        }
        Ok(DialPermit::new(flow))
    }
}

/// Proof that policy allows resolving some exact names, and dialling the flow's own address if one of
/// them has it: for clients that answer from an old cache.
#[derive(Clone, Debug)]
pub struct ConfirmPermit {
    candidates: Vec<QueryPermit>,
    rules: Vec<RuleRef>,
    dial: DialPermit,
}

impl ConfirmPermit {
    pub(super) fn new(names: Vec<(DnsName, RuleRef)>, dial: DialPermit) -> Self {
        let (candidates, rules) = names
            .into_iter()
            .map(|(name, rule)| (QueryPermit::new(name.clone(), name, Filtering::Enforced), rule))
            .unzip();
        Self {
            candidates,
            rules,
            dial,
        }
    }

    /// The exact names that may be asked for, at most [`super::flow::MAX_CONFIRM`].
    pub fn candidates(&self) -> &[QueryPermit] {
        &self.candidates
    }

    /// The rule that allows a candidate: the one that decided when this candidate has the address.
    pub fn rule_of(&self, candidate: &DnsName) -> Option<&RuleRef> {
        let at = self.candidates.iter().position(|one| one.name() == candidate)?;
        self.rules.get(at)
    }

    /// The flow's own address, when it is among the addresses that a candidate resolved to.
    pub fn confirm(&self, addresses: &[IpAddr]) -> Option<DialPermit> {
        let wanted = self.dial.address();
        addresses
            .iter()
            .any(|address| special::canonical(*address) == wanted)
            .then(|| self.dial.clone())
    }
}
