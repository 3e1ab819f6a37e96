//! Streams of events: that nothing is lost over a reconnect, and how a stream ends.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{event, store};
use crate::bench::{Bench, eventually};

/// Longest wait for bytes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The next bytes of a body; nothing at its end.
pub(super) async fn frame(body: &mut Body) -> Option<String> {
    loop {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await;
        let frame = frame.expect("bytes or an end").transpose().expect("no error")?;
        if let Ok(data) = frame.into_data() {
            return Some(String::from_utf8(data.into()).unwrap());
        }
    }
}

/// The rest of a body.
pub(super) async fn whole(body: &mut Body) -> Result<String, axum::Error> {
    let rest = tokio::time::timeout(PATIENCE, body.collect()).await;
    rest.expect("an end")
        .map(|rest| String::from_utf8(rest.to_bytes().into()).unwrap())
}

/// A message of a stream.
#[derive(Debug)]
struct Message {
    id: u64,
    data: Option<Value>,
}

/// Who follows a stream.
struct Follower {
    body: Body,
    read: String,
}

impl Follower {
    fn new(response: Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self {
            body: response.into_body(),
            read: String::new(),
        }
    }

    /// From the admin's stream.
    async fn open(bench: &Bench, query: &str, last: Option<u64>) -> Self {
        let mut call = bench.get(&format!("/events/stream{query}"));
        if let Some(last) = last {
            call = call.header("last-event-id", &last.to_string());
        }
        Self::new(call.open().await)
    }

