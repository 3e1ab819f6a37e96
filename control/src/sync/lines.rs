//! A batch of events as text: lines of JSON, read one by one.
//!
//! Owns what a line that can't be read costs: itself. Reads no clock and does no I/O; [`super::events`] drives it.
//!
//! The number of such a line is used up, else its gateway would send it for ever. When not even the number can be read,
//! it is at least one more than that of the line before. What stands behind the last line break is no line unless it can
//! be read: a batch that was cut is sent again from there.

use serde::Deserialize;
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::batch::{BatchHead, MAX_ENTRIES, ProcessReport};
use tidegate_control_wire::event::{EventRecord, MAX_EVENT};
use tidegate_control_wire::text::{cut, printable};

use crate::store::Item;

/// Longest entry, in bytes: the longest event with its number.
const MAX_LINE: usize = MAX_EVENT + 64;
/// Longest reason that is told on, in characters.
const MAX_WHY: usize = 200;

/// A batch, read.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) head: BatchHead,
    pub(super) entries: Vec<(u64, Item)>,
    /// Lines that are none and have no number either.
    pub(super) unnumbered: u64,
    /// What is wrong with the first line that is refused.
    pub(super) why: Option<String>,
}

/// Bytes that are no batch.
#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
    /// The first line is no head.
    #[error("the first line is no head of a batch: {0}")]
    Head(String),
    /// Its gateway speaks another protocol.
    #[error("the gateway speaks protocol {0}, control speaks {PROTOCOL}: update the older one")]
    Protocol(u32),
    /// Too many lines.
    #[error("a batch has at most {MAX_ENTRIES} entries")]
    Entries,
}

/// An entry ([`tidegate_control_wire::batch::Entry`]), its event read with it.
#[derive(Deserialize)]
struct Line {
    seq: u64,
    #[serde(default)]
    event: Option<Box<EventRecord>>,
    #[serde(default)]
    report: Option<Box<ProcessReport>>,
}

/// Of a head of whatever protocol.
#[derive(Deserialize)]
struct Spoken {
    protocol: u32,
}

/// Of an entry that can't be read otherwise.
#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

/// Reads a batch of the gateway called `gateway`.
pub(super) fn read(body: &[u8], gateway: &str) -> Result<Batch, BatchError> {
    let mut lines = body.split_inclusive(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let spoken: Spoken = serde_json::from_slice(first).map_err(|error| BatchError::Head(why(&error)))?;
    if spoken.protocol != PROTOCOL {
        return Err(BatchError::Protocol(spoken.protocol));
    }
    let head = serde_json::from_slice(first).map_err(|error| BatchError::Head(why(&error)))?;
    let mut batch = Batch {
        head,
        entries: Vec::new(),
        unnumbered: 0,
        why: None,
    };
    for line in lines {
        if batch.entries.len() >= MAX_ENTRIES {
            return Err(BatchError::Entries);
        }
        match entry(line, gateway) {
            Ok(read) => batch.entries.push(read),
            Err(_) if !line.ends_with(b"\n") => break,
            Err(refused) => batch.refuse(line, refused)?,
        }
    }
    Ok(batch)
}

impl Batch {
    fn refuse(&mut self, line: &[u8], because: String) -> Result<(), BatchError> {
        self.why.get_or_insert(because);
        let said = serde_json::from_slice(line)
            .ok()
            .and_then(|line: Numbered| numbered(line.seq));
        let before = self.entries.last().map(|(seq, _)| *seq);
        match said.or_else(|| numbered(before?.saturating_add(1))) {
            Some(seq) => self.entries.push((seq, Item::Refused)),
            None => self.unnumbered += 1,
        }
        if self.unnumbered > MAX_ENTRIES as u64 {
            return Err(BatchError::Entries);
        }
        Ok(())
    }
}

/// Reads an entry, or says what is wrong with it.
fn entry(line: &[u8], gateway: &str) -> Result<(u64, Item), String> {
    if line.len() > MAX_LINE {
        return Err(format!(
            "an entry has at most {MAX_LINE} bytes, this one {}",
            line.len()
        ));
    }
    let line = std::str::from_utf8(line).map_err(|error| why(&error))?;
    let line: Line = serde_json::from_str(line).map_err(|error| why(&error))?;
    let seq = numbered(line.seq).ok_or_else(|| format!("{} is no number of an entry", line.seq))?;
    let item = match (line.event, line.report) {
        (Some(mut event), None) => {
            event.check(gateway).map_err(|error| why(&error))?;
            event.into()
        }
        (None, Some(report)) => report.into(),
        (None, None) | (Some(_), Some(_)) => {
            return Err("an entry has either an event or a report".into());
        }
    };
    Ok((seq, item))
}

/// Numbers begin with 1 and end where the store's do.
fn numbered(seq: u64) -> Option<u64> {
    (1..=i64::MAX.unsigned_abs()).contains(&seq).then_some(seq)
}

/// An error, with its cause, fit for a log.
fn why(error: &(dyn std::error::Error + 'static)) -> String {
    let text = match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    cut(&printable(&text), MAX_WHY).into_owned()
}

#[cfg(test)]
mod tests;
