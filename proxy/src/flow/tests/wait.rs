//! Waiting for first bytes: silence, late bytes, servers that speak first (evasion T66).

use std::io::Write as _;
use std::time::Duration;

use tidegate_policy::event::{Kind, NameSource};
use tidegate_policy::verdict::{Reason, Verdict};
use tokio::io::AsyncWriteExt;

use socket2::SockRef;
use tidegate_policy::endpoint::Transport;

use super::super::first;
use super::{POLICY, judged};
use crate::address::{ClientAddr, OriginalDst};
use crate::config::ProxyConfig;
use crate::context::FlowContext;
use crate::leg::Leg;
use crate::stream::{Stream, set_up};
use crate::testing::tls::Site;
use crate::testing::{Bench, RUNNER, accept, in_net, is_reset, origin, read_all, read_exactly};

const SHORT: Duration = Duration::from_millis(60);

fn impatient(config: &mut ProxyConfig) {
    config.timeouts.silence = SHORT;
    config.timeouts.detect = SHORT;
    config.timeouts.confirm_after = Duration::from_millis(5);
}

#[test]
fn silence_is_refused_where_no_server_may_speak_first() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &[], impatient);
        let mut stream = bench.connect("192.0.2.66:443").await;
        assert!(is_reset(&mut stream).await);
        let event = bench.events.nth(1).await;
        assert_eq!(
            judged(&event),
            (Kind::Tcp, Verdict::Refuse, Some(Reason::Silent)),
            "{event:?}"
        );
    });
}

#[test]
fn a_begun_hello_that_never_ends_is_refused_even_on_a_ticketed_address() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &[], impatient);
        bench.ticket("a.test", "192.0.2.10");
        let _listener = origin("192.0.2.10:443").await;
        let mut stream = bench.connect("192.0.2.10:443").await;
        stream.write_all(&[22]).await.unwrap();
        let alert = read_all(&mut stream).await.unwrap();
        assert_eq!((alert[0], alert[6]), (21, 49));
        let event = bench.events.nth(1).await;
        assert_eq!(
            judged(&event),
            (Kind::Tls, Verdict::Refuse, Some(Reason::DetectTimeout)),
            "{event:?}"
        );
    });
}

#[test]
fn t66_bytes_after_long_silence_on_a_ticketed_address_are_judged_all_the_same() {
    in_net(|| async {
        let (bench, site) = (Bench::with(POLICY, &[], impatient), Site::ordinary(&["e.test"]));
        bench.ticket("a.test", "192.0.2.10");
        let listener = origin("192.0.2.10:443").await;
        for late in [
            site.hello("e.test"),
            b"GET / HTTP/1.1\r\nHost: e.test\r\nConnection: close\r\n\r\n".to_vec(),
        ] {
            let mut stream = bench.connect("192.0.2.10:443").await;
            let mut dialled = accept(&listener).await;
            tokio::time::sleep(2 * SHORT).await;
            stream.write_all(&late).await.unwrap();
            assert!(
                !read_all(&mut stream).await.unwrap().is_empty(),
                "it is explained"
            );
            assert!(is_reset(&mut dialled).await, "nothing of it reached the origin");
        }
        for n in [1, 2] {
            assert_eq!(bench.events.nth(n).await.reason, Some(Reason::NotAllowed));
        }
    });
}

#[test]
fn t66_an_allowed_hello_after_long_silence_is_relayed_over_the_early_connection() {
    in_net(|| async {
        let (bench, site) = (Bench::with(POLICY, &[], impatient), Site::ordinary(&["a.test"]));
        bench.ticket("a.test", "192.0.2.10");
        let listener = origin("192.0.2.10:443").await;
        let mut stream = bench.connect("192.0.2.10:443").await;
        let mut dialled = accept(&listener).await;
        tokio::time::sleep(2 * SHORT).await;
        let hello = site.hello("a.test");
        stream.write_all(&hello).await.unwrap();
        assert_eq!(read_exactly(&mut dialled, hello.len()).await, hello);
    });
}

