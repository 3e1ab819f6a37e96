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
    /// The database can't be reached, or failed. A change may have been made all the same when it failed at the end of
    /// the commit.
    #[error("the store's database failed")]
    Unavailable(#[source] Cause),
    /// The database refused a statement: a fault of this program, of this one operation only.
    #[error("the store's database refused a statement")]
    Refused(#[source] Cause),
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
    /// Who asked for a snapshot does not take it.
    #[error("the snapshot is not being read")]
    Unread,
    /// The savepoint is to be rolled back; never leaves the writer.
    #[error("undone")]
    Undone,
}

/// A cause that many operations share.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Cause {
    text: String,
    /// What was to be stored is to blame: it would be refused again.
    of_data: bool,
}

impl Cause {
    /// The error with what is below it, each once.
    fn of(error: &sqlx::Error) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            let more = cause.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            source = cause.source();
        }
        let code = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        Self {
            text,
            of_data: code.is_some_and(|code| is_of_data(&code)),
        }
    }
}

impl StoreError {
    /// A failure of the database itself.
    pub(super) fn unavailable(error: sqlx::Error) -> Self {
        Self::Unavailable(Cause::of(&error))
    }

    /// One sentence about one field.
    pub(super) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            reason: reason.into(),
        }
    }

    /// There is no such thing.
    pub(super) fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }

    /// The database can't hold what was to be stored; it would refuse it again.
    pub fn is_of_data(&self) -> bool {
        matches!(self, Self::Refused(cause) if cause.of_data)
    }

    /// The connection is not to be used again, or the transaction is lost.
    pub(super) fn is_fatal(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Closed)
    }

    /// For each operation of a batch that failed as a whole.
    pub(super) fn copy(&self) -> Self {
        if let Self::Unavailable(cause) = self {
            return Self::Unavailable(cause.clone());
        }
        Self::Unavailable(Cause {
            text: self.to_string(),
            of_data: false,
        })
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
        let cause = Cause::of(&error);
        if let sqlx::Error::Database(database) = &error {
            let code = database.code().unwrap_or_default();
            return if is_failure(&code) {
                Self::Unavailable(cause)
            } else {
                Self::Refused(cause)
            };
        }
        let unreadable = matches!(
            error,
            sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::ColumnIndexOutOfBounds { .. }
                | sqlx::Error::RowNotFound
        );
        if unreadable {
            Self::Unreadable(cause.text)
        } else {
            Self::Unavailable(cause)
        }
    }
}

/// Whether the code of a database error says that the database failed, not that it refused a statement.
///
/// PostgreSQL (appendix A of its manual): classes 08 connection, 53 resources, 57P shutdown, 58 system, XX internal.
/// SQLite (sqlite.org/rescode.html): anything but ERROR, ABORT, TOOBIG, CONSTRAINT and MISMATCH; the low byte is the
/// primary code.
fn is_failure(code: &str) -> bool {
    if code.len() == 5 {
        return ["08", "53", "57P", "58", "XX"]
            .iter()
            .any(|class| code.starts_with(class));
    }
    let primary = code.parse::<u32>().unwrap_or_default() & 0xff;
    !matches!(primary, 1 | 4 | 18 | 19 | 20)
}

/// Whether the code says that the data are to blame, not the moment.
///
/// PostgreSQL: classes 22 data exception, 54 program limit exceeded (a row too large for its index). SQLite: TOOBIG.
fn is_of_data(code: &str) -> bool {
    if code.len() == 5 {
        return code.starts_with("22") || code.starts_with("54");
    }
    code.parse::<u32>().is_ok_and(|code| code & 0xff == 18)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_statement_is_told_from_a_database_that_failed() {
        for (code, failure) in [
            ("57P01", true),
            ("53100", true),
            ("23505", false),
            ("P0001", false),
            ("5", true),
            ("266", true),
            ("13", true),
            ("2067", false),
            ("1", false),
            ("", true),
        ] {
            assert_eq!(is_failure(code), failure, "{code}");
        }
    }

    #[test]
    fn what_is_refused_for_ever_is_told_from_what_is_refused_for_now() {
        for (code, of_data) in [
            ("54000", true),
            ("22003", true),
            ("40P01", false),
            ("55P03", false),
            ("57014", false),
            ("18", true),
            ("19", false),
            ("", false),
        ] {
            assert_eq!(is_of_data(code), of_data, "{code}");
        }
    }
}
