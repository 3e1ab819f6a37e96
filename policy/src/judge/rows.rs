//! The rows of "Name and address: what a flow needs" (policy-semantics.md): what block mode says of one
//! flow under one policy.
//!
//! Audit mode is not known here; [`super::flow`] asks what block would say and carries it out or not.

use std::net::IpAddr;

use super::answer::{global_name, judge_address};
use super::flow::{Evidence, Flow, MAX_CONFIRM, denied_address, own};
use super::permit::{ConfirmPermit, ResolvePermit};
use super::query::not_allowed;
use crate::compile::rules::RuleRef;
use crate::detection::{Authority, Detection, Ech, Hello, HttpHost, OpaqueReason, Prefix, Sni};
use crate::endpoint::Transport;
use crate::name::DnsName;
use crate::rulebook::{CompiledPolicy, Destination, Nearest, Rulebook};
use crate::special;
use crate::verdict::{Reason, Refusal};

/// Ports on which a client that speaks first must speak TLS or HTTP.
const WEB_PORTS: [u16; 3] = [80, 8000, 8080];

/// What block mode grants.
pub(super) struct Granted {
    /// By which rule.
    pub(super) rule: RuleRef,
    /// For flows that carry no name: the ticketed name that granted it.
    pub(super) name: Option<DnsName>,
    /// What may be dialled.
    pub(super) way: Way,
}

/// What a granted flow may dial.
pub(super) enum Way {
    /// Its own address.
    Dial,
    /// What its own name resolves to.
    Resolve(ResolvePermit),
    /// Its own address, if some exact name resolves to it; else this refusal.
    Confirm(ConfirmPermit, Refusal),
}

impl Granted {
    fn dial(rule: RuleRef) -> Self {
        Self {
            rule,
            name: None,
            way: Way::Dial,
        }
    }
}

/// Steps 3 to 6 of the order of decision for a flow; 1 and 2 are behind it.
pub(super) fn enforce(
    book: &Rulebook,
    flow: Flow,
    detection: &Detection,
    evidence: Evidence<'_>,
) -> Result<Granted, Refusal> {
    let policy = book.governed()?;
    if let Some(rule) = denied_address(book, flow) {
        return Err(Refusal::by(Reason::Denied, rule));
    }
    let case = Case {
        book,
        policy,
        flow,
        evidence,
    };
    match detection {
        Detection::Tls(hello) | Detection::Quic(hello) => case.hello(hello),
        Detection::Http(Authority { host, .. }) => match host {
            HttpHost::Name(name) => case.named(name, Ech::Absent),
            HttpHost::Address(address) => case.addressed(*address),
            HttpHost::Absent => case.unnamed(),
        },
        Detection::Opaque(reason) => case.opaque(*reason),
        Detection::Malformed { prefix, .. } => case.unreadable(malformed(*prefix)),
        Detection::Undecided { prefix } => case.undecided(*prefix),
    }
}

const fn malformed(prefix: Prefix) -> Reason {
    match prefix {
        Prefix::Nothing | Prefix::Tls => Reason::MalformedTls,
        Prefix::Http => Reason::MalformedHttp,
        Prefix::Quic => Reason::MalformedQuic,
    }
}

/// One flow under one policy.
#[derive(Clone, Copy)]
struct Case<'a> {
    book: &'a Rulebook,
    policy: &'a CompiledPolicy,
    flow: Flow,
    evidence: Evidence<'a>,
}

