//! The body of a ClientHello (RFC 8446 §4.1.2) and what the verdict needs of it. Owns the walk over
//! lengths and the reading of the server name and of ECH; never allocates but for the name, never trusts a
//! length. Driven by the hello reader, once a message is whole.
//!
//! Strictness follows what servers do: what OpenSSL refuses is refused (lying lengths, trailing bytes, two
//! names), what it accepts is judged (any version, empty lists). A hello that two servers could read
//! differently is refused.

#![deny(clippy::indexing_slicing)]

use std::net::IpAddr;

use tidegate_policy::DnsName;
use tidegate_policy::detection::{Ech, Hello, Sni};

/// Extension `server_name` (RFC 6066 §3).
pub(crate) const SERVER_NAME: u16 = 0x0000;
/// Extension `signature_algorithms` (RFC 8446 §4.2.3).
pub(crate) const SIGNATURE_ALGORITHMS: u16 = 0x000d;
/// Extension `application_layer_protocol_negotiation` (RFC 7301).
pub(crate) const ALPN: u16 = 0x0010;
/// Extension `supported_versions` (RFC 8446 §4.2.1).
pub(crate) const SUPPORTED_VERSIONS: u16 = 0x002b;
/// Extension `encrypted_client_hello` (RFC 9849 §5).
pub(crate) const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// Extension `encrypted_server_name` (draft-ietf-tls-esni-00 to -06).
pub(crate) const ENCRYPTED_SERVER_NAME: u16 = 0xffce;

/// Longest server name in octets that OpenSSL takes.
const MAX_SERVER_NAME: usize = 255;

/// What is wrong with a hello; a short static phrase for the event.
pub(crate) type Flaw = &'static str;

const CUT_SHORT: Flaw = "a length in the hello points past its end";

/// A position in bytes whose lengths are checked at every step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    /// The next `count` octets.
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// One octet.
    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// Two octets in network order.
    pub(crate) fn u16(&mut self) -> Option<u16> {
        let (pair, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*pair))
    }

    /// A vector with a one-octet length.
    pub(crate) fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    /// A vector with a two-octet length.
    pub(crate) fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// True at the end.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The parts of a ClientHello body, borrowed from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk<'a> {
    /// `legacy_version`.
    pub(crate) version: u16,
    /// `cipher_suites`: big-endian pairs.
    pub(crate) cipher_suites: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> Walk<'a> {
    /// Walks a ClientHello body (the handshake message without its four-octet header).
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Flaw> {
        let mut at = Cursor(body);
        let version = at.u16().ok_or(CUT_SHORT)?;
        at.take(32).ok_or(CUT_SHORT)?;
        let session = at.vector8().ok_or(CUT_SHORT)?;
        if session.len() > 32 {
            return Err("a session id longer than 32 octets");
        }
        let cipher_suites = at.vector16().ok_or(CUT_SHORT)?;
        if !cipher_suites.len().is_multiple_of(2) {
            return Err("half a cipher suite");
        }
        at.vector8().ok_or(CUT_SHORT)?;
        // A hello may end here: extensions came with RFC 3546.
        let extensions = if at.is_empty() {
            &[][..]
        } else {
            at.vector16().ok_or(CUT_SHORT)?
        };
        if !at.is_empty() {
            return Err("bytes after the last extension");
        }
        let walk = Self {
            version,
            cipher_suites,
            extensions,
        };
        let mut rest = Cursor(extensions);
        while !rest.is_empty() {
            rest.u16().and_then(|_| rest.vector16()).ok_or(CUT_SHORT)?;
        }
        Ok(walk)
    }

    /// The extensions in order: type and data.
    pub(crate) fn extensions(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut rest = Cursor(self.extensions);
        std::iter::from_fn(move || Some((rest.u16()?, rest.vector16()?)))
    }

    /// The data of the first extension of a type.
    pub(crate) fn extension(&self, kind: u16) -> Option<&'a [u8]> {
        self.extensions()
            .find(|(found, _)| *found == kind)
            .map(|(_, data)| data)
    }

    /// Protocol names the client offers, in order (RFC 7301 §3.1); ends early where the list lies.
    pub(crate) fn alpn(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let list = self.extension(ALPN).and_then(|data| Cursor(data).vector16());
        let mut rest = Cursor(list.unwrap_or_default());
        std::iter::from_fn(move || rest.vector8())
    }

    /// What matters to the verdict.
    pub(crate) fn hello(&self) -> Result<Hello, Flaw> {
        let (mut sni, mut ech, mut esni) = (None, None, false);
        for (kind, data) in self.extensions() {
            // RFC 8446 §4.2: no two extensions of one type. Only of these would it matter which one a
            // server reads, so others are left to the server.
            let seen_before = match kind {
                SERVER_NAME => sni.replace(server_name(data)?).is_some(),
                ENCRYPTED_CLIENT_HELLO => ech.replace(outer_ech(data)?).is_some(),
                ENCRYPTED_SERVER_NAME => std::mem::replace(&mut esni, true),
                _ => false,
            };
            if seen_before {
                return Err("two extensions of one type");
            }
        }
        let ech = if esni {
            Ech::Esni
        } else {
            ech.unwrap_or(Ech::Absent)
        };
        Ok(Hello {
            sni: sni.unwrap_or(Sni::Absent),
            ech,
        })
    }
}

/// The content of a server_name extension. OpenSSL takes one name of type host_name and nothing else;
/// an empty extension, list or name says no name at all.
fn server_name(data: &[u8]) -> Result<Sni, Flaw> {
    let mut at = Cursor(data);
    if at.is_empty() {
        return Ok(Sni::Absent);
    }
    let list = at.vector16().ok_or("a lying length in server_name")?;
    if !at.is_empty() {
        return Err("bytes after the server name list");
    }
    let mut at = Cursor(list);
    let Some(kind) = at.u8() else {
        return Ok(Sni::Absent);
    };
    if kind != 0 {
        return Err("a server name of unknown type");
    }
    let name = at.vector16().ok_or("a lying length in server_name")?;
    if !at.is_empty() {
        return Err("more than one server name");
    }
    if name.is_empty() {
        Ok(Sni::Absent)
    } else {
        host_name(name)
    }
}

/// A host name as SNI carries it: canonical, or an address, or refused.
fn host_name(name: &[u8]) -> Result<Sni, Flaw> {
    if name.len() > MAX_SERVER_NAME {
        return Err("a server name longer than 255 octets");
    }
    let text = str::from_utf8(name).map_err(|_| "a server name that is not ASCII")?;
    let dotless = text.strip_suffix('.').unwrap_or(text);
    let bare = dotless
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(dotless);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(Sni::Address(address));
    }
    DnsName::parse(text)
        .map(Sni::Name)
        .map_err(|_| "a server name that is no host name")
}

/// `ECHClientHello` (RFC 9849 §5): an outer hello's, or refused. GREASE is well-formed too.
fn outer_ech(data: &[u8]) -> Result<Ech, Flaw> {
    let mut at = Cursor(data);
    match at.u8() {
        Some(0) => {}
        Some(1) => return Err("an inner encrypted_client_hello in an outer hello"),
        Some(_) | None => return Err("an encrypted_client_hello of unknown type"),
    }
    let mut rest = || {
        at.take(4)?;
        let config_id = at.u8()?;
        at.vector16()?;
        let payload = at.vector16()?;
        (at.is_empty() && !payload.is_empty()).then_some(Ech::Outer { config_id })
    };
    rest().ok_or("a lying length in encrypted_client_hello")
}
