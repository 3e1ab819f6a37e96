//! An upstream's answer as the cache holds it: unfiltered, shared by all jobs, indexed once.

use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;
use tidegate_policy::{DnsName, Moment};

use super::Question;
use crate::wire::message::{Indexed, RecordAt, Section, index};
use crate::wire::{HEADER, IN, Rcode, WireError, flag, name, patch, rtype, svcb, u32_at};

/// Longest life of an answer, whatever its TTL says (RFC 8767 §4 caps at days; a day is enough here).
const MAX_TTL: u32 = 86_400;
/// Longest life of a negative answer (RFC 2308 §5 suggests one to three hours).
const MAX_NEGATIVE_TTL: u32 = 10_800;
/// Links of a chain that are followed; real ones have at most a handful.
const MAX_CHAIN: usize = 16;

/// Why an upstream's bytes are no answer to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Rejected {
    /// They can't be read.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// They answer another question.
    #[error("the response answers another question")]
    OtherQuestion,
    /// TC is set.
    #[error("the response is truncated")]
    Truncated,
    /// A code by which the upstream says that it can't tell.
    #[error("the upstream answered {}", Rcode(*.0).mnemonic())]
    Code(u16),
}

/// One answer. Immutable.
#[derive(Debug)]
pub struct Answer {
    /// Header, question, answer and authority sections; id 0, name in lower case, no OPT.
    pub(crate) bytes: Box<[u8]>,
    /// Records of the answer and authority sections.
    pub(crate) records: Box<[RecordAt]>,
    /// NOERROR, NXDOMAIN or YXDOMAIN.
    pub(crate) rcode: Rcode,
    /// CNAME targets in order, the asked name not included.
    pub(crate) aliases: Box<[DnsName]>,
    /// SVCB and HTTPS targets other than the owner.
    pub(crate) targets: Box<[DnsName]>,
    /// Addresses of the chain's A and AAAA records, by position in `records`.
    pub(crate) addresses: Box<[(u16, IpAddr)]>,
    /// Positions of SVCB and HTTPS records.
    pub(crate) services: Box<[u16]>,
    /// Positions of answer records that belong to no name of the chain.
    pub(crate) strays: Box<[u16]>,
    /// How long it stays fresh.
    pub(crate) life: Duration,
    /// When it came.
    pub(crate) stored: Moment,
}

impl Answer {
    /// Takes an upstream's response to `question`; `now` becomes the moment from which it ages.
    pub(crate) fn accept(question: &Question, mut bytes: Vec<u8>, now: Moment) -> Result<Self, Rejected> {
        let index = index(&bytes)?;
        if index.qtype != question.rtype
            || index.qclass != IN
            || !name::same(&index.question.raw, &question.name)
        {
            return Err(Rejected::OtherQuestion);
        }
        if index.flags & flag::TC != 0 {
            return Err(Rejected::Truncated);
        }
        if !matches!(index.rcode, Rcode::NOERROR | Rcode::NXDOMAIN | Rcode::YXDOMAIN) {
            return Err(Rejected::Code(index.rcode.0));
        }
        // Nothing before the additional section can point into it, so it is cut off whole: glue is not
        // part of the answer, and its addresses were never asked for.
        bytes.truncate(index.additional_at);
        patch(&mut bytes, 0, &[0, 0]);
        patch(&mut bytes, 10, &[0, 0]);
        patch(&mut bytes, HEADER, question.name.as_wire());
        let life = Duration::from_secs(life(&index, &bytes).into());
        let rcode = index.rcode;
        let records: Box<[RecordAt]> = index
            .records
            .into_iter()
            .filter(|record| record.section != Section::Additional)
            .collect();
        let links = Links::follow(&question.name, &bytes, &records)?;
        Ok(Self {
            bytes: bytes.into_boxed_slice(),
            records,
            rcode,
            aliases: links.aliases.into(),
            targets: links.targets.into(),
            addresses: links.addresses.into(),
            services: links.services.into(),
            strays: links.strays.into(),
            life,
            stored: now,
        })
    }

    /// Heap memory that it holds, for the cache's bound.
    pub(crate) fn heap_bytes(&self) -> usize {
        let names: usize = self
            .aliases
            .iter()
            .chain(&self.targets)
            .map(|name| 40 + name.as_wire().len())
            .sum();
        self.bytes.len()
            + size_of_val(&*self.records)
            + size_of_val(&*self.addresses)
            + 2 * (self.services.len() + self.strays.len())
            + names
    }

