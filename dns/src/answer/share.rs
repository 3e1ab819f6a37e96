//! Which records of an answer a job gets, and what that gives it.

use std::net::IpAddr;
use std::time::Duration;

use smallvec::SmallVec;
use tidegate_policy::judge::answer::{judge_address, judge_chain, judge_global};
use tidegate_policy::judge::permit::{Filtering, QueryPermit};
use tidegate_policy::rulebook::Rulebook;
use tidegate_policy::special;
use tidegate_policy::ticket::{Grant, TicketTable};
use tidegate_policy::verdict::{Judgement, Refusal};
use tidegate_policy::{DnsName, Moment};

use crate::resolver::answer::Answer;
use crate::wire::{ech, name};

/// What one job gets of an answer.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// Positions of records that it does not get.
    pub(crate) dropped: SmallVec<[u16; 8]>,
    /// New data of service records, by position.
    pub(crate) rewritten: SmallVec<[(u16, Vec<u8>); 1]>,
    /// Addresses that it gets, hints included, loopback not.
    pub(crate) addresses: SmallVec<[IpAddr; 8]>,
    /// The first refusal of an address.
    pub(crate) refusal: Option<Refusal>,
}

impl Share {
    /// True when the answer goes out as it came.
    pub(crate) fn is_whole(&self) -> bool {
        self.dropped.is_empty() && self.rewritten.is_empty()
    }
}

/// The ruling on an answer.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large variant is the usual one, and is not stored"
)]
pub(crate) enum Shared {
    /// These records.
    Records(Share),
    /// Every address was refused: an empty answer.
    NoAddress(Refusal),
    /// A name of the chain is refused: the asked name is refused with it.
    Refused(Refusal),
}

/// One answer before one job.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    /// What the job is judged by.
    pub(crate) book: &'a Rulebook,
    /// With which the answer was asked for.
    pub(crate) permit: &'a QueryPermit,
    /// The answer.
    pub(crate) answer: &'a Answer,
}

