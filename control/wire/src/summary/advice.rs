//! What can be done about a refusal: the line that would allow it, or why none would.
//!
//! Owns sentences. It never advises a line that a policy would not accept.

use compact_str::{CompactString, format_compact};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;
use tidegate_policy::endpoint::parse::{Role, parse_endpoint};
use tidegate_policy::event::Kind;
use tidegate_policy::verdict::Reason;

/// The port of a lookup's advice: what most clients want next, and what an endpoint without a port means.
const USUAL_PORT: u16 = 443;

/// The reason that is spelled like this.
pub fn reason(text: &str) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|reason| reason.as_str() == text)
}

/// The kind of traffic that is spelled like this.
pub fn kind(text: &str) -> Option<Kind> {
    let text: StrDeserializer<'_, serde::de::value::Error> = text.into_deserializer();
    Kind::deserialize(text).ok()
}

/// The line of `allowed-endpoints` that would allow the destination, where the lack of one is the reason. It holds
/// letters, digits and `.-_:[]/` only, and a policy accepts it.
pub fn allow_line(reason: Reason, endpoint: &str, port: u16, kind: Kind) -> Option<CompactString> {
    let lacking = matches!(reason, Reason::NotAllowed | Reason::NoName | Reason::Silent);
    if !lacking || endpoint.is_empty() {
        return None;
    }
    let host = match endpoint.parse::<std::net::Ipv6Addr>() {
        Ok(v6) => format_compact!("[{v6}]"),
        Err(_) => service_owner(endpoint).into(),
    };
    let line = match (kind, port) {
        (Kind::Dns, _) | (_, 0) => format_compact!("{host}:{USUAL_PORT}"),
        (Kind::Udp, port) => format_compact!("{host}:{port}/udp"),
        (_, port) => format_compact!("{host}:{port}"),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]/".contains(c);
    let accepted = line.chars().all(plain) && parse_endpoint(&line, Role::Allowed).is_ok();
    accepted.then_some(line)
}

/// Labels with a leading underscore belong to a service's record, and follow the name behind them.
fn service_owner(mut name: &str) -> &str {
    while let Some((label, rest)) = name.split_once('.') {
        if !label.starts_with('_') {
            break;
        }
        name = rest;
    }
    name
}

/// The reason in a few words, for lists; its sentence is [`Reason::meaning`].
pub const fn phrase(reason: Reason) -> &'static str {
    match reason {
        Reason::GlobalBlock => "on the global block list",
        Reason::NeverDial => "address is never dialed",
        Reason::Denied => "denied by the policy",
        Reason::NotAllowed => "not allowed",
        Reason::SearchSuffix => "search suffix of a resolver",
        Reason::PolicyUnknown => "policy not known yet",
        Reason::NoPolicy => "no lease, no policy",
        Reason::Quarantined => "its job has ended",
        Reason::UnboundSource => "address of no lease",
        Reason::SpoofedSource => "another machine's address",
        Reason::Unticketed => "address was not looked up",
        Reason::NoName => "nothing names it",
        Reason::Ech => "name is hidden (ECH)",
        Reason::SecondHello => "second hello, other name",
        Reason::MalformedTls => "malformed TLS",
        Reason::MalformedHttp => "malformed HTTP",
        Reason::MalformedQuic => "malformed QUIC",
        Reason::MalformedDns => "malformed DNS",
        Reason::DetectTimeout => "did not say what it is",
        Reason::Silent => "client said nothing",
        Reason::UnknownProtocol => "neither TLS nor HTTP",
        Reason::Quic => "QUIC; TCP is for it",
        Reason::ProxyRequest => "request to a proxy",
        Reason::Icmp => "ICMP not allowed",
        Reason::IpProtocol => "IP protocol not forwarded",
        Reason::Rebinding => "public name, private address",
        Reason::RecordType => "record type not forwarded",
        Reason::DnsBudget => "too many lookups",
        Reason::ResolveFailed => "does not resolve",
        Reason::LeaseChanged => "lease changed meanwhile",
        Reason::PolicyChanged => "policy changed meanwhile",
        Reason::Limit => "limit of the gateway",
    }
}

/// What else there is to say to somebody who met this refusal; a sentence.
pub const fn advice(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::NotAllowed | Reason::NoName | Reason::Silent | Reason::SearchSuffix => None,
        Reason::GlobalBlock => Some(
            "No policy can allow it: the global block list holds for every job; ask those who run the gateway.",
        ),
        Reason::NeverDial => Some("No policy can allow it."),
        Reason::Denied => Some(
            "It is refused even where it is allowed: take the rule out of denied-endpoints to change that.",
        ),
        Reason::PolicyUnknown => Some(
            "The gateway has not heard this job's policy yet; its operators see why in `tidegate status`.",
        ),
        Reason::NoPolicy => Some(
            "Register the job (`tidegate hook job-started`), and attach a policy to its workflow, repository or organization.",
        ),
        Reason::Quarantined => Some(
            "The job at this address has ended; the next one needs a fresh machine or its provisioner's word.",
        ),
        Reason::UnboundSource | Reason::SpoofedSource => {
            Some("The machine's addresses and its lease don't fit together; `tidegate status` names them.")
        }
        Reason::Unticketed => {
            Some("Let the job ask the gateway's resolver for the name, or allow the address itself.")
        }
        Reason::Ech => Some("Let the client turn Encrypted Client Hello off."),
        Reason::Quic => Some("Nothing is lost: clients go on with TCP."),
        Reason::ProxyRequest => {
            Some("Allow the proxy itself, by its name or its address, and what is asked of it.")
        }
        Reason::Icmp => Some("A policy with `icmp: true` permits echo to addresses that the job may reach."),
        Reason::Rebinding => {
            Some("If the name really lies inside, the gateway's `dns.internal-domains` must list it.")
        }
        Reason::ResolveFailed => Some("The name itself is allowed: try again, or see whether it exists."),
        Reason::DnsBudget | Reason::Limit => Some("Do less at once, or ask those who run the gateway."),
        Reason::SecondHello
        | Reason::MalformedTls
        | Reason::MalformedHttp
        | Reason::MalformedQuic
        | Reason::MalformedDns
        | Reason::DetectTimeout
        | Reason::UnknownProtocol
        | Reason::IpProtocol
        | Reason::RecordType
        | Reason::LeaseChanged
        | Reason::PolicyChanged => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_events_spell_them() {
        assert_eq!((kind("tls"), kind("icmp")), (Some(Kind::Tls), Some(Kind::Icmp)));
        assert_eq!((kind("TLS"), kind("")), (None, None));
    }

    #[test]
    fn every_reason_has_words_of_its_own_that_fit_a_column() {
        let mut seen = Vec::new();
        for known in Reason::ALL {
            let words = phrase(*known);
            assert!(words.len() <= 28, "{words}");
            assert!(!seen.contains(&words), "{words}");
            seen.push(words);
        }
    }
}
