//! Who may register and end leases: the rules of "Who is asking" (policy-semantics.md).
//!
//! Credentials are verified by the gateway; this module only knows what each of them entitles to.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use thiserror::Error;

use super::Lease;
use super::mac::Mac;
use crate::effective::Generation;
use crate::job::{Assurance, JobIdentity};
use crate::subject::{Network, RunnerKind};

/// Source addresses that one registration may name.
pub const MAX_SOURCES: usize = 16;

/// What a token is limited to. An empty list limits nothing, except where a rule says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenScope {
    /// Owners whose jobs it may register.
    pub owners: Vec<CompactString>,
    /// Repositories (`owner/name`) whose jobs it may register.
    pub repos: Vec<CompactString>,
    /// Networks in which it may register and end leases.
    pub networks: Vec<CompactString>,
    /// The cluster that it stands for.
    pub cluster: Option<CompactString>,
}

impl TokenScope {
    /// True when the token names this job's owner or repository.
    fn names(&self, identity: &JobIdentity) -> bool {
        self.owners
            .iter()
            .any(|owner| owner.eq_ignore_ascii_case(&identity.owner))
            || self
                .repos
                .iter()
                .any(|repo| repo.eq_ignore_ascii_case(&identity.repo))
    }

    fn names_anybody(&self) -> bool {
        !self.owners.is_empty() || !self.repos.is_empty()
    }

    pub(super) fn covers_network(&self, network: &str) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|name| name == network)
    }
}

/// By what right a lease is registered. Verified by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// None: the client says so.
    Claimed,
    /// A runner's token.
    RunnerToken(TokenScope),
    /// The job's OIDC token, whose claims are the identity.
    Oidc,
    /// The forge's own webhook.
    Forge,
    /// A provisioner's token: what started the machine. Its word counts above every rule but the
    /// configuration's; the identity is as well known as the provisioner says, at least `declared`.
    Provisioner(TokenScope),
}

impl Credential {
    pub(super) fn assurance(&self, identity: &JobIdentity) -> Assurance {
        match self {
            Self::Claimed => Assurance::Claimed,
            Self::RunnerToken(_) => Assurance::Declared,
            Self::Oidc => Assurance::Signed,
            Self::Forge => Assurance::Forge,
            Self::Provisioner(_) => identity.assurance.clamp(Assurance::Declared, Assurance::Forge),
        }
    }

    /// True for parties that know which machine is which: they lift quarantine and vouch for addresses.
    pub(super) fn knows_machines(&self) -> bool {
        match self {
            Self::Forge | Self::Provisioner(_) => true,
            Self::Claimed | Self::RunnerToken(_) | Self::Oidc => false,
        }
    }

    pub(super) fn is_provisioner(&self) -> bool {
        match self {
            Self::Provisioner(_) => true,
            Self::Claimed | Self::RunnerToken(_) | Self::Oidc | Self::Forge => false,
        }
    }

    fn scope(&self) -> Option<&TokenScope> {
        match self {
            Self::RunnerToken(scope) | Self::Provisioner(scope) => Some(scope),
            Self::Claimed | Self::Oidc | Self::Forge => None,
        }
    }
}

/// A request to hold some sources.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Id of the lease to be; unique, made by the caller.
    pub id: CompactString,
    /// The sources: the requester's own address, or those that a provisioner names. 1 to [`MAX_SOURCES`].
    pub sources: Vec<IpAddr>,
    /// The machine, as the neighbour table shows it while the request is served; `None` off-link.
    pub mac: Option<Mac>,
    /// The job. Cluster and assurance are filled in by the table.
    pub identity: JobIdentity,
    /// Where the policy store's history stands now, as far as the caller has followed it.
    pub began: Generation,
    /// How long the lease lives when nobody ends it.
    pub lifetime: Duration,
    /// By what right.
    pub credential: Credential,
}

/// What came of a registration.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The lease; an existing one when the same job asked again.
    pub lease: Arc<Lease>,
    /// Sources that have another subject now: their flows are to be judged again.
    pub changed: Vec<IpAddr>,
}

/// What would come of a registration.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The lease that the same job holds already; it would be granted that one.
    pub held: Option<Arc<Lease>>,
    /// Ids of the leases that it would end.
    pub replaces: Vec<CompactString>,
    /// Name of the network.
    pub network: CompactString,
    /// The job, with cluster and assurance as the table fills them in.
    pub identity: JobIdentity,
    /// The sources that the lease would be registered for: with those asked for, the further ones of the lease
    /// that it replaces. Of a lease that is held already, its own.
    pub sources: Vec<IpAddr>,
    /// Where the policy store's history stood when the job began: it may have begun by a lease that is
    /// replaced.
    pub began: Generation,
}

