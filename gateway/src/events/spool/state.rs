//! What outlives the process beside the events: the spool's id, how far its numbers and its deliveries are, what was
//! dropped.
//!
//! Owns `state.json`: replaced whole, on the disk when [`State::write`] returns. A file that means nothing is set aside, and
//! the spool begins another life under another id: what the store has under the old one may come to it twice, but
//! nothing is taken for stored that is not.

use std::io;
use std::path::Path;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use tidegate_control_wire::batch::Lane;
use tidegate_control_wire::id::new_id;

use super::files;
use super::line::MAX_SEQ;

/// Its name in the spool's folder.
pub(super) const FILE: &str = "state.json";
/// Version of its shape.
const VERSION: u32 = 1;
/// Longest file that is read, in bytes: some 100 000 segments.
const MAX: u64 = 16 << 20;

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    /// Id of the spool.
    pub(super) id: CompactString,
    /// Of the refusals' lane.
    pub(super) refusals: LaneState,
    /// Of the permits' lane.
    pub(super) permits: LaneState,
}

/// Of one lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LaneState {
    /// No number beyond this one was given to an entry. Lines reach the disk later than the store: after a power failure,
    /// numbers that the store knows must not be given again.
    pub(super) reserved: u64,
    /// The store has everything up to here. It may have more.
    pub(super) stored: u64,
    /// The store has nothing beyond this one; absent while batches are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tried: Option<u64>,
    /// Verdicts and reports dropped since the spool was made.
    pub(super) dropped: u64,
    /// The segments; what is not said, or said of a file of another length, is read from the file.
    #[serde(default)]
    pub(super) segments: Vec<Summary>,
}

/// A segment, so that it need not be read at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Summary {
    /// The number in its name.
    pub(super) first: u64,
    /// Its last number.
    pub(super) last: u64,
    /// Its length.
    pub(super) bytes: u64,
    /// How many entries it holds.
    pub(super) entries: u64,
    /// Bytes that came since it was merged.
    pub(super) fresh: u64,
}

impl State {
    /// Of a spool that was made this moment.
    pub(super) fn new() -> Self {
        Self {
            version: VERSION,
            id: new_id("spool").into(),
            refusals: LaneState::default(),
            permits: LaneState::default(),
        }
    }

    pub(super) const fn lane(&self, lane: Lane) -> &LaneState {
        match lane {
            Lane::Refusals => &self.refusals,
            Lane::Permits => &self.permits,
        }
    }

    pub(super) const fn lane_mut(&mut self, lane: Lane) -> &mut LaneState {
        match lane {
            Lane::Refusals => &mut self.refusals,
            Lane::Permits => &mut self.permits,
        }
    }

    /// Reads the file; a fresh state where there is none, or none that means anything.
    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        let path = folder.join(FILE);
        let text = match files::read(&path, MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::new()),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return set_aside(&path, &error);
            }
            Err(error) => return Err(error),
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(state) if state.version == VERSION && state.is_possible() => Ok(state),
            Ok(state) if state.version == VERSION => set_aside(&path, &"its numbers are none"),
            Ok(state) => set_aside(&path, &format_args!("version {} is not known", state.version)),
            Err(error) => set_aside(&path, &error),
        }
    }

    /// Numbers that no spool comes to are damage.
    fn is_possible(&self) -> bool {
        let highest = |lane: &LaneState| {
            let of_segments = lane
                .segments
                .iter()
                .map(|segment| segment.first.max(segment.last));
            of_segments.fold(lane.reserved.max(lane.stored), u64::max)
        };
        Lane::ALL
            .into_iter()
            .all(|lane| highest(self.lane(lane)) <= MAX_SEQ)
    }

    /// On the disk when this returns.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        files::replace(&folder.join(FILE), &serde_json::to_vec(self)?)?;
        files::sync_folder(folder)
    }
}

fn set_aside(path: &Path, why: &dyn std::fmt::Display) -> io::Result<State> {
    files::set_aside(path)?;
    tracing::error!(file = %path.display(), %why,
        "the event spool's state is damaged and set aside: the last events before it may be stored twice");
    Ok(State::new())
}
