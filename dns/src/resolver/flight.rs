//! Questions in flight: identical ones share one upstream query. Bounded in number and in waiters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::answer::Answer;
use super::{Question, ResolveError};

/// Questions in flight at once. Each holds a socket towards an upstream.
pub(crate) const MAX_FLIGHTS: usize = 4_096;
/// Clients that wait for one question.
pub(crate) const MAX_WAITERS: u32 = 1_024;

type Outcome = Result<Arc<Answer>, ResolveError>;

struct Flight {
    outcome: watch::Receiver<Option<Outcome>>,
    waiters: Arc<AtomicU32>,
}

/// All questions in flight.
#[derive(Default)]
pub(crate) struct Flights {
    open: Mutex<HashMap<Question, Flight>>,
}

/// One's part in a flight.
pub(crate) enum Joined {
    /// Another one's question is under way.
    Waiter(Waiter),
    /// Nobody asks yet: ask, and land the outcome.
    Leader(Landing, Waiter),
}

/// The right and the duty to end a flight. Dropping it ends the flight too, as a failure.
pub(crate) struct Landing(watch::Sender<Option<Outcome>>);

/// A place among those who wait.
pub(crate) struct Waiter {
    outcome: watch::Receiver<Option<Outcome>>,
    waiters: Arc<AtomicU32>,
}

impl Flights {
    /// Joins the flight of a question, or begins it.
    pub(crate) fn join(&self, question: &Question) -> Result<Joined, ResolveError> {
        let mut open = self.open.lock();
        if let Some(flight) = open.get(question) {
            // A flight whose task is gone (its runtime ended) has no sender any more.
            if flight.outcome.has_changed().is_ok() {
                return flight.wait().map(Joined::Waiter);
            }
            open.remove(question);
        }
        if open.len() >= MAX_FLIGHTS {
            return Err(ResolveError::Busy);
        }
        let (sender, outcome) = watch::channel(None);
        let flight = Flight {
            outcome,
            waiters: Arc::default(),
        };
        let waiter = flight.wait()?;
        open.insert(question.clone(), flight);
        Ok(Joined::Leader(Landing(sender), waiter))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.open.lock().len()
    }
}

impl Flight {
    fn wait(&self) -> Result<Waiter, ResolveError> {
        if self.waiters.fetch_add(1, Ordering::Relaxed) >= MAX_WAITERS {
            self.waiters.fetch_sub(1, Ordering::Relaxed);
            return Err(ResolveError::Busy);
        }
        Ok(Waiter {
            outcome: self.outcome.clone(),
            waiters: Arc::clone(&self.waiters),
        })
    }
}

impl Landing {
    /// Ends the flight: later questions begin another, everyone who waits gets the outcome.
    pub(crate) fn land(self, flights: &Flights, question: &Question, outcome: Outcome) {
        flights.open.lock().remove(question);
        self.0.send_replace(Some(outcome));
    }
}

impl Waiter {
    /// The outcome, when it is there.
    pub(crate) async fn landed(mut self) -> Outcome {
        match self.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(ResolveError::Unreachable)),
            Err(_) => Err(ResolveError::Unreachable),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.waiters.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use tidegate_policy::DnsName;

    use super::*;

    fn question(n: usize) -> Question {
        let name = DnsName::parse(&format!("n{n}.test")).unwrap();
        Question {
            name,
            rtype: 1,
            dnssec_ok: false,
            checking_disabled: false,
        }
    }

    #[test]
    fn waiters_of_one_question_are_bounded() {
        let flights = Flights::default();
        let Ok(Joined::Leader(_landing, first)) = flights.join(&question(0)) else {
            panic!()
        };
        let mut held = vec![first];
        for _ in 1..MAX_WAITERS {
            let Ok(Joined::Waiter(waiter)) = flights.join(&question(0)) else {
                panic!()
            };
            held.push(waiter);
        }
        assert!(matches!(flights.join(&question(0)), Err(ResolveError::Busy)));
        held.pop();
        assert!(flights.join(&question(0)).is_ok());
    }

    #[test]
    fn questions_in_flight_are_bounded() {
        let flights = Flights::default();
        let _open: Vec<_> = (0..MAX_FLIGHTS)
            .map(|n| flights.join(&question(n)).ok().unwrap())
            .collect();
        assert!(matches!(
            flights.join(&question(MAX_FLIGHTS)),
            Err(ResolveError::Busy)
        ));
        assert_eq!(flights.len(), MAX_FLIGHTS);
    }

    #[test]
    fn a_flight_whose_task_died_is_begun_anew() {
        let flights = Flights::default();
        let Ok(Joined::Leader(landing, _waiter)) = flights.join(&question(0)) else {
            panic!()
        };
        drop(landing);
        assert!(matches!(flights.join(&question(0)), Ok(Joined::Leader(..))));
    }
}
