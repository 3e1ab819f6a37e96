//! Judging a flow: by its address at once, by what its first bytes say when they are read.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::answer::{global_address, global_name};
use super::permit::{ConfirmPermit, DialPermit, ResolvePermit};
use super::query::not_allowed;
use crate::Moment;
use crate::compile::rules::RuleRef;
use crate::detection::{Authority, Detection, Ech, Hello, HttpHost, OpaqueReason, Prefix, Sni};
use crate::endpoint::Transport;
use crate::event::NameSource;
use crate::name::DnsName;
use crate::rulebook::{CompiledPolicy, Destination, Rulebook};
use crate::special;
use crate::ticket::TicketTable;
use crate::verdict::{Judgement, Mode, Reason, Refusal};

/// Exact names that the gateway resolves at most to confirm one unticketed address.
pub const MAX_CONFIRM: usize = 8;

/// Ports on which a client that speaks first must speak TLS or HTTP.
const WEB_PORTS: [u16; 3] = [80, 8000, 8080];

/// Where a flow goes, as the client chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Transport.
    pub transport: Transport,
    /// Destination address.
    pub address: IpAddr,
    /// Destination port.
    pub port: u16,
}

/// What to do with a judged flow.
#[derive(Clone, Debug)]
pub enum Route {
    /// Refused: explain and close.
    Closed,
    /// Dial the flow's own address.
    Dial(DialPermit),
    /// Resolve the flow's own name and dial what that gives.
    Resolve(ResolvePermit),
    /// Resolve some exact names; dial the flow's own address if one has it, else do what `otherwise` says.
    Confirm {
        /// What may be resolved, and the dial that it may prove.
        permit: ConfirmPermit,
        /// The ruling when no name has the address: refused in block, let through in audit.
        otherwise: Box<FlowRuling>,
    },
}

/// A judged flow.
#[derive(Clone, Debug)]
pub struct FlowRuling {
    /// For the event.
    pub judgement: Judgement,
    /// The name that was judged.
    pub name: Option<DnsName>,
    /// Where the name comes from.
    pub name_source: NameSource,
    /// What to do.
    pub route: Route,
}

/// What a flow is judged with besides the rulebook.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The subject's tickets.
    pub tickets: &'a TicketTable,
    /// The name for which the flow's address was proven when the flow was admitted: re-judging an open
    /// flow counts it like a live ticket. `None` for a new flow.
    pub proven: Option<&'a DnsName>,
    /// The moment of the decision.
    pub now: Moment,
}

impl Evidence<'_> {
    fn holds(self, name: &DnsName, address: IpAddr) -> bool {
        self.proven == Some(name) || self.tickets.holds(name, address, self.now)
    }

    /// The names that the job holds for an address, newest first.
    fn names_at(self, address: IpAddr) -> SmallVec<[DnsName; 4]> {
        let mut names = self.tickets.names_at(address, self.now);
        if let Some(proven) = self.proven
            && !names.contains(proven)
        {
            names.push(proven.clone());
        }
        names
    }
}

/// Step 1 to 3 of the order of decision for an address, as far as they hold in every mode: never-dial
/// and the global block list.
pub fn judge_arrival(book: &Rulebook, flow: Flow) -> Result<(), Refusal> {
    if book.world.never_dial.contains(flow.address) {
        return Err(Refusal::because(Reason::NeverDial));
    }
    match global_address(book, flow.address) {
        Some(rule) => Err(Refusal::by(Reason::GlobalBlock, rule)),
        None => Ok(()),
    }
}

/// The check of the address actually dialled: steps 1 to 3.
pub(super) fn check_dial(book: &Rulebook, address: IpAddr, port: u16) -> Result<(), Refusal> {
    let flow = Flow { transport: Transport::Tcp, address, port };
    judge_arrival(book, flow)?;
    match denied_address(book, flow) {
        Some(rule) if book.mode() == Mode::Block => Err(Refusal::by(Reason::Denied, rule)),
        _ => Ok(()),
    }
}

