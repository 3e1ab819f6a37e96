//! Policy documents: what people write, read with exact places for everything that is wrong with it.
//!
//! This module owns the shape of policies, endpoint sets, the platform pack and block lists, and the
//! diagnostics about them. It never decides anything; [`crate::compile`] and [`crate::rulebook`] turn
//! documents into what decisions run on. Driven by the gateway (files, synced policies), the control
//! plane (the store) and `tidegate check`.

pub mod blocklist;
pub mod diagnostic;
mod explain;
mod host;
pub mod keys;
mod node;
mod pasted;
mod place;
pub mod platform;
mod policy;
mod reader;
pub mod render;
mod set;
pub mod tree;

use crate::endpoint::Endpoint;
use crate::verdict::Mode;

pub use diagnostic::{Diagnostic, Parsed};
pub use host::HostSettings;

/// Longest document that is read, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// How a document is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// Refuse patterns that strangers can register names for (`*.com`, `*.github.io`, `*`, `*github.com`).
    pub strict: bool,
}

/// An endpoint and the place where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcedEndpoint {
    /// What it means.
    pub endpoint: Endpoint,
    /// As written.
    pub text: String,
    /// Line in its document, from 1.
    pub line: u32,
    /// Column of its first character, from 1.
    pub column: u32,
}

/// What the runner itself may reach besides the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Platform {
    /// What the GitHub Actions runner's own protocol needs ([`platform::pack`]).
    #[default]
    GithubActions,
    /// Nothing.
    None,
}

/// A detection of the lockdown facet. The gateway hands them on; host agents act on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detection {
    /// A container with the host's privileges was started.
    PrivilegedContainer,
    /// Another process read the memory of the runner's worker.
    RunnerWorkerMemoryRead,
    /// A shell whose input comes from the network.
    ReverseShell,
}

impl Detection {
    /// Every detection.
    pub const ALL: [Self; 3] = [
        Self::PrivilegedContainer,
        Self::RunnerWorkerMemoryRead,
        Self::ReverseShell,
    ];

    /// The spelling of documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrivilegedContainer => "Privileged-Container",
            Self::RunnerWorkerMemoryRead => "Runner-Worker-Memory-Read",
            Self::ReverseShell => "Reverse-Shell",
        }
    }
}

/// The lockdown facet of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lockdown {
    /// Whether a detection locks the job down.
    pub enabled: bool,
    /// Which detections; empty means all of them.
    pub detections: Vec<Detection>,
}

/// A policy as written: what it says, not yet what follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyDocument {
    /// `egress-policy`, when written.
    pub egress_policy: Option<Mode>,
    /// `allowed-endpoints`, in order.
    pub allowed_endpoints: Vec<SourcedEndpoint>,
    /// `denied-endpoints`, in order.
    pub denied_endpoints: Vec<SourcedEndpoint>,
    /// `use`: names of endpoint sets.
    pub use_sets: Vec<String>,
    /// `platform`.
    pub platform: Platform,
    /// `icmp`.
    pub icmp: bool,
    /// `lockdown-mode`, when written.
    pub lockdown: Option<Lockdown>,
    /// Keys of Harden-Runner that were written and that a network gateway can't enforce.
    pub not_enforced: Vec<String>,
    /// What some of them say to agents on the runner.
    pub host: HostSettings,
    /// Lines of `use_sets`, in the same order.
    use_lines: Vec<u32>,
    /// Any key of the egress facet was written, an empty list included.
    has_egress: bool,
}

impl PolicyDocument {
    /// Reads a policy. Errors make the document absent, and are all named, not only the first.
    pub fn parse(text: &str, options: &ParseOptions) -> Parsed<Self> {
        policy::read(text, *options)
    }

    /// True when the document decides the egress facet: it has `egress-policy`, `allowed-endpoints`,
    /// `denied-endpoints` or `use`. One with only `lockdown-mode` leaves egress to the next scope.
    pub fn decides_egress(&self) -> bool {
        self.has_egress
    }

    /// True when the document decides the lockdown facet.
    pub fn decides_lockdown(&self) -> bool {
        self.lockdown.is_some()
    }

    /// The mode of the egress facet, `None` when the document does not decide it. Endpoints without
    /// `egress-policy` mean block.
    pub fn mode(&self) -> Option<Mode> {
        self.has_egress.then(|| self.egress_policy.unwrap_or(Mode::Block))
    }

    /// The line on which a used endpoint set is named.
    pub fn line_of_set(&self, name: &str) -> Option<u32> {
        let at = self.use_sets.iter().position(|one| one == name)?;
        self.use_lines.get(at).copied()
    }
}

/// A named list of endpoints for `use:`, or a host's `always-allow`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSet {
    /// Its endpoints, in order.
    pub endpoints: Vec<SourcedEndpoint>,
}

impl EndpointSet {
    /// Reads a set: a YAML list, a text with the same separators as in a policy, or a mapping with the
    /// key `endpoints`.
    pub fn parse(text: &str, options: &ParseOptions) -> Parsed<Self> {
        set::read(text, *options)
    }
}

#[cfg(test)]
mod tests;
