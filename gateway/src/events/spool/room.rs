//! Making room in a full spool: what [`super::plan`] decides, done to files.
//!
//! Owns the loop and what is written in which order; decides nothing. It runs on the events' thread: a step reads and
//! writes one segment.

use std::io;

use tidegate_control_wire::batch::Lane;

use super::disk::Disk;
use super::edit::{self, Edited, Marks};
use super::lane::{LaneFiles, MAX_PARTIES};
use super::plan::{Full, Held, Step, decide};
use super::scan::is_lost;

/// Segments of a lane beyond those that the bound holds when each is half full: then small ones are joined.
const SPARE: usize = 8;

/// Makes room for so many bytes in favour of a lane. False when nothing may go for it.
pub(super) fn make(disk: &mut Disk, lane: Lane, need: u64) -> io::Result<bool> {
    for lane in Lane::ALL {
        join(disk, lane)?;
    }
    loop {
        let over = (disk.bytes() + need).saturating_sub(disk.bound);
        if over == 0 {
            return Ok(true);
        }
        match next(disk, lane, over) {
            Step::Nothing => return Ok(false),
            Step::Merge(lane, at) => {
                let merged = edit(disk, (lane, at), edit::merge)?;
                let segment = disk.lane_mut(lane).segments.get_mut(at);
                if let Some(segment) = segment.filter(|_| merged) {
                    segment.fresh = 0;
                }
            }
            Step::Clear(at) => drop(edit(disk, (Lane::Permits, at), edit::clear)?),
            Step::Survey(at) => survey(disk, at)?,
            Step::Thin { at, party, need } => {
                let thin = |text: &[u8], marks: Marks| edit::thin(text, &party, need, marks);
                edit(disk, (Lane::Refusals, at), thin)?;
                survey(disk, at)?;
            }
        }
    }
}

fn next(disk: &Disk, lane: Lane, over: u64) -> Step {
    let (permits, refusals) = (held(disk.lane(Lane::Permits)), held(disk.lane(Lane::Refusals)));
    decide(&Full {
        permits: &permits,
        refusals: &refusals,
        lane,
        over,
        worth: disk.segment_bytes / 2,
    })
}

fn held(lane: &LaneFiles) -> Vec<Held<'_>> {
    let pinned = lane.marks().pinned;
    let segments = lane.segments.iter().enumerate();
    segments
        .map(|(at, segment)| Held {
            mergeable: lane.is_mergeable(at),
            free: segment.last > pinned,
            parties: segment.parties.as_ref(),
        })
        .collect()
}

/// Does that to a segment; what it drops is on disk as dropped before it goes. False when the segment was damaged, and
/// mended instead.
fn edit(
    disk: &mut Disk,
    (lane, at): (Lane, usize),
    change: impl FnOnce(&[u8], Marks) -> Edited,
) -> io::Result<bool> {
    let text = match disk.lane(lane).text(at) {
        Ok(text) => text,
        Err(error) if is_lost(&error) => return disk.mend(lane, at).map(|()| false),
        Err(error) => return Err(error),
    };
    let edited = change(&text, disk.lane(lane).marks());
    if edited.damaged > 0 {
        return disk.mend(lane, at).map(|()| false);
    }
    let before = disk.dropped;
    disk.lose(lane, edited.dropped);
    let done = (|| {
        if edited.dropped > 0 {
            disk.save()?;
        }
        disk.lane_mut(lane).replace(at, &edited)
    })();
    if done.is_err() {
        disk.dropped = before;
    }
    done.map(|()| true)
}

/// Looks whose the entries of a segment of refusals are.
fn survey(disk: &mut Disk, at: usize) -> io::Result<()> {
    let lane = disk.lane_mut(Lane::Refusals);
    if at >= lane.segments.len() {
        return Ok(());
    }
    let text = match lane.text(at) {
        Ok(text) => text,
        Err(error) if is_lost(&error) => return disk.mend(Lane::Refusals, at),
        Err(error) => return Err(error),
    };
    let parties = edit::survey(&text, lane.marks(), MAX_PARTIES);
    if let Some(segment) = lane.segments.get_mut(at) {
        segment.parties = Some(parties);
    }
    Ok(())
}

/// Joins neighbours that are small together, while there are more files than the bound accounts for: thinning leaves
/// small ones, and a folder must not fill with them.
fn join(disk: &mut Disk, lane: Lane) -> io::Result<()> {
    let segment_bytes = disk.segment_bytes;
    let usual = usize::try_from(2 * disk.bound / segment_bytes).unwrap_or(usize::MAX);
    while disk.lane(lane).segments.len() > usual.saturating_add(SPARE) {
        let segments = &disk.lane(lane).segments;
        let sizes = segments.iter().zip(segments.iter().skip(1));
        let pairs = sizes.map(|(one, other)| one.bytes + other.bytes).enumerate();
        let smallest = pairs.min_by_key(|(_, bytes)| *bytes);
        let Some((at, _)) = smallest.filter(|(_, bytes)| *bytes <= segment_bytes) else {
            return Ok(());
        };
        match disk.lane_mut(lane).join(at) {
            Err(error) if is_lost(&error) => {
                disk.mend(lane, at + 1)?;
                disk.mend(lane, at)?;
            }
            joined => joined?,
        }
    }
    Ok(())
}
