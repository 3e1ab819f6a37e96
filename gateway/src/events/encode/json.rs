//! Pieces of JSON, straight into the buffer: the bytes are those of `serde_json`, without its way through formatters.
//!
//! Pure. Whatever is not plain is left to `serde_json` and the type's own `Display`.

use std::net::IpAddr;

use tidegate_policy::DnsName;
use tidegate_policy::name::MAX_WIRE;

/// The numbers below 100 in two digits each.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut at = 0;
    while at < pairs.len() {
        pairs[at] = [b'0' + (at / 10) as u8, b'0' + (at % 10) as u8];
        at += 1;
    }
    pairs
};

/// `"text"`.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        word(out, text);
    } else {
        other(out, text);
    }
}

/// `"word"`, which needs no escape.
pub(super) fn word(out: &mut Vec<u8>, word: &str) {
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

fn is_plain(text: &str) -> bool {
    let odd = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    // To the end in any case: that is many bytes at once, and nearly every text is plain.
    !text.bytes().fold(false, |any, byte| any | odd(byte))
}

/// A decimal number.
pub(in crate::events) fn number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    while rest >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
        rest /= 100;
    }
    let [tens, ones] = PAIRS[rest as usize];
    at -= 1;
    digits[at] = ones;
    if rest >= 10 {
        at -= 1;
        digits[at] = tens;
    }
    out.extend_from_slice(&digits[at..]);
}

/// `"192.0.2.1"`.
pub(super) fn address(out: &mut Vec<u8>, address: IpAddr) {
    let IpAddr::V4(four) = address else {
        return other(out, &address);
    };
    let mut text = [b'"'; 17];
    let mut at = 0;
    for octet in four.octets() {
        let [tens, ones] = PAIRS[usize::from(octet % 100)];
        at += 1;
        if octet >= 100 {
            text[at] = b'0' + octet / 100;
            at += 1;
        }
        if octet >= 10 {
            text[at] = tens;
            at += 1;
        }
        text[at] = ones;
        at += 1;
        text[at] = b'.';
    }
    text[at] = b'"';
    out.extend_from_slice(&text[..=at]);
}

/// `"host.example"`.
pub(super) fn name(out: &mut Vec<u8>, name: &DnsName) {
    match name.plain(&mut [0; MAX_WIRE]) {
        Some(plain) => word(out, plain),
        None => other(out, name),
    }
}

/// Whatever it is, by `serde_json`.
pub(super) fn other<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let begun = out.len();
    if let Err(error) = serde_json::to_writer(&mut *out, value) {
        // Plain data with text keys: this does not come about. Were it to, the line must be one of JSON still.
        tracing::error!(%error, "a part of an event can't be written as JSON");
        out.truncate(begun);
        out.extend_from_slice(b"null");
    }
}
