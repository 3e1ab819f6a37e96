//! Response heads (RFC 9112 §4): the status, how the body is framed, whether the connection lasts. Owns the
//! rules by which a message from the server ends, so that the next request is judged on its own; never
//! judges a server's taste (sloppy lines pass as they are). Driven by the cleartext relay.

use super::fields::{BadLines, Fields, is, write as field};
use super::lines::{Folding, Gathered, LineReader, Lines};
use super::request::content_length;
use super::target::parse_version;
use super::{Flaw, HeadProgress, Version};

/// What the response answers, as far as framing depends on it (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// HEAD: never a body.
    Head,
    /// CONNECT: a tunnel when granted.
    Connect,
    /// Any other method.
    Other,
}

/// How the response's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// No body.
    Empty,
    /// So many octets.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Until the server closes.
    UntilClose,
    /// No more HTTP: 101, or a granted CONNECT.
    Tunnel,
}

/// A complete response head.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// 100 to 999.
    pub status: u16,
    /// The version of the status line.
    pub version: Version,
    /// How the body is framed.
    pub framing: ResponseFraming,
    /// Whether the server takes another request on this connection.
    pub keep_alive: bool,
    /// Octets of the buffer that were this head.
    pub consumed: usize,
    lines: Lines,
    fields: Fields,
}

impl ResponseHead {
    /// True for 1xx but 101: the final response is still to come.
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    /// The values of a header field, in order; the name's case is ignored.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.all(&self.lines, name)
    }

    /// Writes the head that goes to the client: the server's lines with CRLF, folded lines joined, and no
    /// Content-Length beside chunks (RFC 9112 §6.3).
    pub fn forward(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.lines.line(0));
        out.extend_from_slice(b"\r\n");
        let mut length_written = false;
        for (name, value) in self.fields.iter(&self.lines) {
            if is(name, "content-length") {
                match self.framing {
                    ResponseFraming::Chunked => continue,
                    ResponseFraming::Length(_) if length_written => continue,
                    ResponseFraming::Length(length) => {
                        length_written = true;
                        field(out, name, length.to_string().as_bytes());
                        continue;
                    }
                    // What a body would have had, in an answer to HEAD or a 304.
                    ResponseFraming::Empty | ResponseFraming::UntilClose | ResponseFraming::Tunnel => {}
                }
            }
            if name.is_empty() {
                out.extend_from_slice(value);
                out.extend_from_slice(b"\r\n");
            } else {
                field(out, name, value);
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads one response head from a growing buffer.
#[derive(Debug)]
pub struct ResponseReader {
    lines: LineReader,
    asked: Asked,
}

impl ResponseReader {
    /// A reader at the start of a response to such a request.
    pub fn new(asked: Asked) -> Self {
        Self {
            lines: LineReader::for_head(Folding::Join),
            asked,
        }
    }

    /// Looks at the whole buffer so far, from the response's first octet; it holds at least what it held
    /// before. A refusal is the server's fault: the client gets 502.
    pub fn advance(&mut self, buffer: &[u8]) -> HeadProgress<ResponseHead> {
        let gathered = self.lines.advance(buffer);
        let parsed = match gathered {
            Gathered::NeedMore => return HeadProgress::NeedMore,
            Gathered::Complete(consumed) => self.parse(consumed),
            Gathered::Refused(flaw) => Err(flaw),
        };
        match parsed {
            Ok(head) => HeadProgress::Done(Box::new(head)),
            Err(Flaw(_, what)) => HeadProgress::Refused(Box::new(Flaw(502, what).at(None))),
        }
    }

    fn parse(&mut self, consumed: usize) -> Result<ResponseHead, Flaw> {
        let lines = self.lines.take();
        let (version, status) = status_line(lines.line(0))?;
        let (fields, parsed) = Fields::parse(&lines, 1, BadLines::Keep);
        parsed?;
        let framing = framing(self.asked, version, status, &fields, &lines)?;
        let option = |name| fields.lists(&lines, "connection", name);
        let lasting = match version {
            Version::Http11 => !option("close"),
            Version::Http10 => option("keep-alive") && !option("close"),
        };
        let keep_alive = lasting && framing != ResponseFraming::UntilClose;
        Ok(ResponseHead {
            status,
            version,
            framing,
            keep_alive,
            consumed,
            lines,
            fields,
        })
    }
}

/// `HTTP/1.x SP 3DIGIT [SP reason]`; the reason is the server's business.
fn status_line(line: &[u8]) -> Result<(Version, u16), Flaw> {
    const WRONG: Flaw = Flaw(502, "no HTTP/1 status line");
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let version = parse_version(parts.next().unwrap_or_default())?;
    let status = parts
        .next()
        .filter(|digits| digits.len() == 3 && digits.iter().all(u8::is_ascii_digit));
    let status = status
        .and_then(|digits| str::from_utf8(digits).ok()?.parse().ok())
        .ok_or(WRONG)?;
    if status < 100 {
        Err(WRONG)
    } else {
        Ok((version, status))
    }
}

/// RFC 9112 §6.3, in its order.
fn framing(
    asked: Asked,
    version: Version,
    status: u16,
    fields: &Fields,
    lines: &Lines,
) -> Result<ResponseFraming, Flaw> {
    match (asked, status) {
        (_, 101) | (Asked::Connect, 200..=299) => return Ok(ResponseFraming::Tunnel),
        (Asked::Head, _) | (_, 100..=199 | 204 | 304) => return Ok(ResponseFraming::Empty),
        (Asked::Connect | Asked::Other, _) => {}
    }
    if let Some(last) = fields.list(lines, "transfer-encoding").last() {
        // Chunks in HTTP/1.0 are not defined; the end of the connection is the end in any reading.
        return Ok(if version == Version::Http11 && is(last, "chunked") {
            ResponseFraming::Chunked
        } else {
            ResponseFraming::UntilClose
        });
    }
    // Equal repetitions are one length (RFC 9112 §6.3); servers behind careless proxies send them.
    let mut lengths = fields.list(lines, "content-length").map(content_length);
    let Some(first) = lengths.next().transpose()? else {
        return Ok(ResponseFraming::UntilClose);
    };
    for other in lengths {
        if other? != first {
            return Err(Flaw(502, "two different Content-Lengths"));
        }
    }
    Ok(ResponseFraming::Length(first))
}
