//! The database: one SQL text for SQLite and PostgreSQL, one line of writers.
//!
//! Every change goes through one task that takes what waits and commits it as one transaction, a savepoint an operation:
//! a thousand registrations a second cost tens of synced commits, not a thousand. An operation is answered after the
//! commit and never before. SQLite has one writing connection (`BEGIN IMMEDIATE`, because a read transaction that
//! turns into a writing one ignores the busy timeout); PostgreSQL's transactions take one advisory lock, so that with
//! several control planes, too, changes are numbered in the order in which they become visible.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Connection, Executor, Row, SqlSafeStr};
use tidegate_policy::effective::Generation;
use tokio::sync::{mpsc, oneshot, watch};

use super::StoreError;
use super::tx::Tx;

/// Operations that wait for the writer; further ones are told to come back.
const QUEUE: usize = 4_096;
/// Operations in one transaction.
const BATCH: usize = 256;
/// Connections that read.
const READERS: u32 = 8;
/// Between two looks for what another control plane wrote.
const POLL: Duration = Duration::from_millis(200);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Name of the lock that PostgreSQL's writers take: "tidegate" in ASCII.
const LOCK: i64 = 0x7469_6465_6761_7465;

const SQLITE: &[(i64, &str, &str)] = &[(1, "begin", include_str!("../../migrations/sqlite/0001_begin.sql"))];
const POSTGRES: &[(i64, &str, &str)] = &[(
    1,
    "begin",
    include_str!("../../migrations/postgres/0001_begin.sql"),
)];

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

    fn steps(self) -> &'static [(i64, &'static str, &'static str)] {
        match self {
            Self::Sqlite => SQLITE,
            Self::Postgres => POSTGRES,
        }
    }

    /// Brings the tables up to date.
    async fn migrate(self, pool: &AnyPool) -> Result<(), StoreError> {
        let of = |(version, name, sql): &(i64, &'static str, &'static str)| {
            Migration::new(
                *version,
                (*name).into(),
                MigrationType::Simple,
                (*sql).into_sql_str(),
                false,
            )
        };
        let migrator = Migrator::with_migrations(self.steps().iter().map(of).collect());
        // PostgreSQL's migrations take a lock. On SQLite who comes second finds a step done that was not when he
        // looked; he looks again.
        let tries = if self == Self::Sqlite {
            self.steps().len()
        } else {
            0
        };
        for _ in 0..tries {
            if migrator.run(pool).await.is_ok() {
                return Ok(());
            }
        }
        migrator.run(pool).await.map_err(StoreError::Migrate)
    }

    /// Settings of a fresh connection.
    fn settings(self) -> &'static str {
        match self {
            // FULL: an acknowledged change survives a power cut, too; the writer's batches pay for it.
            Self::Sqlite => {
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                 PRAGMA busy_timeout = 5000; PRAGMA trusted_schema = OFF"
            }
            Self::Postgres => {
                "SET statement_timeout = '30s'; SET lock_timeout = '10s'; SET timezone = 'UTC'; \
                 SET default_transaction_isolation = 'read committed'"
            }
        }
    }

    fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }
}

/// A future that may borrow what it was made from.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The database, shared by reference.
#[derive(Clone, Debug)]
pub struct Db {
    backend: Backend,
    url: String,
    readers: AnyPool,
    writer: mpsc::Sender<Box<dyn Operation>>,
    newest: watch::Receiver<Generation>,
}

impl Db {
    /// Opens the database at `url` (making the file of an SQLite one), brings its tables up to date, and starts the
    /// writer.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let backend = Backend::of(url)?;
        if let (Backend::Sqlite, Some(file)) = (backend, sqlite_file(url)) {
            make_private(Path::new(file)).map_err(|source| StoreError::File {
                file: file.to_owned(),
                source,
            })?;
        }
        let pool = |most: u32| {
            AnyPoolOptions::new()
                .max_connections(most)
                .acquire_timeout(CONNECT)
                .after_connect(move |connection, _| {
                    Box::pin(async move { connection.execute(backend.settings()).await.map(drop) })
                })
        };
        let options = AnyConnectOptions::from_str(url)
            .map_err(StoreError::unavailable)?
            .disable_statement_logging();
        let writing = pool(1)
            .connect_with(options.clone())
            .await
            .map_err(StoreError::unavailable)?;
        backend.migrate(&writing).await?;
        let readers = pool(READERS)
            .connect_with(options)
            .await
            .map_err(StoreError::unavailable)?;
        let (told, newest) = watch::channel(newest(&readers).await?);
        let (writer, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(write(backend, writing, waiting, told.clone()));
        tokio::spawn(poll(readers.clone(), told));
        Ok(Self {
            backend,
            url: url.to_owned(),
            readers,
            writer,
            newest,
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

    /// The newest change, from whichever control plane.
    pub fn newest(&self) -> watch::Receiver<Generation> {
        self.newest.clone()
    }

    /// Does `work` in a transaction. Answered after the commit; an error undoes all of it.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Tx<'_>) -> Boxed<'c, Result<T, StoreError>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let operation = Typed {
            work: Some(work),
            output: None,
            reply,
        };
        self.writer
            .try_send(Box::new(operation))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => StoreError::Busy,
                mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
            })?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// A store's URL without user and password.
pub fn place(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    }
}

