//! Policies that change between and within requests, and the bounds of one connection.

use tidegate_policy::verdict::{Reason, Verdict};
use tokio::io::AsyncWriteExt;

use super::{Client, Origin, POLICY, one_site};
use crate::http1::head::Asked;
use crate::testing::{Bench, PATIENCE, accept, in_net, is_reset, origin, read_exactly};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
const ONLY_B: &str = "egress-policy: block\nplatform: none\nallowed-endpoints: b.test:80\n";

#[test]
fn l15_a_new_policy_counts_from_the_next_request_and_leaves_idle_connections_alone() {
    in_net(|| async {
        let bench = one_site();
        let a = Origin::answering("192.0.2.10:80", &[OK]).await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        assert_eq!(client.get("a.test", "/").await.status, 200);
        bench.change_policy(ONLY_B);
        assert_eq!(
            bench.proxy.registry.rejudge_subject(bench.subject().id),
            0,
            "nothing is asked at the moment"
        );
        assert_eq!(client.get("a.test", "/2").await.status, 403);
        bench.change_policy(POLICY);
        assert_eq!(client.get("a.test", "/3").await.status, 200);
        assert_eq!((a.connections(), a.text().contains("/2")), (1, false));
    });
}

#[test]
fn l15_a_request_that_the_new_policy_refuses_ends_with_its_connection() {
    in_net(|| async {
        let bench = one_site();
        let listener = origin("192.0.2.10:80").await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        let head = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        client.send(head).await;
        let mut server = accept(&listener).await;
        read_exactly(&mut server, head.len()).await;
        server
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            .await
            .unwrap();
        read_exactly(&mut client.stream, 43).await;
        assert_eq!(
            bench.proxy.registry.rejudge_all(),
            0,
            "the old policy still allows it"
        );
        bench.change_policy(ONLY_B);
        assert_eq!(bench.proxy.registry.rejudge_subject(bench.subject().id), 1);
        assert!(is_reset(&mut client.stream).await && is_reset(&mut server).await);
        let (permit, end) = (bench.events.nth(1).await, bench.events.nth(2).await);
        assert_eq!((permit.verdict, permit.count), (Verdict::Permit, 1));
        assert_eq!(
            (end.verdict, end.reason),
            (Verdict::Refuse, Some(Reason::PolicyChanged))
        );
        bench.open_flows(0).await;
    });
}

#[test]
fn a_tunnel_lives_through_a_policy_that_still_allows_it_and_no_longer() {
    in_net(|| async {
        let proxied = |target: &str| {
            format!("egress-policy: block\nplatform: none\nallowed-endpoints: proxy.test:3128 {target}\n")
        };
        let bench = Bench::new(&proxied("a.test:443"));
        bench.ticket("proxy.test", "192.0.2.30");
        let listener = origin("192.0.2.30:3128").await;
        let mut client = Client::connect(&bench, "192.0.2.30:3128").await;
        client
            .send("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
            .await;
        let mut proxy = accept(&listener).await;
        read_exactly(&mut proxy, 49).await;
        proxy.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        assert_eq!(client.response(Asked::Connect).await.status, 200);
        bench.change_policy(&proxied("*.test:443"));
        assert_eq!(bench.proxy.registry.rejudge_all(), 0);
        bench.change_policy(&proxied("b.test:443"));
        assert_eq!(bench.proxy.registry.rejudge_all(), 1);
        assert!(is_reset(&mut client.stream).await && is_reset(&mut proxy).await);
    });
}

#[test]
fn at_most_four_servers_are_kept_for_a_connection() {
    in_net(|| async {
        let names = ["n0.test", "n1.test", "n2.test", "n3.test", "n4.test"];
        let policy = format!(
            "egress-policy: block\nplatform: none\nallowed-endpoints: '{}'\n",
            "*.test:80"
        );
        let bench = Bench::new(&policy);
        for name in names {
            bench.ticket(name, "192.0.2.10");
        }
        let a = Origin::answering("192.0.2.10:80", &[OK]).await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        for name in names {
            assert_eq!(client.get(name, "/").await.status, 200);
        }
        assert_eq!(a.connections(), 5);
        assert_eq!(client.get("n1.test", "/").await.status, 200);
        assert_eq!(a.connections(), 5, "n1 was kept");
        assert_eq!(client.get("n0.test", "/").await.status, 200);
        assert_eq!(a.connections(), 6, "n0 was used longest ago, and had gone");
    });
}

#[test]
fn many_refused_names_are_as_many_events_and_bounded_memory() {
    in_net(|| async {
        let bench = one_site();
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        for round in 0..2 {
            for n in 0..100 {
                assert_eq!(
                    client.get(&format!("n{n}.evil.test"), "/").await.status,
                    403,
                    "{round}"
                );
            }
        }
        // Past the bound, what was seen longest ago is forgotten: its repetition is an event of its own.
        assert_eq!(bench.events.all().len(), 200);
        drop(client);
        bench.open_flows(0).await;
        assert_eq!(bench.events.all().len(), 200);
    });
}

#[test]
fn idle_connections_end_when_the_gateway_stops_and_requests_are_finished() {
    in_net(|| async {
        let bench = one_site();
        let listener = origin("192.0.2.10:80").await;
        let mut busy = Client::connect(&bench, "192.0.2.10:80").await;
        let head = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        busy.send(head).await;
        let mut server = accept(&listener).await;
        read_exactly(&mut server, head.len()).await;
        let mut idle = Client::connect(&bench, "192.0.2.10:80").await;
        assert_eq!(idle.get("evil.test", "/").await.status, 403);
        let two = super::h2::client(&bench, "192.0.2.10:80").await;
        bench.open_flows(3).await;
        let proxy = std::sync::Arc::clone(&bench.proxy);
        let drained = tokio::spawn(async move { proxy.drain(PATIENCE).await });
        assert_eq!(idle.end().await, "");
        bench.open_flows(1).await;
        server.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(busy.response(Asked::Other).await.body, "OK");
        assert_eq!(busy.end().await, "");
        assert_eq!(drained.await.unwrap(), 0, "none had to be cut off");
        drop(two);
    });
}