    /// The next block, as WHATWG HTML §9.2.6 reads it; nothing at the end.
    async fn next(&mut self) -> Option<Message> {
        while !self.read.contains("\n\n") {
            self.read.push_str(&frame(&mut self.body).await?);
        }
        let (block, rest) = self.read.split_once("\n\n").unwrap();
        let (mut id, mut data, mut kind) = (None, None, "");
        for line in block.lines() {
            match line.split_once(": ").unwrap() {
                ("id", value) => id = value.parse().ok(),
                ("event", value) => kind = value,
                ("data", value) => data = serde_json::from_str(value).ok(),
                ("retry" | "", _) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(data.is_some(), kind == "network-event", "{block}");
        let message = Message {
            id: id.expect("every block says where the stream is"),
            data,
        };
        self.read = String::from(rest);
        Some(message)
    }

    /// The next event.
    async fn event(&mut self) -> Option<(u64, Value)> {
        loop {
            let message = self.next().await?;
            if let Some(data) = message.data {
                return Some((message.id, data));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_seen_once_and_in_order_by_who_reconnects_all_the_time() {
    const WRITERS: usize = 4;
    const EACH: usize = 500;
    let bench = Bench::new().await;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let records = bench.store.clone();
        writers.push(tokio::spawn(async move {
            let mut left = EACH;
            let mut lot = 1;
            while left > 0 {
                let now = lot.min(left);
                let events =
                    (0..now).map(|at| event(&format!("{writer}-{}", left - at), Some("acme-1"), &json!({})));
                store(&records, events.collect()).await;
                left -= now;
                lot = lot % 17 + 3;
            }
        }));
    }
    let mut seen: Vec<(u64, String)> = Vec::new();
    let (mut last, mut streams) = (0, 0_usize);
    while seen.len() < WRITERS * EACH {
        streams += 1;
        let mut follower = Follower::open(&bench, "", Some(last)).await;
        // A stroke of the pen, or none at all: it may break before the first event, too.
        for _ in 0..(streams * 7) % 23 {
            if seen.len() == WRITERS * EACH {
                break;
            }
            let message = follower.next().await.expect("it goes on");
            last = message.id;
            seen.extend(
                message
                    .data
                    .map(|data| (message.id, data["id"].as_str().unwrap().to_owned())),
            );
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(streams > 50, "{streams} streams");
    assert!(
        seen.is_sorted_by(|one, two| one.0 < two.0),
        "in order, none twice"
    );
    let mut ids: Vec<&str> = seen.iter().map(|(_, id)| id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), WRITERS * EACH, "none is missing");
}

#[tokio::test]
async fn a_stream_begins_now_or_where_it_is_told_to() {
    let bench = Bench::new().await;
    let events = ["one", "two", "three"].map(|id| event(id, Some("acme-1"), &json!({})));
    store(&bench.store, events.into()).await;
    let mut now = Follower::open(&bench, "", None).await;
    let mut behind = Follower::open(&bench, "?after=1", None).await;
    let mut header = Follower::open(&bench, "?after=1", Some(2)).await;
    let mut beyond = Follower::open(&bench, "", Some(1_000)).await;
    assert_eq!(behind.event().await.unwrap().1["id"], "two");
    assert_eq!(header.event().await.unwrap().1["id"], "three");
    assert_eq!(now.next().await.unwrap().id, 3, "where it is is said at once");
    store(
        &bench.store,
        vec![event("four", Some("beta-1"), &json!({"name": "new.test"}))],
    )
    .await;
    assert_eq!(now.event().await.unwrap().1["id"], "four");
    assert_eq!(
        beyond.event().await.unwrap().1["id"],
        "four",
        "of a store that was put back"
    );
    for wrong in ["x", "-1", "1.5", ""] {
        let call = bench.get("/events/stream").header("last-event-id", wrong);
        call.refused(400, "invalid").await;
    }
    bench.get("/events/stream?after=x").refused(400, "invalid").await;
    bench
        .get("/events/stream?since=2026-01-01T00:00:00Z")
        .refused(400, "unknown-field")
        .await;
    bench
        .get("/events/stream?verdict=no")
        .refused(400, "invalid")
        .await;
}

#[tokio::test]
async fn what_does_not_match_moves_the_position_only() {
    let bench = Bench::new().await;
    let mut follower = Follower::open(&bench, "?verdict=refuse&org=acme", None).await;
    let no = (0..50).map(|number| event(&format!("{number}"), Some("acme-1"), &json!({})));
    store(&bench.store, no.collect()).await;
    let yes = event(
        "yes",
        Some("acme-1"),
        &json!({"verdict": "refuse", "reason": "not-allowed"}),
    );
    store(&bench.store, vec![yes]).await;
    assert_eq!(follower.event().await.unwrap().0, 51);
    store(&bench.store, vec![event("no", Some("acme-1"), &json!({}))]).await;
    loop {
        let message = follower.next().await.expect("it goes on");
        assert!(message.data.is_none(), "{message:?}");
        if message.id == 52 {
            break;
        }
    }
}

#[tokio::test]
async fn a_revoked_token_ends_its_streams_and_no_other() {
    let bench = Bench::new().await;
    let new = json!({"role": "viewer", "name": "dashboard"});
    let made = bench
        .post("/tokens")
        .json(&new)
        .expect(StatusCode::CREATED)
        .await
        .value();
    let token = made["token"].as_str().unwrap();
    let mut idle = Follower::new(bench.get("/events/stream?job=nobody").by(token).open().await);
    let mut busy = Follower::new(bench.get("/events/stream").by(token).open().await);
    let mut other = Follower::open(&bench, "", None).await;
    store(&bench.store, vec![event("before", None, &json!({}))]).await;
    assert_eq!(busy.event().await.unwrap().1["id"], "before");
    bench
        .delete(&format!("/tokens/{}", made["id"].as_str().unwrap()))
        .ok()
        .await;
    store(&bench.store, vec![event("after", None, &json!({}))]).await;
    assert!(busy.event().await.is_none(), "not an event more");
    assert!(idle.event().await.is_none());
    assert_eq!(other.event().await.unwrap().1["id"], "before");
    assert_eq!(other.event().await.unwrap().1["id"], "after");
}

#[tokio::test]
async fn streams_end_with_the_program() {
    let bench = Bench::new().await;
    let mut follower = Follower::open(&bench, "", None).await;
    assert_eq!(follower.next().await.unwrap().id, 0);
    bench.closing.cancel();
    assert!(follower.next().await.is_none());
}

#[tokio::test]
async fn a_token_has_so_many_streams_and_all_tokens_together_so_many() {
    let bench = Bench::new().await;
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(Follower::open(&bench, "", None).await);
    }
    let told = bench.get("/events/stream").refused(429, "rate-limited").await;
    assert!(told.headers.contains_key("retry-after"));
    open.pop();
    eventually("a place is free", async || {
        match bench.get("/events/stream").open().await.status() {
            StatusCode::OK => Ok(()),
            status => Err(status),
        }
    })
    .await;
    for number in 0..16 {
        let token = bench
            .token(&crate::bench::wanted(
                tidegate_control::model::Role::Viewer,
                &format!("v{number}"),
            ))
            .await;
        for _ in 0..16 {
            let response = bench.get("/events/stream").by(&token).open().await;
            if response.status() == StatusCode::OK {
                open.push(Follower::new(response));
            } else {
                assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
                assert_eq!(open.len(), 256, "in all");
                return;
            }
        }
    }
    panic!("{} streams", open.len());
}
