//! The built-in list: `control/data/global-block.txt`, compiled in.
//!
//! Owns its reading. Strict, unlike the readers of other people's lists: the file is ours, a test reads it, and whatever
//! is wrong with it is an error.

use std::collections::HashSet;
use std::sync::LazyLock;

use jiff::civil::Date;
use thiserror::Error;
use tidegate_policy::compile::block::BlockEntry;
use tidegate_policy::document::blocklist::parse_pattern;

/// The format that is read.
const FORMAT: &str = "1";

/// What is wrong with a line of the list.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct BuiltinError {
    /// From 1; one after the last when something is missing at the end.
    pub line: usize,
    /// What.
    pub problem: String,
}

/// The built-in list.
#[derive(Debug, PartialEq, Eq)]
pub struct Builtin {
    /// When it was last looked through.
    pub date: Date,
    /// Sorted within each section, each pattern once.
    pub entries: Vec<BuiltinEntry>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltinEntry {
    /// Canonical spelling.
    pub pattern: String,
    /// What it matches.
    pub entry: BlockEntry,
    /// What a refused job is told.
    pub reason: String,
}

/// The list of this program.
pub fn builtin() -> &'static Builtin {
    static LIST: LazyLock<Builtin> = LazyLock::new(|| {
        let text = include_str!("../../data/global-block.txt");
        Builtin::parse(text).expect("the list is read by a test before it is shipped")
    });
    &LIST
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    format: bool,
    date: Option<Date>,
    /// A section has begun, and whether it has said its source.
    section: Option<bool>,
    last: String,
    seen: HashSet<String>,
    entries: Vec<BuiltinEntry>,
}

impl Builtin {
    /// Reads a list in the format that its head describes.
    pub fn parse(text: &str) -> Result<Self, BuiltinError> {
        let mut reader = Reader::default();
        let mut after = 1;
        for (at, line) in text.lines().enumerate() {
            after = at + 2;
            reader.line(line).map_err(|problem| BuiltinError {
                line: at + 1,
                problem,
            })?;
        }
        let missing = |what: &str| BuiltinError {
            line: after,
            problem: format!("the list has no `# {what}:`"),
        };
        if !reader.format {
            return Err(missing("format"));
        }
        Ok(Self {
            date: reader.date.ok_or_else(|| missing("date"))?,
            entries: reader.entries,
        })
    }
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(title) = line.strip_prefix("## ") {
            self.section = Some(false);
            self.last.clear();
            return (!title.trim().is_empty())
                .then_some(())
                .ok_or("a section has a title".into());
        }
        if let Some(remark) = line.strip_prefix('#') {
            return self.remark(remark.trim());
        }
        if line.trim().is_empty() {
            return Ok(());
        }
        self.entry(line)
    }

    fn remark(&mut self, remark: &str) -> Result<(), String> {
        let Some((key, value)) = remark.split_once(':') else {
            return Ok(());
        };
        let value = value.trim();
        match (key, self.section) {
            ("format", None) if value == FORMAT => self.format = true,
            ("format", None) => return Err(format!("format {value}, this program reads {FORMAT}")),
            ("date", None) => self.date = Some(value.parse().map_err(|_| format!("{value:?} is no date"))?),
            ("source", Some(_)) => self.section = Some(true),
            (_, _) => {}
        }
        Ok(())
    }

    fn entry(&mut self, line: &str) -> Result<(), String> {
        if self.section != Some(true) {
            return Err("an entry stands in a section that says its `# source:`".into());
        }
        let (pattern, reason) = line.split_once('#').ok_or("an entry has `#` and a reason")?;
        let (pattern, reason) = (pattern.trim(), reason.trim());
        if reason.is_empty() {
            return Err("an entry has a reason".into());
        }
        let entry = parse_pattern(pattern).map_err(|error| error.0)?;
        if entry.to_string() != pattern {
            return Err(format!("{pattern:?} is spelled {entry}"));
        }
        let order = order(pattern);
        if order <= self.last {
            return Err(format!("{pattern:?} does not come after the entry before"));
        }
        self.last = order;
        if !self.seen.insert(pattern.to_owned()) {
            return Err(format!("{pattern:?} comes twice"));
        }
        self.entries.push(BuiltinEntry {
            pattern: pattern.to_owned(),
            entry,
            reason: reason.to_owned(),
        });
        Ok(())
    }
}

