//! The synced state on its way to disk, beside what is in force: a slow or full disk delays nobody.
//!
//! Owns the journal's file. What was put in force is written a moment later; a gateway that is killed in between asks for
//! it again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tidegate_control_wire::mirror::Mirror;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::force::Enforcer;
use super::state::Control;
use crate::appliance::chain;
use crate::core::Core;
use crate::journal::Journal;

/// While the disk refuses, it is tried again after this, though nothing new came.
const AGAIN: Duration = Duration::from_secs(10);

/// The file, and word that there is something to write.
pub(super) struct Disk {
    journal: Mutex<Journal>,
    due: Notify,
}

impl Disk {
    /// Reads the file into `mirror`. One that can't be used is said to be so, and nothing is known.
    pub(super) fn read(state_dir: &Path, mirror: &mut Mirror) -> Self {
        let read = Journal::read(state_dir, |batch| {
            mirror.apply(batch);
        });
        let journal = read.unwrap_or_else(|error| {
            let error = chain(&error);
            let journal = Journal::unread(state_dir);
            tracing::error!(file = %journal.path().display(), error,
                "the synced state on disk is lost: jobs are refused until the control plane is reached");
            *mirror = Mirror::new();
            journal
        });
        Self::new(journal)
    }

    /// A disk that is not asked.
    pub(super) fn unread(state_dir: &Path) -> Self {
        Self::new(Journal::unread(state_dir))
    }

    fn new(journal: Journal) -> Self {
        Self {
            journal: Mutex::new(journal),
            due: Notify::new(),
        }
    }

    /// Control's time of the newest batch that it holds.
    pub(super) fn newest(&self) -> Timestamp {
        self.journal.lock().newest()
    }

    /// There is something to write.
    pub(super) fn due(&self) {
        self.due.notify_one();
    }

    /// Writes what is new. The enforcer is held only for as long as it takes to say it.
    pub(super) fn write(&self, enforcer: &Mutex<Enforcer>, control: &Control, now: tidegate_policy::Moment) {
        let mut journal = self.journal.lock();
        let news = enforcer.lock().take_news();
        control.keep_sources(now);
        journal.keep(news, now, || enforcer.lock().snapshot());
        control.set_disk(journal.problem().map(ToOwned::to_owned));
    }
}

/// Writes as there is something to write, and now and then while the disk refuses.
pub(super) async fn run(core: Arc<Core>) {
    let disk = core.enforcer.lock().disk();
    loop {
        // Late is no error: it is the time to try again.
        drop(timeout(AGAIN, disk.due.notified()).await);
        write(&core, &disk).await;
    }
}

/// Writes what has not been written yet, at the end of the process.
pub(crate) async fn flush(core: &Arc<Core>) {
    let disk = core.enforcer.lock().disk();
    write(core, &disk).await;
}

async fn write(core: &Arc<Core>, disk: &Arc<Disk>) {
    let (core, disk) = (Arc::clone(core), Arc::clone(disk));
    let work =
        tokio::task::spawn_blocking(move || disk.write(&core.enforcer, &core.control, core.clock.now()));
    if work.await.is_err() {
        tracing::error!("writing the synced state panicked; it is tried again");
    }
}
