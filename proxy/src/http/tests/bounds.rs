//! Bounds of time and memory, and the connection that was dialled before the first request came.

use std::time::Duration;

use tidegate_policy::verdict::{Reason, Verdict};
use tokio::io::AsyncWriteExt;

use super::{Client, Origin, POLICY};
use crate::http1::head::Asked;
use crate::testing::{Bench, accept, in_net, is_reset, origin, read_exactly};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";

#[test]
fn t66_a_late_request_is_judged_and_goes_over_the_connection_that_was_dialled_meanwhile() {
    in_net(|| async {
        let bench = Bench::new("egress-policy: block\nplatform: none\nallowed-endpoints: a.test:81\n");
        bench.ticket("a.test", "192.0.2.10");
        let listener = origin("192.0.2.10:81").await;
        let mut client = Client::connect(&bench, "192.0.2.10:81").await;
        // Dialled at once, since a protocol in which the server speaks first would be permitted here.
        let mut server = accept(&listener).await;
        client.send("GET /1 HTTP/1.1\r\nHost: evil.test\r\n\r\n").await;
        assert_eq!(client.response(Asked::Other).await.status, 403);
        let head = "GET /2 HTTP/1.1\r\nHost: a.test\r\n\r\n";
        client.send(head).await;
        assert_eq!(read_exactly(&mut server, head.len()).await, head.as_bytes());
        server.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(client.response(Asked::Other).await.body, "OK");
    });
}

#[test]
fn a_silent_connection_ends_after_the_idle_timeout() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &[], |config| {
            config.timeouts.idle = Duration::from_millis(80);
        });
        bench.ticket("a.test", "192.0.2.10");
        let listener = origin("192.0.2.10:80").await;
        for waiting in [false, true] {
            let mut client = Client::connect(&bench, "192.0.2.10:80").await;
            let head = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
            client.send(head).await;
            let mut server = accept(&listener).await;
            read_exactly(&mut server, head.len()).await;
            if !waiting {
                server.write_all(OK.as_bytes()).await.unwrap();
                assert_eq!(client.response(Asked::Other).await.body, "OK");
            }
            assert!(is_reset(&mut client.stream).await);
        }
        bench.open_flows(0).await;
    });
}

#[test]
fn without_memory_for_another_head_a_request_is_answered_503() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &[], |config| config.limits.detect_bytes = 4096);
        bench.ticket("a.test", "192.0.2.10");
        let a = Origin::answering("192.0.2.10:80", &[OK]).await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        assert_eq!(client.get("a.test", "/1").await.status, 200);
        let long = "y".repeat(3000);
        client
            .send(&format!("GET /2 HTTP/1.1\r\nX: {long}\r\nHost: a.test\r\n\r\n"))
            .await;
        assert_eq!(client.response(Asked::Other).await.status, 503);
        assert_eq!(client.end().await, "");
        assert!(!a.text().contains("/2"));
        let event = bench.events.nth(1).await;
        assert_eq!(
            (event.verdict, event.reason),
            (Verdict::Refuse, Some(Reason::Limit))
        );
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        assert_eq!(
            client.get("a.test", "/3").await.status,
            200,
            "the next one is served"
        );
    });
}
