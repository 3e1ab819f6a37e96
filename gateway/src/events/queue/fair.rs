//! Refusals that wait, told apart by whose they are: when there is no room, the party with the most gives up its oldest.
//!
//! Owns the refusals of a full queue and the choice among them, in constant time: a flood of refusals from a million forged
//! sources must not make each one dearer. Parties are known by a hash of 64 bits; two whose hashes meet share their fate.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashMap};
use tidegate_policy::event::NetworkEvent;

use super::Queued;

/// Refusals by party.
#[derive(Debug, Default)]
pub(super) struct FairLane {
    hasher: DefaultHashBuilder,
    parties: HashMap<u64, Party>,
    /// `by_count[n]`: the parties with n + 1 refusals. The last one is never empty.
    by_count: Vec<Vec<u64>>,
}

#[derive(Debug, Default)]
struct Party {
    queued: VecDeque<Box<Queued>>,
    /// Its place among those with as many.
    at: usize,
}

impl FairLane {
    /// Queues a refusal.
    pub(super) fn push(&mut self, queued: Box<Queued>) {
        let party = self.party(&queued.event);
        let known = self.parties.entry(party).or_default();
        let (before, at) = (known.queued.len(), known.at);
        known.queued.push_back(queued);
        self.join(party, before + 1);
        if before > 0 {
            self.leave(at, before);
        }
    }

    /// Takes the oldest refusal of the party that has the most; `None` when that is the party of `fresh`, or there is none.
    pub(super) fn make_room_for(&mut self, fresh: &NetworkEvent) -> Option<Box<Queued>> {
        let most = self.by_count.len();
        let mine = self.parties.get(&self.party(fresh));
        if mine.is_some_and(|mine| mine.queued.len() >= most) {
            return None;
        }
        let noisiest = *self.by_count.last()?.last()?;
        let party = self.parties.get_mut(&noisiest)?;
        let (gone, at) = (party.queued.pop_front(), party.at);
        if most > 1 {
            self.join(noisiest, most - 1);
        } else {
            self.parties.remove(&noisiest);
        }
        self.leave(at, most);
        if self.by_count.last().is_some_and(Vec::is_empty) {
            self.by_count.pop();
        }
        gone
    }

    #[expect(clippy::vec_box, reason = "they are boxed already, and moved as they are")]
    /// Moves all of them to `all`, in no order.
    pub(super) fn drain(&mut self, all: &mut Vec<Box<Queued>>) {
        self.by_count.clear();
        for (_, party) in self.parties.drain() {
            all.extend(party.queued);
        }
    }

    fn party(&self, event: &NetworkEvent) -> u64 {
        match &event.subject.job {
            Some(job) => self.hasher.hash_one(&job.id),
            None => self.hasher.hash_one(event.source),
        }
    }

    /// Notes that a party has this many.
    fn join(&mut self, party: u64, count: usize) {
        if self.by_count.len() < count {
            self.by_count.resize_with(count, Vec::new);
        }
        let peers = &mut self.by_count[count - 1];
        if let Some(known) = self.parties.get_mut(&party) {
            known.at = peers.len();
        }
        peers.push(party);
    }

    /// Forgets that the party at this place had this many.
    fn leave(&mut self, at: usize, count: usize) {
        let peers = &mut self.by_count[count - 1];
        peers.swap_remove(at);
        if let Some(moved) = peers.get(at).and_then(|moved| self.parties.get_mut(moved)) {
            moved.at = at;
        }
    }
}
