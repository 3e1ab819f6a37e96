//! The database: one SQL text for SQLite and PostgreSQL, one line of writers.
//!
//! Owns which database it is, its settings, its tables, its connections, and the news of what another control plane
//! wrote. Writing is [`super::writer`]'s.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Executor, Row, SqlSafeStr};
use tidegate_policy::effective::Generation;
use tokio::sync::watch;

use super::StoreError;
use super::tx::Tx;
use super::writer::{Boxed, Told, Writer, advance};

/// Connections that read; half of them may be held by snapshots that gateways take slowly.
pub(super) const READERS: u32 = 16;
/// Those of the half of events.
const EVENT_READERS: u32 = 8;
/// How an SQLite URL with a file begins.
const SQLITE_SCHEME: &str = "sqlite://";
/// Between two looks for what another control plane wrote.
const POLL: Duration = Duration::from_millis(200);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

const SQLITE: &[(i64, &str, &str)] = &[
    (1, "begin", include_str!("../../migrations/sqlite/0001_begin.sql")),
    (
        2,
        "suppressions",
        include_str!("../../migrations/sqlite/0002_suppressions.sql"),
    ),
    (
        3,
        "written",
        include_str!("../../migrations/sqlite/0003_written.sql"),
    ),
    (
        4,
        "sessions",
        include_str!("../../migrations/sqlite/0004_sessions.sql"),
    ),
    (5, "lists", include_str!("../../migrations/sqlite/0005_lists.sql")),
    (6, "seen", include_str!("../../migrations/sqlite/0006_seen.sql")),
];
const SQLITE_EVENTS: &[(i64, &str, &str)] = &[
    (
        1,
        "begin",
        include_str!("../../migrations/sqlite/events_0001_begin.sql"),
    ),
    (
        2,
        "baselines",
        include_str!("../../migrations/sqlite/events_0002_baselines.sql"),
    ),
    (
        3,
        "sums",
        include_str!("../../migrations/sqlite/events_0003_sums.sql"),
    ),
];
const POSTGRES: &[(i64, &str, &str)] = &[
    (
        1,
        "begin",
        include_str!("../../migrations/postgres/0001_begin.sql"),
    ),
    (
        2,
        "events",
        include_str!("../../migrations/postgres/0002_events.sql"),
    ),
    (
        3,
        "baselines",
        include_str!("../../migrations/postgres/0003_baselines.sql"),
    ),
    (
        4,
        "written",
        include_str!("../../migrations/postgres/0004_written.sql"),
    ),
    (
        5,
        "sessions",
        include_str!("../../migrations/postgres/0005_sessions.sql"),
    ),
    (
        6,
        "lists",
        include_str!("../../migrations/postgres/0006_lists.sql"),
    ),
    (7, "seen", include_str!("../../migrations/postgres/0007_seen.sql")),
    (8, "sums", include_str!("../../migrations/postgres/0008_sums.sql")),
];

/// Which half of the store: each has a line of writers of its own, so that a flood of events never stands before a
/// registration. With SQLite each is a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    /// Policies, identities, leases, history.
    Policies,
    /// Events and what is made of them.
    Events,
}

impl Half {
    /// Where the newest position is read: of `changes`, or of events.
    fn newest(self) -> &'static str {
        match self {
            Self::Policies => "SELECT COALESCE(MAX(generation), 0) FROM changes",
            Self::Events => "SELECT COALESCE(MAX(seq), 0) FROM events",
        }
    }

    /// Name of the lock that PostgreSQL's writers take: "tidegate" in ASCII, and the next number.
    pub(super) fn lock(self) -> i64 {
        match self {
            Self::Policies => 0x7469_6465_6761_7465,
            Self::Events => 0x7469_6465_6761_7466,
        }
    }

    /// Where it is: beside the file of an SQLite store, in the same PostgreSQL database.
    fn url(self, url: &str) -> String {
        match (self, sqlite_file(url)) {
            (Self::Events, Some(file)) => {
                let options = url.split_once('?').map_or("", |(_, options)| options);
                let mark = if options.is_empty() { "" } else { "?" };
                format!("{SQLITE_SCHEME}{}{mark}{options}", events_file(file))
            }
            (Self::Events, None) | (Self::Policies, _) => url.to_owned(),
        }
    }

    /// Connections that read.
    fn readers(self) -> u32 {
        match self {
            Self::Policies => READERS,
            Self::Events => EVENT_READERS,
        }
    }
}

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// One file, in this process.
    Sqlite,
    /// A server.
    Postgres,
}

