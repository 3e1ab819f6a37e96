//! Tests of what is kept of an upstream's message, and what makes one unusable.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NULL, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::*;

fn host(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn question(rtype: u16) -> Question {
    Question {
        name: DnsName::parse("www.a.test").unwrap(),
        rtype,
        dnssec_ok: false,
        checking_disabled: false,
    }
}

fn response(records: &[(&str, u32, RData)]) -> Message {
    let mut message = Message::response(1, OpCode::Query);
    message.add_query(Query::query(host("www.a.test."), RecordType::A));
    for (owner, ttl, data) in records {
        message.add_answer(Record::from_rdata(host(owner), *ttl, data.clone()));
    }
    message
}

fn accept(message: &Message) -> Result<Answer, Rejected> {
    Answer::accept(&question(rtype::A), message.to_vec().unwrap(), Moment::default())
}

fn alias(to: &str) -> RData {
    RData::CNAME(CNAME(host(to)))
}

fn address(last: u8) -> RData {
    RData::A(A::new(192, 0, 2, last))
}

fn names(names: &[DnsName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn the_chain_is_followed_in_order_whatever_the_order_of_records() {
    let answer = accept(&response(&[
        ("c.test.", 60, address(1)),
        ("b.test.", 60, alias("c.test.")),
        ("WWW.a.test.", 60, alias("b.test.")),
    ]));
    let answer = answer.unwrap();
    assert_eq!(names(&answer.aliases), ["b.test", "c.test"]);
    assert_eq!(answer.addresses.len(), 1);
    assert!(answer.strays.is_empty());
}

#[test]
fn records_outside_of_the_chain_are_strays_and_give_no_address() {
    let answer = accept(&response(&[
        ("www.a.test.", 60, address(1)),
        ("evil.test.", 60, address(66)),
    ]))
    .unwrap();
    assert_eq!(&*answer.strays, [1]);
    assert_eq!(answer.addresses.len(), 1);
}

#[test]
fn a_looping_chain_ends() {
    let answer = accept(&response(&[
        ("www.a.test.", 60, alias("b.test.")),
        ("b.test.", 60, alias("www.a.test.")),
    ]));
    assert_eq!(names(&answer.unwrap().aliases), ["b.test"]);
}

#[test]
fn rfc6672_a_dname_above_the_chain_is_no_stray() {
    let dname = RData::Unknown {
        code: RecordType::DNAME,
        rdata: NULL::with(b"\x01b\x04test\x00".to_vec()),
    };
    let answer = accept(&response(&[
        ("a.test.", 60, dname.clone()),
        ("www.a.test.", 60, alias("www.b.test.")),
        ("www.b.test.", 60, address(1)),
        ("other.test.", 60, dname),
    ]));
    assert_eq!(&*answer.unwrap().strays, [3]);
}

#[test]
fn the_smallest_ttl_counts_and_a_day_is_the_longest() {
    let life = |records: &[(&str, u32, RData)]| accept(&response(records)).unwrap().life.as_secs();
    assert_eq!(
        life(&[("www.a.test.", 40, alias("b.test.")), ("b.test.", 60, address(1))]),
        40
    );
    assert_eq!(life(&[("www.a.test.", 1_000_000, address(1))]), 86_400);
    assert_eq!(life(&[("www.a.test.", u32::MAX, address(1))]), 0, "RFC 2181 §8");
}

#[test]
fn rfc2308_5_negative_answers_live_by_their_soa_and_without_one_not_at_all() {
    let mut message = response(&[("www.a.test.", 40, alias("b.test."))]);
    message.metadata.response_code = ResponseCode::NXDomain;
    assert_eq!(accept(&message).unwrap().life.as_secs(), 0);
    let soa = |ttl, minimum| {
        let soa = SOA::new(host("ns.test."), host("ns.test."), 1, 2, 3, 4, minimum);
        Record::from_rdata(host("test."), ttl, RData::SOA(soa))
    };
    for (ttl, minimum, wanted) in [(30, 50, 30), (50, 20, 20), (90, 90, 40), (999_999, 999_999, 40)] {
        message.authorities = vec![soa(ttl, minimum)];
        assert_eq!(accept(&message).unwrap().life.as_secs(), wanted);
    }
}

#[test]
fn what_is_no_answer_is_rejected() {
    let good = response(&[("www.a.test.", 60, address(1))]);
    let mut other = good.clone();
    other.queries[0].set_name(host("b.test."));
    assert_eq!(accept(&other).unwrap_err(), Rejected::OtherQuestion);
    let other_type = Answer::accept(&question(rtype::AAAA), good.to_vec().unwrap(), Moment::default());
    assert_eq!(other_type.unwrap_err(), Rejected::OtherQuestion);
    let mut truncated = good.clone();
    truncated.metadata.truncation = true;
    assert_eq!(accept(&truncated).unwrap_err(), Rejected::Truncated);
    let mut failed = good.clone();
    failed.metadata.response_code = ResponseCode::ServFail;
    assert_eq!(accept(&failed).unwrap_err(), Rejected::Code(2));
    let mut query = good.to_vec().unwrap();
    query[2] &= 0x7f;
    let rejected = Answer::accept(&question(rtype::A), query, Moment::default());
    assert!(matches!(rejected, Err(Rejected::Malformed(_))));
}
