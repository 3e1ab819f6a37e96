//! Reading a query: strict about everything that two readers could see differently.

use smallvec::SmallVec;
use tidegate_policy::DnsName;

use super::{HEADER, IN, PLAIN_UDP, Rcode, WireError, flag, name, rtype, u16_at, u32_at};

/// EDNS as the query asked for it (RFC 6891 §6.1); its options are never looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EdnsAsked {
    /// Largest UDP payload that the client takes.
    pub(crate) payload: u16,
    /// Version; only 0 exists.
    pub(crate) version: u8,
    /// The DO bit.
    pub(crate) dnssec_ok: bool,
}

/// One well-formed query.
#[derive(Clone, Debug)]
pub struct Query {
    /// Message id.
    pub(crate) id: u16,
    /// The second header word, as it came.
    pub(crate) flags: u16,
    /// The name, canonical.
    pub(crate) name: DnsName,
    /// The question section as it came (0x20 casing kept).
    pub(crate) question: SmallVec<[u8; 64]>,
    /// Asked type.
    pub(crate) qtype: u16,
    /// Asked class.
    pub(crate) qclass: u16,
    /// EDNS, when the query has it.
    pub(crate) edns: Option<EdnsAsked>,
}

impl Query {
    /// True for opcode QUERY.
    pub(crate) fn is_standard(&self) -> bool {
        self.flags & flag::OPCODE == 0
    }

    /// True for class IN.
    pub(crate) fn is_internet(&self) -> bool {
        self.qclass == IN
    }

    /// The DO bit.
    pub(crate) fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// The CD bit.
    pub(crate) fn checking_disabled(&self) -> bool {
        self.flags & flag::CD != 0
    }

    /// Largest UDP reply that this client takes (RFC 6891 §6.2.3: values below 512 mean 512).
    pub(crate) fn udp_limit(&self) -> usize {
        self.edns.map_or(PLAIN_UDP, |edns| {
            usize::from(edns.payload.clamp(PLAIN_UDP as u16, super::EDNS_UDP))
        })
    }
}

/// Why bytes are not a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Not even a header, or a response: no answer, lest two servers talk for ever.
    Silent(WireError),
    /// A header that can be answered.
    Answerable {
        /// Message id.
        id: u16,
        /// Second header word.
        flags: u16,
        /// What to answer.
        rcode: Rcode,
        /// What is wrong.
        why: WireError,
    },
}

/// Reads one query.
pub fn parse(message: &[u8]) -> Result<Query, Unreadable> {
    let short = Unreadable::Silent(WireError("shorter than a header"));
    let (Some(id), Some(flags), true) = (u16_at(message, 0), u16_at(message, 2), message.len() >= HEADER)
    else {
        return Err(short);
    };
    if flags & flag::QR != 0 {
        return Err(Unreadable::Silent(WireError("a response, not a query")));
    }
    let broken = |why| Unreadable::Answerable {
        id,
        flags,
        rcode: Rcode::FORMERR,
        why,
    };
    body(message, id, flags).map_err(|why| {
        // An opcode that we don't know may have any body (RFC 1035 §4.1.1, RFC 2136).
        if flags & flag::OPCODE != 0 {
            Unreadable::Answerable {
                id,
                flags,
                rcode: Rcode::NOTIMP,
                why,
            }
        } else {
            broken(why)
        }
    })
}

fn body(message: &[u8], id: u16, flags: u16) -> Result<Query, WireError> {
    let count = |at| u16_at(message, at).unwrap_or_default();
    let (questions, answers, authorities, additionals) = (count(4), count(6), count(8), count(10));
    if questions != 1 {
        return Err(WireError("not exactly one question"));
    }
    let read = name::read(message, HEADER)?;
    if read.compressed {
        return Err(WireError("a compression pointer in the question"));
    }
    let cut = WireError("the question runs past the end");
    let qtype = u16_at(message, read.end).ok_or(cut)?;
    let qclass = u16_at(message, read.end + 2).ok_or(cut)?;
    let end = read.end + 4;
    // An IXFR query carries the client's SOA (RFC 1995 §3); a standard one carries nothing.
    if flags & flag::OPCODE == 0 && (answers != 0 || (authorities != 0 && qtype != rtype::IXFR)) {
        return Err(WireError("records in a query"));
    }
    let records = usize::from(answers) + usize::from(authorities) + usize::from(additionals);
    let edns = read_edns(message, end, records)?;
    let name = read.canonical()?;
    let question = SmallVec::from_slice(message.get(HEADER..end).unwrap_or_default());
    Ok(Query {
        id,
        flags,
        name,
        question,
        qtype,
        qclass,
        edns,
    })
}

