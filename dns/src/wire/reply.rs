//! Writing replies: header and question as asked, records, EDNS with an extended error.

use super::message::Section;
use super::query::Query;
use super::{EDNS_UDP, IN, Rcode, flag, patch, rtype};

/// An extended DNS error (RFC 8914): a registered code and a text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ede {
    /// Info code of the IANA registry.
    pub(crate) code: u16,
    /// Extra text, UTF-8.
    pub(crate) text: String,
}

impl Ede {
    pub(crate) const STALE_ANSWER: u16 = 3;
    pub(crate) const BLOCKED: u16 = 15;
    pub(crate) const NO_REACHABLE_AUTHORITY: u16 = 22;
    pub(crate) const NETWORK_ERROR: u16 = 23;

    /// Texts longer than this are cut: a reply stays close to its query's size.
    pub(crate) const MAX_TEXT: usize = 240;

    pub(crate) fn new(code: u16, mut text: String) -> Self {
        if text.len() > Self::MAX_TEXT {
            let mut cut = Self::MAX_TEXT;
            while !text.is_char_boundary(cut) {
                cut -= 1;
            }
            text.truncate(cut);
        }
        Self { code, text }
    }
}

/// A reply under construction.
#[derive(Debug)]
pub(crate) struct Reply {
    bytes: Vec<u8>,
    counts: [u16; 3],
}

/// The second header word of our replies: RA set, AA, AD and Z never.
pub(crate) fn reply_flags(query_flags: u16, rcode: Rcode) -> u16 {
    let kept = query_flags & (flag::OPCODE | flag::RD | flag::CD);
    flag::QR | flag::RA | kept | (rcode.0 & flag::RCODE)
}

impl Reply {
    /// Header and question of a reply to `query`.
    pub(crate) fn to(query: &Query, rcode: Rcode) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(query.id.to_be_bytes());
        bytes.extend(reply_flags(query.flags, rcode).to_be_bytes());
        bytes.extend([0, 1, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&query.question);
        Self {
            bytes,
            counts: [0; 3],
        }
    }

    /// Adds a record of the asked name, by a pointer to the question. Sections must be filled in order.
    pub(crate) fn record(&mut self, section: Section, rtype: u16, ttl: u32, data: &[u8]) {
        self.bytes.extend([0xc0, 12]);
        self.fixed(rtype, IN, ttl, data);
        self.count(section);
    }

    /// Adds a record of another name, in raw form.
    pub(crate) fn raw_record(&mut self, section: Section, owner: &[u8], fixed: (u16, u16, u32), data: &[u8]) {
        self.bytes.extend_from_slice(owner);
        let (rtype, class, ttl) = fixed;
        self.fixed(rtype, class, ttl, data);
        self.count(section);
    }

