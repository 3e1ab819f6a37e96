//! An index over a response: where each record stands, so that it can be judged, patched or copied.

use std::net::IpAddr;

use super::name::{self, ReadName};
use super::{HEADER, Rcode, WireError, flag, rtype, u16_at, u32_at};

/// Records of one response at most; 65 535 octets hold no more than 5 957 of eleven octets each.
const MAX_RECORDS: usize = 6_000;

/// Section of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// Answer.
    Answer,
    /// Authority.
    Authority,
    /// Additional.
    Additional,
}

/// One record by its offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordAt {
    /// Section.
    pub(crate) section: Section,
    /// Offset of the owner.
    pub(crate) owner: u16,
    /// Offset of type, class, TTL and length, in this order.
    pub(crate) fixed: u16,
    /// Type.
    pub(crate) rtype: u16,
    /// TTL in seconds, as it came; the top bit means 0 (RFC 2181 §8).
    pub(crate) ttl: u32,
    /// Offset of the data.
    pub(crate) rdata: u16,
    /// Octets of the data.
    pub(crate) length: u16,
}

impl RecordAt {
    /// Offset of the TTL.
    pub(crate) fn ttl_at(&self) -> usize {
        usize::from(self.fixed) + 4
    }

    /// Offset behind the record.
    pub(crate) fn end(&self) -> usize {
        usize::from(self.rdata) + usize::from(self.length)
    }

    /// The data.
    pub(crate) fn data<'m>(&self, message: &'m [u8]) -> &'m [u8] {
        message
            .get(usize::from(self.rdata)..self.end())
            .unwrap_or_default()
    }

    /// The owner.
    pub(crate) fn owner(&self, message: &[u8]) -> Result<ReadName, WireError> {
        name::read(message, usize::from(self.owner))
    }

    /// The name that a CNAME or DNAME record points to.
    pub(crate) fn target(&self, message: &[u8]) -> Result<ReadName, WireError> {
        let read = name::read(message, usize::from(self.rdata))?;
        if read.end == self.end() {
            Ok(read)
        } else {
            Err(WireError("octets after a target"))
        }
    }

    /// The address of an A or AAAA record.
    pub(crate) fn address(&self, message: &[u8]) -> Option<IpAddr> {
        match self.rtype {
            rtype::A => Some(IpAddr::from(<[u8; 4]>::try_from(self.data(message)).ok()?)),
            rtype::AAAA => Some(IpAddr::from(<[u8; 16]>::try_from(self.data(message)).ok()?)),
            _ => None,
        }
    }

    /// The type that an RRSIG record covers (RFC 4034 §3.1.1).
    pub(crate) fn covered(&self, message: &[u8]) -> Option<u16> {
        (self.rtype == rtype::RRSIG)
            .then(|| u16_at(self.data(message), 0))
            .flatten()
    }
}

/// A response, indexed. Every owner and every target was read once, so later reads can't fail.
#[derive(Debug)]
pub(crate) struct Indexed {
    /// Second header word.
    pub(crate) flags: u16,
    /// Response code with the upper bits of the OPT record.
    pub(crate) rcode: Rcode,
    /// The question.
    pub(crate) question: ReadName,
    /// Asked type.
    pub(crate) qtype: u16,
    /// Asked class.
    pub(crate) qclass: u16,
    /// All records but OPT, in order.
    pub(crate) records: Vec<RecordAt>,
    /// Offset of the additional section.
    pub(crate) additional_at: usize,
}

/// Indexes a response. Octets behind the last record are ignored, as resolvers do.
pub(crate) fn index(message: &[u8]) -> Result<Indexed, WireError> {
    if message.len() > usize::from(u16::MAX) {
        return Err(WireError("longer than 65535 octets"));
    }
    let word = |at| u16_at(message, at).ok_or(WireError("shorter than a header"));
    let flags = word(2)?;
    if flags & flag::QR == 0 {
        return Err(WireError("not a response"));
    }
    if word(4)? != 1 {
        return Err(WireError("not exactly one question"));
    }
    let question = name::read(message, HEADER)?;
    let (qtype, qclass) = (word(question.end)?, word(question.end + 2)?);
    let mut walk = Walk {
        message,
        at: question.end + 4,
        records: Vec::new(),
        high: 0,
    };
    walk.section(Section::Answer, word(6)?)?;
    walk.section(Section::Authority, word(8)?)?;
    let additional_at = walk.at;
    walk.section(Section::Additional, word(10)?)?;
    let rcode = Rcode(walk.high << 4 | flags & flag::RCODE);
    Ok(Indexed {
        flags,
        rcode,
        question,
        qtype,
        qclass,
        records: walk.records,
        additional_at,
    })
}

