//! Tests of what a gateway, or a stranger, can do by delivering events.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::Request as HttpRequest;
use futures_util::stream;
use serde_json::{Value, json};
use tidegate_control_wire::batch::MAX_ENTRIES;
use tidegate_control_wire::{EVENTS_PATH, PROTOCOL};
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::super::tests::Bench;
use super::*;
use crate::model::Role;

/// Longest wait for something that happens by itself.
const PATIENCE: Duration = Duration::from_secs(10);

fn head() -> Value {
    json!({"protocol": PROTOCOL, "spool": "s1", "lane": "permits", "dropped": 0})
}

fn entry(seq: u64, gateway: &str, name: &str) -> Value {
    json!({"seq": seq, "event": {
        "schema": 1, "time": jiff::Timestamp::now().to_string(), "id": name, "gateway": gateway,
        "source": "10.0.0.1", "kind": "tls", "name": name, "mode": "block", "verdict": "permit",
    }})
}

fn lines(lines: &[Value]) -> String {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    lines.join("\n") + "\n"
}

async fn deliver(bench: &Bench, token: Option<&str>, body: impl Into<Body>) -> (StatusCode, Value) {
    let mut request = HttpRequest::post(EVENTS_PATH);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(body.into()).unwrap();
    let answer = bench.router.clone().oneshot(request).await.unwrap();
    let status = answer.status();
    let body = to_bytes(answer.into_body(), 1 << 16).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

async fn names(bench: &Bench) -> Vec<String> {
    sqlx::query_scalar("SELECT endpoint FROM events ORDER BY seq")
        .fetch_all(bench.store.events_db().read())
        .await
        .unwrap()
}

/// Begins a batch whose rest comes later, or never: when this is done, it has its place.
async fn begin(bench: &Bench, token: &str, first: &str) -> (mpsc::Sender<Bytes>, Answering) {
    let (sender, waiting) = mpsc::channel::<Bytes>(1);
    let body = stream::unfold(waiting, |mut waiting| async move {
        let bytes = waiting.recv().await?;
        Some((Ok::<_, Infallible>(bytes), waiting))
    });
    let request = HttpRequest::post(EVENTS_PATH)
        .header("authorization", format!("Bearer {token}"))
        .body(Body::from_stream(body))
        .unwrap();
    let answering = tokio::spawn(bench.router.clone().oneshot(request));
    // There is room for another piece only when one was taken.
    for piece in [first, "", ""] {
        let sent = sender.send(Bytes::from(piece.to_owned()));
        let sent = tokio::time::timeout(PATIENCE, sent).await;
        sent.expect("its body is read").unwrap();
    }
    (sender, answering)
}

type Answering = tokio::task::JoinHandle<Result<Response, Infallible>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_stored_and_answered_with_the_mark() {
    let bench = Bench::new().await;
    let token = bench.token("gw-1").await;
    let body = lines(&[head(), entry(3, "gw-1", "a.test"), entry(4, "gw-1", "b.test")]);
    for _ in 0..2 {
        let (status, answer) = deliver(&bench, Some(&token), body.clone()).await;
        assert_eq!(
            (status, answer),
            (StatusCode::OK, json!({"stored": 4, "refused": 0}))
        );
    }
    assert_eq!(names(&bench).await, ["a.test", "b.test"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_gateway_stores_nothing() {
    let bench = Bench::new().await;
    let body = lines(&[head(), entry(1, "gw-1", "a.test")]);
    let admin = bench.token_of(Role::Admin, "gw-1").await;
    let cases = [
        (None, StatusCode::UNAUTHORIZED),
        (Some("tgg_nobody"), StatusCode::UNAUTHORIZED),
        (Some(admin.as_str()), StatusCode::FORBIDDEN),
    ];
    for (token, expected) in cases {
        let (status, answer) = deliver(&bench, token, body.clone()).await;
        assert_eq!(status, expected, "{answer}");
    }
    assert_eq!(names(&bench).await.len(), 0);
}

/// Bad input of the issue: events of another gateway, and lines that are none, are refused alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_gateways_events_are_refused_and_the_rest_is_stored() {
    let bench = Bench::new().await;
    let token = bench.token("gw-1").await;
    let body = lines(&[
        head(),
        entry(1, "gw-1", "a.test"),
        entry(2, "gw-2", "b.test"),
        json!("\u{1b}[2J"),
        entry(4, "gw-1", "c.test"),
        entry(5, "gw-2", "d.test"),
    ]);
    let (status, answer) = deliver(&bench, Some(&token), body).await;
    assert_eq!(
        (status, answer),
        (StatusCode::OK, json!({"stored": 5, "refused": 3}))
    );
    assert_eq!(names(&bench).await, ["a.test", "c.test"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_batch_is_refused_with_the_reason() {
    let bench = Bench::new().await;
    let token = bench.token("gw-1").await;
    let of = |field: &str, value: Value| {
        let mut head = head();
        head[field] = value;
        lines(&[head, entry(1, "gw-1", "a.test")])
    };
    let many: Vec<Value> = (1..=MAX_ENTRIES as u64 + 1)
        .map(|seq| json!({"seq": seq}))
        .collect();
    let cases = [
        (String::new(), 400, "syntax"),
        ("<html>".to_owned(), 400, "syntax"),
        (of("lane", "express".into()), 400, "syntax"),
        (of("spool", "a b".into()), 400, "invalid"),
        (of("protocol", 99.into()), 409, "protocol"),
        (lines(&[head()]) + &lines(&many), 413, "too-large"),
        ("x".repeat(MAX_BATCH_BYTES + 1), 413, "too-large"),
    ];
    for (body, status, code) in cases {
        let shown = body.chars().take(80).collect::<String>();
        let (answered, answer) = deliver(&bench, Some(&token), body).await;
        assert_eq!(answered.as_u16(), status, "{shown}: {answer}");
        assert_eq!(answer["code"], code, "{shown}: {answer}");
    }
    assert_eq!(names(&bench).await.len(), 0);
}

/// What the database can never hold is told from what it can't hold now: for that the gateway would come again for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_can_never_be_stored_is_422_and_one_that_may_be_is_not() {
    let bench = Bench::new().await;
    let token = bench.token("gw-1").await;
    // TOOBIG, and a constraint: SQLite refuses both at the row, the first whenever it comes.
    for (name, does) in [
        ("huge.test", "SELECT zeroblob(2000000000)"),
        ("odd.test", "SELECT RAISE(ABORT, 'not now')"),
    ] {
        let trigger = format!(
            "CREATE TRIGGER \"{name}\" BEFORE INSERT ON events WHEN NEW.endpoint = '{name}' BEGIN {does}; END"
        );
        let made = bench.store.events_db().write(move |tx| {
            Box::pin(async move {
                let trigger = sqlx::query(sqlx::AssertSqlSafe(trigger));
                trigger.execute(tx.connection()).await?;
                Ok(())
            })
        });
        made.await.unwrap();
    }
    for (name, status, code) in [
        ("huge.test", StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
        ("odd.test", StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        ("fine.test", StatusCode::OK, ""),
    ] {
        let body = lines(&[head(), entry(1, "gw-1", name)]);
        let (answered, answer) = deliver(&bench, Some(&token), body).await;
        assert_eq!(answered, status, "{name}: {answer}");
        assert_eq!(
            answer["code"].as_str().unwrap_or_default(),
            code,
            "{name}: {answer}"
        );
    }
    assert_eq!(
        names(&bench).await,
        ["fine.test"],
        "nothing of the others counts as stored"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_stores_nothing_and_frees_its_place() {
    let bench = Bench::new().await;
    let token = bench.token("gw-1").await;
    for _ in 0..=OF_ONE {
        let broken = stream::iter([
            Ok(Bytes::from(lines(&[head(), entry(1, "gw-1", "a.test")]))),
            Err(std::io::Error::other("reset")),
        ]);
        let (status, answer) = deliver(&bench, Some(&token), Body::from_stream(broken)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    }
    assert_eq!(names(&bench).await.len(), 0);
}

/// A gateway that holds all of its places waits for itself; another one is served meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gateway_has_two_places_and_takes_none_from_another() {
    let bench = Bench::new().await;
    let (one, two) = (bench.token("gw-1").await, bench.token("gw-2").await);
    let mut held = Vec::new();
    for lane in Lane::ALL {
        let mut head = head();
        head["lane"] = lane.as_str().into();
        held.push(begin(&bench, &one, &lines(&[head])).await);
    }
    let (status, answer) = deliver(&bench, Some(&one), lines(&[head()])).await;
    assert_eq!(
        (status, &answer["code"]),
        (StatusCode::TOO_MANY_REQUESTS, &json!("busy"))
    );
    let other = lines(&[head(), entry(1, "gw-2", "b.test")]);
    let (status, answer) = deliver(&bench, Some(&two), other).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    for (sender, request) in held {
        sender
            .send(lines(&[entry(1, "gw-1", "a.test")]).into())
            .await
            .unwrap();
        drop(sender);
        let answer = tokio::time::timeout(PATIENCE, request)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
    assert_eq!(names(&bench).await.len(), 3);
    let (status, _) = deliver(&bench, Some(&one), lines(&[head()])).await;
    assert_eq!(status, StatusCode::OK, "the places are free again");
}

/// Who is cut off in the middle leaves its place, and the eight of all are taken in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_gateways_than_there_is_room_for_wait_their_turn() {
    let bench = Bench::new().await;
    let mut held = Vec::new();
    for gateway in 0..AT_ONCE {
        let token = bench.token(&format!("gw-{gateway}")).await;
        held.push(begin(&bench, &token, "\n").await);
    }
    let token = bench.token("gw-late").await;
    let body = lines(&[head(), entry(1, "gw-late", "late.test")]);
    let mut late = Box::pin(deliver(&bench, Some(&token), body));
    // Its token is looked up, then it waits: for as long as nobody else leaves, nothing is answered.
    let early = tokio::time::timeout(Duration::from_millis(300), &mut late).await;
    assert!(early.is_err(), "{early:?}");
    let (sender, task) = held.remove(0);
    task.abort();
    drop(sender);
    let (status, answer) = tokio::time::timeout(PATIENCE, late)
        .await
        .expect("its turn comes");
    assert_eq!(status, StatusCode::OK, "{answer}");
}
