//! Judging what an answer contains: the names of its chain and each of its addresses.

use std::net::IpAddr;

use crate::compile::NameView;
use crate::compile::rules::RuleRef;
use crate::name::DnsName;
use crate::rulebook::Rulebook;
use crate::special;
use crate::verdict::{Reason, Refusal};

/// Judges the names of a chain (CNAME, DNAME, SVCB targets): the global block list counts for each.
pub fn judge_chain(book: &Rulebook, chain: &[DnsName]) -> Result<(), Refusal> {
    match chain.iter().find_map(|name| global_name(book, name)) {
        Some(rule) => Err(Refusal::by(Reason::GlobalBlock, rule)),
        None => Ok(()),
    }
}

/// Judges one address of an answer for `asked` that a chain led to. Loopback passes: it never crosses
/// the gateway, so it is neither a leak nor worth a ticket.
pub fn judge_address(
    book: &Rulebook,
    asked: &DnsName,
    chain: &[DnsName],
    address: IpAddr,
) -> Result<(), Refusal> {
    judge_global(book, address)?;
    if special::is_loopback(address) {
        return Ok(());
    }
    // An address that is denied on some ports only is still an answer; its flows are judged by port.
    let denied = |one: &IpAddr| {
        book.policy()
            .and_then(|(policy, _)| policy.denied().whole_address(*one))
    };
    if let Some(rule) = special::spellings(address).iter().find_map(denied) {
        return Err(Refusal::by(Reason::Denied, rule));
    }
    let internal = || {
        let last = chain.last().unwrap_or(asked);
        book.world.internal.contains(asked) || book.world.internal.contains(last)
    };
    if special::is_not_public(address) && !internal() {
        return Err(Refusal::because(Reason::Rebinding));
    }
    Ok(())
}

/// Judges one address by the global block list alone: all that audit mode refuses.
pub fn judge_global(book: &Rulebook, address: IpAddr) -> Result<(), Refusal> {
    match global_address(book, address) {
        Some(rule) => Err(Refusal::by(Reason::GlobalBlock, rule)),
        None => Ok(()),
    }
}

/// The global block list's entry for a name.
pub(super) fn global_name(book: &Rulebook, name: &DnsName) -> Option<RuleRef> {
    book.world
        .global
        .find_name(name)
        .map(|hit| RuleRef::global(hit.text))
}

/// The same for a name laid out already.
pub(super) fn global_view(book: &Rulebook, name: &DnsName, view: &NameView<'_>) -> Option<RuleRef> {
    let hit = book.world.global.find_view(name, view);
    hit.map(|hit| RuleRef::global(hit.text))
}

/// The global block list's entry for an address, in any of its spellings.
pub(super) fn global_address(book: &Rulebook, address: IpAddr) -> Option<RuleRef> {
    special::spellings(address)
        .iter()
        .find_map(|one| book.world.global.find_address(*one))
        .map(|hit| RuleRef::global(hit.text))
}
