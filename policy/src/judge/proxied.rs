//! Judging what a job asks a forward proxy for: CONNECT, or a request in absolute form.
//!
//! The row "CONNECT or absolute-form to a forward proxy": the proxy itself must be permitted, the target
//! and its port must be allowed, and what flows through the tunnel is judged anew ([`judge_tunnelled`]).
//! The gateway dials the proxy only; the target's address is the proxy's to find.

use super::answer::global_name;
use super::flow::{
    Carried, Evidence, Flow, FlowRuling, Outcome, denied_address, judge_arrival, judge_carried,
};
use super::query::not_allowed;
use super::rows::{Granted, Way};
use crate::compile::rules::RuleRef;
use crate::detection::{Detection, Ech, Hello, HttpHost};
use crate::endpoint::Transport;
use crate::name::DnsName;
use crate::rulebook::{CompiledPolicy, Rulebook};
use crate::special;
use crate::verdict::{Reason, Refusal};

/// Whom a forward proxy is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyTarget {
    /// The host of the authority.
    pub host: HttpHost,
    /// Its port; the scheme's default where none is written.
    pub port: u16,
}

/// Judges a request to the forward proxy at `flow`'s address.
pub fn judge_proxied(
    book: &Rulebook,
    flow: Flow,
    target: &ProxyTarget,
    evidence: Evidence<'_>,
) -> FlowRuling {
    let carried = Carried::host(&target.host);
    let wanted = || {
        let policy = book.governed()?;
        let rule = through(book, policy, flow, evidence)?;
        judge_target(book, policy, target)?;
        Ok(rule)
    };
    rule_on(book, flow, &[carried], evidence, wanted)
}

/// Judges what the tunnel to `target` begins with. A name that the inner bytes carry must be allowed on
/// the target's port itself; bytes without a name are what the target was permitted for.
pub fn judge_tunnelled(
    book: &Rulebook,
    flow: Flow,
    target: &ProxyTarget,
    inner: &Detection,
    evidence: Evidence<'_>,
) -> FlowRuling {
    // The target is asked for as long as its tunnel lives, whatever the inside names.
    let mut carried = vec![Carried::host(&target.host)];
    match Carried::of(inner) {
        Carried::Nobody => {}
        named @ (Carried::Name(..) | Carried::Address(_)) => carried.insert(0, named),
    }
    let wanted = || {
        let policy = book.governed()?;
        let rule = through(book, policy, flow, evidence)?;
        judge_target(book, policy, target)?;
        judge_inner(book, policy, target, inner)?;
        Ok(rule)
    };
    rule_on(book, flow, &carried, evidence, wanted)
}

/// Rules on a flow that carries all of this; its event shows the first.
fn rule_on(
    book: &Rulebook,
    flow: Flow,
    carried: &[Carried<'_>],
    evidence: Evidence<'_>,
    wanted: impl FnOnce() -> Result<RuleRef, Refusal>,
) -> FlowRuling {
    let absolute = judge_arrival(book, flow).and_then(|()| {
        let mut all = carried.iter();
        all.try_for_each(|one| judge_carried(book, flow, one, evidence))
    });
    let granted = |rule| Granted {
        rule,
        name: None,
        way: Way::Dial,
    };
    let outcome = absolute.map_or_else(Outcome::Refuse, |()| {
        Outcome::of(book.mode(), wanted().map(granted))
    });
    let shown = carried.first().unwrap_or(&Carried::Nobody);
    outcome.ruling(flow, shown.shown(None, flow, evidence))
}

/// The rule by which the proxy itself is permitted: an address endpoint, or its own ticket.
fn through(
    book: &Rulebook,
    policy: &CompiledPolicy,
    flow: Flow,
    evidence: Evidence<'_>,
) -> Result<RuleRef, Refusal> {
    if let Some(rule) = denied_address(book, flow) {
        return Err(Refusal::by(Reason::Denied, rule));
    }
    let address = special::canonical(flow.address);
    let covering = book
        .permitting(policy)
        .find_map(|list| list.find_address(address, flow.port, flow.transport));
    let ticketed = || {
        let names = evidence.names_at(flow.address);
        names
            .iter()
            .filter(|name| global_name(book, name).is_none())
            .find_map(|name| name_rule(book, policy, name, flow.port).ok())
    };
    covering
        .or_else(ticketed)
        .ok_or(Refusal::because(Reason::ProxyRequest))
}

/// The target's own authority and port.
fn judge_target(book: &Rulebook, policy: &CompiledPolicy, target: &ProxyTarget) -> Result<(), Refusal> {
    match &target.host {
        HttpHost::Name(name) => name_rule(book, policy, name, target.port).map(drop),
        HttpHost::Address(address) => {
            let flow = Flow {
                transport: Transport::Tcp,
                address: *address,
                port: target.port,
            };
            if book.world.never_dial.contains(*address) {
                return Err(Refusal::because(Reason::NeverDial));
            }
            if let Some(rule) = denied_address(book, flow) {
                return Err(Refusal::by(Reason::Denied, rule));
            }
            let address = special::canonical(*address);
            let covered = book
                .permitting(policy)
                .any(|list| list.find_address(address, flow.port, flow.transport).is_some());
            if covered {
                Ok(())
            } else {
                Err(Refusal::because(Reason::NoName))
            }
        }
        HttpHost::Absent => Err(Refusal::because(Reason::ProxyRequest)),
    }
}

/// What the inner bytes add to the target.
fn judge_inner(
    book: &Rulebook,
    policy: &CompiledPolicy,
    target: &ProxyTarget,
    inner: &Detection,
) -> Result<(), Refusal> {
    match inner {
        Detection::Malformed { .. } => return Err(Refusal::because(Reason::ProxyRequest)),
        Detection::Undecided { .. } => return Err(Refusal::because(Reason::DetectTimeout)),
        Detection::Tls(_) | Detection::Quic(_) | Detection::Http(_) | Detection::Opaque(_) => {}
    }
    if let Carried::Name(name, _) = Carried::of(inner) {
        name_rule(book, policy, name, target.port)?;
    }
    let Detection::Tls(Hello { ech, .. }) = inner else {
        return Ok(());
    };
    let hidden = match ech {
        Ech::Absent => false,
        Ech::Esni => true,
        // The target's address is not known here, so only what was published for its names counts.
        Ech::Outer { config_id } => {
            let unseen = special::unspecified(false);
            let published = |name| book.world.ech.published(*config_id, Some(name), unseen);
            let outer = match Carried::of(inner) {
                Carried::Name(name, _) => published(name),
                Carried::Address(_) | Carried::Nobody => false,
            };
            outer || matches!(&target.host, HttpHost::Name(name) if published(name))
        }
    };
    if hidden {
        Err(Refusal::because(Reason::Ech))
    } else {
        Ok(())
    }
}

fn name_rule(
    book: &Rulebook,
    policy: &CompiledPolicy,
    name: &DnsName,
    port: u16,
) -> Result<RuleRef, Refusal> {
    if let Some(rule) = book.denied_name(name, port, Transport::Tcp) {
        return Err(Refusal::by(Reason::Denied, rule));
    }
    let mut lists = book.permitting(policy);
    lists
        .find_map(|list| list.find_name(name, port, Transport::Tcp))
        .ok_or_else(|| not_allowed(policy, name))
}
