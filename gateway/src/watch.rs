//! Watching the policy files' folders: says that something changed, not what.
//!
//! Folders are watched instead of files, because editors and configuration managers replace files by
//! renaming. The reader compares texts, so a needless wake-up costs one read.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use thiserror::Error;
use tokio::sync::Notify;

/// A folder that can't be watched.
#[derive(Debug, Error)]
#[error("can't watch the folder {folder} for changed policies")]
pub(crate) struct WatchError {
    folder: PathBuf,
    #[source]
    source: notify::Error,
}

/// A watch over some folders; ends when dropped.
pub(crate) struct FileWatch {
    _watcher: RecommendedWatcher,
    changed: Arc<Notify>,
}

impl FileWatch {
    /// Watches the folders of `files`.
    pub(crate) fn over(files: &[PathBuf]) -> Result<Self, WatchError> {
        let changed = Arc::new(Notify::new());
        let wake = Arc::clone(&changed);
        let names: BTreeSet<OsString> = files
            .iter()
            .filter_map(|file| Some(file.file_name()?.to_owned()))
            .collect();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| concerns(&event, &names)) {
                wake.notify_one();
            }
        })
        .map_err(|source| WatchError {
            folder: PathBuf::new(),
            source,
        })?;
        let folders: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
        for folder in folders {
            watcher
                .watch(folder, RecursiveMode::NonRecursive)
                .map_err(|source| WatchError {
                    folder: folder.to_owned(),
                    source,
                })?;
        }
        Ok(Self {
            _watcher: watcher,
            changed,
        })
    }

    /// Waits until something changed since the last call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// Reading a file is an event too, and so is the event log's growth when it lies in the same folder: waking
/// up for these would never end. A lost event (a full queue) concerns us.
fn concerns(event: &notify::Event, names: &BTreeSet<OsString>) -> bool {
    let ours = |path: &PathBuf| path.file_name().is_some_and(|name| names.contains(name));
    event.need_rescan() || (!event.kind.is_access() && event.paths.iter().any(ours))
}
