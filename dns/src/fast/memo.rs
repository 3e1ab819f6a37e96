//! The memo: which lesson answers which source's question, bounded in bytes.
//!
//! Owns pairs of (source, asked server, question) and the lessons that they share, and when their windows end; never decides
//! whether a lesson still holds ([`super::ground`] does), never reads a clock. One a worker: no lock, and no allocation to
//! find. At its bound the pair goes that was not used since the hand passed last (a clock, as in paging).

use std::hash::{BuildHasher as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use tidegate_policy::Moment;

use super::lesson::Lesson;
use super::pair::{Cold, Gone, Hot, Pair};
use super::plain::Plain;
use super::wheel::Wheel;
use crate::front::client::Client;

/// Bytes of one memo: 100 000 pairs of 10 000 lessons.
pub(super) const MAX_BYTES: usize = 32 << 20;
/// What one pair costs, its places in the tables and the wheel included.
pub(super) const PAIR: usize = size_of::<Option<Hot>>() + size_of::<Option<Cold>>() + 48;
/// Pairs that the hand passes for one that it takes, at most: then the next goes, used or not.
const PATIENCE: usize = 64;
/// The part of all pairs that one sweep looks at.
const SWEEP: usize = 32;

/// What a question is known by.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) client: &'a Client,
    /// The source's number.
    pub(super) source: u128,
    pub(super) plain: &'a Plain,
    pub(super) query: &'a [u8],
}

impl<'a> Key<'a> {
    /// `None`: an IPv4 address in the form of IPv6, which no socket of ours gives.
    pub(super) fn new(client: &'a Client, plain: &'a Plain, query: &'a [u8]) -> Option<Self> {
        Some(Self {
            source: number(client.source.ip())?,
            client,
            plain,
            query,
        })
    }
}

/// Where a pair is, and enough of its hash to tell that it is another without looking there.
#[derive(Clone, Copy)]
struct Place {
    tag: u32,
    at: u32,
}

impl Place {
    /// Bits that the table itself does not use.
    fn tag(hash: u64) -> u32 {
        (hash >> 25) as u32
    }
}

/// The memo. What leaves it is given back, so that its last window becomes an event.
pub(super) struct Memo {
    hasher: RandomState,
    bound: usize,
    table: HashTable<Place>,
    hot: Vec<Option<Hot>>,
    cold: Vec<Option<Cold>>,
    free: Vec<u32>,
    /// The first pair of each source.
    heads: HashMap<u128, u32, RandomState>,
    lessons: HashTable<Arc<Lesson>>,
    /// Bytes of pairs and lessons.
    bytes: usize,
    hand: usize,
    broom: usize,
    /// When open windows end.
    pub(super) wheel: Wheel,
}

impl Memo {
    pub(super) fn new(bound: usize, now: Moment) -> Self {
        Self {
            hasher: RandomState::default(),
            bound,
            table: HashTable::new(),
            hot: Vec::new(),
            cold: Vec::new(),
            free: Vec::new(),
            heads: HashMap::default(),
            lessons: HashTable::new(),
            bytes: 0,
            hand: 0,
            broom: 0,
            wheel: Wheel::new(now),
        }
    }

    /// Places that pairs have, or had.
    pub(super) fn slots(&self) -> u32 {
        self.hot.len() as u32
    }

    /// How many pairs there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where the pair of this hash is, to all appearances: nothing but the table is read.
    pub(super) fn spot(&self, hash: u64) -> Option<u32> {
        let tag = Place::tag(hash);
        self.table
            .find(hash, |place| place.tag == tag)
            .map(|place| place.at)
    }

    /// Where the pair of a key is.
    pub(super) fn find(&self, key: &Key<'_>, hash: u64) -> Option<u32> {
        let tag = Place::tag(hash);
        let is = |place: &Place| place.tag == tag && self.peek(place.at).is_some_and(|hot| hot.is(key));
        self.table.find(hash, is).map(|place| place.at)
    }

    /// What is hot of a pair.
    pub(super) fn peek(&self, at: u32) -> Option<&Hot> {
        self.hot.get(at as usize)?.as_ref()
    }

