//! A feed's document: verified, read, judged.
//!
//! Owns the format of `control/data/FEED.md` and the rule what may follow what. Pure: bytes, key, serial and time are
//! arguments. Not a byte is parsed before the signature over it was checked.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::Deserialize;
use thiserror::Error;
use tidegate_policy::document::blocklist::parse_pattern;

use super::{FeedEntry, FeedUpdate, MAX_QUOTED, MAX_REASON, PublicKey, Unread};

/// The format that is read.
const FORMAT: u32 = 1;

/// Why a document is refused.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// Not signed by the key that is configured, or changed since.
    #[error("the signature does not fit the document and the configured public key")]
    Signature,
    /// Signed, but not the JSON that it should be.
    #[error("the document can't be read")]
    Syntax(#[source] serde_json::Error),
    /// Made for a later program.
    #[error("the document has format {0}, this program reads {FORMAT}")]
    Format(u32),
    /// A date that is none.
    #[error("the document's `{field}` is {found:?}, expected a time such as 2026-03-01T12:00:00Z")]
    Date {
        /// `date` or `expires`.
        field: &'static str,
        /// What it says.
        found: String,
    },
    /// An old document, replayed.
    #[error("the document has serial {found}, and {ours} is in force: serials never fall")]
    Rollback {
        /// Its serial.
        found: u64,
        /// Ours.
        ours: u64,
    },
    /// A delta that ends before it begins.
    #[error("the document's serial {serial} is before its `since` {since}")]
    Backwards {
        /// Its serial.
        serial: u64,
        /// Its `since`.
        since: u64,
    },
    /// The feed's own end of life has come.
    #[error("the document expired at {at}: somebody serves an old one, or nobody makes new ones")]
    Expired {
        /// Its `expires`.
        at: Timestamp,
    },
}

/// What a good document means for somebody at a serial.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// Nothing new.
    Current,
    /// A step ahead.
    Update(FeedUpdate),
    /// A delta that does not continue from our serial: the whole feed is needed.
    Gap,
}

/// As written. Fields that a later feed may have are left alone.
#[derive(Deserialize)]
struct Raw {
    format: u32,
    serial: u64,
    date: String,
    since: Option<u64>,
    expires: Option<String>,
    #[serde(default)]
    add: Vec<RawEntry>,
    #[serde(default)]
    remove: Vec<String>,
}

#[derive(Deserialize)]
struct RawEntry {
    pattern: String,
    #[serde(default)]
    reason: String,
}

/// Verifies, reads and judges a document for somebody who has the feed up to `ours`.
pub(super) fn judge(
    document: &[u8],
    signature: &[u8],
    key: &PublicKey,
    ours: Option<u64>,
    now: Timestamp,
) -> Result<Judged, DocumentError> {
    if !key.verifies(document, signature) {
        return Err(DocumentError::Signature);
    }
    let raw: Raw = serde_json::from_slice(document).map_err(DocumentError::Syntax)?;
    if raw.format != FORMAT {
        return Err(DocumentError::Format(raw.format));
    }
    let date = time("date", &raw.date)?;
    if let Some(expires) = &raw.expires {
        let at = time("expires", expires)?;
        if now >= at {
            return Err(DocumentError::Expired { at });
        }
    }
    if let Some(ours) = ours.filter(|ours| raw.serial < *ours) {
        return Err(DocumentError::Rollback {
            found: raw.serial,
            ours,
        });
    }
    if let Some(since) = raw.since.filter(|since| *since > raw.serial) {
        return Err(DocumentError::Backwards {
            serial: raw.serial,
            since,
        });
    }
    match ours {
        Some(ours) if raw.serial == ours => Ok(Judged::Current),
        _ if raw.since.is_some() && raw.since != ours => Ok(Judged::Gap),
        Some(_) | None => Ok(Judged::Update(update(raw, date))),
    }
}

fn time(field: &'static str, text: &str) -> Result<Timestamp, DocumentError> {
    text.parse().map_err(|_| DocumentError::Date {
        field,
        found: text.chars().take(64).collect(),
    })
}

fn update(raw: Raw, date: Timestamp) -> FeedUpdate {
    let mut unread = Unread::default();
    let mut added = HashSet::with_capacity(raw.add.len());
    let mut add = Vec::with_capacity(raw.add.len());
    for entry in raw.add {
        let Some(pattern) = spell(&entry.pattern, &mut unread) else {
            continue;
        };
        if added.insert(pattern.clone()) {
            add.push(FeedEntry {
                pattern,
                reason: reason(&entry.reason),
            });
        }
    }
    let full = raw.since.is_none();
    // Whatever is not in a full feed goes anyway.
    let written = if full { &[][..] } else { &raw.remove };
    let mut remove: Vec<String> = written
        .iter()
        .filter_map(|pattern| spell(pattern, &mut unread))
        .collect();
    remove.retain(|pattern| added.insert(pattern.clone()));
    FeedUpdate {
        serial: raw.serial,
        date,
        full,
        add,
        remove,
        unread,
    }
}

/// The canonical spelling of a pattern, so that a later document may remove it however it is written there.
fn spell(pattern: &str, unread: &mut Unread) -> Option<String> {
    match parse_pattern(pattern) {
        Ok(entry) => Some(entry.to_string()),
        Err(error) => {
            unread.count += 1;
            if unread.quoted.len() < MAX_QUOTED {
                let pattern: String = pattern.chars().take(100).collect();
                let error: String = error.0.chars().take(MAX_REASON).collect();
                unread.quoted.push(format!("{pattern:?}: {error}"));
            }
            None
        }
    }
}

/// One line of a bounded length: it ends up on the pages that explain a refusal.
fn reason(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(MAX_REASON).map(plain).collect()
}

#[cfg(test)]
mod tests;
