//! What goes first when the spool is full. Pure: decides by what is known of segments, touches none.
//!
//! The order of policy-semantics.md: permits are merged; then the oldest permits go; then refusals are merged, and those
//! of the noisiest job go, from the oldest on. A permit never costs a refusal its place, a noisy job never another
//! job's. Driven by [`super::room`], a step at a time, until there is room.

use compact_str::CompactString;
use hashbrown::HashMap;
use tidegate_control_wire::batch::Lane;

/// Bytes of each party's entries in a segment, of those that may go.
pub(super) type Parties = HashMap<CompactString, u64>;

/// What is known of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    /// Merging could make it smaller.
    pub(super) mergeable: bool,
    /// It holds entries that may go.
    pub(super) free: bool,
    /// Whose they are; `None` before anybody looked.
    pub(super) parties: Option<&'a Parties>,
}

/// Both lanes, oldest segments first, and what is needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full<'a> {
    /// Permits.
    pub(super) permits: &'a [Held<'a>],
    /// Refusals.
    pub(super) refusals: &'a [Held<'a>],
    /// For which lane room is needed.
    pub(super) lane: Lane,
    /// Bytes too many.
    pub(super) over: u64,
    /// Bytes that are worth rewriting a segment for.
    pub(super) worth: u64,
}

/// One step towards room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Merge this segment.
    Merge(Lane, usize),
    /// Drop what may go of this segment of permits.
    Clear(usize),
    /// Look whose the entries of this segment of refusals are.
    Survey(usize),
    /// Drop refusals of one party from this segment, oldest first.
    Thin {
        /// The segment.
        at: usize,
        /// Whose.
        party: CompactString,
        /// About so many bytes.
        need: u64,
    },
    /// Nothing may go in favour of this lane.
    Nothing,
}

/// The next step.
pub(super) fn decide(full: &Full<'_>) -> Step {
    let mergeable = |held: &Held<'_>| held.mergeable;
    if let Some(at) = full.permits.iter().position(mergeable) {
        return Step::Merge(Lane::Permits, at);
    }
    if let Some(at) = full.permits.iter().position(|held| held.free) {
        return Step::Clear(at);
    }
    match full.lane {
        Lane::Permits => Step::Nothing,
        Lane::Refusals => match full.refusals.iter().position(mergeable) {
            Some(at) => Step::Merge(Lane::Refusals, at),
            None => thin(full),
        },
    }
}

fn thin(full: &Full<'_>) -> Step {
    if let Some(at) = full.refusals.iter().position(|held| held.parties.is_none()) {
        return Step::Survey(at);
    }
    let mut all: HashMap<&str, u64> = HashMap::new();
    for (party, bytes) in full.refusals.iter().filter_map(|held| held.parties).flatten() {
        *all.entry(party).or_default() += bytes;
    }
    let most = all.values().copied().max().unwrap_or_default();
    // Of two that are equally noisy, the one whose refusals are older; whichever it is, it is the same one each time.
    let oldest = full.refusals.iter().enumerate().find_map(|(at, held)| {
        let mut here = held.parties?.keys().filter(|party| all[party.as_str()] == most);
        let first = here.next()?;
        Some((at, here.fold(first, |one, other| one.min(other))))
    });
    let Some((at, party)) = oldest.filter(|_| most > 0) else {
        return Step::Nothing;
    };
    let second = all
        .iter()
        .filter(|(other, _)| **other != party)
        .map(|(_, bytes)| *bytes);
    // No further below the next noisiest than is worth the work: then it is that one's turn.
    let lead = most - second.max().unwrap_or_default();
    let need = full
        .over
        .saturating_add(full.worth)
        .min(lead.max(full.worth / 8))
        .max(1);
    Step::Thin {
        at,
        party: party.clone(),
        need,
    }
}

#[cfg(test)]
mod tests;
