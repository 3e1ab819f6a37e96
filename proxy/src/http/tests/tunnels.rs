//! What stops to be HTTP on the same connection: upgrades, and tunnels of forward proxies.

use tidegate_policy::event::{Kind, NameSource};
use tidegate_policy::verdict::{Reason, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Client, Origin, one_site};
use crate::http1::head::Asked;
use crate::testing::tls::{Site, server_name};
use crate::testing::{Bench, accept, in_net, is_reset, origin, read_exactly};

const PROXIED: &str = "egress-policy: block\nplatform: none\nallowed-endpoints: proxy.test:3128 a.test:80 a.test:443 s.test:22\n";
const PROXY: &str = "192.0.2.30:3128";

fn behind_a_proxy() -> Bench {
    let bench = Bench::new(PROXIED);
    bench.ticket("proxy.test", "192.0.2.30");
    bench
}

/// Opens a tunnel: the client's end, and the proxy's.
async fn tunnel(bench: &Bench, target: &str) -> (Client, TcpStream) {
    let listener = origin(PROXY).await;
    let mut client = Client::connect(bench, PROXY).await;
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    client.send(&head).await;
    let mut proxy = accept(&listener).await;
    assert_eq!(read_exactly(&mut proxy, head.len()).await, head.as_bytes());
    proxy
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(client.response(Asked::Connect).await.status, 200);
    (client, proxy)
}

#[test]
fn h26_a_websocket_is_relayed_to_the_permitted_server_after_101() {
    in_net(|| async {
        let bench = one_site();
        let listener = origin("192.0.2.10:80").await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        let head = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        client.send(head).await;
        let mut server = accept(&listener).await;
        assert_eq!(read_exactly(&mut server, head.len()).await, head.as_bytes());
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02hi";
        server.write_all(switch).await.unwrap();
        assert_eq!(read_exactly(&mut client.stream, switch.len()).await, switch);
        // No longer HTTP: what looks like a request is but bytes.
        client.send("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n").await;
        assert_eq!(read_exactly(&mut server, 4).await, b"GET ");
        client.stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        server.write_all(b"bye").await.unwrap();
        drop(server);
        assert_eq!(client.end().await, "bye");
        let event = bench.events.nth(1).await;
        assert_eq!((event.verdict, event.count), (Verdict::Permit, 1));
        assert!(event.bytes_up > 100 && event.bytes_down > 80, "{event:?}");
    });
}

