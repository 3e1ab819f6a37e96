//! A copy of the store while it runs.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sqlx::{AnyConnection, Executor};

use super::db::Backend;
use super::{Store, StoreError};

impl Store {
    /// Writes a copy of an SQLite store to a new file, readable for its owner only: one consistent state, while changes
    /// go on. The copy is another store ([`Self::epoch`]), so that gateways begin anew when it takes the store's place.
    ///
    /// A file that is there already is [`StoreError::Conflict`]; so is a PostgreSQL store, which `pg_dump` copies.
    pub async fn backup(&self, to: &Path) -> Result<(), StoreError> {
        if self.db.backend() == Backend::Postgres {
            let reason =
                "this store is on PostgreSQL; copy it with `pg_dump`, and after restoring a dump run \
                          `DELETE FROM meta WHERE key = 'epoch'`, so that gateways begin anew"
                    .to_owned();
            return Err(StoreError::Conflict { reason });
        }
        if to.exists() {
            let reason = format!("{} is there already", to.display());
            return Err(StoreError::Conflict { reason });
        }
        let failed = |source| StoreError::File {
            file: to.display().to_string(),
            source,
        };
        let partial = Partial::beside(to).map_err(failed)?;
        let mut connection = self.db.read().acquire().await?;
        let copied = copy(&mut connection, &partial).await;
        if copied.is_err() {
            // Perhaps the copy is still attached to it.
            drop(connection.detach());
        }
        copied?;
        partial.keep(to).map_err(failed)
    }
}

async fn copy(connection: &mut AnyConnection, partial: &Partial) -> Result<(), StoreError> {
    let Some(file) = partial.path.to_str() else {
        return Err(StoreError::invalid("path", "it is not UTF-8"));
    };
    sqlx::query("VACUUM INTO $1")
        .bind(file)
        .execute(&mut *connection)
        .await?;
    sqlx::query("ATTACH $1 AS copy")
        .bind(file)
        .execute(&mut *connection)
        .await?;
    connection
        .execute("DELETE FROM copy.meta WHERE key = 'epoch'")
        .await?;
    connection.execute("DETACH copy").await?;
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
