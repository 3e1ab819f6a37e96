//! Request heads (RFC 9112 §3): the line, whom it asks for, how its body is framed, what it wants of the
//! connection, and the bytes to forward in its place. Owns every rule by which a request is refused before a
//! policy is asked; never asks one. Driven by the detector and the cleartext relay.

use tidegate_policy::detection::Authority;

use super::fields::{BadLines, Fields, is, is_token, write as field};
use super::lines::{Folding, Gathered, LineReader, Lines};
use super::target::{self, RequestLine, TargetForm};
use super::{Asked, Flaw, HeadError, HeadProgress, Version, bad};

/// How the request's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFraming {
    /// No body.
    Empty,
    /// So many octets.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// What the client wants the connection to become (RFC 9110 §7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing else.
    None,
    /// A WebSocket.
    WebSocket,
    /// HTTP/2 in the clear. [`RequestHead::forward`] leaves the wish out, so it is never granted.
    H2c,
    /// Any other protocol.
    Other,
}

/// A complete, strict request head.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Whom the request asks for: the target's authority, else Host.
    pub authority: Authority,
    /// Which form the target has.
    pub target_form: TargetForm,
    /// The version of the request line.
    pub version: Version,
    /// How the body is framed.
    pub framing: RequestFraming,
    /// What the connection shall become.
    pub upgrade: Upgrade,
    /// Whether the client can send another request on this connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Octets of the buffer that were this head, leading blank lines included.
    pub consumed: usize,
    lines: Lines,
    fields: Fields,
}

impl RequestHead {
    /// The method, as written.
    pub fn method(&self) -> &[u8] {
        self.part(0)
    }

    /// The request target, as written.
    pub fn target(&self) -> &[u8] {
        self.part(1)
    }

    /// What a reader of the response must know of the request.
    pub fn asked(&self) -> Asked {
        match self.method() {
            b"HEAD" => Asked::Head,
            b"CONNECT" => Asked::Connect,
            _ => Asked::Other,
        }
    }

    /// The values of a header field, in order; the name's case is ignored.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.all(&self.lines, name)
    }

    /// Writes the head that goes to the server: the client's own lines in their order, line ends as CRLF,
    /// Host and framing in canonical form, without `Upgrade: h2c` and what belongs to it.
    pub fn forward(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.lines.line(0));
        out.extend_from_slice(b"\r\n");
        for (name, value) in self.fields.iter(&self.lines) {
            let h2c = self.upgrade == Upgrade::H2c;
            if is(name, "http2-settings") || (h2c && is(name, "upgrade")) {
                continue;
            }
            if is(name, "content-length") {
                if let RequestFraming::Length(length) = self.framing {
                    field(out, name, length.to_string().as_bytes());
                }
            } else if is(name, "transfer-encoding") {
                // It is `chunked` alone; a server that compares its case must not see another framing.
                field(out, name, b"chunked");
            } else if h2c && is(name, "connection") {
                let kept = without_h2c(value);
                if !kept.is_empty() {
                    field(out, name, &kept);
                }
            } else {
                field(out, name, value);
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    fn part(&self, index: usize) -> &[u8] {
        self.lines
            .line(0)
            .split(|byte| *byte == b' ')
            .nth(index)
            .unwrap_or_default()
    }
}

/// A Connection value without the two options that offer h2c.
fn without_h2c(value: &[u8]) -> Vec<u8> {
    let kept: Vec<&[u8]> = value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|option| !is(option, "upgrade") && !is(option, "http2-settings"))
        .collect();
    kept.join(&b", "[..])
}

/// Reads one request head from a growing buffer.
#[derive(Debug)]
pub struct RequestReader(LineReader);

impl Default for RequestReader {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestReader {
    /// A reader at the start of a request.
    pub fn new() -> Self {
        Self(LineReader::for_head(Folding::Refuse))
    }

