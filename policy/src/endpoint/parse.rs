//! The endpoint grammar: `host[:ports][/proto]`, read from one token.
//!
//! [`parse_endpoint`] is the only way from text to an [`Endpoint`]: policies, endpoint sets, the
//! platform pack, `tidegate explain` and host lists all come through here. It never guesses: what it
//! does not understand is an error with the offending bytes, never a silent port or a dropped entry.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::problem::{EndpointError, Notice, NoticeKind, Problem};
use super::{Endpoint, Host, Ports, Protocols, pattern};
use crate::special;

/// The port of an allowed endpoint that names none.
pub const DEFAULT_PORT: u16 = 443;

/// Which list an endpoint stands in; the defaults differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// No port means 443, no protocol means TCP (and judged QUIC).
    Allowed,
    /// No port means every port, no protocol means every protocol.
    Denied,
}

/// Reads one endpoint. Spans of errors and notices are byte ranges of `text`, always on character
/// boundaries and inside of it.
pub fn parse_endpoint(text: &str, role: Role) -> Result<(Endpoint, Vec<Notice>), EndpointError> {
    Grammar {
        text,
        role,
        notices: Vec::new(),
    }
    .endpoint()
}

/// A reader of one token.
struct Grammar<'a> {
    text: &'a str,
    role: Role,
    notices: Vec<Notice>,
}

