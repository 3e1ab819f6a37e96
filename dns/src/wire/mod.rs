//! DNS messages as bytes: reading questions and answers, patching and writing replies.
//!
//! Owns the wire format only; never decides and never does I/O. Answers stay in the form in which they
//! came (compression and unknown types included), beside an index of their records, so that the usual
//! answer is one copy and a few patched fields. `hickory-proto` is the oracle of its tests.

pub(crate) mod ech;
pub(crate) mod message;
pub(crate) mod name;
pub mod query;
pub(crate) mod reply;
pub(crate) mod svcb;

use thiserror::Error;

/// Octets of the fixed header (RFC 1035 §4.1.1).
pub(crate) const HEADER: usize = 12;
/// Largest reply over UDP without EDNS (RFC 1035 §4.2.1).
pub(crate) const PLAIN_UDP: usize = 512;
/// The EDNS buffer that we offer and never exceed over UDP: fits every path without fragments
/// (DNS flag day 2020, RFC 9715 §3).
pub(crate) const EDNS_UDP: u16 = 1232;

/// Class IN.
pub(crate) const IN: u16 = 1;

/// Type numbers that only the wire cares about (IANA DNS parameters).
pub(crate) mod rtype {
    pub(crate) use tidegate_policy::judge::query::rtype::*;
    pub(crate) const HINFO: u16 = 13;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const RRSIG: u16 = 46;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
}

/// Bits of the second header word.
pub(crate) mod flag {
    pub(crate) const QR: u16 = 0x8000;
    pub(crate) const OPCODE: u16 = 0x7800;
    pub(crate) const TC: u16 = 0x0200;
    pub(crate) const RD: u16 = 0x0100;
    pub(crate) const RA: u16 = 0x0080;
    pub(crate) const CD: u16 = 0x0010;
    pub(crate) const RCODE: u16 = 0x000f;
}

/// Response codes that we give or look for (IANA DNS parameters).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rcode(pub(crate) u16);

impl Rcode {
    pub(crate) const NOERROR: Self = Self(0);
    pub(crate) const FORMERR: Self = Self(1);
    pub(crate) const SERVFAIL: Self = Self(2);
    pub(crate) const NXDOMAIN: Self = Self(3);
    pub(crate) const NOTIMP: Self = Self(4);
    pub(crate) const REFUSED: Self = Self(5);
    /// YXDOMAIN: a DNAME made the name too long (RFC 6672 §2.2).
    pub(crate) const YXDOMAIN: Self = Self(6);
    pub(crate) const BADVERS: Self = Self(16);

    /// The registry's mnemonic, as events show it.
    pub(crate) const fn mnemonic(self) -> &'static str {
        match self.0 {
            0 => "NOERROR",
            1 => "FORMERR",
            2 => "SERVFAIL",
            3 => "NXDOMAIN",
            4 => "NOTIMP",
            5 => "REFUSED",
            6 => "YXDOMAIN",
            16 => "BADVERS",
            _ => "OTHER",
        }
    }
}

/// Why bytes are not a DNS message. No distinction helps a sender more than one phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed DNS message: {0}")]
pub struct WireError(pub(crate) &'static str);

/// Reads two octets.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let pair: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
    Some(u16::from_be_bytes(pair))
}

/// Reads four octets.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_be_bytes(four))
}

/// Overwrites octets in place; `at` must lie within `bytes`.
pub(crate) fn patch(bytes: &mut [u8], at: usize, with: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + with.len()) {
        place.copy_from_slice(with);
    }
}
