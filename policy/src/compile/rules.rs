//! Which written line a match came from.
//!
//! Owns the text, line and origin of every rule of one compiled rulebook, packed into a few arrays, and
//! hands them out by [`RuleId`]. It knows nothing of matching; the tries carry ids only, and a verdict
//! carries a [`RuleRef`], which is one reference count and one number.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Number of a rule within one [`RuleTable`], in the order the rules were pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

/// Where a rule was written. Serialized as its kind (interface.md: `rule_source`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RuleSource {
    /// The job's policy document itself.
    Policy,
    /// A named endpoint set that the document uses.
    Set(Arc<str>),
    /// The platform pack.
    Platform,
    /// The host's own list (`always-allow`).
    Host,
    /// The global block list.
    Global,
}

impl RuleSource {
    /// The kind as events and tables write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Set(_) => "set",
            Self::Platform => "platform",
            Self::Host => "host",
            Self::Global => "global",
        }
    }
}

impl fmt::Display for RuleSource {
    /// The kind, with the name of a set: `policy`, `set corp-base`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(name) => write!(out, "set {name}"),
            Self::Policy | Self::Platform | Self::Host | Self::Global => out.write_str(self.kind()),
        }
    }
}

impl Serialize for RuleSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.kind())
    }
}

/// Text, line and source of every rule of one rulebook; immutable, shared by `Arc`.
#[derive(Debug, Default)]
pub struct RuleTable {
    /// All texts, one after the other.
    texts: String,
    /// End of each rule's text in `texts`.
    ends: Vec<u32>,
    /// Line of each rule, from 1; 0 when it stands in no file.
    lines: Vec<u32>,
    /// Runs of rules from one source: first id of the run, source.
    sources: Vec<(u32, RuleSource)>,
}

/// Collects rules in the order that gives them their ids.
#[derive(Debug, Default)]
pub struct RuleTableBuilder {
    table: RuleTable,
}

impl RuleTableBuilder {
    /// Adds a rule as it was written and returns its number. `line` counts from 1; 0 means that the rule
    /// stands in no file. Texts together stay below 4 GiB (documents are capped far below that).
    pub fn push(&mut self, text: &str, line: u32, source: RuleSource) -> RuleId {
        let table = &mut self.table;
        let id = u32::try_from(table.ends.len()).expect("fewer than 2^32 rules");
        table.texts.push_str(text);
        table
            .ends
            .push(u32::try_from(table.texts.len()).expect("rule texts stay below 4 GiB"));
        table.lines.push(line);
        if table.sources.last().is_none_or(|(_, last)| *last != source) {
            table.sources.push((id, source));
        }
        RuleId(id)
    }

    /// The finished table.
    pub fn finish(self) -> RuleTable {
        let mut table = self.table;
        table.texts.shrink_to_fit();
        table.ends.shrink_to_fit();
        table.lines.shrink_to_fit();
        table.sources.shrink_to_fit();
        table
    }
}

impl RuleTable {
    /// Starts an empty table.
    pub fn builder() -> RuleTableBuilder {
        RuleTableBuilder::default()
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True when there is no rule.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Heap memory in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.texts.capacity()
            + (self.ends.capacity() + self.lines.capacity()) * size_of::<u32>()
            + self.sources.capacity() * size_of::<(u32, RuleSource)>()
    }

    /// The texts as they were written, in the order of their numbers.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let ids = 0..u32::try_from(self.len()).unwrap_or(u32::MAX);
        ids.filter_map(|id| self.text(RuleId(id)))
    }

    fn text(&self, id: RuleId) -> Option<&str> {
        let at = id.0 as usize;
        let start = match at.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.texts.get(start as usize..*self.ends.get(at)? as usize)
    }

    fn source(&self, id: RuleId) -> RuleSource {
        let run = self.sources.partition_point(|(first, _)| *first <= id.0);
        let before = run.checked_sub(1).and_then(|at| self.sources.get(at));
        before.map_or(RuleSource::Policy, |(_, source)| source.clone())
    }
}

/// One rule of a shared table, or an entry of the global block list. Cloning counts a reference and allocates nothing.
#[derive(Clone)]
pub struct RuleRef(Place);

#[derive(Clone)]
enum Place {
    Listed(Arc<RuleTable>, RuleId),
    Global(Arc<str>),
}

impl RuleRef {
    /// One rule of a table; `id` must come from that table's builder. An id of another table gives an
    /// empty rule.
    pub fn new(table: &Arc<RuleTable>, id: RuleId) -> Self {
        Self(Place::Listed(Arc::clone(table), id))
    }

