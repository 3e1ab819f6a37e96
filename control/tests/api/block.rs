//! The global block list.

use axum::http::StatusCode;
use serde_json::{Value, json};
use tidegate_control::store::MAX_ENTRIES;

use crate::bench::Bench;

const PATH: &str = "/global-block/entries";

async fn patterns(bench: &Bench, query: &str) -> Vec<String> {
    let list = bench.get(&format!("{PATH}{query}")).ok().await.value();
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|one| one["pattern"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn an_entry_is_added_listed_and_removed() {
    let bench = Bench::new().await;
    let new = json!({"pattern": "*.EVIL.test", "reason": "phishing", "expires_at": "2099-01-01T00:00:00Z"});
    let made = bench
        .post(PATH)
        .json(&new)
        .expect(StatusCode::CREATED)
        .await
        .value();
    assert_eq!(
        (made["pattern"].as_str(), made["layer"].as_str()),
        (Some("*.evil.test"), Some("deployment"))
    );
    assert_eq!(made["created_by"], "root");
    bench.post(PATH).json(&new).refused(409, "conflict").await;
    let list = bench.get(&format!("{PATH}?layer=deployment")).ok().await.value();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(list["counters"]["deployment"], 1, "{list}");
    assert_eq!(list["feed_checked_at"], Value::Null);
    assert_eq!(patterns(&bench, "?search=EVIL").await, ["*.evil.test"]);
    assert_eq!(patterns(&bench, "?search=%25").await, [""; 0]);
    assert_eq!(patterns(&bench, "?layer=feed").await, [""; 0]);
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    bench.delete(&path).expect(StatusCode::NO_CONTENT).await;
    bench.delete(&path).refused(404, "not-found").await;
    bench
        .delete(&format!("{PATH}/builtin:evil.test"))
        .refused(409, "conflict")
        .await;
    bench
        .get(&format!("{PATH}?layer=other"))
        .refused(400, "invalid")
        .await;
}

#[tokio::test]
async fn what_is_no_pattern_or_has_no_reason_is_refused() {
    let bench = Bench::new().await;
    for (new, field) in [
        (
            json!({"pattern": "https://evil.test/x", "reason": "x"}),
            "pattern",
        ),
        (json!({"pattern": "", "reason": "x"}), "pattern"),
        (json!({"pattern": "evil.test", "reason": " "}), "reason"),
        (json!({"pattern": "evil.test", "reason": "a\u{0}"}), "reason"),
        (
            json!({"pattern": "evil.test", "reason": "x", "expires_at": "2001-01-01T00:00:00Z"}),
            "expires_at",
        ),
        (
            json!({"pattern": "evil.test", "reason": "x", "expires_at": "tomorrow"}),
            "expires_at",
        ),
        (json!({"pattern": "evil.test"}), "reason"),
    ] {
        let told = bench.post(PATH).json(&new).refused(422, "invalid").await;
        assert_eq!(told.value()["field"], field, "{new}");
    }
}

#[tokio::test]
async fn lists_of_every_kind_are_imported() {
    let bench = Bench::new().await;
    let import = async |media: &str, text: &str| {
        let path = format!("{PATH}?reason=an%20incident&expires_at=2099-01-01T00:00:00Z");
        bench.post(&path).body(media, text.to_owned()).ok().await.value()
    };
    let plain = import(
        "text/plain; charset=utf-8",
        "# one\na.test\n*.b.test\n203.0.113.0/24\na.test\n",
    )
    .await;
    assert_eq!(plain, json!({"added": 3, "known": 1}));
    assert_eq!(
        import("text/plain", "0.0.0.0 h.test a.test\n").await,
        json!({"added": 1, "known": 1})
    );
    let zone = "$TTL 60\n@ SOA localhost. root.localhost. 1 2 3 4 5\n  NS localhost.\nz.test CNAME .\n*.z.test CNAME .\n";
    assert_eq!(import("application/x-rpz", zone).await["added"], 2);
    let all = patterns(&bench, "?layer=deployment").await;
    assert_eq!(
        all,
        [
            "*.b.test",
            "*.z.test",
            "203.0.113.0/24",
            "a.test",
            "h.test",
            "z.test"
        ]
    );
    let log = bench.get("/audit-log?limit=1").ok().await.value();
    let entry = &log["items"][0];
    assert_eq!(
        (entry["action"].as_str(), entry["detail"]["added"].as_u64()),
        (Some("block.imported"), Some(2)),
        "{log}"
    );
}

#[tokio::test]
async fn a_list_with_one_bad_line_is_refused_whole() {
    let bench = Bench::new().await;
    let path = format!("{PATH}?reason=x");
    let told = bench
        .post(&path)
        .body("text/plain", "a.test\nno name at all!\nb.test\n")
        .refused(422, "document")
        .await;
    assert_eq!(told.value()["diagnostics"][0]["line"], 2, "{told:?}");
    assert!(
        told.value()["rendered"].as_str().unwrap().contains("list:2:"),
        "{told:?}"
    );
    bench
        .post(PATH)
        .body("text/plain", "a.test\n")
        .refused(400, "invalid")
        .await;
    bench
        .post(&path)
        .body("text/plain", "# nothing\n")
        .refused(422, "invalid")
        .await;
    bench
        .post(&path)
        .json(&json!({"pattern": "a.test", "reason": "x"}))
        .refused(400, "invalid")
        .await;
    bench
        .post(&path)
        .yaml("[a.test]")
        .refused(415, "unsupported-media-type")
        .await;
    bench
        .post(&path)
        .body("text/plain", vec![b'a', 0xff, b'\n'])
        .refused(400, "syntax")
        .await;
    let many: String = (0..=MAX_ENTRIES).fold(String::new(), |all, at| all + &format!("n{at}.test\n"));
    bench
        .post(&path)
        .body("text/plain", many)
        .refused(422, "invalid")
        .await;
    bench
        .post(&path)
        .body("text/plain", vec![b'\n'; (4 << 20) + 1])
        .refused(413, "too-large")
        .await;
    let past = format!("{path}&expires_at=2001-01-01T00:00:00Z");
    bench
        .post(&past)
        .body("text/plain", "a.test\n")
        .refused(422, "invalid")
        .await;
}

#[tokio::test]
async fn as_many_entries_as_there_may_be_are_imported_at_once_and_not_one_more() {
    let bench = Bench::new().await;
    let path = format!("{PATH}?reason=x");
    let all: String = (0..MAX_ENTRIES).fold(String::new(), |all, at| all + &format!("n{at}.test\n"));
    let told = bench
        .post(&path)
        .body("text/plain", all.clone())
        .ok()
        .await
        .value();
    assert_eq!(told["added"], MAX_ENTRIES);
    let again = bench.post(&path).body("text/plain", all).ok().await.value();
    assert_eq!(again, json!({"added": 0, "known": MAX_ENTRIES}));
    let more = bench
        .post(&path)
        .body("text/plain", "one-more.test\n")
        .send()
        .await;
    assert_eq!(more.status, 422, "{more:?}");
}
