//! Message bodies (RFC 9112 §6, §7): where one ends, and the bytes to forward. Owns the chunk decoder, which
//! writes chunks anew: sizes in plain hex, no extensions, trailers as parsed. Never holds body data, never
//! does I/O. Driven by the cleartext relay, which may splice what [`BodyReader::plain`] says.

#![deny(clippy::indexing_slicing)]

use thiserror::Error;

use super::head::{BadLines, Fields, Gathered, LineReader, RequestFraming, ResponseFraming, write_field};

/// Longest chunk-size line in octets, extensions included.
pub const MAX_CHUNK_LINE: usize = 1024;
/// Most hex digits of a chunk size: 2^60 octets.
const MAX_SIZE_DIGITS: usize = 15;
/// Longest trailer section in octets.
pub const MAX_TRAILERS: usize = 16 * 1024;

/// Why a body can't be forwarded any further; the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BodyError {
    /// The chunk-size line isn't hex digits, well-formed extensions and CRLF.
    #[error("a malformed chunk size")]
    ChunkSize,
    /// A chunk isn't followed by CRLF.
    #[error("a chunk that does not end where its size says")]
    ChunkEnd,
    /// The trailer section has a line that is no field, or one that frames or routes.
    #[error("a malformed trailer")]
    Trailer,
    /// A line or the trailer section is longer than its bound.
    #[error("a chunk line or trailer over its bound")]
    TooLarge,
}

/// What a push of bytes led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// Octets of the input that belong to this body; all of it unless the body ended.
    pub consumed: usize,
    /// Whether the message is complete. What follows in the input is the next message.
    pub done: bool,
}

/// Follows one body to its end.
#[derive(Debug)]
pub struct BodyReader(State);

#[derive(Debug)]
enum State {
    /// So many octets to come.
    Plain(u64),
    /// Whatever comes until the connection ends.
    UntilClose,
    Chunks(Chunks),
}

impl BodyReader {
    /// The body of a request.
    pub fn for_request(framing: RequestFraming) -> Self {
        Self(match framing {
            RequestFraming::Empty => State::Plain(0),
            RequestFraming::Length(length) => State::Plain(length),
            RequestFraming::Chunked => State::Chunks(Chunks::new()),
        })
    }

    /// The body of a response.
    pub fn for_response(framing: ResponseFraming) -> Self {
        Self(match framing {
            ResponseFraming::Empty => State::Plain(0),
            ResponseFraming::Length(length) => State::Plain(length),
            ResponseFraming::Chunked => State::Chunks(Chunks::new()),
            ResponseFraming::UntilClose | ResponseFraming::Tunnel => State::UntilClose,
        })
    }

    /// True when nothing of the body is to come.
    pub fn is_done(&self) -> bool {
        match &self.0 {
            State::Plain(left) => *left == 0,
            State::UntilClose => false,
            State::Chunks(chunks) => matches!(chunks.at, At::Done),
        }
    }

    /// Octets that come next and pass as they are, so that they may be spliced: the rest of a sized
    /// body or of a chunk's data. `u64::MAX` until close. Report those passed by [`Self::passed`].
    pub fn plain(&self) -> u64 {
        match &self.0 {
            State::Plain(left) => *left,
            State::UntilClose => u64::MAX,
            State::Chunks(chunks) => chunks.plain(),
        }
    }

    /// Counts octets that went by without [`Self::advance`]; at most [`Self::plain`].
    pub fn passed(&mut self, octets: u64) {
        match &mut self.0 {
            State::Plain(left) => *left = left.saturating_sub(octets),
            State::UntilClose => {}
            State::Chunks(chunks) => chunks.passed(octets),
        }
    }

    /// Takes the next bytes of the stream and appends to `out` what is to be forwarded.
    pub fn advance(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Advance, BodyError> {
        match &mut self.0 {
            State::Plain(left) => {
                let take = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                out.extend_from_slice(input.get(..take).unwrap_or_default());
                *left -= take as u64;
                Ok(Advance {
                    consumed: take,
                    done: *left == 0,
                })
            }
            State::UntilClose => {
                out.extend_from_slice(input);
                Ok(Advance {
                    consumed: input.len(),
                    done: false,
                })
            }
            State::Chunks(chunks) => chunks.advance(input, out),
        }
    }
}

/// The chunk decoder.
#[derive(Debug)]
struct Chunks {
    at: At,
    /// The present chunk-size line or trailer section, as far as it has come.
    text: Vec<u8>,
    trailers: LineReader,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a chunk-size line.
    Size,
    /// In data: so many octets to come.
    Data(u64),
    /// Before the CR that ends the data.
    DataCr,
    /// Before the LF that ends the data.
    DataLf,
    /// After the last chunk.
    Trailers,
    Done,
}

impl Chunks {
    fn new() -> Self {
        Self {
            at: At::Size,
            text: Vec::new(),
            trailers: LineReader::for_trailers(),
        }
    }

