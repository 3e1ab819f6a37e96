//! Audit mode: nothing that would have worked without the gateway changes; everything is recorded.

use std::time::Duration;

use tidegate_policy::event::Kind;
use tidegate_policy::verdict::{Mode, Reason, Verdict};
use tokio::io::AsyncWriteExt;

use super::judged;
use crate::testing::tls::{Site, with_ech};
use crate::testing::{Bench, accept, in_net, is_reset, origin, read_all, read_exactly};

const POLICY: &str = "egress-policy: audit\nplatform: none\nallowed-endpoints: a.test:443 s.test:22\n";

/// Whatever is said to an origin that says nothing, it arrives unchanged.
async fn arrives(bench: &Bench, said: &[u8]) {
    let listener = origin("192.0.2.66:443").await;
    let mut stream = bench.connect("192.0.2.66:443").await;
    let mut server = accept(&listener).await;
    stream.write_all(said).await.unwrap();
    assert_eq!(read_exactly(&mut server, said.len()).await, said);
    server.write_all(b"answer").await.unwrap();
    drop(server);
    assert_eq!(read_all(&mut stream).await.unwrap(), b"answer");
}

#[test]
fn refused_names_odd_hellos_and_requests_arrive_unchanged_at_the_clients_own_address() {
    in_net(|| async {
        let (bench, site) = (Bench::new(POLICY), Site::ordinary(&["e.test"]));
        bench.resolves("a.test", &["192.0.2.10"]);
        let mut lying = site.hello("e.test");
        let at = lying.windows(6).position(|window| window == b"e.test").unwrap();
        lying[at - 1] += 1;
        let two_hosts = b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: e.test\r\n\r\n".to_vec();
        let wanted = [
            (
                site.hello("e.test"),
                Kind::Tls,
                Verdict::WouldRefuse,
                Some(Reason::NotAllowed),
            ),
            // Allowed, and block would dial another address; audit does not.
            (site.hello("a.test"), Kind::Tls, Verdict::Permit, None),
            (lying, Kind::Tls, Verdict::WouldRefuse, Some(Reason::MalformedTls)),
            (
                with_ech(&site.hello("e.test"), 1),
                Kind::Tls,
                Verdict::WouldRefuse,
                Some(Reason::NotAllowed),
            ),
            (
                two_hosts,
                Kind::Http,
                Verdict::WouldRefuse,
                Some(Reason::MalformedHttp),
            ),
            (
                b"\x01\x02\x03".to_vec(),
                Kind::Tcp,
                Verdict::WouldRefuse,
                Some(Reason::NoName),
            ),
        ];
        for (n, (said, kind, verdict, reason)) in wanted.into_iter().enumerate() {
            arrives(&bench, &said).await;
            let event = bench.events.nth(n + 1).await;
            assert_eq!(judged(&event), (kind, verdict, reason), "{event:?}");
            assert_eq!(
                (event.subject.mode, event.original_address),
                (Mode::Audit, None),
                "{event:?}"
            );
            assert_eq!(
                (event.bytes_up, event.bytes_down),
                (said.len() as u64, 6),
                "{event:?}"
            );
        }
    });
}

#[test]
fn begun_hellos_and_silence_are_not_waited_for() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &[], |config| {
            config.timeouts.silence = Duration::from_millis(20);
            config.timeouts.detect = Duration::from_millis(20);
        });
        let listener = origin("192.0.2.66:443").await;
        let mut stream = bench.connect("192.0.2.66:443").await;
        let mut server = accept(&listener).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        stream.write_all(&[22]).await.unwrap();
        assert_eq!(read_exactly(&mut server, 1).await, [22]);
        tokio::time::sleep(Duration::from_millis(60)).await;
        stream.write_all(&[3]).await.unwrap();
        assert_eq!(read_exactly(&mut server, 1).await, [3]);
        drop((stream, server));
        let event = bench.events.nth(1).await;
        assert_eq!(
            judged(&event),
            (Kind::Tls, Verdict::WouldRefuse, Some(Reason::MalformedTls)),
            "{event:?}"
        );
    });
}

