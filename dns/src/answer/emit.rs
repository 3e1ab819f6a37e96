//! Writing an answer for one client: its id, flags and casing, TTLs aged, refused records left out.

use super::share::Share;
use crate::resolver::answer::Answer;
use crate::wire::message::RecordAt;
use crate::wire::query::Query;
use crate::wire::reply::{Ede, Reply, reply_flags, write_opt};
use crate::wire::{HEADER, name, patch, rtype, u16_at};

/// TTL of a stale answer (RFC 8767 §4: 30 seconds).
const STALE_TTL: u32 = 30;

/// How TTLs are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// Less this many seconds.
    Fresh(u32),
    /// Past its end.
    Stale,
}

impl Age {
    fn left(self, ttl: u32) -> u32 {
        match self {
            Self::Fresh(age) => ttl.saturating_sub(age),
            Self::Stale => STALE_TTL,
        }
    }
}

/// What one job gets of an answer, stale ones marked as such.
pub(crate) fn answer(answer: &Answer, share: &Share, query: &Query, age: Age) -> Vec<u8> {
    let ede = match age {
        Age::Fresh(_) => None,
        Age::Stale => Some(Ede::new(Ede::STALE_ANSWER, String::new())),
    };
    if share.is_whole() {
        whole(answer, query, age, ede.as_ref())
    } else {
        part(answer, share, query, age, ede.as_ref())
    }
}

/// The answer as it came: one copy, patched. `query` must ask for the answer's name and type.
fn whole(answer: &Answer, query: &Query, age: Age, ede: Option<&Ede>) -> Vec<u8> {
    let mut out = Vec::with_capacity(answer.bytes.len() + 64);
    out.extend_from_slice(&answer.bytes);
    patch(&mut out, 0, &query.id.to_be_bytes());
    patch(&mut out, 2, &reply_flags(query.flags, answer.rcode).to_be_bytes());
    patch(&mut out, HEADER, &query.question);
    for record in &answer.records {
        patch(&mut out, record.ttl_at(), &age.left(record.ttl).to_be_bytes());
    }
    if query.edns.is_some() {
        write_opt(&mut out, query.dnssec_ok(), answer.rcode, ede);
        patch(&mut out, 10, &[0, 1]);
    }
    out
}

/// The part of the answer that a share leaves, written anew: names inside of records are spelled out,
/// because what they point to may be gone.
fn part(answer: &Answer, share: &Share, query: &Query, age: Age, ede: Option<&Ede>) -> Vec<u8> {
    let mut reply = Reply::to(query, answer.rcode);
    for (at, record) in answer.records.iter().enumerate() {
        let at = at as u16;
        if share.dropped.contains(&at) {
            continue;
        }
        let rewritten = share
            .rewritten
            .iter()
            .find(|(place, _)| *place == at)
            .map(|(_, data)| data.clone());
        // Every record was read once when the answer was accepted; one that can't be now is left out.
        let (Some(data), Ok(owner)) = (
            rewritten.or_else(|| expanded(&answer.bytes, record)),
            record.owner(&answer.bytes),
        ) else {
            continue;
        };
        let ttl = age.left(record.ttl);
        if name::same(&owner.raw, &query.name) {
            reply.record(record.section, record.rtype, ttl, &data);
        } else {
            let class = u16_at(&answer.bytes, usize::from(record.fixed) + 2).unwrap_or(crate::wire::IN);
            reply.raw_record(record.section, &owner.raw, (record.rtype, class, ttl), &data);
        }
    }
    reply.finish(query, answer.rcode, ede)
}

/// A record's data with the names in it uncompressed. Only the types of RFC 1035 may be compressed
/// (RFC 3597 §4), and a few later ones are by old servers.
fn expanded(message: &[u8], record: &RecordAt) -> Option<Vec<u8>> {
    let (fixed, names) = match record.rtype {
        rtype::NS | rtype::CNAME | rtype::PTR | rtype::DNAME => (0, 1),
        rtype::SOA => (0, 2),
        rtype::MX => (2, 1),
        rtype::SRV => (6, 1),
        _ => return Some(record.data(message).to_vec()),
    };
    let mut at = usize::from(record.rdata) + fixed;
    let mut out = message.get(usize::from(record.rdata)..at)?.to_vec();
    for _ in 0..names {
        let read = name::read(message, at).ok()?;
        out.extend_from_slice(&read.raw);
        at = read.end;
    }
    out.extend_from_slice(message.get(at..record.end())?);
    Some(out)
}

#[cfg(test)]
mod tests;
