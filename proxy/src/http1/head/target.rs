//! Request lines and whom they and Host ask for (RFC 9112 §3). Owns the forms of targets and the rule that a
//! request names one server; never looks at other fields. Driven by the request parser.

use tidegate_policy::detection::{Authority, HttpHost};

use super::fields::{Fields, is_token};
use super::lines::Lines;
use super::{Flaw, Version, authority, bad};

/// Longest method in octets; longer ones are no method.
const MAX_METHOD: usize = 64;

/// Which form the request target has (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path`
    Origin,
    /// `http://host/path`: what a forward proxy is sent.
    Absolute,
    /// `host:port`, with CONNECT only.
    Authority,
    /// `*`, with OPTIONS only.
    Asterisk,
}

/// A request line's parts, checked.
pub(super) struct RequestLine {
    /// Which form the target has.
    pub(super) form: TargetForm,
    /// Whom the target names, if it does.
    pub(super) authority: Option<Authority>,
    /// The version.
    pub(super) version: Version,
}

impl RequestLine {
    /// `method SP target SP version` with single spaces and nothing else (RFC 9112 §3).
    pub(super) fn parse(line: &[u8]) -> Result<Self, Flaw> {
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let version = parts.next().ok_or(bad("a request line without a version"))?;
        if !is_token(method) || method.len() > MAX_METHOD {
            return Err(bad("a method that is no token"));
        }
        let version = parse_version(version)?;
        // RFC 3986 is stricter; bytes above 0x7e and characters such as `|` are in common use in paths.
        if target.is_empty() || target.iter().any(|byte| matches!(byte, 0..=b' ' | 0x7f | b'#')) {
            return Err(bad(
                "a request target with a blank, a control character or a fragment",
            ));
        }
        let (form, authority) = target_of(method, target)?;
        Ok(Self {
            form,
            authority,
            version,
        })
    }
}

/// The version of a request or status line.
pub(super) fn parse_version(version: &[u8]) -> Result<Version, Flaw> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if [major, minor].iter().all(|c| c.is_ascii_digit()) =>
        {
            Err(Flaw(505, "an HTTP version other than 1.0 and 1.1"))
        }
        _ => Err(bad("no HTTP version")),
    }
}

fn target_of(method: &[u8], target: &[u8]) -> Result<(TargetForm, Option<Authority>), Flaw> {
    if method == b"CONNECT" {
        let authority = authority::parse(target)?;
        if authority.port.is_none() {
            return Err(bad("CONNECT without a port"));
        }
        return Ok((TargetForm::Authority, Some(authority)));
    }
    if target == b"*" {
        return if method == b"OPTIONS" {
            Ok((TargetForm::Asterisk, None))
        } else {
            Err(bad("the target * with a method other than OPTIONS"))
        };
    }
    if target.starts_with(b"/") {
        return Ok((TargetForm::Origin, None));
    }
    let after = |scheme: &[u8]| {
        let (head, rest) = target.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let rest = after(b"http://")
        .or_else(|| after(b"https://"))
        .ok_or(bad("a target of no known form"))?;
    let authority = rest
        .split(|byte| matches!(byte, b'/' | b'?'))
        .next()
        .unwrap_or_default();
    Ok((TargetForm::Absolute, Some(authority::parse(authority)?)))
}

/// The one Host field; `None` when there is none.
pub(super) fn host(fields: &Fields, lines: &Lines) -> Result<Option<Authority>, Flaw> {
    let mut hosts = fields.all(lines, "host");
    let first = hosts.next().map(authority::parse).transpose()?;
    if hosts.next().is_some() {
        return Err(bad("more than one Host"));
    }
    Ok(first)
}

/// Whom the request asks for, where target and Host don't contradict each other (RFC 9112 §3.2.2 lets
/// the target win; servers differ, so a contradiction is refused).
pub(super) fn one_authority(
    version: Version,
    target: Option<Authority>,
    host: Option<Authority>,
) -> Result<Authority, Flaw> {
    if host.is_none() && version == Version::Http11 {
        return Err(bad("no Host"));
    }
    match (target, host) {
        (None, None) => Ok(Authority {
            host: HttpHost::Absent,
            port: None,
        }),
        (Some(only), None) | (None, Some(only)) => Ok(only),
        (Some(target), Some(host)) if target.host != host.host => {
            Err(bad("a target and a Host that name different servers"))
        }
        (Some(target), Some(host)) => match (target.port, host.port) {
            (Some(there), Some(here)) if there != here => {
                Err(bad("a target and a Host that name different ports"))
            }
            _ => Ok(target),
        },
    }
}