    fn plain(&self) -> u64 {
        match self.at {
            At::Data(left) => left,
            At::Size | At::DataCr | At::DataLf | At::Trailers | At::Done => 0,
        }
    }

    fn passed(&mut self, octets: u64) {
        if let At::Data(left) = self.at {
            let left = left.saturating_sub(octets);
            self.at = if left == 0 { At::DataCr } else { At::Data(left) };
        }
    }

    fn advance(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Advance, BodyError> {
        let mut rest = input;
        while !rest.is_empty() && self.at != At::Done {
            let used = match self.at {
                At::Size => self.size(rest, out)?,
                At::Data(left) => {
                    let take = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    out.extend_from_slice(rest.get(..take).unwrap_or_default());
                    self.passed(take as u64);
                    take
                }
                At::DataCr => self.expect(rest, b'\r', At::DataLf)?,
                At::DataLf => {
                    out.extend_from_slice(b"\r\n");
                    self.expect(rest, b'\n', At::Size)?
                }
                At::Trailers => self.trailers(rest, out)?,
                At::Done => 0,
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(Advance {
            consumed: input.len() - rest.len(),
            done: self.at == At::Done,
        })
    }

    fn expect(&mut self, rest: &[u8], octet: u8, then: At) -> Result<usize, BodyError> {
        if rest.first() != Some(&octet) {
            return Err(BodyError::ChunkEnd);
        }
        self.at = then;
        Ok(1)
    }

    /// Takes a piece of a chunk-size line; writes the size anew at its end.
    fn size(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError> {
        let (used, complete) = match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (rest.len(), false),
        };
        if self.text.len() + used > MAX_CHUNK_LINE {
            return Err(BodyError::TooLarge);
        }
        self.text.extend_from_slice(rest.get(..used).unwrap_or_default());
        if complete {
            let line = self.text.strip_suffix(b"\r\n").ok_or(BodyError::ChunkSize)?;
            let size = chunk_size(line).ok_or(BodyError::ChunkSize)?;
            self.text.clear();
            out.extend_from_slice(format!("{size:x}\r\n").as_bytes());
            self.at = if size == 0 { At::Trailers } else { At::Data(size) };
        }
        Ok(used)
    }

    /// Takes octets of the trailer section; writes it anew at its end.
    fn trailers(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError> {
        let before = self.text.len();
        self.text.extend_from_slice(rest);
        match self.trailers.advance(&self.text) {
            Gathered::NeedMore if self.text.len() > MAX_TRAILERS => Err(BodyError::TooLarge),
            Gathered::NeedMore => Ok(rest.len()),
            Gathered::Complete(end) if end > MAX_TRAILERS => Err(BodyError::TooLarge),
            Gathered::Complete(end) => {
                write_trailers(&self.trailers, self.text.get(..end).unwrap_or_default(), out)?;
                self.at = At::Done;
                Ok(end - before)
            }
            Gathered::Refused(_) => Err(BodyError::Trailer),
        }
    }
}

/// Fields that may not come late: they would frame or route the message (RFC 9110 §6.5.1).
const NOT_IN_TRAILERS: [&str; 6] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "trailer",
    "upgrade",
];

fn write_trailers(reader: &LineReader, text: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
    // RFC 9112 §7.1.3 has no leniency for a bare LF in chunked framing, and attacks have used it.
    let crlf = text
        .split_inclusive(|byte| *byte == b'\n')
        .all(|line| line.ends_with(b"\r\n"));
    let (fields, parsed) = Fields::parse(reader.lines(), 0, BadLines::Refuse);
    parsed.map_err(|_| BodyError::Trailer)?;
    let forbidden = |name: &[u8]| {
        NOT_IN_TRAILERS
            .iter()
            .any(|not| name.eq_ignore_ascii_case(not.as_bytes()))
    };
    if !crlf || fields.iter(reader.lines()).any(|(name, _)| forbidden(name)) {
        return Err(BodyError::Trailer);
    }
    for (name, value) in fields.iter(reader.lines()) {
        write_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// `1*HEXDIG [chunk-ext]`. Extensions are checked for what no reader may see in them and dropped.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, extension) = line.split_at_checked(digits)?;
    if digits == 0 || digits > MAX_SIZE_DIGITS {
        return None;
    }
    let blanks = extension
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    let extension = extension.get(blanks..).unwrap_or_default();
    let printable = extension
        .iter()
        .all(|byte| matches!(byte, b'\t' | b' '..=0x7e | 0x80..));
    if !printable || !(extension.is_empty() || extension.starts_with(b";")) {
        return None;
    }
    u64::from_str_radix(str::from_utf8(size).ok()?, 16).ok()
}
