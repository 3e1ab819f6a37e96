//! A small file of lines that outlives the process: appended to, now and then written anew.
//!
//! Owns that what was appended is there after a crash, and that a half-written last line is not. What the lines mean is
//! its caller's. It waits for the disk: never to be called on an async thread.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file that is larger than this is not ours, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// An open file of lines.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    bytes: u64,
    /// How many there are.
    count: usize,
}

impl Lines {
    /// Opens or makes the file; gives back the lines that it holds. A last line without its end was never acknowledged
    /// and is cut off.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<String>)> {
        let mut file = private().read(true).open(path)?;
        if file.metadata()?.len() > MAX_BYTES {
            let what = format!("{} has more than {MAX_BYTES} bytes", path.display());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let lines: Vec<String> = String::from_utf8_lossy(&text[..whole])
            .lines()
            .map(str::to_owned)
            .collect();
        let mut opened = Self {
            path: path.to_owned(),
            file,
            bytes: whole as u64,
            count: lines.len(),
        };
        opened.cut()?;
        Ok((opened, lines))
    }

    /// How many lines the file holds.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Appends a line; on the disk when this returns. After an error the file is as it was.
    pub(super) fn append(&mut self, line: &str) -> io::Result<()> {
        self.write(line)?;
        self.file.sync_data()
    }

    /// Appends a line that may be lost in a crash.
    pub(super) fn note(&mut self, line: &str) -> io::Result<()> {
        self.write(line)
    }

    /// What was noted is on the disk when this returns.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Replaces everything; a crash leaves either the old lines or the new.
    pub(super) fn replace(&mut self, lines: &[String]) -> io::Result<()> {
        if lines.is_empty() {
            (self.bytes, self.count) = (0, 0);
            return self.cut();
        }
        let fresh = self.path.with_extension("new");
        let mut file = private().truncate(true).open(&fresh)?;
        let mut text = lines.join("\n");
        text.push('\n');
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        (self.file, self.bytes, self.count) = (file, text.len() as u64, lines.len());
        Ok(())
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        debug_assert!(!line.contains('\n'), "a line is one line");
        let text = format!("{line}\n");
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            // Perhaps a part of it stands there.
            self.cut()?;
            return Err(error);
        }
        self.bytes += text.len() as u64;
        self.count += 1;
        Ok(())
    }

    /// Takes away what stands behind the last whole line.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.bytes)?;
        self.file.seek(SeekFrom::Start(self.bytes)).map(drop)
    }
}

/// Readable by the gateway's own user: the lines name jobs.
fn private() -> std::fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.create(true).truncate(false).write(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn reopened(path: &Path) -> Vec<String> {
        Lines::open(path).unwrap().1
    }

    #[test]
    fn lines_outlive_the_process_and_a_torn_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outbox.ndjson");
        let (mut lines, before) = Lines::open(&path).unwrap();
        assert!(before.is_empty());
        lines.append("one").unwrap();
        lines.note("two").unwrap();
        drop(lines);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (mut torn, found) = Lines::open(&path).unwrap();
            let want = ["one", "two"][..usize::from(cut >= 4) + usize::from(cut >= 8)].to_vec();
            assert_eq!(found, want, "cut at {cut}");
            torn.append("three").unwrap();
            assert_eq!(torn.count(), want.len() + 1);
            assert_eq!(reopened(&path).last().unwrap(), "three");
        }
    }

    #[test]
    fn they_are_replaced_whole_and_appended_to_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.ndjson");
        let (mut lines, _) = Lines::open(&path).unwrap();
        lines.append("old").unwrap();
        lines.replace(&["a".into(), "b".into()]).unwrap();
        lines.append("c").unwrap();
        assert_eq!(
            (lines.count(), reopened(&path)),
            (3, vec!["a".into(), "b".into(), "c".into()])
        );
        lines.replace(&[]).unwrap();
        lines.append("d").unwrap();
        assert_eq!(reopened(&path), ["d"]);
    }
}
