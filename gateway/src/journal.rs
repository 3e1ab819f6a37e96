//! What was last synced, on disk: the frames of the stream, in `sync.ndjson` in the state directory.
//!
//! Owns the file: read at start, appended to with every batch, written anew when it has grown. A batch that was cut off
//! by a crash is not there; a file that means nothing is said to be so and treated as if there were none. Never stops
//! enforcement: a disk that takes nothing is a problem for `status`. Driven by [`crate::sync`].

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::frame::{Assembler, Batch, Frame, FrameError, read_line, write_line};
use tidegate_control_wire::mirror::Mirror;
use tidegate_policy::Moment;
use tidegate_policy::effective::Generation;

use crate::sync::lines::{LineTooLong, Lines};

/// Its name in the state directory.
pub(crate) const FILE: &str = "sync.ndjson";
/// A file below this is not worth writing anew, in bytes.
const COMPACT: u64 = 1 << 20;
/// After the disk refused, it is tried again at the next batch that comes later than this.
const RETRY: Duration = Duration::from_secs(5);
/// Bytes that wait for a slow disk at most; beyond, everything is written anew when it is back.
const MAX_WAITING: usize = 16 << 20;
/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// Why the file can't be used.
#[derive(Debug, Error)]
pub(crate) enum JournalError {
    /// The system refuses it.
    #[error("can't read it")]
    Io(#[from] io::Error),
    /// It is no journal, or somebody changed it.
    #[error("line {line} is damaged")]
    Damaged {
        /// From 1.
        line: u64,
        /// How.
        #[source]
        source: Damage,
    },
}

/// How a line is damaged.
#[derive(Debug, Error)]
pub(crate) enum Damage {
    /// It has no end.
    #[error(transparent)]
    TooLong(#[from] LineTooLong),
    /// Not even the first batch is whole; a crash never leaves that, because the file gets its name when it is.
    #[error("it holds no whole batch")]
    Nothing,
    /// It is no frame, or stands in the wrong place.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Batches on their way to disk.
#[derive(Debug, Default)]
pub(crate) struct News {
    lines: Vec<u8>,
    changes: bool,
    reset: bool,
    at: Option<Timestamp>,
}

impl News {
    /// Takes in one more batch, before the mirror does.
    pub(crate) fn add(&mut self, batch: &Batch) {
        self.at = Some(batch.at);
        self.changes |= batch.reset || !batch.changes.is_empty();
        self.reset |= batch.reset;
        if self.reset {
            // Everything is written from the mirror.
            self.lines = Vec::new();
            return;
        }
        for change in &batch.changes {
            self.lines.extend(write_line(&Frame::Change(change.clone())));
        }
        self.lines.extend(write_line(&commit(batch.generation, batch.at)));
        if self.lines.len() > MAX_WAITING {
            self.reset = true;
            self.lines = Vec::new();
        }
    }
}

fn commit(generation: Generation, at: Timestamp) -> Frame {
    Frame::Commit { generation, at }
}

/// Everything, as the file says it; taken while the mirror is held, written while it is not.
#[derive(Debug)]
pub(crate) struct Snapshot {
    changes: Vec<u8>,
    generation: Generation,
}

impl Snapshot {
    /// Everything that `mirror` holds. `None` before it was ever told anything: read again, an empty file would be a
    /// store without policies, and every job would get a default.
    pub(crate) fn of(mirror: &Mirror) -> Option<Self> {
        if !mirror.is_synced() {
            return None;
        }
        let begin = Frame::Begin {
            protocol: PROTOCOL,
            epoch: mirror.epoch().to_owned(),
            reset: true,
        };
        let frames = std::iter::once(begin).chain(mirror.snapshot().map(Frame::Change));
        Some(Self {
            changes: frames.flat_map(|frame| write_line(&frame)).collect(),
            generation: mirror.generation(),
        })
    }

    fn lines(&self, at: Timestamp) -> Vec<u8> {
        let commit = write_line(&commit(self.generation, at));
        [self.changes.as_slice(), commit.as_slice()].concat()
    }
}

/// The file.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// Where the next batch goes; `None` when the file has to be written anew first.
    open: Option<File>,
    /// Its length, in bytes.
    length: u64,
    /// Its length when it was written anew.
    snapshot: u64,
    /// Control's time of the newest batch.
    at: Timestamp,
    /// The mirror holds something that the file does not.
    behind: bool,
    problem: Option<String>,
    refused_at: Option<Moment>,
}

impl Journal {
    /// Reads the file and hands every whole batch on, in order. Without a file there are none.
    pub(crate) fn read(state_dir: &Path, mut take: impl FnMut(Batch)) -> Result<Self, JournalError> {
        let mut journal = Self::unread(state_dir);
        let opened = OpenOptions::new().read(true).write(true).open(&journal.path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(journal),
            Err(error) => return Err(error.into()),
        };
        let extent = read_batches(&mut file, |batch| {
            journal.at = batch.at;
            take(batch);
        })?;
        if extent.whole > 0 {
            // What was cut off goes, so that the next batch follows on the last whole one.
            file.set_len(extent.whole)?;
            file.seek(SeekFrom::End(0))?;
            journal.open = Some(file);
            journal.length = extent.whole;
            journal.snapshot = extent.first;
        }
        Ok(journal)
    }

