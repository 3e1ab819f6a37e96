//! What the consumer took out of the lanes and did not hand on yet, and the order in which it does.
//!
//! Owns the merge of lanes, each of which is in order, into one stream by serial, a piece at a time. Only the consumer
//! touches it. What is in the lanes still can be dropped there; what is here is on its way.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::chunks::{Chunk, SPARE};
use super::fair::FairLane;
use super::{EventQueue, Queued};

/// Chunks that are taken from a shard at once.
const AT_ONCE: usize = 4;

/// The consumer's.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    shards: Vec<VecDeque<Chunk>>,
    /// In order.
    refusals: VecDeque<Box<Queued>>,
    /// How many of the first of them have left the queue's bound.
    counted: usize,
    /// Permits that are here and have left it.
    ahead: u64,
    emptied: Vec<Chunk>,
    /// The oldest of each source of which something is older than what is asked for.
    oldest: BinaryHeap<Reverse<(u64, usize)>>,
    /// The memory of the last piece.
    pub(super) piece: Vec<Queued>,
}

impl Inbox {
    /// Moves what has a serial below `upto` to `events`, oldest first, until there are `most`. Gives back the first serial
    /// below `upto` that is left. What is at hand and can't be dropped any more takes no room from those that come.
    pub(super) fn fill(
        &mut self,
        queue: &EventQueue,
        (events, most): (&mut Vec<Queued>, usize),
        upto: u64,
    ) -> Option<u64> {
        self.shards.resize_with(queue.permits.len(), VecDeque::new);
        self.oldest.clear();
        self.count(queue, upto);
        for source in 0..=self.shards.len() {
            self.line_up(queue, source, upto);
        }
        let mut permits = 0;
        while events.len() < most
            && let Some(Reverse((_, source))) = self.oldest.pop()
        {
            let before = events.len();
            let next = self.oldest.peek().map_or(upto, |Reverse((serial, _))| *serial);
            let room = most - before;
            if let Some(shard) = self.shards.get_mut(source) {
                run(shard, &mut self.emptied, (events, room), next);
                permits += (events.len() - before) as u64;
            } else {
                let older = self.refusals.partition_point(|one| one.serial < next).min(room);
                events.extend(self.refusals.drain(..older).map(|one| *one));
                self.counted -= older;
            }
            self.line_up(queue, source, upto);
        }
        let left = self.oldest.peek().map(|Reverse((serial, _))| *serial);
        let older = |chunk: &Chunk| chunk.partition_point(|one| one.serial < upto) as u64;
        let ahead = match left {
            Some(_) => self.shards.iter().flatten().map(older).sum(),
            None => 0,
        };
        queue.leave(permits + ahead - self.ahead);
        self.ahead = ahead;
        left
    }

    /// Notes the oldest of a source, which is taken out of its lane when nothing is at hand.
    fn line_up(&mut self, queue: &EventQueue, source: usize, upto: u64) {
        if self.front(source).is_none() {
            match self.shards.get_mut(source) {
                Some(shard) => queue.permits[source]
                    .0
                    .lock()
                    .trade(AT_ONCE, shard, &mut self.emptied),
                None => self.drain(&mut queue.refusals.lock(), queue, upto),
            }
        }
        // What is newer may wait beside something older that nobody has looked at.
        if let Some(serial) = self.front(source).filter(|serial| *serial < upto) {
            self.oldest.push(Reverse((serial, source)));
        }
    }

    fn front(&self, source: usize) -> Option<u64> {
        match self.shards.get(source) {
            Some(shard) => shard.front()?.front().map(|one| one.serial),
            None => self.refusals.front().map(|one| one.serial),
        }
    }

    fn drain(&mut self, lane: &mut FairLane, queue: &EventQueue, upto: u64) {
        let mut all = Vec::new();
        lane.drain(&mut all);
        all.sort_unstable_by_key(|one| one.serial);
        self.refusals.extend(all);
        self.count(queue, upto);
    }

    /// Refusals that were taken leave the bound at once: those that come find their room.
    fn count(&mut self, queue: &EventQueue, upto: u64) {
        let older = self.refusals.partition_point(|one| one.serial < upto);
        queue.leave((older - self.counted) as u64);
        self.counted = older;
    }
}

/// Moves events of a shard that are older than `next`, at most so many.
fn run(
    shard: &mut VecDeque<Chunk>,
    emptied: &mut Vec<Chunk>,
    (events, mut room): (&mut Vec<Queued>, usize),
    next: u64,
) {
    while let Some(chunk) = shard.front_mut() {
        let older = chunk.partition_point(|one| one.serial < next).min(room);
        events.extend(chunk.drain(..older));
        room -= older;
        if !chunk.is_empty() {
            return;
        }
        if let Some(chunk) = shard.pop_front().filter(|_| emptied.len() < SPARE) {
            emptied.push(chunk);
        }
    }
}