/// Why a lease is not granted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegisterError {
    /// No source, or more than [`MAX_SOURCES`].
    #[error("a lease needs 1 to {MAX_SOURCES} source addresses, not {0}")]
    SourceCount(usize),
    /// A source lies in no network of this gateway.
    #[error("{0} lies in no network of this gateway")]
    Foreign(IpAddr),
    /// The sources lie in different networks.
    #[error("{0} and {1} lie in different networks")]
    Apart(IpAddr, IpAddr),
    /// The token does not reach this network.
    #[error("the token is not for network {0}")]
    Network(CompactString),
    /// The token does not name this owner or repository.
    #[error("the token does not name {0}")]
    NotNamed(CompactString),
    /// The identity, or the token, says another cluster than the network.
    #[error("cluster {said:?} does not match {known:?}")]
    Cluster {
        /// As said.
        said: CompactString,
        /// The network's, or the token's.
        known: CompactString,
    },
    /// Another lease holds the source.
    #[error("{source_address} is held by lease {lease} ({})", assurance.as_str())]
    Held {
        /// The source.
        source_address: IpAddr,
        /// The lease that holds it.
        lease: CompactString,
        /// How well that one is known.
        assurance: Assurance,
    },
    /// The lease of this source ended and its machine has not changed.
    #[error("{0} is quarantined: its lease ended and its machine has not changed")]
    Quarantined(IpAddr),
    /// The machine of this source is not known, or holds leases by other addresses.
    #[error("{0} is not bound to a machine without a lease")]
    Unbound(IpAddr),
    /// A lease with this id exists.
    #[error("there is a lease {0} already")]
    DuplicateId(CompactString),
    /// The table is full.
    #[error("the lease table is full")]
    Full,
}

/// Who ends a lease or a quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    /// Whoever sits at this address: the job itself.
    Source(IpAddr),
    /// A provisioner, within its token's networks.
    Provisioner(TokenScope),
    /// The forge's webhook.
    Forge,
    /// A person, or the gateway itself.
    Operator,
}

impl Party {
    /// True when it may say of any source of this network that its machine is gone.
    pub(super) fn clears(&self, network: &str) -> bool {
        match self {
            Self::Source(_) => false,
            Self::Provisioner(scope) => scope.covers_network(network),
            Self::Forge | Self::Operator => true,
        }
    }
}

/// Why a lease is not ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EndError {
    /// No lease has this id.
    #[error("there is no lease {0}")]
    Unknown(CompactString),
    /// The party may not end this lease.
    #[error("lease {0} is not yours to end")]
    NotYours(CompactString),
    /// The configuration made it.
    #[error("lease {0} comes from the configuration")]
    Static(CompactString),
    /// The source lies in no network of this gateway.
    #[error("{0} lies in no network of this gateway")]
    Foreign(IpAddr),
    /// The party may not clear sources of this network.
    #[error("sources of network {0} are not yours to clear")]
    Network(CompactString),
}

/// The checks that need no table: what the token reaches, and the identity as it will be known.
pub(super) fn admit(request: &Registration, network: &Network) -> Result<JobIdentity, RegisterError> {
    let mut identity = request.identity.clone().canonical();
    identity.assurance = request.credential.assurance(&identity);
    if let Some(scope) = request.credential.scope() {
        if !scope.covers_network(&network.name) {
            return Err(RegisterError::Network(network.name.clone()));
        }
        // On a persistent machine the last job could have read the token, so there it must say whom it is for.
        let must_name = network.runners == RunnerKind::Persistent && !request.credential.is_provisioner();
        if (must_name || scope.names_anybody()) && !scope.names(&identity) {
            return Err(RegisterError::NotNamed(identity.repo));
        }
    }
    let token = request.credential.scope().and_then(|scope| scope.cluster.clone());
    let known = Some(network.cluster.clone())
        .filter(|name| !name.is_empty())
        .or_else(|| token.clone());
    let said = [token.unwrap_or_default(), identity.cluster.clone()];
    let known = known.unwrap_or_default();
    if let Some(said) = said.into_iter().find(|said| !said.is_empty() && *said != known) {
        return Err(RegisterError::Cluster { said, known });
    }
    identity.cluster = known;
    Ok(identity)
}
