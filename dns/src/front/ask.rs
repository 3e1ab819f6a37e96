//! One query under way: who asks what, judged by which rulebook; and its end, the event.

use std::net::IpAddr;
use std::sync::Arc;

use compact_str::{CompactString, ToCompactString as _, format_compact};
use smallvec::SmallVec;
use tidegate_policy::Moment;
use tidegate_policy::event::{EventId, Kind, NameSource};
use tidegate_policy::rulebook::Rulebook;
use tidegate_policy::subject::Subject;
use tidegate_policy::verdict::{Judgement, Mode};

use super::client::Client;
use super::handler::DnsHandler;
use super::metrics::Source;
use crate::clock::Stopwatch;
use crate::fast::lesson::{Draft, Epochs};
use crate::resolver::Asked;
use crate::resolver::answer::Answer;
use crate::wire::query::Query;
use crate::wire::{Rcode, rtype};

/// Addresses and names that an event lists.
pub(crate) const MAX_LISTED: usize = 8;

/// One query under way.
pub(crate) struct Ask {
    pub(crate) query: Query,
    pub(crate) client: Client,
    pub(crate) subject: Arc<Subject>,
    /// The rulebook of the moment in which the query came.
    pub(crate) book: Arc<Rulebook>,
    pub(crate) begun: Moment,
    pub(crate) watch: Stopwatch,
    /// Set when the fast path wants to know how the query is answered.
    pub(crate) teach: Option<Epochs>,
}

/// An answer, and what it taught.
pub(crate) struct Told {
    pub(crate) reply: Vec<u8>,
    pub(crate) draft: Option<Box<Draft>>,
}

impl From<Vec<u8>> for Told {
    fn from(reply: Vec<u8>) -> Self {
        Self { reply, draft: None }
    }
}

/// How a query ended.
pub(crate) struct End<'a> {
    pub(crate) id: EventId,
    pub(crate) judgement: &'a Judgement,
    /// `None`: no answer came.
    pub(crate) rcode: Option<Rcode>,
    pub(crate) source: Source,
    pub(crate) answers: SmallVec<[CompactString; 2]>,
    pub(crate) note: Option<CompactString>,
}

impl<'a> End<'a> {
    /// An end without records.
    pub(crate) fn new(id: EventId, judgement: &'a Judgement, rcode: Rcode) -> Self {
        Self {
            id,
            judgement,
            rcode: Some(rcode),
            source: Source::Local,
            answers: SmallVec::new(),
            note: None,
        }
    }
}

impl Ask {
    /// What the resolver is asked.
    pub(crate) fn asked(&self) -> Asked {
        Asked {
            rtype: self.query.qtype,
            dnssec_ok: self.query.dnssec_ok(),
            checking_disabled: self.query.checking_disabled(),
        }
    }

    /// A refusal as this job's mode carries it out.
    pub(crate) fn is_audit(&self) -> bool {
        self.book.mode() == Mode::Audit
    }

    /// Counts the query and emits its event.
    pub(crate) fn end(&self, handler: &DnsHandler, end: End<'_>) {
        handler
            .metrics
            .judged(end.judgement.verdict(), self.client.transport);
        handler.metrics.answered(end.source, self.watch.elapsed());
        let mut event = self.subject.event(end.id, Kind::Dns, self.client.source.ip());
        event.source_port = self.client.source.port();
        event.name = Some(self.query.name.clone());
        event.name_source = NameSource::Query;
        event.qtype = Some(mnemonic(self.query.qtype));
        event.rcode = end.rcode.map(Rcode::mnemonic);
        event.answers = end.answers;
        event.address = Some(self.client.asked.ip());
        event.port = self.client.asked.port();
        event.note = end.note;
        event.judged(end.judgement);
        handler.sink.emit(event);
    }
}

/// What an event lists of an answer: its aliases, then the addresses that the job got.
pub(crate) fn listed(answer: &Answer, given: &[IpAddr]) -> SmallVec<[CompactString; 2]> {
    let names = answer.aliases.iter().map(|name| name.to_compact_string());
    let addresses = given.iter().map(|address| address.to_compact_string());
    names.chain(addresses).take(MAX_LISTED).collect()
}

/// The mnemonic of a type, or `TYPEn` (RFC 3597 §5).
pub(crate) fn mnemonic(qtype: u16) -> CompactString {
    let known = match qtype {
        rtype::A => "A",
        rtype::NS => "NS",
        rtype::CNAME => "CNAME",
        rtype::SOA => "SOA",
        rtype::PTR => "PTR",
        rtype::HINFO => "HINFO",
        rtype::MX => "MX",
        rtype::TXT => "TXT",
        rtype::AAAA => "AAAA",
        rtype::SRV => "SRV",
        rtype::NAPTR => "NAPTR",
        rtype::DNAME => "DNAME",
        rtype::DS => "DS",
        rtype::SSHFP => "SSHFP",
        rtype::RRSIG => "RRSIG",
        rtype::DNSKEY => "DNSKEY",
        rtype::TLSA => "TLSA",
        rtype::SVCB => "SVCB",
        rtype::HTTPS => "HTTPS",
        rtype::IXFR => "IXFR",
        rtype::AXFR => "AXFR",
        rtype::ANY => "ANY",
        rtype::URI => "URI",
        rtype::CAA => "CAA",
        other => return format_compact!("TYPE{other}"),
    };
    CompactString::const_new(known)
}
