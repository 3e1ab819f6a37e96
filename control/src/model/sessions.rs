//! Sessions: what a browser is logged in by. A session is a token of its own kind, with a person's name and a short life.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Role;

/// What kind of bearer it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenKind {
    /// Made by an admin, kept in a file, good until it is taken back.
    #[default]
    Token,
    /// Made by a login, good for hours.
    Session,
}

impl TokenKind {
    /// The spelling in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Session => "session",
        }
    }
}

/// By what somebody logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proven {
    /// The token of this id was shown: name, role and owners are its own, and the session ends with it.
    Token(String),
    /// An issuer said who it is.
    Person {
        /// `ISSUER|SUBJECT`, which stays though a name changes.
        person: String,
        /// What histories call the person.
        name: String,
        /// What the person's groups give.
        role: Role,
        /// Owners that it is limited to; empty limits nothing.
        owners: Vec<String>,
    },
}

/// A session as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// By what.
    pub proven: Proven,
    /// When it ends by itself; earlier when its token does.
    pub expires_at: Timestamp,
}

/// Which tokens, or which sessions, are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenFilter {
    /// Which of the two.
    pub kind: TokenKind,
    /// Of this role.
    pub role: Option<Role>,
    /// Good now, or not any more.
    pub living: Option<bool>,
    /// Part of the name, in any case.
    pub search: Option<String>,
    /// The newest first instead of last.
    pub newest_first: bool,
}
