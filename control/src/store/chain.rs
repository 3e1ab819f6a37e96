//! The audit log's chain of hashes: pure, for the store that writes it and for whoever verifies it.
//!
//! Owns the byte form of an entry, version 1. It is the concatenation of
//!
//! 1. the 18 bytes `tidegate audit v1` and a line feed,
//! 2. `seq` and `at` (microseconds since 1970), each as 8 bytes, big endian, two's complement,
//! 3. actor's subject, actor's token id, actor's way (`via`), action, owner, target, policy id, detail, `previous`, in
//!    this order, each as a text,
//!
//! where a text is its length in bytes plus one (8 bytes, big endian) followed by its UTF-8, and an absent one is the
//! length 0 alone. So no two entries have the same form. The detail is JSON without spaces, an object's keys sorted by
//! their bytes; it holds no fractions, whose spelling is not settled. An entry's hash is SHA-256 over that, in lower-case
//! hexadecimal; `previous` of the first entry is [`START`].
//!
//! An entry that was edited, removed, inserted or moved breaks the chain where it stood. Entries missing at the *end*
//! show only to who remembers a [`Head`] from before: [`Verifier::remembering`].

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::time::Micros;
use crate::model::AuditEntry;

/// `previous` of the first entry.
pub const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What the form of an entry begins with.
const MAGIC: &[u8] = b"tidegate audit v1\n";

/// Where a chain ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Number of the last entry; 0 of an empty chain.
    pub seq: u64,
    /// Its hash; [`START`] of an empty chain.
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            seq: 0,
            hash: START.to_owned(),
        }
    }
}

/// Why a chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Entries were removed, inserted or moved.
    #[error("entry {expected} is missing: entry {found} stands in its place")]
    Order {
        /// The number that should follow.
        expected: u64,
        /// The number that does.
        found: u64,
    },
    /// The entry does not go on from the one before.
    #[error("entry {seq} does not follow the entry before it: one of them was replaced")]
    Previous {
        /// Its number.
        seq: u64,
    },
    /// The entry is not what its hash says.
    #[error("entry {seq} was edited: its hash is another")]
    Edited {
        /// Its number.
        seq: u64,
    },
    /// The chain is another one than it was.
    #[error("entry {seq} is not the entry that was the last one when the chain was verified before")]
    Rewritten {
        /// Its number.
        seq: u64,
    },
    /// The chain ends before it did.
    #[error("the log ends at entry {found}, but had {remembered} entries when it was verified before")]
    Truncated {
        /// Where it ended.
        remembered: u64,
        /// Where it ends.
        found: u64,
    },
}

/// Verifies a chain entry by entry, oldest first.
#[derive(Debug, Default)]
pub struct Verifier {
    head: Head,
    remembered: Head,
}

impl Verifier {
    /// From the first entry on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also expects that the chain still contains this head: the one that was found before.
    #[must_use]
    pub fn remembering(head: Head) -> Self {
        Self {
            remembered: head,
            ..Self::default()
        }
    }

    /// From the entry after this head on: what leads to it was verified when it was the head.
    pub fn following(head: Head) -> Self {
        Self {
            remembered: head.clone(),
            head,
        }
    }

    /// Goes on with the next entry.
    pub fn push(&mut self, entry: &AuditEntry) -> Result<(), Broken> {
        let (seq, expected) = (entry.seq, self.head.seq + 1);
        if seq != expected {
            return Err(Broken::Order { expected, found: seq });
        }
        if entry.previous != self.head.hash {
            return Err(Broken::Previous { seq });
        }
        if entry_hash(entry) != entry.hash {
            return Err(Broken::Edited { seq });
        }
        if seq == self.remembered.seq && entry.hash != self.remembered.hash {
            return Err(Broken::Rewritten { seq });
        }
        self.head = Head {
            seq,
            hash: entry.hash.clone(),
        };
        Ok(())
    }

    /// The end was reached.
    pub fn finish(self) -> Result<Head, Broken> {
        if self.head.seq < self.remembered.seq {
            return Err(Broken::Truncated {
                remembered: self.remembered.seq,
                found: self.head.seq,
            });
        }
        Ok(self.head)
    }
}

/// Verifies a whole chain, oldest entry first.
pub fn verify<'a>(entries: impl IntoIterator<Item = &'a AuditEntry>) -> Result<Head, Broken> {
    let mut verifier = Verifier::new();
    entries.into_iter().try_for_each(|entry| verifier.push(entry))?;
    verifier.finish()
}

/// The hash of an entry, over everything in it but `hash` itself.
pub fn entry_hash(entry: &AuditEntry) -> String {
    let mut form = Form(Context::new(&SHA256));
    form.0.update(MAGIC);
    form.number(entry.seq.cast_signed());
    form.number(Micros::from(entry.at).0);
    form.text(Some(&entry.actor.subject));
    form.text(entry.actor.token_id.as_deref());
    form.text(Some(&entry.actor.via));
    form.text(Some(&entry.action));
    form.text(Some(&entry.owner));
    form.text(Some(&entry.target));
    form.text(entry.policy_id.as_deref());
    form.text(Some(&canonical(&entry.detail)));
    form.text(Some(&entry.previous));
    hex(form.0.finish().as_ref())
}

struct Form(Context);

impl Form {
    fn number(&mut self, number: i64) {
        self.0.update(&number.to_be_bytes());
    }

    fn text(&mut self, text: Option<&str>) {
        self.number(text.map_or(0, |text| (text.len() as u64 + 1).cast_signed()));
        self.0.update(text.unwrap_or_default().as_bytes());
    }
}

/// SHA-256 of a text, in lower-case hexadecimal.
pub(super) fn sha256(text: &str) -> String {
    hex(aws_lc_rs::digest::digest(&SHA256, text.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// JSON in the form that is stored and hashed. Whether `serde_json` keeps or sorts keys depends on what else is built
/// with it, so they are sorted here.
pub(super) fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    let separate = |at: usize, out: &mut String| out.push_str(if at == 0 { "" } else { "," });
    match value {
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                separate(at, out);
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (at, (key, value)) in fields.into_iter().enumerate() {
                separate(at, out);
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string());
        }
    }
}

#[cfg(test)]
mod tests;
