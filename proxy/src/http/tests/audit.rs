//! Audit mode: HTTP is observed, not touched, and each authority has its verdict.

use std::time::Duration;

use tidegate_policy::verdict::{Reason, Verdict};
use tokio::io::AsyncWriteExt;

use super::{Client, Origin};
use crate::http1::head::Asked;
use crate::testing::{Bench, accept, in_net, is_reset, origin, read_exactly};

const AUDIT: &str = "egress-policy: audit\nplatform: none\nallowed-endpoints: a.test:80\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";

#[test]
fn requests_pass_untouched_to_the_address_that_was_chosen_and_are_recorded_by_authority() {
    in_net(|| async {
        let bench = Bench::new(AUDIT);
        bench.ticket("a.test", "192.0.2.10");
        let a = Origin::answering("192.0.2.10:80", &[OK]).await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        let requests = [
            "GET /1 HTTP/1.1\nhOST:a.test\r\nUpgrade: \r\n\r\n",
            "GET /2 HTTP/1.1\r\nHost: evil.test\r\n\r\n",
            "GET /3 HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET /4 HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        ];
        for request in requests {
            client.send(request).await;
            assert_eq!(client.response(Asked::Other).await.body, "OK");
        }
        assert_eq!(a.text(), requests.concat());
        drop(client);
        let mut seen = [bench.events.nth(1).await, bench.events.nth(2).await].map(|event| {
            (
                event.name.unwrap().to_string(),
                event.verdict,
                event.count,
                event.bytes_up,
                event.bytes_down,
            )
        });
        seen.sort_by(|one, two| one.0.cmp(&two.0));
        let (up, down) = (|at: usize| requests[at].len() as u64, OK.len() as u64);
        let want = [
            ("a.test".to_owned(), Verdict::Permit, 2, up(0) + up(2), 2 * down),
            (
                "evil.test".to_owned(),
                Verdict::WouldRefuse,
                2,
                up(1) + up(3),
                2 * down,
            ),
        ];
        assert_eq!(seen, want);
        bench.open_flows(0).await;
        assert_eq!(bench.events.all().len(), 2);
    });
}

#[test]
fn what_can_not_be_read_passes_all_the_same() {
    in_net(|| async {
        let bench = Bench::new(AUDIT);
        bench.ticket("a.test", "192.0.2.10");
        let listener = origin("192.0.2.10:80").await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        let good = "GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n";
        client.send(good).await;
        let mut server = accept(&listener).await;
        assert_eq!(read_exactly(&mut server, good.len()).await, good.as_bytes());
        server.write_all(OK.as_bytes()).await.unwrap();
        client.response(Asked::Other).await;
        let bad = "GET /2 HTTP/1.1\r\nHost: a.test\r\nHost: evil.test\r\n\r\n";
        client.send(bad).await;
        assert_eq!(read_exactly(&mut server, bad.len()).await, bad.as_bytes());
        server.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(client.response(Asked::Other).await.body, "OK");
        drop((client, server));
        let mut reasons = [bench.events.nth(1).await.reason, bench.events.nth(2).await.reason];
        reasons.sort();
        assert_eq!(reasons, [None, Some(Reason::MalformedHttp)]);
    });
}

#[test]
fn the_global_block_list_refuses_a_later_request_in_audit_too() {
    in_net(|| async {
        let bench = Bench::with(AUDIT, &["blocked.test"], |_| {});
        bench.ticket("a.test", "192.0.2.10");
        let a = Origin::answering("192.0.2.10:80", &[OK]).await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        assert_eq!(client.get("a.test", "/").await.status, 200);
        client.send("GET / HTTP/1.1\r\nHost: blocked.test\r\n\r\n").await;
        assert!(is_reset(&mut client.stream).await);
        assert!(!a.text().contains("blocked"));
        let event = bench.events.nth(1).await;
        assert_eq!(
            (event.verdict, event.reason),
            (Verdict::Refuse, Some(Reason::GlobalBlock))
        );
    });
}

#[test]
fn a_websocket_in_audit_is_one_event_with_all_its_bytes() {
    in_net(|| async {
        let bench = Bench::new(AUDIT);
        let listener = origin("192.0.2.10:80").await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        let head = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        client.send(head).await;
        let mut server = accept(&listener).await;
        read_exactly(&mut server, head.len()).await;
        let switch = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
        server.write_all(switch.as_bytes()).await.unwrap();
        read_exactly(&mut client.stream, switch.len()).await;
        let more = vec![1; 100_000];
        client.stream.write_all(&more).await.unwrap();
        read_exactly(&mut server, more.len()).await;
        server.write_all(&more).await.unwrap();
        read_exactly(&mut client.stream, more.len()).await;
        socket2::SockRef::from(&client.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        let event = bench.events.nth(1).await;
        assert_eq!(
            (event.verdict, event.note.as_deref()),
            (Verdict::Permit, Some("reset"))
        );
        assert_eq!(event.bytes_up as usize, head.len() + more.len());
        assert_eq!(event.bytes_down as usize, switch.len() + more.len());
    });
}

#[test]
fn http_2_in_audit_is_recorded_by_each_authority() {
    in_net(|| async {
        let bench = Bench::new(AUDIT);
        bench.ticket("a.test", "192.0.2.10");
        let a = super::h2::site("192.0.2.10:80", "A").await;
        let mut client = super::h2::client(&bench, "192.0.2.10:80").await;
        for url in ["http://a.test/1", "http://evil.test/2", "http://a.test/3"] {
            let (status, _) = super::h2::ask(&mut client, super::h2::get(url)).await;
            assert_eq!(status, 200, "{url}");
        }
        assert_eq!(a.lock().len(), 4, "one connection, three requests");
        drop(client);
        let mut seen = [bench.events.nth(1).await, bench.events.nth(2).await]
            .map(|event| (event.name.unwrap().to_string(), event.verdict, event.count));
        seen.sort_by(|one, two| one.0.cmp(&two.0));
        let want = [
            ("a.test".to_owned(), Verdict::Permit, 2),
            ("evil.test".to_owned(), Verdict::WouldRefuse, 1),
        ];
        assert_eq!(seen, want);
    });
}
