//! A network event as it leaves a gateway: read again, checked, its text escaped.
//!
//! The shape is `tidegate_policy::event::NetworkEvent`'s. What is read here comes over the network from a program that
//! may be older, newer or not ours at all: every text is bounded and shown-safe ([`crate::text::printable`]) from here on,
//! so that the store, logs, terminals and summaries hold nothing raw. Reading does no I/O and no clock.

use std::net::IpAddr;

use compact_str::CompactString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;
use tidegate_policy::event::{Kind, NameSource};
use tidegate_policy::job::Assurance;
use tidegate_policy::verdict::{Mode, Verdict};

use crate::text::{cut, cut_bytes, printable};

/// Longest event, in bytes of JSON.
pub const MAX_EVENT: usize = 16 << 10;
// Bounds of texts, in bytes as they are shown. Several of an event stand in one index together (a sum by day has its
// repository, workflow, cluster and name): PostgreSQL's takes some 2 700 bytes a row, and refuses the batch that has more.
/// Longest name: 255 bytes, every one escaped.
const MAX_NAME: usize = 4 * 255;
/// Longest text of a job's identity.
const MAX_IDENTITY: usize = 255;
/// Longest id of a lease or an event, longest code.
const MAX_CODE: usize = 128;
/// Longest other text; it stands in no index.
const MAX_TEXT: usize = 1_024;
/// Longest name of a process. Processes are what jobs call them.
const MAX_PROCESS: usize = 512;
/// Longest digest of a program.
const MAX_DIGEST: usize = 64;
/// Addresses and targets of a DNS answer that are kept.
const MAX_ANSWERS: usize = 8;

/// A network event, read again. Absent fields did not apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Version of the shape.
    pub schema: u32,
    /// When, by the gateway's clock; milliseconds.
    #[serde(serialize_with = "milliseconds")]
    pub time: Timestamp,
    /// Short id, as the client was shown it. Unique among one gateway's events of one start, not among all.
    pub id: CompactString,
    /// Name of the gateway.
    pub gateway: CompactString,
    /// Network of the source.
    #[serde(default)]
    pub network: CompactString,
    /// The job, when the source held a lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<EventJob>,
    /// Address of the runner.
    pub source: IpAddr,
    /// Port of the runner; 0 without ports.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub source_port: u16,
    /// What kind of traffic.
    pub kind: Kind,
    /// The name that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<CompactString>,
    /// Where that name comes from.
    #[serde(default)]
    pub name_source: NameSource,
    /// DNS: the asked type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qtype: Option<CompactString>,
    /// DNS: the answer's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rcode: Option<CompactString>,
    /// DNS: addresses and targets of the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<CompactString>,
    /// The address that was dialled, or would have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The port of the flow; the asked server's for DNS.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub port: u16,
    /// The address that the client chose, when the gateway dialled another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_address: Option<IpAddr>,
    /// Mode of the policy.
    pub mode: Mode,
    /// The verdict.
    pub verdict: Verdict,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<CompactString>,
    /// The deciding rule, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<CompactString>,
    /// Where that rule stands: policy, set, platform, host, global.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_source: Option<CompactString>,
    /// The allowed endpoint that came nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<CompactString>,
    /// Name of the deciding policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<CompactString>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_version: Option<u32>,
    /// The scope that the policy came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<CompactString>,
    /// A hello carried an ECH extension that could be GREASE.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ech_present: bool,
    /// A short remark for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<CompactString>,
    /// Bytes from the runner.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub bytes_up: u64,
    /// Bytes to the runner.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub bytes_down: u64,
    /// From the first packet to the close, in milliseconds.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub duration_ms: u64,
    /// How many verdicts this event stands for. 0: it tells later bytes of a flow whose verdict an earlier event told.
    #[serde(default = "one")]
    pub count: u64,
    /// JA4 fingerprint of the hello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ja4: Option<CompactString>,
    /// The process behind it, when an agent on the runner reported one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
}

