//! What becomes of a segment's lines when there has to be room: merged, thinned or cleared. Pure: bytes in, bytes out.
//!
//! Merging loses nothing but single times: permits, or refusals, that say the same of the same job become the last one of
//! them, with their counts and bytes summed. Whatever else takes an entry away counts the verdicts that go with it.

use std::net::IpAddr;

use compact_str::CompactString;
use hashbrown::HashMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate_control_wire::batch::ProcessReport;
use tidegate_control_wire::event::{EventRecord, Process};

use super::line::{self, Line, Look, What, facts};
use super::plan::Parties;

/// How far a lane has come, in its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Up to here the store has everything: of no use any more.
    pub(super) stored: u64,
    /// Up to here a batch is on its way at this moment: left as it is.
    pub(super) pinned: u64,
    /// Up to here the store may have it: not merged with what it can't have, or both would count twice.
    pub(super) tried: u64,
}

/// What is left of a segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Edited {
    /// Its lines.
    pub(super) text: Vec<u8>,
    /// How many they are.
    pub(super) entries: u64,
    /// Number of the last one; 0 without any.
    pub(super) last: u64,
    /// Verdicts that went and are in no other entry.
    pub(super) dropped: u64,
    /// Lines that are none: the segment has to be mended first.
    pub(super) damaged: u64,
}

impl Edited {
    fn of(lines: &line::Lines<'_>) -> Self {
        Self {
            damaged: lines.damaged,
            ..Self::default()
        }
    }

    fn keep(&mut self, line: &Line<'_>) {
        self.keep_text(line.seq, line.text);
    }

    fn keep_text(&mut self, seq: u64, text: &[u8]) {
        self.text.extend_from_slice(text);
        self.entries += 1;
        self.last = seq;
    }

    fn drop(&mut self, line: &Line<'_>) {
        self.dropped += facts(line.text).count;
    }
}

/// An entry as far as merging has to know it. Every entry of a full spool comes by here: what is only compared stays JSON.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    event: Option<Event<'a>>,
    report: Option<ProcessReport>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    job: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    qtype: Option<&'a RawValue>,
    #[serde(borrow)]
    address: Option<&'a RawValue>,
    #[serde(borrow)]
    port: Option<&'a RawValue>,
    #[serde(borrow)]
    mode: Option<&'a RawValue>,
    #[serde(borrow)]
    verdict: Option<&'a RawValue>,
    #[serde(borrow)]
    reason: Option<&'a RawValue>,
    #[serde(borrow)]
    rule: Option<&'a RawValue>,
    #[serde(borrow)]
    rule_source: Option<&'a RawValue>,
    #[serde(borrow)]
    policy: Option<&'a RawValue>,
    #[serde(borrow)]
    policy_version: Option<&'a RawValue>,
    #[serde(default)]
    bytes_up: u64,
    #[serde(default)]
    bytes_down: u64,
    #[serde(default)]
    duration_ms: u64,
    #[serde(default = "one")]
    count: u64,
}

const fn one() -> u64 {
    1
}