    /// How old it is, in whole seconds.
    pub(crate) fn age(&self, now: Moment) -> u32 {
        u32::try_from(now.since(self.stored).as_secs()).unwrap_or(u32::MAX)
    }

    /// The smallest TTL that is left at `now`.
    pub(crate) fn ttl_left(&self, now: Moment) -> Duration {
        self.life.saturating_sub(now.since(self.stored))
    }

    /// A record by its position.
    pub(crate) fn record(&self, at: u16) -> Option<&RecordAt> {
        self.records.get(usize::from(at))
    }

    /// Data of a service record, when it can be read.
    pub(crate) fn service(&self, at: u16) -> Option<svcb::Svcb<'_>> {
        svcb::parse(self.record(at)?.data(&self.bytes)).ok()
    }
}

/// What the answer section says when one follows it from the asked name.
#[derive(Default)]
struct Links {
    aliases: Vec<DnsName>,
    targets: Vec<DnsName>,
    addresses: Vec<(u16, IpAddr)>,
    services: Vec<u16>,
    strays: Vec<u16>,
}

impl Links {
    fn follow(asked: &DnsName, bytes: &[u8], records: &[RecordAt]) -> Result<Self, WireError> {
        let mut links = Self::default();
        let answers = || {
            records
                .iter()
                .enumerate()
                .filter(|(_, record)| record.section == Section::Answer)
        };
        let owners: Vec<_> = answers()
            .map(|(_, record)| record.owner(bytes))
            .collect::<Result<_, _>>()?;
        let mut current = asked.clone();
        while links.aliases.len() < MAX_CHAIN {
            let alias = answers().zip(&owners).find(|((_, record), owner)| {
                record.rtype == rtype::CNAME && name::same(&owner.raw, &current)
            });
            let Some(((_, record), _)) = alias else { break };
            let next = record.target(bytes)?.canonical()?;
            if next == *asked || links.aliases.contains(&next) {
                break;
            }
            links.aliases.push(next.clone());
            current = next;
        }
        for ((at, record), owner) in answers().zip(&owners) {
            links.place(asked, (at as u16, record), &owner.raw, bytes)?;
        }
        Ok(links)
    }

    fn place(
        &mut self,
        asked: &DnsName,
        (at, record): (u16, &RecordAt),
        owner: &[u8],
        bytes: &[u8],
    ) -> Result<(), WireError> {
        let mut chain = std::iter::once(asked).chain(&self.aliases);
        if !chain.clone().any(|name| name::same(owner, name)) {
            // A DNAME stands above the name that it renames (RFC 6672 §2.2), with its signature.
            let dname = record.rtype == rtype::DNAME || record.covered(bytes) == Some(rtype::DNAME);
            let owner = name::canonical(owner)?;
            if !(dname && chain.any(|name| name.is_below(&owner))) {
                self.strays.push(at);
            }
            return Ok(());
        }
        if let Some(address) = record.address(bytes) {
            self.addresses.push((at, address));
        }
        if matches!(record.rtype, rtype::SVCB | rtype::HTTPS) {
            self.services.push(at);
            let target = svcb::parse(record.data(bytes))
                .ok()
                .map(|svcb| name::canonical(&svcb.target));
            let target = target
                .transpose()?
                .filter(|target| !target.is_root() && target != asked);
            if let Some(target) = target
                && !self.targets.contains(&target)
            {
                self.targets.push(target);
            }
        }
        Ok(())
    }
}

/// Seconds that an answer may be cached. An answer that ends in no data lives as long as its SOA says
/// (RFC 2308 §5), without one not at all.
fn life(index: &Indexed, bytes: &[u8]) -> u32 {
    let answers = || {
        index
            .records
            .iter()
            .filter(|record| record.section == Section::Answer)
    };
    let positive = answers()
        .map(|record| record.ttl)
        .min()
        .unwrap_or(MAX_TTL)
        .min(MAX_TTL);
    let reached = index.rcode == Rcode::NOERROR
        && answers().any(|record| {
            record.rtype == index.qtype || (index.qtype == rtype::ANY && record.rtype != rtype::RRSIG)
        });
    if reached {
        return positive;
    }
    let soa = index
        .records
        .iter()
        .find(|one| one.section == Section::Authority && one.rtype == rtype::SOA);
    let negative = soa.and_then(|record| {
        let minimum = u32_at(bytes, record.end().checked_sub(4)?)?;
        Some(record.ttl.min(minimum))
    });
    negative.unwrap_or(0).min(MAX_NEGATIVE_TTL).min(positive)
}

#[cfg(test)]
mod tests;