/// A job as events carry it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventJob {
    /// Id of the lease.
    pub id: CompactString,
    /// Organization or user, lower case.
    pub owner: CompactString,
    /// `owner/name`, lower case.
    pub repo: CompactString,
    /// File name of the calling workflow; empty when it has no file.
    #[serde(default)]
    pub workflow: CompactString,
    /// Job id within the workflow.
    #[serde(default)]
    pub job: CompactString,
    /// The forge's run number.
    #[serde(default)]
    pub run_id: CompactString,
    /// Attempt of that run, from 1; 0 when unknown.
    #[serde(default)]
    pub run_attempt: u32,
    /// Name of the runner.
    #[serde(default)]
    pub runner_name: CompactString,
    /// The network's cluster.
    #[serde(default)]
    pub cluster: CompactString,
    /// What triggered the run.
    #[serde(default)]
    pub event: CompactString,
    /// Git ref.
    #[serde(default, rename = "ref")]
    pub git_ref: CompactString,
    /// Who triggered the run.
    #[serde(default)]
    pub actor: CompactString,
    /// For pull requests: where the change comes from; empty when it is none, or not known.
    #[serde(default, skip_serializing_if = "CompactString::is_empty")]
    pub head_repo: CompactString,
    /// How well all this is known.
    pub assurance: Assurance,
}

/// A process on the runner, as an agent there reported it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its name, or the path of its program.
    pub name: CompactString,
    /// SHA-256 of the program, in hexadecimal; empty when not reported.
    #[serde(default)]
    pub sha256: CompactString,
    /// Name of the process that started it; empty when not reported.
    #[serde(default)]
    pub parent: CompactString,
}

/// Bytes that are no event.
#[derive(Debug, Error)]
pub enum EventError {
    /// Too long.
    #[error("an event has at most {MAX_EVENT} bytes, this one {0}")]
    Long(usize),
    /// Not of the shape that is read.
    #[error("it is no event")]
    Shape(#[from] serde_json::Error),
    /// Of a gateway other than the one that sent it.
    #[error("it says to be of gateway {0:?}")]
    Foreign(CompactString),
}

impl EventRecord {
    /// Reads an event that the gateway called `gateway` sent. Text in it is escaped and cut, not refused: an event must
    /// not be lost because somebody asked for a strange name.
    pub fn read(json: &[u8], gateway: &str) -> Result<Self, EventError> {
        if json.len() > MAX_EVENT {
            return Err(EventError::Long(json.len()));
        }
        let mut event: Self = serde_json::from_slice(json)?;
        event.check(gateway)?;
        Ok(event)
    }

    /// The rest of [`Self::read`], for an event that was read as part of something that is not too long.
    pub fn check(&mut self, gateway: &str) -> Result<(), EventError> {
        if self.gateway != gateway {
            return Err(EventError::Foreign(cut(&printable(&self.gateway), 80).into()));
        }
        self.tidy();
        Ok(())
    }

    /// What it is about: the name, else the address, else nothing that has one.
    pub fn endpoint(&self) -> CompactString {
        match (&self.name, self.address) {
            (Some(name), _) => name.clone(),
            (None, Some(address)) => compact_str::format_compact!("{address}"),
            (None, None) => CompactString::default(),
        }
    }

