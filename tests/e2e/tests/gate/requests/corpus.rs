//! H50: the requests that others made up to reach `evil.test` past a filter that allows `allowed.test`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tidegate_e2e::hello::Client;
use tidegate_e2e::{block, event, started};
use tidegate_lab::{Lab, Script, plan};

use super::{OK, unharmed};

/// Connections open at once.
const AT_ONCE: usize = 12;

struct Row {
    what: String,
    request: Vec<u8>,
}

/// The rows, read where the project's captures lie.
fn rows() -> Vec<Row> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/http_evasion.jsonl");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.lines().map(row).collect()
}

fn row(line: &str) -> Row {
    let row: Value = serde_json::from_str(line).expect("a JSON object a line");
    let hex = row["hex"].as_str().expect("bytes in hex");
    let octet = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
    Row {
        what: format!("{}: {}", row["src"], row["title"]),
        request: (0..hex.len()).step_by(2).map(octet).collect(),
    }
}

/// Says every row on a connection of its own and hears it to its end.
fn send_all(lab: &Lab, to: &str, rows: &[Row]) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut client = Client::connect(lab.runner(0), to);
                    let outcome = client.say(&row.request).shut().hear_all();
                    assert!(outcome.closed(), "{} on {to}: {outcome:?}", row.what);
                }
            });
        }
    });
}

#[tokio::test]
async fn h50_none_of_the_corpus_reaches_a_site_of_a_shared_internet() {
    let rows = rows();
    assert_eq!(rows.len(), 545);
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:80", "allowed.test:8080"])).await;
    assert_eq!(
        tidegate_e2e::dns::dig(&lab, &["allowed.test"]).await.data(),
        ["192.0.2.10"]
    );
    // Its own address, where the ticketed name is allowed, and evil.test's.
    for to in ["192.0.2.10:80", "192.0.2.10:8080", "192.0.2.66:80"] {
        send_all(&lab, to, &rows);
    }
    unharmed(&lab);
    let mut events = gateway.events();
    event(
        &mut events,
        &[("kind", "http"), ("name", "evil.test"), ("reason", "not-allowed")],
    )
    .await;
    event(
        &mut events,
        &[
            ("kind", "http"),
            ("reason", "malformed-http"),
            ("verdict", "refuse"),
        ],
    )
    .await;
    let page = tidegate_e2e::run(&lab, &["curl", "-sS", "http://allowed.test/"])
        .await
        .expect_success();
    assert!(page.text().contains("hello from allowed.test"), "{page}");
}

/// The same where even protocols without names are permitted: what an origin could take for a request for
/// evil.test may not pass as opaque bytes.
#[tokio::test]
async fn h50_none_of_the_corpus_passes_as_opaque_bytes() {
    let rows = rows();
    let lab = Lab::builder().build().unwrap();
    lab.name("raw.test", &plan::site(80)).unwrap();
    let server = lab
        .raw(
            "192.0.2.80:7000".parse().unwrap(),
            Script::reply_to("\r\n\r\n", OK),
        )
        .unwrap();
    let _gateway = started(&lab, &block(&["raw.test:7000"])).await;
    assert_eq!(
        tidegate_e2e::dns::dig(&lab, &["raw.test"]).await.data(),
        ["192.0.2.80"]
    );
    send_all(&lab, "192.0.2.80:7000", &rows);
    for connection in server.connections() {
        let received = String::from_utf8_lossy(&connection.received).to_ascii_lowercase();
        let host = received
            .lines()
            .find(|line| line.trim_start().starts_with("host") && line.contains("evil"));
        assert!(host.is_none(), "{received}");
    }
}
