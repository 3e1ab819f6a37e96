//! The records that reach gateways: policies, endpoint sets, attachments, credentials, block lists, leases.
//!
//! Each is the whole state of one thing, never a difference, so that a record may arrive twice or late without harm.
//! The store makes them; [`crate::mirror`] reads them.

use std::net::IpAddr;

use compact_str::CompactString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_policy::effective::Generation;
use tidegate_policy::job::{JobIdentity, Scope};

use crate::oidc::Issuer;
use crate::secret::TokenDigest;

/// A policy with every version that still governs somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// Its immutable id. A re-created name is another policy.
    pub id: CompactString,
    /// Whose it is.
    pub owner: CompactString,
    /// Its name, unique among the owner's.
    pub name: CompactString,
    /// Oldest first, never empty. One entry when the last change was to apply now; at most [`MAX_VERSIONS`].
    pub versions: Vec<VersionRecord>,
}

/// Versions of one policy that can govern jobs at the same time. More changes for the next job than this within one
/// job's life move the oldest jobs to the next version.
pub const MAX_VERSIONS: usize = 16;

/// One version of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// From 1.
    pub version: u32,
    /// Jobs that began at this generation or later are governed by it; earlier ones by an older version, where one
    /// is listed.
    pub since: Generation,
    /// The document as written.
    pub yaml: String,
}

/// An endpoint set, for `use:` in the policies of the same owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRecord {
    /// Whose it is.
    pub owner: CompactString,
    /// Its name, unique among the owner's.
    pub name: CompactString,
    /// From 1.
    pub version: u32,
    /// The document as written.
    pub yaml: String,
}

/// What a synced token may do. The other roles never reach a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncedRole {
    /// Register, read and end the job of the machine that shows it.
    Runner,
    /// Register and end any source in its networks.
    Provisioner,
}

/// A token that gateways have to recognize while control is away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its id, named in histories.
    pub id: CompactString,
    /// SHA-256 of its text.
    pub digest: TokenDigest,
    /// What it may do.
    pub role: SyncedRole,
    /// Owners whose jobs it may register; empty limits nothing.
    pub owners: Vec<CompactString>,
    /// Repositories (`owner/name`) whose jobs it may register.
    pub repos: Vec<CompactString>,
    /// Networks in which it is good; empty limits nothing.
    pub networks: Vec<CompactString>,
    /// The cluster that it stands for.
    pub cluster: Option<CompactString>,
    /// When it stops being good.
    pub expires_at: Option<Timestamp>,
}

/// Where entries of the global block list come from. Each is a layer of its own, so that a change of the few entries of
/// a deployment does not rebuild a feed of a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockLayer {
    /// The program's own list, which nobody can take away.
    Builtin,
    /// The signed feed.
    Feed,
    /// Entries of this deployment.
    Deployment,
}

impl BlockLayer {
    /// Every layer, in the order in which a hit is looked for.
    pub const ALL: [Self; 3] = [Self::Builtin, Self::Feed, Self::Deployment];

    /// The spelling in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Feed => "feed",
            Self::Deployment => "deployment",
        }
    }
}

/// Patterns in one [`BlockChange`] at most; longer lists come in several.
pub const MAX_BLOCK_CHANGE: usize = 5_000;

/// A difference of one layer of the global block list: the only record that is not a whole state, because a feed has a
/// million entries. Adding what is there and removing what is not are no errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockChange {
    /// Which layer.
    pub layer: BlockLayer,
    /// Names, wildcards, addresses and ranges to add, as written.
    #[serde(default)]
    pub add: Vec<String>,
    /// Those to remove.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// By what right a lease was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// None: the client said so.
    Claimed,
    /// A runner token.
    RunnerToken,
    /// The job's own OIDC token.
    Oidc,
    /// The forge's webhook.
    Forge,
    /// A provisioner.
    Provisioner,
}

impl CredentialKind {
    /// The spelling in the store and in histories.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::RunnerToken => "runner-token",
            Self::Oidc => "oidc",
            Self::Forge => "forge",
            Self::Provisioner => "provisioner",
        }
    }
}

/// A job's hold on its sources, as it is stored and shared by the gateways of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Its id, also the job's.
    pub id: CompactString,
    /// The gateway that granted it; empty when a provisioner registered it at the control plane.
    #[serde(default)]
    pub gateway: CompactString,
    /// Name of the network that its sources lie in.
    pub network: CompactString,
    /// Its registered sources (those that joined by link evidence are each gateway's own to see).
    pub sources: Vec<IpAddr>,
    /// The job, cluster and assurance filled in.
    pub identity: JobIdentity,
    /// By what right.
    pub credential: CredentialKind,
    /// The token that was shown.
    #[serde(default)]
    pub token_id: Option<CompactString>,
    /// Position in the store's changes when it began: which version of a policy governs it.
    #[serde(default)]
    pub began: Generation,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// What becomes of the sources of a lease that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// On networks of ephemeral runners they are refused everything until their machine changes.
    Quarantine,
    /// A provisioner or the forge said that the machine is gone.
    Release,
}

/// One thing that became what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[expect(
    clippy::large_enum_variant,
    reason = "on a busy fleet nearly every change is a lease, the largest"
)]
pub enum Change {
    /// A policy.
    Policy(PolicyRecord),
    /// A policy was deleted.
    PolicyGone {
        /// Its id.
        id: CompactString,
    },
    /// An endpoint set.
    Set(SetRecord),
    /// An endpoint set was deleted.
    SetGone {
        /// Whose.
        owner: CompactString,
        /// Its name.
        name: CompactString,
    },
    /// What is attached to a scope; nothing any more when `policy` is absent.
    Attachment {
        /// Workflow, repository, organization or cluster.
        #[serde(with = "scope_text")]
        scope: Scope,
        /// Id of the policy.
        policy: Option<CompactString>,
    },
    /// A runner's or provisioner's token.
    Token(TokenRecord),
    /// A token was revoked.
    TokenGone {
        /// Its id.
        id: CompactString,
    },
    /// An OIDC issuer with its keys.
    Issuer(Issuer),
    /// An issuer is not trusted any more.
    IssuerGone {
        /// Its URL.
        issuer: String,
    },
    /// The global block list.
    Block(BlockChange),
    /// A lease of the gateway's group.
    Lease(LeaseRecord),
    /// A lease ended.
    LeaseGone {
        /// Its id.
        id: CompactString,
        /// What becomes of its sources.
        ending: Ending,
        /// The sources that are free now, with [`Ending::Release`]: of a lease that ended earlier, with its sources left in
        /// quarantine, nobody but the store knows them any more.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        sources: Vec<IpAddr>,
    },
}

/// Scopes are one string everywhere.
pub mod scope_text {
    use serde::{Deserialize, Deserializer, Serializer};
    use tidegate_policy::job::Scope;

    /// `repo:acme/web`.
    pub fn serialize<S: Serializer>(scope: &Scope, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(scope)
    }

    /// From the same text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Scope, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
