//! Message heads: bytes in, [`RequestHead`] or [`ResponseHead`] out, and the bytes to forward instead. Owns
//! the line reader, the field parser and their bounds; never sees a body. Driven by
//! [`crate::detect::Detector`] for a flow's first request and by the relay for all others.
//!
//! What is forwarded is what was judged: lines end in CRLF, one Host, one framing field in canonical form,
//! no `Upgrade: h2c`. Whatever two readers could take differently is refused, not repaired.

#![deny(clippy::indexing_slicing)]

mod authority;
mod fields;
mod lines;
mod request;
mod response;
mod target;

pub use request::{RequestFraming, RequestHead, RequestReader, Upgrade};
pub use response::{Asked, ResponseFraming, ResponseHead, ResponseReader};
pub use target::TargetForm;

pub(crate) use authority::parse as parse_authority;
pub(crate) use fields::{BadLines, Fields, write as write_field};
pub(crate) use lines::{Gathered, LineReader};

use thiserror::Error;
use tidegate_policy::detection::Authority;

/// Longest head in octets, its blank line included; above it 431.
pub const MAX_HEAD: usize = 64 * 1024;
/// Longest start line in octets; above it 414 for a request.
pub const MAX_START_LINE: usize = 16 * 1024;
/// Most field lines in a head; above it 431.
pub const MAX_FIELDS: usize = 256;

/// Version of a message; others are refused with 505.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// What a growing buffer led to.
#[derive(Clone, Debug)]
pub enum HeadProgress<T> {
    /// The head isn't complete.
    NeedMore,
    /// The head is complete and strict.
    Done(Box<T>),
    /// The message is refused; nothing of it may be forwarded and the connection must be closed.
    Refused(Box<HeadError>),
}

/// Why a head is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what} ({status})")]
pub struct HeadError {
    /// The status that answers the client: 400, 414, 431, 501 or 505; 502 for a response.
    pub status: u16,
    /// What is wrong; a short static phrase.
    pub what: &'static str,
    /// Whom the request seemed to ask for, where that was readable. For the event only: the refusal
    /// stands whatever it says.
    pub authority: Option<Authority>,
}

/// A status and what is wrong, before it is known whom the request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flaw(pub(crate) u16, pub(crate) &'static str);

impl Flaw {
    pub(crate) fn at(self, authority: Option<Authority>) -> HeadError {
        HeadError {
            status: self.0,
            what: self.1,
            authority,
        }
    }
}

/// `400` with a phrase.
pub(crate) fn bad(what: &'static str) -> Flaw {
    Flaw(400, what)
}
