//! Bad input (the list): each a problem document that says what and where, nothing stored.

use std::fmt::Write;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::json;

use crate::bench::{Bench, POLICY};

const POLICIES: &str = "/orgs/acme/policies";

fn new(name: &str, yaml: &str) -> serde_json::Value {
    json!({"name": name, "yaml": yaml})
}

#[tokio::test]
async fn invalid_yaml_is_told_with_line_column_and_caret() {
    let bench = Bench::new().await;
    bench.policy("base", POLICY).await;
    let wrong = "egress-policy: block\nallowed-endpoints: >\n  good.test:443\n  github.com:abc\n";
    for call in [
        bench.post(POLICIES).json(&new("bad", wrong)),
        bench.post(&format!("{POLICIES}?name=bad")).yaml(wrong),
        bench
            .put(&format!("{POLICIES}/base"))
            .header("if-match", "*")
            .yaml(wrong),
    ] {
        let told = call.refused(422, "document").await.value();
        let first = &told["diagnostics"][0];
        assert_eq!(
            (first["line"].as_u64(), first["column"].as_u64()),
            (Some(4), Some(14)),
            "{told}"
        );
        let rendered = told["rendered"].as_str().unwrap();
        assert!(
            rendered.contains("4 |   github.com:abc") && rendered.contains("^^^"),
            "{rendered}"
        );
        assert!(told["detail"].as_str().unwrap().contains("1 error"), "{told}");
    }
    for yaml in [
        "a: [",
        "\tx: 1",
        "egress-policy: {",
        "%",
        "- x",
        "42",
        "",
        "egress-policy: block\0",
        "alowed-endpoints: x",
    ] {
        bench
            .post(POLICIES)
            .json(&new("bad", yaml))
            .refused(
                422,
                if yaml.contains('\0') {
                    "invalid"
                } else {
                    "document"
                },
            )
            .await;
    }
}

#[tokio::test]
async fn duplicate_keys_and_alias_bombs_are_refused() {
    let bench = Bench::new().await;
    let twice = "egress-policy: block\negress-policy: audit\n";
    let told = bench
        .post(POLICIES)
        .json(&new("bad", twice))
        .refused(422, "document")
        .await;
    assert_eq!(told.value()["diagnostics"][0]["line"], 2, "{told:?}");
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (one, next) in ('a'..='y').zip('b'..='z') {
        writeln!(
            bomb,
            "{next}: &{next} [{}]",
            vec![format!("*{one}"); 10].join(", ")
        )
        .unwrap();
    }
    bench
        .post(POLICIES)
        .json(&new("bad", &bomb))
        .refused(422, "document")
        .await;
    let deep = "[".repeat(100_000);
    bench
        .post(POLICIES)
        .json(&new("bad", &deep))
        .refused(422, "document")
        .await;
}

#[tokio::test]
async fn documents_over_a_mebibyte_are_refused_before_they_are_read() {
    let bench = Bench::new().await;
    let line = "# 0123456789012345678901234567890123456789012345678901234567890\n";
    let fits = format!("{POLICY}{}", line.repeat((1 << 20) / line.len() - 2));
    assert!(fits.len() > 1_000_000);
    bench
        .post(POLICIES)
        .json(&new("fits", &fits))
        .expect(StatusCode::CREATED)
        .await;
    let large = format!("{fits}{}", line.repeat(4));
    let told = bench
        .post(POLICIES)
        .json(&new("large", &large))
        .refused(413, "too-large")
        .await;
    assert!(told.detail().contains("1 MiB"), "{told:?}");
    bench
        .post(&format!("{POLICIES}?name=large"))
        .yaml(&large)
        .refused(413, "too-large")
        .await;
    bench
        .put("/orgs/acme/endpoint-sets/large")
        .yaml(&large)
        .refused(413, "too-large")
        .await;
    let check = json!({"owner": "acme", "yaml": large});
    bench.post("/check").json(&check).refused(413, "too-large").await;
    let huge = vec![b' '; 8 << 20];
    bench
        .post(POLICIES)
        .body("application/json", huge.clone())
        .refused(413, "too-large")
        .await;
    bench
        .post("/tokens")
        .body("application/json", huge)
        .refused(413, "too-large")
        .await;
}

