//! What an event looks like as JSON: one flat object, without what doesn't apply.
//!
//! Owns names and order of the fields. The gateway writes the same bytes by a shorter way, and is tested against this.

use std::net::IpAddr;

use compact_str::CompactString;
use serde::{Serialize, Serializer};

use super::{EventId, JobRecord, Kind, NameSource, NetworkEvent, SCHEMA};
use crate::compile::rules::{RuleRef, RuleSource};
use crate::name::DnsName;
use crate::verdict::{Mode, Reason, Verdict};

#[derive(Serialize)]
struct Form<'a> {
    schema: u32,
    #[serde(serialize_with = "rfc3339")]
    time: jiff::Timestamp,
    id: EventId,
    gateway: &'a str,
    network: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a JobRecord>,
    source: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_port: Option<u64>,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a DnsName>,
    name_source: NameSource,
    #[serde(skip_serializing_if = "Option::is_none")]
    qtype: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rcode: Option<&'static str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    answers: &'a [CompactString],
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_address: Option<IpAddr>,
    mode: Mode,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_source: Option<RuleSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<RuleRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ech_present: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_up: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_down: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ja4: Option<&'a str>,
}

impl NetworkEvent {
    /// The event as `gateway` tells it.
    pub fn told_by<'a>(&'a self, gateway: &'a str) -> impl Serialize + 'a {
        let subject = &*self.subject;
        Form {
            schema: SCHEMA,
            time: self.time,
            id: self.id,
            gateway,
            network: &subject.network,
            job: subject.job.as_deref(),
            source: self.source,
            source_port: some(self.source_port.into()),
            kind: self.kind,
            name: self.name.as_ref(),
            name_source: self.name_source,
            qtype: self.qtype.as_deref(),
            rcode: self.rcode,
            answers: &self.answers,
            address: self.address,
            port: some(self.port.into()),
            original_address: self.original_address,
            mode: subject.mode,
            verdict: self.verdict,
            reason: self.reason,
            rule: self.rule.as_ref().map(RuleRef::text),
            rule_source: self.rule.as_ref().map(RuleRef::source),
            nearest: self.nearest.find(),
            policy: subject.policy.as_deref(),
            policy_version: subject.policy_version,
            scope: subject.scope.as_ref().map(ToString::to_string),
            ech_present: self.ech_present,
            note: self.note.as_deref(),
            bytes_up: some(self.bytes_up),
            bytes_down: some(self.bytes_down),
            duration_ms: some(self.duration_ms),
            count: self.count,
            ja4: self.ja4.as_deref(),
        }
    }
}

/// Zero is left out.
fn some(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}

fn rfc3339<S: Serializer>(time: &jiff::Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}
