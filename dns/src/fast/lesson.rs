//! What the slow path taught about one question: the answer's bytes, how they age, and on what they depend.
//!
//! A lesson is made of an answer that the slow path just gave ([`Draft`]), so that both give the same bytes by
//! construction; an answer that it repeats differs from the first in id, RD, casing, TTLs and the id of its event alone.
//! Never decides: it holds for one rulebook, and [`super::memo`] asks whether what it depends on is still so.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use smallvec::SmallVec;
use tidegate_policy::compile::rules::RuleRef;
use tidegate_policy::ech::EchLedger;
use tidegate_policy::event::EventId;
use tidegate_policy::rulebook::Rulebook;
use tidegate_policy::subject::Subject;
use tidegate_policy::verdict::{Judgement, Reason, Verdict};
use tidegate_policy::{DnsName, Moment};

use super::memo::Key;
use super::plain::Shape;
use crate::front::budget::Budgets;
use crate::front::metrics::Source;
use crate::resolver::answer::Answer;
use crate::wire::message::index;
use crate::wire::{HEADER, Rcode, flag, name, patch, u16_at};

/// How long a lesson is repeated at most: then the slow path is asked again, which also keeps the resolver's cache
/// informed of what is in use, and rulebooks that nobody has any more are let go.
pub(super) const MAX_AGE: Duration = Duration::from_mins(1);
/// Octets of an event id as written.
pub(super) const ID: usize = 8;

/// Counters that tell whether what a lesson depends on has changed; read before the slow path looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    /// Of the DNS budgets.
    pub(crate) budget: u64,
    /// Of the rulebook's ECH ledger.
    pub(crate) ech: u64,
}

/// On what a verdict stands, beside the rulebook.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) epochs: Epochs,
    /// No rule permits the name, so that a ticket for a chain through it would change the verdict.
    chained: bool,
    /// The rule by which the name costs budget.
    charged: Option<RuleRef>,
}

impl Ground {
    /// That of a refusal of the name itself.
    pub(crate) fn of_refusal(epochs: Epochs) -> Self {
        Self {
            epochs,
            chained: true,
            charged: None,
        }
    }

    /// That of a name which is resolved, as it was judged before its answer was known; `None` when that can't be repeated: a
    /// budget that is used up fills again.
    pub(crate) fn of_permit(epochs: Epochs, name: &DnsName, judgement: &Judgement) -> Option<Self> {
        let (chained, charged) = match judgement {
            Judgement::Permit(Some(rule)) if Budgets::is_free(name, rule) => (false, None),
            Judgement::Permit(Some(rule)) => (false, Some(rule.clone())),
            Judgement::Permit(None) => (true, None),
            Judgement::Refuse(refusal) | Judgement::WouldRefuse(refusal) => {
                if refusal.reason == Reason::DnsBudget {
                    return None;
                }
                (true, None)
            }
        };
        Some(Self {
            epochs,
            chained,
            charged,
        })
    }
}

/// What the slow path decided about a question, beside the bytes that it answered.
pub(crate) struct Draft {
    pub(crate) subject: Arc<Subject>,
    pub(crate) book: Arc<Rulebook>,
    pub(crate) ground: Ground,
    /// As the event has it.
    pub(crate) judgement: Judgement,
    pub(crate) rcode: Rcode,
    pub(crate) basis: Basis,
}

/// What an answer was made of.
pub(crate) enum Basis {
    /// A refusal, which names its event.
    Refusal(EventId),
    /// The cache's answer, as this job gets it.
    Answer(Box<Given>),
}

/// What a job was given of the cache's answer.
pub(crate) struct Given {
    pub(crate) answer: Arc<Answer>,
    /// The moment as of which it was given.
    pub(crate) at: Moment,
    /// Addresses for which it got tickets.
    pub(crate) addresses: SmallVec<[IpAddr; 8]>,
    /// As events list them.
    pub(crate) listed: SmallVec<[CompactString; 2]>,
    pub(crate) note: Option<CompactString>,
}

