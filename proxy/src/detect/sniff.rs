//! Which protocol a flow's first bytes begin: TLS, HTTP/1, HTTP/2 or something else. Owns that one
//! distinction; never parses further (the hello reader and the request reader do), never waits: time is the
//! caller's. Driven by [`super::Detector`], at the flow's start or as late as the bytes come (evasion T66).
//!
//! The rule (policy-semantics, "Name and address"): a first line that, after CR, LF, SP, TAB and NUL, reads
//! a word and a blank *is* HTTP and is then parsed strictly. A word is wider than a method token (`:` and
//! `/` count) and VT and FF are blanks too, because lenient servers take them (evasion H43). Three protocols
//! look so and are not HTTP; each is told by what no HTTP server accepts:
//!
//! - an SSH identification string (RFC 4253 §4.2): `SSH-` at the very start, a line of at most 255 octets
//!   without `HTTP/` in it (the comment after a space is what looks like a target);
//! - a request to a git daemon: four hex digits, `git-…-pack`, and a NUL inside of that pkt-line;
//! - a BER sequence (LDAP): `0`, a length octet that happens to be a blank, and an INTEGER tag.

#![deny(clippy::indexing_slicing)]

use tidegate_policy::detection::Prefix;

use super::h2c::{self, Preface};

/// Most octets of blanks and of the first word before the flow is given up; the bound of a request line.
pub const MAX_SNIFF: usize = 16 * 1024;
/// Longest SSH identification string with its line end (RFC 4253 §4.2).
const MAX_SSH_BANNER: usize = 255;
/// Start of a PROXY protocol version 2 header: a server that trusts it reads another flow behind it.
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Methods by which even a broken request is known as HTTP.
const METHODS: [&[u8]; 9] = [
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH",
];

/// What the bytes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// Too few bytes; they are consistent with the prefix named.
    NeedMore(Prefix),
    /// A TLS handshake record.
    Tls,
    /// An HTTP/1 request, well-formed or not.
    Http,
    /// The complete HTTP/2 connection preface.
    H2c,
    /// Certainly none of these.
    Opaque,
    /// One of these, and wrong whatever follows.
    Malformed {
        /// Which.
        prefix: Prefix,
        /// What is wrong; a short static phrase.
        what: &'static str,
    },
    /// Undecided after [`MAX_SNIFF`] octets.
    TooLarge,
}

/// Classifies a growing buffer; looks at each byte once.
#[derive(Debug, Default)]
pub struct Sniffer {
    /// Octets of leading blanks.
    word: usize,
    /// Where the look stopped.
    at: usize,
}

impl Sniffer {
    /// Looks at all bytes of the flow so far; `buffer` holds at least what it held before.
    pub fn advance(&mut self, buffer: &[u8]) -> Sniffed {
        if buffer.is_empty() {
            return Sniffed::NeedMore(Prefix::Nothing);
        }
        // Only the first octets of a flow are TLS or the preface; past a blank they can't be.
        if self.word == 0 {
            match tls_shape(buffer) {
                Shape::Other => {}
                Shape::Short => return Sniffed::NeedMore(Prefix::Tls),
                Shape::Hello => return Sniffed::Tls,
                Shape::Wrong(what) => {
                    return Sniffed::Malformed {
                        prefix: Prefix::Tls,
                        what,
                    };
                }
            }
            match h2c::preface(buffer) {
                Preface::Complete => return Sniffed::H2c,
                Preface::Begun => return Sniffed::NeedMore(Prefix::Http),
                Preface::Other => {}
            }
        }
        self.text(buffer)
    }

    fn text(&mut self, buffer: &[u8]) -> Sniffed {
        if self.at == self.word {
            let rest = buffer.get(self.at..).unwrap_or_default();
            self.word += rest.iter().take_while(|byte| is_leading(**byte)).count();
            self.at = self.word;
        }
        let rest = buffer.get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(|byte| is_word(**byte)).count();
        if self.at > MAX_SNIFF {
            return Sniffed::TooLarge;
        }
        let word = buffer.get(self.word..self.at).unwrap_or_default();
        let mut after = buffer.get(self.at..).unwrap_or_default().iter().copied();
        let Some(end) = after.next() else {
            return Sniffed::NeedMore(Prefix::Http);
        };
        match end {
            _ if word.is_empty() => Sniffed::Opaque,
            b' ' | b'\t' | 0x0b | 0x0c if self.word == 0 => lookalike(word, buffer),
            b' ' | b'\t' | 0x0b | 0x0c => Sniffed::Http,
            b'\n' if buffer.starts_with(PROXY_V2) => Sniffed::Malformed {
                prefix: Prefix::Http,
                what: "a PROXY protocol header",
            },
            b'\n' => Sniffed::Opaque,
            b'\r' => match after.next() {
                None => Sniffed::NeedMore(Prefix::Http),
                Some(b'\n' | 0) => Sniffed::Opaque,
                Some(_) => Sniffed::Http,
            },
            _ if METHODS.iter().any(|method| word.eq_ignore_ascii_case(method)) => Sniffed::Http,
            _ => Sniffed::Opaque,
        }
    }
}

