//! Block mode: what is let through, to where, and what is said otherwise.

use std::io::ErrorKind;
use std::time::Duration;

use rustls::AlertDescription;
use tidegate_policy::compile::rules::RuleRef;
use tidegate_policy::event::{Kind, NameSource};
use tidegate_policy::verdict::{Reason, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{POLICY, judged};
use crate::config::Egress;
use crate::testing::tls::{Site, server_name};
use crate::testing::{Bench, RUNNER, accept, in_net, is_reset, origin, read_all, read_exactly, read_page};

/// Nobody has dialled this origin.
async fn undialled(origin: &TcpListener) -> bool {
    tokio::time::timeout(Duration::ZERO, origin.accept())
        .await
        .is_err()
}

#[test]
fn tls_to_a_ticketed_address_is_relayed_and_recorded_with_its_bytes() {
    in_net(|| async {
        let (bench, site) = (Bench::new(POLICY), Site::ordinary(&["a.test"]));
        bench.ticket("a.test", "192.0.2.10");
        let listener = origin("192.0.2.10:443").await;
        let server = async {
            let mut tls = site.acceptor.accept(accept(&listener).await).await.unwrap();
            let mut got = [0; 4];
            tls.read_exact(&mut got).await.unwrap();
            tls.write_all(b"pong").await.unwrap();
            tls.shutdown().await.unwrap();
            got
        };
        let client = async {
            let stream = bench.connect("192.0.2.10:443").await;
            let mut tls = site
                .connector
                .connect(server_name("a.test"), stream)
                .await
                .unwrap();
            tls.write_all(b"ping").await.unwrap();
            let mut got = Vec::new();
            tls.read_to_end(&mut got).await.unwrap();
            got
        };
        let (asked, answered) = tokio::join!(server, client);
        assert_eq!((&asked, &answered[..]), (b"ping", &b"pong"[..]));
        let event = bench.events.nth(1).await;
        assert_eq!(judged(&event), (Kind::Tls, Verdict::Permit, None), "{event:?}");
        assert_eq!(event.name.unwrap().to_string(), "a.test");
        assert_eq!(event.rule.as_ref().map(RuleRef::text), Some("a.test:443"));
        assert!(
            event.bytes_up > 200 && event.bytes_down > 200,
            "{} {}",
            event.bytes_up,
            event.bytes_down
        );
        assert!(event.ja4.is_some_and(|ja4| ja4.starts_with("t13d")));
        assert!(bench.names.asked.lock().is_empty(), "a ticket needs no query");
    });
}

#[test]
fn a_refused_sni_is_told_by_the_alert_access_denied_and_nothing_is_dialled() {
    in_net(|| async {
        let (bench, site) = (Bench::new(POLICY), Site::ordinary(&["e.test"]));
        let listener = origin("192.0.2.66:443").await;
        let stream = bench.connect("192.0.2.66:443").await;
        let error = site
            .connector
            .connect(server_name("e.test"), stream)
            .await
            .unwrap_err();
        let alert = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        assert_eq!(
            alert,
            Some(&rustls::Error::AlertReceived(AlertDescription::AccessDenied)),
            "{error}"
        );
        let event = bench.events.nth(1).await;
        assert_eq!(
            judged(&event),
            (Kind::Tls, Verdict::Refuse, Some(Reason::NotAllowed)),
            "{event:?}"
        );
        assert_eq!(
            (event.name_source, event.subject.policy.as_deref()),
            (NameSource::Sni, Some("ci"))
        );
        assert!(undialled(&listener).await);
        assert!(
            bench.names.asked.lock().is_empty(),
            "a refused name is never asked for"
        );
    });
}

#[test]
fn t47_a_malformed_hello_is_told_by_decode_error() {
    in_net(|| async {
        let (bench, site) = (Bench::new(POLICY), Site::ordinary(&["a.test"]));
        bench.ticket("a.test", "192.0.2.10");
        let mut hello = site.hello("a.test");
        let at = hello.windows(6).position(|window| window == b"a.test").unwrap();
        // The name's own length lies.
        hello[at - 1] += 1;
        let mut stream = bench.connect("192.0.2.10:443").await;
        stream.write_all(&hello).await.unwrap();
        assert_eq!(read_all(&mut stream).await.unwrap(), [21, 3, 3, 0, 2, 2, 50]);
        let event = bench.events.nth(1).await;
        assert_eq!(
            judged(&event),
            (Kind::Tls, Verdict::Refuse, Some(Reason::MalformedTls)),
            "{event:?}"
        );
    });
}

#[test]
fn d23_an_allowed_sni_towards_a_foreign_address_reaches_the_names_own_address() {
    in_net(|| async {
        let (bench, site) = (Bench::new(POLICY), Site::ordinary(&["a.test"]));
        bench.resolves("a.test", &["2001:db8::10", "192.0.2.10"]);
        let (own, foreign) = (origin("192.0.2.10:443").await, origin("192.0.2.66:443").await);
        let mut stream = bench.connect("192.0.2.66:443").await;
        let hello = site.hello("a.test");
        stream.write_all(&hello).await.unwrap();
        let mut dialled = accept(&own).await;
        assert_eq!(
            read_exactly(&mut dialled, hello.len()).await,
            hello,
            "replayed unchanged"
        );
        assert!(undialled(&foreign).await);
        drop((stream, dialled));
        let event = bench.events.nth(1).await;
        assert_eq!(judged(&event), (Kind::Tls, Verdict::Permit, None), "{event:?}");
        assert_eq!(event.address, Some("192.0.2.10".parse().unwrap()));
        assert_eq!(event.original_address, Some("192.0.2.66".parse().unwrap()));
        assert_eq!(bench.names.asked.lock().as_slice(), ["a.test"]);
    });
}

#[test]
fn rfc_8305_a_dead_address_of_the_name_is_passed_over() {
    in_net(|| async {
        let (bench, site) = (Bench::new(POLICY), Site::ordinary(&["a.test"]));
        bench.resolves("a.test", &["192.0.2.9", "2001:db8::10"]);
        let alive = origin("[2001:db8::10]:443").await;
        let mut stream = bench.connect("192.0.2.66:443").await;
        stream.write_all(&site.hello("a.test")).await.unwrap();
        drop((accept(&alive).await, stream));
        assert_eq!(
            bench.events.nth(1).await.address,
            Some("2001:db8::10".parse().unwrap())
        );
    });
}

#[test]
fn a_resolved_address_that_is_refused_is_not_dialled() {
    in_net(|| async {
        let (bench, site) = (Bench::new(POLICY), Site::ordinary(&["a.test"]));
        bench.resolves("a.test", &["10.0.0.1"]);
        let mut stream = bench.connect("192.0.2.66:443").await;
        stream.write_all(&site.hello("a.test")).await.unwrap();
        assert_eq!(read_all(&mut stream).await.unwrap()[6], 49);
        let event = bench.events.nth(1).await;
        assert_eq!(
            judged(&event),
            (Kind::Tls, Verdict::Refuse, Some(Reason::Rebinding)),
            "{event:?}"
        );
    });
}

#[test]
fn an_allowed_name_that_does_not_resolve_is_refused() {
    in_net(|| async {
        let (bench, site) = (Bench::new(POLICY), Site::ordinary(&["a.test"]));
        let mut stream = bench.connect("192.0.2.66:443").await;
        stream.write_all(&site.hello("a.test")).await.unwrap();
        assert_eq!(read_all(&mut stream).await.unwrap()[6], 49);
        assert_eq!(bench.events.nth(1).await.reason, Some(Reason::ResolveFailed));
    });
}

#[test]
fn a_refused_request_gets_a_page_that_curl_can_show() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        for (accept, media) in [("*/*", "text/plain"), ("text/html", "text/html")] {
            let mut stream = bench.connect("192.0.2.66:80").await;
            let request = format!("GET / HTTP/1.1\r\nHost: e.test\r\nAccept: {accept}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let (head, body) = read_page(&mut stream).await;
            assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
            assert!(head.contains(media), "{head}");
            assert!(body.contains("e.test:80\n"), "{body}");
        }
        let event = bench.events.nth(1).await;
        assert_eq!(
            judged(&event),
            (Kind::Http, Verdict::Refuse, Some(Reason::NotAllowed)),
            "{event:?}"
        );
    });
}