/// What every repeat of a lesson reads, side by side.
#[derive(Debug)]
pub(super) struct Said {
    /// Id, RD, CD and the event's id zero, the name in lower case, TTLs as they came.
    reply: Box<[u8]>,
    /// Offsets of TTLs, with what they were.
    ttls: SmallVec<[(u16, u32); 4]>,
    /// When the answer began to age.
    stored: Moment,
    /// The server that was asked.
    pub(super) asked: SocketAddr,
    pub(super) qtype: u16,
    pub(super) shape: Shape,
    /// Offset of the event's id.
    id_at: Option<u16>,
    pub(super) verdict: Verdict,
    pub(super) source: Source,
    /// The rulebook's.
    pub(super) ech: Arc<EchLedger>,
}

/// A lesson. Shared by all subjects of one rulebook that were answered alike.
#[derive(Debug)]
pub(super) struct Lesson {
    pub(super) said: Said,
    pub(super) name: DnsName,
    pub(super) book: Arc<Rulebook>,
    /// Until when it may be repeated.
    pub(super) until: Moment,
    /// When the answer's TTL is over.
    pub(super) ends: Moment,
    pub(super) judgement: Judgement,
    pub(super) chained: bool,
    pub(super) charged: Option<RuleRef>,
    pub(super) rcode: Rcode,
    pub(super) addresses: Box<[IpAddr]>,
    /// Further names that get tickets.
    pub(super) chain: Box<[DnsName]>,
    pub(super) listed: SmallVec<[CompactString; 2]>,
    pub(super) note: Option<CompactString>,
}

impl Lesson {
    /// Takes a lesson from an answer just given; `None` when it can't be repeated.
    pub(super) fn new(draft: Draft, key: &Key<'_>, reply: &[u8], now: Moment) -> Option<Self> {
        let (plain, lower) = (key.plain, key.plain.lower(key.query));
        let mut bytes: Box<[u8]> = reply.into();
        let flags = u16_at(&bytes, 2)?;
        if flags & flag::TC != 0 {
            return None;
        }
        patch(&mut bytes, 0, &[0, 0]);
        patch(&mut bytes, 2, &(flags & !(flag::RD | flag::CD)).to_be_bytes());
        patch(&mut bytes, HEADER, &lower);
        let longest = now.plus(MAX_AGE);
        let lesson = Self {
            said: Said {
                reply: bytes,
                ttls: SmallVec::new(),
                stored: now,
                asked: key.client.asked,
                qtype: plain.qtype,
                shape: plain.shape,
                id_at: None,
                verdict: draft.judgement.verdict(),
                source: Source::Local,
                ech: Arc::clone(&draft.book.world.ech),
            },
            name: name::canonical(&lower).ok()?,
            book: draft.book,
            until: longest,
            ends: longest,
            judgement: draft.judgement,
            chained: draft.ground.chained,
            charged: draft.ground.charged,
            rcode: draft.rcode,
            addresses: Box::default(),
            chain: Box::default(),
            listed: SmallVec::new(),
            note: None,
        };
        match draft.basis {
            Basis::Refusal(id) => lesson.refusing(id),
            Basis::Answer(given) => lesson.giving(*given),
        }
    }

    fn refusing(mut self, id: EventId) -> Option<Self> {
        let said = &mut self.said;
        if said.shape.has_edns() {
            // The extended error is the last thing in the reply.
            let marked = format!(", event {id}");
            let at = said
                .reply
                .windows(marked.len())
                .rposition(|window| window == marked.as_bytes())?;
            let at = at + marked.len() - ID;
            patch(&mut said.reply, at, &[0; ID]);
            said.id_at = Some(u16::try_from(at).ok()?);
        }
        Some(self)
    }