/// Judges a flow by what was detected.
pub fn judge_flow(book: &Rulebook, flow: Flow, detection: &Detection, evidence: Evidence<'_>) -> FlowRuling {
    let (name, name_source) = named(flow, detection, evidence);
    let ruling = |judgement, route| FlowRuling { judgement, name: name.clone(), name_source, route };
    // What is refused in audit too.
    if let Err(refusal) = judge_arrival(book, flow) {
        return ruling(Judgement::Refuse(refusal), Route::Closed);
    }
    if let Some(rule) = name.as_ref().and_then(|name| global_name(book, name)) {
        return ruling(Judgement::Refuse(Refusal::by(Reason::GlobalBlock, rule)), Route::Closed);
    }
    let wanted = enforce(book, flow, detection, evidence);
    match (book.mode(), wanted) {
        (Mode::Block, Ok(granted)) => match granted {
            Granted::Dial(rule) => ruling(Judgement::Permit(Some(rule)), Route::Dial(own(flow))),
            Granted::Resolve(rule, permit) => ruling(Judgement::Permit(Some(rule)), Route::Resolve(permit)),
            Granted::Confirm(rule, permit, refusal) => {
                let otherwise = Box::new(ruling(Judgement::Refuse(refusal), Route::Closed));
                ruling(Judgement::Permit(Some(rule)), Route::Confirm { permit, otherwise })
            }
        },
        (Mode::Block, Err(refusal)) => ruling(Judgement::Refuse(refusal), Route::Closed),
        // Audit is inert: always the address that the client chose.
        (Mode::Audit, Ok(Granted::Confirm(rule, permit, refusal))) => {
            let otherwise = Box::new(ruling(Judgement::WouldRefuse(refusal), Route::Dial(own(flow))));
            ruling(Judgement::Permit(Some(rule)), Route::Confirm { permit, otherwise })
        }
        (Mode::Audit, Ok(Granted::Dial(rule) | Granted::Resolve(rule, _))) => {
            ruling(Judgement::Permit(Some(rule)), Route::Dial(own(flow)))
        }
        (Mode::Audit, Err(refusal)) => ruling(Judgement::WouldRefuse(refusal), Route::Dial(own(flow))),
    }
}

/// Whether echo requests to `address` are answered: `icmp: true`, and the address is ticketed for some
/// name or covered by an address endpoint.
pub fn judge_ping(book: &Rulebook, address: IpAddr, evidence: Evidence<'_>) -> FlowRuling {
    let flow = Flow { transport: Transport::Udp, address, port: 0 };
    let name = evidence.names_at(address).first().cloned();
    let name_source = if name.is_some() { NameSource::Ticket } else { NameSource::None };
    let ruling = |judgement, route| FlowRuling { judgement, name: name.clone(), name_source, route };
    let wanted = judge_arrival(book, flow).and_then(|()| ping_rule(book, address, name.as_ref()));
    match wanted {
        Ok(rule) => ruling(Judgement::Permit(rule), Route::Dial(own(flow))),
        // None is ever forwarded, and the gateway's own echo is no byte of the job's: refused in audit
        // like in block would change what worked, so audit lets it through unless it is absolute.
        Err(refusal) if book.mode() == Mode::Audit && judge_arrival(book, flow).is_ok() => {
            ruling(Judgement::WouldRefuse(refusal), Route::Dial(own(flow)))
        }
        Err(refusal) => ruling(Judgement::Refuse(refusal), Route::Closed),
    }
}

fn ping_rule(book: &Rulebook, address: IpAddr, name: Option<&DnsName>) -> Result<Option<RuleRef>, Refusal> {
    let policy = book.governed()?;
    let covering = book.permitting(policy).find_map(|list| list.covering(address));
    if policy.icmp && (covering.is_some() || name.is_some()) {
        return Ok(covering);
    }
    Err(Refusal::because(Reason::Icmp))
}

