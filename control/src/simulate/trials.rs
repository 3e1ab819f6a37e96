//! Candidates that are tried together: one reading of the record serves them all.
//!
//! Owns which candidate a recorded call counts for, and the days of the record: a day of which not every event was read is
//! dropped whole, for sums stand for it. What is made of the calls is [`super::tally`]'s.

use hashbrown::HashMap;
use jiff::Timestamp;
use tidegate_control_wire::event::EventRecord;
use tidegate_policy::effective::Attached;
use tidegate_policy::job::Scope;

use super::call::Call;
use super::candidate::Candidate;
use super::report::{Simulation, Tried};
use super::stage::{Stage, Stand};
use super::tally::{Bounds, Read, Tally};

/// Seconds of a day.
const DAY: i64 = 86_400;

/// Candidates, each with the calls that would be judged by it.
#[derive(Debug)]
pub struct Trials {
    stage: Stage,
    tallies: Vec<Tally>,
    bounds: Bounds,
    /// The day that is being read, in days since 1970, UTC.
    day: i64,
}

impl Trials {
    /// Puts candidates where they would stand, beside everything that is `attached`.
    pub fn new(candidates: Vec<Candidate>, stands: Vec<Stand>, attached: &HashMap<Scope, Attached>) -> Self {
        let bounds = Bounds::of(candidates.len());
        Self {
            stage: Stage::new(&candidates, stands, attached),
            tallies: candidates.into_iter().map(Tally::new).collect(),
            bounds,
            day: i64::MAX,
        }
    }

    /// Takes events, each with the time that it is filed under, the newest first. For those before `from` sums stand.
    pub fn events(&mut self, events: &[(Timestamp, EventRecord)], from: Timestamp) {
        for (at, event) in events.iter().filter(|(at, _)| *at >= from) {
            let day = day(*at);
            if day != self.day {
                self.close();
                self.day = day;
            }
            let Some(call) = Call::of(event) else { continue };
            if let Some(tally) = self.tally(&call) {
                let (tally, bounds) = tally;
                tally.event(call, (*at, event), bounds);
            }
        }
    }

    /// All events of the day that was being read were read.
    pub fn close(&mut self) {
        for tally in &mut self.tallies {
            tally.close(self.bounds);
        }
    }

    /// No events are read any more; those from `cut` on, the beginning of a day, were read whole. For days before it sums
    /// stand, for the one that was being read too if it lies there.
    pub fn end_at(&mut self, cut: Timestamp) {
        if self.day < day(cut) {
            for tally in &mut self.tallies {
                tally.drop_open_day();
            }
        }
        self.close();
    }

    /// Takes a sum of some days.
    pub fn sum(&mut self, call: Call, verdicts: u64, last: Timestamp) {
        if let Some((tally, bounds)) = self.tally(&call).filter(|_| verdicts > 0) {
            tally.sum(call, (verdicts, last), bounds);
        }
    }

    /// Judges everything and puts the answers together, one a candidate, in their order. A hundred thousand calls take
    /// a second or so.
    pub fn report(mut self, tried: Vec<Tried>, read: Read) -> Vec<Simulation> {
        self.close();
        let bounds = self.bounds;
        let tallies = self.tallies.into_iter().zip(tried);
        tallies
            .map(|(tally, tried)| tally.report(tried, read, bounds))
            .collect()
    }

    fn tally(&mut self, call: &Call) -> Option<(&mut Tally, Bounds)> {
        let at = self.stage.governs(&call.identity())?;
        Some((self.tallies.get_mut(at)?, self.bounds))
    }
}

fn day(time: Timestamp) -> i64 {
    time.as_second().div_euclid(DAY)
}
