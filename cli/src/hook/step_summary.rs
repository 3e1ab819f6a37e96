//! Appending to the file that the runner shows behind a job (`GITHUB_STEP_SUMMARY`).
//!
//! Owns its bound: the runner throws a file away that is larger than 1 MiB, with all that others wrote into it.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// The largest file that the runner takes, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// What is said where something had to go.
const CUT: &str = "\n\n…cut: the job's summary would be larger than GitHub takes.\n";

/// Appends a page; as much of it as there is room for.
pub(super) fn append(file: &Path, page: &str) -> io::Result<()> {
    let mut open = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(file)?;
    if !open.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let there = open.metadata()?.len();
    let before = if there == 0 || ends_in_newline(&mut open)? {
        ""
    } else {
        "\n"
    };
    let room = MAX_FILE.saturating_sub(there + before.len() as u64 + 1) as usize;
    let shown = fitting(page, room);
    if shown.is_empty() {
        return Err(io::Error::other("it is full"));
    }
    // One write, so that nothing of another process comes between.
    open.write_all(format!("{before}{}\n", shown.trim_end_matches('\n')).as_bytes())
}

fn ends_in_newline(open: &mut std::fs::File) -> io::Result<bool> {
    let mut last = [0];
    open.seek(SeekFrom::End(-1))?;
    open.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Whole lines of a page, at most `room` bytes with the word that something is missing.
fn fitting(page: &str, room: usize) -> String {
    if page.len() <= room {
        return page.to_owned();
    }
    let Some(room) = room.checked_sub(CUT.len()) else {
        return String::new();
    };
    let end = page[..page.floor_char_boundary(room)]
        .rfind('\n')
        .unwrap_or_default();
    format!("{}{CUT}", &page[..end])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;

    use super::*;

    #[test]
    fn a_page_begins_a_line_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("summary");
        append(&file, "# one\n").unwrap();
        append(&file, "# two").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "# one\n# two\n");
        fs::write(&file, "no newline").unwrap();
        append(&file, "# three\n").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "no newline\n# three\n");
    }

    #[test]
    fn the_runners_bound_is_kept_with_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("summary");
        let page = "a line of the page\n".repeat(40_000);
        append(&file, &page).unwrap();
        append(&file, &page).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.len() as u64 <= MAX_FILE, "{}", text.len());
        assert!(text.len() as u64 > MAX_FILE - 100, "{}", text.len());
        assert!(text.ends_with("would be larger than GitHub takes.\n"));
        assert!(
            text.lines()
                .filter(|line| line.contains("line"))
                .all(|line| line == "a line of the page")
        );
        let full = append(&file, &page).unwrap_err();
        assert_eq!(full.to_string(), "it is full");
        fs::write(&file, vec![b'x'; 2 << 20]).unwrap();
        append(&file, "page").unwrap_err();
    }

    #[test]
    fn a_page_is_cut_between_lines() {
        assert_eq!(fitting("short\n", 100), "short\n");
        let page = "bücher\n".repeat(30);
        let cut = fitting(&page, 100);
        assert!(
            cut.len() <= 100 && cut.starts_with("bücher\n") && cut.ends_with(CUT),
            "{cut}"
        );
        assert_eq!(fitting(&page, 3), "");
    }
}
