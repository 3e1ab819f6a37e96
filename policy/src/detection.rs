//! What the first bytes of a flow say: the vocabulary between `proxy`'s detectors and the verdict.
//!
//! The detectors live in `proxy`; this crate only judges what they found. Absence always carries its
//! reason, so that a rule can tell "no SNI" from "not TLS" from "we stopped waiting".

use std::net::IpAddr;

use crate::name::DnsName;

/// The server name of a TLS or QUIC hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sni {
    /// A host name, canonical.
    Name(DnsName),
    /// An address where RFC 6066 §3 wants a name; judged like an absent one, but kept for the event.
    Address(IpAddr),
    /// No server_name extension, or an empty one.
    Absent,
}

/// What a hello shows of Encrypted Client Hello (RFC 9849).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ech {
    /// No such extension.
    Absent,
    /// An outer hello with this config id; GREASE looks the same.
    Outer {
        /// `ECHClientHello.config_id`.
        config_id: u8,
    },
    /// The draft predecessor (ESNI, extension 0xffce): the real name is hidden, always.
    Esni,
}

/// What matters of a ClientHello to the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Whom the client says that it wants.
    pub sni: Sni,
    /// Whether another name may hide inside.
    pub ech: Ech,
}

/// Host part of an HTTP request's authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpHost {
    /// A host name, canonical.
    Name(DnsName),
    /// A bare address.
    Address(IpAddr),
    /// HTTP/1.0 without Host: nothing says whom the client wants.
    Absent,
}

/// What matters of an HTTP request to the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// From the absolute-form target, `:authority` or Host.
    pub host: HttpHost,
    /// The port written there. The flow's port decides; a differing one is noted.
    pub port: Option<u16>,
}

/// The protocol that a prefix belonged to when waiting ended or parsing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// No byte came.
    Nothing,
    /// A TLS handshake record had begun.
    Tls,
    /// An HTTP request had begun.
    Http,
    /// A QUIC Initial had begun.
    Quic,
}

/// Why a flow carries no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpaqueReason {
    /// The server spoke before the client: SSH, SMTP, MySQL …
    ServerFirst,
    /// The client spoke first, and neither TLS nor HTTP.
    UnknownProtocol,
    /// The client closed its side without a byte.
    Closed,
}

/// What the first bytes of a flow say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detection {
    /// A complete, well-formed ClientHello over TCP.
    Tls(Hello),
    /// A complete, well-formed hello in QUIC Initials.
    Quic(Hello),
    /// A complete, strictly parsed request head (or h2c `:authority`).
    Http(Authority),
    /// Certainly not one of the above.
    Opaque(OpaqueReason),
    /// One of the above, but wrong: no honest client sends it, or two readers could disagree on it.
    Malformed {
        /// Which protocol.
        prefix: Prefix,
        /// What is wrong, for the event and the explanation; a short static phrase.
        what: &'static str,
    },
    /// The bound on waiting or on size was reached before the bytes said what they are.
    Undecided {
        /// What had begun.
        prefix: Prefix,
    },
}
