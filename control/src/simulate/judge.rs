//! A recorded call, judged anew: the judgement that a gateway would come to, by its own code.
//!
//! Owns how a record becomes the question that it once was: a DNS query, a flow with what its first bytes said, an echo.
//! What the gateway refused on its own account (a limit, a name that did not resolve) it would again, unless the policy
//! refuses first; nobody knows.

use std::net::IpAddr;
use std::time::Duration;

use tidegate_policy::compile::rules::RuleRef;
use tidegate_policy::detection::{Authority, Detection, Ech, Hello, HttpHost, OpaqueReason, Prefix, Sni};
use tidegate_policy::endpoint::Transport;
use tidegate_policy::event::{Kind, NameSource};
use tidegate_policy::judge::flow::{
    Evidence, Flow, Route, judge_bare_address, judge_flow, judge_name, judge_ping,
};
use tidegate_policy::judge::query::{TypeClass, judge_query, rtype};
use tidegate_policy::rulebook::Rulebook;
use tidegate_policy::ticket::{Grant, TicketTable};
use tidegate_policy::verdict::{Judgement, Mode, Reason, Refusal, Verdict};
use tidegate_policy::{DnsName, Moment};

use super::call::{Call, Detail};
use super::candidate::Candidate;

/// The one moment of a simulation.
const NOW: Moment = Moment::from_millis(0);
const CONFIRM: &str =
    "the gateway would ask whether a name that the policy allows on this port has the address";
const QUIC: &str = "whether a gateway inspects QUIC or refuses it is its own configuration";
const POINTER: &str = "reverse lookups are answered from what a job holds at that moment";
const UNREADABLE: &str = "the recorded name can't be read as one";
const NEWER: &str = "the record gives a reason that this program does not know";
/// What every gateway with a runner API answers with its own address.
const OWN_NAME: &str = "tidegate.internal";
const NOWHERE: &str = "the record has neither a name nor an address";

/// What would be decided.
#[derive(Clone, Debug)]
pub enum Foreseen {
    /// This.
    Judged(Judgement),
    /// The record does not say enough, for this reason.
    Undecided(&'static str),
}

impl Foreseen {
    /// The verdict; none when it is not known.
    pub const fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Judged(judgement) => Some(judgement.verdict()),
            Self::Undecided(_) => None,
        }
    }

    /// The refusal, carried out or not.
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Judged(judgement) => judgement.refusal(),
            Self::Undecided(_) => None,
        }
    }

    /// The rule that would decide.
    pub fn rule(&self) -> Option<&RuleRef> {
        match self {
            Self::Judged(judgement) => judgement.rule(),
            Self::Undecided(_) => None,
        }
    }
}

/// Judges a call by the candidate. `owners` are names whose CNAME chain the asked name was seen in.
pub fn foresee(candidate: &Candidate, call: &Call, owners: &[DnsName]) -> Foreseen {
    if call.verdict != Verdict::Permit && call.reason.is_none() {
        return Foreseen::Undecided(NEWER);
    }
    match call.reason {
        // No policy changes them, audit neither.
        Some(reason @ (Reason::NeverDial | Reason::IpProtocol)) => {
            return Foreseen::Judged(Judgement::Refuse(Refusal::because(reason)));
        }
        Some(reason @ Reason::ProxyRequest) => return Foreseen::Undecided(reason.meaning()),
        Some(_) | None => {}
    }
    let book = if call.reason == Some(Reason::Unticketed) {
        &candidate.ticketed
    } else {
        &candidate.book
    };
    let foreseen = match call.kind {
        Kind::Dns => query(book, call, owners),
        Kind::Icmp => ping(book, call),
        Kind::Tls | Kind::Http | Kind::Quic | Kind::Tcp | Kind::Udp => flow(book, call),
        Kind::Ip => Foreseen::Judged(Judgement::Refuse(Refusal::because(Reason::IpProtocol))),
    };
    settled(candidate.mode(), call, foreseen)
}

/// What besides the policy decides.
fn settled(mode: Mode, call: &Call, foreseen: Foreseen) -> Foreseen {
    let by_host = call.detail.as_ref().is_some_and(|detail| detail.by_host);
    if let Some(refusal) = foreseen.refusal() {
        // The network's own list is asked after the policy's, and not known here: what it let through it lets through.
        let unmatched = matches!(
            refusal.reason,
            Reason::NotAllowed | Reason::NoName | Reason::SearchSuffix
        );
        return if by_host && unmatched {
            Foreseen::Judged(Judgement::Permit(None))
        } else {
            foreseen
        };
    }
    let blocks = mode == Mode::Block;
    let in_block = call
        .detail
        .as_ref()
        .is_some_and(|detail| detail.mode == Mode::Block);
    match call.reason.filter(|reason| is_gateways(*reason)) {
        Some(reason) => Foreseen::Undecided(reason.meaning()),
        None if call.kind == Kind::Quic && blocks && !(in_block && call.passed()) => {
            Foreseen::Undecided(QUIC)
        }
        None => foreseen,
    }
}

