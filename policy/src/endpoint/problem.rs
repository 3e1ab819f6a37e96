//! What can be wrong with an endpoint, and what is worth saying about a right one.
//!
//! Every problem names what was found and what was expected; the span says where. How they are shown to
//! people is [`crate::document::render`]'s business.

use std::ops::Range;

use ipnet::IpNet;
use thiserror::Error;

/// Why a token is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{problem}")]
pub struct EndpointError {
    /// What is wrong.
    pub problem: Problem,
    /// The offending bytes of the token.
    pub span: Range<usize>,
    /// How to mend it, when that can be told.
    pub hint: Option<String>,
}

impl EndpointError {
    pub(crate) fn new(problem: Problem, span: Range<usize>) -> Self {
        Self {
            problem,
            span,
            hint: None,
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The rule of the grammar that a token breaks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// No characters.
    #[error("expected an endpoint, `host[:ports][/udp]`")]
    Empty,
    /// A port or protocol without a host.
    #[error("expected a host before the port")]
    NoHost,
    /// A scheme.
    #[error("a URL is not an endpoint: expected `host[:ports][/udp]`")]
    Url,
    /// `[` without `]`.
    #[error("expected `]` after the IPv6 address")]
    Bracket,
    /// Something else than `:` or `/` follows the brackets.
    #[error("expected `:port`, `/udp` or the end, found {}", quoted(.0))]
    AfterHost(String),
    /// `[v6]/len`.
    #[error("the prefix length belongs inside of the brackets")]
    PrefixOutside,
    /// An IPv6 address without brackets.
    #[error("an IPv6 address needs brackets")]
    BareV6,
    /// Digits and dots that are no address, or no IPv6 address within brackets.
    #[error("expected an {} address, found {}", if *.v6 { "IPv6" } else { "IPv4" }, quoted(.text))]
    NotAnAddress {
        /// The family that was expected.
        v6: bool,
        /// What stands there.
        text: String,
    },
    /// Not a prefix length of the family.
    #[error("expected a prefix length from 0 to {longest}, found {}", quoted(.text))]
    PrefixLength {
        /// The family's longest.
        longest: u8,
        /// What stands there.
        text: String,
    },
    /// Not a port.
    #[error("expected a port from 1 to 65535, a range like `8000-8100`, or `*`, found {}", quoted(.0))]
    Port(String),
    /// A range that ends before it begins.
    #[error("the port range ends at {last}, before it begins at {first}")]
    PortOrder {
        /// As written first.
        first: u16,
        /// As written last.
        last: u16,
    },
    /// Not a protocol.
    #[error("expected `/tcp` or `/udp`, found {}", quoted(.0))]
    Protocol(String),
    /// Two dots in a row, or a dot at the start.
    #[error("the name has an empty label")]
    EmptyLabel,
    /// Over 63 octets.
    #[error("the label has {0} characters, at most 63 are allowed")]
    LabelTooLong(usize),
    /// Over 253 characters.
    #[error("the name has {0} characters, at most 253 are allowed")]
    NameTooLong(usize),
    /// A character that host names don't have.
    #[error("{0:?} can't stand in a host name")]
    BadCharacter(char),
    /// `**`.
    #[error("`**` has no meaning")]
    DoubleStar,
    /// A wildcard and other than ASCII characters in one label.
    #[error("a label with `*` must be ASCII")]
    WildcardNotAscii,
    /// UTS 46 has no mapping for it.
    #[error("{} is not a valid internationalized name", quoted(.0))]
    Idna(String),
    /// Inside of the never-dial set.
    #[error("the gateway never dials {0}")]
    NeverDial(IpNet),
}

/// How loud a notice or a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Accepted, and probably not what was meant.
    Warning,
    /// Refused.
    Error,
}

impl Severity {
    /// `note`, `warning`, `error`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something to say about an endpoint that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What.
    pub kind: NoticeKind,
    /// The bytes of the token that it is about.
    pub span: Range<usize>,
    /// What to write instead, when that can be told.
    pub hint: Option<String>,
}

impl Notice {
    pub(crate) fn new(kind: NoticeKind, span: Range<usize>, hint: Option<String>) -> Self {
        Self { kind, span, hint }
    }
}

/// The kinds of notices.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoticeKind {
    /// `*:443`: any name.
    #[error("over-wide: `{0}` matches names of any domain")]
    AnyName(String),
    /// `0.0.0.0/0`, `[::/0]`.
    #[error("over-wide: `{0}` permits every {family} address (no names)", family = family(.0))]
    EveryAddress(IpNet),
    /// `*.com`, `*.github.io`: anybody can hold a name below it.
    #[error("wildcard over a public suffix: anybody can register a name below `{0}`")]
    PublicSuffix(String),
    /// `*github.com`: `evilgithub.com` matches.
    #[error("`{written}` matches `{example}`, which anybody can register, and nothing below `{base}`")]
    GlobbedDomain {
        /// As written, canonical.
        written: String,
        /// A foreign name that matches.
        example: String,
        /// The domain that was probably meant.
        base: String,
    },
    /// `*api.example.com`: a glob where a dot was probably meant; nobody foreign can use it.
    #[error("`{written}` matches `x{base}`, but nothing below `{base}`")]
    LeadingGlob {
        /// As written, canonical.
        written: String,
        /// The part after the star.
        base: String,
    },
    /// Bits after the prefix were set.
    #[error("`{written}` has host bits set and means `{means}`")]
    HostBits {
        /// As written.
        written: IpNet,
        /// Masked.
        means: IpNet,
    },
    /// `[::ffff:192.0.2.1]`.
    #[error("an IPv4-mapped address means the IPv4 address `{means}`")]
    Mapped {
        /// The IPv4 range.
        means: IpNet,
    },
    /// A denied endpoint inside of the never-dial set.
    #[error("`{0}` is refused for every job already")]
    NeverDialDenied(IpNet),
}

impl NoticeKind {
    /// How loud it is in a policy that is not strict.
    pub fn severity(&self) -> Severity {
        match self {
            Self::AnyName(_)
            | Self::EveryAddress(_)
            | Self::PublicSuffix(_)
            | Self::GlobbedDomain { .. }
            | Self::HostBits { .. } => Severity::Warning,
            Self::LeadingGlob { .. } | Self::Mapped { .. } | Self::NeverDialDenied(_) => Severity::Note,
        }
    }

    /// True for patterns that strangers can register names for: a strict store refuses them.
    pub fn refused_when_strict(&self) -> bool {
        match self {
            Self::AnyName(_) | Self::PublicSuffix(_) | Self::GlobbedDomain { .. } => true,
            Self::EveryAddress(_)
            | Self::HostBits { .. }
            | Self::LeadingGlob { .. }
            | Self::Mapped { .. }
            | Self::NeverDialDenied(_) => false,
        }
    }
}

/// A token in messages: quoted, control characters escaped, cut at 60 characters.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.is_empty() {
        return "nothing".into();
    }
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn family(net: &IpNet) -> &'static str {
    match net {
        IpNet::V4(_) => "IPv4",
        IpNet::V6(_) => "IPv6",
    }
}