    fn fixed(&mut self, rtype: u16, class: u16, ttl: u32, data: &[u8]) {
        self.bytes.extend(rtype.to_be_bytes());
        self.bytes.extend(class.to_be_bytes());
        self.bytes.extend(ttl.to_be_bytes());
        self.bytes.extend((data.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(data);
    }

    fn count(&mut self, section: Section) {
        let at = match section {
            Section::Answer => 0,
            Section::Authority => 1,
            Section::Additional => 2,
        };
        if let Some(count) = self.counts.get_mut(at) {
            *count = count.saturating_add(1);
        }
    }

    /// The finished bytes. EDNS goes into the reply when the query had it (RFC 6891 §7).
    pub(crate) fn finish(mut self, query: &Query, rcode: Rcode, ede: Option<&Ede>) -> Vec<u8> {
        if query.edns.is_some() {
            write_opt(&mut self.bytes, query.dnssec_ok(), rcode, ede);
            self.count(Section::Additional);
        }
        for (section, count) in self.counts.iter().enumerate() {
            patch(&mut self.bytes, 6 + 2 * section, &count.to_be_bytes());
        }
        self.bytes
    }
}

/// Appends an OPT record (RFC 6891 §6.1.2).
pub(crate) fn write_opt(out: &mut Vec<u8>, dnssec_ok: bool, rcode: Rcode, ede: Option<&Ede>) {
    out.push(0);
    out.extend(rtype::OPT.to_be_bytes());
    out.extend(EDNS_UDP.to_be_bytes());
    out.extend([(rcode.0 >> 4) as u8, 0, if dnssec_ok { 0x80 } else { 0 }, 0]);
    match ede {
        None => out.extend([0, 0]),
        Some(ede) => {
            let length = 2 + ede.text.len() as u16;
            out.extend((4 + length).to_be_bytes());
            out.extend(15u16.to_be_bytes());
            out.extend(length.to_be_bytes());
            out.extend(ede.code.to_be_bytes());
            out.extend(ede.text.as_bytes());
        }
    }
}

/// A reply without records.
pub(crate) fn empty(query: &Query, rcode: Rcode, ede: Option<&Ede>) -> Vec<u8> {
    Reply::to(query, rcode).finish(query, rcode, ede)
}

/// TC=1 and nothing else: the client asks again over TCP (RFC 2181 §9).
pub(crate) fn truncated(query: &Query, rcode: Rcode) -> Vec<u8> {
    let mut bytes = empty(query, rcode, None);
    if let Some(high) = bytes.get_mut(2) {
        *high |= (flag::TC >> 8) as u8;
    }
    bytes
}

/// A bare header, for queries whose question can't be repeated.
pub(crate) fn header_only(id: u16, query_flags: u16, rcode: Rcode) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(super::HEADER);
    bytes.extend(id.to_be_bytes());
    bytes.extend(reply_flags(query_flags, rcode).to_be_bytes());
    bytes.extend([0; 8]);
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use hickory_proto::op::{Edns, Message, Query as Question, ResponseCode};
    use hickory_proto::rr::rdata::opt::EdnsCode;
    use hickory_proto::rr::{Name, RecordType};

    use super::*;

    fn query(edns: bool) -> Query {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Question::query(
            Name::from_ascii("wWw.a.test.").unwrap(),
            RecordType::A,
        ));
        if edns {
            let mut edns = Edns::new();
            edns.set_max_payload(1400).set_dnssec_ok(true);
            message.set_edns(edns);
        }
        crate::wire::query::parse(&message.to_vec().unwrap()).unwrap()
    }

    #[test]
    fn hickory_reads_what_we_write() {
        let query = query(true);
        let mut reply = Reply::to(&query, Rcode::NOERROR);
        reply.record(Section::Answer, rtype::A, 60, &[192, 0, 2, 1]);
        let ede = Ede::new(Ede::BLOCKED, "policy p v1".into());
        let bytes = reply.finish(&query, Rcode::NOERROR, Some(&ede));
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.id, query.id);
        assert_eq!(message.queries[0].name().to_ascii(), "wWw.a.test.");
        assert_eq!(message.answers[0].data.to_string(), "192.0.2.1");
        assert_eq!(message.answers[0].name.to_ascii(), "wWw.a.test.");
        let edns = message.edns.unwrap();
        assert!(edns.flags().dnssec_ok);
        assert!(edns.option(EdnsCode::Unknown(15)).is_some() || !edns.options().as_ref().is_empty());
    }

    #[test]
    fn rfc6891_7_no_opt_for_a_query_without_one() {
        let query = query(false);
        let message = Message::from_vec(&empty(&query, Rcode::SERVFAIL, None)).unwrap();
        assert!(message.edns.is_none());
        assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    }

    #[test]
    fn rfc6891_6_1_3_badvers_needs_the_extended_bits() {
        let bytes = empty(&query(true), Rcode::BADVERS, None);
        let code = Message::from_vec(&bytes).unwrap().metadata.response_code;
        assert_eq!(u16::from(code), 16);
    }

    #[test]
    fn a_truncated_reply_has_tc_and_no_record() {
        let message = Message::from_vec(&truncated(&query(false), Rcode::NOERROR)).unwrap();
        assert!(message.metadata.truncation && message.answers.is_empty());
    }

    #[test]
    fn a_long_explanation_is_cut_at_a_character() {
        let ede = Ede::new(15, "ü".repeat(200));
        assert_eq!(ede.text.len(), 240);
    }
}
