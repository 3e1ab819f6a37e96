//! What the slow path taught about one question: the answer's bytes, how they age, and on what they depend.
//!
//! A lesson is made of an answer that the slow path just gave ([`Draft`]), so that both give the same bytes by
//! construction; an answer that it repeats differs from the first in id, RD, casing, TTLs and the id of its event alone.
//! Never decides: it holds for one rulebook, and [`super::memo`] asks whether what it depends on is still so.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use smallvec::SmallVec;
use tidegate_policy::compile::rules::RuleRef;
use tidegate_policy::event::EventId;
use tidegate_policy::rulebook::Rulebook;
use tidegate_policy::subject::Subject;
use tidegate_policy::verdict::{Judgement, Reason};
use tidegate_policy::{DnsName, Moment};

use super::plain::{Plain, Shape};
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

/// A lesson. Shared by all subjects of one rulebook that were answered alike.
#[derive(Debug)]
pub(super) struct Lesson {
    pub(super) name: DnsName,
    pub(super) qtype: u16,
    pub(super) shape: Shape,
    pub(super) book: Arc<Rulebook>,
    /// Id, RD, CD and the event's id zero, the name in lower case, TTLs as they came.
    pub(super) reply: Box<[u8]>,
    /// Offsets of TTLs, with what they were.
    ttls: Box<[(u16, u32)]>,
    /// When the answer began to age.
    stored: Moment,
    /// Until when it may be repeated.
    pub(super) until: Moment,
    /// When the answer's TTL is over.
    pub(super) ends: Moment,
    /// Offset of the event's id.
    id_at: Option<u16>,
    pub(super) judgement: Judgement,
    pub(super) chained: bool,
    pub(super) charged: Option<RuleRef>,
    pub(super) rcode: Rcode,
    pub(super) source: Source,
    pub(super) addresses: Box<[IpAddr]>,
    /// Further names that get tickets.
    pub(super) chain: Box<[DnsName]>,
    pub(super) listed: SmallVec<[CompactString; 2]>,
    pub(super) note: Option<CompactString>,
}

impl Lesson {
    /// Takes a lesson from an answer just given; `None` when it can't be repeated.
    pub(super) fn new(draft: Draft, plain: &Plain<'_>, reply: &[u8], now: Moment) -> Option<Self> {
        let mut bytes: Box<[u8]> = reply.into();
        let flags = u16_at(&bytes, 2)?;
        if flags & flag::TC != 0 {
            return None;
        }
        patch(&mut bytes, 0, &[0, 0]);
        patch(&mut bytes, 2, &(flags & !(flag::RD | flag::CD)).to_be_bytes());
        patch(&mut bytes, HEADER, plain.name());
        let longest = now.plus(MAX_AGE);
        let lesson = Self {
            name: name::canonical(plain.name()).ok()?,
            qtype: plain.qtype,
            shape: plain.shape,
            book: draft.book,
            reply: bytes,
            ttls: Box::default(),
            stored: now,
            until: longest,
            ends: longest,
            id_at: None,
            judgement: draft.judgement,
            chained: draft.ground.chained,
            charged: draft.ground.charged,
            rcode: draft.rcode,
            source: Source::Local,
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
        if self.shape.has_edns() {
            // The extended error is the last thing in the reply.
            let marked = format!(", event {id}");
            let at = self
                .reply
                .windows(marked.len())
                .rposition(|window| window == marked.as_bytes())?;
            let at = at + marked.len() - ID;
            patch(&mut self.reply, at, &[0; ID]);
            self.id_at = Some(u16::try_from(at).ok()?);
        }
        Some(self)
    }

    fn giving(mut self, given: Given) -> Option<Self> {
        let answer = given.answer;
        let age = answer.age(given.at);
        let records = index(&self.reply).ok()?.records;
        // What is zero by now stays zero.
        let then = |ttl: u32| if ttl == 0 { 0 } else { ttl.saturating_add(age) };
        self.ttls = records
            .iter()
            .map(|record| (record.ttl_at() as u16, then(record.ttl)))
            .collect();
        for (at, ttl) in &self.ttls {
            patch(&mut self.reply, usize::from(*at), &ttl.to_be_bytes());
        }
        self.stored = answer.stored;
        self.ends = answer.stored.plus(answer.life);
        self.until = self.until.min(self.ends);
        self.source = Source::Hit;
        self.addresses = given.addresses.into_vec().into();
        self.chain = answer.aliases.iter().chain(&answer.targets).cloned().collect();
        self.listed = given.listed;
        self.note = given.note;
        Some(self)
    }

    /// True when both say the same of the same question, from the same answer.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.book, &other.book)
            && (self.qtype, self.shape, self.stored, self.ends)
                == (other.qtype, other.shape, other.stored, other.ends)
            && self.name == other.name
            && self.reply == other.reply
            && self.id_at == other.id_at
            && self.judgement.verdict() == other.judgement.verdict()
            && self.addresses == other.addresses
            && self.chain == other.chain
    }

    /// Heap memory that it holds.
    pub(super) fn heap_bytes(&self) -> usize {
        let chain: usize = self.chain.iter().map(|name| 40 + name.as_wire().len()).sum();
        size_of::<Self>()
            + self.name.as_wire().len()
            + self.reply.len()
            + size_of_val(&*self.ttls)
            + size_of_val(&*self.addresses)
            + self.listed.iter().map(|text| 24 + text.len()).sum::<usize>()
            + chain
    }

    /// True when it was made here, not by an upstream.
    pub(super) fn is_refusal(&self) -> bool {
        self.source == Source::Local
    }

    /// True when answering gives tickets.
    pub(super) fn gives_tickets(&self) -> bool {
        !(self.addresses.is_empty() && self.chain.is_empty())
    }

    /// Writes the answer to `plain`, and gives back its length; `None` when there is no room for it.
    pub(super) fn write(
        &self,
        plain: &Plain<'_>,
        now: Moment,
        id: [u8; ID],
        out: &mut [u8],
    ) -> Option<usize> {
        let length = self.reply.len();
        let out = out.get_mut(..length).filter(|_| length <= plain.limit)?;
        out.copy_from_slice(&self.reply);
        let flags = u16_at(&self.reply, 2)? | plain.flags & (flag::RD | flag::CD);
        patch(out, 0, &plain.id.to_be_bytes());
        patch(out, 2, &flags.to_be_bytes());
        patch(out, HEADER, plain.question);
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