#[test]
fn h27_an_upgrade_to_h2c_is_never_offered() {
    in_net(|| async {
        let bench = one_site();
        let a = Origin::answering(
            "192.0.2.10:80",
            &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"],
        )
        .await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        let fields = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk";
        client
            .send(&format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n\r\n"))
            .await;
        assert_eq!(client.response(Asked::Other).await.status, 200);
        assert_eq!(a.text(), "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    });
}

#[test]
fn h25_connect_needs_a_permitted_proxy_and_an_allowed_target() {
    in_net(|| async {
        let bench = behind_a_proxy();
        let proxy = Origin::answering(PROXY, &["HTTP/1.1 200 OK\r\n\r\n"]).await;
        let a = Origin::answering("192.0.2.10:80", &["HTTP/1.1 200 OK\r\n\r\n"]).await;
        bench.ticket("a.test", "192.0.2.10");
        for (original, target) in [
            (PROXY, "evil.test:443"),
            (PROXY, "a.test:22"),
            (PROXY, "192.0.2.99:443"),
        ] {
            let mut client = Client::connect(&bench, original).await;
            client
                .send(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"))
                .await;
            let refused = client.response(Asked::Connect).await;
            assert_eq!(refused.status, 405, "{target}");
        }
        let events = bench.events.all();
        assert_eq!(events[0].reason, Some(Reason::NotAllowed));
        assert!(
            events[0]
                .note
                .as_ref()
                .unwrap()
                .contains("forward proxy, for port 443"),
            "{events:?}"
        );
        // The address of nobody's proxy.
        let mut client = Client::connect(&bench, "192.0.2.40:3128").await;
        client
            .send("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
            .await;
        assert_eq!(client.response(Asked::Connect).await.status, 405);
        assert_eq!(bench.events.nth(4).await.reason, Some(Reason::ProxyRequest));
        assert_eq!((proxy.connections(), a.connections()), (0, 0));
    });
}

#[test]
fn a_whole_url_goes_to_a_permitted_proxy_for_allowed_targets_only() {
    in_net(|| async {
        let bench = behind_a_proxy();
        let proxy = Origin::answering(PROXY, &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"]).await;
        let mut client = Client::connect(&bench, PROXY).await;
        for (url, want) in [
            ("http://a.test/x", 200),
            ("http://evil.test/", 405),
            ("http://a.test/y", 200),
            ("https://a.test/", 200),
            ("http://a.test:81/", 405),
        ] {
            let host = url.split('/').nth(2).unwrap();
            client
                .send(&format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
                .await;
            assert_eq!(client.response(Asked::Other).await.status, want, "{url}");
        }
        assert_eq!(proxy.connections(), 1);
        assert!(!proxy.text().contains("evil"), "{}", proxy.text());
    });
}

#[test]
fn n04_tls_in_a_tunnel_is_judged_by_its_own_name() {
    in_net(|| async {
        let bench = behind_a_proxy();
        let site = Site::ordinary(&["a.test", "evil.test"]);
        let (client, proxy) = tunnel(&bench, "a.test:443").await;
        let server = async {
            let mut tls = site.acceptor.accept(proxy).await.unwrap();
            tls.write_all(b"hello").await.unwrap();
            tls.shutdown().await.unwrap();
        };
        let runner = async {
            let mut tls = site
                .connector
                .connect(server_name("a.test"), client.stream)
                .await
                .unwrap();
            let mut got = Vec::new();
            tls.read_to_end(&mut got).await.unwrap();
            got
        };
        let ((), got) = tokio::join!(server, runner);
        assert_eq!(got, b"hello");
        let event = bench.events.nth(1).await;
        assert_eq!(
            (event.kind, event.name_source, event.verdict),
            (Kind::Tls, NameSource::Sni, Verdict::Permit)
        );
        let connect = bench.events.nth(2).await;
        assert_eq!((connect.kind, connect.verdict), (Kind::Http, Verdict::Permit));
    });
    in_net(|| async {
        let bench = behind_a_proxy();
        let site = Site::ordinary(&["a.test", "evil.test"]);
        let (client, mut proxy) = tunnel(&bench, "a.test:443").await;
        let error = site
            .connector
            .connect(server_name("evil.test"), client.stream)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("AccessDenied"), "{error}");
        assert!(is_reset(&mut proxy).await, "not a byte of it passed");
        let event = bench.events.nth(1).await;
        assert_eq!((event.kind, event.reason), (Kind::Tls, Some(Reason::NotAllowed)));
        assert_eq!(event.name.unwrap().to_string(), "evil.test");
    });
}

#[test]
fn requests_in_a_tunnel_are_each_judged() {
    in_net(|| async {
        let bench = behind_a_proxy();
        let (mut client, mut proxy) = tunnel(&bench, "a.test:80").await;
        let head = "GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n";
        client.send(head).await;
        assert_eq!(read_exactly(&mut proxy, head.len()).await, head.as_bytes());
        proxy
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
            .await
            .unwrap();
        assert_eq!(client.response(Asked::Other).await.body, "OK");
        client.send("GET /2 HTTP/1.1\r\nHost: evil.test\r\n\r\n").await;
        assert_eq!(client.response(Asked::Other).await.status, 403);
        client
            .send("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
            .await;
        assert_eq!(client.response(Asked::Connect).await.status, 405);
        let head = "GET /3 HTTP/1.1\r\nHost: a.test\r\n\r\n";
        client.send(head).await;
        assert_eq!(read_exactly(&mut proxy, head.len()).await, head.as_bytes());
        drop(proxy);
        assert_eq!(client.end().await, "");
    });
}

#[test]
fn a_server_that_speaks_first_in_a_tunnel_makes_it_opaque() {
    in_net(|| async {
        let bench = behind_a_proxy();
        let (mut client, mut proxy) = tunnel(&bench, "s.test:22").await;
        proxy.write_all(b"SSH-2.0-server\r\n").await.unwrap();
        assert_eq!(read_exactly(&mut client.stream, 16).await, b"SSH-2.0-server\r\n");
        client.send("SSH-2.0-client\r\n").await;
        assert_eq!(read_exactly(&mut proxy, 16).await, b"SSH-2.0-client\r\n");
        client.stream.shutdown().await.unwrap();
        assert_eq!(proxy.read(&mut [0]).await.unwrap(), 0);
        drop(proxy);
        assert_eq!(client.end().await, "");
        assert_eq!(bench.events.nth(1).await.kind, Kind::Tcp);
    });
}

#[test]
fn http_2_in_a_tunnel_is_refused() {
    in_net(|| async {
        let bench = behind_a_proxy();
        let (mut client, mut proxy) = tunnel(&bench, "a.test:80").await;
        client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        assert_eq!(client.end().await, "");
        assert!(is_reset(&mut proxy).await);
        assert_eq!(bench.events.nth(1).await.reason, Some(Reason::ProxyRequest));
    });
}

#[test]
fn bytes_that_an_address_endpoint_permits_go_on_where_they_stop_to_be_http() {
    in_net(|| async {
        let bench = Bench::new("egress-policy: block\nplatform: none\nallowed-endpoints: 192.0.2.10:11211\n");
        let listener = origin("192.0.2.10:11211").await;
        let mut client = Client::connect(&bench, "192.0.2.10:11211").await;
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        let mut server = accept(&listener).await;
        assert_eq!(read_exactly(&mut server, 32).await.len(), 32);
        server
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
            .await
            .unwrap();
        assert_eq!(client.response(Asked::Other).await.body, "OK");
        client.send("get some key\r\n").await;
        assert_eq!(read_exactly(&mut server, 14).await, b"get some key\r\n");
        server.write_all(b"END\r\n").await.unwrap();
        assert_eq!(read_exactly(&mut client.stream, 5).await, b"END\r\n");
    });
}
