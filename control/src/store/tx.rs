//! One operation's view of the open transaction: its connection, its time, and the two books that every change is
//! entered in (what gateways have to hear of, and the history).

use sqlx::{AnyConnection, Executor, Row};
use tidegate_policy::effective::Generation;

use super::StoreError;
use super::chain::Head;
use super::db::Backend;
use super::time::Micros;

/// The open transaction.
#[derive(Debug)]
pub struct Tx<'c> {
    backend: Backend,
    connection: &'c mut AnyConnection,
    now: Micros,
    /// Newest change of operations that stay.
    kept: Option<Generation>,
    /// Newest change of the operation at work.
    newest: Option<Generation>,
    /// The same two of what every gateway knows.
    shared: Shared,
    /// Where the audit log ends, once this transaction has written to it.
    head: Option<Head>,
    /// What is done after the commit, for operations that stay.
    afterwards: Afterwards,
    /// The same of the operation at work.
    then: Afterwards,
}

/// What is done when all is stored.
#[derive(Default)]
struct Afterwards(Vec<Box<dyn FnOnce() + Send>>);

impl std::fmt::Debug for Afterwards {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Afterwards({})", self.0.len())
    }
}

impl<'c> Tx<'c> {
    pub(super) fn new(backend: Backend, connection: &'c mut AnyConnection) -> Self {
        Self {
            backend,
            connection,
            now: Micros::now(),
            kept: None,
            newest: None,
            shared: Shared::default(),
            head: None,
            afterwards: Afterwards::default(),
            then: Afterwards::default(),
        }
    }

    /// Which database it is.
    pub(super) fn backend(&self) -> Backend {
        self.backend
    }

    /// The connection, for queries.
    pub fn connection(&mut self) -> &mut AnyConnection {
        self.connection
    }

    /// Says something to the database as it is; when that fails, the transaction is lost.
    pub(super) async fn execute(&mut self, word: &'static str) -> Result<(), StoreError> {
        let done = self.connection.execute(word).await;
        done.map(drop).map_err(StoreError::unavailable)
    }

    /// The time of everything that this transaction writes.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// Enters that something which every gateway knows became another. `key` names it; see [`super::changes`].
    pub async fn change(&mut self, kind: ChangeKind, key: &str) -> Result<Generation, StoreError> {
        self.change_in(kind, key, "").await
    }

    /// The same for something that only the gateways of one group know.
    pub(super) async fn change_in(
        &mut self,
        kind: ChangeKind,
        key: &str,
        group: &str,
    ) -> Result<Generation, StoreError> {
        let row = sqlx::query(
            "INSERT INTO changes (kind, key, group_name, at) VALUES ($1, $2, $3, $4) RETURNING generation",
        )
        .bind(kind.as_str())
        .bind(key)
        .bind(group)
        .bind(self.now.0)
        .fetch_one(&mut *self.connection)
        .await?;
        let generation = Generation(row.try_get::<i64, _>(0)?.unsigned_abs());
        self.entered(generation);
        if group.is_empty() {
            self.shared.newest = Some(generation);
        }
        Ok(generation)
    }

    /// A change was entered.
    pub(super) fn entered(&mut self, generation: Generation) {
        self.newest = self.newest.max(Some(generation));
    }

    /// Does this after the commit, and not at all when nothing is stored. Short: the line of writers waits.
    pub(super) fn after_commit(&mut self, work: impl FnOnce() + Send + 'static) {
        self.then.0.push(Box::new(work));
    }

    /// What is to be done after the commit.
    pub(super) fn take_afterwards(&mut self) -> Vec<Box<dyn FnOnce() + Send>> {
        std::mem::take(&mut self.afterwards.0)
    }

    /// The operation stays.
    pub(super) fn keep(&mut self) {
        self.afterwards.0.append(&mut self.then.0);
        self.kept = self.newest.take().or(self.kept);
        self.shared.kept = self.shared.newest.take().or(self.shared.kept);
    }

    /// The operation is undone.
    pub(super) fn undo(&mut self) {
        self.then.0.clear();
        self.newest = None;
        self.shared.newest = None;
        self.head = None;
    }

    /// Where the audit log ends, when this transaction knows.
    pub(super) fn audited(&mut self) -> &mut Option<Head> {
        &mut self.head
    }

    /// The newest change of everything that stays.
    pub(super) fn kept(&self) -> Option<Generation> {
        self.kept
    }

    /// The newest change of everything that stays and that every gateway knows: all but leases.
    pub(super) fn shared(&self) -> Option<Generation> {
        self.shared.kept
    }
}

/// Newest changes of what every gateway knows.
#[derive(Debug, Default)]
struct Shared {
    kept: Option<Generation>,
    newest: Option<Generation>,
}

/// What a row of `changes` is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// A policy; the key is its id.
    Policy,
    /// An endpoint set; `owner/name`.
    Set,
    /// A scope's attachment; the scope.
    Attachment,
    /// A runner's or provisioner's token; its id.
    Token,
    /// An OIDC issuer; its URL.
    Issuer,
    /// The global block list; the layer. Which entries is told by their own `changed`.
    Block,
    /// A lease; its id.
    Lease,
}

impl ChangeKind {
    const ALL: [Self; 7] = [
        Self::Policy,
        Self::Set,
        Self::Attachment,
        Self::Token,
        Self::Issuer,
        Self::Block,
        Self::Lease,
    ];

    /// The spelling in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Set => "set",
            Self::Attachment => "attachment",
            Self::Token => "token",
            Self::Issuer => "issuer",
            Self::Block => "block",
            Self::Lease => "lease",
        }
    }

    /// From that spelling; `None` for one of a newer program.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}