    /// The same, to be changed.
    pub(super) fn hot(&mut self, at: u32) -> Option<&mut Hot> {
        self.hot.get_mut(at as usize)?.as_mut()
    }

    /// A pair, and the wheel.
    pub(super) fn get(&mut self, at: u32) -> Option<(Pair<'_>, &mut Wheel)> {
        let hot = self.hot.get_mut(at as usize)?.as_mut()?;
        let cold = self.cold.get_mut(at as usize)?.as_mut()?;
        Some((Pair { hot, cold }, &mut self.wheel))
    }

    /// The pairs of a source.
    pub(super) fn of_source(&self, source: IpAddr) -> Vec<u32> {
        let first = number(source).and_then(|source| self.heads.get(&source).copied());
        std::iter::successors(first, |at| self.cold.get(*at as usize)?.as_ref()?.next).collect()
    }

    /// Puts a pair in place; gives back which, and those that had to go for it. One with a lesson larger than the whole memo
    /// is not taken.
    pub(super) fn put(&mut self, key: &Key<'_>, hash: u64, mut pair: Gone) -> (Option<u32>, Vec<Gone>) {
        let mut gone = Vec::new();
        gone.extend(self.find(key, hash).and_then(|at| self.remove(at)));
        pair.cold.hash = hash;
        let cost = PAIR + pair.hot.lesson.heap_bytes();
        if cost > self.bound {
            return (None, gone);
        }
        while self.bytes + cost > self.bound
            && let Some(victim) = self.victim()
        {
            gone.extend(self.remove(victim));
        }
        pair.hot.lesson = self.share(pair.hot.lesson);
        self.bytes += PAIR;
        let at = self.free.pop().unwrap_or_else(|| {
            self.hot.push(None);
            self.cold.push(None);
            (self.hot.len() - 1) as u32
        });
        self.link(at, &mut pair);
        if let (Some(hot), Some(cold)) = (self.hot.get_mut(at as usize), self.cold.get_mut(at as usize)) {
            (*hot, *cold) = (Some(pair.hot), Some(pair.cold));
        }
        let (place, cold) = (
            Place {
                tag: Place::tag(hash),
                at,
            },
            &self.cold,
        );
        self.table
            .insert_unique(hash, place, |other| hash_of(cold, other.at));
        (Some(at), gone)
    }

    /// Makes a pair the first of its source.
    fn link(&mut self, at: u32, pair: &mut Gone) {
        pair.cold.next = self.heads.insert(pair.hot.source, at);
        let next = pair.cold.next;
        if let Some(next) = self.cold_of(next) {
            next.previous = Some(at);
        }
    }

    fn unlink(&mut self, pair: &Gone) {
        let (next, previous) = (pair.cold.next, pair.cold.previous);
        if let Some(next) = self.cold_of(next) {
            next.previous = previous;
        }
        match (self.cold_of(previous), next) {
            (Some(previous), _) => previous.next = next,
            (None, Some(next)) => {
                self.heads.insert(pair.hot.source, next);
            }
            (None, None) => {
                self.heads.remove(&pair.hot.source);
            }
        }
    }

    fn cold_of(&mut self, at: Option<u32>) -> Option<&mut Cold> {
        self.cold.get_mut(at? as usize)?.as_mut()
    }

    /// The same lesson, if another subject was taught it already.
    fn share(&mut self, lesson: Arc<Lesson>) -> Arc<Lesson> {
        let (hasher, hash) = (&self.hasher, lesson_hash(&self.hasher, &lesson));
        if let Some(known) = self.lessons.find(hash, |known| known.is_same(&lesson)) {
            return Arc::clone(known);
        }
        self.bytes += lesson.heap_bytes();
        self.lessons
            .insert_unique(hash, Arc::clone(&lesson), |known| lesson_hash(hasher, known));
        lesson
    }

