//! Simulation: a candidate policy against what jobs really reached, before anybody enforces it.
//!
//! Pure. Owns which candidate a recorded call counts for ([`trials`], [`stage`]), what it is judged by ([`candidate`]), how it
//! is judged anew ([`judge`]), and what the answer says ([`tally`], [`report`]). The judgement is the policy crate's own, the
//! one that gateways run; where the record says too little to ask it, the answer is "undecided" and why, never a guess.
//! Reading the record is the store's
//! ([`crate::store::Store::recorded_events`], [`crate::store::Store::recorded_sums`]); the API drives both.

mod call;
mod candidate;
mod judge;
mod lists;
mod report;
mod stage;
mod tally;
mod trials;

#[cfg(test)]
mod tests;

pub use call::{Call, Detail};
pub use candidate::Candidate;
pub use judge::{Foreseen, foresee};
pub use report::{
    Affected, Change, Completeness, Counted, Counts, Dns, JobOf, SimulatedPolicy, Simulation, Tried,
    Unchanged, Window,
};
pub use stage::Stand;
pub use tally::{MAX_CALLS, Read};
pub use trials::Trials;
