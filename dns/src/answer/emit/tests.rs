//! Tests of emitted answers: whole, partial, aged, truncated; hickory reads them back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hickory_proto::op::{Message, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;
use tidegate_policy::{DnsName, Moment};

use super::*;
use crate::resolver;
use crate::wire::query::parse;

fn name(n: u8) -> Name {
    let labels = ["www", "edge", "cdn", "mail"];
    let label = labels[usize::from(n) % labels.len()];
    Name::from_ascii(format!("{label}.zone{}.test.", n % 3)).unwrap()
}

fn data() -> impl Strategy<Value = RData> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| RData::A(A::from(std::net::Ipv4Addr::from(octets)))),
        any::<[u8; 16]>().prop_map(|octets| RData::AAAA(AAAA::from(std::net::Ipv6Addr::from(octets)))),
        any::<u8>().prop_map(|n| RData::CNAME(CNAME(name(n)))),
        any::<u8>().prop_map(|n| RData::NS(NS(name(n)))),
        any::<(u16, u8)>().prop_map(|(n, host)| RData::MX(MX::new(n, name(host)))),
        any::<(u16, u8)>().prop_map(|(n, host)| RData::SRV(SRV::new(n, n, n, name(host)))),
        any::<u8>().prop_map(|n| RData::SOA(SOA::new(name(n), name(n / 2), 1, 2, 3, 4, 5))),
        "[a-z]{0,40}".prop_map(|text| RData::TXT(TXT::new(vec![text]))),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let ttl = prop_oneof![0..200u32, Just(86_400)];
    (any::<u8>(), ttl, data()).prop_map(|(owner, ttl, data)| Record::from_rdata(name(owner), ttl, data))
}

/// An upstream's response to `www.zone0.test A`, as hickory compresses it.
fn response() -> impl Strategy<Value = Message> {
    let records = || proptest::collection::vec(record(), 0..8);
    (records(), records(), records()).prop_map(|(answers, authorities, additionals)| {
        let mut message = Message::response(9, OpCode::Query);
        message.add_query(Question::query(name(0), RecordType::A));
        message.answers = answers;
        message.authorities = authorities;
        message.additionals = additionals;
        message
    })
}

fn asked() -> (resolver::Question, Query) {
    let name = DnsName::parse("www.zone0.test").unwrap();
    let question = resolver::Question {
        name,
        rtype: 1,
        dnssec_ok: false,
        checking_disabled: false,
    };
    let mut message = Message::query();
    message.add_query(Question::query(
        Name::from_ascii("wWw.Zone0.tEst.").unwrap(),
        RecordType::A,
    ));
    (question, parse(&message.to_vec().unwrap()).unwrap())
}

fn aged(records: &[Record], by: u32) -> Vec<Record> {
    let aged = records.iter().map(|one| {
        let mut one = one.clone();
        one.ttl = one.ttl.saturating_sub(by);
        one
    });
    aged.collect()
}

proptest! {
    #[test]
    fn a_whole_answer_says_what_the_upstream_said(upstream in response(), age in 0..300u32) {
        let (question, query) = asked();
        let accepted = Answer::accept(&question, upstream.to_vec().unwrap(), Moment::default()).unwrap();
        let reply = whole(&accepted, &query, Age::Fresh(age), None);
        let reply = Message::from_vec(&reply).unwrap();
        prop_assert_eq!(reply.metadata.id, query.id);
        prop_assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        prop_assert_eq!(reply.queries[0].name().to_ascii(), "wWw.Zone0.tEst.");
        prop_assert_eq!(&reply.answers, &aged(&upstream.answers, age));
        prop_assert_eq!(&reply.authorities, &aged(&upstream.authorities, age));
        prop_assert!(reply.additionals.is_empty(), "glue is nobody's answer");
    }

    #[test]
    fn a_part_says_the_same_less_what_is_dropped(upstream in response(), drops: u16, stale: bool) {
        let (question, query) = asked();
        let accepted = Answer::accept(&question, upstream.to_vec().unwrap(), Moment::default()).unwrap();
        let dropped: Vec<u16> = (0..16).filter(|at| drops & (1 << at) != 0).collect();
        let share = Share { dropped: dropped.iter().copied().collect(), ..Share::default() };
        let age = if stale { Age::Stale } else { Age::Fresh(0) };
        let reply = Message::from_vec(&part(&accepted, &share, &query, age, None)).unwrap();
        let kept = |records: &[Record], from: usize| -> Vec<Record> {
            let kept = records.iter().enumerate().filter(|(at, _)| !dropped.contains(&((at + from) as u16)));
            let mut kept: Vec<Record> = kept.map(|(_, one)| one.clone()).collect();
            if stale {
                for one in &mut kept {
                    one.ttl = 30;
                }
            }
            kept
        };
        prop_assert_eq!(&reply.answers, &kept(&upstream.answers, 0));
        prop_assert_eq!(&reply.authorities, &kept(&upstream.authorities, upstream.answers.len()));
    }

    #[test]
    fn a_damaged_response_is_refused_or_written_without_a_panic(upstream in response(), at in 0usize..600, byte: u8) {
        let (question, query) = asked();
        let mut bytes = upstream.to_vec().unwrap();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        if let Ok(accepted) = Answer::accept(&question, bytes, Moment::default()) {
            let share = Share { dropped: [0].into_iter().collect(), ..Share::default() };
            prop_assert!(parse_header(&whole(&accepted, &query, Age::Fresh(1), None)));
            prop_assert!(parse_header(&part(&accepted, &share, &query, Age::Fresh(1), None)));
        }
    }
}

/// True for a response with one question; its records may be as odd as the upstream's.
fn parse_header(reply: &[u8]) -> bool {
    u16_at(reply, 2).is_some_and(|flags| flags & 0x8000 != 0) && u16_at(reply, 4) == Some(1)
}