    /// Takes a pair out, and its lesson with the last pair that needs it.
    pub(super) fn remove(&mut self, at: u32) -> Option<Gone> {
        let hot = self.hot.get_mut(at as usize)?.take()?;
        let cold = self.cold.get_mut(at as usize)?.take()?;
        let pair = Gone { hot, cold };
        self.free.push(at);
        self.bytes -= PAIR;
        if let Ok(entry) = self.table.find_entry(pair.cold.hash, |other| other.at == at) {
            entry.remove();
        }
        self.unlink(&pair);
        if let Some(window) = &pair.cold.window {
            self.wheel.take(at, window.ends);
        }
        // The pair's own and the table's.
        let lesson = &pair.hot.lesson;
        if Arc::strong_count(lesson) == 2
            && let Ok(entry) = self
                .lessons
                .find_entry(lesson_hash(&self.hasher, lesson), |known| {
                    Arc::ptr_eq(known, lesson)
                })
        {
            entry.remove();
            self.bytes -= lesson.heap_bytes();
        }
        Some(pair)
    }

    /// The pair that goes next.
    fn victim(&mut self) -> Option<u32> {
        let mut patience = PATIENCE;
        // Free slots cost a look, no patience.
        for _ in 0..2 * self.hot.len() {
            let at = self.hand % self.hot.len();
            self.hand = at + 1;
            let Some(hot) = self.hot.get_mut(at).and_then(Option::as_mut) else {
                continue;
            };
            if !std::mem::take(&mut hot.used) || patience == 0 {
                return Some(at as u32);
            }
            patience -= 1;
        }
        None
    }

    /// Looks at the next part of all pairs; gives back those whose lesson is over.
    pub(super) fn sweep(&mut self, now: Moment) -> Vec<Gone> {
        let mut gone = Vec::new();
        for _ in 0..self.hot.len().div_ceil(SWEEP) {
            let at = self.broom % self.hot.len();
            self.broom = at + 1;
            if self.peek(at as u32).is_some_and(|hot| hot.lesson.until <= now) {
                gone.extend(self.remove(at as u32));
            }
        }
        if self.table.is_empty() {
            (self.hot, self.cold, self.free) = (Vec::new(), Vec::new(), Vec::new());
        }
        gone
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) -> Vec<Gone> {
        self.table.clear();
        self.lessons.clear();
        self.heads.clear();
        self.free.clear();
        self.wheel.clear();
        self.bytes = 0;
        let pairs = self.hot.drain(..).zip(self.cold.drain(..));
        pairs
            .filter_map(|(hot, cold)| {
                Some(Gone {
                    hot: hot?,
                    cold: cold?,
                })
            })
            .collect()
    }

    /// The hash by which a question is found.
    pub(super) fn hash(&self, key: &Key<'_>) -> u64 {
        let (plain, asked) = (key.plain, key.client.asked);
        let mut hasher = self.hasher.build_hasher();
        let kind = u64::from(plain.qtype) | u64::from(plain.shape.0) << 16 | u64::from(asked.port()) << 32;
        hasher.write_u64(kind);
        hasher.write_u128(key.source);
        hasher.write_u128(match asked.ip() {
            IpAddr::V4(four) => u128::from(u32::from(four)),
            IpAddr::V6(six) => u128::from(six),
        });
        hasher.write(&plain.lower(key.query));
        hasher.finish()
    }
}

fn hash_of(cold: &[Option<Cold>], at: u32) -> u64 {
    cold.get(at as usize)
        .and_then(Option::as_ref)
        .map_or(0, |cold| cold.hash)
}

fn lesson_hash(hasher: &RandomState, lesson: &Lesson) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_usize(Arc::as_ptr(&lesson.book).addr());
    hasher.write_u64(u64::from(lesson.said.qtype) | u64::from(lesson.said.shape.0) << 16);
    hasher.write(lesson.name.as_wire());
    hasher.finish()
}

/// A source's number; each has one of its own.
fn number(source: IpAddr) -> Option<u128> {
    match source {
        IpAddr::V4(four) => Some(u128::from(four.to_ipv6_mapped())),
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => None,
        IpAddr::V6(six) => Some(u128::from(six)),
    }
}
