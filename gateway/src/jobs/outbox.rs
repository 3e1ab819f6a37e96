//! What the control plane is to be told: leases that were granted while it was away, and leases that ended.
//!
//! Owns the list, in the order in which it happened, on disk until control has taken note of it. It judges nothing.
//! [`super::registrar`] fills it, [`Outbox::run`] empties it.
//!
//! Bounded: at [`MAX_WAITING`] entries a job that came and went without control ever hearing of it is forgotten first;
//! where there is none, no further lease is granted until control is back. Ends are always taken: there are never more of
//! them than leases.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

use compact_str::CompactString;
use hashbrown::{HashMap, HashSet};
use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidegate_control_wire::claim::{Claim, End};
use tokio::sync::Notify;

use super::authority::Authority;
use super::file::Lines;
use crate::sync::ClaimError;

/// Entries that wait, before grants are refused.
pub(crate) const MAX_WAITING: usize = 4_096;
/// Ended leases that are remembered after control was told: the stream may still be on its way with them.
const MAX_ENDED: usize = 65_536;
/// Lines of the file that are done, before it is written anew.
const MAX_DONE_LINES: usize = 1_024;
/// Between two tries while control is away.
const RETRY: Duration = Duration::from_secs(1);
/// The file's name in the state directory.
const FILE: &str = "outbox.ndjson";

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Told {
    /// A lease was granted.
    Grant(Box<Claim>),
    /// A lease ended.
    End {
        /// Its id.
        id: CompactString,
        /// How.
        end: End,
    },
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    /// An entry.
    Tell(Entry),
    /// Control was told of everything up to this number.
    Done(u64),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    number: u64,
    /// Control may have heard of it already.
    #[serde(default)]
    tried: bool,
    told: Told,
}

/// The list is full, and control is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_WAITING} changes of leases wait for the control plane, which is away")]
pub(crate) struct OutboxFull;

/// What waits to be told.
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    ended: Mutex<Ended>,
    wake: Notify,
    /// Something was told.
    progress: Notify,
    depth: Gauge,
    dropped: Counter,
}

struct Waiting {
    capacity: usize,
    entries: VecDeque<Entry>,
    next: u64,
    lines: Lines,
    /// Why the disk does not hold what it should.
    broken: Option<String>,
}

/// Leases that ended here, the last [`MAX_ENDED`].
#[derive(Default)]
struct Ended {
    known: HashSet<CompactString>,
    order: VecDeque<CompactString>,
}

