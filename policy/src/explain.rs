//! What would happen, and why: the answer of `tidegate explain`, the runner API and the UI.
//!
//! Pure: from a rulebook and a target as people write it (`github.com`, `db.example:5432`,
//! `[2001:db8::1]:443`, `ntp.example:123/udp`) to an [`Explanation`].

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::endpoint::parse::{Role, parse_endpoint};
use crate::endpoint::{Host, Protocols, Transport};
use crate::judge::flow::{judge_bare_address, judge_name};
use crate::name::DnsName;
use crate::rulebook::Rulebook;
use crate::verdict::{Judgement, Mode, Verdict};

/// Whom a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    /// A host name.
    Name(DnsName),
    /// An address without a name.
    Address(IpAddr),
}

/// A target as written, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whom.
    pub party: Party,
    /// On which port; 443 where none is written.
    pub port: u16,
    /// TCP unless `/udp` is written.
    pub transport: Transport,
}

/// Text that is not one name or address with an optional port.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not a target: {why}; write NAME[:PORT][/PROTO]")]
pub struct TargetError {
    text: String,
    why: String,
}

impl Target {
    /// Reads a target: an endpoint without wildcards, ranges of ports or of addresses.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let wrong = |why: String| TargetError {
            text: text.to_owned(),
            why,
        };
        // Never-dial addresses are errors in a policy, and fair questions here.
        let (bare, port) = text
            .rsplit_once(':')
            .map_or((text, 443), |(host, port)| (host, port.parse().unwrap_or(443)));
        let address = text.parse().ok().map(|address| (address, 443)).or_else(|| {
            let inner = bare.trim_start_matches('[').trim_end_matches(']');
            inner.parse().ok().map(|address| (address, port))
        });
        if let Some((address, port)) = address.filter(|_| !text.contains('/')) {
            return Ok(Self {
                party: Party::Address(address),
                port,
                transport: Transport::Tcp,
            });
        }
        let (endpoint, _) = parse_endpoint(text, Role::Allowed).map_err(|error| wrong(error.to_string()))?;
        let transport = match endpoint.protocols {
            Protocols::Tcp | Protocols::Any => Transport::Tcp,
            Protocols::Udp => Transport::Udp,
        };
        if endpoint.ports.first != endpoint.ports.last {
            return Err(wrong("it names several ports".into()));
        }
        let party = match endpoint.host {
            Host::Name(pattern) => Party::Name(
                pattern
                    .as_exact()
                    .ok_or_else(|| wrong("it has a wildcard".into()))?,
            ),
            Host::Net(net) if net.prefix_len() == net.max_prefix_len() => Party::Address(net.addr()),
            Host::Net(_) => return Err(wrong("it is a range of addresses".into())),
        };
        Ok(Self {
            party,
            port: endpoint.ports.first,
            transport,
        })
    }
}

/// An answer, for people and for scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The target, canonical.
    pub target: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Mode of the policy.
    pub mode: Mode,
    /// The reason of a refusal.
    pub reason: Option<String>,
    /// That reason in a sentence.
    pub meaning: Option<String>,
    /// The deciding rule, as written.
    pub rule: Option<String>,
    /// Its line in the policy, where it has one.
    pub line: Option<u32>,
    /// Where the rule stands: policy, set, platform, host, global.
    pub rule_source: Option<String>,
    /// The allowed endpoint that came nearest.
    pub nearest: Option<String>,
    /// Name of the policy.
    pub policy: Option<String>,
    /// Its version.
    pub policy_version: Option<u32>,
    /// The scope that the policy comes from.
    pub scope: Option<String>,
}

/// Explains what `book` says of `target`, as for a connection whose address is the name's own.
pub fn explain(book: &Rulebook, target: &Target) -> Explanation {
    let judgement = match &target.party {
        Party::Name(name) => judge_name(book, name, target.port, target.transport),
        Party::Address(address) => judge_bare_address(book, *address, target.port, target.transport),
    };
    let host = match &target.party {
        Party::Name(name) => name.to_string(),
        Party::Address(IpAddr::V6(v6)) => format!("[{v6}]"),
        Party::Address(v4) => v4.to_string(),
    };
    let suffix = if target.transport == Transport::Udp {
        "/udp"
    } else {
        ""
    };
    explanation(book, format!("{host}:{}{suffix}", target.port), &judgement)
}

fn explanation(book: &Rulebook, target: String, judgement: &Judgement) -> Explanation {
    let refusal = judgement.refusal();
    let rule = judgement.rule();
    Explanation {
        target,
        verdict: judgement.verdict(),
        mode: book.mode(),
        reason: refusal.map(|refusal| refusal.reason.as_str().to_owned()),
        meaning: refusal.map(|refusal| refusal.reason.meaning().trim().to_owned()),
        rule: rule.map(|rule| rule.text().to_owned()),
        line: rule
            .map(crate::compile::rules::RuleRef::line)
            .filter(|line| *line > 0),
        rule_source: rule.map(|rule| rule.source().kind().to_owned()),
        nearest: refusal
            .and_then(|refusal| refusal.nearest.find())
            .map(|rule| rule.text().to_owned()),
        policy: book.policy().map(|(policy, _)| policy.meta.name.to_string()),
        policy_version: book.policy().map(|(policy, _)| policy.meta.version),
        scope: book.policy().map(|(_, scope)| scope.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn targets_are_read_as_people_write_them() {
        for (text, party, port, transport) in [
            ("github.com", "github.com", 443, Transport::Tcp),
            ("db.example:5432", "db.example", 5432, Transport::Tcp),
            ("ntp.example:123/udp", "ntp.example", 123, Transport::Udp),
            ("192.0.2.1", "192.0.2.1", 443, Transport::Tcp),
            ("169.254.169.254:80", "169.254.169.254", 80, Transport::Tcp),
            ("[2001:db8::1]:8443", "2001:db8::1", 8443, Transport::Tcp),
            ("2001:db8::1", "2001:db8::1", 443, Transport::Tcp),
        ] {
            let target = Target::parse(text).unwrap();
            let read = match target.party {
                Party::Name(name) => name.to_string(),
                Party::Address(address) => address.to_string(),
            };
            assert_eq!(
                (read.as_str(), target.port, target.transport),
                (party, port, transport),
                "{text}"
            );
        }
        for wrong in [
            "*.example.com",
            "10.0.0.0/8",
            "a.example:1-2",
            "https://x.example/",
            "",
        ] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }
}