impl Grammar<'_> {
    fn endpoint(mut self) -> Result<(Endpoint, Vec<Notice>), EndpointError> {
        self.refuse_whole()?;
        let (host, rest) = match self.text.as_bytes().first() {
            Some(b'[') => self.bracketed()?,
            _ => self.unbracketed()?,
        };
        let (ports, protocols) = self.ports_and_protocol(rest)?;
        Ok((
            Endpoint {
                host,
                ports,
                protocols,
            },
            self.notices,
        ))
    }

    fn slice(&self, span: Range<usize>) -> &str {
        self.text.get(span).unwrap_or_default()
    }

    fn whole(&self) -> Range<usize> {
        0..self.text.len()
    }

    /// Spellings of something else altogether, recognised so that the hint can be exact.
    fn refuse_whole(&self) -> Result<(), EndpointError> {
        if self.text.is_empty() {
            return Err(EndpointError::new(Problem::Empty, self.whole()));
        }
        if let Some((scheme, rest)) = self.text.split_once("://") {
            return Err(self.url(scheme, rest));
        }
        if let Some(at) = self.text.find("${{") {
            let hint = "GitHub expressions are not evaluated here: write the endpoint itself";
            return Err(EndpointError::new(Problem::BadCharacter('$'), at..self.text.len()).with_hint(hint));
        }
        Ok(())
    }

    fn url(&self, scheme: &str, rest: &str) -> EndpointError {
        let error = EndpointError::new(Problem::Url, self.whole());
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let port = if scheme.eq_ignore_ascii_case("http") && !host.ends_with(|c: char| c.is_ascii_digit()) {
            ":80"
        } else {
            ""
        };
        let meant = format!("{host}{port}");
        match parse_endpoint(&meant, self.role) {
            Ok(_) => error.with_hint(format!("write `{meant}`")),
            Err(_) => error,
        }
    }

    /// `[v6]`, `[v6/len]`; returns the host and where the rest begins.
    fn bracketed(&mut self) -> Result<(Host, usize), EndpointError> {
        let Some(close) = self.text.find(']') else {
            return Err(EndpointError::new(Problem::Bracket, self.whole()));
        };
        let inner = 1..close;
        let (address, length) = match self.slice(inner.clone()).find('/') {
            Some(slash) => (1..1 + slash, Some(1 + slash + 1..close)),
            None => (inner, None),
        };
        let written = self.slice(address.clone());
        let Ok(v6) = written.parse::<Ipv6Addr>() else {
            let error = EndpointError::new(
                Problem::NotAnAddress {
                    v6: true,
                    text: written.into(),
                },
                address.clone(),
            );
            return Err(match written.parse::<Ipv4Addr>() {
                Ok(_) => error.with_hint("brackets are for IPv6 only"),
                Err(_) => error,
            });
        };
        let rest = close + 1;
        if self.slice(rest..self.text.len()).starts_with('/') && length.is_none() {
            let tail = self.slice(rest + 1..self.text.len());
            let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
            if digits > 0 {
                let span = rest..rest + 1 + digits;
                let hint = format!(
                    "write the prefix length inside of the brackets: [{written}/{}]",
                    &tail[..digits]
                );
                return Err(EndpointError::new(Problem::PrefixOutside, span).with_hint(hint));
            }
        }
        let prefix = self.prefix_length(length, 128)?;
        let net = Ipv6Net::new(v6, prefix).map(IpNet::V6);
        let host = self.net(net.unwrap_or(IpNet::from(IpAddr::V6(v6))), 0..rest)?;
        Ok((host, rest))
    }

    /// A name, a name pattern, an IPv4 address or an IPv4 range.
    fn unbracketed(&mut self) -> Result<(Host, usize), EndpointError> {
        let end = self.text.find([':', '/']).unwrap_or(self.text.len());
        let written = self.slice(0..end);
        if let Some(error) = self.bare_v6() {
            return Err(error);
        }
        if written.is_empty() {
            let hint = "an endpoint begins with a name, an address or `*`";
            return Err(EndpointError::new(Problem::NoHost, 0..self.text.len()).with_hint(hint));
        }
        match pattern::classify(written, 0..end)? {
            pattern::Classified::Address(v4) => self.v4(v4, end),
            pattern::Classified::Name(name) => {
                let notice =
                    pattern::breadth(&name, self.role).map(|(kind, hint)| Notice::new(kind, 0..end, hint));
                self.notices.extend(notice);
                Ok((Host::Name(name), end))
            }
        }
    }

    fn v4(&mut self, address: Ipv4Addr, end: usize) -> Result<(Host, usize), EndpointError> {
        let tail = self.slice(end..self.text.len());
        let after = tail
            .strip_prefix('/')
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let Some(after) = after else {
            let host = self.net(IpNet::from(IpAddr::V4(address)), 0..end)?;
            return Ok((host, end));
        };
        let stop = end + 1 + after.find([':', '/']).unwrap_or(after.len());
        let prefix = self.prefix_length(Some(end + 1..stop), 32)?;
        let net = Ipv4Net::new(address, prefix).map(IpNet::V4);
        let host = self.net(net.unwrap_or(IpNet::from(IpAddr::V4(address))), 0..stop)?;
        Ok((host, stop))
    }

    /// An IPv6 address without brackets: where it ends and a port begins can't be told.
    fn bare_v6(&self) -> Option<EndpointError> {
        let upto = self.text.find('/').unwrap_or(self.text.len());
        let written = self.slice(0..upto);
        let colons = written.bytes().filter(|b| *b == b':').count();
        let looks = written
            .bytes()
            .all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
        if colons < 2 || !looks {
            return None;
        }
        let digits = self
            .slice(upto..self.text.len())
            .strip_prefix('/')
            .unwrap_or_default();
        let length: String = digits.chars().take_while(char::is_ascii_digit).collect();
        let inside = if length.is_empty() {
            written.to_owned()
        } else {
            format!("{written}/{length}")
        };
        let hint = format!("write `[{inside}]`, and the port after the brackets");
        Some(EndpointError::new(Problem::BareV6, 0..upto).with_hint(hint))
    }

    fn prefix_length(&self, span: Option<Range<usize>>, longest: u8) -> Result<u8, EndpointError> {
        let Some(span) = span else { return Ok(longest) };
        let written = self.slice(span.clone());
        number(written)
            .and_then(|length| u8::try_from(length).ok())
            .filter(|length| *length <= longest)
            .ok_or_else(|| {
                EndpointError::new(
                    Problem::PrefixLength {
                        longest,
                        text: written.into(),
                    },
                    span,
                )
            })
    }

    /// Masks host bits, unwraps v4-mapped ranges, and refuses what the gateway never dials.
    fn net(&mut self, written: IpNet, span: Range<usize>) -> Result<Host, EndpointError> {
        let mut net = written.trunc();
        if net.addr() != written.addr() {
            let kind = NoticeKind::HostBits { written, means: net };
            self.notices.push(Notice::new(kind, span.clone(), None));
        }
        if let IpNet::V6(v6) = net
            && let (Some(v4), Some(prefix)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96))
            && let Ok(means) = Ipv4Net::new(v4, prefix)
        {
            net = IpNet::V4(means);
            self.notices
                .push(Notice::new(NoticeKind::Mapped { means: net }, span.clone(), None));
        }
        if special::is_never_dial_net(net) {
            match self.role {
                Role::Allowed => return Err(EndpointError::new(Problem::NeverDial(net), span)),
                Role::Denied => {
                    let kind = NoticeKind::NeverDialDenied(net);
                    self.notices.push(Notice::new(kind, span.clone(), None));
                }
            }
        }
        if net.prefix_len() == 0 && self.role == Role::Allowed {
            self.notices
                .push(Notice::new(NoticeKind::EveryAddress(net), span, None));
        }
        Ok(Host::Net(net))
    }

    /// `[:ports][/proto]` from `at` to the end.
    fn ports_and_protocol(&self, at: usize) -> Result<(Ports, Protocols), EndpointError> {
        let rest = self.slice(at..self.text.len());
        let (ports, proto_at) = match rest.as_bytes().first() {
            None => (None, self.text.len()),
            Some(b'/') => (None, at),
            Some(b':') => {
                let end = at + rest.find('/').unwrap_or(rest.len());
                (Some(self.ports(at + 1..end)?), end)
            }
            Some(_) => {
                let span = at..self.text.len();
                return Err(EndpointError::new(Problem::AfterHost(rest.into()), span));
            }
        };
        let protocols = self.protocol(proto_at)?;
        let (default_ports, default_protocols) = match self.role {
            Role::Allowed => (Ports::one(DEFAULT_PORT), Protocols::Tcp),
            Role::Denied => (Ports::ALL, Protocols::Any),
        };
        Ok((
            ports.unwrap_or(default_ports),
            protocols.unwrap_or(default_protocols),
        ))
    }

    /// `443`, `8000-8100`, `*`.
    fn ports(&self, span: Range<usize>) -> Result<Ports, EndpointError> {
        let written = self.slice(span.clone());
        if written == "*" {
            return Ok(Ports::ALL);
        }
        let Some(dash) = written.find('-') else {
            return self.port(span).map(Ports::one);
        };
        let first = self.port(span.start..span.start + dash)?;
        let last = self.port(span.start + dash + 1..span.end)?;
        if last < first {
            let hint = format!("write `{last}-{first}`");
            return Err(EndpointError::new(Problem::PortOrder { first, last }, span).with_hint(hint));
        }
        Ok(Ports { first, last })
    }

    fn port(&self, span: Range<usize>) -> Result<u16, EndpointError> {
        let written = self.slice(span.clone());
        let port = number(written)
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0);
        port.ok_or_else(|| {
            // Nothing to underline for an empty port: point at the colon or dash before it.
            let span = if span.is_empty() {
                span.start.saturating_sub(1)..span.end
            } else {
                span
            };
            EndpointError::new(Problem::Port(written.into()), span)
        })
    }

    fn protocol(&self, at: usize) -> Result<Option<Protocols>, EndpointError> {
        let Some(written) = self.slice(at..self.text.len()).strip_prefix('/') else {
            return Ok(None);
        };
        if written.eq_ignore_ascii_case("tcp") {
            return Ok(Some(Protocols::Tcp));
        }
        if written.eq_ignore_ascii_case("udp") {
            return Ok(Some(Protocols::Udp));
        }
        let error = EndpointError::new(Problem::Protocol(written.into()), at..self.text.len());
        Err(if written.eq_ignore_ascii_case("quic") {
            error.with_hint("`host:443` covers QUIC on the same port")
        } else if written.eq_ignore_ascii_case("icmp") {
            error.with_hint("echo requests are permitted by `icmp: true`")
        } else {
            error.with_hint("endpoints name hosts and ports, not paths")
        })
    }
}

/// A decimal number of one to five digits without sign or leading zeros.
fn number(text: &str) -> Option<u32> {
    let plain = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    if plain && !leading_zero {
        text.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