/// Entries with the same are one.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    /// The job (the source where there is none) and what was said of it.
    Event([Option<&'a str>; 13]),
    Report {
        job: CompactString,
        endpoint: (CompactString, Option<IpAddr>, u16),
        process: (CompactString, CompactString, CompactString),
    },
}

impl<'a> Key<'a> {
    fn of(entry: &Entry<'a>) -> Option<Self> {
        match (&entry.event, &entry.report) {
            (Some(event), _) => Some(Self::event(event)),
            (None, Some(report)) => Some(Self::report(report)),
            (None, None) => None,
        }
    }

    fn event(event: &Event<'a>) -> Self {
        let of = [
            event.job.or(event.source),
            event.kind,
            event.name,
            event.qtype,
            event.address,
            event.port,
            event.mode,
            event.verdict,
            event.reason,
            event.rule,
            event.rule_source,
            event.policy,
            event.policy_version,
        ];
        Self::Event(of.map(|value| value.map(RawValue::get)))
    }

    fn report(report: &ProcessReport) -> Self {
        let Process { name, sha256, parent } = report.process.clone();
        Self::Report {
            job: report.job_id.clone(),
            endpoint: (report.name.clone(), report.address, report.port),
            process: (name, sha256, parent),
        }
    }
}

/// Entries that become one.
struct Group {
    /// Which line is the last of them.
    last: usize,
    lines: u32,
    count: u64,
    bytes_up: u64,
    bytes_down: u64,
    duration_ms: u64,
}

impl Group {
    const fn new() -> Self {
        Self {
            last: 0,
            lines: 0,
            count: 0,
            bytes_up: 0,
            bytes_down: 0,
            duration_ms: 0,
        }
    }

    fn add(&mut self, at: usize, entry: &Entry<'_>) {
        self.last = at;
        self.lines += 1;
        if let Some(event) = &entry.event {
            self.count = self.count.saturating_add(event.count);
            self.bytes_up = self.bytes_up.saturating_add(event.bytes_up);
            self.bytes_down = self.bytes_down.saturating_add(event.bytes_down);
            self.duration_ms = self.duration_ms.max(event.duration_ms);
        }
    }
}

/// Merges what is beyond `marks.tried`; leaves out what is stored.
pub(super) fn merge(text: &[u8], marks: Marks) -> Edited {
    let lines = line::lines(text, Look::Brief);
    let mut edited = Edited::of(&lines);
    let lines = lines.sound;
    let mut groups: Vec<Group> = Vec::new();
    let mut known: HashMap<Key<'_>, usize> = HashMap::new();
    // The group of each line; none of those that stay as they are.
    let mut member: Vec<Option<usize>> = Vec::with_capacity(lines.len());
    for (at, line) in lines.iter().enumerate() {
        let entry = (line.seq > marks.tried)
            .then(|| serde_json::from_slice::<Entry<'_>>(line.text).ok())
            .flatten();
        member.push(entry.and_then(|entry| {
            let group = *known.entry(Key::of(&entry)?).or_insert_with(|| {
                groups.push(Group::new());
                groups.len() - 1
            });
            groups[group].add(at, &entry);
            Some(group)
        }));
    }
    for (at, line) in lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.seq > marks.stored)
    {
        match member[at].map(|group| &groups[group]) {
            Some(group) if group.last != at => {}
            Some(group) if group.lines > 1 => match written(line, group) {
                Some(text) => edited.keep_text(line.seq, &text),
                None => edited.keep(line),
            },
            Some(_) | None => edited.keep(line),
        }
    }
    edited
}

/// The last of a group, for all of it. `None` where its line says all: a report.
fn written(line: &Line<'_>, group: &Group) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Whole {
        event: Option<EventRecord>,
    }

    let mut event = serde_json::from_slice::<Whole>(line.text).ok()?.event?;
    event.count = group.count;
    event.bytes_up = group.bytes_up;
    event.bytes_down = group.bytes_down;
    event.duration_ms = group.duration_ms;
    let json = serde_json::to_vec(&event).ok()?;
    let mut text = Vec::with_capacity(json.len() + 40);
    line::write(&mut text, line.seq, What::Event, &json);
    Some(text)
}

/// Leaves only what is on its way.
pub(super) fn clear(text: &[u8], marks: Marks) -> Edited {
    let lines = line::lines(text, Look::Brief);
    let mut edited = Edited::of(&lines);
    for line in lines.sound {
        if line.seq <= marks.stored {
            continue;
        }
        if line.seq <= marks.pinned {
            edited.keep(&line);
        } else {
            edited.drop(&line);
        }
    }
    edited
}

/// Takes away the oldest entries of `party`, until `need` bytes of them are gone.
pub(super) fn thin(text: &[u8], party: &str, need: u64, marks: Marks) -> Edited {
    let lines = line::lines(text, Look::Brief);
    let mut edited = Edited::of(&lines);
    let mut gone = 0;
    for line in lines.sound {
        if line.seq <= marks.stored {
            continue;
        }
        if line.seq > marks.pinned && gone < need && facts(line.text).party == party {
            gone += line.text.len() as u64;
            edited.drop(&line);
        } else {
            edited.keep(&line);
        }
    }
    edited
}

/// How many bytes each party's entries take, of those that may go; of more than `most` parties, only the noisiest.
pub(super) fn survey(text: &[u8], marks: Marks, most: usize) -> Parties {
    let mut parties = Parties::new();
    for line in line::lines(text, Look::Brief).sound {
        if line.seq > marks.pinned.max(marks.stored) {
            *parties.entry(facts(line.text).party).or_default() += line.text.len() as u64;
        }
    }
    if parties.len() > most {
        let mut sizes: Vec<u64> = parties.values().copied().collect();
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        let least = sizes[most];
        parties.retain(|_, bytes| *bytes > least);
    }
    parties
}

#[cfg(test)]
mod tests;
