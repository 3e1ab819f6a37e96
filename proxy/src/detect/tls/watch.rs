//! The watch over a judged TLS connection until its hello is final: a HelloRetryRequest makes the client
//! send a second ClientHello in the clear, and that one chooses the site. Owns the parsing of both
//! directions from the first hello to the first server handshake message that isn't a HelloRetryRequest;
//! never does I/O, never alters bytes, never decides. Driven by the relay, which feeds both directions,
//! forwards what may pass, and splices once the watch is over (evasion T65).

#![deny(clippy::indexing_slicing)]

use tidegate_policy::detection::Hello;

use super::record::{
    ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, HEADER, MAX_CIPHERTEXT, Part, Records,
};
use super::{HelloReader, Progress};

/// The `random` that makes a ServerHello a HelloRetryRequest (RFC 8446 §4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, //
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];
/// Handshake type `server_hello`.
const SERVER_HELLO: u8 = 2;
/// Handshake type of a HelloRetryRequest before draft 22 of TLS 1.3.
const OLD_RETRY_REQUEST: u8 = 6;
/// A handshake header, `legacy_version` and `random`: all that tells the two kinds of ServerHello apart.
const TELLING: usize = 4 + 2 + 32;

/// What may be done with the client's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientStep {
    /// These bytes may go to the server now, in front of anything later. Empty while a second hello is
    /// incomplete.
    Forward(Vec<u8>),
    /// The flow must be closed: the second hello isn't for whom the first one was judged, or isn't a
    /// well-formed hello.
    Close {
        /// Why; a short static phrase for the event.
        what: &'static str,
    },
}

/// What the server's bytes mean for the watch. They may always go to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerStep {
    /// The server hasn't answered the hello for good.
    Watching,
    /// The hello is final. These bytes of the client were held back and may go now (mostly none); from
    /// here both directions may be spliced.
    Over(Vec<u8>),
    /// The server doesn't speak TLS, so nothing says which hello it heeds: the server's bytes may still
    /// reach the client, nothing more may reach the server.
    NotTls,
}

/// The state of one watch; holds at most one incomplete second hello with its records.
#[derive(Debug)]
pub struct SecondHelloWatch {
    first: Hello,
    client: ClientSide,
    server: ServerSide,
}

impl SecondHelloWatch {
    /// A watch that begins right after the first hello's last byte in both directions.
    pub fn new(first: Hello) -> Self {
        Self {
            first,
            client: ClientSide::new(),
            server: ServerSide::new(),
        }
    }

    /// Takes the client's next bytes (the rest of the first read after the hello included) and says what
    /// may go to the server.
    ///
    /// Change-cipher-spec (middlebox compatibility), alerts and early data pass; a handshake record is
    /// held until its hello is complete and equals the first in server name and ECH (RFC 9849 §6.1.5:
    /// a second outer hello keeps the config id).
    pub fn client(&mut self, bytes: &[u8]) -> ClientStep {
        if matches!(self.server.answer, Answer::NotTls) {
            return ClientStep::Close {
                what: "the server's answer to the hello is not TLS",
            };
        }
        match self.client.push(bytes, &self.first) {
            Ok(forward) => ClientStep::Forward(forward),
            Err(what) => ClientStep::Close { what },
        }
    }

    /// Takes the server's next bytes, before they go to the client.
    pub fn server(&mut self, bytes: &[u8]) -> ServerStep {
        self.server.push(bytes);
        match self.server.answer {
            Answer::Pending => ServerStep::Watching,
            Answer::Final => ServerStep::Over(std::mem::take(&mut self.client.held)),
            Answer::NotTls => ServerStep::NotTls,
        }
    }
}

/// The client's records after the first hello.
#[derive(Debug)]
struct ClientSide {
    records: Records,
    /// The kind of the record whose body is coming.
    kind: u8,
    /// The second hello as far as it has come.
    second: Option<HelloReader>,
    /// Bytes that wait for it.
    held: Vec<u8>,
}

impl ClientSide {
    fn new() -> Self {
        Self {
            records: Records::new(MAX_CIPHERTEXT),
            kind: 0,
            second: None,
            held: Vec::new(),
        }
    }

