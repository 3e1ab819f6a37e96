//! The memo: which lesson answers which subject's question, bounded in bytes.
//!
//! Owns pairs of (subject, source, asked server, question) and the lessons that they share; never decides whether a
//! lesson still holds ([`super::Worker`] does), never reads a clock. One a worker: no lock, and no allocation to find.
//! At its bound the pair goes that was not used since the hand passed last (a clock, as in paging).

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use tidegate_policy::Moment;
use tidegate_policy::subject::Subject;

use super::lesson::{Epochs, Lesson};
use super::plain::{Plain, Shape};
use super::window::Window;

/// Bytes of one memo: 100 000 pairs of 10 000 lessons.
pub(super) const MAX_BYTES: usize = 32 << 20;
/// What one pair costs, its places in the tables included.
pub(super) const PAIR: usize = size_of::<Option<Pair>>() + 8;
/// Pairs that the hand passes for one that it takes, at most: then the next goes, used or not.
const PATIENCE: usize = 64;
/// The part of all pairs that one sweep looks at.
const SWEEP: usize = 32;

/// What a question is known by.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) subject: u64,
    pub(super) source: IpAddr,
    pub(super) asked: SocketAddr,
    pub(super) name: &'a [u8],
    pub(super) qtype: u16,
    pub(super) shape: Shape,
}

impl<'a> Key<'a> {
    pub(super) fn new(subject: &Subject, source: IpAddr, asked: SocketAddr, plain: &'a Plain<'_>) -> Self {
        Self {
            subject: subject.id,
            source,
            asked,
            name: plain.name(),
            qtype: plain.qtype,
            shape: plain.shape,
        }
    }
}

/// One subject's question.
pub(super) struct Pair {
    hash: u64,
    pub(super) subject: Arc<Subject>,
    pub(super) source: IpAddr,
    pub(super) asked: SocketAddr,
    pub(super) lesson: Arc<Lesson>,
    /// Until when the tickets are known to live, given the epoch of their table; `None`: it was not asked yet.
    pub(super) tickets: Option<(u64, Moment)>,
    /// Another name has tickets at these addresses too: which was given last counts.
    pub(super) shared: bool,
    pub(super) epochs: Epochs,
    /// Repeats that no event was made of yet.
    pub(super) window: Option<Window>,
    /// Asked for since the hand passed.
    pub(super) used: bool,
}

impl Pair {
    pub(super) fn new(key: &Key<'_>, subject: Arc<Subject>, lesson: Arc<Lesson>, epochs: Epochs) -> Self {
        Self {
            hash: 0,
            subject,
            source: key.source,
            asked: key.asked,
            lesson,
            tickets: None,
            shared: false,
            epochs,
            window: None,
            used: false,
        }
    }

    fn is(&self, key: &Key<'_>) -> bool {
        self.subject.id == key.subject
            && self.source == key.source
            && self.asked == key.asked
            && self.lesson.qtype == key.qtype
            && self.lesson.shape == key.shape
            && self.lesson.name.as_wire() == key.name
    }
}

/// The memo. What leaves it is given back, so that its last window becomes an event.
pub(super) struct Memo {
    hasher: RandomState,
    bound: usize,
    table: HashTable<u32>,
    slots: Vec<Option<Pair>>,
    free: Vec<u32>,
    lessons: HashTable<Arc<Lesson>>,
    /// Bytes of pairs and lessons.
    bytes: usize,
    hand: usize,
    broom: usize,
    /// Pairs whose window is open, by when it was opened; a window that was closed otherwise leaves its entry behind.
    pub(super) open: VecDeque<(u32, Moment)>,
}

