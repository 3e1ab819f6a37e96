//! What a job may try over cleartext HTTP (evasions.md), against origins that remember every byte.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Origin, POLICY};
use crate::testing::{Bench, PATIENCE, in_net};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";

/// Requests that others made to get past filters.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/data/http_evasion.jsonl"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        let hex = row["hex"].as_str().unwrap();
        let bytes = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
        (format!("{} {}", row["src"], row["title"]), bytes.collect())
    };
    text.lines().map(row).collect()
}

/// Whether the most lenient reader there is could take the bytes for a request to the forbidden host.
fn asks_for_evil(bytes: &[u8]) -> bool {
    let text: String = bytes
        .iter()
        .filter(|byte| byte.is_ascii_graphic())
        .map(|byte| char::from(*byte))
        .collect();
    text.to_ascii_lowercase().contains("evil.test")
}

/// Sends raw bytes, ends its side, and reads what comes back.
async fn say(bench: &Bench, original: &str, bytes: &[u8]) -> String {
    let mut stream = bench.connect(original).await;
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut got = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got)).await;
    // A reset is an answer too.
    let _ = read.unwrap_or_else(|_| panic!("no end after {:?}", String::from_utf8_lossy(bytes)));
    String::from_utf8_lossy(&got).into_owned()
}

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap_or_default()
}

/// A site, a forbidden one, and what both heard.
struct Scene {
    bench: Bench,
    a: Origin,
    evil: Origin,
}

impl Scene {
    async fn new() -> Self {
        let bench = Bench::new(POLICY);
        bench.ticket("a.test", "192.0.2.10");
        bench.resolves("a.test", &["192.0.2.10"]);
        bench.resolves("evil.test", &["192.0.2.66"]);
        let a = Origin::answering("192.0.2.10:80", &[OK]).await;
        let evil = Origin::answering("192.0.2.66:80", &[OK]).await;
        Self { bench, a, evil }
    }

    async fn say(&self, bytes: &str) -> String {
        let got = say(&self.bench, "192.0.2.10:80", bytes.as_bytes()).await;
        assert!(
            !asks_for_evil(self.a.text().as_bytes()),
            "{bytes:?}: {}",
            self.a.text()
        );
        assert_eq!(self.evil.connections(), 0, "{bytes:?}");
        got
    }

    async fn expect(&self, want: &str, requests: &[&str]) {
        for request in requests {
            let got = self.say(request).await;
            assert_eq!(status(&got), want, "{request:?}: {got}");
        }
    }
}

#[test]
fn h02_to_h07_a_host_is_judged_however_it_is_spelled() {
    in_net(|| async {
        let scene = Scene::new().await;
        for spelled in [
            "Host: {}",
            "hOST:{}",
            "Host:\t {} \t",
            "Host: {}:80",
            "Host: {}.",
            "Host: {}:",
        ] {
            for (name, want) in [
                ("a.test", "200"),
                ("A.TEST", "200"),
                ("evil.test", "403"),
                ("EVIL.test", "403"),
            ] {
                let host = spelled.replace("{}", name);
                scene
                    .expect(want, &[&format!("GET / HTTP/1.1\r\n{host}\r\n\r\n")])
                    .await;
            }
        }
    });
}

#[test]
fn h08_h09_h10_h14_h32_h37_h39_what_two_readers_could_take_differently_is_400() {
    in_net(|| async {
        let scene = Scene::new().await;
        let refused = [
            "GET / HTTP/1.1\r\nHost: a.test\r\nHost: evil.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test, evil.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\n evil.test\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: evil.test\r\nHost: a.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\rHost: evil.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: evil.test\0.a.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : evil.test\r\nHost: a.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nX: \u{1}\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
        ];
        scene.expect("400", &refused).await;
        // The same behind a good request.
        for second in refused {
            let got = scene
                .say(&format!("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n{second}"))
                .await;
            let second_status = got.split("\r\n\r\nOK").nth(1).map(status);
            assert_eq!(second_status, Some("400"), "{second:?}: {got}");
        }
    });
}

