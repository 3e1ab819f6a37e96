//! Cache, coalescing, upstreams: what the resolver promises, by RFC where there is one.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tidegate_dns::resolver::{Asked, ResolveError, Timing};
use tidegate_dns::{Client, Transport};
use tidegate_policy::judge::permit::QueryPermit;
use tidegate_policy::judge::query::{QueryAction, judge_query, rtype};

use crate::support::{Bench, Setup, block, client, data, extended_error, name, query, quick};
use crate::upstream::{Behaviour, Upstream, eventually};

/// The permit for an allowed name; only policy makes one.
fn permit(bench: &Bench, asked: &str) -> QueryPermit {
    let tickets = bench.subject.tickets();
    let ruling = judge_query(
        &bench.subject.rulebook(),
        &name(asked),
        rtype::A,
        tickets,
        bench.now(),
    );
    let QueryAction::Resolve(permit) = ruling.action else {
        panic!("{asked} is refused")
    };
    permit
}

async fn start() -> Bench {
    let bench = Setup::new(block("*.test:443")).start().await;
    bench.upstream.set("a.test", &["100 A 192.0.2.1"]);
    bench
}

#[tokio::test]
async fn ttls_age_in_the_cache_and_the_answer_ends_with_them() {
    let bench = start().await;
    bench.upstream.set("c.test", &["40 CNAME d.test."]);
    bench.upstream.set("d.test", &["100 A 192.0.2.1"]);
    let ttls =
        |answer: hickory_proto::op::Message| answer.answers.iter().map(|one| one.ttl).collect::<Vec<_>>();
    assert_eq!(ttls(bench.ask("c.test.", RecordType::A).await), [40, 100]);
    bench.pass(Duration::from_secs(39));
    assert_eq!(ttls(bench.ask("c.test.", RecordType::A).await), [1, 61]);
    assert_eq!(bench.upstream.asked("c.test").len(), 1);
    bench.pass(Duration::from_secs(1));
    assert_eq!(ttls(bench.ask("c.test.", RecordType::A).await), [40, 100]);
    assert_eq!(bench.upstream.asked("c.test").len(), 2);
}

#[tokio::test]
async fn rfc2308_5_negative_answers_live_as_long_as_their_soa_says() {
    let bench = start().await;
    bench.upstream.set("txt.test", &["TXT x"]);
    for (asked, code) in [
        ("none.test.", ResponseCode::NXDomain),
        ("txt.test.", ResponseCode::NoError),
    ] {
        let answer = bench.ask(asked, RecordType::A).await;
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (code, 0));
        assert_eq!(answer.authorities[0].ttl, 120);
        // The SOA's TTL is 120, its minimum 60.
        bench.pass(Duration::from_secs(59));
        bench.ask(asked, RecordType::A).await;
        assert_eq!(bench.upstream.asked(asked.trim_end_matches('.')).len(), 1);
        bench.pass(Duration::from_secs(1));
        bench.ask(asked, RecordType::A).await;
        assert_eq!(bench.upstream.asked(asked.trim_end_matches('.')).len(), 2);
    }
}

#[tokio::test]
async fn a_ttl_of_zero_is_not_cached() {
    let bench = start().await;
    bench.upstream.set("zero.test", &["0 A 192.0.2.1"]);
    bench.assert_answered("zero.test.").await;
    bench.assert_answered("zero.test.").await;
    assert_eq!(bench.upstream.asked("zero.test").len(), 2);
}

#[tokio::test]
async fn identical_questions_in_flight_share_one_upstream_query() {
    let bench = Arc::new(start().await);
    bench.upstream.hold();
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { data(&bench.ask("a.test.", RecordType::A).await) })
        })
        .collect();
    eventually("the query", || {
        (!bench.upstream.asked("a.test").is_empty()).then_some(())
    })
    .await;
    bench.upstream.release();
    for one in clients {
        assert_eq!(one.await.unwrap(), ["192.0.2.1"]);
    }
    assert_eq!(bench.upstream.asked("a.test").len(), 1);
    assert_eq!(bench.events().len(), 50, "one event each");
}

#[tokio::test]
async fn a_flight_outlives_the_client_that_began_it() {
    let bench = Arc::new(start().await);
    bench.upstream.hold();
    let first = {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { bench.ask("a.test.", RecordType::A).await })
    };
    eventually("the query", || {
        (!bench.upstream.asked("a.test").is_empty()).then_some(())
    })
    .await;
    let second = {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { bench.ask("a.test.", RecordType::A).await })
    };
    first.abort();
    bench.upstream.release();
    assert_eq!(data(&second.await.unwrap()), ["192.0.2.1"]);
    assert_eq!(bench.upstream.asked("a.test").len(), 1);
}

