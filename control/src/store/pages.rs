//! Pages of things with long texts: bounded by number and by size.

use crate::model::{Page, PageRequest};

/// Bytes of texts on one page; a single larger thing still is one.
const MAX_BYTES: usize = 8 << 20;

/// A page that is being filled.
#[derive(Debug)]
pub(super) struct Filler<T> {
    items: Vec<T>,
    most: usize,
    bytes: usize,
    more: bool,
}

impl<T> Filler<T> {
    pub(super) fn new(request: &PageRequest) -> Self {
        Self {
            items: Vec::new(),
            most: request.size() as usize,
            bytes: 0,
            more: false,
        }
    }

    /// Puts the next thing on the page. False when the page is full: the thing is for the next one.
    pub(super) fn offer(&mut self, item: T, bytes: usize) -> bool {
        let fits = self.items.len() < self.most && self.bytes.saturating_add(bytes) <= MAX_BYTES;
        self.more = !fits && !self.items.is_empty();
        if self.more {
            return false;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.items.push(item);
        true
    }

    /// How many things are on it.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.items.len()).unwrap_or(u32::MAX)
    }

    /// The last of them.
    pub(super) fn last(&self) -> Option<&T> {
        self.items.last()
    }

    /// The page; `cursor` names its last thing.
    pub(super) fn page(self, cursor: impl Fn(&T) -> String) -> Page<T> {
        let next = self.items.last().filter(|_| self.more).map(cursor);
        Page {
            items: self.items,
            next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(limit: u32, sizes: &[usize]) -> (usize, Option<String>) {
        let mut filler = Filler::new(&PageRequest { after: None, limit });
        let all = sizes.iter().all(|bytes| filler.offer(*bytes, *bytes));
        let page = filler.page(usize::to_string);
        assert_eq!(all, page.next.is_none());
        (page.items.len(), page.next)
    }

    #[test]
    fn a_page_ends_by_number_or_by_size_and_is_never_empty() {
        assert_eq!(filled(2, &[1, 2, 3]), (2, Some("2".into())));
        assert_eq!(filled(2, &[1, 2]), (2, None));
        assert_eq!(filled(9, &[MAX_BYTES, 1]), (1, Some(MAX_BYTES.to_string())));
        assert_eq!(filled(9, &[MAX_BYTES + 1]), (1, None));
        assert_eq!(filled(9, &[]), (0, None));
    }
}
