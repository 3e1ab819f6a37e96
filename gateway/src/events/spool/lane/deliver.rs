//! Delivering a lane: what is read next, what is on its way, what is stored.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::{InFlight, LaneFiles, MAX_SEGMENT, Piece, first_time};
use crate::events::spool::files;
use crate::events::spool::line::{self, Look};

impl LaneFiles {
    /// The next lines to be delivered: whole ones, at least one, of at most `most` bytes together; `None` when everything
    /// is. An error of kind `InvalidData` is damage in the first segment.
    pub(in crate::events::spool) fn read(&mut self, entries: u64, most: usize) -> io::Result<Option<Piece>> {
        if self.pending() == 0 {
            return Ok(None);
        }
        let Some(segment) = self.segments.front() else {
            return Ok(None);
        };
        let (first, is_active) = (segment.first, self.segments.len() == 1);
        let file = match &self.active {
            Some(active) if is_active => Arc::clone(&active.file),
            _ => Arc::new(File::open(self.path(first))?),
        };
        let offset = match self.position {
            Some((of, offset)) if of == first => offset,
            _ => {
                let offset = offset_after(&file, self.stored)?;
                self.position = Some((first, offset));
                offset
            }
        };
        let text = whole_lines(&file, offset, most)?;
        piece(&text, entries).map(Some)
    }

    /// Takes the next lines to be delivered; until [`Self::deliver`] or [`Self::fail`] they stay as they are.
    pub(in crate::events::spool) fn take(&mut self, entries: u64, most: usize) -> io::Result<Option<Piece>> {
        self.in_flight = None;
        let Some(piece) = self.read(entries, most)? else {
            return Ok(None);
        };
        self.tried = self.tried.max(piece.last);
        self.oldest = first_time(&piece.text);
        self.in_flight = Some(InFlight {
            last: piece.last,
            entries: piece.entries,
            bytes: piece.text.len() as u64,
        });
        Ok(Some(piece))
    }

    /// True when the state has to say first that batches are sent.
    pub(in crate::events::spool) fn begin_sending(&mut self) -> bool {
        !std::mem::replace(&mut self.sending, true)
    }

    /// Nothing is sent any more: what was tried may be said.
    pub(in crate::events::spool) fn end_sending(&mut self) -> bool {
        self.in_flight = None;
        std::mem::replace(&mut self.sending, false)
    }

    /// What was taken was not delivered, or nobody knows.
    pub(in crate::events::spool) fn fail(&mut self) {
        self.in_flight = None;
        if let Some(segment) = self.segments.front_mut() {
            // It may have been looked at while a part of it was on its way.
            segment.parties = None;
        }
    }

    /// The highest number that was ever given away.
    pub(in crate::events::spool) fn tried(&self) -> u64 {
        self.tried
    }

    /// Everything up to this number is stored: it goes.
    pub(in crate::events::spool) fn deliver(&mut self, upto: u64) -> io::Result<()> {
        let piece = self.in_flight.take();
        self.stored = self.stored.max(upto);
        self.oldest = None;
        match piece.filter(|piece| piece.last == upto) {
            Some(piece) => {
                self.done += piece.entries;
                if let Some((_, offset)) = &mut self.position {
                    *offset += piece.bytes;
                }
            }
            None => self.recount()?,
        }
        self.tidy()
    }

    /// Counts anew how much of the first segment is stored.
    pub(in crate::events::spool) fn recount(&mut self) -> io::Result<()> {
        self.tidy()?;
        (self.position, self.done) = (None, 0);
        let Some(first) = self.segments.front().map(|segment| segment.first) else {
            return Ok(());
        };
        let text = files::read(&self.path(first), MAX_SEGMENT)?;
        let lines = line::lines(&text, Look::Brief).sound;
        self.done = lines.iter().filter(|line| line.seq <= self.stored).count() as u64;
        Ok(())
    }

    /// Removes what is stored from the front. A last file that is still small is gone on with.
    fn tidy(&mut self) -> io::Result<()> {
        while let Some(front) = self.segments.front() {
            let goes_on = self.segments.len() == 1 && self.active.is_some();
            if front.last > self.stored || (goes_on && front.bytes < self.segment_bytes / 4) {
                return Ok(());
            }
            self.forget(0)?;
        }
        Ok(())
    }
}

/// Where the first line stands that has a number beyond `stored`.
fn offset_after(file: &File, stored: u64) -> io::Result<u64> {
    let mut text = vec![0; usize::try_from(file.metadata()?.len().min(MAX_SEGMENT)).unwrap_or_default()];
    file.read_exact_at(&mut text, 0)?;
    let lines = line::lines(&text, Look::Brief).sound;
    let first = lines.iter().find(|line| line.seq > stored);
    Ok(first.map_or(text.len(), |line| {
        line.text.as_ptr() as usize - text.as_ptr() as usize
    }) as u64)
}

/// Whole lines from `offset` on: as many as `most` bytes hold, or one that is longer.
fn whole_lines(file: &File, offset: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut size = most.max(64 << 10);
    loop {
        let mut text = vec![0; size];
        let mut filled = 0;
        while filled < size {
            match file.read_at(&mut text[filled..], offset + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        text.truncate(filled);
        let within = text.len().min(most);
        let whole = text[..within].iter().rposition(|byte| *byte == b'\n');
        let longer = || text.iter().position(|byte| *byte == b'\n');
        if let Some(end) = whole.or_else(longer) {
            text.truncate(end + 1);
            return Ok(text);
        }
        if filled < size || size as u64 > MAX_SEGMENT {
            return Err(damaged("the segment ends within a line"));
        }
        size *= 2;
    }
}

/// The first `entries` of these lines.
fn piece(text: &[u8], entries: u64) -> io::Result<Piece> {
    let lines = line::lines(text, Look::Brief);
    if lines.damaged > 0 {
        return Err(damaged("a line is none of the spool's"));
    }
    let count = usize::try_from(entries)
        .unwrap_or(usize::MAX)
        .min(lines.sound.len());
    let taken = &lines.sound[..count];
    let bytes = taken.iter().map(|line| line.text.len()).sum();
    Ok(Piece {
        text: text[..bytes].to_vec(),
        first: taken.first().map_or(0, |line| line.seq),
        last: taken.last().map_or(0, |line| line.seq),
        entries: count as u64,
    })
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
