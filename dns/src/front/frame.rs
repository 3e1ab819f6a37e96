//! Length-prefixed messages out of a stream (RFC 1035 §4.2.2), however its bytes are cut.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::wire::{HEADER, flag, u16_at};

/// The longest query; text protocols and TLS begin with bytes that read as more than this.
const MAX_QUERY: usize = 4_096;
/// Records that any count of a query's header may claim; more is not DNS.
const MAX_COUNT: u16 = 64;

/// Why a stream holds no further message.
#[derive(Debug, Error)]
pub(crate) enum FramingError {
    /// The stream broke.
    #[error("the stream broke")]
    Io(#[from] io::Error),
    /// The next bytes are no DNS query.
    #[error("not DNS: {0}")]
    NotDns(&'static str),
}

/// The bytes of a stream that are not taken yet: at most one message and what one read brought.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
}

impl Frames {
    /// Reads once; 0 is the end. Safe to cancel.
    pub(crate) async fn fill<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<usize> {
        self.buffer.reserve(MAX_QUERY);
        stream.read_buf(&mut self.buffer).await
    }

    /// Takes bytes that somebody else read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole query. What can't become one is an error as soon as it shows.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, FramingError> {
        let Some(length) = u16_at(&self.buffer, 0).map(usize::from) else {
            return Ok(None);
        };
        if !(HEADER..=MAX_QUERY).contains(&length) {
            return Err(FramingError::NotDns("a length that no query has"));
        }
        if let Some(header) = self.buffer.get(2..2 + HEADER) {
            let counts = [4, 6, 8, 10].map(|at| u16_at(header, at).unwrap_or_default());
            let is_response = u16_at(header, 2).is_some_and(|flags| flags & flag::QR != 0);
            if is_response || counts.iter().any(|count| *count > MAX_COUNT) {
                return Err(FramingError::NotDns("a header that no query has"));
            }
        }
        if self.buffer.len() < 2 + length {
            return Ok(None);
        }
        let rest = self.buffer.split_off(2 + length);
        let mut frame = std::mem::replace(&mut self.buffer, rest);
        frame.drain(..2);
        Ok(Some(frame))
    }

    /// The bytes that are not taken.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.buffer
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn query(id: u8) -> Vec<u8> {
        let mut out = vec![0, 17, 0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        out.extend(b"\x00\x00\x01\x00\x01");
        out
    }

    proptest! {
        #[test]
        fn d05_any_cutting_of_the_stream_gives_the_same_queries(cuts in proptest::collection::vec(1usize..9, 0..40)) {
            let stream: Vec<u8> = (0..4).flat_map(query).collect();
            let mut frames = Frames::default();
            let (mut got, mut rest) = (Vec::new(), &stream[..]);
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                frames.buffer.extend_from_slice(part);
                rest = after;
                while let Some(frame) = frames.next().unwrap() {
                    got.push(frame[1]);
                }
            }
            prop_assert_eq!(got, vec![0, 1, 2, 3]);
        }
    }

    #[test]
    fn what_is_not_dns_shows_by_its_first_bytes() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"SSH-2.0-x",
            b"\x16\x03\x01\x02\x00\x01",
            b"\x00\x05",
        ] {
            let mut frames = Frames {
                buffer: bytes.to_vec(),
            };
            assert!(matches!(frames.next(), Err(FramingError::NotDns(_))), "{bytes:?}");
        }
        let mut response = query(1);
        response[4] |= 0x80;
        assert!(matches!(
            Frames { buffer: response }.next(),
            Err(FramingError::NotDns(_))
        ));
    }
}
