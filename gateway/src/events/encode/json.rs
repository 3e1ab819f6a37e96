//! Pieces of JSON, straight into the buffer: the bytes are those of `serde_json`, without its way through formatters.
//!
//! Pure. Whatever is not plain is left to `serde_json` and the type's own `Display`.

use std::net::IpAddr;

use tidegate_policy::DnsName;

/// `"text"`.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        word(out, text);
    } else {
        other(out, text);
    }
}

/// `"kind:text"`, of a kind that needs no escape.
pub(super) fn tagged(out: &mut Vec<u8>, kind: &str, text: &str) {
    if is_plain(text) {
        out.push(b'"');
        out.extend_from_slice(kind.as_bytes());
        out.push(b':');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        other(out, &format_args!("{kind}:{text}"));
    }
}

/// `"word"`, which needs no escape.
pub(super) fn word(out: &mut Vec<u8>, word: &str) {
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    text.bytes().all(plain)
}

/// A decimal number.
pub(in crate::events) fn number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    while at == digits.len() || rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

/// `"192.0.2.1"`.
pub(super) fn address(out: &mut Vec<u8>, address: IpAddr) {
    let IpAddr::V4(four) = address else {
        return other(out, &address);
    };
    out.push(b'"');
    for (at, octet) in four.octets().into_iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        number(out, octet.into());
    }
    out.push(b'"');
}

/// `"host.example"`.
pub(super) fn name(out: &mut Vec<u8>, name: &DnsName) {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let begun = out.len();
    let mut rest = name.as_wire();
    let mut lead = b'"';
    while let Some((label, tail)) = rest
        .split_first()
        .and_then(|(length, tail)| tail.split_at_checked((*length).into()))
    {
        if !label.iter().all(plain) {
            out.truncate(begun);
            return other(out, name);
        }
        out.push(lead);
        out.extend_from_slice(label);
        lead = b'.';
        rest = tail;
    }
    if out.len() == begun {
        return other(out, name);
    }
    out.push(b'"');
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