    fn push(&mut self, bytes: &[u8], first: &Hello) -> Result<Vec<u8>, &'static str> {
        let mut forward = Vec::new();
        let mut input = bytes;
        loop {
            let before = input;
            let part = self
                .records
                .next(&mut input)
                .map_err(|_| "the client's bytes after its hello are not TLS")?;
            let (taken, _) = before
                .split_at_checked(before.len() - input.len())
                .unwrap_or((before, &[]));
            self.held.extend_from_slice(taken);
            match part {
                // A header cut by a segment waits for its end.
                None => return Ok(forward),
                Some(Part::Header { kind, .. }) => {
                    self.kind = kind;
                    if kind == HANDSHAKE {
                        self.begin_record(first)?;
                    } else if self.second.is_some() {
                        return Err("another record inside of the second hello");
                    }
                }
                Some(Part::Body(body)) if self.kind == HANDSHAKE => self.judge(body, first)?,
                Some(Part::Body(_)) => {}
            }
            if self.second.is_none() {
                forward.append(&mut self.held);
            }
        }
    }

    /// Feeds the header of a handshake record to the hello's reader.
    fn begin_record(&mut self, first: &Hello) -> Result<(), &'static str> {
        let at = self.held.len().saturating_sub(HEADER);
        let header: Vec<u8> = self.held.get(at..).unwrap_or_default().to_vec();
        self.judge(&header, first)
    }

    fn judge(&mut self, piece: &[u8], first: &Hello) -> Result<(), &'static str> {
        match self.second.get_or_insert_default().push(piece) {
            Progress::NeedMore => Ok(()),
            Progress::Done(second) if second.hello == *first => {
                self.second = None;
                Ok(())
            }
            Progress::Done(_) => Err("the second hello names another server than the first"),
            Progress::Malformed { what } => Err(what),
            Progress::TooLarge => Err("the second hello is too large"),
        }
    }
}

/// What the server has said to the hello so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing, or HelloRetryRequests, alerts and change-cipher-specs only.
    Pending,
    /// A handshake message that isn't a HelloRetryRequest.
    Final,
    /// Bytes that aren't TLS.
    NotTls,
}

/// The server's records, as far as they tell a HelloRetryRequest.
#[derive(Debug)]
struct ServerSide {
    records: Records,
    kind: u8,
    /// The beginning of the present handshake message.
    message: Vec<u8>,
    /// Octets of the present handshake message that are only skipped.
    skip: usize,
    answer: Answer,
}

impl ServerSide {
    fn new() -> Self {
        Self {
            records: Records::new(MAX_CIPHERTEXT),
            kind: 0,
            message: Vec::with_capacity(TELLING),
            skip: 0,
            answer: Answer::Pending,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        while self.answer == Answer::Pending {
            match self.records.next(&mut input) {
                Ok(None) => return,
                Ok(Some(Part::Header { kind, .. })) => self.header(kind),
                Ok(Some(Part::Body(body))) if self.kind == HANDSHAKE => self.handshake(body),
                Ok(Some(Part::Body(_))) => {}
                Err(_) => self.answer = Answer::NotTls,
            }
        }
    }

    fn header(&mut self, kind: u8) {
        self.kind = kind;
        match kind {
            HANDSHAKE | ALERT | CHANGE_CIPHER_SPEC => {}
            // Encrypted records follow a ServerHello only.
            APPLICATION_DATA => self.answer = Answer::Final,
            _ => self.answer = Answer::NotTls,
        }
    }

    fn handshake(&mut self, mut body: &[u8]) {
        while !body.is_empty() && self.answer == Answer::Pending {
            let skipped = self.skip.min(body.len());
            self.skip -= skipped;
            body = body.get(skipped..).unwrap_or_default();
            let wanted = TELLING - self.message.len();
            let (piece, rest) = body.split_at_checked(wanted).unwrap_or((body, &[]));
            self.message.extend_from_slice(piece);
            body = rest;
            self.tell();
        }
    }

    /// Reads the beginning of a message once enough of it is there.
    fn tell(&mut self) {
        let Some(([kind, high, mid, low], begun)) = self.message.split_first_chunk::<4>() else {
            return;
        };
        let length = u32::from_be_bytes([0, *high, *mid, *low]) as usize;
        let retry = match *kind {
            OLD_RETRY_REQUEST => true,
            SERVER_HELLO if length < TELLING - 4 => false,
            SERVER_HELLO => match begun.get(2..) {
                Some(random) if random.len() == RETRY_RANDOM.len() => random == RETRY_RANDOM,
                Some(_) | None => return,
            },
            _ => false,
        };
        if !retry {
            self.answer = Answer::Final;
            return;
        }
        // A pre-draft-22 message may be shorter than what was gathered.
        self.skip = length.saturating_sub(begun.len());
        let after: Vec<u8> = begun.get(length..).unwrap_or_default().to_vec();
        self.message.clear();
        self.message.extend_from_slice(&after);
    }
}
