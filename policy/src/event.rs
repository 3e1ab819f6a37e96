//! Network events: the record of a verdict, in the shape that the store, the log and webhooks share.
//!
//! This module builds events and mints their ids; writing, aggregating and shipping them is
//! `gateway`'s, behind [`EventSink`].

mod form;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use compact_str::CompactString;
use serde::{Deserialize, Serialize, Serializer};
use smallvec::SmallVec;

use crate::compile::rules::RuleRef;
use crate::job::{JobIdentity, Scope};
use crate::name::DnsName;
use crate::rulebook::{Nearest, Rulebook};
use crate::verdict::{Judgement, Mode, Reason, Verdict};

/// Version of the event's shape.
pub const SCHEMA: u32 = 1;

/// An event id: eight characters of Crockford's base 32, short enough to read aloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId(u64);

impl EventId {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    const BITS: u32 = 40;

    /// Its eight characters, all ASCII.
    pub fn text(self) -> [u8; 8] {
        let mut rest = self.0;
        let mut text = [0; 8];
        for digit in text.iter_mut().rev() {
            *digit = Self::ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        text
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.text();
        out.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Mints event ids: a counter from a random start, spread over 40 bits by an odd multiplier, so that
/// neighbours don't look alike and no id repeats within 2^40 events of one gateway.
#[derive(Debug)]
pub struct EventIds {
    next: AtomicU64,
}

impl EventIds {
    const SPREAD: u64 = 0x9e_3779_b97f;

    /// Starts at `seed` (random, from the shell).
    pub fn new(seed: u64) -> Self {
        Self {
            next: AtomicU64::new(seed),
        }
    }

    /// The next id.
    pub fn mint(&self) -> EventId {
        let serial = self.next.fetch_add(1, Ordering::Relaxed);
        EventId(serial.wrapping_mul(Self::SPREAD) & ((1 << EventId::BITS) - 1))
    }
}

/// What kind of traffic an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A DNS query.
    Dns,
    /// A TLS flow.
    Tls,
    /// A cleartext HTTP request.
    Http,
    /// A QUIC flow.
    Quic,
    /// Any other TCP flow.
    Tcp,
    /// Any other UDP flow.
    Udp,
    /// An ICMP echo.
    Icmp,
    /// Another IP protocol.
    Ip,
}

impl Kind {
    /// The spelling in events and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Quic => "quic",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Ip => "ip",
        }
    }
}

/// Where an event's name comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameSource {
    /// The DNS question.
    Query,
    /// The server name of a TLS or QUIC hello.
    Sni,
    /// An HTTP authority.
    Host,
    /// A ticket: the job asked for this name and got the address.
    Ticket,
    /// There is no name.
    #[default]
    None,
}

impl NameSource {
    /// The spelling in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Sni => "sni",
            Self::Host => "host",
            Self::Ticket => "ticket",
            Self::None => "none",
        }
    }
}

/// What many events share: whom they are about, and by which policy he was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSubject {
    /// Network of the source.
    pub network: CompactString,
    /// The job, when the source holds a lease.
    pub job: Option<Arc<JobRecord>>,
    /// Mode of the policy.
    pub mode: Mode,
    /// Name of the deciding policy.
    pub policy: Option<CompactString>,
    /// Its version.
    pub policy_version: Option<u32>,
    /// The scope that the policy came from.
    pub scope: Option<Scope>,
}

impl Default for EventSubject {
    /// Nobody, whom no policy governs.
    fn default() -> Self {
        Self {
            network: CompactString::default(),
            job: None,
            mode: Mode::Block,
            policy: None,
            policy_version: None,
            scope: None,
        }
    }
}

impl EventSubject {
    /// The same under another rulebook.
    #[must_use]
    pub fn under(&self, book: &Rulebook) -> Self {
        let policy = book.policy();
        Self {
            network: self.network.clone(),
            job: self.job.clone(),
            mode: book.mode(),
            policy: policy.map(|(policy, _)| policy.meta.name.clone()),
            policy_version: policy.map(|(policy, _)| policy.meta.version),
            scope: policy.map(|(_, scope)| scope.clone()),
        }
    }

    /// True when it says what this rulebook is.
    pub fn is_under(&self, book: &Rulebook) -> bool {
        let same = match book.policy() {
            Some((policy, scope)) => {
                self.policy_version == Some(policy.meta.version)
                    && self.policy.as_ref() == Some(&policy.meta.name)
                    && self.scope.as_ref() == Some(scope)
            }
            None => self.policy.is_none(),
        };
        same && self.mode == book.mode()
    }
}