#[tokio::test]
async fn rfc8767_a_failing_upstream_is_covered_by_stale_answers() {
    let bench = start().await;
    bench.assert_answered("a.test.").await;
    bench.upstream.set_down(true);
    bench.pass(Duration::from_secs(101));
    let answer = bench.assert_answered("a.test.").await;
    assert_eq!(answer.answers[0].ttl, 30);
    assert_eq!(extended_error(&answer).unwrap().0, 3);
    assert!(bench.holds("a.test", "192.0.2.1"));
    // RFC 8767 §5: the failure is remembered; the upstream is left alone for a while.
    let asked = bench.upstream.asked("a.test").len();
    bench.assert_answered("a.test.").await;
    assert_eq!(bench.upstream.asked("a.test").len(), asked);
    // Past the bound of serve-stale there is nothing left.
    bench.pass(Duration::from_hours(24));
    let answer = bench.ask("a.test.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn rfc8767_5_a_slow_upstream_is_covered_too_and_its_late_answer_refreshes_the_cache() {
    let mut setup = Setup::new(block("*.test:443"));
    setup.resolver.timing = Timing {
        per_try: Duration::from_secs(5),
        total: Duration::from_secs(8),
        ..quick()
    };
    let bench = setup.start().await;
    bench.upstream.set("a.test", &["100 A 192.0.2.1"]);
    bench.assert_answered("a.test.").await;
    bench.pass(Duration::from_secs(101));
    bench.upstream.set("a.test", &["100 A 192.0.2.2"]);
    bench.upstream.hold();
    assert_eq!(data(&bench.assert_answered("a.test.").await), ["192.0.2.1"]);
    bench.upstream.release();
    let permit = permit(&bench, "a.test");
    let found = eventually("the refreshed answer", || {
        bench.resolver.cached(&permit, Asked::plain(rtype::A))
    })
    .await;
    assert!(!found.stale);
    assert_eq!(data(&bench.assert_answered("a.test.").await), ["192.0.2.2"]);
}

#[tokio::test]
async fn rfc9520_failures_are_remembered_for_seconds() {
    let bench = start().await;
    bench
        .upstream
        .behave("bad.test", Behaviour::Code(ResponseCode::ServFail));
    for _ in 0..5 {
        let answer = bench.ask("bad.test.", RecordType::A).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        assert!(extended_error(&answer).is_some());
    }
    assert_eq!(bench.upstream.asked("bad.test").len(), 1);
    bench.upstream.behave("bad.test", Behaviour::Answer);
    bench.upstream.set("bad.test", &["A 192.0.2.1"]);
    bench.pass(Duration::from_secs(5));
    bench.assert_answered("bad.test.").await;
}

#[tokio::test]
async fn the_next_upstream_is_asked_at_once_when_one_fails() {
    for behaviour in [
        Behaviour::Code(ResponseCode::ServFail),
        Behaviour::Code(ResponseCode::Refused),
    ] {
        let second = Upstream::start().await;
        second.set("a.test", &["A 192.0.2.2"]);
        let mut setup = Setup::new(block("*.test:443"));
        setup.resolver.timing = Timing {
            hedge: Duration::from_mins(1),
            total: Duration::from_secs(90),
            ..quick()
        };
        setup.resolver.upstreams = vec![second.address.to_string().parse().unwrap()];
        let bench = setup.start().await;
        bench.upstream.behave("a.test", behaviour);
        assert_eq!(data(&bench.assert_answered("a.test.").await), ["192.0.2.2"]);
        assert!(
            bench.resolver.upstreams().iter().all(|one| one.healthy),
            "a broken zone is nobody's fault"
        );
    }
}

#[tokio::test]
async fn a_dead_upstream_is_penalised_and_comes_back_by_a_probe() {
    let second = Upstream::start().await;
    let mut setup = Setup::new(block("*.test:443"));
    setup.resolver.upstreams = vec![second.address.to_string().parse().unwrap()];
    setup.resolver.timing.hedge = Duration::from_millis(100);
    let bench = setup.start().await;
    for n in 0..40 {
        for upstream in [&bench.upstream, &second] {
            upstream.set(&format!("n{n}.test"), &["A 192.0.2.1"]);
        }
    }
    bench.upstream.set_down(true);
    for n in 0..10 {
        bench.assert_answered(&format!("n{n}.test.")).await;
    }
    eventually("the penalty", || {
        (!bench.resolver.upstreams()[0].healthy).then_some(())
    })
    .await;
    let before = bench.upstream.log().len();
    for n in 10..20 {
        bench.assert_answered(&format!("n{n}.test.")).await;
    }
    assert_eq!(bench.upstream.log().len(), before, "left alone while penalised");
    bench.upstream.set_down(false);
    bench.pass(Duration::from_secs(31));
    bench.assert_answered("n20.test.").await;
    eventually("the probe", || {
        bench.resolver.upstreams()[0].healthy.then_some(())
    })
    .await;
    let before = second.log().len();
    bench.assert_answered("n21.test.").await;
    assert_eq!(second.log().len(), before, "the first is first again");
}

#[tokio::test]
async fn the_longest_forward_zone_wins() {
    let (corp, deep) = (Upstream::start().await, Upstream::start().await);
    let spec = |upstream: &Upstream| vec![upstream.address.to_string().parse().unwrap()];
    let mut setup = Setup::new(block("*.test:443 corp.test:443"));
    setup.resolver.forward = vec![
        (name("corp.test"), spec(&corp)),
        (name("deep.corp.test"), spec(&deep)),
    ];
    let bench = setup.start().await;
    for upstream in [&bench.upstream, &corp, &deep] {
        for asked in [
            "a.test",
            "corp.test",
            "x.corp.test",
            "y.deep.corp.test",
            "xcorp.test",
        ] {
            upstream.set(asked, &["A 192.0.2.1"]);
        }
    }
    for asked in [
        "a.test.",
        "corp.test.",
        "x.corp.test.",
        "y.deep.corp.test.",
        "xcorp.test.",
    ] {
        bench.assert_answered(asked).await;
    }
    let names = |upstream: &Upstream| {
        upstream
            .log()
            .iter()
            .map(crate::upstream::Seen::name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&corp), ["corp.test.", "x.corp.test."]);
    assert_eq!(names(&deep), ["y.deep.corp.test."]);
    assert_eq!(names(&bench.upstream), ["a.test.", "xcorp.test."]);
}

#[tokio::test]
async fn rfc7766_5_a_truncated_response_is_asked_for_again_over_tcp() {
    let bench = start().await;
    bench.upstream.behave("a.test", Behaviour::TruncateUdp);
    bench.assert_answered("a.test.").await;
    let asked = bench.upstream.asked("a.test");
    assert_eq!(
        asked.iter().map(|seen| seen.tcp).collect::<Vec<_>>(),
        [false, true]
    );
}

#[tokio::test]
async fn a_server_that_folds_the_casing_is_asked_again_over_tcp() {
    let bench = start().await;
    bench.upstream.set("quitealongname.test", &["A 192.0.2.1"]);
    bench.upstream.behave("quitealongname.test", Behaviour::LowerCase);
    bench.assert_answered("quitealongname.test.").await;
    assert!(bench.upstream.log().last().unwrap().tcp);
    assert!(bench.resolver.upstreams()[0].healthy);
}

#[tokio::test]
async fn a_tcp_connection_is_used_again_and_replaced_when_it_was_closed() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::new(block("*.test:443"));
    setup.resolver.upstreams = vec![format!("tcp://{}", upstream.address).parse().unwrap()];
    let first = Upstream::start().await;
    first.set_down(true);
    let bench = setup.before(first);
    for asked in ["a.test", "b.test", "c.test"] {
        upstream.set(asked, &["A 192.0.2.1"]);
        bench.assert_answered(&format!("{asked}.")).await;
    }
    let ports = || {
        upstream
            .log()
            .iter()
            .map(|seen| seen.source.port())
            .collect::<std::collections::HashSet<_>>()
    };
    assert_eq!(ports().len(), 1, "one connection");
    upstream.close_connections();
    upstream.set("d.test", &["A 192.0.2.1"]);
    bench.assert_answered("d.test.").await;
    assert_eq!(ports().len(), 2);
}