impl Case<'_> {
    /// Judges chain, addresses and hints.
    pub(crate) fn share(self) -> Shared {
        let answer = self.answer;
        let names = [&answer.aliases, &answer.targets];
        if let Some(refusal) = names.iter().find_map(|names| judge_chain(self.book, names).err()) {
            return Shared::Refused(refusal);
        }
        let chain = self.chain();
        let mut share = Share::default();
        for (at, address) in &answer.addresses {
            self.take(&mut share, &chain, *address).unwrap_or_else(|refusal| {
                share.dropped.push(*at);
                share.refusal.get_or_insert(refusal);
            });
        }
        if let Some(refusal) = &share.refusal
            && share.dropped.len() == answer.addresses.len()
        {
            return Shared::NoAddress(refusal.clone());
        }
        for at in &answer.services {
            self.service(&mut share, &chain, *at);
        }
        if self.permit.filtering() == Filtering::Enforced {
            share.dropped.extend(answer.strays.iter().copied());
        }
        self.drop_signatures(&mut share);
        Shared::Records(share)
    }

    /// The judgement of a query in audit, now that its answer is known: a permit becomes a would-refuse
    /// when block mode would have dropped every address.
    pub(crate) fn judgement_in_audit(self, judgement: Judgement) -> Judgement {
        match judgement {
            Judgement::Permit(rule) => self
                .every_refusal()
                .map_or(Judgement::Permit(rule), Judgement::WouldRefuse),
            Judgement::Refuse(_) | Judgement::WouldRefuse(_) => judgement,
        }
    }

    /// The first refusal of an address, when block mode refuses every one.
    fn every_refusal(self) -> Option<Refusal> {
        let chain = self.chain();
        let mut first = None;
        for (_, address) in &self.answer.addresses {
            match judge_address(self.book, self.permit.owner(), &chain, *address) {
                Ok(()) => return None,
                Err(refusal) => _ = first.get_or_insert(refusal),
            }
        }
        first
    }

    /// The aliases, headed by the asked name when that is itself a link of another name's chain.
    fn chain(self) -> SmallVec<[DnsName; 4]> {
        let link = (self.permit.owner() != self.permit.name()).then(|| self.permit.name().clone());
        link.into_iter()
            .chain(self.answer.aliases.iter().cloned())
            .collect()
    }

    fn judge(self, chain: &[DnsName], address: IpAddr) -> Result<(), Refusal> {
        match self.permit.filtering() {
            Filtering::Enforced => judge_address(self.book, self.permit.owner(), chain, address),
            Filtering::Observed => judge_global(self.book, address),
        }
    }

    fn take(self, share: &mut Share, chain: &[DnsName], address: IpAddr) -> Result<(), Refusal> {
        self.judge(chain, address)?;
        if !special::is_loopback(address) && !share.addresses.contains(&address) {
            share.addresses.push(address);
        }
        Ok(())
    }

    fn service(self, share: &mut Share, chain: &[DnsName], at: u16) {
        let Some(service) = self.answer.service(at) else {
            // Not readable, so not strippable either.
            if self.permit.filtering() == Filtering::Enforced {
                share.dropped.push(at);
            }
            return;
        };
        let mut refused = false;
        for hint in service.hints() {
            if let Err(refusal) = self.take(share, chain, hint) {
                share.refusal.get_or_insert(refusal);
                refused = true;
            }
        }
        match self.permit.filtering() {
            Filtering::Enforced => {
                if let Some(data) = service.rewritten(|hint| self.judge(chain, hint).is_ok()) {
                    share.rewritten.push((at, data));
                }
            }
            // Audit rewrites nothing: a record that hints at a globally blocked address goes whole.
            Filtering::Observed if refused => share.dropped.push(at),
            Filtering::Observed => {}
        }
    }

    /// A signature over records that were dropped or rewritten would only fail: it goes with them.
    fn drop_signatures(self, share: &mut Share) {
        let (answer, bytes) = (self.answer, &self.answer.bytes);
        let touched: SmallVec<[u16; 8]> = share
            .dropped
            .iter()
            .copied()
            .chain(share.rewritten.iter().map(|(at, _)| *at))
            .collect();
        let touched: SmallVec<[u16; 4]> = touched
            .iter()
            .filter_map(|at| answer.record(*at))
            .map(|one| one.rtype)
            .collect();
        if touched.is_empty() {
            return;
        }
        for (at, record) in answer.records.iter().enumerate() {
            let at = at as u16;
            if record
                .covered(bytes)
                .is_some_and(|covered| touched.contains(&covered))
                && !share.dropped.contains(&at)
            {
                share.dropped.push(at);
            }
        }
    }

    /// Stores the tickets of a share. Must come before the answer leaves.
    pub(crate) fn grant(self, share: &Share, tickets: &TicketTable, hold: Duration, now: Moment) {
        let answer = self.answer;
        let mut chain = self.chain();
        chain.extend(answer.targets.iter().cloned());
        if share.addresses.is_empty() && chain.is_empty() {
            return;
        }
        let grant = Grant {
            asked: self.permit.owner(),
            chain: &chain,
            addresses: &share.addresses,
            ttl: answer.ttl_left(now),
        };
        tickets.grant(&grant, hold, now);
    }

    /// Notes published ECH config ids before they are stripped, and the addresses of names that have
    /// some. `known` gives the addresses that are known for a name from earlier answers.
    pub(crate) fn note_ech(self, known: impl Fn(&DnsName) -> Vec<IpAddr>) {
        let (answer, ledger) = (self.answer, &self.book.world.ech);
        let host = self.permit.name().without_service_labels();
        let mut published = false;
        for at in &answer.services {
            let Some(service) = answer.service(*at) else {
                continue;
            };
            let ids = service.ech().map(ech::config_ids).unwrap_or_default();
            if ids.is_empty() {
                continue;
            }
            published = true;
            ledger.note_name(&host, &ids);
            if let Ok(target) = name::canonical(&service.target)
                && !target.is_root()
            {
                ledger.note_name(&target, &ids);
            }
            service
                .hints()
                .into_iter()
                .for_each(|hint| ledger.note_address(&host, hint));
        }
        let names = std::iter::once(&host)
            .chain(&answer.aliases)
            .chain(&answer.targets);
        for name in names.filter(|name| ledger.knows(name)) {
            answer
                .addresses
                .iter()
                .for_each(|(_, address)| ledger.note_address(name, *address));
            // The address may have been answered before its HTTPS record was.
            if published {
                for address in known(name) {
                    ledger.note_address(name, address);
                }
            }
        }
    }
}