fn is_leading(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | b' ' | b'\t' | 0)
}

/// A token's characters (RFC 9110 §5.6.2), `:` and `/`.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
}

/// How far bytes agree with TLS records.
enum Shape {
    /// Not at all.
    Other,
    /// More bytes are needed.
    Short,
    /// A handshake record begins.
    Hello,
    /// Something that a TLS server may accept in front of a hello, or instead of one.
    Wrong(&'static str),
}

/// Compares the start of a flow with what TLS servers accept there. `0x16 0x03` is TLS and nothing else;
/// the other shapes are cut as narrow as servers cut them, since binary protocols begin with any octet
/// (a MongoDB message of 788 octets with `14 03 00 00`).
fn tls_shape(buffer: &[u8]) -> Shape {
    match buffer {
        [0x16, 3, ..] => Shape::Hello,
        // Go's server reads any version below 0x1000.
        [0x16, 0..=0x0f, _, _, _, 1, ..] => Shape::Wrong("a record of no known version"),
        [0x16, _, _, _, _, _, ..] => Shape::Other,
        [0x16, ..] => Shape::Short,
        // OpenSSL skips warning alerts in front of the hello, and empty records (T19, T20).
        [0x14, 3, _, 0, 1, 1, ..]
        | [0x15, 3, _, 0, 1 | 2, 1 | 2, ..]
        | [0x14 | 0x15 | 0x17 | 0x18, 3, _, 0, 0, 0x14..=0x18, 3, ..] => {
            Shape::Wrong("another record before the hello")
        }
        [0x14 | 0x15 | 0x17 | 0x18, 3, _, 0, 0, 0x14..=0x18] => Shape::Short,
        [0x14 | 0x15 | 0x17 | 0x18, 3, _, _, _, _, ..] => Shape::Other,
        [0x14 | 0x15 | 0x17 | 0x18, 3, ..] | [0x14 | 0x15 | 0x17 | 0x18] => Shape::Short,
        // OpenSSL takes an SSLv2 hello, which can't name a server (T57).
        [0x80..=0xff, _, 1, 3, _, ..] | [0x80..=0xff, _, 1, 0, 2, ..] => Shape::Wrong("an SSLv2 hello"),
        [0x80..=0xff] | [0x80..=0xff, _] | [0x80..=0xff, _, 1] | [0x80..=0xff, _, 1, 0 | 3] => Shape::Short,
        _ => Shape::Other,
    }
}

/// Tells the three protocols whose first word is followed by a blank from HTTP.
fn lookalike(word: &[u8], buffer: &[u8]) -> Sniffed {
    let opaque = if word.starts_with(b"SSH-") {
        ssh_banner(buffer)
    } else if is_git_request(word) {
        git_request(word, buffer)
    } else if word == b"0" {
        buffer.get(2).map(|tag| *tag == 2)
    } else {
        Some(false)
    };
    match opaque {
        None => Sniffed::NeedMore(Prefix::Http),
        Some(true) => Sniffed::Opaque,
        Some(false) => Sniffed::Http,
    }
}

/// Whether the first line is an SSH identification string; `None` before its end.
fn ssh_banner(buffer: &[u8]) -> Option<bool> {
    let window = buffer.get(..MAX_SSH_BANNER).unwrap_or(buffer);
    match window.split(|byte| *byte == b'\n').next() {
        Some(line) if line.len() < window.len() => Some(!mentions_http(line)),
        _ if window.len() == MAX_SSH_BANNER => Some(false),
        _ => None,
    }
}

fn is_git_request(word: &[u8]) -> bool {
    word.split_at_checked(4).is_some_and(|(length, command)| {
        length.iter().all(u8::is_ascii_hexdigit)
            && [
                &b"git-upload-pack"[..],
                b"git-receive-pack",
                b"git-upload-archive",
            ]
            .contains(&command)
    })
}

/// Whether the pkt-line holds a NUL and no line end; `None` before its end.
fn git_request(word: &[u8], buffer: &[u8]) -> Option<bool> {
    let length = word
        .get(..4)
        .and_then(|hex| usize::from_str_radix(str::from_utf8(hex).ok()?, 16).ok());
    let length = length.unwrap_or_default();
    match buffer.get(..length) {
        Some(line) => Some(line.contains(&0) && !line.contains(&b'\n')),
        None if buffer.contains(&b'\n') => Some(false),
        None => None,
    }
}

fn mentions_http(line: &[u8]) -> bool {
    line.windows(5).any(|five| five.eq_ignore_ascii_case(b"HTTP/"))
}
