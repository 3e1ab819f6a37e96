//! Deadlines of flows, kept by the thread's reactor. Owns the table of those that somebody waits for; never acts on
//! them. Driven by the reactor's driver, which looks at the table when one may be due, used by `flow`, `dial` and `relay`.
//!
//! Hardly any deadline of a flow is ever reached. So setting one writes a line of a table and forgetting it clears
//! that line, where the runtime's timers are a wheel with a lock, an entry of a hundred octets, and, for one that is due
//! before all others, a wake-up. Deadlines are kept to [`TICK`] that way; those shorter than [`EXACT`] are the runtime's.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::{Reactor, TICK};

/// Shorter deadlines are kept exactly.
const EXACT: Duration = TICK.saturating_mul(10);

/// All deadlines of a thread.
#[derive(Default)]
pub(super) struct Alarms {
    /// As many as there ever were alarms at once: a few for each flow.
    lines: Vec<Line>,
    free: Vec<u32>,
    /// None is due before this.
    next: Option<Instant>,
    /// When the driver looks next.
    looks: Option<Instant>,
    driver: Option<Waker>,
}

struct Line {
    /// None once it was due.
    at: Option<Instant>,
    waker: Option<Waker>,
}

impl Alarms {
    fn set(&mut self, at: Instant, waker: Waker) -> u32 {
        let line = Line {
            at: Some(at),
            waker: Some(waker),
        };
        let place = if let Some(place) = self.free.pop() {
            self.lines[place as usize] = line;
            place
        } else {
            self.lines.push(line);
            self.lines.len() as u32 - 1
        };
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
        if self.looks.is_none_or(|looks| looks > at)
            && let Some(driver) = self.driver.take()
        {
            driver.wake();
        }
        place
    }

    fn poll(&mut self, place: u32, waker: &Waker) -> Poll<()> {
        let line = &mut self.lines[place as usize];
        if line.at.is_none() {
            return Poll::Ready(());
        }
        if !line.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            line.waker = Some(waker.clone());
        }
        Poll::Pending
    }

    fn give_back(&mut self, place: u32) -> Option<Waker> {
        let line = &mut self.lines[place as usize];
        line.at = None;
        self.free.push(place);
        line.waker.take()
    }

    /// Collects who waits for what is due, and returns when to look again.
    pub(super) fn due(&mut self, now: Instant, wakers: &mut Vec<Waker>) -> Option<Instant> {
        if self.next.is_some_and(|next| next <= now) {
            self.next = None;
            for line in &mut self.lines {
                let Some(at) = line.at else { continue };
                if at <= now {
                    line.at = None;
                    wakers.extend(line.waker.take());
                } else {
                    self.next = Some(self.next.map_or(at, |next| next.min(at)));
                }
            }
        }
        self.next
    }

    /// Says when the driver looks next; it is woken when something is due before that.
    pub(super) fn looks(&mut self, at: Option<Instant>) {
        self.looks = at;
    }

    /// True when the driver looks at any time.
    pub(super) fn is_to_be_looked_at(&self) -> bool {
        self.looks.is_some()
    }

    /// Ready when something is due before the driver's next look.
    pub(super) fn poll_earlier(&mut self, waker: &Waker) -> Poll<Instant> {
        if let Some(next) = self.next
            && self.looks.is_none_or(|looks| looks > next)
        {
            return Poll::Ready(next);
        }
        if !self.driver.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.driver = Some(waker.clone());
        }
        Poll::Pending
    }
}

/// A deadline, counted from when it is first waited for.
pub(crate) struct Alarm {
    state: State,
}

enum State {
    Unset(Duration),
    Kept { reactor: Arc<Reactor>, place: u32 },
    Exact(Pin<Box<Sleep>>),
}

impl Alarm {
    /// One that is due after so long.
    pub(crate) const fn after(long: Duration) -> Self {
        Self {
            state: State::Unset(long),
        }
    }

    /// Ready once it is due, at most [`TICK`] late.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state {
            State::Unset(long) => {
                let long = *long;
                if long >= EXACT
                    && let Ok(reactor) = Reactor::current()
                {
                    let at = Instant::now() + long;
                    let place = reactor.alarms.lock().set(at, cx.waker().clone());
                    self.state = State::Kept { reactor, place };
                    return Poll::Pending;
                }
                let mut sleep = Box::pin(tokio::time::sleep(long));
                let due = sleep.as_mut().poll(cx);
                self.state = State::Exact(sleep);
                due
            }
            State::Kept { reactor, place } => reactor.alarms.lock().poll(*place, cx.waker()),
            State::Exact(sleep) => sleep.as_mut().poll(cx),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let State::Kept { reactor, place } = &self.state {
            let waker = reactor.alarms.lock().give_back(*place);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::future::poll_fn;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Lines in use.
    fn kept() -> usize {
        let reactor = Reactor::current().unwrap();
        let alarms = reactor.alarms.lock();
        alarms.lines.len() - alarms.free.len()
    }

    async fn rings(mut alarm: Alarm) -> Instant {
        let ring = poll_fn(|cx| alarm.poll(cx));
        tokio::time::timeout(PATIENCE, ring).await.unwrap();
        Instant::now()
    }

    #[tokio::test]
    async fn a_long_deadline_is_kept_in_the_table_and_rings_when_it_is_due_and_not_before() {
        let begun = Instant::now();
        let rung = tokio::spawn(rings(Alarm::after(EXACT)));
        tokio::task::yield_now().await;
        assert_eq!(kept(), 1);
        assert!(rung.await.unwrap() >= begun + EXACT);
        assert_eq!(kept(), 0);
    }

    #[tokio::test]
    async fn a_short_deadline_is_the_runtimes() {
        let begun = Instant::now();
        let rung = tokio::spawn(rings(Alarm::after(TICK)));
        tokio::task::yield_now().await;
        assert_eq!(kept(), 0);
        assert!(rung.await.unwrap() >= begun + TICK);
    }

    #[tokio::test]
    async fn an_earlier_deadline_does_not_wait_for_a_later_one() {
        let late = tokio::spawn(rings(Alarm::after(PATIENCE * 2)));
        // The driver has nothing to look at before the late one.
        tokio::time::sleep(3 * TICK).await;
        let (begun, early) = (Instant::now(), rings(Alarm::after(EXACT)).await);
        assert!(early >= begun + EXACT && !late.is_finished());
        late.abort();
        assert!(late.await.unwrap_err().is_cancelled());
        assert_eq!(kept(), 0, "what was given up is forgotten");
    }

    #[tokio::test]
    async fn a_deadline_that_nobody_waits_for_takes_no_line() {
        drop(Alarm::after(PATIENCE));
        assert_eq!(kept(), 0);
    }
}