#[tokio::test]
async fn every_datagram_has_a_port_and_an_id_and_a_casing_of_its_own() {
    let bench = start().await;
    let names: Vec<String> = (0..20).map(|n| format!("quitealongname{n}.test")).collect();
    for asked in &names {
        bench.upstream.set(asked, &["A 192.0.2.1"]);
        bench.assert_answered(&format!("{asked}.")).await;
    }
    let log = bench.upstream.log();
    let distinct = |of: &dyn Fn(&crate::upstream::Seen) -> u16| {
        log.iter().map(of).collect::<std::collections::HashSet<_>>().len()
    };
    assert!(distinct(&|seen| seen.source.port()) > 15);
    assert!(distinct(&|seen| seen.message.metadata.id) > 15);
    let mixed = log
        .iter()
        .filter(|seen| seen.message.queries[0].name().to_ascii() != seen.name())
        .count();
    assert!(mixed > 15, "0x20: {mixed} of 20");
}

#[tokio::test]
async fn responses_to_other_questions_or_with_nonsense_are_no_answers() {
    let bench = start().await;
    bench.upstream.set("other.test", &["A 192.0.2.66"]);
    for behaviour in [
        Behaviour::OtherQuestion,
        Behaviour::Raw(vec![0x81, 0x80, 0, 1]),
        Behaviour::Raw(vec![0xff; 40]),
    ] {
        bench.upstream.behave("a.test", behaviour);
        let answer = bench.ask("a.test.", RecordType::A).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        bench.pass(Duration::from_mins(1));
    }
    assert!(!bench.holds("a.test", "192.0.2.66"));
}

