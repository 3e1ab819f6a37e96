//! A copy of the store, both halves of it, while it runs.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sqlx::{AnyConnection, Executor};

use super::db::{Backend, Db, events_file};
use super::{Store, StoreError};

/// Where the two halves of a store were copied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Policies, identities, leases, history.
    pub policies: PathBuf,
    /// What jobs reached.
    pub events: PathBuf,
}

impl Store {
    /// Writes copies of both files of an SQLite store, readable for their owner only: `control.db` is given, what jobs
    /// reached stands in `control-events.db` beside it. Each is one consistent state, while changes go on; neither needs
    /// the other to be of the same moment. The copy is another store ([`Self::epoch`]), so that gateways begin anew when
    /// it takes the store's place.
    ///
    /// To restore, stop the control plane, remove `-wal` and `-shm` files of the old store, put both copies in its
    /// place. Events that gateways delivered after the copy was made are gone: they keep only what the store did not
    /// acknowledge yet, and go on behind it. Where `control-events.db` is left as it was, or away, nothing else is lost.
    ///
    /// A file that is there already is [`StoreError::Conflict`]; so is a PostgreSQL store, which `pg_dump` copies.
    pub async fn backup(&self, to: &Path) -> Result<Backup, StoreError> {
        if self.db.backend() == Backend::Postgres {
            let reason =
                "this store is on PostgreSQL; copy it with `pg_dump`, and after restoring a dump run \
                          `DELETE FROM meta WHERE key = 'epoch'`, so that gateways begin anew"
                    .to_owned();
            return Err(StoreError::Conflict { reason });
        }
        let Some(text) = to.to_str() else {
            return Err(StoreError::invalid("path", "it is not UTF-8"));
        };
        let places = Backup {
            policies: to.to_owned(),
            events: events_file(text).into(),
        };
        for file in [&places.policies, &places.events] {
            if file.exists() {
                let reason = format!("{} is there already", file.display());
                return Err(StoreError::Conflict { reason });
            }
        }
        let events = copied(&self.events, &places.events, None).await?;
        let policies = copied(&self.db, to, Some("DELETE FROM copy.meta WHERE key = 'epoch'")).await?;
        keep(events, &places.events)?;
        if let Err(error) = keep(policies, to) {
            // Half a copy is none.
            drop(std::fs::remove_file(&places.events));
            return Err(error);
        }
        Ok(places)
    }
}

/// Copies a half next to where it shall be, and changes the copy.
async fn copied(db: &Db, to: &Path, change: Option<&'static str>) -> Result<Partial, StoreError> {
    let partial = Partial::beside(to).map_err(|source| failed(to, source))?;
    let mut connection = db.read().acquire().await?;
    let copied = copy(&mut connection, &partial, change).await;
    if copied.is_err() {
        // Perhaps the copy is still attached to it.
        drop(connection.detach());
    }
    copied.map(|()| partial)
}

fn keep(partial: Partial, to: &Path) -> Result<(), StoreError> {
    partial.keep(to).map_err(|source| failed(to, source))
}

fn failed(file: &Path, source: io::Error) -> StoreError {
    StoreError::File {
        file: file.display().to_string(),
        source,
    }
}

async fn copy(
    connection: &mut AnyConnection,
    partial: &Partial,
    change: Option<&'static str>,
) -> Result<(), StoreError> {
    let Some(file) = partial.path.to_str() else {
        return Err(StoreError::invalid("path", "it is not UTF-8"));
    };
    sqlx::query("VACUUM INTO $1")
        .bind(file)
        .execute(&mut *connection)
        .await?;
    if let Some(change) = change {
        sqlx::query("ATTACH $1 AS copy")
            .bind(file)
            .execute(&mut *connection)
            .await?;
        connection.execute(change).await?;
        connection.execute("DETACH copy").await?;
    }
    Ok(())
}

/// A copy that is not whole yet. Goes away unless it is kept.
struct Partial {
    path: PathBuf,
}

impl Partial {
    /// An empty file next to where the copy shall be: private before anything is in it.
    fn beside(to: &Path) -> io::Result<Self> {
        let mut name = to.as_os_str().to_owned();
        name.push(".partial");
        let path = PathBuf::from(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self { path })
    }

    /// Puts it in its place, on disk for good. A file that came there meanwhile stays.
    fn keep(self, to: &Path) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        std::fs::hard_link(&self.path, to)?;
        match to.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, file = %self.path.display(), "a part of a backup is left over");
        }
    }
}