#[test]
fn h11_h12_the_target_rules_and_must_agree_with_host() {
    in_net(|| async {
        let scene = Scene::new().await;
        scene
            .expect("200", &["GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"])
            .await;
        let disagreeing = [
            "GET http://evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET http://a.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
            "GET http://evil.test/ HTTP/1.1\r\n\r\n",
        ];
        scene.expect("400", &disagreeing).await;
        scene
            .expect(
                "405",
                &["GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"],
            )
            .await;
        scene
            .expect("405", &["GET http://evil.test/ HTTP/1.0\r\n\r\n"])
            .await;
    });
}

#[test]
fn h13_h15_to_h19_h42_h43_odd_beginnings_versions_and_methods_are_judged_or_400() {
    in_net(|| async {
        let scene = Scene::new().await;
        let asking = |host: &str| {
            [
                format!("GET / HTTP/1.1\nHost: {host}\n\n"),
                format!("\r\n\r\nGET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
                format!("BREW / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            ]
        };
        for request in asking("a.test") {
            scene.expect("200", &[&request]).await;
        }
        for request in asking("evil.test") {
            scene.expect("403", &[&request]).await;
        }
        for request in [
            " GET / HTTP/1.1\r\nHost: {}\r\n\r\n",
            "\0GET / HTTP/1.1\r\nHost: {}\r\n\r\n",
            "GET\t/ HTTP/1.1\r\nHost: {}\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: {}\r\n\r\n",
            "GET /\r\nHost: {}\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: {}\r\n\r\n",
            "GET / http/1.1\r\nHost: {}\r\n\r\n",
        ] {
            for host in ["a.test", "evil.test"] {
                scene.expect("400", &[&request.replace("{}", host)]).await;
            }
        }
        scene
            .expect("505", &["GET / HTTP/2.0\r\nHost: a.test\r\n\r\n"])
            .await;
        assert_eq!(scene.a.connections(), 3, "{}", scene.a.text());
    });
}

#[test]
fn h22_h23_conflicting_lengths_never_reach_a_server() {
    in_net(|| async {
        let scene = Scene::new().await;
        let hidden = "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n";
        let with =
            |fields: &str| format!("POST / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n\r\n0\r\n\r\n{hidden}");
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 40",
            "Content-Length: 5\r\nContent-Length: 40",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Transfer-Encoding: xchunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding:\x0bchunked",
            "Connection: Content-Length\r\nContent-Length: 5",
        ] {
            scene.expect("400", &[&with(fields)]).await;
        }
        scene
            .expect("501", &[&with("Transfer-Encoding: gzip, chunked")])
            .await;
        assert_eq!(scene.a.connections(), 0);
        // Well framed, what was hidden is the next request, and judged.
        let framed = format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello{hidden}");
        let got = scene.say(&framed).await;
        assert!(
            got.starts_with("HTTP/1.1 200") && got.contains("HTTP/1.1 403"),
            "{got}"
        );
    });
}

#[test]
fn h29_h30_h31_h33_h40_authorities_are_canonical_or_400() {
    in_net(|| async {
        let scene = Scene::new().await;
        let wrong = [
            "a.test@evil.test",
            "evil.test#a.test",
            "evil.test\0",
            "a.test:99999",
            "[::1",
            "a.test/",
            "a..test",
        ];
        for host in wrong {
            scene
                .expect("400", &[&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")])
                .await;
        }
        scene
            .expect(
                "400",
                &["GET http://a.test@evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"],
            )
            .await;
        // The flow's port decides; the address is this job's only for the allowed name.
        scene
            .expect("200", &["GET / HTTP/1.1\r\nHost: a.test:8443\r\n\r\n"])
            .await;
        scene
            .expect("200", &["GET / HTTP/1.1\r\nHost: 192.0.2.10\r\n\r\n"])
            .await;
        scene
            .expect("403", &["GET / HTTP/1.1\r\nHost: 192.0.2.66\r\n\r\n"])
            .await;
        let notes: Vec<_> = scene
            .bench
            .events
            .all()
            .into_iter()
            .filter_map(|event| event.note)
            .collect();
        assert!(
            notes.iter().any(|note| note == "Host names port 8443"),
            "{notes:?}"
        );
    });
}

#[test]
fn h34_x_forwarded_host_passes_untouched_and_is_noted() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        bench.ticket("a.test", "192.0.2.10");
        let a = Origin::answering("192.0.2.10:80", &[OK]).await;
        let request = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Host: evil.test\r\n\r\n";
        assert_eq!(
            status(&say(&bench, "192.0.2.10:80", request.as_bytes()).await),
            "200"
        );
        assert_eq!(a.text(), request);
        let event = bench.events.nth(1).await;
        assert_eq!(event.note.as_deref(), Some("X-Forwarded-Host names evil.test"));
    });
}

#[test]
fn n03_an_allowed_host_towards_a_foreign_address_is_dialled_at_its_own() {
    in_net(|| async {
        let scene = Scene::new().await;
        let got = say(
            &scene.bench,
            "192.0.2.66:80",
            b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        )
        .await;
        assert_eq!(
            (status(&got), scene.evil.connections(), scene.a.connections()),
            ("200", 0, 1)
        );
        let event = scene.bench.events.nth(1).await;
        assert_eq!(event.address, Some("192.0.2.10".parse().unwrap()));
        assert_eq!(event.original_address, Some("192.0.2.66".parse().unwrap()));
        // A name that does not resolve is told so.
        let got = say(
            &scene.bench,
            "192.0.2.66:80",
            b"GET / HTTP/1.1\r\nHost: b.test\r\n\r\n",
        )
        .await;
        assert!(
            got.starts_with("HTTP/1.1 502") && got.contains("resolve-failed"),
            "{got}"
        );
    });
}

#[test]
fn h50_none_of_the_corpus_reaches_an_origin_as_a_request_for_evil_test() {
    in_net(|| async {
        // On 81, bytes that are no HTTP would be let through.
        for port in [80, 81] {
            let policy = format!("egress-policy: block\nplatform: none\nallowed-endpoints: a.test:{port}\n");
            let bench = Bench::new(&policy);
            bench.ticket("a.test", "192.0.2.10");
            bench.resolves("evil.test", &["192.0.2.66"]);
            let a = Origin::answering(&format!("192.0.2.10:{port}"), &[OK]).await;
            let evil = Origin::answering(&format!("192.0.2.66:{port}"), &[OK]).await;
            for (title, bytes) in corpus() {
                say(&bench, &format!("192.0.2.10:{port}"), &bytes).await;
                assert!(!asks_for_evil(a.text().as_bytes()), "{title}: {:?}", a.text());
                assert_eq!(evil.connections(), 0, "{title}");
            }
            bench.open_flows(0).await;
        }
    });
}

#[test]
fn h50_the_corpus_does_reach_a_forbidden_host_that_is_allowed() {
    in_net(|| async {
        let bench = Bench::new("egress-policy: block\nplatform: none\nallowed-endpoints: evil.test:80\n");
        bench.resolves("evil.test", &["192.0.2.66"]);
        let evil = Origin::answering("192.0.2.66:80", &[OK]).await;
        let corpus = corpus();
        assert_eq!(corpus.len(), 545);
        for (_, bytes) in corpus {
            say(&bench, "192.0.2.10:80", &bytes).await;
        }
        assert!(asks_for_evil(evil.text().as_bytes()));
        assert!(
            evil.connections() > 50,
            "only {} of the corpus are requests",
            evil.connections()
        );
    });
}