/// By name, a name before everything below it. (A space sorts before every character of a name.)
fn order(pattern: &str) -> String {
    match pattern.strip_prefix("*.") {
        Some(name) => format!("{name} *"),
        None => pattern.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use tidegate_policy::DnsName;
    use tidegate_policy::compile::block::GlobalBlock;
    use tidegate_policy::document::blocklist::{BlockList, Format};

    use super::*;

    const HEAD: &str = "# format: 1\n# date: 2026-03-01\n## Some\n# source: us\n";

    #[test]
    fn the_shipped_list_is_read_sorted_and_without_repetition() {
        let list = builtin();
        assert!(list.entries.len() > 50, "{}", list.entries.len());
        assert!(list.date >= Date::constant(2026, 1, 1));
        // The order is checked while reading; this is the same list with a line moved.
        let text = include_str!("../../data/global-block.txt");
        let swapped = text.replace("*.webhook.site ", "aaa.webhook.site ");
        assert!(Builtin::parse(&swapped).is_err());
        let twice = format!("{text}zz.example # a\n*.oast.me # again\n");
        assert!(Builtin::parse(&twice).is_err());
    }

    #[test]
    fn the_shipped_list_is_a_plain_list_too_and_refuses_what_it_names() {
        let plain = BlockList::parse_as(include_str!("../../data/global-block.txt"), Format::Plain);
        assert_eq!(plain.diagnostics, []);
        let entries: Vec<&BlockEntry> = plain.entries.iter().map(|one| &one.entry).collect();
        let ours: Vec<&BlockEntry> = builtin().entries.iter().map(|one| &one.entry).collect();
        assert_eq!(entries, ours);
        let block = GlobalBlock::build(builtin().entries.iter().map(|one| one.entry.clone()));
        for one in &builtin().entries {
            let name = one.pattern.replace("*.", "a.b.");
            let hit = block.find_name(&DnsName::parse(&name).unwrap()).unwrap();
            assert_eq!(hit.text, one.pattern);
        }
    }

    #[test]
    fn nothing_that_builds_live_on_is_in_it() {
        let block = GlobalBlock::build(builtin().entries.iter().map(|one| one.entry.clone()));
        for name in [
            "github.com",
            "api.github.com",
            "objects.githubusercontent.com",
            "ghcr.io",
        ] {
            assert_eq!(block.find_name(&DnsName::parse(name).unwrap()), None, "{name}");
        }
    }

    #[test]
    fn a_good_list_in_a_few_lines() {
        let list = Builtin::parse(&format!(
            "{HEAD}\n203.0.113.0/24 # a\na-b.test # b\na.test # c\n*.a.test # d\n"
        ));
        let list = list.unwrap();
        assert_eq!(list.date.to_string(), "2026-03-01");
        let patterns: Vec<&str> = list.entries.iter().map(|one| one.pattern.as_str()).collect();
        assert_eq!(patterns, ["203.0.113.0/24", "a-b.test", "a.test", "*.a.test"]);
        assert_eq!(list.entries[2].reason, "c");
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, line, problem) in [
            ("", 1, "no `# format:`"),
            ("# format: 1\n", 2, "no `# date:`"),
            ("# format: 2\n", 1, "format 2, this program reads 1"),
            ("# date: soon\n", 1, "is no date"),
            ("# format: 1\na.test # r\n", 2, "in a section"),
            ("## A\na.test # r\n", 2, "`# source:`"),
            ("## \n", 1, "a title"),
            (&format!("{HEAD}a.test\n"), 5, "`#` and a reason"),
            (&format!("{HEAD}a.test #\n"), 5, "has a reason"),
            (&format!("{HEAD}a.test:443 # r\n"), 5, "without ports"),
            (&format!("{HEAD}A.test # r\n"), 5, "is spelled a.test"),
            (
                &format!("{HEAD}b.test # r\na.test # r\n"),
                6,
                "does not come after",
            ),
            (
                &format!("{HEAD}*.b.test # r\nb.test # r\n"),
                6,
                "does not come after",
            ),
            (
                &format!("{HEAD}b.test # r\n## B\n# source: us\nb.test # r\n"),
                8,
                "comes twice",
            ),
        ] {
            let error = Builtin::parse(text).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.problem.contains(problem), "{error}");
        }
    }
}
