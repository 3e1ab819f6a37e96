//! The stream of changes: how it opens, what its lines are, and how lines become batches.
//!
//! A stream is `Begin`, then any number of batches, each closed by `Commit`; `Ping`s stand between batches. What is not
//! committed is never put in force. The gateway's state file on disk is the same text.

use compact_str::CompactString;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidegate_policy::effective::Generation;
use tidegate_policy::job::Assurance;

use crate::record::Change;

/// Longest line of a stream, in bytes: a policy of 1 MiB, every byte escaped, [`crate::record::MAX_VERSIONS`] times
/// would be more, but such a record is refused by the store.
pub const MAX_LINE: usize = 32 << 20;
/// Changes in one batch at most: a whole snapshot of a large organization.
pub const MAX_BATCH: usize = 4_000_000;
/// Bytes of a default policy's text that a gateway tells.
pub const MAX_DEFAULT_POLICY: usize = 64 * 1024;
/// Between two pings, in seconds. A stream that is silent three times as long is dead.
pub const PING_SECONDS: u64 = 5;

/// What a gateway says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL`].
    pub protocol: u32,
    /// The gateway's name; its token must be of the same name.
    pub gateway: CompactString,
    /// Gateways of one group share their leases.
    #[serde(default)]
    pub group: Option<CompactString>,
    /// Version of the program.
    pub version: String,
    /// The networks that it serves.
    pub networks: Vec<ServedNetwork>,
    /// What it holds already.
    #[serde(default)]
    pub resume: Option<Resume>,
}

/// A network as a gateway serves it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedNetwork {
    /// Its name.
    pub name: CompactString,
    /// Cluster of its jobs; empty for none.
    #[serde(default)]
    pub cluster: CompactString,
    /// Its source ranges.
    pub ranges: Vec<IpNet>,
    /// Jobs that are known less well get its default policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_assurance: Option<Assurance>,
    /// What governs who has no policy of its own: the policy's name and mode as `NAME (audit)`, or `deny-all`. Absent when
    /// the gateway does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_policy: Option<String>,
    /// The text of that policy, for simulations. Absent for `deny-all`, for one that uses endpoint sets of the gateway's own,
    /// and over [`MAX_DEFAULT_POLICY`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_yaml: Option<String>,
    /// What its runners are: `ephemeral` or `persistent`. Absent when the gateway does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runners: Option<String>,
}

/// A position in a store's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The store that it is a position of: another store begins anew.
    pub epoch: String,
    /// Everything up to here is held.
    pub generation: Generation,
}

/// One line of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "kebab-case")]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every frame is a change, the largest"
)]
pub enum Frame {
    /// The first line.
    Begin {
        /// [`crate::PROTOCOL`].
        protocol: u32,
        /// The store.
        epoch: String,
        /// What was held before is forgotten with the first commit: a whole snapshot follows.
        reset: bool,
    },
    /// Part of a batch.
    Change(Change),
    /// Everything up to here is said; the batch is put in force as one.
    Commit {
        /// Position after it.
        generation: Generation,
        /// Control's time.
        at: Timestamp,
    },
    /// Control is there.
    Ping {
        /// The newest position.
        generation: Generation,
        /// Control's time.
        at: Timestamp,
        /// When the block list's feed was last found to be current; absent without a feed.
        #[serde(default)]
        feed_checked_at: Option<Timestamp>,
    },
}

/// What a gateway has put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Everything up to here.
    pub generation: Generation,
    /// Leases that it could not put in place.
    #[serde(default)]
    pub refused: Vec<RefusedLease>,
}

/// A lease that a gateway could not put in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedLease {
    /// Its id.
    pub id: CompactString,
    /// Why, as one sentence.
    pub reason: String,
}

/// A gateway saw a token with a key that its issuer's synced keys do not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownKey {
    /// The issuer's URL.
    pub issuer: String,
}

/// Changes that are put in force as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The store that they are from.
    pub epoch: String,
    /// They are all there is.
    pub reset: bool,
    /// In the order in which they happened.
    pub changes: Vec<Change>,
    /// Position after them.
    pub generation: Generation,
    /// Control's time when it said them.
    pub at: Timestamp,
}

/// A stream that breaks the rules; it is closed, and what was put in force before stays.
#[derive(Debug, Error)]
pub enum FrameError {
    /// A line is no frame.
    #[error("a line of the stream is not understood")]
    Line(#[source] serde_json::Error),
    /// The other end speaks another version.
    #[error(
        "control speaks protocol {theirs}, this gateway {}: update the older one",
        crate::PROTOCOL
    )]
    Protocol {
        /// Its version.
        theirs: u32,
    },
    /// `Begin` was missing, or came again.
    #[error("the stream does not open with one `begin`")]
    Order,
    /// A batch without end.
    #[error("a batch has more than {MAX_BATCH} changes")]
    TooLong,
}

/// Puts lines together to batches.
#[derive(Debug, Default)]
pub struct Assembler {
    epoch: Option<String>,
    reset: bool,
    changes: Vec<Change>,
}

impl Assembler {
    /// Takes one line. Gives back a batch when the line closes one; pings are the caller's to look at.
    pub fn take(&mut self, frame: Frame) -> Result<Option<Batch>, FrameError> {
        match frame {
            Frame::Begin { protocol, .. } if protocol != crate::PROTOCOL => {
                Err(FrameError::Protocol { theirs: protocol })
            }
            Frame::Begin { epoch, reset, .. } if self.epoch.is_none() => {
                self.epoch = Some(epoch);
                self.reset = reset;
                Ok(None)
            }
            Frame::Begin { .. } => Err(FrameError::Order),
            Frame::Change(_) | Frame::Commit { .. } if self.epoch.is_none() => Err(FrameError::Order),
            Frame::Change(_) if self.changes.len() >= MAX_BATCH => Err(FrameError::TooLong),
            Frame::Change(change) => {
                self.changes.push(change);
                Ok(None)
            }
            Frame::Commit { generation, at } => Ok(Some(Batch {
                epoch: self.epoch.clone().unwrap_or_default(),
                reset: std::mem::take(&mut self.reset),
                changes: std::mem::take(&mut self.changes),
                generation,
                at,
            })),
            Frame::Ping { .. } => Ok(None),
        }
    }
}

/// Reads one line.
pub fn read_line(line: &[u8]) -> Result<Frame, FrameError> {
    serde_json::from_slice(line).map_err(FrameError::Line)
}

/// Writes one line, its end included.
pub fn write_line(frame: &Frame) -> Vec<u8> {
    // Frames are plain data with text keys: they always serialize.
    let mut line = serde_json::to_vec(frame).unwrap_or_default();
    line.push(b'\n');
    line
}
