//! A line of the spool: an entry as it goes over the wire ([`tidegate_control_wire::batch::Entry`]), with its end.
//!
//! Owns how lines are written and how a damaged one is known. Pure.

use std::borrow::Cow;
use std::net::IpAddr;

use compact_str::CompactString;
use jiff::Timestamp;
use serde::Deserialize;
use tidegate_control_wire::batch::Entry;

use crate::events::encode::json;

/// Largest number of an entry. No spool comes near it: what lies beyond is damage, and to go on behind it would overflow.
pub(super) const MAX_SEQ: u64 = i64::MAX as u64 / 2;
const HEAD: &[u8] = b"{\"seq\":";
const EVENT: &[u8] = b",\"event\":";
const REPORT: &[u8] = b",\"report\":";

/// What a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A network event.
    Event,
    /// An agent's report.
    Report,
}

/// Writes a line: number, and what it holds as JSON.
pub(super) fn write(out: &mut Vec<u8>, seq: u64, what: What, json: &[u8]) {
    out.extend_from_slice(HEAD);
    json::number(out, seq);
    out.extend_from_slice(match what {
        What::Event => EVENT,
        What::Report => REPORT,
    });
    out.extend_from_slice(json);
    out.extend_from_slice(b"}\n");
}

/// A whole line that looks sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Its number.
    pub(super) seq: u64,
    /// Its bytes, its end included.
    pub(super) text: &'a [u8],
}

/// What a piece of a segment holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lines<'a> {
    /// In order.
    pub(super) sound: Vec<Line<'a>>,
    /// Whole lines that are none of ours, or out of order.
    pub(super) damaged: u64,
    /// Bytes behind the last line's end: of a line that was cut off.
    pub(super) torn: usize,
}

/// How closely lines are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Beginning, end and number: what every reading does.
    Brief,
    /// The JSON too: what may have been written when the machine went down.
    Close,
}

/// Parts the bytes into lines.
pub(super) fn lines(text: &[u8], look: Look) -> Lines<'_> {
    let mut found = Lines::default();
    let mut last = 0;
    for text in text.split_inclusive(|byte| *byte == b'\n') {
        if text.last() != Some(&b'\n') {
            found.torn = text.len();
            continue;
        }
        match number(text) {
            Some(seq) if seq > last && (look == Look::Brief || is_entry(text)) => {
                last = seq;
                found.sound.push(Line { seq, text });
            }
            Some(_) | None => found.damaged += 1,
        }
    }
    found
}

/// The number of a line that begins and ends as one of ours.
fn number(line: &[u8]) -> Option<u64> {
    let rest = line.strip_suffix(b"}\n")?.strip_prefix(HEAD)?;
    let digits = rest.iter().position(|byte| *byte == b',')?;
    let (digits, rest) = rest.split_at(digits);
    let known = rest.starts_with(EVENT) || rest.starts_with(REPORT);
    let seq = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (known && (1..=MAX_SEQ).contains(&seq)).then_some(seq)
}

fn is_entry(line: &[u8]) -> bool {
    serde_json::from_slice::<Entry<'_>>(line)
        .is_ok_and(|entry| entry.event.is_some() != entry.report.is_some())
}

/// What making room has to know of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// How many verdicts it stands for; one for a report.
    pub(super) count: u64,
    /// Whose it is: the job's, or the source's where there is no job.
    pub(super) party: CompactString,
    /// When.
    pub(super) time: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Brief<'a> {
    #[serde(borrow)]
    event: Option<BriefEvent<'a>>,
    report: Option<BriefReport>,
}

#[derive(Deserialize)]
struct BriefEvent<'a> {
    time: Option<Timestamp>,
    #[serde(borrow)]
    job: Option<BriefJob<'a>>,
    source: Option<IpAddr>,
    #[serde(default = "one")]
    count: u64,
}

#[derive(Deserialize)]
struct BriefJob<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct BriefReport {
    time: Option<Timestamp>,
}

const fn one() -> u64 {
    1
}

