//! The JA4 fingerprint of a ClientHello, after FoxIO's `technical_details/JA4.md` (BSD 3-clause). Owns the
//! text form and nothing else: it is a field of events and never part of a verdict. Driven by
//! [`super::ClientHello::ja4`] when an event is written.

#![deny(clippy::indexing_slicing)]

use std::fmt::Write as _;

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;

use super::walk::{ALPN, Cursor, SERVER_NAME, SIGNATURE_ALGORITHMS, SUPPORTED_VERSIONS, Walk};

/// Hex digits kept of each hash.
const HASH_DIGITS: usize = 12;

/// The fingerprint of a hello over TCP: `a_b_c`.
pub(super) fn fingerprint(walk: &Walk<'_>) -> String {
    let mut suites: Vec<u16> = numbers(walk.cipher_suites).collect();
    suites.sort_unstable();
    let kinds: Vec<u16> = walk
        .extensions()
        .map(|(kind, _)| kind)
        .filter(|kind| !is_grease(*kind))
        .collect();
    let mut hashed: Vec<u16> = kinds
        .iter()
        .copied()
        .filter(|kind| ![SERVER_NAME, ALPN].contains(kind))
        .collect();
    hashed.sort_unstable();
    let algorithms = walk
        .extension(SIGNATURE_ALGORITHMS)
        .and_then(|data| Cursor(data).vector16());
    let algorithms: Vec<u16> = numbers(algorithms.unwrap_or_default()).collect();

    let mut described = hex_list(&hashed);
    if !algorithms.is_empty() {
        described.push('_');
        described.push_str(&hex_list(&algorithms));
    }
    format!(
        "t{version}{sni}{suites:02}{extensions:02}{alpn}_{b}_{c}",
        version = version(walk),
        sni = if kinds.contains(&SERVER_NAME) { 'd' } else { 'i' },
        suites = suites.len().min(99),
        extensions = kinds.len().min(99),
        alpn = alpn(walk),
        b = truncated_hash(&hex_list(&suites)),
        c = truncated_hash(if kinds.is_empty() { "" } else { &described }),
    )
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
fn alpn(walk: &Walk<'_>) -> String {
    let Some((first, last)) = walk
        .alpn()
        .next()
        .and_then(|name| Some((*name.first()?, *name.last()?)))
    else {
        return String::from("00");
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        [char::from(first), char::from(last)].iter().collect()
    } else {
        format!("{:x}{:x}", first >> 4, last & 0xf)
    }
}

/// `0005,000a,…`
fn hex_list(numbers: &[u16]) -> String {
    let mut text = String::with_capacity(numbers.len() * 5);
    for number in numbers {
        if !text.is_empty() {
            text.push(',');
        }
        let _ = write!(text, "{number:04x}");
    }
    text
}

/// The first digits of the SHA-256 of `text`; zeros for nothing.
fn truncated_hash(text: &str) -> String {
    if text.is_empty() {
        return "0".repeat(HASH_DIGITS);
    }
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("a TLS 1.3 suite is one");
    let digest = suite.common.hash_provider.hash(text.as_bytes());
    let mut digits = String::with_capacity(HASH_DIGITS);
    for byte in digest.as_ref().iter().take(HASH_DIGITS / 2) {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}
