//! What kind of datagram a UDP payload is, by QUIC's version-independent properties (RFC 8999). Owns the
//! names for event kinds on UDP 443; never decrypts an Initial (the inspection of QUIC takes that seam),
//! never decides. Driven by the UDP associations.

#![deny(clippy::indexing_slicing)]

/// What a datagram looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuicClass {
    /// A client's first flight (RFC 9000 §17.2.2, RFC 9369 §3.2).
    Initial {
        /// The version as written.
        version: u32,
    },
    /// Another packet with a long header: 0-RTT, Handshake, Retry, Version Negotiation or a version
    /// that isn't known here.
    OtherLongHeader,
    /// Looks like a packet of an established connection (RFC 9000 §17.3). Any protocol may look so.
    Short,
    /// Not QUIC: DTLS, WireGuard, gQUIC's old header, anything.
    NotQuic,
}

/// QUIC version 2 (RFC 9369), in which Initial is packet type 1.
const VERSION_2: u32 = 0x6b33_43cf;
/// Longest connection id of versions 1 and 2 (RFC 9000 §17.2).
const MAX_CONNECTION_ID: usize = 20;
/// Shortest useful short-header packet: first octet, one packet number octet, a 16-octet tag, and the
/// three octets before the sample (RFC 9001 §5.4.2).
const MIN_SHORT: usize = 21;

/// Classifies one UDP payload.
pub fn classify(datagram: &[u8]) -> QuicClass {
    let Some((first, rest)) = datagram.split_first() else {
        return QuicClass::NotQuic;
    };
    let fixed_bit = first & 0x40 != 0;
    if first & 0x80 == 0 {
        return if fixed_bit && datagram.len() >= MIN_SHORT {
            QuicClass::Short
        } else {
            QuicClass::NotQuic
        };
    }
    let Some((version, rest)) = rest.split_first_chunk::<4>() else {
        return QuicClass::NotQuic;
    };
    let version = u32::from_be_bytes(*version);
    if !connection_ids_fit(rest) {
        return QuicClass::NotQuic;
    }
    // Version negotiation leaves the fixed bit free (RFC 8999 §6).
    if version == 0 {
        return QuicClass::OtherLongHeader;
    }
    if !fixed_bit {
        return QuicClass::NotQuic;
    }
    let initial = match version {
        1 | 0xff00_0000..=0xff00_00ff => 0,
        VERSION_2 => 1,
        _ => return QuicClass::OtherLongHeader,
    };
    if (first >> 4) & 3 == initial {
        QuicClass::Initial { version }
    } else {
        QuicClass::OtherLongHeader
    }
}

/// Both connection ids lie inside of the datagram and are no longer than known versions allow.
fn connection_ids_fit(rest: &[u8]) -> bool {
    let skip = |bytes: &[u8]| -> Option<usize> {
        let length = usize::from(*bytes.first()?);
        (length <= MAX_CONNECTION_ID && bytes.len() > length).then_some(1 + length)
    };
    skip(rest).and_then(|after| skip(rest.get(after..)?)).is_some()
}
