//! Whom a request asks for: the authority of a target or of Host (RFC 3986 §3.2, RFC 9110 §7.2). Owns the
//! grammar of host and port; never resolves, never compares with a policy. Driven by the request parser.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tidegate_policy::DnsName;
use tidegate_policy::detection::{Authority, HttpHost};

use super::{Flaw, bad};

/// Parses `host`, `host:port`, `1.2.3.4:port` or `[v6]:port`. Userinfo, percent-escapes, zone ids,
/// IPvFuture and anything that is no host name are refused: no two readers agree on them.
pub(crate) fn parse(text: &[u8]) -> Result<Authority, Flaw> {
    if text.is_empty() {
        return Err(bad("an empty host"));
    }
    if text.contains(&b'@') {
        return Err(bad("userinfo in the authority"));
    }
    let text = str::from_utf8(text).map_err(|_| bad("a host that is not ASCII"))?;
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (inner, rest) = bracketed
            .split_once(']')
            .ok_or(bad("a bracket that is not closed"))?;
        let address: Ipv6Addr = inner
            .parse()
            .map_err(|_| bad("brackets around no IPv6 address"))?;
        let port = rest.strip_prefix(':');
        if port.is_none() && !rest.is_empty() {
            return Err(bad("characters after the bracket"));
        }
        (HttpHost::Address(IpAddr::V6(address)), port)
    } else {
        let (name, port) = text
            .split_once(':')
            .map_or((text, None), |(name, port)| (name, Some(port)));
        (host(name)?, port)
    };
    Ok(Authority {
        host,
        port: port.map(number).transpose()?.flatten(),
    })
}

fn host(name: &str) -> Result<HttpHost, Flaw> {
    let dotless = name.strip_suffix('.').unwrap_or(name);
    if let Ok(address) = dotless.parse::<Ipv4Addr>() {
        return Ok(HttpHost::Address(IpAddr::V4(address)));
    }
    DnsName::parse(name)
        .map(HttpHost::Name)
        .map_err(|_| bad("a host that is no host name"))
}

/// A port; an empty one is none (RFC 3986 §3.2.3).
fn number(port: &str) -> Result<Option<u16>, Flaw> {
    if port.is_empty() {
        return Ok(None);
    }
    let digits = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits
        .then(|| port.parse::<u16>().ok())
        .flatten()
        .filter(|number| *number > 0);
    number
        .map(Some)
        .ok_or(bad("a port that is no number from 1 to 65535"))
}
