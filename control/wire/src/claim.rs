//! A registration on its way to the store: what a gateway asks, and what it is told.
//!
//! The gateway has verified the credential and asked its own lease table; the store adds what only it can know: that
//! a proof was not used before, that no other gateway of the group gave the source away, that the token still stands.

use compact_str::CompactString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_policy::effective::Generation;

use crate::record::{Ending, LeaseRecord};

/// A lease to be recorded. Asking again with the same lease id is the same claim: it is answered as the first time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The lease. `began` is the store's to fill in, but for one that was granted while control was away.
    pub lease: LeaseRecord,
    /// Leases that it replaces, by the rules of the lease table.
    #[serde(default)]
    pub replaces: Vec<CompactString>,
    /// A proof that may be used once.
    #[serde(default)]
    pub proof: Option<OnceProof>,
    /// It was granted while control was away: it is recorded in any case, as ended where somebody else has the source or
    /// the proof by a better right.
    #[serde(default)]
    pub granted: bool,
}

/// A credential that is good for one job only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnceProof {
    /// Who issued it.
    pub issuer: String,
    /// What makes it unique there: its `jti`, or a digest of it.
    pub key: String,
    /// After this it can't be used anyway, and need not be remembered.
    pub expires_at: Timestamp,
}

/// A lease was recorded, and the living gateways of the group were told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Position in the store's changes: which versions of policies govern it.
    pub began: Generation,
    /// The other gateways of the group.
    #[serde(default)]
    pub members: Vec<Member>,
}

/// Another gateway of the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub gateway: CompactString,
    /// It has put the lease in force.
    pub has_it: bool,
}

/// Why a lease was not recorded. In problem documents it stands in `code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The proof was used for another job.
    Replayed,
    /// Another gateway of the group gave the source away.
    Held,
    /// The token was revoked or has expired.
    TokenGone,
    /// The request does not make sense; the detail says why.
    Invalid,
}

/// Who ended a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    /// The job itself.
    Job,
    /// Its provisioner.
    Provisioner,
    /// The forge's webhook.
    Forge,
    /// Its time was over.
    Expiry,
    /// Another lease took its sources.
    Replaced,
    /// A person.
    Operator,
}

impl EndedBy {
    /// The spelling in the store and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Provisioner => "provisioner",
            Self::Forge => "forge",
            Self::Expiry => "expiry",
            Self::Replaced => "replaced",
            Self::Operator => "operator",
        }
    }
}

/// A lease that ended at the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: EndedBy,
    /// What became of its sources.
    pub ending: Ending,
}
