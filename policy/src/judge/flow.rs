//! Judging a flow: by its address at once, by what its first bytes say when they are read.
//!
//! Owns what holds in every mode (never-dial, the global block list) and how a judgement is carried out;
//! what block mode says of a flow is in [`super::rows`]. Driven by `proxy`.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::answer::{global_address, global_name};
use super::permit::{ConfirmPermit, DialPermit, ResolvePermit};
use super::rows::{Granted, Way, enforce};
use crate::Moment;
use crate::compile::rules::RuleRef;
use crate::detection::{Authority, Detection, Hello, HttpHost, Sni};
use crate::endpoint::Transport;
use crate::event::NameSource;
use crate::name::DnsName;
use crate::rulebook::Rulebook;
use crate::special;
use crate::ticket::TicketTable;
use crate::verdict::{Judgement, Mode, Reason, Refusal};

pub use super::probe::{judge_bare_address, judge_name, judge_ping};
pub use super::proxied::{ProxyTarget, judge_proxied, judge_tunnelled};

/// Exact names that the gateway resolves at most to confirm one unticketed address.
pub const MAX_CONFIRM: usize = 8;

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
    /// The name that was judged: what the flow carries, else the ticketed name that decided. For a
    /// permitted flow it is also what to keep as [`Evidence::proven`].
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
    pub(super) fn holds(self, name: &DnsName, address: IpAddr) -> bool {
        self.proven == Some(name) || self.tickets.holds(name, address, self.now)
    }

    /// The first of [`Evidence::names_at`].
    pub(super) fn newest_at(self, address: IpAddr) -> Option<DnsName> {
        let newest = self.tickets.newest_at(address, self.now);
        newest.or_else(|| self.proven.cloned())
    }

    /// The names that the job holds for an address, newest first.
    pub(super) fn names_at(self, address: IpAddr) -> SmallVec<[DnsName; 4]> {
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
pub(super) fn check_dial(book: &Rulebook, flow: Flow) -> Result<(), Refusal> {
    judge_arrival(book, flow)?;
    match denied_address(book, flow) {
        Some(rule) if book.mode() == Mode::Block => Err(Refusal::by(Reason::Denied, rule)),
        Some(_) | None => Ok(()),
    }
}

/// The denied endpoint that covers the flow's address in any spelling.
pub(super) fn denied_address(book: &Rulebook, flow: Flow) -> Option<RuleRef> {
    special::spellings(flow.address)
        .iter()
        .find_map(|address| book.denied_address(*address, flow.port, flow.transport))
}

/// The permit for a flow's own address.
pub(super) fn own(flow: Flow) -> DialPermit {
    DialPermit::new(flow)
}

/// Judges a flow by what was detected.
pub fn judge_flow(book: &Rulebook, flow: Flow, detection: &Detection, evidence: Evidence<'_>) -> FlowRuling {
    let carried = Carried::of(detection);
    if let Err(refusal) =
        judge_arrival(book, flow).and_then(|()| judge_carried(book, flow, &carried, evidence))
    {
        return Outcome::Refuse(refusal).ruling(flow, carried.shown(None, flow, evidence));
    }
    let outcome = Outcome::of(book.mode(), enforce(book, flow, detection, evidence));
    let decider = outcome.decider().cloned();
    outcome.ruling(flow, carried.shown(decider, flow, evidence))
}

/// Whom a flow says that it wants.
pub(super) enum Carried<'a> {
    Name(&'a DnsName, NameSource),
    Address(IpAddr),
    Nobody,
}

impl<'a> Carried<'a> {
    pub(super) fn of(detection: &'a Detection) -> Self {
        match detection {
            Detection::Tls(Hello { sni, .. }) | Detection::Quic(Hello { sni, .. }) => match sni {
                Sni::Name(name) => Self::Name(name, NameSource::Sni),
                Sni::Address(address) => Self::Address(*address),
                Sni::Absent => Self::Nobody,
            },
            Detection::Http(Authority { host, .. }) => Self::host(host),
            Detection::Opaque(_) | Detection::Malformed { .. } | Detection::Undecided { .. } => Self::Nobody,
        }
    }

    pub(super) fn host(host: &'a HttpHost) -> Self {
        match host {
            HttpHost::Name(name) => Self::Name(name, NameSource::Host),
            HttpHost::Address(address) => Self::Address(*address),
            HttpHost::Absent => Self::Nobody,
        }
    }

    /// The name that an event shows: the carried one, the one that decided, else the newest ticketed one.
    pub(super) fn shown(
        &self,
        decider: Option<DnsName>,
        flow: Flow,
        evidence: Evidence<'_>,
    ) -> (Option<DnsName>, NameSource) {
        if let Self::Name(name, source) = self {
            return (Some((*name).clone()), *source);
        }
        match decider.or_else(|| evidence.newest_at(flow.address)) {
            Some(name) => (Some(name), NameSource::Ticket),
            None => (None, NameSource::None),
        }
    }
}

/// Step 2 for what a flow carries. One that carries nothing is judged by the names that the job holds for
/// its address: it is refused when each of them is globally blocked.
pub(super) fn judge_carried(
    book: &Rulebook,
    flow: Flow,
    carried: &Carried<'_>,
    evidence: Evidence<'_>,
) -> Result<(), Refusal> {
    let hit = match carried {
        Carried::Name(name, _) => global_name(book, name),
        Carried::Address(address) => global_address(book, *address),
        // Most jobs hold no name that is blocked; one that isn't says enough.
        Carried::Nobody
            if evidence
                .newest_at(flow.address)
                .is_none_or(|newest| global_name(book, &newest).is_none()) =>
        {
            None
        }
        Carried::Nobody => {
            let names = evidence.names_at(flow.address);
            let mut hits = names.iter().map(|name| global_name(book, name));
            hits.next().flatten().filter(|_| hits.all(|hit| hit.is_some()))
        }
    };
    hit.map_or(Ok(()), |rule| Err(Refusal::by(Reason::GlobalBlock, rule)))
}

/// What block mode said, and what the book's mode makes of it.
pub(super) enum Outcome {
    /// Absolute, or refused in block.
    Refuse(Refusal),
    /// Refused, but audit lets it through.
    WouldRefuse(Refusal),
    /// Granted in block.
    Grant(Granted),
    /// Granted in audit: always the address that the client chose.
    Observe(Granted),
}

impl Outcome {
    pub(super) fn of(mode: Mode, wanted: Result<Granted, Refusal>) -> Self {
        match (mode, wanted) {
            (Mode::Block, Ok(granted)) => Self::Grant(granted),
            (Mode::Block, Err(refusal)) => Self::Refuse(refusal),
            (Mode::Audit, Ok(granted)) => Self::Observe(granted),
            (Mode::Audit, Err(refusal)) => Self::WouldRefuse(refusal),
        }
    }

    pub(super) fn decider(&self) -> Option<&DnsName> {
        match self {
            Self::Grant(granted) | Self::Observe(granted) => granted.name.as_ref(),
            Self::Refuse(_) | Self::WouldRefuse(_) => None,
        }
    }

    pub(super) fn ruling(self, flow: Flow, (name, name_source): (Option<DnsName>, NameSource)) -> FlowRuling {
        let ruling = |judgement, route| FlowRuling {
            judgement,
            name: name.clone(),
            name_source,
            route,
        };
        let (granted, observed) = match self {
            Self::Refuse(refusal) => return ruling(Judgement::Refuse(refusal), Route::Closed),
            Self::WouldRefuse(refusal) => {
                return ruling(Judgement::WouldRefuse(refusal), Route::Dial(own(flow)));
            }
            Self::Grant(granted) => (granted, false),
            Self::Observe(granted) => (granted, true),
        };
        let route = match granted.way {
            Way::Resolve(permit) if !observed => Route::Resolve(permit),
            Way::Dial | Way::Resolve(_) => Route::Dial(own(flow)),
            Way::Confirm(permit, refusal) => {
                let otherwise = if observed {
                    ruling(Judgement::WouldRefuse(refusal), Route::Dial(own(flow)))
                } else {
                    ruling(Judgement::Refuse(refusal), Route::Closed)
                };
                Route::Confirm {
                    permit,
                    otherwise: Box::new(otherwise),
                }
            }
        };
        ruling(Judgement::Permit(Some(granted.rule)), route)
    }
}