#[tokio::test]
async fn names_that_are_taken_are_conflicts_however_they_are_written() {
    let bench = Bench::new().await;
    bench.policy("B\u{fc}ro", POLICY).await;
    let told = bench
        .post(POLICIES)
        .json(&new("B\u{fc}ro", POLICY))
        .refused(409, "conflict")
        .await;
    assert!(told.detail().contains("B\u{fc}ro"), "{told:?}");
    bench
        .post(POLICIES)
        .json(&new("Bu\u{308}ro", POLICY))
        .refused(409, "conflict")
        .await;
    let told = bench.get(&format!("{POLICIES}/Bu%CC%88ro")).ok().await;
    assert_eq!(
        told.value()["name"],
        "B\u{fc}ro",
        "another encoding of the same name"
    );
}

#[tokio::test]
async fn names_with_paths_sql_and_hidden_characters_are_refused() {
    let bench = Bench::new().await;
    let long = "x".repeat(300);
    for name in [
        "",
        ".",
        "..",
        "../../etc/passwd",
        "..\\..\\boot",
        "a/b",
        "'; DROP TABLE policies; --",
        "\" OR 1=1",
        "%",
        "a\u{202e}b",
        "a\u{200b}b",
        "a\nb",
        "a\u{0}b",
        long.as_str(),
    ] {
        let told = bench
            .post(POLICIES)
            .json(&new(name, POLICY))
            .refused(422, "invalid")
            .await;
        assert_eq!(told.value()["field"], "name", "{name:?}");
    }
    for owner in ["..", "a%27b", "%00", "a%2Fb", "b%C3%BCro", "%ff", &long] {
        bench
            .post(&format!("/orgs/{owner}/policies"))
            .json(&new("base", POLICY))
            .send()
            .await;
        let told = bench.get(&format!("/orgs/{owner}/policies")).send().await;
        assert_eq!(told.status, 400, "{owner}: {told:?}");
    }
    assert!(!bench.dump().await.contains("policies: '"), "nothing is stored");
}

#[tokio::test]
async fn names_in_paths_are_never_more_than_names() {
    let bench = Bench::new().await;
    let long = "x".repeat(5_000);
    for name in [
        "..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "a%00b",
        "%ff",
        "%",
        "%zz",
        "a%0ab",
        &long,
        "'%20OR%201=1",
    ] {
        for path in [
            format!("{POLICIES}/{name}"),
            format!("{POLICIES}/{name}/history"),
            format!("{POLICIES}/{name}/versions/1"),
            format!("/orgs/acme/endpoint-sets/{name}"),
            format!("/jobs/{name}"),
        ] {
            let told = bench.get(&path).send().await;
            assert!(matches!(told.status, 400 | 404), "{path}: {told:?}");
        }
        for path in [
            format!("{POLICIES}/{name}"),
            format!("/tokens/{name}"),
            format!("/global-block/entries/{name}"),
        ] {
            let told = bench.delete(&path).send().await;
            assert!(matches!(told.status, 400 | 404), "{path}: {told:?}");
        }
    }
}

