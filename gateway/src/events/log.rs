//! The event log: NDJSON in a file that is rotated by size.
//!
//! Rotation renames `events.ndjson` to `events.ndjson.1` and so on; the oldest goes. A write that fails
//! loses its events, counted by the caller, and is said once until it works again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::encode::Encoded;
use crate::config::EventLogConfig;

/// Events that are written at once, and lost at once when the disk refuses.
const CHUNK: usize = 256;

/// An open event log.
pub struct EventLog {
    config: EventLogConfig,
    file: File,
    size: u64,
    failing: bool,
}

impl EventLog {
    /// Opens the log for appending; makes its folder.
    pub fn open(config: EventLogConfig) -> io::Result<Self> {
        if let Some(folder) = config.file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = append_to(&config.file)?;
        let size = file.metadata()?.len();
        Ok(Self {
            config,
            file,
            size,
            failing: false,
        })
    }

    /// Appends a line an event; returns how many were written.
    pub(crate) fn append(&mut self, events: &Encoded) -> usize {
        let mut written = 0;
        for (count, lines) in events.chunks(CHUNK) {
            match self.append_chunk(lines) {
                Ok(()) => written += count,
                Err(error) if !self.failing => {
                    self.failing = true;
                    tracing::error!(file = %self.config.file.display(), %error, "can't write events; they are dropped until it works again");
                }
                Err(_) => {}
            }
        }
        if written > 0 && written == events.len() && self.failing {
            self.failing = false;
            tracing::info!(file = %self.config.file.display(), "events are written again");
        }
        written
    }

    fn append_chunk(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.size > 0 && self.size + lines.len() as u64 > self.config.rotate_bytes {
            self.rotate()?;
        }
        self.file.write_all(lines)?;
        self.size += lines.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for n in (1..self.config.keep).rev() {
            let (from, to) = (numbered(&self.config.file, n), numbered(&self.config.file, n + 1));
            match std::fs::rename(from, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.config.file, numbered(&self.config.file, 1))?;
        self.file = append_to(&self.config.file)?;
        self.size = 0;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}