impl Ended {
    fn add(&mut self, id: &CompactString) {
        if self.known.insert(id.clone()) {
            self.order.push_back(id.clone());
        }
        if self.order.len() > MAX_ENDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Outbox {
    /// Opens the list in the state directory, with what waited there when the last process ended.
    pub(crate) fn open(state_dir: &Path) -> io::Result<Self> {
        Self::with_capacity(state_dir, MAX_WAITING)
    }

    pub(super) fn with_capacity(state_dir: &Path, capacity: usize) -> io::Result<Self> {
        let (lines, texts) = Lines::open(&state_dir.join(FILE))?;
        let mut waiting = Waiting {
            capacity,
            entries: VecDeque::new(),
            next: 1,
            lines,
            broken: None,
        };
        for text in &texts {
            waiting.read(text);
        }
        if let Some(first) = waiting.entries.front_mut() {
            first.tried = true;
        }
        let outbox = Self {
            waiting: Mutex::new(waiting),
            ended: Mutex::default(),
            wake: Notify::new(),
            progress: Notify::new(),
            depth: gauge!("tidegate_outbox_entries"),
            dropped: counter!("tidegate_outbox_dropped_total"),
        };
        outbox.waiting().iter().for_each(|told| outbox.note_told(told));
        Ok(outbox)
    }

    /// Takes down a lease that was granted without control's word. `tried`: control may have heard of it.
    pub(crate) fn grant(&self, claim: Claim, tried: bool) -> Result<(), OutboxFull> {
        let told = Told::Grant(Box::new(claim));
        {
            let mut waiting = self.waiting.lock();
            if waiting.entries.len() >= waiting.capacity {
                let forgotten = waiting.forget_unheard();
                self.dropped.increment(forgotten as u64);
            }
            if waiting.entries.len() >= waiting.capacity {
                return Err(OutboxFull);
            }
            waiting.push(told.clone(), tried);
            self.depth.set(waiting.entries.len() as f64);
        }
        self.note_told(&told);
        self.wake.notify_one();
        Ok(())
    }

    /// Takes down that a lease ended.
    pub(crate) fn end(&self, id: &CompactString, end: End) {
        self.note_ended(id);
        let told = Told::End { id: id.clone(), end };
        let mut waiting = self.waiting.lock();
        waiting.push(told, false);
        self.depth.set(waiting.entries.len() as f64);
        drop(waiting);
        self.wake.notify_one();
    }

    /// Takes down once more that a lease ended, unless that waits already.
    pub(crate) fn end_again(&self, id: &CompactString, end: End) {
        let waits = |told: &Told| matches!(told, Told::End { id: ended, .. } if ended == id);
        let known = self.waiting.lock().entries.iter().any(|entry| waits(&entry.told));
        if !known {
            self.end(id, end);
        }
    }

    /// Notes an end that control knows of, or will hear of otherwise: the stream may still name the lease.
    pub(crate) fn note_ended(&self, id: &CompactString) {
        self.ended.lock().add(id);
    }

    /// True when the lease ended here: the stream must not bring it back.
    pub(crate) fn is_ended(&self, id: &str) -> bool {
        self.ended.lock().known.contains(id)
    }

    fn note_told(&self, told: &Told) {
        let mut ended = self.ended.lock();
        match told {
            Told::Grant(claim) => claim.replaces.iter().for_each(|id| ended.add(id)),
            Told::End { id, .. } => ended.add(id),
        }
    }

    /// Everything that waits, oldest first.
    pub(crate) fn waiting(&self) -> Vec<Told> {
        let waiting = self.waiting.lock();
        waiting.entries.iter().map(|entry| entry.told.clone()).collect()
    }

    /// How much waits.
    pub(crate) fn depth(&self) -> usize {
        self.waiting.lock().entries.len()
    }

    /// Number of the newest entry that waits.
    pub(super) fn newest(&self) -> Option<u64> {
        self.waiting.lock().entries.back().map(|entry| entry.number)
    }

    /// Waits until control was told of everything up to this number; for ever, while it is away.
    pub(super) async fn told_up_to(&self, number: u64) {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            // From here on no progress is missed.
            progress.as_mut().enable();
            let waits = |entry: &Entry| entry.number <= number;
            if !self.waiting.lock().entries.front().is_some_and(waits) {
                return;
            }
            progress.await;
        }
    }

    /// Why the list would not outlive the process.
    pub(crate) fn problem(&self) -> Option<String> {
        self.waiting.lock().broken.clone()
    }

    /// Tells control, in order, for ever.
    pub(crate) async fn run(&self, control: &dyn Authority) {
        loop {
            let woken = self.wake.notified();
            if self.flush(control).await {
                woken.await;
            } else {
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = control.changed() => {}
                }
            }
        }
    }

    /// Tells what waits; false when control went away before the end of it.
    pub(super) async fn flush(&self, control: &dyn Authority) -> bool {
        while let Some(entry) = self.first() {
            let told = match &entry.told {
                Told::Grant(claim) => control.claim(claim).await.map(drop),
                Told::End { id, end } => control.end(id, end).await,
            };
            match told {
                Ok(()) => {}
                Err(ClaimError::Away) => return false,
                Err(ClaimError::Refused { detail, .. }) => {
                    tracing::error!(told = ?entry.told, detail, "the control plane does not take note of a lease");
                    self.dropped.increment(1);
                }
            }
            self.done(entry.number);
        }
        true
    }