#[tokio::test]
async fn the_cache_is_bounded_in_bytes_and_serves_on_at_its_bound() {
    let mut setup = Setup::new(block("*.test:443"));
    setup.cache_bytes = 64 << 10;
    setup.config.budget.burst = u32::MAX;
    let bench = setup.start().await;
    let long = "x".repeat(200);
    for n in 0..600 {
        let asked = format!("n{n}.test");
        bench
            .upstream
            .set(&asked, &["A 192.0.2.1", &format!("TXT {long}")]);
        bench.assert_answered(&format!("{asked}.")).await;
        assert!(
            bench.resolver.cache_bytes() <= 64 << 10,
            "{}",
            bench.resolver.cache_bytes()
        );
    }
    assert!(bench.resolver.cache_entries() < 600);
    assert!(bench.resolver.cache_entries() > 20);
}

#[tokio::test]
async fn reconfiguring_keeps_the_cache_and_changes_upstreams() {
    let bench = start().await;
    bench.assert_answered("a.test.").await;
    let other = Upstream::start().await;
    other.set("b.test", &["A 192.0.2.7"]);
    let config = tidegate_dns::ResolverConfig {
        upstreams: vec![other.address.to_string().parse().unwrap()],
        timing: quick(),
        ..tidegate_dns::ResolverConfig::default()
    };
    bench.resolver.reconfigure(&config);
    bench.assert_answered("a.test.").await;
    assert!(other.asked("a.test").is_empty());
    assert_eq!(data(&bench.assert_answered("b.test.").await), ["192.0.2.7"]);
    assert!(bench.upstream.asked("b.test").is_empty());
}

#[tokio::test]
async fn no_upstream_at_all_is_servfail_with_a_reason() {
    let bench = start().await;
    bench
        .resolver
        .reconfigure(&tidegate_dns::ResolverConfig::default());
    let answer = bench.ask("new.test.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(extended_error(&answer).unwrap().0, 22);
}

#[tokio::test]
async fn addresses_for_flows_come_from_the_same_cache_unfiltered() {
    let bench = start().await;
    bench.upstream.set("f.test", &["CNAME g.test."]);
    bench
        .upstream
        .set("g.test", &["50 A 192.0.2.1", "A 10.0.0.1", "AAAA 2001:db8::1"]);
    let wanted_permit = permit(&bench, "f.test");
    let all = bench
        .resolver
        .addresses(&wanted_permit, true, true)
        .await
        .unwrap();
    let wanted: Vec<std::net::IpAddr> = ["192.0.2.1", "10.0.0.1", "2001:db8::1"]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    assert_eq!((all.addresses, all.chain), (wanted, vec![name("g.test")]));
    assert_eq!(all.ttl, Duration::from_secs(50));
    let v4 = bench
        .resolver
        .addresses(&wanted_permit, true, false)
        .await
        .unwrap();
    assert_eq!(v4.addresses.len(), 2);
    assert_eq!(bench.upstream.log().len(), 2, "one query a family");
    bench.upstream.set_down(true);
    let gone = permit(&bench, "gone.test");
    assert_eq!(
        bench.resolver.addresses(&gone, true, true).await,
        Err(ResolveError::Timeout)
    );
}

#[tokio::test]
async fn a_job_that_left_does_not_stop_another_ones_answer() {
    let mut setup = Setup::new(block("a.test:443"));
    setup.others = vec![("127.0.0.9", block("a.test:443"))];
    let bench = setup.start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    let other = Client {
        source: "127.0.0.9:1".parse().unwrap(),
        ..client(Transport::Udp)
    };
    bench.assert_answered("a.test.").await;
    let answer = bench.send_as(&query("a.test.", RecordType::A), &other).await;
    assert_eq!(data(&answer), ["192.0.2.1"]);
    assert_eq!(bench.upstream.asked("a.test").len(), 1, "the cache is shared");
}