    /// A journal that begins anew with the next batch, whatever the file holds.
    pub(crate) fn unread(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join(FILE),
            open: None,
            length: 0,
            snapshot: 0,
            at: Timestamp::default(),
            behind: false,
            problem: None,
            refused_at: None,
        }
    }

    /// Puts on disk what came since the last call; nothing when that is nothing. `whole` gives everything, where it has
    /// to be written anew; while nothing is known, the file stays as it is.
    pub(crate) fn keep(&mut self, news: News, now: Moment, whole: impl FnOnce() -> Option<Snapshot>) {
        self.behind |= news.changes;
        self.at = news.at.unwrap_or(self.at);
        let waits = self.refused_at.is_some_and(|at| now.since(at) < RETRY);
        if !self.behind || waits {
            return;
        }
        let anew = news.reset || self.has_grown();
        let kept = match self.open.take().filter(|_| !anew) {
            Some(file) => self.append(file, &news.lines),
            None => match whole() {
                Some(whole) => self.write_anew(&whole),
                None => return,
            },
        };
        match kept {
            Ok(()) => self.mended(),
            Err(error) => self.refused(&error, now),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Control's time of the newest batch that was read or kept.
    pub(crate) fn newest(&self) -> Timestamp {
        self.at
    }

    /// Why the newest state is not on disk.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    fn has_grown(&self) -> bool {
        self.length > COMPACT && self.length > 2 * self.snapshot
    }

    fn append(&mut self, mut file: File, lines: &[u8]) -> io::Result<()> {
        file.write_all(lines)?;
        file.sync_data()?;
        self.length += lines.len() as u64;
        self.open = Some(file);
        Ok(())
    }

    /// Writes everything into a new file, which then takes the old one's place.
    fn write_anew(&mut self, whole: &Snapshot) -> io::Result<()> {
        let fresh = self.path.with_extension("ndjson.new");
        let written = write_private(&fresh, &whole.lines(self.at)).and_then(|written| {
            std::fs::rename(&fresh, &self.path)?;
            Ok(written)
        });
        let (file, length) = written.inspect_err(|_| {
            // The room it takes may be what is missing.
            let _ = std::fs::remove_file(&fresh);
        })?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        (self.length, self.snapshot) = (length, length);
        self.open = Some(file);
        Ok(())
    }

    fn mended(&mut self) {
        self.behind = false;
        self.refused_at = None;
        if self.problem.take().is_some() {
            tracing::info!(file = %self.path.display(), "the synced state is written again");
        }
    }

    /// The next try writes everything anew: what was half written, or left out, leaves no gap.
    fn refused(&mut self, error: &io::Error, now: Moment) {
        self.refused_at = Some(now);
        let problem = format!("can't write {}: {error}", self.path.display());
        if self.problem.as_ref() != Some(&problem) {
            tracing::error!(
                problem,
                "the synced state is in force, but would be older after a restart"
            );
        }
        self.problem = Some(problem);
    }
}

/// Up to where a file is good.
#[derive(Default)]
struct Extent {
    /// End of the first batch.
    first: u64,
    /// End of the last whole one.
    whole: u64,
}

/// Hands on every whole batch. What stands behind the last one was cut off by a crash and is left out; a line in front
/// of it that is not understood means that the file was damaged otherwise, and nothing of it can be trusted.
fn read_batches(file: &mut File, mut take: impl FnMut(Batch)) -> Result<Extent, JournalError> {
    let (mut lines, mut assembler) = (Lines::default(), Assembler::default());
    let (mut extent, mut at, mut line) = (Extent::default(), 0, 0);
    let mut damaged: Option<JournalError> = None;
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            let nothing = (extent.whole == 0 && (line > 0 || lines.is_begun()))
                .then(|| damaged.unwrap_or_else(|| damage(line + 1, Damage::Nothing)));
            return nothing.map_or(Ok(extent), Err);
        }
        lines.push(chunk.get(..read).unwrap_or_default());
        while let Some(text) = lines.take().map_err(|source| too_long(line + 1, source))? {
            (at, line) = (at + text.len() as u64 + 1, line + 1);
            let frame = read_line(text);
            if let Some(error) = damaged.take_if(|_| matches!(frame, Ok(Frame::Commit { .. }))) {
                return Err(error);
            }
            if damaged.is_some() {
                continue;
            }
            match frame.and_then(|frame| assembler.take(frame)) {
                Ok(None) => {}
                Ok(Some(batch)) => {
                    take(batch);
                    extent.whole = at;
                    if extent.first == 0 {
                        extent.first = at;
                    }
                }
                Err(source) => damaged = Some(damage(line, source.into())),
            }
        }
    }
}

fn too_long(line: u64, source: LineTooLong) -> JournalError {
    damage(line, source.into())
}

fn damage(line: u64, source: Damage) -> JournalError {
    JournalError::Damaged { line, source }
}

/// Writes a file for the owner's eyes only; gives back its length too.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok((file, bytes.len() as u64))
}

#[cfg(test)]
mod tests;