/// Reasons that lie with the gateway or the network at that moment, not with the policy.
const fn is_gateways(reason: Reason) -> bool {
    match reason {
        Reason::SecondHello
        | Reason::MalformedDns
        | Reason::ResolveFailed
        | Reason::Rebinding
        | Reason::DnsBudget
        | Reason::Limit
        | Reason::LeaseChanged
        | Reason::SpoofedSource
        | Reason::UnboundSource
        | Reason::Quarantined => true,
        Reason::GlobalBlock
        | Reason::NeverDial
        | Reason::Denied
        | Reason::NotAllowed
        | Reason::SearchSuffix
        | Reason::PolicyUnknown
        | Reason::NoPolicy
        | Reason::Unticketed
        | Reason::NoName
        | Reason::Ech
        | Reason::MalformedTls
        | Reason::MalformedHttp
        | Reason::MalformedQuic
        | Reason::DetectTimeout
        | Reason::Silent
        | Reason::UnknownProtocol
        | Reason::Quic
        | Reason::ProxyRequest
        | Reason::Icmp
        | Reason::IpProtocol
        | Reason::RecordType
        | Reason::PolicyChanged => false,
    }
}

fn query(book: &Rulebook, call: &Call, owners: &[DnsName]) -> Foreseen {
    let Some(name) = call.name() else {
        return Foreseen::Undecided(UNREADABLE);
    };
    let asked = call.detail.as_ref().and_then(|detail| detail.qtype.as_deref());
    let qtype = asked.map_or(rtype::A, type_number);
    if is_local(call, qtype) {
        return Foreseen::Judged(Judgement::Permit(None));
    }
    match TypeClass::of(qtype) {
        TypeClass::Pointer => return Foreseen::Undecided(POINTER),
        // Refused or answered without any policy.
        TypeClass::Meta if call.verdict == Verdict::Refuse => {
            let reason = call.reason.unwrap_or(Reason::RecordType);
            return Foreseen::Judged(Judgement::Refuse(Refusal::because(reason)));
        }
        TypeClass::Meta
        | TypeClass::Follows
        | TypeClass::Validation
        | TypeClass::Any
        | TypeClass::Unforwarded => {}
    }
    let tickets = TicketTable::default();
    let alone = judge_query(book, &name, qtype, &tickets, NOW).judgement;
    if alone.refusal().is_none() || owners.is_empty() {
        return Foreseen::Judged(alone);
    }
    let in_chain = |owner: &DnsName| {
        let tickets = TicketTable::default();
        let grant = Grant {
            asked: owner,
            chain: std::slice::from_ref(&name),
            addresses: &[],
            ttl: Duration::from_secs(1),
        };
        tickets.grant(&grant, Duration::from_secs(1), NOW);
        Some(judge_query(book, &name, qtype, &tickets, NOW).judgement)
            .filter(|judged| judged.refusal().is_none())
    };
    Foreseen::Judged(owners.iter().find_map(in_chain).unwrap_or(alone))
}

/// True for what a gateway answered by itself, and will under any policy: its configured hosts, its own name, `localhost`.
/// A policy lets questions through by a rule, but for those about the keys above what it allows. A sum by days has no rule:
/// of it only the gateway's own name is known.
fn is_local(call: &Call, qtype: u16) -> bool {
    match &call.detail {
        Some(detail) => detail.by_no_rule && TypeClass::of(qtype) != TypeClass::Validation,
        None => call.verdict == Verdict::Permit && call.endpoint == OWN_NAME,
    }
}

fn ping(book: &Rulebook, call: &Call) -> Foreseen {
    let Some(address) = call.address() else {
        return Foreseen::Undecided(NOWHERE);
    };
    let name = call.name();
    Foreseen::Judged(judge_ping(book, address, evidence(&TicketTable::default(), name.as_ref())).judgement)
}

fn flow(book: &Rulebook, call: &Call) -> Foreseen {
    let transport = match call.kind {
        Kind::Quic => Transport::Quic,
        Kind::Udp => Transport::Udp,
        Kind::Tls | Kind::Http | Kind::Tcp | Kind::Dns | Kind::Icmp | Kind::Ip => Transport::Tcp,
    };
    if call.named && call.name().is_none() {
        return Foreseen::Undecided(UNREADABLE);
    }
    match (&call.detail, call.name(), call.address()) {
        (Some(detail), name, Some(address)) => {
            to_address(book, call, (detail, name.as_ref()), (address, transport))
        }
        // A sum by days has the name only: the name's own address is meant.
        (_, Some(name), _) => unread(call, judge_name(book, &name, call.port, transport)),
        (_, None, Some(address)) => unread(call, judge_bare_address(book, address, call.port, transport)),
        (_, None, None) => Foreseen::Undecided(NOWHERE),
    }
}

