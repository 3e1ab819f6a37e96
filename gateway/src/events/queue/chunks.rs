//! Permits that wait, oldest first, in chunks of memory that are used again.
//!
//! Owns no bound: [`super::EventQueue`] does. An event is written where it waits and allocates nothing; a queue that grows
//! never moves what it holds, because who pushes must not wait for that. Once a flood is over the chunks are given back.

use std::collections::VecDeque;

use super::Queued;

/// Events of a chunk: some thirty kilobytes.
pub(super) const CHUNK: usize = 128;
/// Empty chunks that are kept at most: what a busy thread fills while the consumer naps.
pub(super) const SPARE: usize = 32;

/// Some events, oldest first. It never grows.
pub(super) type Chunk = VecDeque<Queued>;

/// Permits of some threads.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    /// None of them is empty.
    waiting: VecDeque<Chunk>,
    spare: Vec<Chunk>,
}

impl Chunks {
    /// Queues a permit.
    pub(super) fn push(&mut self, queued: Queued) {
        if let Some(last) = self.waiting.back_mut().filter(|last| last.len() < CHUNK) {
            last.push_back(queued);
            return;
        }
        let spare = self.spare.pop();
        let mut fresh = spare.unwrap_or_else(|| Chunk::with_capacity(CHUNK));
        fresh.push_back(queued);
        self.waiting.push_back(fresh);
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<Queued> {
        let first = self.waiting.front_mut()?;
        let oldest = first.pop_front();
        if first.is_empty()
            && let Some(emptied) = self.waiting.pop_front()
        {
            self.keep(emptied);
        }
        oldest
    }

    /// Moves the oldest chunks to `taken`, at most so many, and takes empty ones in return.
    pub(super) fn trade(&mut self, most: usize, taken: &mut VecDeque<Chunk>, emptied: &mut Vec<Chunk>) {
        let count = self.waiting.len().min(most);
        if count == 0 {
            // Nobody needs them: soon there are none left.
            self.spare.truncate(self.spare.len() / 2);
            return;
        }
        taken.extend(self.waiting.drain(..count));
        for chunk in emptied.drain(emptied.len().saturating_sub(count)..) {
            self.keep(chunk);
        }
    }

    /// Events of which the memory is held, waiting or not.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let chunks = self.waiting.iter().chain(&self.spare);
        chunks.map(Chunk::capacity).sum()
    }

    fn keep(&mut self, chunk: Chunk) {
        if self.spare.len() < SPARE {
            self.spare.push(chunk);
        }
    }
}