impl Memo {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            hasher: RandomState::default(),
            bound,
            table: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            lessons: HashTable::new(),
            bytes: 0,
            hand: 0,
            broom: 0,
            open: VecDeque::new(),
        }
    }

    /// How many pairs there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where the pair of a key is.
    pub(super) fn find(&self, key: &Key<'_>) -> Option<u32> {
        let hash = self.hash(key);
        let is = |at: &u32| {
            self.peek(*at)
                .is_some_and(|pair| pair.hash == hash && pair.is(key))
        };
        self.table.find(hash, is).copied()
    }

    /// A pair.
    pub(super) fn get(&mut self, at: u32) -> Option<&mut Pair> {
        self.slots.get_mut(at as usize)?.as_mut()
    }

    fn peek(&self, at: u32) -> Option<&Pair> {
        self.slots.get(at as usize)?.as_ref()
    }

    /// Puts a pair in place; gives back those that had to go for it. One with a lesson larger than the whole memo is not
    /// taken.
    pub(super) fn put(&mut self, key: &Key<'_>, mut pair: Pair) -> Vec<Pair> {
        let mut gone = Vec::new();
        let hash = self.hash(key);
        gone.extend(self.find(key).and_then(|at| self.remove(at)));
        pair.hash = hash;
        let cost = PAIR + pair.lesson.heap_bytes();
        if cost > self.bound {
            return gone;
        }
        while self.bytes + cost > self.bound
            && let Some(victim) = self.victim()
        {
            gone.extend(self.remove(victim));
        }
        pair.lesson = self.share(pair.lesson);
        self.bytes += PAIR;
        let at = if let Some(at) = self.free.pop() {
            self.slots[at as usize] = Some(pair);
            at
        } else {
            self.slots.push(Some(pair));
            (self.slots.len() - 1) as u32
        };
        let slots = &self.slots;
        self.table.insert_unique(hash, at, |other| hash_of(slots, *other));
        gone
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
    pub(super) fn remove(&mut self, at: u32) -> Option<Pair> {
        let pair = self.slots.get_mut(at as usize)?.take()?;
        self.free.push(at);
        self.bytes -= PAIR;
        if let Ok(entry) = self.table.find_entry(pair.hash, |other| *other == at) {
            entry.remove();
        }
        // The pair's own and the table's.
        if Arc::strong_count(&pair.lesson) == 2
            && let Ok(entry) = self
                .lessons
                .find_entry(lesson_hash(&self.hasher, &pair.lesson), |known| {
                    Arc::ptr_eq(known, &pair.lesson)
                })
        {
            entry.remove();
            self.bytes -= pair.lesson.heap_bytes();
        }
        Some(pair)
    }

    /// The pair that goes next.
    fn victim(&mut self) -> Option<u32> {
        let mut patience = PATIENCE;
        // Free slots cost a look, no patience.
        for _ in 0..2 * self.slots.len() {
            let at = self.hand % self.slots.len();
            self.hand = at + 1;
            let Some(pair) = self.slots.get_mut(at).and_then(Option::as_mut) else {
                continue;
            };
            if !std::mem::take(&mut pair.used) || patience == 0 {
                return Some(at as u32);
            }
            patience -= 1;
        }
        None
    }

    /// Looks at the next part of all pairs; gives back those whose lesson is over.
    pub(super) fn sweep(&mut self, now: Moment) -> Vec<Pair> {
        let mut gone = Vec::new();
        for _ in 0..self.slots.len().div_ceil(SWEEP) {
            let at = self.broom % self.slots.len();
            self.broom = at + 1;
            if self.peek(at as u32).is_some_and(|pair| pair.lesson.until <= now) {
                gone.extend(self.remove(at as u32));
            }
        }
        if self.table.is_empty() {
            (self.slots, self.free) = (Vec::new(), Vec::new());
        }
        gone
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) -> Vec<Pair> {
        self.table.clear();
        self.lessons.clear();
        self.free.clear();
        self.open.clear();
        self.bytes = 0;
        self.slots.drain(..).flatten().collect()
    }

    fn hash(&self, key: &Key<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        let kind = u64::from(key.qtype) | u64::from(key.shape.0) << 16 | u64::from(key.asked.port()) << 32;
        hasher.write_u64(key.subject);
        hasher.write_u64(kind);
        hasher.write_u128(number(key.source));
        hasher.write_u128(number(key.asked.ip()));
        hasher.write(key.name);
        hasher.finish()
    }
}

fn hash_of(slots: &[Option<Pair>], at: u32) -> u64 {
    slots
        .get(at as usize)
        .and_then(Option::as_ref)
        .map_or(0, |pair| pair.hash)
}

fn lesson_hash(hasher: &RandomState, lesson: &Lesson) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_usize(Arc::as_ptr(&lesson.book).addr());
    hasher.write_u64(u64::from(lesson.qtype) | u64::from(lesson.shape.0) << 16);
    hasher.write(lesson.name.as_wire());
    hasher.finish()
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => u128::from(u32::from(four)),
        IpAddr::V6(six) => u128::from(six),
    }
}