    fn giving(mut self, given: Given) -> Option<Self> {
        let answer = given.answer;
        let age = answer.age(given.at);
        let said = &mut self.said;
        let records = index(&said.reply).ok()?.records;
        // What is zero by now stays zero.
        let then = |ttl: u32| if ttl == 0 { 0 } else { ttl.saturating_add(age) };
        said.ttls = records
            .iter()
            .map(|record| (record.ttl_at() as u16, then(record.ttl)))
            .collect();
        for (at, ttl) in &said.ttls {
            patch(&mut said.reply, usize::from(*at), &ttl.to_be_bytes());
        }
        said.stored = answer.stored;
        said.source = Source::Hit;
        self.ends = answer.stored.plus(answer.life);
        self.until = self.until.min(self.ends);
        self.addresses = given.addresses.into_vec().into();
        self.chain = answer.aliases.iter().chain(&answer.targets).cloned().collect();
        self.listed = given.listed;
        self.note = given.note;
        Some(self)
    }

    /// True when both say the same of the same question, from the same answer.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let (one, two) = (&self.said, &other.said);
        Arc::ptr_eq(&self.book, &other.book)
            && (one.qtype, one.shape, one.asked, one.stored) == (two.qtype, two.shape, two.asked, two.stored)
            && self.name == other.name
            && self.ends == other.ends
            && one.reply == two.reply
            && one.id_at == two.id_at
            && self.judgement.verdict() == other.judgement.verdict()
            && self.addresses == other.addresses
            && self.chain == other.chain
    }

    /// Heap memory that it holds.
    pub(super) fn heap_bytes(&self) -> usize {
        let chain: usize = self.chain.iter().map(|name| 40 + name.as_wire().len()).sum();
        size_of::<Self>()
            + self.name.as_wire().len()
            + self.said.reply.len()
            + size_of_val(&*self.said.ttls)
            + size_of_val(&*self.addresses)
            + self.listed.iter().map(|text| 24 + text.len()).sum::<usize>()
            + chain
    }

    /// True when it was made here, not by an upstream.
    pub(super) fn is_refusal(&self) -> bool {
        self.said.source == Source::Local
    }

    /// True when answering gives tickets.
    pub(super) fn gives_tickets(&self) -> bool {
        !(self.addresses.is_empty() && self.chain.is_empty())
    }
}

impl Said {
    /// True when it answers this question, whoever asks.
    pub(super) fn is(&self, key: &Key<'_>) -> bool {
        let (plain, name) = (key.plain, key.plain.name(key.query));
        let end = HEADER + name.len();
        self.qtype == plain.qtype
            && self.shape == plain.shape
            && self.asked == key.client.asked
            // A name that only begins like this one goes on with a length, which is never zero.
            && self.reply.get(end) == Some(&0)
            && self.reply.get(HEADER..end).is_some_and(|known| known.eq_ignore_ascii_case(name))
    }

    /// Octets of the answer.
    pub(super) fn len(&self) -> usize {
        self.reply.len()
    }

    /// Reads a little of everything that a repeat reads: what is read early is not waited for later.
    pub(super) fn touch(&self) -> u64 {
        u64::from(self.qtype) + u64::from(self.reply.get(HEADER).copied().unwrap_or_default())
    }

    /// Writes the answer to a query, and gives back its length; `None` when there is no room for it.
    pub(super) fn write(&self, key: &Key<'_>, now: Moment, id: [u8; ID], out: &mut [u8]) -> Option<usize> {
        let (plain, length) = (key.plain, self.reply.len());
        let out = out.get_mut(..length).filter(|_| length <= plain.limit())?;
        out.copy_from_slice(&self.reply);
        let flags = u16_at(&self.reply, 2)? | plain.flags & (flag::RD | flag::CD);
        patch(out, 0, &plain.id.to_be_bytes());
        patch(out, 2, &flags.to_be_bytes());
        patch(out, HEADER, plain.question(key.query));
        let age = u32::try_from(now.since(self.stored).as_secs()).unwrap_or(u32::MAX);
        if age > 0 {
            for (at, ttl) in &self.ttls {
                patch(out, usize::from(*at), &ttl.saturating_sub(age).to_be_bytes());
            }
        }
        if let Some(at) = self.id_at {
            patch(out, usize::from(at), &id);
        }
        Some(length)
    }
}
