//! Shows what a zone answers, without any socket.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use hickory_proto::op::Query;

fn zone(names: &[(&str, &[&str])]) -> Zone {
    let mut zone = Zone::default();
    for (name, records) in names {
        zone.set(name, records).unwrap();
    }
    zone
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    query
}

fn answer(zone: &Zone, query: &Message) -> (Message, bool) {
    let answer = zone.answer(query);
    let Answer::Message { message, stream_only } = answer else {
        panic!("expected a message, not {answer:?}");
    };
    (*message, stream_only)
}

fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn every_kind_of_record_is_read_from_text() {
    let lines = [
        "A 192.0.2.1",
        "AAAA 2001:db8::1",
        "300 CNAME other.test.",
        "TXT \"two words\" more",
        "SRV 1 2 443 target.test.",
        "MX 10 mail.test.",
        "PTR name.test.",
        "HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1 ech=AEX+DQBB",
        "SVCB 1 target.test. alpn=dot port=853",
        "CAA 0 issue \"ca.test\"",
        "TYPE65280 \\# 00 ff 10",
    ];
    for line in lines {
        let mut zone = Zone::default();
        zone.set("x.test", &[line])
            .unwrap_or_else(|error| panic!("{line}: {error:?}"));
        let (reply, _) = answer(&zone, &query("x.test.", RecordType::ANY));
        assert_eq!(reply.answers.len(), 1, "{line}");
        let bytes = reply.to_vec().unwrap();
        assert_eq!(Message::from_vec(&bytes).unwrap().answers.len(), 1, "{line}");
    }
    for wrong in ["A", "A 1.2.3", "60 A", "NOPE x", "A \\# 00", "TYPE1 \\# 0"] {
        let error = Zone::default().set("x.test", &[wrong]).unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
    }
}

#[test]
fn chains_are_followed_and_end_in_the_right_negative() {
    let zone = zone(&[
        ("a.test", &["CNAME b.test."]),
        ("b.test", &["CNAME c.test."]),
        ("c.test", &["A 192.0.2.1"]),
        ("dangling.test", &["CNAME nowhere.test."]),
        ("loop.test", &["CNAME loop.test."]),
    ]);
    let (reply, _) = answer(&zone, &query("a.test.", RecordType::A));
    assert_eq!(texts(&reply.answers), ["b.test.", "c.test.", "192.0.2.1"]);
    let (reply, _) = answer(&zone, &query("a.test.", RecordType::AAAA));
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert_eq!((reply.answers.len(), reply.authorities.len()), (2, 1));
    let (reply, _) = answer(&zone, &query("dangling.test.", RecordType::A));
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    let (reply, _) = answer(&zone, &query("loop.test.", RecordType::A));
    assert_eq!(reply.answers.len(), CHAIN);
}

#[test]
fn names_between_exist_and_wildcards_answer_below() {
    let zone = zone(&[("x.y.test", &["A 192.0.2.1"]), ("*.w.test", &["A 192.0.2.2"])]);
    let (reply, _) = answer(&zone, &query("y.test.", RecordType::A));
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    let (reply, _) = answer(&zone, &query("a.b.W.test.", RecordType::A));
    assert_eq!(reply.answers[0].name.to_ascii(), "a.b.W.test.");
    let (reply, _) = answer(&zone, &query("z.test.", RecordType::A));
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(reply.authorities[0].name.to_ascii(), "test.");
}

#[test]
fn rrsig_comes_only_with_do() {
    let mut zone = zone(&[("s.test", &["A 192.0.2.1"])]);
    zone.sign("s.test");
    let mut query = query("s.test.", RecordType::A);
    assert_eq!(answer(&zone, &query).0.answers.len(), 1);
    let mut edns = Edns::new();
    edns.set_dnssec_ok(true);
    query.set_edns(edns);
    let (reply, _) = answer(&zone, &query);
    assert_eq!(reply.answers[1].record_type(), RecordType::RRSIG);
    assert!(reply.edns.unwrap().flags().dnssec_ok);
}

#[test]
fn udp_answers_over_the_limit_are_truncated() {
    let many: Vec<_> = (0..100).map(|n| format!("A 192.0.2.{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let zone = zone(&[("big.test", &many)]);
    let query = query("big.test.", RecordType::A);
    let (reply, stream_only) = answer(&zone, &query);
    let size = |transport| encode(&reply, transport, stream_only, &query).unwrap();
    let udp = Message::from_vec(&size(Transport::Udp)).unwrap();
    assert!(udp.metadata.truncation && udp.answers.is_empty());
    let tcp = Message::from_vec(&size(Transport::Tcp)).unwrap();
    assert_eq!(tcp.answers.len(), 100);
}

#[test]
fn behaviours_replace_the_records() {
    let mut zone = zone(&[("x.test", &["A 192.0.2.1"])]);
    let query = query("x.test.", RecordType::A);
    let codes = [
        (Behaviour::NxDomain, ResponseCode::NXDomain),
        (Behaviour::ServFail, ResponseCode::ServFail),
        (Behaviour::Refused, ResponseCode::Refused),
    ];
    for (behaviour, code) in codes {
        zone.behave("X.test.", behaviour);
        let (reply, _) = answer(&zone, &query);
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (code, 0));
    }
    zone.behave("x.test", Behaviour::Silence);
    assert!(matches!(zone.answer(&query), Answer::Silence));
    zone.behave("x.test", Behaviour::Raw(vec![0, 0, 9]));
    let Answer::Raw(bytes) = zone.answer(&query) else {
        panic!("expected raw bytes");
    };
    assert_eq!(with_id(bytes, 0x1234), [0x12, 0x34, 9]);
    zone.behave("x.test", Behaviour::TruncateUdp);
    let (reply, stream_only) = answer(&zone, &query);
    let cut = encode(&reply, Transport::Udp, stream_only, &query).unwrap();
    assert!(Message::from_vec(&cut).unwrap().metadata.truncation);
}