/// Reads those facts; of what can't be read, that it is one.
pub(super) fn facts(line: &[u8]) -> Facts {
    let unknown = Facts {
        count: 1,
        party: CompactString::default(),
        time: None,
    };
    let Ok(brief) = serde_json::from_slice::<Brief<'_>>(line) else {
        return unknown;
    };
    match (brief.event, brief.report) {
        (Some(event), _) => Facts {
            count: event.count,
            party: match (event.job, event.source) {
                (Some(job), _) => job.id.as_ref().into(),
                (None, Some(source)) => compact_str::format_compact!("{source}"),
                (None, None) => CompactString::default(),
            },
            time: event.time,
        },
        (None, Some(report)) => Facts {
            time: report.time,
            ..unknown
        },
        (None, None) => unknown,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    const JSON: &[u8] =
        br#"{"time":"2026-01-01T00:00:00Z","job":{"id":"job_1"},"source":"10.0.0.1","count":3}"#;

    fn text(numbers: &[u64]) -> Vec<u8> {
        let mut text = Vec::new();
        for seq in numbers {
            write(&mut text, *seq, What::Event, JSON);
        }
        text
    }

    #[test]
    fn a_line_is_an_entry_of_the_wire() {
        for seq in [1, 9, 10, 4_294_967_296, MAX_SEQ] {
            let text = text(&[seq]);
            let entry: Entry<'_> = serde_json::from_slice(&text).unwrap();
            assert_eq!((entry.seq, entry.event.unwrap().get().as_bytes()), (seq, JSON));
            assert_eq!(lines(&text, Look::Close).sound, [Line { seq, text: &text }]);
        }
    }

    #[test]
    fn what_is_known_of_an_entry_is_read_from_it() {
        let told = facts(&text(&[7]));
        assert_eq!((told.count, told.party.as_str()), (3, "job_1"));
        assert_eq!(told.time.unwrap().to_string(), "2026-01-01T00:00:00Z");
        let bare = facts(b"{\"seq\":1,\"event\":{\"source\":\"10.0.0.1\"}}\n");
        assert_eq!((bare.count, bare.party.as_str()), (1, "10.0.0.1"));
        let report = facts(
            br#"{"seq":1,"report":{"time":"2026-01-01T00:00:00Z","job_id":"x","process":{"name":"y"}}}"#,
        );
        assert_eq!(
            (report.count, report.party.as_str(), report.time),
            (1, "", told.time)
        );
        assert_eq!(facts(b"nonsense").count, 1);
    }

    #[test]
    fn what_is_no_entry_or_out_of_order_is_damaged_and_costs_only_itself() {
        let good = text(&[5]);
        for bad in [
            b"{}\n".as_slice(),
            b"\n",
            b"{\"seq\":0,\"event\":{}}\n",
            b"{\"seq\":5,\"event\":{}}\n",
            b"{\"seq\":-9,\"event\":{}}\n",
            b"{\"seq\":9,\"other\":{}}\n",
            b"\0\0\0\0\0\0\0\0\n",
        ] {
            let text = [&good, bad, &text(&[9])].concat();
            let found = lines(&text, Look::Brief);
            let numbers: Vec<u64> = found.sound.iter().map(|line| line.seq).collect();
            assert_eq!(
                (numbers, found.damaged, found.torn),
                (vec![5, 9], 1, 0),
                "{bad:?}"
            );
        }
        let hole = b"{\"seq\":6,\"event\":{\"a\":\0\0\0\0}}\n";
        assert_eq!(lines(hole, Look::Brief).damaged, 0);
        assert_eq!(lines(hole, Look::Close).damaged, 1);
    }

    #[test]
    fn every_prefix_is_whole_lines_and_a_torn_one() {
        let text = text(&[1, 2, 30]);
        let ends: Vec<usize> = (0..text.len()).filter(|at| text[*at] == b'\n').collect();
        for cut in 0..=text.len() {
            let found = lines(&text[..cut], Look::Close);
            let whole = ends.iter().filter(|end| **end < cut).count();
            assert_eq!((found.sound.len(), found.damaged), (whole, 0), "cut at {cut}");
            let bytes: usize = found.sound.iter().map(|line| line.text.len()).sum();
            assert_eq!(bytes + found.torn, cut);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parted_without_loss(bytes in any::<Vec<u8>>()) {
            let found = lines(&bytes, Look::Close);
            prop_assert!(found.sound.is_empty());
            let ends = bytes.split(|byte| *byte == b'\n').count() - 1;
            prop_assert_eq!(found.damaged, ends as u64);
        }
    }
}
