//! Evidence that policy agreed: without one of these, nothing is dialled and no upstream is asked.

use std::net::IpAddr;

use super::flow::check_dial;
use crate::name::DnsName;
use crate::rulebook::Rulebook;
use crate::special;
use crate::verdict::Refusal;

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
        Self { name, owner, filtering }
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

/// Proof that policy allows dialling one address and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialPermit {
    address: IpAddr,
    port: u16,
}

impl DialPermit {
    pub(super) fn new(address: IpAddr, port: u16) -> Self {
        Self { address: special::canonical(address), port }
    }

    /// The address, canonical.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Proof that policy allows resolving a flow's own name, and dialling what that yields.
#[derive(Clone, Debug)]
pub struct ResolvePermit {
    query: QueryPermit,
    port: u16,
}

impl ResolvePermit {
    pub(super) fn new(name: DnsName, port: u16) -> Self {
        Self { query: QueryPermit::new(name.clone(), name, Filtering::Enforced), port }
    }

    /// What may be asked upstream.
    pub fn query(&self) -> &QueryPermit {
        &self.query
    }

    /// Judges one resolved address: steps 1 to 3 of the order of decision, and rebinding.
    pub fn dial(&self, book: &Rulebook, address: IpAddr) -> Result<DialPermit, Refusal> {
        super::answer::judge_address(book, self.query.name(), &[], address)?;
        check_dial(book, address, self.port)?;
        Ok(DialPermit::new(address, self.port))
    }
}

/// Proof that policy allows resolving some exact names, and dialling the flow's own address if one of
/// them has it: for clients that answer from an old cache.
#[derive(Clone, Debug)]
pub struct ConfirmPermit {
    candidates: Vec<QueryPermit>,
    dial: DialPermit,
}

impl ConfirmPermit {
    pub(super) fn new(names: Vec<DnsName>, dial: DialPermit) -> Self {
        let candidates =
            names.into_iter().map(|name| QueryPermit::new(name.clone(), name, Filtering::Enforced)).collect();
        Self { candidates, dial }
    }

    /// The exact names that may be asked for, at most [`super::flow::MAX_CONFIRM`].
    pub fn candidates(&self) -> &[QueryPermit] {
        &self.candidates
    }

    /// The flow's own address, when it is among the addresses that a candidate resolved to.
    pub fn confirm(&self, addresses: &[IpAddr]) -> Option<DialPermit> {
        let wanted = self.dial.address();
        addresses.iter().any(|address| special::canonical(*address) == wanted).then(|| self.dial.clone())
    }
}