struct Walk<'m> {
    message: &'m [u8],
    at: usize,
    records: Vec<RecordAt>,
    high: u16,
}

impl Walk<'_> {
    fn section(&mut self, section: Section, count: u16) -> Result<(), WireError> {
        for _ in 0..count {
            self.record(section)?;
        }
        Ok(())
    }

    fn record(&mut self, section: Section) -> Result<(), WireError> {
        let cut = WireError("a record runs past the end");
        let owner = name::read(self.message, self.at)?;
        let fixed = owner.end;
        let rtype = u16_at(self.message, fixed).ok_or(cut)?;
        let ttl = u32_at(self.message, fixed + 4).ok_or(cut)?;
        let length = u16_at(self.message, fixed + 8).ok_or(cut)?;
        let rdata = fixed + 10;
        if rdata + usize::from(length) > self.message.len() {
            return Err(cut);
        }
        let record = RecordAt {
            section,
            owner: self.at as u16,
            fixed: fixed as u16,
            rtype,
            ttl: if ttl > i32::MAX as u32 { 0 } else { ttl },
            rdata: rdata as u16,
            length,
        };
        self.at = record.end();
        if rtype == rtype::OPT {
            self.high = (ttl >> 24) as u16;
            return Ok(());
        }
        if matches!(rtype, rtype::CNAME | rtype::DNAME) {
            record.target(self.message)?;
        }
        if self.records.len() == MAX_RECORDS {
            return Err(WireError("too many records"));
        }
        self.records.push(record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use hickory_proto::op::{Message, OpCode, Query};
    use hickory_proto::rr::rdata::{A, CNAME};
    use hickory_proto::rr::{Name, RData, Record, RecordType};
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Vec<u8> {
        let (www, cdn) = (
            Name::from_ascii("www.a.test.").unwrap(),
            Name::from_ascii("cdn.a.test.").unwrap(),
        );
        let mut message = Message::response(7, OpCode::Query);
        message.add_query(Query::query(www.clone(), RecordType::A));
        message.add_answer(Record::from_rdata(www, 60, RData::CNAME(CNAME(cdn.clone()))));
        message.add_answer(Record::from_rdata(
            cdn.clone(),
            u32::MAX,
            RData::A(A::new(192, 0, 2, 1)),
        ));
        message.add_additional(Record::from_rdata(cdn, 5, RData::A(A::new(192, 0, 2, 2))));
        message.to_vec().unwrap()
    }

    #[test]
    fn records_are_where_hickory_wrote_them() {
        let bytes = sample();
        let index = index(&bytes).unwrap();
        let [alias, address, extra] = &index.records[..] else {
            panic!("{index:?}")
        };
        assert_eq!(
            alias.target(&bytes).unwrap().canonical().unwrap().to_string(),
            "cdn.a.test"
        );
        assert_eq!(address.address(&bytes).unwrap().to_string(), "192.0.2.1");
        assert_eq!(
            address.owner(&bytes).unwrap().canonical().unwrap().to_string(),
            "cdn.a.test"
        );
        assert_eq!(index.additional_at, usize::from(extra.owner));
        assert_eq!(extra.section, Section::Additional);
    }

    #[test]
    fn rfc2181_8_a_ttl_with_the_top_bit_counts_as_zero() {
        let bytes = sample();
        assert_eq!(index(&bytes).unwrap().records[1].ttl, 0);
    }

    proptest! {
        #[test]
        fn a_damaged_response_never_panics(at in 0usize..120, byte: u8, cut in 0usize..120) {
            let mut bytes = sample();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(bytes.len().min(cut + 12));
            if let Ok(index) = index(&bytes) {
                for record in &index.records {
                    prop_assert!(record.owner(&bytes).is_ok() && record.end() <= bytes.len());
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _whatever = index(&bytes);
        }
    }
}