impl Backend {
    /// From a URL: `sqlite:///var/lib/tidegate/control.db`, `postgres://user@host/database`.
    pub fn of(url: &str) -> Result<Self, StoreError> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => Ok(Self::Sqlite),
            Some("postgres" | "postgresql") => Ok(Self::Postgres),
            _ => Err(StoreError::Url(url.to_owned())),
        }
    }

    fn steps(self, half: Half) -> &'static [(i64, &'static str, &'static str)] {
        match (self, half) {
            (Self::Sqlite, Half::Policies) => SQLITE,
            (Self::Sqlite, Half::Events) => SQLITE_EVENTS,
            (Self::Postgres, Half::Policies | Half::Events) => POSTGRES,
        }
    }

    /// Brings the tables up to date, on the only connection of a pool.
    async fn migrate(self, half: Half, pool: &AnyPool) -> Result<(), StoreError> {
        let mut connection = pool.acquire().await.map_err(StoreError::unavailable)?;
        let set = async |connection: &mut AnyConnection, settings: &'static str| {
            let set = connection.execute(settings).await;
            set.map(drop).map_err(StoreError::unavailable)
        };
        set(&mut connection, self.unhurried()).await?;
        self.take_steps(half, &mut connection).await?;
        set(&mut connection, self.settings(half)).await
    }

    async fn take_steps(self, half: Half, connection: &mut AnyConnection) -> Result<(), StoreError> {
        let of = |(version, name, sql): &(i64, &'static str, &'static str)| {
            Migration::new(
                *version,
                (*name).into(),
                MigrationType::Simple,
                (*sql).into_sql_str(),
                false,
            )
        };
        let migrator = Migrator::with_migrations(self.steps(half).iter().map(of).collect());
        // PostgreSQL's migrations take a lock. On SQLite who comes second finds a step done that was not when he
        // looked; he looks again.
        let tries = if self == Self::Sqlite {
            self.steps(half).len()
        } else {
            0
        };
        for _ in 0..tries {
            if migrator.run(&mut *connection).await.is_ok() {
                return Ok(());
            }
        }
        migrator.run(connection).await.map_err(StoreError::Migrate)
    }

    /// Settings of a fresh connection.
    fn settings(self, half: Half) -> &'static str {
        match (self, half) {
            // FULL: an acknowledged change survives a power cut, too; the writer's batches pay for it.
            (Self::Sqlite, Half::Policies) => {
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                 PRAGMA busy_timeout = 5000; PRAGMA trusted_schema = OFF"
            }
            // A batch of events is megabytes: larger pages; a log that is folded into the file at 64 MiB, not with each
            // batch; and what a savepoint may have to put back (pages as they were, twice a statement) in memory.
            (Self::Sqlite, Half::Events) => {
                "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                 PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000; PRAGMA trusted_schema = OFF; \
                 PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 8192; PRAGMA journal_size_limit = 134217728"
            }
            (Self::Postgres, Half::Policies | Half::Events) => {
                "SET statement_timeout = '30s'; SET lock_timeout = '10s'; SET timezone = 'UTC'; \
                 SET default_transaction_isolation = 'read committed'"
            }
        }
    }

    /// Settings while the tables are brought up to date: an index of a large table takes minutes, and so does who waits
    /// for another control plane that makes it. A step that is cut short begins anew with each start, for ever.
    fn unhurried(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => "SET statement_timeout = 0; SET lock_timeout = 0",
        }
    }

    /// Further settings of the connection that writes.
    fn writing(self, half: Half) -> &'static str {
        match (self, half) {
            // Room for what one transaction changes (64 MiB): a page that has to leave early is written twice.
            (Self::Sqlite, Half::Events) => "PRAGMA cache_size = -65536",
            (Self::Sqlite, Half::Policies) | (Self::Postgres, Half::Policies | Half::Events) => "",
        }
    }

    /// Begins a transaction that writes.
    pub(super) fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }
}

/// The database, shared by reference.
#[derive(Clone, Debug)]
pub struct Db {
    backend: Backend,
    url: String,
    readers: AnyPool,
    writer: Writer,
    newest: watch::Receiver<Generation>,
    shared: watch::Receiver<Generation>,
}

