//! The line of writers: everything that changes the store, one after the other, committed together.
//!
//! One task (with SQLite on a thread of its own) takes what waits and commits it as one transaction, a savepoint an
//! operation where there are several: a thousand registrations a second cost tens of synced commits, not a thousand. An
//! operation is answered after the commit and never before; one that fails is undone alone, a database that fails undoes
//! all of the batch. SQLite has one writing connection
//! (`BEGIN IMMEDIATE`, because a read transaction that turns into a writing one ignores the busy timeout);
//! PostgreSQL's transactions take one advisory lock, so that with several control planes, too, changes are numbered in
//! the order in which they become visible.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::FutureExt as _;
use sqlx::{AnyConnection, AnyPool, Connection, Executor};
use tidegate_policy::effective::Generation;
use tokio::sync::{mpsc, oneshot, watch};

use super::StoreError;
use super::db::{Backend, Half};
use super::tx::Tx;

/// Operations that wait for the writer; further ones are told to come back.
const QUEUE: usize = 4_096;
/// Operations in one transaction.
const BATCH: usize = 256;
/// Rows of one transaction, where there is more than one operation in it. One that is as large stands alone, and needs no
/// savepoint: with one, SQLite copies each page before it changes it, which costs more than a commit.
const ROWS: usize = 5_000;

/// A future that may borrow what it was made from.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The end of the line that operations are put to. The writer ends with the last of its clones.
#[derive(Clone, Debug)]
pub(super) struct Writer(mpsc::Sender<Box<dyn Operation>>);

impl Writer {
    /// Starts the task. `told` hears of the newest changes after each commit.
    pub(super) fn start(place: (Backend, Half), pool: AnyPool, told: Told) -> std::io::Result<Self> {
        let (line, waiting) = mpsc::channel(QUEUE);
        let writing = write(place, pool, waiting, told);
        match place.0 {
            Backend::Sqlite => apart(writing)?,
            // Its connections belong to the runtime that they were made in.
            Backend::Postgres => drop(tokio::spawn(writing)),
        }
        Ok(Self(line))
    }

    /// Does `work`, which writes about so many rows, in a transaction. Answered after the commit; an error undoes all
    /// of it.
    pub(super) async fn write<T, F>(&self, rows: usize, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Tx<'_>) -> Boxed<'c, Result<T, StoreError>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let operation = Typed {
            rows,
            work: Some(work),
            output: None,
            reply,
        };
        self.0
            .try_send(Box::new(operation))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => StoreError::Busy,
                mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
            })?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// Runs the writer on a thread of its own: a step of a transaction must not wait until a task that reads a batch of
/// megabytes lets another have its turn.
fn apart(writing: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let thread = std::thread::Builder::new().name("store-writer".into());
    thread.spawn(move || runtime.block_on(writing)).map(drop)
}

/// An operation that waits for the writer.
trait Operation: Send {
    /// About how many rows it writes.
    fn rows(&self) -> usize;
    fn run<'c>(&'c mut self, tx: &'c mut Tx<'_>) -> Boxed<'c, Result<(), StoreError>>;
    /// Answers: with what `run` gave when the commit went well, else with why not.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Typed<T, F> {
    rows: usize,
    work: Option<F>,
    output: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Operation for Typed<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut Tx<'_>) -> Boxed<'c, Result<T, StoreError>> + Send,
{
    fn rows(&self) -> usize {
        self.rows
    }

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

/// Who hears of commits.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Of the newest change of all.
    pub(super) newest: watch::Sender<Generation>,
    /// Of the newest change, by this process, of what every gateway knows: all but leases.
    pub(super) shared: watch::Sender<Generation>,
}

/// The newest changes of a commit.
#[derive(Clone, Copy, Debug, Default)]
struct Committed {
    newest: Option<Generation>,
    shared: Option<Generation>,
}

/// The writer: takes what waits, commits it together, answers.
async fn write(
    place: (Backend, Half),
    pool: AnyPool,
    mut waiting: mpsc::Receiver<Box<dyn Operation>>,
    told: Told,
) {
    let mut batch: Vec<Box<dyn Operation>> = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        while !batch.is_empty() {
            let mut part: Vec<_> = batch.drain(..together(&batch)).collect();
            let outcome = commit(place, &pool, &mut part).await;
            settle(part, outcome, &told);
        }
    }
}