    /// A rule of the global block list, which is too large to keep its texts and lines: made for one refusal.
    pub fn global(text: impl Into<Arc<str>>) -> Self {
        Self(Place::Global(text.into()))
    }

    /// Its number within its table; 0 of the global block list.
    pub fn id(&self) -> RuleId {
        match &self.0 {
            Place::Listed(_, id) => *id,
            Place::Global(_) => RuleId(0),
        }
    }

    /// The rule as it was written.
    pub fn text(&self) -> &str {
        match &self.0 {
            Place::Listed(table, id) => table.text(*id).unwrap_or_default(),
            Place::Global(text) => text,
        }
    }

    /// Line it was written on, from 1; 0 when it stands in no file.
    pub fn line(&self) -> u32 {
        match &self.0 {
            Place::Listed(table, id) => table.lines.get(id.0 as usize).copied().unwrap_or_default(),
            Place::Global(_) => 0,
        }
    }

    /// Where it was written.
    pub fn source(&self) -> RuleSource {
        match &self.0 {
            Place::Listed(table, id) => table.source(*id),
            Place::Global(_) => RuleSource::Global,
        }
    }
}

impl PartialEq for RuleRef {
    /// Equal when text, line and source are; two compilations of one document give equal rules.
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.0, &other.0) {
            (Place::Listed(one, id), Place::Listed(two, other)) => Arc::ptr_eq(one, two) && id == other,
            (Place::Listed(..), Place::Global(_)) | (Place::Global(_), _) => false,
        };
        same || (self.text() == other.text()
            && self.line() == other.line()
            && self.source() == other.source())
    }
}

impl Eq for RuleRef {}

impl fmt::Display for RuleRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.text())
    }
}

impl fmt::Debug for RuleRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "RuleRef({:?}, line {}, {})",
            self.text(),
            self.line(),
            self.source()
        )
    }
}

impl Serialize for RuleRef {
    /// The text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> (Arc<RuleTable>, Vec<RuleId>) {
        let mut builder = RuleTable::builder();
        let set = RuleSource::Set("corp-base".into());
        let ids = vec![
            builder.push("git.example:443", 3, RuleSource::Policy),
            builder.push("", 4, RuleSource::Policy),
            builder.push("*.corp.example", 1, set.clone()),
            builder.push("10.0.0.0/8:22", 2, set),
            builder.push("last.example", 0, RuleSource::Platform),
        ];
        (Arc::new(builder.finish()), ids)
    }

    #[test]
    fn a_rule_gives_back_text_line_and_source() {
        let (table, ids) = table();
        let seen: Vec<(String, u32, String)> = ids
            .iter()
            .map(|id| RuleRef::new(&table, *id))
            .map(|rule| (rule.text().into(), rule.line(), rule.source().to_string()))
            .collect();
        let wanted = [
            ("git.example:443", 3, "policy"),
            ("", 4, "policy"),
            ("*.corp.example", 1, "set corp-base"),
            ("10.0.0.0/8:22", 2, "set corp-base"),
            ("last.example", 0, "platform"),
        ];
        assert_eq!(
            seen,
            wanted.map(|(text, line, source)| (text.to_owned(), line, source.to_owned()))
        );
    }

    #[test]
    fn an_id_of_another_table_gives_an_empty_rule() {
        let (table, _) = table();
        assert_eq!(RuleRef::new(&table, RuleId(5)).text(), "");
        let empty = RuleRef::new(&Arc::new(RuleTable::default()), RuleId(0));
        assert_eq!((empty.text(), empty.line()), ("", 0));
    }

    #[test]
    fn a_global_rule_says_that_it_is_one() {
        let rule = RuleRef::global("*.blocked.example");
        assert_eq!(
            (rule.text(), rule.line(), rule.source()),
            ("*.blocked.example", 0, RuleSource::Global)
        );
    }

    #[test]
    fn sources_serialize_as_their_kind_and_rules_as_their_text() {
        let (table, ids) = table();
        let rule = RuleRef::new(&table, ids[2]);
        assert_eq!(
            serde_json::to_string(&rule.source()).expect("a string"),
            "\"set\""
        );
        assert_eq!(
            serde_json::to_string(&rule).expect("a string"),
            "\"*.corp.example\""
        );
    }

    #[test]
    fn rules_of_two_compilations_are_equal_by_content() {
        let ((one, ids), (other, _)) = (table(), table());
        assert_eq!(RuleRef::new(&one, ids[0]), RuleRef::new(&other, ids[0]));
        assert_ne!(RuleRef::new(&one, ids[0]), RuleRef::new(&other, ids[3]));
    }
}
