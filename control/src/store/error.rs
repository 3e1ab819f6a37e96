//! What can go wrong in the store, as the API and the sync server tell it on.

use tidegate_policy::document::Diagnostic;

/// Why an operation did not happen. Whatever the reason, nothing of it was stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such thing.
    #[error("there is no {what}")]
    NotFound {
        /// `policy acme/base`.
        what: String,
    },
    /// Something stands in the way; the sentence says what.
    #[error("{reason}")]
    Conflict {
        /// One sentence: what holds it, what to do.
        reason: String,
    },
    /// It changed since it was read.
    #[error("{what} is at version {current} by now")]
    Stale {
        /// What.
        what: String,
        /// Its version.
        current: u32,
    },
    /// What was asked does not make sense; the sentence says which field and why.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A document with errors.
    #[error("the document has errors")]
    Document(Vec<Diagnostic>),
    /// Too many operations wait.
    #[error("the store is busy; try again in a second")]
    Busy,
    /// The store is being closed.
    #[error("the store is being closed")]
    Closed,
    /// The database can't be reached, or failed.
    #[error("the store's database failed")]
    Unavailable(#[source] Cause),
    /// What is stored can't be read: a newer program wrote it, or somebody's hand.
    #[error("the store holds something that this program can't read: {0}")]
    Unreadable(String),
    /// A URL of no kind that is known.
    #[error("{0:?} is no store; write sqlite:///PATH or postgres://USER@HOST/DATABASE")]
    Url(String),
    /// The file of an SQLite store can't be made.
    #[error("can't open {file}")]
    File {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The tables can't be brought up to date.
    #[error("the store's tables can't be brought up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The savepoint is to be rolled back; never leaves the writer.
    #[error("undone")]
    Undone,
}

/// A cause that many operations share.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Cause(String);

impl StoreError {
    /// A failure of the database itself.
    pub(super) fn unavailable(error: sqlx::Error) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            let more = cause.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            source = cause.source();
        }
        Self::Unavailable(Cause(text))
    }

    /// The connection is not to be used again, or the transaction is lost.
    pub(super) fn is_fatal(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Closed)
    }

    /// For each operation of a batch that failed as a whole.
    pub(super) fn copy(&self) -> Self {
        match self {
            Self::Unavailable(cause) => Self::Unavailable(cause.clone()),
            other => Self::Unavailable(Cause(other.to_string())),
        }
    }

    /// The error with its causes on one line.
    pub fn chain(&self) -> String {
        match std::error::Error::source(self) {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::unavailable(error)
    }
}