#[tokio::test]
async fn json_that_is_none_or_does_not_fit_is_told_where() {
    let bench = Bench::new().await;
    let send = |text: &str| bench.post(POLICIES).body("application/json", text.to_owned());
    let told = send("{\"name\": \"a\",\n \"yaml\": }")
        .refused(400, "syntax")
        .await
        .value();
    assert_eq!(
        (told["line"].as_u64(), told["column"].as_u64()),
        (Some(2), Some(10)),
        "{told}"
    );
    send("").refused(400, "syntax").await;
    send("{\"name\": \"a\"").refused(400, "syntax").await;
    send("{\"name\": \"a\", \"yaml\": \"\"} x")
        .refused(400, "syntax")
        .await;
    send(&"[".repeat(10_000)).send().await;
    let told = send("{\"name\": \"a\", \"yml\": \"\"}")
        .refused(422, "unknown-field")
        .await
        .value();
    assert_eq!(told["field"], "yml");
    assert!(
        told["detail"].as_str().unwrap().contains("did you mean `yaml`?"),
        "{told}"
    );
    let told = send("{\"yaml\": \"x\"}").refused(422, "invalid").await.value();
    assert_eq!(told["field"], "name");
    send("{\"name\": \"a\", \"name\": \"b\", \"yaml\": \"x\"}")
        .refused(422, "invalid")
        .await;
    send("[]").refused(422, "invalid").await;
    send("null").refused(422, "invalid").await;
    // Every field of this one may be left out: a list of them in order is no object all the same.
    bench
        .post(&format!("{POLICIES}/base/propose"))
        .body("application/json", " [null, null]".to_owned())
        .refused(422, "invalid")
        .await;
    bench
        .post(POLICIES)
        .body("application/json", vec![0xff, 0xfe])
        .refused(400, "syntax")
        .await;
}

#[tokio::test]
async fn bodies_of_other_kinds_are_415() {
    let bench = Bench::new().await;
    for media in [
        "application/xml",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin1",
        "nonsense",
    ] {
        bench
            .post(POLICIES)
            .body(media, new("a", POLICY).to_string())
            .refused(415, "unsupported-media-type")
            .await;
    }
    bench.post(POLICIES).refused(415, "unsupported-media-type").await;
    bench
        .post(POLICIES)
        .header("content-encoding", "gzip")
        .json(&new("a", POLICY))
        .refused(415, "unsupported-media-type")
        .await;
    bench
        .post("/tokens")
        .yaml("role: admin")
        .refused(415, "unsupported-media-type")
        .await;
}

#[tokio::test]
async fn parameters_are_as_strict_as_bodies() {
    let bench = Bench::new().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("mode=blok", "mode"),
        ("attached=perhaps", "attached"),
        ("endpoint=", "endpoint"),
        ("search=%00", "query"),
    ] {
        let told = bench
            .get(&format!("{POLICIES}?{query}"))
            .refused(400, "invalid")
            .await;
        assert_eq!(told.value()["field"], field, "{query}: {told:?}");
    }
    let told = bench
        .get(&format!("{POLICIES}?serch=x"))
        .refused(400, "unknown-field")
        .await;
    assert!(told.detail().contains("did you mean `search`?"), "{told:?}");
    bench.get(&format!("{POLICIES}?after=nonsense%27")).send().await;
    bench
        .post(&format!("{POLICIES}?name=b"))
        .json(&new("a", POLICY))
        .refused(400, "invalid")
        .await;
    bench.post(POLICIES).yaml(POLICY).refused(400, "invalid").await;
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_are_problems_too() {
    let bench = Bench::new().await;
    for path in ["/nothing", "/orgs/acme", "/policies", "/orgs/acme/policies/"] {
        bench.get(path).refused(404, "not-found").await;
    }
    bench.get("/orgs//policies").refused(400, "invalid").await;
    let told = bench
        .call(Method::PATCH, POLICIES)
        .refused(405, "method-not-allowed")
        .await;
    let allowed = told.headers["allow"].to_str().unwrap();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
    bench
        .call(Method::OPTIONS, "/tokens")
        .refused(405, "method-not-allowed")
        .await;
    bench
        .call(Method::TRACE, "/tokens")
        .refused(405, "method-not-allowed")
        .await;
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up_after_thirty_seconds() {
    let bench = Bench::new().await;
    let warm = bench.get("/gateways").ok().await;
    assert_eq!(
        warm.status, 200,
        "the token is remembered, so that nothing but the body is waited for"
    );
    let before = bench.dump().await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let never = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let call = bench
        .post("/tokens")
        .body("application/json", Body::from_stream(never));
    let told = call.expect(StatusCode::SERVICE_UNAVAILABLE).await;
    let waited = began.elapsed();
    tokio::time::resume();
    assert_eq!(
        (told.value()["code"].as_str(), &told.headers["retry-after"]),
        (Some("timeout"), &"1".parse().unwrap())
    );
    assert!((30..35).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!(bench.dump().await, before);
}
