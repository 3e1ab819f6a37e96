//! The JA4 fingerprint of a ClientHello, after FoxIO's `technical_details/JA4.md` (BSD 3-clause). Owns the
//! text form and nothing else: it is a field of events and never part of a verdict. Driven by
//! [`super::ClientHello::ja4`] when an event is written.

#![deny(clippy::indexing_slicing)]

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;

use super::walk::{ALPN, Cursor, SERVER_NAME, SIGNATURE_ALGORITHMS, SUPPORTED_VERSIONS, Walk};

/// Octets kept of each hash.
const HASH_OCTETS: usize = 6;
/// Characters of a fingerprint.
const LENGTH: usize = 36;
/// Characters of most lists, so that their text is allocated once.
const MOST_LISTS: usize = 256;

/// The fingerprint of a hello over TCP: `a_b_c`.
pub(super) fn fingerprint(walk: &Walk<'_>) -> String {
    let mut text = Vec::with_capacity(MOST_LISTS);
    let mut list: Vec<u16> = Vec::with_capacity(walk.cipher_suites.len() / 2);
    list.extend(numbers(walk.cipher_suites));
    list.sort_unstable();
    let suites = list.len();
    push_list(&mut text, list.iter().copied());
    let b = truncated_hash(&text);

    list.clear();
    text.clear();
    let (mut extensions, mut named) = (0, false);
    for kind in walk
        .extensions()
        .map(|(kind, _)| kind)
        .filter(|kind| !is_grease(*kind))
    {
        extensions += 1;
        named |= kind == SERVER_NAME;
        if ![SERVER_NAME, ALPN].contains(&kind) {
            list.push(kind);
        }
    }
    list.sort_unstable();
    push_list(&mut text, list.iter().copied());
    let algorithms = walk
        .extension(SIGNATURE_ALGORITHMS)
        .and_then(|data| Cursor(data).vector16());
    let mut algorithms = numbers(algorithms.unwrap_or_default()).peekable();
    if algorithms.peek().is_some() {
        text.push(b'_');
        push_list(&mut text, algorithms);
    }
    let c = truncated_hash(&text);

    let mut all = String::with_capacity(LENGTH);
    all.push('t');
    all.push_str(version(walk));
    all.push(if named { 'd' } else { 'i' });
    push_count(&mut all, suites);
    push_count(&mut all, extensions);
    all.extend(alpn(walk));
    for hash in [b, c] {
        all.push('_');
        all.extend(hash.into_iter().flat_map(hex));
    }
    all
}

/// RFC 8701: both octets equal, low nibble ten.
fn is_grease(number: u16) -> bool {
    number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff
}

/// Big-endian pairs without GREASE.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes
        .chunks_exact(2)
        .filter_map(|pair| Some(u16::from_be_bytes([*pair.first()?, *pair.get(1)?])))
        .filter(|number| !is_grease(*number))
}

/// The highest version offered, in JA4's two characters.
fn version(walk: &Walk<'_>) -> &'static str {
    let offered = walk
        .extension(SUPPORTED_VERSIONS)
        .and_then(|data| Cursor(data).vector8());
    let highest = offered
        .and_then(|list| numbers(list).max())
        .unwrap_or(walk.version);
    match highest {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        _ => "00",
    }
}

/// First and last character of the first protocol offered; of its hex form when either isn't
/// alphanumeric.
fn alpn(walk: &Walk<'_>) -> [char; 2] {
    let Some((first, last)) = walk
        .alpn()
        .next()
        .and_then(|name| Some((*name.first()?, *name.last()?)))
    else {
        return ['0', '0'];
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        [char::from(first), char::from(last)]
    } else {
        [hex(first)[0], hex(last)[1]]
    }
}

/// An octet's two digits.
fn hex(octet: u8) -> [char; 2] {
    [digit(octet >> 4), digit(octet & 0xf)].map(char::from)
}

const fn digit(nibble: u8) -> u8 {
    nibble + if nibble < 10 { b'0' } else { b'a' - 10 }
}

/// Two decimal digits; 99 stands for more.
fn push_count(text: &mut String, count: usize) {
    let count = count.min(99) as u8;
    text.extend([b'0' + count / 10, b'0' + count % 10].map(char::from));
}

/// `0005,000a,…`
fn push_list(text: &mut Vec<u8>, numbers: impl Iterator<Item = u16>) {
    for (index, number) in numbers.enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend([12, 8, 4, 0].map(|shift| digit((number >> shift) as u8 & 0xf)));
    }
}

/// The first octets of the SHA-256 of `text`; zeros for nothing.
fn truncated_hash(text: &[u8]) -> [u8; HASH_OCTETS] {
    if text.is_empty() {
        return [0; HASH_OCTETS];
    }
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("a TLS 1.3 suite is one");
    let digest = suite.common.hash_provider.hash(text);
    let kept = digest.as_ref().first_chunk::<HASH_OCTETS>();
    *kept.expect("SHA-256 has 32 octets")
}