/// What block mode grants.
enum Granted {
    Dial(RuleRef),
    Resolve(RuleRef, ResolvePermit),
    Confirm(RuleRef, ConfirmPermit, Refusal),
}

fn own(flow: Flow) -> DialPermit {
    DialPermit::new(flow.address, flow.port)
}

/// Steps 3 to 6: what block mode says of the flow.
fn enforce(book: &Rulebook, flow: Flow, detection: &Detection, evidence: Evidence<'_>) -> Result<Granted, Refusal> {
    let policy = book.governed()?;
    if let Some(rule) = denied_address(book, flow) {
        return Err(Refusal::by(Reason::Denied, rule));
    }
    let case = Case { book, policy, flow, evidence };
    match detection {
        Detection::Tls(hello) | Detection::Quic(hello) => case.hello(hello),
        Detection::Http(Authority { host: HttpHost::Name(name), .. }) => case.named(name, Ech::Absent),
        Detection::Http(Authority { host: HttpHost::Address(address), .. }) => case.addressed(*address),
        Detection::Http(Authority { host: HttpHost::Absent, .. }) => case.unnamed(),
        Detection::Opaque(reason) => case.opaque(*reason),
        Detection::Malformed { prefix, .. } => case.by_address().ok_or_else(|| Refusal::because(malformed(*prefix))),
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

/// The denied endpoint that covers the flow's address in any spelling.
fn denied_address(book: &Rulebook, flow: Flow) -> Option<RuleRef> {
    special::spellings(flow.address)
        .iter()
        .find_map(|address| book.denied_address(*address, flow.port, flow.transport))
}

/// The name that an event shows for a flow.
fn named(flow: Flow, detection: &Detection, evidence: Evidence<'_>) -> (Option<DnsName>, NameSource) {
    match detection {
        Detection::Tls(Hello { sni: Sni::Name(name), .. }) | Detection::Quic(Hello { sni: Sni::Name(name), .. }) => {
            (Some(name.clone()), NameSource::Sni)
        }
        Detection::Http(Authority { host: HttpHost::Name(name), .. }) => (Some(name.clone()), NameSource::Host),
        Detection::Tls(_)
        | Detection::Quic(_)
        | Detection::Http(_)
        | Detection::Opaque(_)
        | Detection::Malformed { .. }
        | Detection::Undecided { .. } => match evidence.names_at(flow.address).first() {
            Some(name) => (Some(name.clone()), NameSource::Ticket),
            None => (None, NameSource::None),
        },
    }
}

/// One flow under one policy: the rows of "Name and address: what a flow needs".
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
                if let Some(granted) = self.by_address() {
                    return Ok(granted);
                }
                self.refuse_ech(hello.ech, None)?;
                self.unnamed()
            }
        }
    }

    /// A flow that names its destination.
    fn named(self, name: &DnsName, ech: Ech) -> Result<Granted, Refusal> {
        if let Some(rule) = self.book.denied_name(name, self.flow.port, self.flow.transport) {
            return Err(Refusal::by(Reason::Denied, rule));
        }
        if let Some(granted) = self.by_address() {
            return Ok(granted);
        }
        let rule = self.rule_for(name).ok_or_else(|| not_allowed(self.book, self.policy, name))?;
        self.refuse_ech(ech, Some(name))?;
        if self.evidence.holds(name, self.flow.address) {
            return Ok(Granted::Dial(rule));
        }
        match self.book.world.destination {
            Destination::Resolve => Ok(Granted::Resolve(rule, ResolvePermit::new(name.clone(), self.flow.port))),
            Destination::TicketOnly => Err(Refusal::by(Reason::Unticketed, rule)),
        }
    }

    /// An HTTP request whose authority is an address: that very address must be the flow's.
    fn addressed(self, host: IpAddr) -> Result<Granted, Refusal> {
        if let Some(granted) = self.by_address() {
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
        if let Some(granted) = self.by_address() {
            return Ok(granted);
        }
        let names = self.evidence.names_at(self.flow.address);
        let mut granting = None;
        for name in &names {
            if let Some(rule) = global_name(self.book, name) {
                return Err(Refusal::by(Reason::GlobalBlock, rule));
            }
            let Some(rule) = self.rule_unless_denied(name) else {
                return Err(Refusal { nearest: self.policy.allowed().nearest(name), ..Refusal::because(Reason::NoName) });
            };
            granting.get_or_insert(rule);
        }
        granting.map(Granted::Dial).ok_or(Refusal::because(Reason::NoName))
    }

    /// A protocol without names: any ticketed name that is allowed on the port will do.
    fn opaque(self, reason: OpaqueReason) -> Result<Granted, Refusal> {
        if let Some(granted) = self.by_address() {
            return Ok(granted);
        }
        if reason == OpaqueReason::UnknownProtocol
            && self.flow.transport == Transport::Tcp
            && WEB_PORTS.contains(&self.flow.port)
        {
            return Err(Refusal::because(Reason::UnknownProtocol));
        }
        let names = self.evidence.names_at(self.flow.address);
        let allowed = names.iter().filter(|name| global_name(self.book, name).is_none());
        if let Some(rule) = allowed.clone().find_map(|name| self.rule_unless_denied(name)) {
            return Ok(Granted::Dial(rule));
        }
        let refusal = match names.first() {
            Some(name) => not_allowed(self.book, self.policy, name),
            None => Refusal::because(Reason::NoName),
        };
        self.confirm(refusal)
    }

    /// Exact names allowed on the port, to be resolved by the gateway itself.
    fn confirm(self, refusal: Refusal) -> Result<Granted, Refusal> {
        let mut first = None;
        let mut names: Vec<DnsName> = Vec::new();
        for list in self.book.permitting(self.policy) {
            for (name, rule) in list.exact_names(self.flow.port, self.flow.transport) {
                if names.len() == MAX_CONFIRM {
                    break;
                }
                let denied = self.book.denied_name(&name, self.flow.port, self.flow.transport).is_some();
                if !denied && global_name(self.book, &name).is_none() {
                    first.get_or_insert(rule);
                    names.push(name);
                }
            }
        }
        match first {
            Some(rule) => Ok(Granted::Confirm(rule, ConfirmPermit::new(names, own(self.flow)), refusal)),
            None => Err(refusal),
        }
    }

    /// Waiting ended. Silence is judged by the opaque row: if that permits, the flow was dialled already.
    fn undecided(self, prefix: Prefix) -> Result<Granted, Refusal> {
        if let Some(granted) = self.by_address() {
            return Ok(granted);
        }
        let reason = match prefix {
            Prefix::Nothing => Reason::Silent,
            Prefix::Tls | Prefix::Http | Prefix::Quic => Reason::DetectTimeout,
        };
        Err(Refusal::because(reason))
    }

    /// The row "any flow to an address that an address endpoint covers".
    fn by_address(self) -> Option<Granted> {
        let address = special::canonical(self.flow.address);
        self.book
            .permitting(self.policy)
            .find_map(|list| list.find_address(address, self.flow.port, self.flow.transport))
            .map(Granted::Dial)
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

    /// The ECH row: refused when hidden for certain, or when the config id is a published one.
    fn refuse_ech(self, ech: Ech, name: Option<&DnsName>) -> Result<(), Refusal> {
        let hidden = match ech {
            Ech::Absent => false,
            Ech::Esni => true,
            Ech::Outer { config_id } => self.book.world.ech.published(config_id, name, self.flow.address),
        };
        if hidden { Err(Refusal::because(Reason::Ech)) } else { Ok(()) }
    }
}
