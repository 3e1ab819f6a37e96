//! Changing a lane's segments: edited, joined, mended, forgotten. A file is replaced whole, or not at all.

use std::io;

use super::{LaneFiles, MAX_SEGMENT, Segment};
use crate::events::spool::edit::Edited;
use crate::events::spool::files;

impl LaneFiles {
    /// Forgets a segment, and removes its file.
    pub(in crate::events::spool) fn forget(&mut self, at: usize) -> io::Result<()> {
        if at + 1 == self.segments.len() {
            self.active = None;
        }
        if at == 0 {
            (self.position, self.done) = (None, 0);
        }
        match self.segments.remove(at) {
            // Where it can't be removed, the next start finds that it is stored, or delivers it again.
            Some(segment) => files::remove(&self.path(segment.first)),
            None => Ok(()),
        }
    }

    /// The bytes of a segment.
    pub(in crate::events::spool) fn text(&self, at: usize) -> io::Result<Vec<u8>> {
        let first = self.segments.get(at).map_or(0, |segment| segment.first);
        files::read(&self.path(first), MAX_SEGMENT)
    }

    /// Puts what is left of a segment in its place.
    pub(in crate::events::spool) fn replace(&mut self, at: usize, edited: &Edited) -> io::Result<()> {
        self.oldest = None;
        if edited.entries == 0 {
            return self.forget(at);
        }
        let Some((first, bytes)) = self
            .segments
            .get(at)
            .map(|segment| (segment.first, segment.bytes))
        else {
            return Ok(());
        };
        if edited.text.len() as u64 == bytes {
            return Ok(());
        }
        files::replace(&self.path(first), &edited.text)?;
        if at == 0 {
            (self.position, self.done) = (None, 0);
        }
        if let Some(segment) = self.segments.get_mut(at) {
            segment.bytes = edited.text.len() as u64;
            segment.entries = edited.entries;
            segment.last = edited.last;
            segment.fresh = segment.fresh.min(segment.bytes);
            segment.parties = None;
        }
        if at + 1 == self.segments.len() {
            self.reopen();
        }
        Ok(())
    }

    /// Goes on with what was found sound of a damaged segment. How much of the first one is stored is to be counted anew.
    pub(in crate::events::spool) fn mended(&mut self, at: usize, found: Option<Segment>) {
        if at + 1 == self.segments.len() {
            self.active = None;
        }
        self.oldest = None;
        match (found, self.segments.get_mut(at)) {
            (Some(found), Some(segment)) => *segment = found,
            (None, Some(_)) => drop(self.segments.remove(at)),
            (_, None) => {}
        }
        if at == 0 {
            (self.position, self.done) = (None, 0);
        }
    }

    /// Puts a segment and the one after it into one file.
    pub(in crate::events::spool) fn join(&mut self, at: usize) -> io::Result<()> {
        let mut text = self.text(at)?;
        text.extend(self.text(at + 1)?);
        let (Some(one), Some(other)) = (self.segments.get(at), self.segments.get(at + 1)) else {
            return Ok(());
        };
        let joined = Segment {
            first: one.first,
            last: other.last,
            bytes: text.len() as u64,
            entries: one.entries + other.entries,
            // What two segments say the same can be merged now.
            fresh: text.len() as u64,
            parties: None,
        };
        // Killed in between, the next start finds the second one's lines in the first, and removes it.
        files::replace(&self.path(joined.first), &text)?;
        self.forget(at + 1)?;
        if let Some(segment) = self.segments.get_mut(at) {
            *segment = joined;
        }
        if at + 1 == self.segments.len() {
            self.reopen();
        }
        Ok(())
    }
}
