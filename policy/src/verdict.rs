//! Verdicts and their closed set of reasons.
//!
//! A verdict says what policy wants; [`Judgement`] also says how it is carried out: in audit mode a
//! refusal is carried out as a permit and recorded as would-refuse. Metric labels and event fields are
//! derived from [`Reason::as_str`], so a reason can't be spelled in two ways.

use serde::{Deserialize, Serialize};

use crate::compile::rules::RuleRef;
use crate::rulebook::Nearest;

/// Whether a policy's refusals are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Record what would be refused, change nothing.
    Audit,
    /// Refuse.
    Block,
}

impl Mode {
    /// The spelling of policies and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Block => "block",
        }
    }
}

/// Declares the enum, its spelling and its documentation from one list, so that none can be forgotten.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+) => {
        /// Why something is refused. Closed: events, metrics and documentation hold exactly these.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub enum Reason {
            $($(#[doc = $doc])+ #[serde(rename = $text)] $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The spelling in events and metric labels.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// One sentence for people: what the reason means.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

reasons! {
    /// The name or the address is on the global block list.
    GlobalBlock = "global-block",
    /// The gateway never dials this address: its own, metadata, loopback, link-local, multicast or reserved.
    NeverDial = "never-dial",
    /// A denied endpoint of the policy covers it.
    Denied = "denied",
    /// No allowed endpoint of the policy covers it.
    NotAllowed = "not-allowed",
    /// A search suffix was appended to an allowed name; resolvers do that by themselves.
    SearchSuffix = "search-suffix",
    /// The policy of this job is not known yet.
    PolicyUnknown = "policy-unknown",
    /// The source has no lease and its network names no default policy.
    NoPolicy = "no-policy",
    /// The lease of this address ended and its machine has not changed since.
    Quarantined = "quarantined",
    /// The address is not bound to a lease, but its machine holds one, or is not known yet.
    UnboundSource = "unbound-source",
    /// The packet carries another machine's hardware address than the lease's.
    SpoofedSource = "spoofed-source",
    /// The name is allowed, but this address was never given to the job for it.
    Unticketed = "unticketed",
    /// Nothing names the destination, and no address endpoint covers it.
    NoName = "no-name",
    /// Encrypted Client Hello hides the real name.
    Ech = "ech",
    /// A second hello named another host than the first.
    SecondHello = "second-hello",
    /// The TLS hello is malformed.
    MalformedTls = "malformed-tls",
    /// The HTTP request is malformed or ambiguous.
    MalformedHttp = "malformed-http",
    /// The QUIC datagram is malformed.
    MalformedQuic = "malformed-quic",
    /// The DNS query is malformed.
    MalformedDns = "malformed-dns",
    /// The first bytes did not say in time what the flow is.
    DetectTimeout = "detect-timeout",
    /// The client sent nothing, and the destination is not allowed for a protocol in which the server speaks first.
    Silent = "silent",
    /// Neither TLS nor HTTP on a port that is for them.
    UnknownProtocol = "unknown-protocol",
    /// QUIC is refused so that clients use TCP.
    Quic = "quic",
    /// A forward-proxy request (CONNECT or absolute-form) through a proxy that is not permitted itself.
    ProxyRequest = "proxy-request",
    /// ICMP is not permitted by the policy, or not to this address.
    Icmp = "icmp",
    /// An IP protocol that is never forwarded.
    IpProtocol = "ip-protocol",
    /// A public name answered with a private address.
    Rebinding = "rebinding",
    /// A DNS record type that is not forwarded.
    RecordType = "record-type",
    /// The job's budget of DNS queries is used up.
    DnsBudget = "dns-budget",
    /// The name does not resolve, or no upstream answered.
    ResolveFailed = "resolve-failed",
    /// The lease changed or ended while the flow was open.
    LeaseChanged = "lease-changed",
    /// A new policy refuses the open flow.
    PolicyChanged = "policy-changed",
    /// A bound of the gateway was reached (flows, associations, queries at once).
    Limit = "limit",
}

/// A verdict as events and metrics spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Let through.
    Permit,
    /// Refused.
    Refuse,
    /// Let through because of audit mode; block mode would refuse.
    WouldRefuse,
}

impl Verdict {
    /// The spelling in events and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Refuse => "refuse",
            Self::WouldRefuse => "would-refuse",
        }
    }
}

/// Why, by which rule, and what in the policy came nearest.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// The rule that refuses; none where the absence of a rule does.
    pub rule: Option<RuleRef>,
    /// Where to look for the allowed endpoint that a person would have expected to match.
    pub nearest: Nearest,
}

impl Refusal {
    /// A refusal that no rule made.
    pub const fn because(reason: Reason) -> Self {
        Self {
            reason,
            rule: None,
            nearest: Nearest::NONE,
        }
    }

    /// A refusal by one rule.
    pub const fn by(reason: Reason, rule: RuleRef) -> Self {
        Self {
            reason,
            rule: Some(rule),
            nearest: Nearest::NONE,
        }
    }
}

/// A verdict with its grounds.
#[derive(Clone, Debug)]
pub enum Judgement {
    /// Let through, by this rule (none: outside of policy, such as `dns.hosts`).
    Permit(Option<RuleRef>),
    /// Refused.
    Refuse(Refusal),
    /// Audit: carried out as a permit.
    WouldRefuse(Refusal),
}

impl Judgement {
    /// The bare verdict.
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::Permit(_) => Verdict::Permit,
            Self::Refuse(_) => Verdict::Refuse,
            Self::WouldRefuse(_) => Verdict::WouldRefuse,
        }
    }

    /// The refusal, carried out or not.
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Permit(_) => None,
            Self::Refuse(refusal) | Self::WouldRefuse(refusal) => Some(refusal),
        }
    }

    /// The rule that decided.
    pub fn rule(&self) -> Option<&RuleRef> {
        match self {
            Self::Permit(rule) => rule.as_ref(),
            Self::Refuse(refusal) | Self::WouldRefuse(refusal) => refusal.rule.as_ref(),
        }
    }
}