#[test]
fn a_server_that_speaks_first_is_heard_and_makes_the_flow_opaque() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &[], impatient);
        bench.ticket("s.test", "192.0.2.22");
        let listener = origin("192.0.2.22:22").await;
        let mut stream = bench.connect("192.0.2.22:22").await;
        let mut server = accept(&listener).await;
        server.write_all(b"SSH-2.0-x\r\n").await.unwrap();
        assert_eq!(read_exactly(&mut stream, 11).await, b"SSH-2.0-x\r\n");
        // From here on nothing is detected: STARTTLS and whatever else follows is the flow's own.
        stream.write_all(b"SSH-2.0-y\r\n\x16\x03\x01").await.unwrap();
        assert_eq!(read_exactly(&mut server, 14).await, b"SSH-2.0-y\r\n\x16\x03\x01");
        drop((stream, server));
        let event = bench.events.nth(1).await;
        assert_eq!(judged(&event), (Kind::Tcp, Verdict::Permit, None), "{event:?}");
        assert_eq!(
            (event.name.unwrap().to_string().as_str(), event.name_source),
            ("s.test", NameSource::Ticket)
        );
        assert_eq!((event.bytes_up, event.bytes_down), (14, 11));
    });
}

#[test]
fn an_address_that_an_exact_name_now_has_is_confirmed_for_a_silent_client() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &[], impatient);
        bench.resolves("s.test", &["192.0.2.22"]);
        let listener = origin("192.0.2.22:22").await;
        let mut stream = bench.connect("192.0.2.22:22").await;
        let mut server = accept(&listener).await;
        server.write_all(b"hello").await.unwrap();
        assert_eq!(read_exactly(&mut stream, 5).await, b"hello");
        drop((stream, server));
        let event = bench.events.nth(1).await;
        assert_eq!(judged(&event), (Kind::Tcp, Verdict::Permit, None), "{event:?}");
        assert_eq!(event.name.unwrap().to_string(), "s.test");
    });
}

#[test]
fn an_address_that_no_exact_name_has_is_refused() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &[], impatient);
        bench.resolves("s.test", &["192.0.2.23"]);
        for said in [&b""[..], b"\x01\x02\x03"] {
            let mut stream = bench.connect("192.0.2.22:22").await;
            stream.write_all(said).await.unwrap();
            assert!(is_reset(&mut stream).await);
        }
        let reasons: Vec<_> = bench.events.all().iter().map(|event| event.reason).collect();
        assert_eq!(reasons, [Some(Reason::Silent), Some(Reason::NoName)]);
    });
}

#[test]
fn a_client_that_only_listens_gets_what_the_server_says() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &[], impatient);
        bench.ticket("s.test", "192.0.2.22");
        let listener = origin("192.0.2.22:22").await;
        let mut stream = bench.connect("192.0.2.22:22").await;
        stream.shutdown().await.unwrap();
        let mut server = accept(&listener).await;
        server.write_all(b"daytime").await.unwrap();
        drop(server);
        assert_eq!(read_all(&mut stream).await.unwrap(), b"daytime");
    });
}

#[test]
fn a_late_request_to_a_covered_address_is_still_held_to_the_global_block_list() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &["e.test"], impatient);
        let listener = origin("198.51.100.7:7000").await;
        // One byte that could begin a request: after the timeout the covered address gets it.
        let mut stream = bench.connect("198.51.100.7:7000").await;
        stream.write_all(b"G").await.unwrap();
        let mut server = accept(&listener).await;
        assert_eq!(read_exactly(&mut server, 1).await, b"G");
        stream
            .write_all(b"ET / HTTP/1.1\r\nHost: e.test\r\n\r\n")
            .await
            .unwrap();
        assert!(is_reset(&mut server).await, "and nothing more");
        assert!(read_all(&mut stream).await.unwrap().starts_with(b"HTTP/1.1 403"));
        let reasons: Vec<_> = bench.events.all().iter().map(|event| event.reason).collect();
        assert_eq!(reasons, [None, Some(Reason::GlobalBlock)]);
    });
}

#[test]
fn a_whole_hello_is_acknowledged_by_its_answer_and_anything_else_at_once() {
    in_net(|| async {
        let (bench, site) = (Bench::new(POLICY), Site::ordinary(&["a.test"]));
        bench.ticket("a.test", "192.0.2.10");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        set_up(&listener).unwrap();
        let runner = ClientAddr::new((RUNNER.parse::<std::net::IpAddr>().unwrap(), 40_000).into());
        for (said, at_once) in [
            (site.hello("a.test"), false),
            (b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n".to_vec(), true),
            (b"SSH-2.0-client\r\n".to_vec(), true),
        ] {
            let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = crate::sys::accept(&listener).unwrap();
            let leg = Leg::new(Stream::accepted(accepted).unwrap());
            let original = OriginalDst::new("192.0.2.10:443".parse().unwrap());
            let context = FlowContext::enter(&bench.proxy, runner, original, Transport::Tcp).unwrap();
            peer.write_all(&said).unwrap();
            first::wait(&context, &leg).await;
            assert_eq!(SockRef::from(&*leg).tcp_quickack().unwrap(), at_once, "{said:?}");
        }
    });
}