    /// Bounds and escapes every text.
    fn tidy(&mut self) {
        tidy(&mut self.id, MAX_CODE);
        for text in [&mut self.gateway, &mut self.network] {
            tidy(text, MAX_IDENTITY);
        }
        for text in [&mut self.qtype, &mut self.rcode, &mut self.reason]
            .into_iter()
            .flatten()
        {
            tidy(text, MAX_CODE);
        }
        for text in [
            &mut self.rule,
            &mut self.rule_source,
            &mut self.nearest,
            &mut self.policy,
            &mut self.scope,
            &mut self.note,
            &mut self.ja4,
        ]
        .into_iter()
        .flatten()
        {
            tidy(text, MAX_TEXT);
        }
        if let Some(name) = &mut self.name {
            tidy(name, MAX_NAME);
        }
        self.answers.truncate(MAX_ANSWERS);
        for answer in &mut self.answers {
            tidy(answer, MAX_NAME);
        }
        if let Some(job) = &mut self.job {
            job.tidy();
        }
        if let Some(process) = &mut self.process {
            process.tidy();
        }
    }
}

impl EventJob {
    fn tidy(&mut self) {
        tidy(&mut self.id, MAX_CODE);
        for text in [
            &mut self.owner,
            &mut self.repo,
            &mut self.workflow,
            &mut self.job,
            &mut self.run_id,
            &mut self.runner_name,
            &mut self.cluster,
            &mut self.event,
            &mut self.git_ref,
            &mut self.actor,
            &mut self.head_repo,
        ] {
            tidy(text, MAX_IDENTITY);
        }
    }
}

impl Process {
    /// Bounds and escapes every text.
    pub fn tidy(&mut self) {
        for (text, most) in [
            (&mut self.name, MAX_PROCESS),
            (&mut self.sha256, MAX_DIGEST),
            (&mut self.parent, MAX_PROCESS),
        ] {
            tidy(text, most);
        }
    }
}

/// Nearly every text is fit already and stays where it is.
fn tidy(text: &mut CompactString, most: usize) {
    let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let fit = text.len() <= most && (plain || !text.contains(crate::text::is_unprintable));
    if !fit {
        *text = cut_bytes(&printable(text), most).into();
    }
}

fn milliseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

const fn one() -> u64 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
const fn is_zero(port: &u16) -> bool {
    *port == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
const fn is_zero_u64(count: &u64) -> bool {
    *count == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::Arc;

    use tidegate_policy::DnsName;
    use tidegate_policy::event::{EventIds, EventSubject, JobRecord, NetworkEvent};
    use tidegate_policy::job::JobIdentity;

    use super::*;

    fn emitted() -> NetworkEvent {
        let mut event = NetworkEvent::new(EventIds::new(1).mint(), Kind::Tls, "10.77.1.2".parse().unwrap());
        event.name = Some(DnsName::parse("github.test").unwrap());
        event.port = 443;
        let job = Some(Arc::new(JobRecord {
            id: "job_1".into(),
            identity: JobIdentity {
                owner: "acme".into(),
                repo: "acme/web".into(),
                workflow: "ci.yml".into(),
                job: "build".into(),
                run_id: "7".into(),
                run_attempt: 1,
                runner_name: "r".into(),
                cluster: "prod".into(),
                event: "pull_request".into(),
                git_ref: "refs/pull/1/merge".into(),
                actor: "mallory".into(),
                head_repo: "mallory/web".into(),
                assurance: Assurance::Declared,
            },
        }));
        event.subject = Arc::new(EventSubject {
            job,
            ..EventSubject::default()
        });
        event
    }

    #[test]
    fn what_a_gateway_writes_is_read_and_written_the_same() {
        let json = serde_json::to_value(emitted().told_by("gw-1")).unwrap();
        let read = EventRecord::read(&serde_json::to_vec(&json).unwrap(), "gw-1").unwrap();
        assert_eq!(read.endpoint(), "github.test");
        assert_eq!(read.job.as_ref().unwrap().head_repo, "mallory/web");
        assert_eq!(serde_json::to_value(&read).unwrap(), json);
    }

    #[test]
    fn text_that_would_act_on_a_terminal_is_escaped_and_the_event_kept() {
        let mut json = serde_json::to_value(emitted().told_by("gw-1")).unwrap();
        json["name"] = "\u{1b}[31m<b>".into();
        json["job"]["job"] = "x\n::error::y".into();
        json["note"] = "n".repeat(5_000).into();
        json["something_newer"] = 7.into();
        let read = EventRecord::read(&serde_json::to_vec(&json).unwrap(), "gw-1").unwrap();
        assert_eq!(read.name.as_deref(), Some("\\u{1b}[31m<b>"));
        assert_eq!(read.job.unwrap().job, "x\\u{a}::error::y");
        assert_eq!(read.note.unwrap().len(), MAX_TEXT);
    }

    #[test]
    fn another_gateways_event_a_giant_and_what_is_none_are_refused() {
        let json = serde_json::to_vec(&emitted().told_by("gw-1")).unwrap();
        assert!(matches!(
            EventRecord::read(&json, "gw-2"),
            Err(EventError::Foreign(_))
        ));
        assert!(matches!(
            EventRecord::read(&vec![b' '; MAX_EVENT + 1], "gw-1"),
            Err(EventError::Long(_))
        ));
        assert!(matches!(
            EventRecord::read(b"[]", "gw-1"),
            Err(EventError::Shape(_))
        ));
    }
}
