//! TLS record framing (RFC 8446 §5.1): cuts a byte stream, however it is segmented, into record headers
//! and pieces of record bodies. Owns five header bytes and a counter; never stores a body, never looks
//! into one. Driven by the hello reader and by both halves of the second-hello watch.

#![deny(clippy::indexing_slicing)]

/// Octets of a record header: type, version, length.
pub(crate) const HEADER: usize = 5;
/// Longest body of a plaintext record (RFC 8446 §5.1).
pub(crate) const MAX_PLAINTEXT: usize = 1 << 14;
/// Longest body of any record: TLS 1.2 ciphertext may expand by 2048 octets (RFC 5246 §6.2.3).
pub(crate) const MAX_CIPHERTEXT: usize = MAX_PLAINTEXT + 2048;

/// `change_cipher_spec` (RFC 8446 §5.1).
pub(crate) const CHANGE_CIPHER_SPEC: u8 = 20;
/// `alert`.
pub(crate) const ALERT: u8 = 21;
/// `handshake`.
pub(crate) const HANDSHAKE: u8 = 22;
/// `application_data`: also every encrypted record of TLS 1.3.
pub(crate) const APPLICATION_DATA: u8 = 23;

/// One step through a stream of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// A whole header was read.
    Header {
        /// The content type octet.
        kind: u8,
        /// Octets of body that follow; may be zero.
        length: usize,
    },
    /// Some of the body of the record whose header came last.
    Body(&'a [u8]),
}

/// The stream isn't TLS records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadRecord {
    /// The major version octet isn't 3; what comes after can't be framed.
    Version,
    /// A body longer than the bound.
    Length,
}

/// The position in a stream of records.
#[derive(Debug)]
pub(crate) struct Records {
    header: [u8; HEADER],
    have: usize,
    left: usize,
    max_body: usize,
}

impl Records {
    /// A reader at a record boundary that refuses bodies over `max_body` octets.
    pub(crate) fn new(max_body: usize) -> Self {
        Self {
            header: [0; HEADER],
            have: 0,
            left: 0,
            max_body,
        }
    }

    /// Octets of the present record's body that have not come yet.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Takes the next part off the front of `input`; `None` when more bytes are needed.
    ///
    /// Every version 0300–03ff is accepted, as OpenSSL, BoringSSL and rustls do; RFC 8446 §5.1 wants it
    /// ignored.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Part<'a>>, BadRecord> {
        if self.left > 0 {
            let (body, rest) = input.split_at_checked(self.left).unwrap_or((input, &[]));
            *input = rest;
            self.left -= body.len();
            return Ok((!body.is_empty()).then_some(Part::Body(body)));
        }
        while let Some(slot) = self.header.get_mut(self.have) {
            let Some((byte, rest)) = input.split_first() else {
                return Ok(None);
            };
            *slot = *byte;
            *input = rest;
            self.have += 1;
        }
        self.have = 0;
        let [kind, major, _minor, high, low] = self.header;
        if major != 3 {
            return Err(BadRecord::Version);
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > self.max_body {
            return Err(BadRecord::Length);
        }
        self.left = length;
        Ok(Some(Part::Header { kind, length }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]
    use super::*;

    #[test]
    fn a_record_comes_in_any_segmentation() {
        let stream = [22, 3, 1, 0, 2, 9, 8, 23, 3, 255, 0, 0];
        for cut in 0..=stream.len() {
            let mut records = Records::new(MAX_PLAINTEXT);
            let (mut headers, mut body) = (Vec::new(), Vec::new());
            for mut piece in [&stream[..cut], &stream[cut..]] {
                while let Some(part) = records.next(&mut piece).unwrap() {
                    match part {
                        Part::Header { kind, length } => headers.push((kind, length)),
                        Part::Body(bytes) => body.extend_from_slice(bytes),
                    }
                }
            }
            assert_eq!(
                (headers, body),
                (vec![(22, 2), (23, 0)], vec![9, 8]),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn other_majors_and_long_bodies_are_refused() {
        let mut records = Records::new(MAX_PLAINTEXT);
        assert_eq!(records.next(&mut &[22, 2, 1, 0, 1][..]), Err(BadRecord::Version));
        let mut records = Records::new(MAX_PLAINTEXT);
        assert_eq!(
            records.next(&mut &[22, 3, 1, 0x40, 1][..]),
            Err(BadRecord::Length)
        );
    }
}
