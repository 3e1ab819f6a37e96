//! Messages of every shape: bodies, interim responses, early ends, and what becomes of the connection.

use std::time::Duration;

use tidegate_policy::verdict::{Reason, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Client, Origin, POLICY, one_site, two_sites};
use crate::http1::head::Asked;
use crate::testing::{Bench, accept, in_net, is_reset, origin, read_all, read_exactly};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";

/// Reads a head of exactly the expected bytes.
async fn hears(stream: &mut TcpStream, wanted: &str) {
    let got = read_exactly(stream, wanted.len()).await;
    assert_eq!(String::from_utf8_lossy(&got), wanted);
}

#[test]
fn h21_pipelined_requests_are_each_judged_and_answered_in_order() {
    in_net(|| async {
        let bench = two_sites();
        let a = Origin::answering(
            "192.0.2.10:80",
            &["HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nA"],
        )
        .await;
        let b = Origin::answering(
            "192.0.2.20:80",
            &["HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nB"],
        )
        .await;
        bench.resolves("b.test", &["192.0.2.20"]);
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        let one = |host: &str| format!("GET /{host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        client
            .send(
                &["a.test", "b.test", "evil.test", "a.test", "b.test"]
                    .map(one)
                    .concat(),
            )
            .await;
        let mut got = Vec::new();
        for _ in 0..5 {
            let response = client.response(Asked::Other).await;
            got.push((response.status, response.body.chars().next().unwrap()));
        }
        assert_eq!(got, [(200, 'A'), (200, 'B'), (403, 'T'), (200, 'A'), (200, 'B')]);
        assert!(!(a.text() + &b.text()).contains("evil"));
    });
}

#[test]
fn h24_chunks_are_written_anew_both_ways_and_trailers_pass() {
    in_net(|| async {
        let bench = one_site();
        let listener = origin("192.0.2.10:80").await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        client
            .send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: Chunked\r\n\r\n")
            .await;
        client
            .send("5;name=\"x\"\r\nhello\r\n0003\r\nabc\r\n0\r\nX-T: 1\r\n\r\n")
            .await;
        let mut server = accept(&listener).await;
        hears(
            &mut server,
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .await;
        hears(&mut server, "5\r\nhello\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n").await;
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;q\r\nhi\r\n0\r\nX-U: 2\r\n\r\n";
        server.write_all(answer.as_bytes()).await.unwrap();
        let response = client.response(Asked::Other).await;
        assert_eq!(
            (response.status, response.body.as_str()),
            (200, "2\r\nhi\r\n0\r\nX-U: 2\r\n\r\n")
        );
        client.send("GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        hears(&mut server, "GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    });
}

#[test]
fn rfc_9110_10_1_1_a_body_waits_for_100_continue() {
    in_net(|| async {
        let bench = one_site();
        let listener = origin("192.0.2.10:80").await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        let head = "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
        client.send(head).await;
        let mut server = accept(&listener).await;
        hears(&mut server, head).await;
        server
            .write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(client.response(Asked::Other).await.status, 103);
        assert_eq!(client.response(Asked::Other).await.status, 100);
        client.send("body").await;
        hears(&mut server, "body").await;
        server.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(client.response(Asked::Other).await.body, "OK");
        // A final answer instead: the body never comes, so nothing more can be read from this client.
        client.send(head).await;
        hears(&mut server, head).await;
        server
            .write_all(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(client.response(Asked::Other).await.status, 417);
        assert_eq!(client.end().await, "");
    });
}

#[test]
fn rfc_9112_6_3_responses_without_a_body_leave_the_connection_in_step() {
    in_net(|| async {
        let bench = one_site();
        let answers = [
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            OK,
        ];
        let a = Origin::answering("192.0.2.10:80", &answers).await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        client.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        let head = client.response(Asked::Head).await;
        assert_eq!(
            (head.status, head.headers["content-length"].as_str()),
            (200, "1000")
        );
        assert_eq!(client.get("a.test", "/1").await.status, 304);
        assert_eq!(client.get("a.test", "/2").await.status, 204);
        assert_eq!(client.get("a.test", "/3").await.body, "OK");
        assert_eq!(a.connections(), 1);
    });
}

#[test]
fn a_response_without_length_ends_with_its_connection() {
    in_net(|| async {
        let bench = one_site();
        let listener = origin("192.0.2.10:80").await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").await;
        let mut server = accept(&listener).await;
        hears(&mut server, "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").await;
        server.write_all(b"HTTP/1.0 200 OK\r\n\r\nfirst").await.unwrap();
        let mut got = read_exactly(&mut client.stream, 24).await;
        server.write_all(b" second").await.unwrap();
        drop(server);
        got.extend(read_all(&mut client.stream).await.unwrap());
        assert_eq!(
            String::from_utf8_lossy(&got),
            "HTTP/1.0 200 OK\r\n\r\nfirst second"
        );
    });
}

#[test]
fn a_cut_response_looks_cut_off_to_its_client() {
    in_net(|| async {
        let bench = one_site();
        let listener = origin("192.0.2.10:80").await;
        for reset in [false, true] {
            let mut client = Client::connect(&bench, "192.0.2.10:80").await;
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
            let mut server = accept(&listener).await;
            hears(&mut server, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
            let head = if reset {
                "HTTP/1.1 200 OK\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
            };
            server.write_all(format!("{head}half").as_bytes()).await.unwrap();
            let want = format!("{head}half");
            assert_eq!(
                read_exactly(&mut client.stream, want.len()).await,
                want.as_bytes()
            );
            if reset {
                // A body that ends with the connection would look whole after an orderly close.
                socket2::SockRef::from(&server)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
                drop(server);
                assert!(is_reset(&mut client.stream).await);
            } else {
                drop(server);
                assert_eq!(read_all(&mut client.stream).await.unwrap(), b"");
            }
        }
    });
}

#[test]
fn an_early_response_reaches_a_client_that_is_still_sending() {
    in_net(|| async {
        let bench = one_site();
        let listener = origin("192.0.2.10:80").await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        client
            .send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000000\r\n\r\n")
            .await;
        let mut server = accept(&listener).await;
        read_exactly(&mut server, 10).await;
        let answer = "HTTP/1.1 413 Too Big\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
        server.write_all(answer.as_bytes()).await.unwrap();
        let (mut reading, mut writing) = client.stream.into_split();
        let send = async {
            let piece = vec![0; 64 << 10];
            // Ends by the reset that follows, not by reaching the length.
            while writing.write_all(&piece).await.is_ok() {}
        };
        let read = async {
            let mut got = vec![0; answer.len()];
            reading.read_exact(&mut got).await.map(|_| got)
        };
        let ((), got) = tokio::join!(send, read);
        assert_eq!(got.unwrap(), answer.as_bytes());
    });
}

#[test]
fn a_response_may_come_before_its_request_is_complete_and_both_go_on() {
    in_net(|| async {
        let bench = one_site();
        let listener = origin("192.0.2.10:80").await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        client
            .send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 8\r\n\r\nhalf")
            .await;
        let mut server = accept(&listener).await;
        server.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(client.response(Asked::Other).await.body, "OK");
        client.send("rest").await;
        hears(
            &mut server,
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 8\r\n\r\nhalfrest",
        )
        .await;
        client.send("GET /2 HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        hears(&mut server, "GET /2 HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    });
}

#[test]
fn a_client_that_ends_its_side_still_gets_its_response() {
    in_net(|| async {
        let bench = one_site();
        let listener = origin("192.0.2.10:80").await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        client.stream.shutdown().await.unwrap();
        let mut server = accept(&listener).await;
        hears(&mut server, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        server.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(client.end().await, OK);
    });
}

#[test]
fn a_client_that_is_gone_is_noticed_while_its_server_thinks() {
    in_net(|| async {
        let bench = one_site();
        let listener = origin("192.0.2.10:80").await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        let mut server = accept(&listener).await;
        hears(&mut server, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        socket2::SockRef::from(&client.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        assert!(is_reset(&mut server).await);
        let event = bench.events.nth(1).await;
        assert_eq!(
            (event.verdict, event.note.as_deref()),
            (Verdict::Permit, Some("reset"))
        );
        bench.open_flows(0).await;
    });
}

#[test]
fn large_bodies_stream_both_ways() {
    in_net(|| async {
        let bench = one_site();
        let listener = origin("192.0.2.10:80").await;
        let client = Client::connect(&bench, "192.0.2.10:80").await;
        let size = 8 << 20;
        let (mut reading, mut writing) = client.stream.into_split();
        let upload = async {
            let head = format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {size}\r\n\r\n");
            writing.write_all(head.as_bytes()).await.unwrap();
            writing.write_all(&vec![7; size]).await.unwrap();
        };
        let echo = async {
            let mut server = accept(&listener).await;
            read_exactly(
                &mut server,
                format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {size}\r\n\r\n").len(),
            )
            .await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
            server.write_all(head.as_bytes()).await.unwrap();
            let (mut from, mut to) = server.split();
            tokio::io::copy(&mut (&mut from).take(size as u64), &mut to)
                .await
                .unwrap();
        };
        let download = async {
            let mut got = vec![0; size + format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").len()];
            reading.read_exact(&mut got).await.unwrap();
            got
        };
        let ((), (), got) = tokio::join!(upload, echo, download);
        assert!(got[got.len() - size..].iter().all(|byte| *byte == 7));
        drop((reading, writing));
        let event = bench.events.nth(1).await;
        assert!(
            event.bytes_up > size as u64 && event.bytes_down > size as u64,
            "{event:?}"
        );
    });
}

#[test]
fn servers_that_fail_are_explained() {
    in_net(|| async {
        let bench = one_site();
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        let refused = client.get("a.test", "/").await;
        assert_eq!(refused.status, 502);
        assert!(
            refused.body.contains("refused the connection"),
            "{}",
            refused.body
        );
        let event = bench.events.nth(1).await;
        assert_eq!(
            (event.verdict, event.note.as_deref()),
            (Verdict::Permit, Some("dial failed: refused"))
        );
        let listener = origin("192.0.2.10:80").await;
        for (answer, why) in [
            ("", "closed the connection without one"),
            ("HTTP/1.1 200 OK\r\nContent-", "ends within the response's head"),
            ("SSH-2.0-x\r\n\r\n", "no HTTP"),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "asked for no upgrade"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
                "two different Content-Lengths",
            ),
        ] {
            let mut client = Client::connect(&bench, "192.0.2.10:80").await;
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
            let mut server = accept(&listener).await;
            server.write_all(answer.as_bytes()).await.unwrap();
            server.shutdown().await.unwrap();
            let response = client.response(Asked::Other).await;
            assert_eq!(response.status, 502, "{answer}");
            assert!(response.body.contains(why), "{answer}: {}", response.body);
        }
    });
}

#[test]
fn a_kept_server_that_closed_is_dialled_again_where_asking_twice_is_asking_once() {
    in_net(|| async {
        let bench = one_site();
        let listener = origin("192.0.2.10:80").await;
        for method in ["GET", "POST"] {
            let mut client = Client::connect(&bench, "192.0.2.10:80").await;
            client.send("GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
            let mut server = accept(&listener).await;
            hears(&mut server, "GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
            server.write_all(OK.as_bytes()).await.unwrap();
            client.response(Asked::Other).await;
            let head = format!("{method} /2 HTTP/1.1\r\nHost: a.test\r\n\r\n");
            client.send(&head).await;
            // It has the request, and closes without a word.
            hears(&mut server, &head).await;
            drop(server);
            if method == "GET" {
                let mut server = accept(&listener).await;
                hears(&mut server, &head).await;
                server.write_all(OK.as_bytes()).await.unwrap();
                assert_eq!(client.response(Asked::Other).await.status, 200);
            } else {
                assert_eq!(client.end().await, "");
            }
        }
    });
}

#[test]
fn an_idle_connection_closes_with_its_server() {
    in_net(|| async {
        let bench = one_site();
        let listener = origin("192.0.2.10:80").await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        let mut server = accept(&listener).await;
        hears(&mut server, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        server.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(client.response(Asked::Other).await.body, "OK");
        drop(server);
        assert_eq!(client.end().await, "");
    });
}

#[test]
fn a_refused_upload_hears_why_and_a_short_one_keeps_its_connection() {
    in_net(|| async {
        let bench = one_site();
        let _a = Origin::answering("192.0.2.10:80", &[OK]).await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        client
            .send("POST / HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 5\r\n\r\nhello")
            .await;
        assert_eq!(
            client.response(Asked::Other).await.headers["connection"],
            "keep-alive"
        );
        client.send("POST / HTTP/1.1\r\nHost: evil.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n").await;
        assert_eq!(client.response(Asked::Other).await.status, 403);
        assert_eq!(client.get("a.test", "/").await.body, "OK");
        client
            .send("POST / HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 200000\r\n\r\n")
            .await;
        client.send(&"x".repeat(200_000)).await;
        let refused = client.response(Asked::Other).await;
        assert_eq!(
            (refused.status, refused.headers["connection"].as_str()),
            (403, "close")
        );
        assert_eq!(client.end().await, "");
        drop(client);
        // One event at once, one for its repetitions.
        let events = [
            bench.events.nth(1).await,
            bench.events.nth(2).await,
            bench.events.nth(3).await,
        ];
        let mut seen: Vec<_> = events.iter().map(|event| (event.reason, event.count)).collect();
        seen.sort();
        assert_eq!(
            seen,
            [
                (None, 1),
                (Some(Reason::NotAllowed), 1),
                (Some(Reason::NotAllowed), 2)
            ]
        );
    });
}

#[test]
fn h36_a_head_comes_octet_by_octet_and_h35_after_20_kib() {
    in_net(|| async {
        let bench = one_site();
        let a = Origin::answering("192.0.2.10:80", &[OK]).await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        client.stream.set_nodelay(true).unwrap();
        for octet in "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".chars() {
            client.send(&octet.to_string()).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.response(Asked::Other).await.status, 200);
        let filler = format!("X: {}\r\n", "y".repeat(1000)).repeat(20);
        client
            .send(&format!("GET /long HTTP/1.1\r\n{filler}Host: a.test\r\n\r\n"))
            .await;
        assert_eq!(client.response(Asked::Other).await.status, 200);
        client
            .send(&format!("GET / HTTP/1.1\r\n{filler}Host: evil.test\r\n\r\n"))
            .await;
        assert_eq!(client.response(Asked::Other).await.status, 403);
        client
            .send(&format!("GET / HTTP/1.1\r\n{}\r\n", filler.repeat(4)))
            .await;
        assert_eq!(client.response(Asked::Other).await.status, 431);
        assert!(!a.text().contains("evil"));
    });
}

#[test]
fn a_head_that_does_not_end_in_time_is_answered_408() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &[], |config| {
            config.timeouts.detect = Duration::from_millis(50);
        });
        bench.ticket("a.test", "192.0.2.10");
        let _a = Origin::answering("192.0.2.10:80", &[OK]).await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        assert_eq!(client.get("a.test", "/").await.status, 200);
        client.send("GET / HTTP/1.1\r\nHost: a.t").await;
        assert_eq!(client.response(Asked::Other).await.status, 408);
        let event = bench.events.nth(1).await;
        assert_eq!(
            (event.verdict, event.reason),
            (Verdict::Refuse, Some(Reason::DetectTimeout))
        );
    });
}

#[test]
fn a_broken_chunk_ends_the_request_before_it_looks_complete() {
    in_net(|| async {
        let bench = one_site();
        let listener = origin("192.0.2.10:80").await;
        let mut client = Client::connect(&bench, "192.0.2.10:80").await;
        client
            .send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nGET")
            .await;
        let mut server = accept(&listener).await;
        hears(
            &mut server,
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        )
        .await;
        client
            .send(" /smuggled HTTP/1.1\r\nHost: evil.test\r\n\r\n")
            .await;
        assert_eq!(client.response(Asked::Other).await.status, 400);
        assert!(is_reset(&mut server).await);
    });
}
