//! Judging without a flow's bytes: a name or an address by itself (for `explain`), and echo requests.

use std::net::IpAddr;

use super::answer::global_name;
use super::flow::{Evidence, Flow, FlowRuling, Route, denied_address, judge_arrival, own};
use super::query::{not_allowed, some_port};
use crate::compile::rules::RuleRef;
use crate::endpoint::Transport;
use crate::event::NameSource;
use crate::name::DnsName;
use crate::rulebook::Rulebook;
use crate::special;
use crate::verdict::{Judgement, Mode, Reason, Refusal};

/// What a name's own address would get on a port, without a flow: for `explain`.
pub fn judge_name(book: &Rulebook, name: &DnsName, port: u16, transport: Transport) -> Judgement {
    if let Some(rule) = global_name(book, name) {
        return Judgement::Refuse(Refusal::by(Reason::GlobalBlock, rule));
    }
    let wanted = book.governed().and_then(|policy| {
        if let Some(rule) = book.denied_name(name, port, transport) {
            return Err(Refusal::by(Reason::Denied, rule));
        }
        let mut lists = book.permitting(policy);
        lists
            .find_map(|list| list.find_name(name, port, transport))
            .ok_or_else(|| not_allowed(policy, name))
    });
    carried_out(book, wanted)
}

/// What an address without a name would get on a port, without a flow: for `explain`.
pub fn judge_bare_address(book: &Rulebook, address: IpAddr, port: u16, transport: Transport) -> Judgement {
    let flow = Flow {
        transport,
        address,
        port,
    };
    if let Err(refusal) = judge_arrival(book, flow) {
        return Judgement::Refuse(refusal);
    }
    let wanted = book.governed().and_then(|policy| {
        if let Some(rule) = denied_address(book, flow) {
            return Err(Refusal::by(Reason::Denied, rule));
        }
        let mut lists = book.permitting(policy);
        let address = special::canonical(address);
        lists
            .find_map(|list| list.find_address(address, port, transport))
            .ok_or(Refusal::because(Reason::NoName))
    });
    carried_out(book, wanted)
}

/// The judgement of what block mode wants, in the book's mode.
fn carried_out(book: &Rulebook, wanted: Result<RuleRef, Refusal>) -> Judgement {
    match (wanted, book.mode()) {
        (Ok(rule), _) => Judgement::Permit(Some(rule)),
        (Err(refusal), Mode::Block) => Judgement::Refuse(refusal),
        (Err(refusal), Mode::Audit) => Judgement::WouldRefuse(refusal),
    }
}

/// Whether echo requests to `address` are answered: `icmp: true`, and an address endpoint covers the
/// address or the job holds it for a name that its policy allows on some port.
///
/// An echo is the gateway's own, with its own payload; [`Route::Dial`] permits it to originate one.
pub fn judge_ping(book: &Rulebook, address: IpAddr, evidence: Evidence<'_>) -> FlowRuling {
    let flow = Flow {
        transport: Transport::Udp,
        address,
        port: 0,
    };
    let names = evidence.names_at(address);
    let granted = judge_arrival(book, flow).map(|()| ping_rule(book, address, &names));
    let shown = |name: Option<&DnsName>| name.or_else(|| names.first()).cloned();
    let ruling = |judgement, name: Option<DnsName>, route| {
        let name_source = if name.is_some() {
            NameSource::Ticket
        } else {
            NameSource::None
        };
        FlowRuling {
            judgement,
            name,
            name_source,
            route,
        }
    };
    match granted {
        Err(absolute) => ruling(Judgement::Refuse(absolute), shown(None), Route::Closed),
        Ok(Ok((rule, name))) => ruling(Judgement::Permit(Some(rule)), shown(name), Route::Dial(own(flow))),
        Ok(Err(refusal)) => match book.mode() {
            Mode::Block => ruling(Judgement::Refuse(refusal), shown(None), Route::Closed),
            Mode::Audit => ruling(
                Judgement::WouldRefuse(refusal),
                shown(None),
                Route::Dial(own(flow)),
            ),
        },
    }
}

/// The rule by which an echo is granted, and the name that proved the address when no endpoint covers it.
fn ping_rule<'a>(
    book: &Rulebook,
    address: IpAddr,
    names: &'a [DnsName],
) -> Result<(RuleRef, Option<&'a DnsName>), Refusal> {
    let policy = book.governed()?;
    if !policy.icmp {
        return Err(Refusal::because(Reason::Icmp));
    }
    if let Some(rule) = special::spellings(address)
        .iter()
        .find_map(|one| policy.denied().whole_address(*one))
    {
        return Err(Refusal::by(Reason::Denied, rule));
    }
    let address = special::canonical(address);
    if let Some(rule) = book.permitting(policy).find_map(|list| list.covering(address)) {
        return Ok((rule, None));
    }
    let mut usable = names.iter().filter(|name| global_name(book, name).is_none());
    let ticketed = usable.find_map(|name| Some((some_port(book, policy, name)?, Some(name))));
    ticketed.ok_or(Refusal::because(Reason::Icmp))
}