impl Db {
    /// Opens a half of the store at `url` (making the file of an SQLite one), brings its tables up to date, and starts
    /// its writer.
    pub(super) async fn open(url: &str, half: Half) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let backend = Backend::of(url)?;
        let url = &half.url(url);
        if let (Backend::Sqlite, Some(file)) = (backend, sqlite_file(url)) {
            make_private(Path::new(file)).map_err(|source| StoreError::File {
                file: file.to_owned(),
                source,
            })?;
        }
        let pool = |most: u32, more: &'static str| {
            AnyPoolOptions::new()
                .max_connections(most)
                .acquire_timeout(CONNECT)
                // A file in this process does not go away between two queries; asking its thread each time whether it is
                // there costs a small read as much again.
                .test_before_acquire(backend == Backend::Postgres)
                .after_connect(move |connection, _| {
                    Box::pin(async move {
                        connection.execute(backend.settings(half)).await?;
                        connection.execute(more).await.map(drop)
                    })
                })
        };
        let options = AnyConnectOptions::from_str(url)
            .map_err(StoreError::unavailable)?
            .disable_statement_logging();
        let writing = pool(1, backend.writing(half))
            .connect_with(options.clone())
            .await
            .map_err(StoreError::unavailable)?;
        backend.migrate(half, &writing).await?;
        let readers = pool(half.readers(), "")
            .connect_with(options)
            .await
            .map_err(StoreError::unavailable)?;
        let held = newest(&readers, half).await?;
        let ((told, newest), (told_shared, shared)) = (watch::channel(held), watch::channel(held));
        let both = Told {
            newest: told.clone(),
            shared: told_shared,
        };
        let writer = Writer::start((backend, half), writing, both)
            .map_err(|error| StoreError::unavailable(sqlx::Error::Io(error)))?;
        tokio::spawn(poll(readers.clone(), half, told));
        Ok(Self {
            backend,
            url: url.to_owned(),
            readers,
            writer,
            newest,
            shared,
        })
    }

    /// Which database it is.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Where it is, without a password.
    pub fn place(&self) -> String {
        place(&self.url)
    }

    /// Connections for reading.
    pub fn read(&self) -> &AnyPool {
        &self.readers
    }

    /// The newest change, or the newest event's number, from whichever control plane.
    pub fn newest(&self) -> watch::Receiver<Generation> {
        self.newest.clone()
    }

    /// The newest change that this process made to what every gateway knows: all but leases.
    pub fn shared(&self) -> watch::Receiver<Generation> {
        self.shared.clone()
    }

    /// Does `work` in a transaction. Answered after the commit; an error undoes all of it.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Tx<'_>) -> Boxed<'c, Result<T, StoreError>> + Send + 'static,
    {
        self.writer.write(1, work).await
    }

    /// The same where about so many rows are written.
    pub(super) async fn write_rows<T, F>(&self, rows: usize, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Tx<'_>) -> Boxed<'c, Result<T, StoreError>> + Send + 'static,
    {
        self.writer.write(rows, work).await
    }
}

/// A store's URL without user, password and options (a password may be among them).
pub fn place(url: &str) -> String {
    let url = url.split_once('?').map_or(url, |(url, _)| url);
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    }
}

/// The path in an SQLite URL.
pub(super) fn sqlite_file(url: &str) -> Option<&str> {
    let path = url.strip_prefix(SQLITE_SCHEME)?;
    let path = path.split('?').next()?;
    (!path.is_empty() && path != ":memory:").then_some(path)
}

/// Where events are, beside the file of policies: `control-events.db` beside `control.db`.
pub(super) fn events_file(file: &str) -> String {
    format!("{}-events.db", file.strip_suffix(".db").unwrap_or(file))
}

/// Makes a file that is not there yet, readable for its owner only. One that is there is not touched: closing it would
/// drop the locks that this process holds on it (POSIX).
fn make_private(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let made = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(file);
    match made {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

async fn newest(readers: &AnyPool, half: Half) -> Result<Generation, StoreError> {
    let row = sqlx::query(half.newest())
        .fetch_one(readers)
        .await
        .map_err(StoreError::unavailable)?;
    let newest: i64 = row.try_get(0).map_err(StoreError::unavailable)?;
    Ok(Generation(newest.unsigned_abs()))
}

/// Looks for what another control plane wrote. Ends with the last holder of the database.
async fn poll(readers: AnyPool, half: Half, told: watch::Sender<Generation>) {
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = told.closed() => return,
            _ = ticks.tick() => {}
        }
        match newest(&readers, half).await {
            Ok(newest) => advance(&told, newest),
            Err(error) => tracing::debug!(error = error.chain(), "the newest change can't be read"),
        }
    }
}
