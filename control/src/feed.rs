//! The global block list's sources besides the deployment's own entries: the built-in list and the signed feed.
//!
//! Owns the feed's format (`control/data/FEED.md`), its verification, and the poller that asks for it. It never stores:
//! an update goes into a channel, and only when the store says that it has it does the poller go on from there.

mod builtin;
mod document;
mod key;
mod poller;

use jiff::Timestamp;

pub use crate::fetch::{FetchError, Pace, SetupError};
pub use builtin::{Builtin, BuiltinEntry, BuiltinError, builtin};
pub use document::DocumentError;
pub use key::{KeyError, PublicKey};
#[cfg(test)]
pub(crate) use poller::tests::Published;
pub use poller::{Delivery, FeedError, FeedState, Known, Poller};

/// Largest document in bytes: about a million entries with their reasons.
pub const MAX_DOCUMENT: usize = 64 * 1024 * 1024;

/// Longest reason in characters; the rest is cut off.
pub const MAX_REASON: usize = 300;

/// Patterns of one update that are quoted when they are not understood; the rest is counted.
pub const MAX_QUOTED: usize = 20;

/// One entry of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEntry {
    /// A name, `*.name`, address or range in canonical spelling.
    pub pattern: String,
    /// Why it is refused; may be empty.
    pub reason: String,
}

/// What a feed says, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedUpdate {
    /// Its number; grows with every change.
    pub serial: u64,
    /// When the feed was made.
    pub date: Timestamp,
    /// True when `add` is the whole feed: what is not in it goes. Otherwise it continues from the serial before.
    pub full: bool,
    /// Each pattern once, in the order of the feed. One that is there already takes the new reason.
    pub add: Vec<FeedEntry>,
    /// Patterns to take away, none of which is in `add`; empty in a full update.
    pub remove: Vec<String>,
    /// What was left out.
    pub unread: Unread,
}

/// Patterns that are no patterns. The others are good all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// How many.
    pub count: usize,
    /// The first [`MAX_QUOTED`] of them, each with what is wrong.
    pub quoted: Vec<String>,
}
