//! ClientHellos over TCP: reads one out of any TCP segmentation and any TLS record fragmentation, within
//! bounds, and says whom the client wants. Owns the reassembly of handshake messages; never keeps the raw
//! bytes (the caller replays them unchanged), never decides. Driven by [`crate::detect::Detector`] on a
//! flow's first bytes and by [`SecondHelloWatch`] on what comes after them.

#![deny(clippy::indexing_slicing)]

mod ja4;
mod record;
mod walk;
mod watch;

pub use watch::{ClientStep, SecondHelloWatch, ServerStep};

use record::{BadRecord, HANDSHAKE, HEADER, MAX_PLAINTEXT, Part, Records};
use tidegate_policy::detection::Hello;
use walk::{Flaw, Walk};

/// Longest ClientHello body that is judged, in octets. Post-quantum hellos need about 2 KiB, the largest
/// seen in the field 16; OpenSSL would take 128 KiB.
pub const MAX_HELLO: usize = 64 * 1024;
/// Most raw octets that one hello may take with its record headers: a body at [`MAX_HELLO`] in records
/// of one octet each, so that no fragmentation of a judged hello is refused for its fragmentation.
pub const MAX_FLIGHT: usize = (MAX_HELLO + MESSAGE_HEADER) * (HEADER + 1) + MAX_EMPTY_RECORDS * HEADER;
/// Most empty records before and within one hello; OpenSSL's own bound.
const MAX_EMPTY_RECORDS: usize = 32;

/// Octets of a handshake message's header: type and 24-bit length.
const MESSAGE_HEADER: usize = 4;
/// Handshake type `client_hello`.
const CLIENT_HELLO: u8 = 1;

/// A complete, well-formed ClientHello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// What the verdict needs.
    pub hello: Hello,
    /// Octets of the stream, from its start, that make up the hello's records. What the client sent
    /// beyond (early data, say) must go through a [`SecondHelloWatch`].
    pub consumed: usize,
    /// The handshake message, its header included.
    message: Vec<u8>,
}

impl ClientHello {
    /// Protocol names that the client offers (RFC 7301), in its order.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        self.walk().into_iter().flat_map(|walk| walk.alpn())
    }

    /// The JA4 fingerprint of the hello over TCP (FoxIO's `technical_details/JA4.md`), 36 characters.
    pub fn ja4(&self) -> String {
        self.walk()
            .map(|walk| ja4::fingerprint(&walk))
            .unwrap_or_default()
    }

    /// The body was walked once when the hello was made, so this finds the same parts again.
    fn walk(&self) -> Option<Walk<'_>> {
        Walk::parse(self.message.get(MESSAGE_HEADER..)?).ok()
    }
}

/// What a push into a [`HelloReader`] led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The bytes are the beginning of a hello.
    NeedMore,
    /// The hello is complete.
    Done(Box<ClientHello>),
    /// No honest client sends these bytes, or two servers could read them differently.
    Malformed {
        /// What is wrong; a short static phrase.
        what: &'static str,
    },
    /// The hello is longer than [`MAX_HELLO`], or takes more than [`MAX_FLIGHT`] octets of records.
    TooLarge,
}

/// Reads one ClientHello, in pushes of any size. After any answer but [`Progress::NeedMore`] it is spent.
///
/// Holds at most [`MAX_HELLO`] octets and a record header.
#[derive(Debug)]
pub struct HelloReader {
    records: Records,
    message: Vec<u8>,
    consumed: usize,
    empty_records: usize,
}

impl Default for HelloReader {
    fn default() -> Self {
        Self::new()
    }
}

impl HelloReader {
    /// A reader at the beginning of a stream.
    pub fn new() -> Self {
        Self {
            records: Records::new(MAX_PLAINTEXT),
            message: Vec::new(),
            consumed: 0,
            empty_records: 0,
        }
    }

    /// Takes the next bytes of the stream; each byte is pushed once.
    pub fn push(&mut self, bytes: &[u8]) -> Progress {
        let mut input = bytes;
        loop {
            let before = input.len();
            let part = match self.records.next(&mut input) {
                Ok(part) => part,
                Err(BadRecord::Version) => return malformed("a record of no known version"),
                Err(BadRecord::Length) => return malformed("a record longer than 16 KiB"),
            };
            self.consumed += before - input.len();
            if self.consumed > MAX_FLIGHT {
                return Progress::TooLarge;
            }
            let outcome = match part {
                None => return Progress::NeedMore,
                Some(Part::Header { kind, length }) => self.header(kind, length),
                Some(Part::Body(body)) => self.body(body),
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(done)) => return done,
                Err(what) => return malformed(what),
            }
        }
    }

    fn header(&mut self, kind: u8, length: usize) -> Result<Option<Progress>, Flaw> {
        if kind != HANDSHAKE {
            return Err("another record before the end of the hello");
        }
        if length == 0 {
            self.empty_records += 1;
            if self.empty_records > MAX_EMPTY_RECORDS {
                return Err("more than 32 empty records");
            }
        }
        Ok(None)
    }

    fn body(&mut self, piece: &[u8]) -> Result<Option<Progress>, Flaw> {
        self.message.extend_from_slice(piece);
        if self.message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err("a handshake message that is not a ClientHello");
        }
        let Some(([_, high, mid, low], body)) = self.message.split_first_chunk::<MESSAGE_HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([0, *high, *mid, *low]) as usize;
        if length > MAX_HELLO {
            return Ok(Some(Progress::TooLarge));
        }
        if body.len() < length {
            return Ok(None);
        }
        // OpenSSL would read what follows in the record as the next message; no client sends one.
        if body.len() > length || self.records.left() > 0 {
            return Err("bytes after the hello in its record");
        }
        let hello = Walk::parse(body)?.hello()?;
        let message = std::mem::take(&mut self.message);
        let consumed = self.consumed;
        Ok(Some(Progress::Done(Box::new(ClientHello {
            hello,
            consumed,
            message,
        }))))
    }
}

fn malformed(what: &'static str) -> Progress {
    Progress::Malformed { what }
}