#[test]
fn a_broken_request_gets_the_status_that_it_deserves() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        let mut stream = bench.connect("192.0.2.66:80").await;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: e.test\r\n\r\n")
            .await
            .unwrap();
        let page = read_all(&mut stream).await.unwrap();
        assert!(
            page.starts_with(b"HTTP/1.1 400 Bad Request\r\n"),
            "{}",
            String::from_utf8_lossy(&page)
        );
        assert_eq!(bench.events.nth(1).await.reason, Some(Reason::MalformedHttp));
    });
}

#[test]
fn an_unknown_protocol_on_a_web_port_is_reset() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        bench.ticket("a.test", "192.0.2.10");
        let mut stream = bench.connect("192.0.2.10:80").await;
        stream.write_all(b"\x01\x02\x03\x04").await.unwrap();
        assert!(is_reset(&mut stream).await);
        assert_eq!(bench.events.nth(1).await.reason, Some(Reason::UnknownProtocol));
    });
}

#[test]
fn l14_m01_never_dialled_addresses_are_reset_without_waiting_for_bytes() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &[], |config| config.timeouts.silence = Duration::MAX);
        for address in [
            "169.254.169.254:80",
            "127.0.0.1:443",
            "[::ffff:169.254.169.254]:80",
            "[fe80::1]:22",
        ] {
            let mut stream = bench.connect(address).await;
            assert!(is_reset(&mut stream).await, "{address}");
        }
        assert!(
            bench
                .events
                .all()
                .iter()
                .all(|event| event.reason == Some(Reason::NeverDial))
        );
        assert_eq!(bench.events.all().len(), 4);
    });
}

