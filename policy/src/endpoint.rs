//! Endpoints: host pattern, ports and transport that one line of a policy names.
//!
//! The types are here, the grammar that reads them is in [`parse`]; how thousands of them are matched
//! at once is [`crate::compile`]'s business.

pub mod cover;
pub mod list;
pub mod parse;
mod pattern;
pub mod problem;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::name::DnsName;

/// Transport of a flow as a rule sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP that is not judged QUIC.
    Udp,
    /// UDP whose Initial was decoded and judged; covered by a plain `host:443`.
    Quic,
}

/// Which transports an endpoint covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocols {
    /// `host:port`: TCP, and judged QUIC on the same port.
    Tcp,
    /// `host:port/udp`: every UDP datagram there, QUIC or not.
    Udp,
    /// A denied endpoint without a protocol.
    Any,
}

impl Protocols {
    /// True when a flow of this transport is covered.
    pub fn cover(self, transport: Transport) -> bool {
        match (self, transport) {
            (Self::Any, _)
            | (Self::Tcp, Transport::Tcp | Transport::Quic)
            | (Self::Udp, Transport::Udp | Transport::Quic) => true,
            (Self::Tcp, Transport::Udp) | (Self::Udp, Transport::Tcp) => false,
        }
    }
}

/// An inclusive range of ports, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ports {
    /// Lowest port.
    pub first: u16,
    /// Highest port, not below `first`.
    pub last: u16,
}

impl Ports {
    /// Every port.
    pub const ALL: Self = Self {
        first: 1,
        last: u16::MAX,
    };

    /// One port.
    pub const fn one(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// True when `port` lies in the range.
    pub const fn contain(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// One label of a wildcard name; bytes are lower-case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LabelPattern {
    /// Exactly this label.
    Literal(Box<[u8]>),
    /// A whole-label `*` that is not leftmost: exactly one label, any.
    One,
    /// A label with at least one `*` inside, as written: each `*` is any run of bytes, possibly empty.
    Glob(Box<[u8]>),
}

/// A name pattern: the labels to the right, and whether at least one more label must stand before them.
///
/// `github.com` is `below: false`; `*.example.com` is `below: true` with the two literals; `*` is
/// `below: true` without labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamePattern {
    /// A leftmost whole-label `*`: one or more labels, any depth, must precede `labels`.
    pub below: bool,
    /// Label patterns, leftmost first.
    pub labels: Vec<LabelPattern>,
}

impl NamePattern {
    /// The pattern that matches exactly this name.
    pub fn exact(name: &DnsName) -> Self {
        let labels = name
            .labels()
            .iter()
            .map(|label| LabelPattern::Literal(Box::from(*label)))
            .collect();
        Self { below: false, labels }
    }

    /// The name, when the pattern has no wildcard.
    pub fn as_exact(&self) -> Option<DnsName> {
        if self.below {
            return None;
        }
        let literals: Option<Vec<&[u8]>> = self
            .labels
            .iter()
            .map(|label| match label {
                LabelPattern::Literal(bytes) => Some(&**bytes),
                LabelPattern::One | LabelPattern::Glob(_) => None,
            })
            .collect();
        DnsName::from_labels(literals?).ok()
    }

    /// Matches by walking label by label: the definition that the compiled tries are tested against.
    pub fn matches(&self, name: &DnsName) -> bool {
        let labels = name.labels();
        let fits = if self.below {
            labels.len() > self.labels.len()
        } else {
            labels.len() == self.labels.len()
        };
        let skip = labels.len().saturating_sub(self.labels.len());
        fits && self
            .labels
            .iter()
            .zip(labels.iter().skip(skip))
            .all(|(pattern, label)| pattern.matches(label))
    }
}

impl LabelPattern {
    /// True when the pattern matches this lower-case label.
    pub fn matches(&self, label: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => **literal == *label,
            Self::One => true,
            Self::Glob(glob) => glob_matches(glob, label),
        }
    }
}

/// Glob match of `*` within one label, in linear time by remembering the last star only.
pub(crate) fn glob_matches(glob: &[u8], label: &[u8]) -> bool {
    let (mut g, mut l, mut star) = (0, 0, None);
    while l < label.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, l));
                g += 1;
            }
            Some(byte) if label.get(l) == Some(byte) => {
                g += 1;
                l += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    g = at + 1;
                    l = from + 1;
                }
                None => return false,
            },
        }
    }
    glob.iter().skip(g).all(|byte| *byte == b'*')
}

/// What an endpoint names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name or name pattern.
    Name(NamePattern),
    /// An address or a range, host bits masked.
    Net(IpNet),
}

/// One line of an allow or deny list, read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Whom.
    pub host: Host,
    /// On which ports.
    pub ports: Ports,
    /// By which transports.
    pub protocols: Protocols,
}

impl Endpoint {
    /// True when this endpoint covers a flow to `port` by `transport` (host not looked at).
    pub fn covers(&self, port: u16, transport: Transport) -> bool {
        self.ports.contain(port) && self.protocols.cover(transport)
    }

    /// True when the endpoint is an address rule that contains `address`.
    pub fn contains_address(&self, address: IpAddr) -> bool {
        match &self.host {
            Host::Net(net) => net.contains(&address),
            Host::Name(_) => false,
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        if self.below {
            parts.push("*".into());
        }
        for label in &self.labels {
            parts.push(match label {
                LabelPattern::One => "*".into(),
                LabelPattern::Literal(bytes) | LabelPattern::Glob(bytes) => {
                    String::from_utf8_lossy(bytes).into_owned()
                }
            });
        }
        out.write_str(&parts.join("."))
    }
}

impl fmt::Display for Endpoint {
    /// The canonical spelling, always with ports: `*.example.com:443`, `[2001:db8::/32]:8000-8100/udp`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(pattern) => write!(out, "{pattern}")?,
            Host::Net(IpNet::V4(net)) if net.prefix_len() == 32 => write!(out, "{}", net.addr())?,
            Host::Net(IpNet::V4(net)) => write!(out, "{net}")?,
            Host::Net(IpNet::V6(net)) if net.prefix_len() == 128 => write!(out, "[{}]", net.addr())?,
            Host::Net(IpNet::V6(net)) => write!(out, "[{net}]")?,
        }
        match self.ports {
            Ports::ALL => out.write_str(":*")?,
            Ports { first, last } if first == last => write!(out, ":{first}")?,
            Ports { first, last } => write!(out, ":{first}-{last}")?,
        }
        match self.protocols {
            Protocols::Tcp | Protocols::Any => Ok(()),
            Protocols::Udp => out.write_str("/udp"),
        }
    }
}
