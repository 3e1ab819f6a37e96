//! Finding a lane's segments again at start.
//!
//! Owns telling whole lines from what a crash, a full disk or somebody's editor left: a torn last line is cut off, a damaged
//! file is set aside and what is sound in it kept. Nothing here stops a start.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use tidegate_control_wire::batch::Lane;

use super::files;
use super::lane::{MAX_SEGMENT, Segment};
use super::line::{self, Look};
use super::state::LaneState;
use crate::events::queue::Losses;

/// Finds the segments of a lane, oldest first. Entries that are `lost` are added up, before an error too: they are not found
/// missing a second time.
pub(super) fn find(
    folder: &Path,
    lane: Lane,
    state: &LaneState,
    lost: &mut Losses,
) -> io::Result<VecDeque<Segment>> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        firsts.extend(name.to_str().and_then(|name| number(name, lane)));
    }
    firsts.sort_unstable();
    let mut found: VecDeque<Segment> = VecDeque::new();
    for (at, first) in firsts.iter().copied().enumerate() {
        let path = folder.join(super::lane::file_name(lane, first));
        // The last one is what was written to when the process ended: its bytes may not be what its length says.
        let known = (at + 1 < firsts.len())
            .then(|| known(&path, first, state))
            .flatten();
        let (segment, gone) = match known {
            Some(segment) => (Some(segment), 0),
            None => read(&path, first)?,
        };
        lost.add(lane, gone);
        let before = found.back().map_or(0, |before| before.last);
        match segment {
            // What stands in the one before already was joined to it, and this file not removed any more.
            Some(segment) if segment.last > before.max(state.stored) => found.push_back(segment),
            Some(_) => files::remove(&path)?,
            None => {}
        }
    }
    Ok(found)
}

/// The number in the name of a lane's file.
fn number(name: &str, lane: Lane) -> Option<u64> {
    let digits = name
        .strip_prefix(lane.as_str())?
        .strip_prefix('-')?
        .strip_suffix(".ndjson")?;
    let first = digits.parse().ok()?;
    (super::lane::file_name(lane, first) == name).then_some(first)
}

/// A segment of which the state says what it holds, if the file is as long as it says.
fn known(path: &Path, first: u64, state: &LaneState) -> Option<Segment> {
    let summary = state.segments.iter().find(|one| one.first == first)?;
    let length = fs::metadata(path).ok().filter(fs::Metadata::is_file)?.len();
    (summary.bytes == length).then(|| Segment {
        first,
        last: summary.last,
        bytes: summary.bytes,
        entries: summary.entries,
        fresh: summary.fresh,
        parties: None,
    })
}

/// Reads a segment, and mends it; `None` when nothing in it is of use. Says how many entries are lost, as far as the file
/// shows it.
pub(super) fn read(path: &Path, first: u64) -> io::Result<(Option<Segment>, u64)> {
    let text = match files::read(path, MAX_SEGMENT) {
        Ok(text) => text,
        Err(error) if is_lost(&error) => {
            say(path, &error);
            if path.exists() {
                files::set_aside(path)?;
            }
            return Ok((None, 1));
        }
        Err(error) => return Err(error),
    };
    let lines = line::lines(&text, Look::Close);
    let sound: Vec<u8> = lines.sound.iter().flat_map(|line| line.text).copied().collect();
    if lines.damaged > 0 {
        say(path, &format_args!("{} of its lines are damaged", lines.damaged));
    }
    match (lines.damaged > 0, sound.is_empty()) {
        (true, true) => files::set_aside(path)?,
        (true, false) => files::mend(path, &sound)?,
        (false, true) => files::remove(path)?,
        (false, false) if lines.torn > 0 => {
            let file = File::options().write(true).open(path)?;
            file.set_len(sound.len() as u64)?;
        }
        (false, false) => {}
    }
    let found = lines.sound.last().map(|last| Segment {
        first,
        last: last.seq,
        bytes: sound.len() as u64,
        entries: lines.sound.len() as u64,
        fresh: sound.len() as u64,
        parties: None,
    });
    Ok((found, lines.damaged))
}

/// True for errors that trying again does not mend: what is there is no segment, or can't be read any more.
pub(super) fn is_lost(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof
    ) || error.raw_os_error() == Some(libc::EIO)
}

fn say(path: &Path, why: &dyn std::fmt::Display) {
    tracing::error!(file = %path.display(), %why, "a file of the event spool is damaged and set aside");
}