#[test]
fn a_globally_blocked_sni_is_refused_and_its_hello_never_arrives_whole() {
    in_net(|| async {
        let (bench, site) = (
            Bench::with(POLICY, &["g.test"], |_| {}),
            Site::ordinary(&["g.test"]),
        );
        let listener = origin("192.0.2.66:443").await;
        let hello = site.hello("g.test");
        let mut stream = bench.connect("192.0.2.66:443").await;
        let mut server = accept(&listener).await;
        stream.write_all(&hello).await.unwrap();
        assert_eq!(read_all(&mut stream).await.unwrap(), [21, 3, 3, 0, 2, 2, 49]);
        assert!(is_reset(&mut server).await, "nothing arrived");
        let event = bench.events.nth(1).await;
        assert_eq!(
            judged(&event),
            (Kind::Tls, Verdict::Refuse, Some(Reason::GlobalBlock)),
            "{event:?}"
        );
    });
}

#[test]
fn an_address_whose_only_ticket_is_globally_blocked_is_judged_by_the_bytes() {
    in_net(|| async {
        let (bench, site) = (
            Bench::with(POLICY, &["g.test"], |_| {}),
            Site::ordinary(&["g.test"]),
        );
        bench.ticket("g.test", "192.0.2.66");
        let listener = origin("192.0.2.66:443").await;
        let mut blocked = bench.connect("192.0.2.66:443").await;
        blocked.write_all(&site.hello("g.test")).await.unwrap();
        assert_eq!(read_all(&mut blocked).await.unwrap()[6], 49);
        // Another name on the same address (a CDN's) is only observed.
        let hello = site.hello("e.test");
        let mut other = bench.connect("192.0.2.66:443").await;
        other.write_all(&hello).await.unwrap();
        assert_eq!(
            read_exactly(&mut accept(&listener).await, hello.len()).await,
            hello
        );
    });
}

#[test]
fn a_server_that_speaks_first_is_recorded_by_its_ticket_or_confirmed() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        bench.resolves("s.test", &["192.0.2.22"]);
        for (n, (address, verdict)) in [
            ("192.0.2.22:22", Verdict::Permit),
            ("192.0.2.23:22", Verdict::WouldRefuse),
        ]
        .into_iter()
        .enumerate()
        {
            let listener = origin(address).await;
            let mut stream = bench.connect(address).await;
            let mut server = accept(&listener).await;
            server.write_all(b"SSH-2.0-x\r\n").await.unwrap();
            assert_eq!(read_exactly(&mut stream, 11).await, b"SSH-2.0-x\r\n");
            drop((server, stream));
            let event = bench.events.nth(n + 1).await;
            assert_eq!((event.kind, event.verdict), (Kind::Tcp, verdict), "{event:?}");
        }
    });
}

#[test]
fn an_origin_that_refuses_makes_a_reset() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        let mut stream = bench.connect("192.0.2.66:443").await;
        assert!(is_reset(&mut stream).await);
        assert_eq!(
            bench.events.nth(1).await.note.as_deref(),
            Some("dial failed: refused")
        );
    });
}

#[test]
fn tcp_53_to_a_foreign_address_is_relayed_to_it() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        let mut stream = bench.connect("192.0.2.53:53").await;
        assert_eq!(read_exactly(&mut stream, 7).await, b"relayed");
        let mut never = bench.connect("169.254.169.254:53").await;
        assert!(
            is_reset(&mut never).await,
            "the never-dial set stands in audit too"
        );
    });
}

/// Invariant 5: what was held back until its first request showed another name is looked at further on.
#[test]
fn a_later_request_for_a_globally_blocked_host_is_refused_where_the_first_was_held_back() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &["e.test"], |_| {});
        bench.ticket("e.test", "192.0.2.66");
        let listener = origin("192.0.2.66:80").await;
        let mut stream = bench.connect("192.0.2.66:80").await;
        let first = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        stream.write_all(first).await.unwrap();
        let mut server = accept(&listener).await;
        assert_eq!(read_exactly(&mut server, first.len()).await, first);
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: e.test\r\n\r\n")
            .await
            .unwrap();
        let rest = read_all(&mut server).await;
        assert!(rest.as_ref().map_or(true, Vec::is_empty), "{rest:?}");
        let events = [bench.events.nth(1).await, bench.events.nth(2).await];
        assert!(
            events
                .iter()
                .any(|event| judged(event) == (Kind::Http, Verdict::Refuse, Some(Reason::GlobalBlock))),
            "{events:?}"
        );
    });
}
