//! What is new, for all gateways at once: one look at the log a commit, whoever listens.
//!
//! Owns who is woken by what. A lease wakes the gateways of its group and nobody else; what every gateway knows is read
//! and written as lines once, and every stream sends the same bytes. Without this each registration would cost a look at
//! the store for each gateway, and each publication a document read and written anew for each. A stream that is behind
//! what is kept here, or whose group has news, looks at the store itself: the store is always right, this is only
//! quicker.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Bytes;
use compact_str::CompactString;
use hashbrown::HashMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use tidegate_control_wire::frame::{Frame, write_line};
use tidegate_policy::effective::Generation;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::store::{Since, Store, StoreError};

/// What every gateway knows is read as no group's.
const NO_GROUP: &str = "";
/// Changes in one look at the store.
const LOOK: u32 = 2_000;
/// Deltas that are kept for streams that are a little behind, and their bytes.
const MAX_DELTAS: usize = 64;
const MAX_BYTES: usize = 16 << 20;

/// A batch as streams send it: changes, and the commit that closes it.
#[derive(Debug)]
pub(super) struct Delta {
    /// Who is here or further is brought to `upto` by it.
    from: Generation,
    /// Position after it.
    pub(super) upto: Generation,
    /// Its lines.
    pub(super) lines: Bytes,
}

/// What a stream has to do.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing that concerns it happened up to here.
    Nothing(Generation),
    /// Send these, one after the other.
    Send(Vec<Arc<Delta>>),
    /// Look at the store.
    Look,
}

/// The news. Cheap to clone; the task ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct News {
    board: Arc<Board>,
    _task: Arc<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
struct Board {
    /// The newest change of each group that somebody listens for.
    groups: Mutex<HashMap<CompactString, watch::Sender<Generation>>>,
    /// The newest change of what every gateway knows.
    shared: watch::Sender<Generation>,
    window: Mutex<Window>,
}

/// What every gateway knows, as far as it is kept here.
#[derive(Debug)]
struct Window {
    /// Of what happened before nothing is kept.
    from: Generation,
    /// Everything up to here was looked at.
    seen: Generation,
    /// Each goes on where the one before ends.
    deltas: VecDeque<Arc<Delta>>,
}

impl News {
    /// Follows a store. To be called on a runtime.
    pub(super) fn follow(store: Store) -> Self {
        let begun = *store.db().newest().borrow();
        let board = Arc::new(Board {
            groups: Mutex::default(),
            shared: watch::Sender::new(begun),
            window: Mutex::new(Window::at(begun)),
        });
        let following = Arc::clone(&board).follow(store);
        Self {
            board,
            _task: Arc::new(AbortOnDropHandle::new(tokio::spawn(following))),
        }
    }

    /// Listens for what concerns the gateways of a group. What happened before is not heard of: look at the store once.
    pub(super) fn listen(&self, group: &str) -> Listener {
        let mut groups = self.board.groups.lock();
        let sender = groups.entry(group.into()).or_default();
        Listener {
            own: sender.subscribe(),
            shared: self.board.shared.subscribe(),
            group: group.into(),
            news: self.clone(),
        }
    }
}

/// One stream's ear.
#[derive(Debug)]
pub(super) struct Listener {
    own: watch::Receiver<Generation>,
    shared: watch::Receiver<Generation>,
    group: CompactString,
    news: News,
}

impl Listener {
    /// Waits until something may concern it; an error when nobody tells any more.
    pub(super) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        tokio::select! {
            changed = self.own.changed() => changed,
            changed = self.shared.changed() => changed,
        }
    }

    /// What a stream has to do that holds everything up to `at`.
    pub(super) fn after(&mut self, at: Generation) -> Step {
        self.shared.borrow_and_update();
        // The window first: what is in it was put there after its groups had been told.
        let step = self.news.board.window.lock().after(at);
        if *self.own.borrow_and_update() > at {
            return Step::Look;
        }
        step
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut groups = self.news.board.groups.lock();
        let last = |sender: &watch::Sender<Generation>| sender.receiver_count() <= 1;
        if groups.get(&self.group).is_some_and(last) {
            groups.remove(&self.group);
        }
    }
}

