//! One event as JSON: the same bytes as [`NetworkEvent::told_by`], at a fraction of the cost.
//!
//! Owns the order of an event's fields, and what many events share: what is said of a job and its policy, and the second of
//! the time. A test holds it against `serde_json`. No I/O.

use std::sync::Arc;

use compact_str::CompactString;
use jiff::Timestamp;
use tidegate_policy::compile::rules::RuleRef;
use tidegate_policy::event::{EventSubject, NetworkEvent, SCHEMA};
use tidegate_policy::verdict::Reason;

use super::json;

/// Subjects of which the JSON is kept, as a power of two: about 0.8 KiB each.
const KEPT_BITS: u32 = 14;
/// 2^64 over the golden ratio: spreads addresses over the places.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// Length of a time up to the point before its milliseconds: `2026-01-01T00:00:00.`.
const SECOND: usize = 20;

/// What events of one subject have in common.
#[derive(Debug)]
struct Kept {
    subject: Arc<EventSubject>,
    /// `,"gateway":…,"network":…,"job":…`
    who: Box<[u8]>,
    /// `,"policy":…,"policy_version":…,"scope":…`
    policy: Box<[u8]>,
}

/// Writes events.
#[derive(Debug)]
pub(super) struct Writer {
    gateway: CompactString,
    /// By address of the subject, which is held so that no other one gets that address.
    kept: Vec<Option<Box<Kept>>>,
    second: Option<(i64, [u8; SECOND])>,
}

impl Writer {
    /// A writer of what this gateway tells.
    pub(super) fn new(gateway: &str) -> Self {
        Self {
            gateway: gateway.into(),
            kept: std::iter::repeat_with(|| None).take(1 << KEPT_BITS).collect(),
            second: None,
        }
    }

    /// Appends the event, without a line's end.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, event: &NetworkEvent) {
        const BEGIN: &[u8] = b"{\"schema\":1,\"time\":";
        const { assert!(SCHEMA == 1, "the schema is written as a part of the line") };
        out.extend_from_slice(BEGIN);
        self.time(out, event.time);
        out.extend_from_slice(b",\"id\":\"");
        out.extend_from_slice(&event.id.text());
        out.push(b'"');
        let kept = self.kept(&event.subject);
        out.extend_from_slice(&kept.who);
        out.extend_from_slice(b",\"source\":");
        json::address(out, event.source);
        number(out, b",\"source_port\":", event.source_port.into());
        asked(out, event);
        destination(out, event);
        judged(out, event);
        out.extend_from_slice(&kept.policy);
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
                let digits = [fraction / 100, fraction / 10 % 10, fraction % 10];
                out.extend_from_slice(&digits.map(|digit| b'0' + digit as u8));
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

    fn kept(&mut self, subject: &Arc<EventSubject>) -> &Kept {
        let address = Arc::as_ptr(subject).addr() as u64;
        let place = &mut self.kept[(address.wrapping_mul(SPREAD) >> (u64::BITS - KEPT_BITS)) as usize];
        place.take_if(|kept| !Arc::ptr_eq(&kept.subject, subject));
        place.get_or_insert_with(|| Box::new(Kept::of(Arc::clone(subject), &self.gateway)))
    }
}

impl Kept {
    fn of(subject: Arc<EventSubject>, gateway: &str) -> Self {
        let (mut who, mut policy) = (Vec::new(), Vec::new());
        text(&mut who, b",\"gateway\":", Some(gateway));
        text(&mut who, b",\"network\":", Some(&subject.network));
        if let Some(job) = &subject.job {
            who.extend_from_slice(b",\"job\":");
            json::other(&mut who, job);
        }
        text(&mut policy, b",\"policy\":", subject.policy.as_deref());
        if let Some(version) = subject.policy_version {
            policy.extend_from_slice(b",\"policy_version\":");
            json::number(&mut policy, version.into());
        }
        if let Some(scope) = &subject.scope {
            policy.extend_from_slice(b",\"scope\":");
            json::other(&mut policy, &format_args!("{scope}"));
        }
        Self {
            subject,
            who: who.into(),
            policy: policy.into(),
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
    word(out, b",\"mode\":", event.subject.mode.as_str());
    word(out, b",\"verdict\":", event.verdict.as_str());
    text(out, b",\"reason\":", event.reason.map(Reason::as_str));
    if let Some(rule) = &event.rule {
        text(out, b",\"rule\":", Some(rule.text()));
        word(out, b",\"rule_source\":", rule.source().kind());
    }
    let nearest = event.nearest.find();
    text(out, b",\"nearest\":", nearest.as_ref().map(RuleRef::text));
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

/// A field that is left out when it is zero. The key's length is known where this is called, here as below: it is copied by
/// one or two instructions.
fn number<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: u64) {
    if value > 0 {
        out.extend_from_slice(key);
        json::number(out, value);
    }
}

/// A field that is left out when there is none.
fn text<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(key);
        json::string(out, value);
    }
}

/// One of few words, none of which needs an escape.
fn word<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: &str) {
    out.extend_from_slice(key);
    json::word(out, value);
}