impl Case<'_> {
    fn hello(self, hello: &Hello) -> Result<Granted, Refusal> {
        match &hello.sni {
            Sni::Name(name) => self.named(name, hello.ech),
            Sni::Address(_) | Sni::Absent => {
                let hidden = self.hides(hello.ech, None);
                if let Some(granted) = self.by_address(hidden) {
                    return Ok(granted);
                }
                if hidden {
                    return Err(Refusal::because(Reason::Ech));
                }
                match &hello.sni {
                    Sni::Address(address) => self.addressed(*address),
                    Sni::Name(_) | Sni::Absent => self.unnamed(),
                }
            }
        }
    }

    /// A flow that names its destination.
    fn named(self, name: &DnsName, ech: Ech) -> Result<Granted, Refusal> {
        if let Some(rule) = self.book.denied_name(name, self.flow.port, self.flow.transport) {
            return Err(Refusal::by(Reason::Denied, rule));
        }
        let hidden = self.hides(ech, Some(name));
        if let Some(granted) = self.by_address(hidden) {
            return Ok(granted);
        }
        let rule = self
            .rule_for(name)
            .ok_or_else(|| not_allowed(self.policy, name))?;
        if hidden {
            return Err(Refusal::because(Reason::Ech));
        }
        if self.evidence.holds(name, self.flow.address) {
            return Ok(Granted::dial(rule));
        }
        match self.book.world.destination {
            Destination::Resolve => {
                let permit = ResolvePermit::new(name.clone(), self.flow, ech);
                Ok(Granted {
                    rule,
                    name: None,
                    way: Way::Resolve(permit),
                })
            }
            Destination::TicketOnly => Err(Refusal::by(Reason::Unticketed, rule)),
        }
    }

    /// A hello or request that names an address where a name belongs. It must not be a denied one, and
    /// stands for the flow's own address or for nothing.
    fn addressed(self, host: IpAddr) -> Result<Granted, Refusal> {
        let named = Flow {
            address: host,
            ..self.flow
        };
        if let Some(rule) = denied_address(self.book, named) {
            return Err(Refusal::by(Reason::Denied, rule));
        }
        if let Some(granted) = self.by_address(false) {
            return Ok(granted);
        }
        if special::canonical(host) == special::canonical(self.flow.address) {
            return self.unnamed();
        }
        Err(Refusal::because(Reason::NoName))
    }

    /// A flow that could have named its destination and did not: every name that the job holds for the
    /// address must be allowed.
    fn unnamed(self) -> Result<Granted, Refusal> {
        if let Some(granted) = self.by_address(false) {
            return Ok(granted);
        }
        let mut granting = None;
        for name in self.evidence.names_at(self.flow.address) {
            if let Some(rule) = global_name(self.book, &name) {
                return Err(Refusal::by(Reason::GlobalBlock, rule));
            }
            let Some(rule) = self.rule_unless_denied(&name) else {
                return Err(Refusal {
                    nearest: Nearest::among(self.policy.allowed(), &name),
                    ..NO_NAME
                });
            };
            granting.get_or_insert((rule, name));
        }
        let (rule, name) = granting.ok_or(NO_NAME)?;
        Ok(Granted {
            rule,
            name: Some(name),
            way: Way::Dial,
        })
    }

    /// A protocol without names: any ticketed name that is allowed on the port will do.
    fn opaque(self, reason: OpaqueReason) -> Result<Granted, Refusal> {
        if let Some(granted) = self.by_address(false) {
            return Ok(granted);
        }
        if reason == OpaqueReason::UnknownProtocol
            && self.flow.transport == Transport::Tcp
            && WEB_PORTS.contains(&self.flow.port)
        {
            return Err(Refusal::because(Reason::UnknownProtocol));
        }
        let grant = |name: &DnsName| {
            let rule = self.rule_unless_denied(name)?;
            Some(Granted {
                rule,
                name: Some(name.clone()),
                way: Way::Dial,
            })
        };
        // Mostly the newest one grants, and an address may have hundreds.
        let newest = self.evidence.newest_at(self.flow.address);
        let newest = newest.filter(|name| global_name(self.book, name).is_none());
        if let Some(granted) = newest.and_then(|name| grant(&name)) {
            return Ok(granted);
        }
        let names = self.evidence.names_at(self.flow.address);
        for name in names.iter().filter(|name| global_name(self.book, name).is_none()) {
            if let Some(granted) = grant(name) {
                return Ok(granted);
            }
        }
        self.confirm(
            names
                .first()
                .map_or(NO_NAME, |name| not_allowed(self.policy, name)),
        )
    }

    /// Exact names allowed on the port, to be resolved by the gateway itself. A name that may not have
    /// this address (rebinding) can't prove it either.
    fn confirm(self, refusal: Refusal) -> Result<Granted, Refusal> {
        let Flow {
            address,
            port,
            transport,
        } = self.flow;
        let candidates: Vec<(DnsName, RuleRef)> = self
            .book
            .permitting(self.policy)
            .flat_map(|list| list.exact_names(port, transport))
            .filter(|(name, _)| self.book.denied_name(name, port, transport).is_none())
            .filter(|(name, _)| global_name(self.book, name).is_none())
            .filter(|(name, _)| judge_address(self.book, name, &[], address).is_ok())
            .take(MAX_CONFIRM)
            .collect();
        match candidates.first().map(|(_, rule)| rule.clone()) {
            Some(rule) => {
                let permit = ConfirmPermit::new(candidates, own(self.flow));
                Ok(Granted {
                    rule,
                    name: None,
                    way: Way::Confirm(permit, refusal),
                })
            }
            None => Err(refusal),
        }
    }

    /// Waiting ended. Silence is judged by the opaque row: if that permits, the flow was dialled already.
    fn undecided(self, prefix: Prefix) -> Result<Granted, Refusal> {
        match prefix {
            Prefix::Nothing => self.by_address(false).ok_or(Refusal::because(Reason::Silent)),
            Prefix::Tls | Prefix::Http | Prefix::Quic => self.unreadable(Reason::DetectTimeout),
        }
    }

    /// Bytes that carry a name which can't be read.
    fn unreadable(self, reason: Reason) -> Result<Granted, Refusal> {
        self.by_address(true).ok_or(Refusal::because(reason))
    }

    /// The row "any flow to an address that an address endpoint covers … unless the name is denied". A
    /// flow that hides its name can't show that it is not a denied one, so a policy that denies names
    /// does not permit it by address.
    fn by_address(self, hidden: bool) -> Option<Granted> {
        if hidden && self.policy.denied().has_names() {
            return None;
        }
        let address = special::canonical(self.flow.address);
        self.book
            .permitting(self.policy)
            .find_map(|list| list.find_address(address, self.flow.port, self.flow.transport))
            .map(Granted::dial)
    }

    fn rule_for(self, name: &DnsName) -> Option<RuleRef> {
        self.book
            .permitting(self.policy)
            .find_map(|list| list.find_name(name, self.flow.port, self.flow.transport))
    }

    fn rule_unless_denied(self, name: &DnsName) -> Option<RuleRef> {
        match self.book.denied_name(name, self.flow.port, self.flow.transport) {
            Some(_) => None,
            None => self.rule_for(name),
        }
    }

    /// The ECH row: true when another name is hidden for certain, or the config id is a published one.
    fn hides(self, ech: Ech, name: Option<&DnsName>) -> bool {
        match ech {
            Ech::Absent => false,
            Ech::Esni => true,
            Ech::Outer { config_id } => {
                self.book
                    .world
                    .ech
                    .published(config_id, name, special::canonical(self.flow.address))
            }
        }
    }
}

const NO_NAME: Refusal = Refusal::because(Reason::NoName);
