//! Owns reading a gateway's event log (NDJSON) while it is written, and
//! waiting for an event. Never writes to it. Tests drive it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::wait::{WaitError, wait_until};

/// A growing event log. The file need not exist yet.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    /// Bytes read so far; what is after the last newline is read again.
    position: u64,
    seen: Vec<Value>,
}

impl EventLog {
    /// Follows the log at `path` from its beginning.
    pub fn open(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            position: 0,
            seen: Vec::new(),
        }
    }

    /// Every event so far. A line that is not JSON stands here as a string.
    pub fn events(&mut self) -> &[Value] {
        // Not there yet, or rotated away this moment: the next look tells.
        let _unreadable = self.read_on();
        &self.seen
    }

    /// The events so far that match.
    pub fn matching(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let events = self.events().iter();
        events.filter(|event| wanted(event)).cloned().collect()
    }

    /// Forgets what was read, so that later waits see only later events.
    pub fn forget(&mut self) {
        self.events();
        self.seen.clear();
    }

    /// The first event, seen already or to come, that matches. The error ends
    /// with the last events seen.
    pub async fn wait_for(
        &mut self,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, WaitError> {
        wait_until(what, timeout, async || {
            let found = self.events().iter().find(|event| wanted(event)).cloned();
            found.ok_or_else(|| self.tail())
        })
        .await
    }

    fn tail(&self) -> String {
        let last: Vec<_> = self.seen.iter().rev().take(10).rev().collect();
        let lines: Vec<_> = last.iter().map(ToString::to_string).collect();
        let lines = lines.join("\n  ");
        format!("{} events, the last being\n  {lines}", self.seen.len())
    }

    fn read_on(&mut self) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        if file.metadata()?.len() < self.position {
            // Rotated: a new file has begun.
            self.position = 0;
        }
        file.seek(SeekFrom::Start(self.position))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let complete = bytes.iter().rposition(|byte| *byte == b'\n');
        let complete = complete.map_or(0, |last| last + 1);
        self.position += complete as u64;
        for line in String::from_utf8_lossy(&bytes[..complete]).lines() {
            let event = serde_json::from_str(line);
            self.seen.push(event.unwrap_or_else(|_| line.into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use std::io::Write as _;

    #[tokio::test]
    async fn reads_whole_lines_as_they_come_and_follows_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.ndjson");
        let mut log = EventLog::open(&path);
        assert!(log.events().is_empty());
        let mut file = File::create(&path).unwrap();
        file.write_all(b"{\"n\":1}\n{\"n\":").unwrap();
        assert_eq!(log.events().len(), 1);
        file.write_all(b"2}\n").unwrap();
        let second = log.wait_for("two", Duration::from_secs(5), |event| event["n"] == 2);
        assert_eq!(second.await.unwrap()["n"], 2);
        std::fs::write(&path, "{}\n").unwrap();
        assert_eq!(log.events().len(), 3);
        let missing = log.wait_for("three", Duration::ZERO, |event| event["n"] == 3);
        assert!(missing.await.unwrap_err().last.starts_with("3 events"));
    }
}
