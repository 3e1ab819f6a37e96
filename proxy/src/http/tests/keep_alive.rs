//! Requests one after another on a connection: each is judged, each goes to its own server.

use tidegate_policy::event::{Kind, NameSource};
use tidegate_policy::verdict::{Reason, Verdict};

use super::{Client, Origin, two_sites};
use crate::testing::in_net;

const OK_A: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nAA";
const OK_B: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nBB";

#[test]
fn h20_each_request_is_judged_and_sent_to_its_own_server_over_one_connection_each() {
    in_net(|| async {
        let bench = two_sites();
        let a = Origin::answering("192.0.2.10:80", &[OK_A]).await;
        let b = Origin::answering("192.0.2.20:80", &[OK_B]).await;
        bench.resolves("b.test", &["192.0.2.20"]);
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        for (host, want) in [
            ("a.test", "AA"),
            ("b.test", "BB"),
            ("A.Test.", "AA"),
            ("b.test", "BB"),
        ] {
            let response = client.get(host, "/x").await;
            assert_eq!((response.status, response.body.as_str()), (200, want), "{host}");
        }
        let refused = client.get("evil.test", "/").await;
        assert_eq!(refused.status, 403);
        assert!(
            refused.body.contains("evil.test:80") && refused.body.contains("not-allowed"),
            "{}",
            refused.body
        );
        assert_eq!(
            client.get("a.test", "/after").await.status,
            200,
            "the connection outlives the refusal"
        );
        assert_eq!((a.connections(), b.connections()), (1, 1));
        assert!(
            !a.text().contains("evil") && !a.text().contains("b.test"),
            "{}",
            a.text()
        );
        let refusal = bench.events.nth(1).await;
        assert_eq!(
            (refusal.verdict, refusal.reason),
            (Verdict::Refuse, Some(Reason::NotAllowed))
        );
        assert!(refused.body.contains(&refusal.id.to_string()));
        drop(client);
        let (one, two) = (bench.events.nth(2).await, bench.events.nth(3).await);
        assert_eq!(
            (one.kind, one.name_source, one.verdict),
            (Kind::Http, NameSource::Host, Verdict::Permit)
        );
        let mut counts = [one, two].map(|event| (event.name.unwrap().to_string(), event.count));
        counts.sort();
        assert_eq!(counts, [("a.test".into(), 3), ("b.test".into(), 2)]);
    });
}