/// How many of the first are committed together: at least one, and no more rows than [`ROWS`].
fn together(batch: &[Box<dyn Operation>]) -> usize {
    let mut rows = 0_usize;
    let fit = batch.iter().take_while(|operation| {
        rows = rows.saturating_add(operation.rows());
        rows <= ROWS
    });
    fit.count().max(1)
}

/// Tells everybody of a commit.
fn settle(part: Vec<Box<dyn Operation>>, outcome: Result<Committed, StoreError>, told: &Told) {
    match &outcome {
        Ok(committed) => {
            for (told, newest) in [(&told.shared, committed.shared), (&told.newest, committed.newest)] {
                if let Some(newest) = newest {
                    advance(told, newest);
                }
            }
        }
        Err(error) => {
            tracing::error!(error = error.chain(), operations = part.len(), "a commit failed");
        }
    }
    for operation in part {
        operation.answer(outcome.as_ref().map(drop).map_err(StoreError::copy));
    }
}

/// Readers are told of numbers that only grow.
pub(super) fn advance(told: &watch::Sender<Generation>, newest: Generation) {
    told.send_if_modified(|known| {
        let grown = newest > *known;
        *known = newest.max(*known);
        grown
    });
}

async fn commit(
    place: (Backend, Half),
    pool: &AnyPool,
    batch: &mut [Box<dyn Operation>],
) -> Result<Committed, StoreError> {
    let mut connection = pool.acquire().await.map_err(StoreError::unavailable)?;
    let outcome = transaction(place, &mut connection, batch).await;
    if outcome.is_err() {
        // Whatever state it is in, nobody works on with it.
        if let Err(error) = connection.detach().close().await {
            tracing::debug!(%error, "a broken connection did not close cleanly");
        }
    }
    outcome
}

async fn transaction(
    (backend, half): (Backend, Half),
    connection: &mut AnyConnection,
    batch: &mut [Box<dyn Operation>],
) -> Result<Committed, StoreError> {
    let lost = StoreError::unavailable;
    connection.execute(backend.begin()).await.map_err(lost)?;
    if backend == Backend::Postgres {
        let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(half.lock());
        lock.execute(&mut *connection).await.map_err(lost)?;
    }
    let alone = batch.len() == 1;
    let mut tx = Tx::new(backend, connection);
    for operation in batch.iter_mut() {
        if !alone {
            tx.execute("SAVEPOINT operation").await?;
        }
        // A panic is a fault of one operation; the line of writers must outlive it.
        let done = AssertUnwindSafe(operation.run(&mut tx)).catch_unwind().await;
        match done.unwrap_or(Err(StoreError::Undone)) {
            Ok(()) => tx.keep(),
            Err(StoreError::Undone) if alone => {
                tx.execute("ROLLBACK").await?;
                return Ok(Committed::default());
            }
            Err(StoreError::Undone) => {
                tx.undo();
                tx.execute("ROLLBACK TO operation").await?;
            }
            Err(error) => return Err(error),
        }
        if !alone {
            tx.execute("RELEASE operation").await?;
        }
    }
    let committed = Committed {
        newest: tx.kept(),
        shared: tx.shared(),
    };
    let afterwards = tx.take_afterwards();
    tx.execute("COMMIT").await?;
    for work in afterwards {
        if std::panic::catch_unwind(AssertUnwindSafe(work)).is_err() {
            tracing::error!("what follows a commit failed");
        }
    }
    Ok(committed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operation that writes so many rows.
    struct Rows(usize);

    impl Operation for Rows {
        fn rows(&self) -> usize {
            self.0
        }

        fn run<'c>(&'c mut self, _: &'c mut Tx<'_>) -> Boxed<'c, Result<(), StoreError>> {
            Box::pin(async { Ok(()) })
        }

        fn answer(self: Box<Self>, _: Result<(), StoreError>) {}
    }

    #[test]
    fn small_operations_share_a_commit_and_a_large_one_has_its_own() {
        for (rows, first) in [
            (vec![1; BATCH], BATCH),
            (vec![5_000, 5_000], 1),
            (vec![5_000, 1], 1),
            (vec![1, 5_000], 1),
            (vec![2_500, 2_500, 1], 2),
            (vec![usize::MAX, usize::MAX], 1),
            (vec![0, 0, 5_000, 1], 3),
        ] {
            let batch: Vec<Box<dyn Operation>> = rows
                .iter()
                .map(|rows| Box::new(Rows(*rows)) as Box<dyn Operation>)
                .collect();
            assert_eq!(together(&batch), first, "{rows:?}");
        }
    }
}