/// Walks the records after the question, to the last octet.
fn read_edns(message: &[u8], mut at: usize, records: usize) -> Result<Option<EdnsAsked>, WireError> {
    let mut edns = None;
    for _ in 0..records {
        let owner = name::read(message, at)?;
        let cut = WireError("a record runs past the end");
        let rtype = u16_at(message, owner.end).ok_or(cut)?;
        let class = u16_at(message, owner.end + 2).ok_or(cut)?;
        let ttl = u32_at(message, owner.end + 4).ok_or(cut)?;
        let length = usize::from(u16_at(message, owner.end + 8).ok_or(cut)?);
        at = owner.end + 10 + length;
        if at > message.len() {
            return Err(cut);
        }
        if rtype == rtype::OPT {
            if edns.is_some() || owner.raw.len() != 1 {
                return Err(WireError("an OPT record that RFC 6891 §6.1.1 forbids"));
            }
            let [_, version, high, _] = ttl.to_be_bytes();
            edns = Some(EdnsAsked {
                payload: class,
                version,
                dnssec_ok: high & 0x80 != 0,
            });
        }
    }
    if at == message.len() {
        Ok(edns)
    } else {
        Err(WireError("octets after the message"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn header(flags: u16, counts: [u16; 4]) -> Vec<u8> {
        let mut out = vec![0x12, 0x34];
        out.extend(flags.to_be_bytes());
        for count in counts {
            out.extend(count.to_be_bytes());
        }
        out
    }

    const QUESTION: &[u8] = b"\x03wWw\x01a\x04TEST\x00\x00\x01\x00\x01";
    const OPT: &[u8] = b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00";

    fn rcode(result: Result<Query, Unreadable>) -> Rcode {
        match result.unwrap_err() {
            Unreadable::Answerable { rcode, .. } => rcode,
            Unreadable::Silent(why) => panic!("{why}"),
        }
    }

    #[test]
    fn a_query_with_edns_is_read() {
        let bytes = [header(0x0110, [1, 0, 0, 1]), QUESTION.into(), OPT.into()].concat();
        let query = parse(&bytes).unwrap();
        assert_eq!(query.name, DnsName::parse("www.a.test").unwrap());
        assert_eq!(&query.question[..], QUESTION, "0x20 casing is kept");
        assert!(query.dnssec_ok() && query.checking_disabled() && query.is_internet() && query.is_standard());
        assert_eq!(query.udp_limit(), 1232);
    }

    #[test]
    fn d16_qdcount_0_and_2_are_format_errors() {
        assert_eq!(rcode(parse(&header(0, [0, 0, 0, 0]))), Rcode::FORMERR);
        let two = [header(0, [2, 0, 0, 0]), QUESTION.into(), QUESTION.into()].concat();
        assert_eq!(rcode(parse(&two)), Rcode::FORMERR);
    }

    #[test]
    fn d17_a_pointer_in_the_question_is_a_format_error() {
        let bytes = [header(0, [1, 0, 0, 0]), b"\x01a\xc0\x00\x00\x01\x00\x01".to_vec()].concat();
        assert_eq!(rcode(parse(&bytes)), Rcode::FORMERR);
    }

    #[test]
    fn d18_other_opcodes_are_not_implemented_whatever_follows() {
        let notify = [header(0x2000, [1, 1, 0, 0]), QUESTION.into(), b"junk".to_vec()].concat();
        assert_eq!(rcode(parse(&notify)), Rcode::NOTIMP);
        assert!(
            !parse(&[header(0x2000, [1, 0, 0, 0]), QUESTION.into()].concat())
                .unwrap()
                .is_standard()
        );
    }

    #[test]
    fn a_response_and_a_stub_of_a_header_get_no_answer() {
        let response = [header(0x8000, [1, 0, 0, 0]), QUESTION.into()].concat();
        assert!(matches!(parse(&response), Err(Unreadable::Silent(_))));
        assert!(matches!(parse(&response[..11]), Err(Unreadable::Silent(_))));
    }

    #[test]
    fn rfc6891_6_1_1_two_opt_records_or_a_named_one_are_format_errors() {
        let two = [header(0, [1, 0, 0, 2]), QUESTION.into(), OPT.into(), OPT.into()].concat();
        assert_eq!(rcode(parse(&two)), Rcode::FORMERR);
        let named = [
            header(0, [1, 0, 0, 1]),
            QUESTION.into(),
            b"\x01a".to_vec(),
            OPT.into(),
        ]
        .concat();
        assert_eq!(rcode(parse(&named)), Rcode::FORMERR);
    }

    #[test]
    fn trailing_octets_and_records_in_a_query_are_format_errors() {
        let trailing = [header(0, [1, 0, 0, 0]), QUESTION.into(), vec![0]].concat();
        assert_eq!(rcode(parse(&trailing)), Rcode::FORMERR);
        let answer = [header(0, [1, 1, 0, 0]), QUESTION.into(), OPT.into()].concat();
        assert_eq!(rcode(parse(&answer)), Rcode::FORMERR);
    }

    proptest! {
        #[test]
        fn d28_arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _whatever = parse(&bytes);
        }

        #[test]
        fn every_prefix_of_a_query_is_unreadable(cut in 0usize..39) {
            let bytes = [header(0x0110, [1, 0, 0, 1]), QUESTION.into(), OPT.into()].concat();
            prop_assume!(cut < bytes.len());
            prop_assert!(parse(&bytes[..cut]).is_err());
        }
    }
}