impl Board {
    async fn follow(self: Arc<Self>, store: Store) {
        let mut newest = store.db().newest();
        while newest.changed().await.is_ok() {
            let told = *newest.borrow_and_update();
            if let Err(error) = self.look(&store).await {
                tracing::error!(
                    error = error.chain(),
                    "what is new can't be read; every stream looks for itself"
                );
                self.blind(told);
            }
        }
    }

    /// Looks at what was committed since the last look: groups are told first, then what concerns everybody.
    async fn look(&self, store: &Store) -> Result<(), StoreError> {
        let (seen, from) = {
            let window = self.window.lock();
            (window.seen, window.upto())
        };
        let changed = store.changed_groups(seen).await?;
        let Some(upto) = changed.iter().map(|(_, newest)| *newest).max() else {
            return Ok(());
        };
        let mut shared = None;
        {
            let groups = self.groups.lock();
            for (group, newest) in &changed {
                if group == NO_GROUP {
                    shared = Some(*newest);
                } else if let Some(sender) = groups.get(group.as_str()) {
                    tell(sender, *newest);
                }
            }
        }
        let delta = match shared {
            None => None,
            Some(_) => read(store, (from, upto)).await?,
        };
        self.window.lock().take(upto, shared.is_some(), delta);
        if let Some(newest) = shared {
            tell(&self.shared, newest);
        }
        Ok(())
    }

    /// Nothing is known of what happened up to `told`: everybody looks.
    fn blind(&self, told: Generation) {
        *self.window.lock() = Window::at(told);
        for sender in self.groups.lock().values() {
            tell(sender, told);
        }
        tell(&self.shared, told);
    }
}

impl Window {
    fn at(begun: Generation) -> Self {
        Self {
            from: begun,
            seen: begun,
            deltas: VecDeque::new(),
        }
    }

    /// The newest change of what every gateway knows that was seen.
    fn upto(&self) -> Generation {
        self.deltas.back().map_or(self.from, |last| last.upto)
    }

    fn after(&self, at: Generation) -> Step {
        if self.upto() <= at {
            return Step::Nothing(self.seen.max(at));
        }
        let missing: Vec<_> = self.deltas.iter().filter(|one| one.upto > at).cloned().collect();
        match missing.first() {
            Some(first) if first.from <= at => Step::Send(missing),
            Some(_) | None => Step::Look,
        }
    }

    /// Everything up to `upto` was looked at: with something for everybody, which is this delta, or too much for one.
    fn take(&mut self, upto: Generation, shared: bool, delta: Option<Delta>) {
        self.seen = upto;
        match delta {
            Some(delta) => self.deltas.push_back(Arc::new(delta)),
            None if shared => *self = Self::at(upto),
            None => {}
        }
        let bytes = |deltas: &VecDeque<Arc<Delta>>| deltas.iter().map(|one| one.lines.len()).sum::<usize>();
        while self.deltas.len() > MAX_DELTAS || bytes(&self.deltas) > MAX_BYTES {
            if let Some(gone) = self.deltas.pop_front() {
                self.from = gone.upto;
            }
        }
    }
}

/// What every gateway has to know in `span`, as lines. `None` when it is too much to be kept.
async fn read(store: &Store, (from, upto): (Generation, Generation)) -> Result<Option<Delta>, StoreError> {
    let (mut at, mut lines) = (from, Vec::new());
    loop {
        let Since::Page(page) = store.changes_since(at, NO_GROUP, LOOK).await? else {
            return Ok(None);
        };
        for change in page.changes {
            lines.extend(write_line(&Frame::Change(change)));
        }
        if lines.len() > MAX_BYTES {
            return Ok(None);
        }
        at = page.upto;
        if !page.more {
            break;
        }
    }
    // What was read may be newer than `upto`; it is said again with the next delta, and a record may come twice. A lease
    // of that time was not told of yet, so this is no position behind it.
    lines.extend(write_line(&Frame::Commit {
        generation: upto,
        at: Timestamp::now(),
    }));
    let lines = lines.into();
    Ok(Some(Delta { from, upto, lines }))
}

/// Numbers only grow.
fn tell(sender: &watch::Sender<Generation>, newest: Generation) {
    sender.send_if_modified(|known| {
        let grown = newest > *known;
        *known = newest.max(*known);
        grown
    });
}

#[cfg(test)]
mod tests;
