//! Cuts a stream of bytes into lines of a bounded length. No I/O: whoever reads pushes what came.

use thiserror::Error;
use tidegate_control_wire::frame::MAX_LINE;

/// A line that does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a line is longer than {MAX_LINE} bytes")]
pub(crate) struct LineTooLong;

/// Bytes that came, cut into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to here there is no end of line.
    scanned: usize,
}

impl Lines {
    /// Takes in what came. Lines that are there already should have been [taken](Self::take) before.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line, without its end; `None` until more comes.
    pub(crate) fn take(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        let fresh = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(length) = fresh.iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.buffer.len();
            return if self.scanned - self.start > MAX_LINE {
                Err(LineTooLong)
            } else {
                Ok(None)
            };
        };
        let (begin, end) = (self.start, self.scanned + length);
        self.start = end + 1;
        self.scanned = self.start;
        if end - begin > MAX_LINE {
            return Err(LineTooLong);
        }
        Ok(self.buffer.get(begin..end))
    }

    /// True when there is a line that has not ended.
    pub(crate) fn is_begun(&self) -> bool {
        self.buffer.len() > self.start
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(lines: &mut Lines) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| lines.take().expect("short").map(<[u8]>::to_vec)).collect()
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_the_bytes_arrive(
            text in "[ab\n]{0,60}",
            cuts in proptest::collection::vec(0..60_usize, 0..6),
        ) {
            let mut lines = Lines::default();
            let mut cuts = cuts;
            cuts.sort_unstable();
            let (mut got, mut from) = (Vec::new(), 0);
            for cut in cuts.into_iter().chain([text.len()]) {
                let to = cut.clamp(from, text.len());
                lines.push(&text.as_bytes()[from..to]);
                from = to;
                got.extend(all(&mut lines));
            }
            let mut want: Vec<&str> = text.split('\n').collect();
            let rest = want.pop().unwrap_or_default();
            prop_assert_eq!(got, want.iter().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>());
            prop_assert_eq!(lines.is_begun(), !rest.is_empty());
            lines.push(b"\n");
            prop_assert_eq!(all(&mut lines), [rest.as_bytes().to_vec()]);
        }
    }

    #[test]
    fn a_line_is_as_long_as_allowed_and_no_longer() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; MAX_LINE]);
        assert_eq!(lines.take(), Ok(None));
        lines.push(b"\n");
        assert_eq!(lines.take().map(|line| line.map(<[u8]>::len)), Ok(Some(MAX_LINE)));
        lines.push(&vec![b'x'; MAX_LINE + 1]);
        assert_eq!(lines.take(), Err(LineTooLong));
        let mut ended = Lines::default();
        ended.push(&[vec![b'x'; MAX_LINE + 1], vec![b'\n']].concat());
        assert_eq!(ended.take(), Err(LineTooLong), "its end does not make it shorter");
    }
}