/// The path in an SQLite URL.
pub(super) fn sqlite_file(url: &str) -> Option<&str> {
    let path = url.strip_prefix("sqlite://")?;
    let path = path.split('?').next()?;
    (!path.is_empty() && path != ":memory:").then_some(path)
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

/// An operation that waits for the writer.
trait Operation: Send {
    fn run<'c>(&'c mut self, tx: &'c mut Tx<'_>) -> Boxed<'c, Result<(), StoreError>>;
    /// Answers: with what `run` gave when the commit went well, else with why not.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Typed<T, F> {
    work: Option<F>,
    output: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Operation for Typed<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut Tx<'_>) -> Boxed<'c, Result<T, StoreError>> + Send,
{
    fn run<'c>(&'c mut self, tx: &'c mut Tx<'_>) -> Boxed<'c, Result<(), StoreError>> {
        Box::pin(async move {
            let Some(work) = self.work.take() else {
                return Ok(());
            };
            match work(tx).await {
                Ok(output) => {
                    self.output = Some(Ok(output));
                    Ok(())
                }
                // A lost connection concerns the whole batch; anything else this operation alone.
                Err(error) if error.is_fatal() => Err(error),
                Err(error) => {
                    self.output = Some(Err(error));
                    Err(StoreError::Undone)
                }
            }
        })
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let outcome = match (committed, self.output) {
            (_, Some(Err(own))) => Err(own),
            (Ok(()), Some(Ok(output))) => Ok(output),
            (Ok(()), None) => Err(StoreError::Closed),
            (Err(error), _) => Err(error),
        };
        // Who asked may have gone away; the change stands all the same.
        drop(self.reply.send(outcome));
    }
}

/// The writer: takes what waits, commits it together, answers.
async fn write(
    backend: Backend,
    pool: AnyPool,
    mut waiting: mpsc::Receiver<Box<dyn Operation>>,
    told: watch::Sender<Generation>,
) {
    let mut batch: Vec<Box<dyn Operation>> = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let outcome = commit(backend, &pool, &mut batch).await;
        if let Ok(Some(newest)) = &outcome {
            advance(&told, *newest);
        }
        if let Err(error) = &outcome {
            tracing::error!(error = error.chain(), operations = batch.len(), "a commit failed");
        }
        for operation in batch.drain(..) {
            operation.answer(outcome.as_ref().map(drop).map_err(StoreError::copy));
        }
    }
}

/// Readers are told of numbers that only grow.
fn advance(told: &watch::Sender<Generation>, newest: Generation) {
    told.send_if_modified(|known| {
        let grown = newest > *known;
        *known = newest.max(*known);
        grown
    });
}

async fn commit(
    backend: Backend,
    pool: &AnyPool,
    batch: &mut [Box<dyn Operation>],
) -> Result<Option<Generation>, StoreError> {
    let mut connection = pool.acquire().await.map_err(StoreError::unavailable)?;
    let outcome = transaction(backend, &mut connection, batch).await;
    if outcome.is_err() {
        // Whatever state it is in, nobody works on with it.
        if let Err(error) = connection.detach().close().await {
            tracing::debug!(%error, "a broken connection did not close cleanly");
        }
    }
    outcome
}

async fn transaction(
    backend: Backend,
    connection: &mut AnyConnection,
    batch: &mut [Box<dyn Operation>],
) -> Result<Option<Generation>, StoreError> {
    let lost = StoreError::unavailable;
    connection.execute(backend.begin()).await.map_err(lost)?;
    if backend == Backend::Postgres {
        let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK);
        lock.execute(&mut *connection).await.map_err(lost)?;
    }
    let mut tx = Tx::new(connection);
    for operation in batch.iter_mut() {
        tx.connection()
            .execute("SAVEPOINT operation")
            .await
            .map_err(lost)?;
        // A panic is a fault of one operation; the line of writers must outlive it.
        let done = AssertUnwindSafe(operation.run(&mut tx)).catch_unwind().await;
        match done.unwrap_or(Err(StoreError::Undone)) {
            Ok(()) => tx.keep(),
            Err(StoreError::Undone) => {
                tx.undo();
                tx.connection()
                    .execute("ROLLBACK TO operation")
                    .await
                    .map_err(lost)?;
            }
            Err(error) => return Err(error),
        }
        tx.connection().execute("RELEASE operation").await.map_err(lost)?;
    }
    let newest = tx.kept();
    tx.connection().execute("COMMIT").await.map_err(lost)?;
    Ok(newest)
}

async fn newest(readers: &AnyPool) -> Result<Generation, StoreError> {
    let row = sqlx::query("SELECT COALESCE(MAX(generation), 0) FROM changes")
        .fetch_one(readers)
        .await
        .map_err(StoreError::unavailable)?;
    let newest: i64 = row.try_get(0).map_err(StoreError::unavailable)?;
    Ok(Generation(newest.unsigned_abs()))
}

/// Looks for what another control plane wrote. Ends with the last holder of the database.
async fn poll(readers: AnyPool, told: watch::Sender<Generation>) {
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = told.closed() => return,
            _ = ticks.tick() => {}
        }
        match newest(&readers).await {
            Ok(newest) => advance(&told, newest),
            Err(error) => tracing::debug!(error = error.chain(), "the newest change can't be read"),
        }
    }
}