/// What a sum by days says of a flow whose bytes were the trouble: more than its name decides.
fn unread(call: &Call, judgement: Judgement) -> Foreseen {
    let bytes = matches!(
        call.reason,
        Some(
            Reason::Ech
                | Reason::MalformedTls
                | Reason::MalformedHttp
                | Reason::MalformedQuic
                | Reason::DetectTimeout
                | Reason::UnknownProtocol
                | Reason::Unticketed
        )
    );
    match call.reason.filter(|_| bytes && judgement.refusal().is_none()) {
        Some(reason) => Foreseen::Undecided(reason.meaning()),
        None => Foreseen::Judged(judgement),
    }
}

/// The flow as it was: where the client wanted to go, and, where the gateway dialled another address, whether it may.
fn to_address(
    book: &Rulebook,
    call: &Call,
    (detail, name): (&Detail, Option<&DnsName>),
    (address, transport): (IpAddr, Transport),
) -> Foreseen {
    let tickets = TicketTable::default();
    let detection = detection(call, detail, name);
    let to = |address| Flow {
        transport,
        address,
        port: call.port,
    };
    let wanted = detail.original.unwrap_or(address);
    let given = name.filter(|_| wanted == address && call.reason != Some(Reason::Unticketed));
    let ruling = judge_flow(book, to(wanted), &detection, evidence(&tickets, given));
    match ruling.route {
        Route::Confirm { .. } => Foreseen::Undecided(CONFIRM),
        Route::Resolve(_) if wanted != address => {
            Foreseen::Judged(judge_flow(book, to(address), &detection, evidence(&tickets, name)).judgement)
        }
        Route::Closed | Route::Dial(_) | Route::Resolve(_) => Foreseen::Judged(ruling.judgement),
    }
}

fn evidence<'a>(tickets: &'a TicketTable, proven: Option<&'a DnsName>) -> Evidence<'a> {
    Evidence {
        tickets,
        proven,
        now: NOW,
    }
}

/// What the first bytes said, as far as the record tells.
fn detection(call: &Call, detail: &Detail, name: Option<&DnsName>) -> Detection {
    let malformed = |prefix| Detection::Malformed {
        prefix,
        what: "as recorded",
    };
    match call.reason {
        Some(Reason::MalformedTls) => return malformed(Prefix::Tls),
        Some(Reason::MalformedHttp) => return malformed(Prefix::Http),
        Some(Reason::MalformedQuic) => return malformed(Prefix::Quic),
        Some(Reason::DetectTimeout) => {
            return Detection::Undecided {
                prefix: match call.kind {
                    Kind::Http => Prefix::Http,
                    Kind::Quic => Prefix::Quic,
                    Kind::Tls | Kind::Tcp | Kind::Udp | Kind::Dns | Kind::Icmp | Kind::Ip => Prefix::Tls,
                },
            };
        }
        Some(_) | None => {}
    }
    let carried = name.filter(|_| matches!(detail.name_source, NameSource::Sni | NameSource::Host));
    let hello = || Hello {
        sni: carried.cloned().map_or(Sni::Absent, Sni::Name),
        ech: if call.reason == Some(Reason::Ech) {
            Ech::Esni
        } else {
            Ech::Absent
        },
    };
    match call.kind {
        Kind::Tls => Detection::Tls(hello()),
        Kind::Quic => Detection::Quic(hello()),
        Kind::Http => Detection::Http(Authority {
            host: carried.cloned().map_or(HttpHost::Absent, HttpHost::Name),
            port: None,
        }),
        Kind::Tcp if call.reason != Some(Reason::UnknownProtocol) => {
            Detection::Opaque(OpaqueReason::ServerFirst)
        }
        Kind::Tcp | Kind::Udp | Kind::Dns | Kind::Icmp | Kind::Ip => {
            Detection::Opaque(OpaqueReason::UnknownProtocol)
        }
    }
}

/// A type by its mnemonic, or `TYPEn`; one that decisions don't tell apart is 0xffff.
fn type_number(mnemonic: &str) -> u16 {
    use rtype::{
        A, AAAA, ANY, CAA, CNAME, DNAME, DNSKEY, DS, HTTPS, MX, NAPTR, NS, PTR, SOA, SRV, SSHFP, SVCB, TLSA,
        TXT, URI,
    };
    const IXFR: u16 = 251;
    const AXFR: u16 = 252;
    match mnemonic {
        "A" => A,
        "AAAA" => AAAA,
        "HTTPS" => HTTPS,
        "SVCB" => SVCB,
        "CNAME" => CNAME,
        "DNAME" => DNAME,
        "SRV" => SRV,
        "MX" => MX,
        "TXT" => TXT,
        "CAA" => CAA,
        "NS" => NS,
        "SOA" => SOA,
        "DS" => DS,
        "DNSKEY" => DNSKEY,
        "TLSA" => TLSA,
        "SSHFP" => SSHFP,
        "NAPTR" => NAPTR,
        "URI" => URI,
        "PTR" => PTR,
        "ANY" => ANY,
        "IXFR" => IXFR,
        "AXFR" => AXFR,
        other => other
            .strip_prefix("TYPE")
            .and_then(|number| number.parse().ok())
            .unwrap_or(u16::MAX),
    }
}