/// One network event. Thousands of them wait at times, so it is small: what many share is shared, and no text is kept that
/// stands elsewhere. [`NetworkEvent::told_by`] is its JSON.
#[derive(Clone, Debug)]
pub struct NetworkEvent {
    /// When, wall clock; stamped by the sink.
    pub time: jiff::Timestamp,
    /// Short id, also in the explanation that the client saw.
    pub id: EventId,
    /// Whom it is about, and by which policy.
    pub subject: Arc<EventSubject>,
    /// Address of the runner.
    pub source: IpAddr,
    /// Port of the runner; 0 for protocols without ports.
    pub source_port: u16,
    /// What kind of traffic.
    pub kind: Kind,
    /// The name that was judged.
    pub name: Option<DnsName>,
    /// Where that name comes from.
    pub name_source: NameSource,
    /// DNS: the asked type, by mnemonic or `TYPEn`.
    pub qtype: Option<CompactString>,
    /// DNS: the answer's code, by mnemonic.
    pub rcode: Option<&'static str>,
    /// DNS: addresses and targets of the answer, at most eight.
    pub answers: SmallVec<[CompactString; 2]>,
    /// The address that was dialled, or would have been.
    pub address: Option<IpAddr>,
    /// The port of the flow; the asked server's for DNS.
    pub port: u16,
    /// The address that the client chose, when the gateway dialled another.
    pub original_address: Option<IpAddr>,
    /// The verdict.
    pub verdict: Verdict,
    /// Why not; absent for permits.
    pub reason: Option<Reason>,
    /// The deciding rule.
    pub rule: Option<RuleRef>,
    /// For refusals: the allowed endpoint that came nearest, found when the event is written.
    pub nearest: Nearest,
    /// A hello carried an ECH extension that could be GREASE.
    pub ech_present: bool,
    /// A short remark for people (`Host names port 8443`, `malformed: two Host headers`).
    pub note: Option<CompactString>,
    /// Bytes from the runner.
    pub bytes_up: u64,
    /// Bytes to the runner.
    pub bytes_down: u64,
    /// From the first packet to the close, in milliseconds.
    pub duration_ms: u64,
    /// How many verdicts this event stands for. 0: none, it tells later bytes of a flow whose verdict an earlier
    /// event told.
    pub count: u64,
    /// JA4 fingerprint of the hello.
    pub ja4: Option<CompactString>,
}

/// A job as events carry it: its lease id and identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobRecord {
    /// Id of the lease.
    pub id: CompactString,
    /// The identity.
    #[serde(flatten)]
    pub identity: JobIdentity,
}

/// Where verdicts go. Implementations must neither block nor fail: they are called on the data plane.
pub trait EventSink: Send + Sync {
    /// A fresh id, so that an explanation can carry it before its event is complete.
    fn mint(&self) -> EventId;

    /// Takes one event; stamps its time and gateway.
    fn emit(&self, event: NetworkEvent);
}

impl NetworkEvent {
    /// An event of `kind` from `source` about nobody.
    pub fn new(id: EventId, kind: Kind, source: IpAddr) -> Self {
        Self::about(Arc::default(), id, kind, source)
    }

    /// An event of `kind` from `source` about `subject`; the caller fills in the rest. The time is stamped by the sink.
    pub fn about(subject: Arc<EventSubject>, id: EventId, kind: Kind, source: IpAddr) -> Self {
        Self {
            time: jiff::Timestamp::UNIX_EPOCH,
            id,
            subject,
            source,
            source_port: 0,
            kind,
            name: None,
            name_source: NameSource::None,
            qtype: None,
            rcode: None,
            answers: SmallVec::new(),
            address: None,
            port: 0,
            original_address: None,
            verdict: Verdict::Refuse,
            reason: None,
            rule: None,
            nearest: Nearest::NONE,
            ech_present: false,
            note: None,
            bytes_up: 0,
            bytes_down: 0,
            duration_ms: 0,
            count: 1,
            ja4: None,
        }
    }

    /// Writes verdict, reason and rules of `judgement` into the event.
    pub fn judged(&mut self, judgement: &Judgement) {
        self.verdict = judgement.verdict();
        self.reason = judgement.refusal().map(|refusal| refusal.reason);
        self.rule = judgement.rule().cloned();
        self.nearest = judgement
            .refusal()
            .map_or(Nearest::NONE, |refusal| refusal.nearest.clone());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn ids_are_short_and_do_not_repeat() {
        let ids = EventIds::new(u64::MAX - 500);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let text = ids.mint().to_string();
            assert_eq!(text.len(), 8);
            assert!(seen.insert(text));
        }
    }

    #[test]
    fn an_event_is_one_flat_json_object_without_empty_fields() {
        let mut event = NetworkEvent::new(EventIds::new(1).mint(), Kind::Dns, "10.77.1.2".parse().unwrap());
        event.name = Some(DnsName::parse("evil.test").unwrap());
        event.judged(&Judgement::Refuse(crate::verdict::Refusal::because(
            Reason::NotAllowed,
        )));
        let json = serde_json::to_value(event.told_by("gw-1")).unwrap();
        assert_eq!(json["time"], "1970-01-01T00:00:00.000Z");
        assert_eq!(json["verdict"], "refuse");
        assert_eq!(json["reason"], "not-allowed");
        assert_eq!(json["name"], "evil.test");
        assert!(
            json.get("bytes_up").is_none() && json.get("job").is_none(),
            "{json}"
        );
    }
}
