//! One event as JSON: the same bytes as its `Serialize`, at a fifth of the cost.
//!
//! Owns the order of an event's fields, and what many events share: the job as JSON and the second of the time. A test
//! holds it against `serde_json`. No I/O.

use std::sync::Arc;

use jiff::Timestamp;
use tidegate_policy::compile::rules::{RuleRef, RuleSource};
use tidegate_policy::event::{JobRecord, NetworkEvent};
use tidegate_policy::verdict::Reason;

use super::json;

/// Jobs whose JSON is kept: about 0.4 MiB.
const MAX_KEPT: usize = 512;
/// Length of a time up to the point before its milliseconds: `2026-01-01T00:00:00.`.
const SECOND: usize = 20;

/// A job, and its JSON.
type Kept = (Arc<JobRecord>, Box<[u8]>);

/// Writes events.
#[derive(Debug)]
pub(super) struct Writer {
    /// By address of the record, which is held so that no other one gets that address.
    jobs: Vec<Option<Kept>>,
    second: Option<(i64, [u8; SECOND])>,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            jobs: vec![None; MAX_KEPT],
            second: None,
        }
    }
}

impl Writer {
    /// Appends the event, without a line's end.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, event: &NetworkEvent) {
        out.extend_from_slice(b"{\"schema\":");
        json::number(out, event.schema.into());
        out.extend_from_slice(b",\"time\":");
        self.time(out, event.time);
        out.extend_from_slice(b",\"id\":\"");
        out.extend_from_slice(&event.id.text());
        out.extend_from_slice(b"\",\"gateway\":");
        json::string(out, &event.gateway);
        out.extend_from_slice(b",\"network\":");
        json::string(out, &event.network);
        if let Some(job) = &event.job {
            out.extend_from_slice(b",\"job\":");
            self.job(out, job);
        }
        out.extend_from_slice(b",\"source\":");
        json::address(out, event.source);
        number(out, b",\"source_port\":", event.source_port.into());
        asked(out, event);
        destination(out, event);
        judged(out, event);
        passed(out, event);
        out.push(b'}');
    }

    fn time(&mut self, out: &mut Vec<u8>, time: Timestamp) {
        let second = time.as_second();
        let fraction = time.subsec_millisecond();
        match &self.second {
            Some((known, text)) if *known == second && fraction >= 0 => {
                out.push(b'"');
                out.extend_from_slice(text);
                for digit in [fraction / 100, fraction / 10 % 10, fraction % 10] {
                    out.push(b'0' + digit as u8);
                }
                out.extend_from_slice(b"Z\"");
            }
            Some(_) | None => {
                let text = format!("{time:.3}");
                json::string(out, &text);
                // Times before 1970 count backwards, and their milliseconds too.
                let shared = text
                    .as_bytes()
                    .first_chunk()
                    .filter(|_| second >= 0 && fraction >= 0);
                self.second = shared.map(|text| (second, *text));
            }
        }
    }

    fn job(&mut self, out: &mut Vec<u8>, job: &Arc<JobRecord>) {
        // Records lie at least their own size apart.
        let place = (Arc::as_ptr(job).addr() / size_of::<JobRecord>()) % MAX_KEPT;
        match &mut self.jobs[place] {
            Some((known, text)) if Arc::ptr_eq(known, job) => out.extend_from_slice(text),
            other => {
                let begun = out.len();
                json::other(out, job);
                *other = Some((Arc::clone(job), out[begun..].into()));
            }
        }
    }
}

/// What was asked for.
fn asked(out: &mut Vec<u8>, event: &NetworkEvent) {
    word(out, b",\"kind\":", event.kind.as_str());
    if let Some(name) = &event.name {
        out.extend_from_slice(b",\"name\":");
        json::name(out, name);
    }
    word(out, b",\"name_source\":", event.name_source.as_str());
    text(out, b",\"qtype\":", event.qtype.as_deref());
    text(out, b",\"rcode\":", event.rcode);
    let mut lead = b'[';
    if !event.answers.is_empty() {
        out.extend_from_slice(b",\"answers\":");
        for answer in &event.answers {
            out.push(lead);
            json::string(out, answer);
            lead = b',';
        }
        out.push(b']');
    }
}

fn destination(out: &mut Vec<u8>, event: &NetworkEvent) {
    if let Some(address) = event.address {
        out.extend_from_slice(b",\"address\":");
        json::address(out, address);
    }
    number(out, b",\"port\":", event.port.into());
    if let Some(address) = event.original_address {
        out.extend_from_slice(b",\"original_address\":");
        json::address(out, address);
    }
}

fn judged(out: &mut Vec<u8>, event: &NetworkEvent) {
    word(out, b",\"mode\":", event.mode.as_str());
    word(out, b",\"verdict\":", event.verdict.as_str());
    text(out, b",\"reason\":", event.reason.map(Reason::as_str));
    text(out, b",\"rule\":", event.rule.as_deref());
    text(
        out,
        b",\"rule_source\":",
        event.rule_source.as_ref().map(RuleSource::kind),
    );
    let nearest = event.nearest.find();
    text(out, b",\"nearest\":", nearest.as_ref().map(RuleRef::text));
    text(out, b",\"policy\":", event.policy.as_deref());
    if let Some(version) = event.policy_version {
        out.extend_from_slice(b",\"policy_version\":");
        json::number(out, version.into());
    }
    if let Some(scope) = &event.scope {
        out.extend_from_slice(b",\"scope\":");
        let (kind, name) = scope.parts();
        json::tagged(out, kind, name);
    }
}

fn passed(out: &mut Vec<u8>, event: &NetworkEvent) {
    if event.ech_present {
        out.extend_from_slice(b",\"ech_present\":true");
    }
    text(out, b",\"note\":", event.note.as_deref());
    number(out, b",\"bytes_up\":", event.bytes_up);
    number(out, b",\"bytes_down\":", event.bytes_down);
    number(out, b",\"duration_ms\":", event.duration_ms);
    out.extend_from_slice(b",\"count\":");
    json::number(out, event.count);
    text(out, b",\"ja4\":", event.ja4.as_deref());
}

/// A field that is left out when it is zero.
fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    if value > 0 {
        out.extend_from_slice(key);
        json::number(out, value);
    }
}

/// A field that is left out when there is none.
fn text(out: &mut Vec<u8>, key: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(key);
        json::string(out, value);
    }
}

/// One of few words, none of which needs an escape.
fn word(out: &mut Vec<u8>, key: &[u8], value: &str) {
    out.extend_from_slice(key);
    json::word(out, value);
}
