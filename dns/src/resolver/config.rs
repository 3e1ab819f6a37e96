//! What the resolver is told: upstreams as people write them, zones, bounds. Never opens a socket.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use tidegate_policy::DnsName;

/// How an upstream is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamTransport {
    /// UDP, and TCP for what does not fit (RFC 7766).
    Udp,
    /// TCP only.
    Tcp,
    /// DNS over TLS (RFC 7858); the certificate must be for this name or address.
    Tls {
        /// Name in the certificate.
        server: ServerName<'static>,
    },
    /// DNS over HTTPS (RFC 8484), HTTP/2.
    Https {
        /// Name in the certificate and in `:authority`.
        server: Arc<str>,
        /// Path of the endpoint.
        path: Arc<str>,
    },
}

/// One upstream, read from its spelling in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSpec {
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub transport: UpstreamTransport,
    /// As written; also the metric label.
    pub text: Arc<str>,
}

/// An upstream that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "upstream {text:?}: {what}; expected an address such as 10.0.0.2, 10.0.0.2:5353, tls://9.9.9.9#dns.quad9.net or https://1.1.1.1/dns-query"
)]
pub struct UpstreamSyntaxError {
    text: String,
    what: &'static str,
}

impl FromStr for UpstreamSpec {
    type Err = UpstreamSyntaxError;

    fn from_str(text: &str) -> Result<Self, UpstreamSyntaxError> {
        let wrong = |what| UpstreamSyntaxError {
            text: text.to_owned(),
            what,
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("udp", text));
        let (rest, host) = match rest.split_once('#') {
            Some((rest, host)) => (rest, Some(host)),
            None => (rest, None),
        };
        let (place, path) = match rest.find('/') {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, ""),
        };
        if scheme != "https" && !path.is_empty() {
            return Err(wrong("a path belongs to https only"));
        }
        let port = match scheme {
            "udp" | "tcp" => 53,
            "tls" => 853,
            "https" => 443,
            _ => return Err(wrong("the scheme is none of udp, tcp, tls, https")),
        };
        let address = socket_address(place, port).ok_or_else(|| wrong("no IP address and port"))?;
        let written = host.map_or_else(|| address.ip().to_string(), str::to_owned);
        let server = ServerName::try_from(written.clone()).map_err(|_| wrong("no host name after #"))?;
        let transport = match scheme {
            "tls" => UpstreamTransport::Tls { server },
            "https" => {
                let path = if path.is_empty() { "/dns-query" } else { path };
                UpstreamTransport::Https {
                    server: written.into(),
                    path: path.into(),
                }
            }
            _ if host.is_some() => return Err(wrong("a host name belongs to tls and https only")),
            "tcp" => UpstreamTransport::Tcp,
            _ => UpstreamTransport::Udp,
        };
        Ok(Self {
            address,
            transport,
            text: text.into(),
        })
    }
}

fn socket_address(text: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() != 0).then_some(address);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse::<IpAddr>()
        .ok()
        .map(|address| SocketAddr::new(address, port))
}

impl fmt::Display for UpstreamSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// How long things may take, and how long they live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// One try at one upstream.
    pub per_try: Duration,
    /// Silence after which the next upstream is asked beside the first.
    pub hedge: Duration,
    /// Everything for one question; below the five seconds that stub resolvers wait.
    pub total: Duration,
    /// Silence after which a stale answer is given (RFC 8767 §5: the client response timer, 1.8 s).
    pub stale_after: Duration,
    /// How long past its end an answer may be served stale (RFC 8767 §5 suggests one to three days).
    pub max_stale: Duration,
    /// How long a failure is remembered (RFC 9520 §3.2: one second to five minutes).
    pub failure: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            per_try: Duration::from_secs(2),
            hedge: Duration::from_millis(700),
            total: Duration::from_millis(4_500),
            stale_after: Duration::from_millis(1_800),
            max_stale: Duration::from_hours(24),
            failure: Duration::from_secs(5),
        }
    }
}

/// Everything the resolver is told.
#[derive(Clone, Debug, Default)]
pub struct ResolverConfig {
    /// Asked in this order, as long as they are healthy.
    pub upstreams: Vec<UpstreamSpec>,
    /// Names at and below a zone are asked there instead; the longest zone wins.
    pub forward: Vec<(DnsName, Vec<UpstreamSpec>)>,
    /// Trusted for TLS and HTTPS upstreams, besides the system's roots.
    pub roots: Vec<CertificateDer<'static>>,
    /// Times and lives.
    pub timing: Timing,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn spec(text: &str) -> UpstreamSpec {
        text.parse().unwrap()
    }

    #[test]
    fn every_spelling_of_the_interface_is_read() {
        assert_eq!(spec("10.0.0.2").address, "10.0.0.2:53".parse().unwrap());
        assert_eq!(spec("10.0.0.2:5353").address, "10.0.0.2:5353".parse().unwrap());
        assert_eq!(spec("2001:db8::1").address, "[2001:db8::1]:53".parse().unwrap());
        assert_eq!(
            spec("[2001:db8::1]:5353").address,
            "[2001:db8::1]:5353".parse().unwrap()
        );
        assert_eq!(spec("tcp://[2001:db8::1]").transport, UpstreamTransport::Tcp);
        let tls = spec("tls://9.9.9.9#dns.quad9.test");
        assert_eq!(tls.address, "9.9.9.9:853".parse().unwrap());
        assert_eq!(
            tls.transport,
            UpstreamTransport::Tls {
                server: "dns.quad9.test".try_into().unwrap()
            }
        );
        let https = spec("https://1.1.1.1/dns-query");
        assert_eq!(https.address, "1.1.1.1:443".parse().unwrap());
        assert_eq!(
            https.transport,
            UpstreamTransport::Https {
                server: "1.1.1.1".into(),
                path: "/dns-query".into()
            }
        );
        let https = spec("https://[2001:db8::1]:8443/q#doh.test");
        assert_eq!(https.address, "[2001:db8::1]:8443".parse().unwrap());
        assert_eq!(
            https.transport,
            UpstreamTransport::Https {
                server: "doh.test".into(),
                path: "/q".into()
            }
        );
    }

    #[test]
    fn wrong_spellings_say_what_is_wrong() {
        for (text, what) in [
            ("dns.test", "no IP address"),
            ("10.0.0.2:0", "no IP address"),
            ("quic://10.0.0.2", "scheme"),
            ("10.0.0.2#host.test", "host name belongs"),
            ("tls://10.0.0.2/path", "a path belongs"),
            ("tls://10.0.0.2#", "no host name"),
            ("", "no IP address"),
        ] {
            let error = text.parse::<UpstreamSpec>().unwrap_err().to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