    /// Looks at the whole buffer so far, from the request's first octet; it holds at least what it held
    /// before. After any answer but [`HeadProgress::NeedMore`] the reader is spent.
    pub fn advance(&mut self, buffer: &[u8]) -> HeadProgress<RequestHead> {
        let (flaw, consumed) = match self.0.advance(buffer) {
            Gathered::NeedMore => return HeadProgress::NeedMore,
            Gathered::Complete(consumed) => (None, consumed),
            Gathered::Refused(flaw) => (Some(flaw), 0),
        };
        match Draft::parse(self.0.take(), flaw) {
            Ok(draft) => HeadProgress::Done(Box::new(draft.finish(consumed))),
            Err(error) => HeadProgress::Refused(Box::new(error)),
        }
    }
}

/// A head while it is checked, rule by rule.
struct Draft {
    lines: Lines,
    fields: Fields,
    authority: Authority,
    target_form: TargetForm,
    version: Version,
    framing: RequestFraming,
}

impl Draft {
    /// `flaw` is what stopped the gathering of lines, if anything did: whom the request asked for is
    /// still read, for the event.
    fn parse(lines: Lines, flaw: Option<Flaw>) -> Result<Self, HeadError> {
        let line = RequestLine::parse(lines.line(0));
        let target = line.as_ref().ok().and_then(|line| line.authority.clone());
        let (fields, parsed) = Fields::parse(&lines, 1, BadLines::Refuse);
        let host = target::host(&fields, &lines);
        let asked = target.clone().or_else(|| host.as_ref().ok().cloned().flatten());
        let check = || -> Result<_, Flaw> {
            if let Some(flaw) = flaw {
                return Err(flaw);
            }
            let line = line?;
            parsed?;
            let authority = target::one_authority(line.version, target, host?)?;
            connection(&fields, &lines)?;
            let framing = framing(line.version, line.form, &fields, &lines)?;
            Ok((authority, line.form, line.version, framing))
        };
        match check() {
            Ok((authority, target_form, version, framing)) => Ok(Self {
                lines,
                fields,
                authority,
                target_form,
                version,
                framing,
            }),
            Err(flaw) => Err(flaw.at(asked)),
        }
    }

    fn finish(self, consumed: usize) -> RequestHead {
        let (fields, lines) = (&self.fields, &self.lines);
        let keep_alive = match self.version {
            Version::Http11 => !fields.lists(lines, "connection", "close"),
            Version::Http10 => {
                fields.lists(lines, "connection", "keep-alive") && !fields.lists(lines, "connection", "close")
            }
        };
        let expects_continue = self.version == Version::Http11
            && fields.all(lines, "expect").any(|value| is(value, "100-continue"));
        RequestHead {
            upgrade: upgrade(self.version, fields, lines),
            keep_alive,
            expects_continue,
            consumed,
            authority: self.authority,
            target_form: self.target_form,
            version: self.version,
            framing: self.framing,
            lines: self.lines,
            fields: self.fields,
        }
    }
}

/// Connection options that would make the next hop drop a field by which this request was judged.
fn connection(fields: &Fields, lines: &Lines) -> Result<(), Flaw> {
    let judged = ["host", "content-length", "transfer-encoding"];
    let named = |option: &[u8]| judged.iter().any(|name| is(option, name));
    if fields.list(lines, "connection").any(named) {
        return Err(bad("a Connection option that names Host or framing"));
    }
    Ok(())
}

/// RFC 9112 §6: one framing that every reader takes the same way, or a refusal.
fn framing(
    version: Version,
    form: TargetForm,
    fields: &Fields,
    lines: &Lines,
) -> Result<RequestFraming, Flaw> {
    let (mut codings, mut lengths) = (
        fields.all(lines, "transfer-encoding"),
        fields.all(lines, "content-length"),
    );
    let (coding, length) = (codings.next(), lengths.next());
    if codings.next().is_some() || lengths.next().is_some() {
        return Err(bad("a framing field twice"));
    }
    let framing = match (coding, length) {
        (None, None) => RequestFraming::Empty,
        (Some(_), Some(_)) => return Err(bad("Content-Length beside Transfer-Encoding")),
        (Some(_), None) if version == Version::Http10 => return Err(bad("Transfer-Encoding in HTTP/1.0")),
        (Some(coding), None) if is(coding, "chunked") => RequestFraming::Chunked,
        (Some(coding), None) if coding.split(|b| *b == b',').all(|c| is_token(c.trim_ascii())) => {
            return Err(Flaw(501, "a transfer coding other than chunked"));
        }
        (Some(_), None) => return Err(bad("a Transfer-Encoding that is no list of codings")),
        (None, Some(length)) => RequestFraming::Length(content_length(length)?),
    };
    if form == TargetForm::Authority && framing != RequestFraming::Empty {
        return Err(bad("CONNECT with a body"));
    }
    Ok(framing)
}

/// `1*DIGIT`, up to 2^63-1.
pub(super) fn content_length(value: &[u8]) -> Result<u64, Flaw> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = str::from_utf8(value)
        .ok()
        .filter(|_| digits)
        .and_then(|text| text.parse::<i64>().ok());
    number
        .map(i64::cast_unsigned)
        .ok_or(bad("a Content-Length that is no number"))
}

/// RFC 9110 §7.8: a server ignores Upgrade in HTTP/1.0.
fn upgrade(version: Version, fields: &Fields, lines: &Lines) -> Upgrade {
    let names = || {
        fields
            .list(lines, "upgrade")
            .map(|protocol| protocol.split(|b| *b == b'/').next().unwrap_or_default())
    };
    if names().any(|name| is(name, "h2c")) {
        Upgrade::H2c
    } else if version == Version::Http10 || names().next().is_none() {
        Upgrade::None
    } else if names().any(|name| is(name, "websocket")) {
        Upgrade::WebSocket
    } else {
        Upgrade::Other
    }
}