    /// The first entry, which from now on counts as heard of.
    fn first(&self) -> Option<Entry> {
        let mut waiting = self.waiting.lock();
        let first = waiting.entries.front_mut()?;
        first.tried = true;
        Some(first.clone())
    }

    fn done(&self, number: u64) {
        let mut waiting = self.waiting.lock();
        waiting.done(number);
        self.depth.set(waiting.entries.len() as f64);
        drop(waiting);
        self.progress.notify_waiters();
    }
}

impl Waiting {
    /// Takes in a line of the file. One that is not understood is of another version: it is told of, and left out.
    fn read(&mut self, text: &str) {
        match serde_json::from_str(text) {
            Ok(Line::Tell(entry)) => {
                self.next = self.next.max(entry.number + 1);
                self.entries.push_back(entry);
            }
            Ok(Line::Done(number)) => {
                self.next = self.next.max(number + 1);
                self.entries.retain(|entry| entry.number > number);
            }
            Err(error) => tracing::error!(%error, "a line of {FILE} is not understood"),
        }
    }

    fn push(&mut self, told: Told, tried: bool) {
        let entry = Entry {
            number: self.next,
            tried,
            told,
        };
        self.next += 1;
        let text = line(&Line::Tell(entry.clone()));
        self.entries.push_back(entry);
        let kept = if self.broken.is_some() {
            self.rewrite()
        } else {
            self.lines.append(&text)
        };
        self.settle(kept);
    }

    fn done(&mut self, number: u64) {
        self.entries.retain(|entry| entry.number > number);
        let spent = self.lines.count().saturating_sub(self.entries.len());
        let kept = if self.entries.is_empty() || spent > MAX_DONE_LINES || self.broken.is_some() {
            self.rewrite()
        } else {
            // Lost in a crash, it is told again: control knows it by its id.
            self.lines.note(&line(&Line::Done(number)))
        };
        self.settle(kept);
    }

    /// Forgets the oldest jobs that came and went unheard of, an eighth of the list at most. Gives back how many entries
    /// that were.
    fn forget_unheard(&mut self) -> usize {
        let gone = self.unheard((self.capacity / 8).max(2));
        if !gone.is_empty() {
            self.entries.retain(|entry| !gone.contains(&entry.number));
            let kept = self.rewrite();
            self.settle(kept);
        }
        gone.len()
    }

    /// Numbers of the grants, and the ends, of jobs that came and went unheard of.
    fn unheard(&self, most: usize) -> HashSet<u64> {
        let mut begun: HashMap<&str, u64> = HashMap::new();
        let mut gone: HashSet<u64> = HashSet::new();
        for entry in &self.entries {
            match &entry.told {
                Told::Grant(claim) if !entry.tried && claim.replaces.is_empty() => {
                    begun.insert(&claim.lease.id, entry.number);
                }
                Told::Grant(_) => {}
                Told::End { id, .. } if gone.len() < most => {
                    if let Some(grant) = begun.remove(&**id) {
                        gone.extend([grant, entry.number]);
                    }
                }
                Told::End { .. } => break,
            }
        }
        gone
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let entries = self.entries.iter().cloned();
        let lines: Vec<String> = entries.map(|entry| line(&Line::Tell(entry))).collect();
        self.lines.replace(&lines)
    }

    /// The list goes on in memory when the disk fails: a job that is there must be told of, a restart is rarer.
    fn settle(&mut self, kept: io::Result<()>) {
        match kept {
            Ok(()) => self.broken = None,
            Err(error) => {
                tracing::error!(%error, "{FILE} can't be written");
                self.broken = Some(error.to_string());
            }
        }
    }
}

fn line(line: &Line) -> String {
    // Plain data with text keys always serializes.
    serde_json::to_string(line).unwrap_or_default()
}

#[cfg(test)]
mod tests;
