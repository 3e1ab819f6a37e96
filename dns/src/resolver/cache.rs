//! The answer cache: unfiltered answers of upstreams, shared by all jobs, bounded by bytes.
//!
//! Holds answers until they are evicted, past their life too (they may be served stale); whoever looks
//! up says what time it is.

use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{UnitWeighter, Weighter};
use tidegate_policy::Moment;

use super::answer::Answer;
use super::{Question, ResolveError};

/// Bytes of the cache unless told otherwise: about 150 000 answers of the usual size.
pub const DEFAULT_CACHE_BYTES: usize = 64 << 20;
/// What the usual entry weighs; only sizes the tables.
const USUAL_ENTRY: usize = 400;
/// The cache's own cost of an entry, key and pointers included.
const OVERHEAD: usize = 160;
/// Failures remembered at once.
const MAX_FAILURES: usize = 8_192;

/// How an answer stands at a moment.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    /// Within its TTL.
    Fresh(Arc<Answer>),
    /// Past its TTL, not past the bound of serve-stale.
    Stale(Arc<Answer>),
    /// Nothing usable.
    Nothing,
}

#[derive(Clone, Debug)]
struct Weigh;

impl Weighter<Question, Arc<Answer>> for Weigh {
    fn weight(&self, question: &Question, answer: &Arc<Answer>) -> u64 {
        (OVERHEAD + question.name.as_wire().len() + answer.heap_bytes()) as u64
    }
}

/// The cache. Shared by all threads.
#[derive(Debug)]
pub(crate) struct AnswerCache {
    answers: Cache<Question, Arc<Answer>, Weigh, RandomState>,
    failures: Cache<Question, (Moment, ResolveError), UnitWeighter, RandomState>,
}

impl AnswerCache {
    pub(crate) fn new(bytes: usize) -> Self {
        let (usual, hash) = (bytes / USUAL_ENTRY + 1, RandomState::default);
        Self {
            answers: Cache::with(usual, bytes as u64, Weigh, hash(), DefaultLifecycle::default()),
            failures: Cache::with(
                MAX_FAILURES,
                MAX_FAILURES as u64,
                UnitWeighter,
                hash(),
                DefaultLifecycle::default(),
            ),
        }
    }

    /// What is held for a question.
    pub(crate) fn get(&self, question: &Question, max_stale: Duration, now: Moment) -> Held {
        let Some(answer) = self.answers.get(question) else {
            return Held::Nothing;
        };
        let age = now.since(answer.stored);
        if age < answer.life {
            Held::Fresh(answer)
        } else if age < answer.life.saturating_add(max_stale) && !answer.life.is_zero() {
            Held::Stale(answer)
        } else {
            Held::Nothing
        }
    }

    /// Stores an answer; it ends the memory of failures.
    pub(crate) fn put(&self, question: &Question, answer: &Arc<Answer>) {
        self.failures.remove(question);
        if !answer.life.is_zero() {
            self.answers.insert(question.clone(), Arc::clone(answer));
        }
    }

    /// The failure that is remembered for a question (RFC 9520).
    pub(crate) fn failure(&self, question: &Question, now: Moment) -> Option<ResolveError> {
        self.failures
            .get(question)
            .filter(|(until, _)| now < *until)
            .map(|(_, error)| error)
    }

    /// Remembers a failure until `until`.
    pub(crate) fn put_failure(&self, question: &Question, error: ResolveError, until: Moment) {
        self.failures.insert(question.clone(), (until, error));
    }

    /// Number of answers.
    pub(crate) fn len(&self) -> usize {
        self.answers.len()
    }

    /// Bytes of the answers.
    pub(crate) fn bytes(&self) -> u64 {
        self.answers.weight()
    }
}
