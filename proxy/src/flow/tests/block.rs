//! Block mode: what is let through, to where, and what is said otherwise.

use tidegate_policy::event::Kind;
use tidegate_policy::verdict::{Reason, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::testing::tls::{Site, server_name};
use crate::testing::{Bench, accept, in_net, is_reset, origin, read_all, read_exactly};

const POLICY: &str = "egress-policy: block\nplatform: none\nallowed-endpoints: a.test:443 a.test:80 s.test:22\n";

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
            let mut tls = site.connector.connect(server_name("a.test"), stream).await.unwrap();
            tls.write_all(b"ping").await.unwrap();
            let mut got = Vec::new();
            tls.read_to_end(&mut got).await.unwrap();
            got
        };
        let (asked, answered) = tokio::join!(server, client);
        assert_eq!((&asked, &answered[..]), (b"ping", &b"pong"[..]));
        let event = bench.events.nth(1).await;
        assert_eq!((event.kind, event.verdict, event.reason), (Kind::Tls, Verdict::Permit, None), "{event:?}");
        assert_eq!(event.name.unwrap().to_string(), "a.test");
        assert_eq!(event.rule.as_deref(), Some("a.test:443"));
        assert!(event.bytes_up > 200 && event.bytes_down > 200, "{} {}", event.bytes_up, event.bytes_down);
        assert!(event.ja4.is_some_and(|ja4| ja4.starts_with("t13d")));
        assert!(bench.names.asked.lock().is_empty(), "a ticket needs no query");
    });
}
