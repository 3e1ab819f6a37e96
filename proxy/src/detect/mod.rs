//! Detection: what the first bytes of a flow say. Owns the pure readers (TLS hellos, the HTTP or not
//! question, QUIC's outside) and their composition, [`Detector`]; never does I/O, never waits, never decides
//! about a flow. Driven by the flow's task, which reads bytes, pushes them here, and hands the finding to
//! `policy`.
//!
//! Every reader is incremental, bounded, and total: any bytes in any pieces give an answer, the same in
//! every segmentation.

pub mod h2c;
pub mod quic;
pub mod sniff;
pub mod tls;

use tidegate_policy::detection::{Detection, OpaqueReason, Prefix};

use crate::http1::head::{HeadError, HeadProgress, RequestHead, RequestReader};
use sniff::{Sniffed, Sniffer};
use tls::{ClientHello, HelloReader, Progress};

/// What all bytes pushed so far say.
#[derive(Clone, Debug)]
pub enum Step {
    /// They are a beginning of what the prefix names.
    NeedMore(Prefix),
    /// A complete hello. What follows it goes through a [`tls::SecondHelloWatch`].
    Tls(Box<ClientHello>),
    /// A complete request head. What follows [`RequestHead::consumed`] octets is its body.
    Http(Box<RequestHead>),
    /// The HTTP/2 preface: each request's `:authority` is judged where HTTP/2 is served.
    H2c,
    /// The client spoke first, and neither TLS nor HTTP.
    Opaque,
    /// A TLS or PROXY prefix that no honest client sends.
    Malformed {
        /// Which protocol.
        prefix: Prefix,
        /// What is wrong; a short static phrase.
        what: &'static str,
    },
    /// An HTTP request that is refused as it stands.
    BadRequest(Box<HeadError>),
    /// Larger than any bound allows.
    TooLarge(Prefix),
}

impl Step {
    /// The finding in the words of the verdict; `None` while more bytes are needed, and for HTTP/2,
    /// whose requests each have their own.
    pub fn detection(&self) -> Option<Detection> {
        match self {
            Self::NeedMore(_) | Self::H2c => None,
            Self::Tls(found) => Some(Detection::Tls(found.hello.clone())),
            Self::Http(head) => Some(Detection::Http(head.authority.clone())),
            Self::Opaque => Some(Detection::Opaque(OpaqueReason::UnknownProtocol)),
            Self::Malformed { prefix, what } => Some(Detection::Malformed {
                prefix: *prefix,
                what,
            }),
            Self::BadRequest(error) => Some(Detection::Malformed {
                prefix: Prefix::Http,
                what: error.what,
            }),
            Self::TooLarge(prefix) => Some(Detection::Malformed {
                prefix: *prefix,
                what: "larger than 64 KiB",
            }),
        }
    }
}

/// Reads a flow's first bytes until they say what they are.
///
/// Keeps every byte pushed, for replay: at most [`tls::MAX_FLIGHT`] octets and one push more.
#[derive(Debug, Default)]
pub struct Detector {
    bytes: Vec<u8>,
    reader: Reader,
}

#[derive(Debug)]
enum Reader {
    Sniffing(Sniffer),
    Tls(HelloReader),
    Http(RequestReader),
}

impl Default for Reader {
    fn default() -> Self {
        Self::Sniffing(Sniffer::default())
    }
}

impl Detector {
    /// A detector before the first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the client's next bytes. After any answer but [`Step::NeedMore`] the detector is spent.
    pub fn push(&mut self, bytes: &[u8]) -> Step {
        self.bytes.extend_from_slice(bytes);
        match &mut self.reader {
            Reader::Sniffing(sniffer) => match sniffer.advance(&self.bytes) {
                Sniffed::NeedMore(prefix) => Step::NeedMore(prefix),
                Sniffed::Tls => {
                    let mut reader = HelloReader::new();
                    let step = tls_step(reader.push(&self.bytes));
                    self.reader = Reader::Tls(reader);
                    step
                }
                Sniffed::Http => {
                    let mut reader = RequestReader::new();
                    let step = http_step(reader.advance(&self.bytes));
                    self.reader = Reader::Http(reader);
                    step
                }
                Sniffed::H2c => Step::H2c,
                Sniffed::Opaque => Step::Opaque,
                Sniffed::Malformed { prefix, what } => Step::Malformed { prefix, what },
                Sniffed::TooLarge => Step::TooLarge(Prefix::Http),
            },
            Reader::Tls(reader) => tls_step(reader.push(bytes)),
            Reader::Http(reader) => http_step(reader.advance(&self.bytes)),
        }
    }

    /// Everything pushed so far, unchanged.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Everything pushed so far, for replay.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

fn tls_step(progress: Progress) -> Step {
    match progress {
        Progress::NeedMore => Step::NeedMore(Prefix::Tls),
        Progress::Done(found) => Step::Tls(found),
        Progress::Malformed { what } => Step::Malformed {
            prefix: Prefix::Tls,
            what,
        },
        Progress::TooLarge => Step::TooLarge(Prefix::Tls),
    }
}

fn http_step(progress: HeadProgress<RequestHead>) -> Step {
    match progress {
        HeadProgress::NeedMore => Step::NeedMore(Prefix::Http),
        HeadProgress::Done(head) => Step::Http(head),
        HeadProgress::Refused(error) => Step::BadRequest(error),
    }
}