#[test]
fn a_permitted_origin_that_refuses_makes_a_reset_and_a_permit_with_a_note() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        bench.ticket("s.test", "192.0.2.22");
        let mut stream = bench.connect("192.0.2.22:22").await;
        assert!(is_reset(&mut stream).await);
        let event = bench.events.nth(1).await;
        assert_eq!(judged(&event), (Kind::Tcp, Verdict::Permit, None), "{event:?}");
        assert_eq!(event.note.as_deref(), Some("dial failed: refused"));
    });
}

#[test]
fn without_an_ipv6_upstream_ipv6_flows_are_reset_at_once() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        bench.proxy.set_ipv6_usable(false);
        bench.ticket("s.test", "2001:db8::22");
        let _listener = origin("[2001:db8::22]:22").await;
        let mut stream = bench.connect("[2001:db8::22]:22").await;
        assert!(is_reset(&mut stream).await);
    });
}

#[test]
fn d03_tcp_53_to_a_foreign_address_is_served_by_us() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        let mut stream = bench.connect("192.0.2.53:53").await;
        assert_eq!(read_all(&mut stream).await.unwrap(), b"served");
    });
}

#[test]
fn bytes_without_a_verdict_are_bounded_for_all_flows_together() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &[], |config| config.limits.detect_bytes = 8_192);
        let mut stream = bench.connect("192.0.2.66:443").await;
        stream
            .write_all(&[22, 3, 1, 0x40, 0, 1, 0, 0x60, 0])
            .await
            .unwrap();
        // More than the budget, less than a hello may have; the end of it meets a reset.
        let more = stream.write_all(&[0; 12_000]).await;
        assert!(more.is_err() || is_reset(&mut stream).await);
        assert_eq!(bench.events.nth(1).await.reason, Some(Reason::Limit));
        bench.open_flows(0).await;
        assert_eq!(bench.proxy.budget.used(), 0);
    });
}

#[test]
fn a_job_at_its_cap_is_refused_and_others_are_freed_by_ends() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &[], |config| config.limits.flows_per_job = 1);
        bench.ticket("s.test", "192.0.2.22");
        let listener = origin("192.0.2.22:22").await;
        let first = bench.connect("192.0.2.22:22").await;
        let served = accept(&listener).await;
        let mut second = bench.connect("192.0.2.22:22").await;
        assert!(is_reset(&mut second).await);
        assert_eq!(bench.events.nth(1).await.reason, Some(Reason::Limit));
        drop((first, served));
        bench.open_flows(0).await;
        let _third = bench.connect("192.0.2.22:22").await;
        accept(&listener).await;
    });
}

#[test]
fn a_client_that_resets_before_a_word_leaves_an_event() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        let stream = bench.connect("192.0.2.66:443").await;
        drop(crate::leg::Leg::new(crate::testing::stream(stream)));
        let event = bench.events.nth(1).await;
        assert_eq!(
            judged(&event),
            (Kind::Tcp, Verdict::Refuse, Some(Reason::NoName)),
            "{event:?}"
        );
        let mut stream = bench.connect("192.0.2.66:443").await;
        stream.shutdown().await.unwrap();
        assert_eq!(
            read_all(&mut stream).await.unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
    });
}

#[test]
fn dialled_connections_come_from_where_the_configuration_says() {
    in_net(|| async {
        let addresses = ["198.51.100.8", "198.51.100.9"]
            .map(|one| one.parse().unwrap())
            .to_vec();
        for (egress, sources) in [
            (Egress::Gateway, ["192.0.2.1", "192.0.2.1"]),
            (Egress::Preserve, [RUNNER, RUNNER]),
            (Egress::Addresses(addresses), ["198.51.100.8", "198.51.100.9"]),
        ] {
            let bench = Bench::with(POLICY, &[], |config| config.egress = egress);
            bench.ticket("s.test", "192.0.2.22");
            let listener = origin("192.0.2.22:22").await;
            for source in sources {
                let _runner = bench.connect("192.0.2.22:22").await;
                assert_eq!(
                    accept(&listener).await.peer_addr().unwrap().ip().to_string(),
                    source
                );
            }
        }
    });
}
