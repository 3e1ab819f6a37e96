//! What there is to tell about one file: what could not be kept, what means something else now, what is good to know.
//!
//! Pure. Owns that nothing of a stranger's file is shown raw, and that one file can't fill the report.

use serde::Serialize;
use tidegate_control_wire::text::{cut, printable};

/// Items of one file at most; the rest is counted.
const MOST: usize = 100;
/// Characters of each of an item's texts.
const LONGEST: usize = 300;

/// How much an item matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    /// It is in no policy; somebody has to do something.
    Lost,
    /// It is kept, and means something else from now on.
    Changed,
    /// Good to know.
    Note,
}

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Item {
    pub(crate) level: Level,
    /// Below the imported directory.
    pub(crate) file: String,
    /// From 1; 0 for the whole file.
    pub(crate) line: u32,
    pub(crate) what: String,
    pub(crate) why: String,
    /// What to do about it.
    pub(crate) todo: String,
}

/// Everything about one file.
#[derive(Clone, Debug)]
pub(crate) struct Items {
    file: String,
    pub(crate) kept: Vec<Item>,
    /// How many were not kept.
    pub(crate) more: usize,
}

impl Items {
    /// Nothing yet about a file.
    pub(crate) fn new(file: &str) -> Self {
        Self {
            file: printable(file).into_owned(),
            kept: Vec::new(),
            more: 0,
        }
    }

    pub(crate) fn lost(&mut self, line: u32, what: &str, why: &str, todo: &str) {
        self.push(Level::Lost, line, [what, why, todo]);
    }

    pub(crate) fn changed(&mut self, line: u32, what: &str, why: &str, todo: &str) {
        self.push(Level::Changed, line, [what, why, todo]);
    }

    pub(crate) fn note(&mut self, line: u32, what: &str, why: &str, todo: &str) {
        self.push(Level::Note, line, [what, why, todo]);
    }

    fn push(&mut self, level: Level, line: u32, texts: [&str; 3]) {
        if self.kept.len() == MOST {
            self.more += 1;
            return;
        }
        let [what, why, todo] = texts.map(|text| cut(&printable(text), LONGEST).into_owned());
        let item = Item {
            level,
            file: self.file.clone(),
            line,
            what,
            why,
            todo,
        };
        // What an anchor holds is read once for every alias of it.
        if !self.kept.contains(&item) {
            self.kept.push(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_does_not_fill_the_report_and_shows_nothing_raw() {
        let mut items = Items::new("a\u{1b}b.yml");
        for line in 0..105 {
            items.lost(line, "\u{202e}x", &"y".repeat(10_000), "");
        }
        assert_eq!((items.kept.len(), items.more), (MOST, 5));
        let Some(first) = items.kept.first() else {
            panic!("nothing is kept")
        };
        assert_eq!(
            (first.file.as_str(), first.what.as_str()),
            ("a\\u{1b}b.yml", "\\u{202e}x")
        );
        assert_eq!(first.why.chars().count(), LONGEST);
    }
}
