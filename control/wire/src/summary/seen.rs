//! What a tally reads of an event, be it live in a gateway or recorded in the store.
//!
//! Owns borrowing and nothing else: an event is looked at millions of times and kept rarely.

use compact_str::{CompactString, ToCompactString as _, format_compact};
use jiff::Timestamp;
use tidegate_policy::compile::rules::RuleRef;
use tidegate_policy::event::{JobRecord, Kind, NetworkEvent};
use tidegate_policy::name::MAX_WIRE;
use tidegate_policy::rulebook::Nearest;
use tidegate_policy::verdict::{Mode, Reason, Verdict};

use crate::event::{EventJob, EventRecord};
use crate::text::printable;

/// One event, as far as a summary is concerned.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    pub(super) id: CompactString,
    pub(super) time: Timestamp,
    pub(super) kind: Kind,
    pub(super) endpoint: CompactString,
    pub(super) port: u16,
    pub(super) verdict: Verdict,
    pub(super) reason: Option<&'a str>,
    pub(super) rule: Option<&'a str>,
    pub(super) rule_source: Option<&'a str>,
    pub(super) nearest: Near<'a>,
    pub(super) policy: Option<&'a str>,
    pub(super) policy_version: u32,
    pub(super) mode: Mode,
    pub(super) scope: Option<ScopeText<'a>>,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
    pub(super) count: u64,
    pub(super) process: Option<&'a str>,
}

/// The allowed endpoint that came nearest to what was refused: to be found only where it is kept.
#[derive(Clone, Debug)]
pub(super) enum Near<'a> {
    Live(&'a Nearest),
    Recorded(Option<&'a str>),
}

impl Near<'_> {
    /// Its text, by way of `short`.
    pub(super) fn text(&self, short: impl Fn(&str) -> CompactString) -> Option<CompactString> {
        match self {
            Self::Live(nearest) => nearest.find().map(|rule| short(rule.text())),
            Self::Recorded(text) => text.map(short),
        }
    }
}

/// A scope as it is written: `repo:acme/web`. Borrowed in two parts where it was never put together.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScopeText<'a> {
    /// What stands before the colon, unless that is part of the name.
    kind: Option<&'a str>,
    name: &'a str,
}

impl ScopeText<'_> {
    /// Whether it is written so.
    pub(super) fn is(&self, text: &str) -> bool {
        let name = match self.kind {
            Some(kind) => text.strip_prefix(kind).and_then(|rest| rest.strip_prefix(':')),
            None => Some(text),
        };
        name == Some(self.name)
    }

    pub(super) fn text(&self) -> CompactString {
        match self.kind {
            Some(kind) => format_compact!("{kind}:{}", self.name),
            None => self.name.into(),
        }
    }
}

impl<'a> From<&'a NetworkEvent> for Seen<'a> {
    fn from(event: &'a NetworkEvent) -> Self {
        let subject = &*event.subject;
        let endpoint = match (&event.name, event.address) {
            (Some(name), _) => match name.plain(&mut [0; MAX_WIRE]) {
                Some(plain) => plain.into(),
                None => printable(&name.to_string()).into(),
            },
            (None, Some(address)) => address.to_compact_string(),
            (None, None) => CompactString::default(),
        };
        Self {
            id: CompactString::from_utf8(event.id.text()).unwrap_or_default(),
            time: event.time,
            kind: event.kind,
            endpoint,
            port: port(event.kind, event.port),
            verdict: event.verdict,
            reason: event.reason.map(Reason::as_str),
            rule: event.rule.as_ref().map(RuleRef::text),
            rule_source: event.rule.as_ref().map(|rule| rule.source().kind()),
            nearest: Near::Live(&event.nearest),
            policy: subject.policy.as_deref(),
            policy_version: subject.policy_version.unwrap_or_default(),
            mode: subject.mode,
            scope: subject.scope.as_ref().map(|scope| {
                let (kind, name) = scope.parts();
                ScopeText {
                    kind: Some(kind),
                    name,
                }
            }),
            bytes_up: event.bytes_up,
            bytes_down: event.bytes_down,
            count: event.count,
            process: None,
        }
    }
}

impl<'a> From<&'a EventRecord> for Seen<'a> {
    fn from(event: &'a EventRecord) -> Self {
        let endpoint = match (&event.name, event.address) {
            (Some(name), _) => printable(name).into(),
            (None, Some(address)) => address.to_compact_string(),
            (None, None) => CompactString::default(),
        };
        Self {
            id: event.id.clone(),
            time: event.time,
            kind: event.kind,
            endpoint,
            port: port(event.kind, event.port),
            verdict: event.verdict,
            reason: event.reason.as_deref(),
            rule: event.rule.as_deref(),
            rule_source: event.rule_source.as_deref(),
            nearest: Near::Recorded(event.nearest.as_deref()),
            policy: event.policy.as_deref(),
            policy_version: event.policy_version.unwrap_or_default(),
            mode: event.mode,
            scope: event.scope.as_deref().map(|name| ScopeText { kind: None, name }),
            bytes_up: event.bytes_up,
            bytes_down: event.bytes_down,
            count: event.count,
            process: event.process.as_ref().map(|process| process.name.as_str()),
        }
    }
}

impl From<&JobRecord> for EventJob {
    fn from(job: &JobRecord) -> Self {
        let who = &job.identity;
        Self {
            id: job.id.clone(),
            owner: who.owner.clone(),
            repo: who.repo.clone(),
            workflow: who.workflow.clone(),
            job: who.job.clone(),
            run_id: who.run_id.clone(),
            run_attempt: who.run_attempt,
            runner_name: who.runner_name.clone(),
            cluster: who.cluster.clone(),
            event: who.event.clone(),
            git_ref: who.git_ref.clone(),
            actor: who.actor.clone(),
            head_repo: who.head_repo.clone(),
            assurance: who.assurance,
        }
    }
}

/// A lookup's port is the resolver's, which says nothing about what the job wanted.
const fn port(kind: Kind, port: u16) -> u16 {
    match kind {
        Kind::Dns | Kind::Icmp | Kind::Ip => 0,
        Kind::Tls | Kind::Http | Kind::Quic | Kind::Tcp | Kind::Udp => port,
    }
}
