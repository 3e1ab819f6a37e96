//! Events over the API: pages, lines, who sees what. Streams are followed in [`stream`].

mod stream;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tidegate_control::model::Role;
use tidegate_control::store::{Item, Store};
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::batch::{BatchHead, Lane};
use tidegate_control_wire::event::EventRecord;

use crate::bench::{Bench, of_owners};

/// An event that the newest in [`store`] would not stand before.
pub(crate) fn event(id: &str, job: Option<&str>, more: &Value) -> EventRecord {
    let mut event = json!({
        "schema": 1, "time": Timestamp::now().to_string(), "id": id, "gateway": "gw-1", "source": "10.77.1.2",
        "kind": "tls", "name": "forge.test", "port": 443, "mode": "block", "verdict": "permit",
    });
    if let Some(job) = job {
        let owner = job.split('-').next().unwrap();
        event["job"] = json!({
            "id": job, "owner": owner, "repo": format!("{owner}/web"), "workflow": "ci.yml", "job": "build",
            "run_id": "7", "assurance": "signed",
        });
    }
    for (key, value) in more.as_object().unwrap() {
        event[key] = value.clone();
    }
    EventRecord::read(&serde_json::to_vec(&event).unwrap(), "gw-1").unwrap()
}

/// Stores events, each call as a spool of its own.
pub(crate) async fn store(store: &Store, events: Vec<EventRecord>) {
    static SPOOLS: AtomicU64 = AtomicU64::new(1);
    let head = BatchHead {
        protocol: PROTOCOL,
        spool: format!("s{}", SPOOLS.fetch_add(1, Ordering::SeqCst)).into(),
        lane: Lane::Permits,
        dropped: 0,
    };
    let entries = events
        .into_iter()
        .zip(1..)
        .map(|(event, seq)| (seq, Item::from(event)));
    store.ingest("gw-1", head, entries.collect()).await.unwrap();
}

/// Three of acme's, one of beta's, one without a job; a second apart.
async fn filled() -> Bench {
    let bench = Bench::new().await;
    let ago = |seconds: i64| json!((Timestamp::now() - SignedDuration::from_secs(seconds)).to_string());
    let refused =
        json!({"time": ago(4), "verdict": "refuse", "reason": "not-allowed", "name": "\u{1b}[31mevil.test"});
    let events = vec![
        event("a1", Some("acme-1"), &json!({"time": ago(5)})),
        event("a2", Some("acme-1"), &refused),
        event(
            "a3",
            Some("acme-2"),
            &json!({"time": ago(3), "kind": "dns", "name": "api.forge.test"}),
        ),
        event("b1", Some("beta-1"), &json!({"time": ago(2)})),
        event("n1", None, &json!({"time": ago(1)})),
    ];
    store(&bench.store, events).await;
    bench
}

fn ids(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|one| one["id"].as_str().unwrap()).collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn events_are_listed_newest_first_by_what_is_asked() {
    let bench = filled().await;
    for (query, wanted) in [
        ("", &["n1", "b1", "a3", "a2", "a1"][..]),
        ("?org=ACME", &["a3", "a2", "a1"]),
        ("?repo=beta/Web", &["b1"]),
        ("?job=acme-1", &["a2", "a1"]),
        ("?job=acme-1&repo=beta/web", &[]),
        ("?run=7&workflow=ci.yml&job_name=build", &["b1", "a3", "a2", "a1"]),
        ("?verdict=refuse,would-refuse", &["a2"]),
        ("?name=Forge.test.", &["n1", "b1", "a1"]),
        ("?name=*.forge.test", &["a3"]),
        ("?kind=dns", &["a3"]),
        ("?reason=not-allowed", &["a2"]),
        ("?id=A2&gateway=gw-1", &["a2"]),
        ("?job=nobody", &[]),
        ("?since=2100-01-01T00:00:00Z", &[]),
        (
            "?until=2100-01-01T00:00:00Z&limit=1000&format=json",
            &["n1", "b1", "a3", "a2", "a1"],
        ),
    ] {
        let answer = bench.get(&format!("/events{query}")).ok().await;
        let list = answer.value();
        assert_eq!(ids(&list), wanted, "{query}");
        assert_eq!(list["next"], Value::Null, "{query}");
        assert_eq!(answer.headers["tidegate-position"], "5", "{query}");
    }
    let mut after = String::new();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let page = bench.get(&format!("/events?limit=2{after}")).ok().await.value();
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        after = page["next"]
            .as_str()
            .map(|next| format!("&after={next}"))
            .unwrap_or_default();
    }
    assert_eq!(seen, ["n1", "b1", "a3", "a2", "a1"]);
    assert_eq!(after, "", "the third page is the last");
    let of_job = bench.get("/jobs/acme-1/events?verdict=refuse").ok().await.value();
    assert_eq!(ids(&of_job), ["a2"]);
    assert_eq!(of_job["items"][0]["name"], "\\u{1b}[31mevil.test", "nothing raw");
    assert_eq!(ids(&bench.get("/jobs/nobody/events").ok().await.value()), [""; 0]);
}

#[tokio::test]
async fn events_come_as_lines_oldest_first_where_lines_are_asked_for() {
    let bench = filled().await;
    let by_format = bench.get("/events?format=ndjson").ok().await;
    assert_eq!(by_format.media(), "application/x-ndjson");
    assert_eq!(by_format.headers["tidegate-position"], "5");
    let told: Vec<Value> = lines(&by_format.text);
    let told: Vec<&str> = told.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(told, ["a1", "a2", "a3", "b1", "n1"]);
    for (accept, media) in [
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/x-ndjson, */*", "application/x-ndjson"),
        ("application/json, application/x-ndjson", "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
    ] {
        let answer = bench
            .get("/jobs/acme-1/events")
            .header("accept", accept)
            .ok()
            .await;
        assert_eq!(answer.media(), media, "{accept}");
    }
    let none = bench.get("/events?format=ndjson&job=nobody").ok().await;
    assert_eq!(none.text, "");
    for (query, field) in [("&limit=5", "limit"), ("&after=1.1", "after")] {
        let told = bench
            .get(&format!("/events?format=ndjson{query}"))
            .refused(400, "invalid")
            .await;
        assert_eq!(told.value()["field"], field);
    }
}

#[tokio::test]
async fn a_long_export_comes_in_pieces_and_ends_with_what_was_there() {
    let bench = Bench::new().await;
    let events = (0..1_500).map(|number| event(&format!("{number}"), Some("acme-1"), &json!({})));
    store(&bench.store, events.collect()).await;
    let mut body = bench.get("/events?format=ndjson").open().await.into_body();
    let mut text = stream::frame(&mut body).await.expect("a first piece");
    assert!(text.lines().count() < 1_500, "it is made while it is taken");
    store(&bench.store, vec![event("late", Some("acme-1"), &json!({}))]).await;
    while let Some(more) = stream::frame(&mut body).await {
        text.push_str(&more);
    }
    let told = lines(&text);
    assert_eq!(told.len(), 1_500, "what came later is not of it");
    let times: Vec<&str> = told.iter().map(|one| one["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted());
}

#[tokio::test]
async fn an_export_is_cut_off_when_its_token_is_revoked() {
    let bench = Bench::new().await;
    let events = (0..1_000).map(|number| event(&format!("{number}"), Some("acme-1"), &json!({})));
    store(&bench.store, events.collect()).await;
    let made = bench
        .post("/tokens")
        .json(&json!({"role": "viewer", "name": "export"}))
        .expect(StatusCode::CREATED)
        .await
        .value();
    let open = bench
        .get("/events?format=ndjson")
        .by(made["token"].as_str().unwrap())
        .open();
    let mut body = open.await.into_body();
    stream::frame(&mut body).await.expect("a first piece");
    bench
        .delete(&format!("/tokens/{}", made["id"].as_str().unwrap()))
        .ok()
        .await;
    let cut = stream::whole(&mut body).await;
    assert!(cut.is_err(), "nobody takes it for whole: {cut:?}");
}

#[tokio::test]
async fn a_limited_token_sees_events_of_its_owners_jobs_only() {
    let bench = filled().await;
    let beta = bench.token(&of_owners(Role::Viewer, "beta", &["Beta"])).await;
    let both = bench
        .token(&of_owners(Role::Viewer, "both", &["beta", "acme"]))
        .await;
    let seen = async |path: &str, token: &str| {
        let list = bench.get(path).by(token).ok().await.value();
        ids(&list).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(seen("/events", &beta).await, ["b1"]);
    assert_eq!(
        seen("/events", &both).await,
        ["b1", "a3", "a2", "a1"],
        "none without a job"
    );
    assert_eq!(seen("/events?job=acme-1", &beta).await, [""; 0]);
    assert_eq!(seen("/events?repo=acme/web", &beta).await, [""; 0]);
    assert_eq!(seen("/jobs/acme-1/events", &beta).await, [""; 0]);
    bench
        .get("/events?org=acme")
        .by(&beta)
        .refused(403, "forbidden")
        .await;
    bench
        .get("/events/stream?org=acme")
        .by(&beta)
        .refused(403, "forbidden")
        .await;
    let export = bench.get("/events?format=ndjson").by(&beta).ok().await;
    assert_eq!(lines(&export.text).len(), 1);
    bench
        .get("/jobs/acme-1/summary.md")
        .by(&beta)
        .refused(404, "not-found")
        .await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_field() {
    let bench = filled().await;
    for (query, field) in [
        ("repo=web", "repo"),
        ("verdict=maybe", "verdict"),
        ("verdict=", "verdict"),
        ("verdict=permit,permit,permit,permit,refused", "verdict"),
        ("kind=smtp", "kind"),
        ("reason=because", "reason"),
        ("since=yesterday", "since"),
        ("until=1", "until"),
        ("since=2030-01-01T00:00:00Z&until=2029-01-01T00:00:00Z", "since"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("after=x", "after"),
        ("format=xml", "format"),
    ] {
        let told = bench
            .get(&format!("/events?{query}"))
            .refused(400, "invalid")
            .await
            .value();
        let said = format!("{} {}", told["field"], told["detail"]);
        assert!(said.contains(field), "{query}: {told}");
    }
    let told = bench
        .get("/events?repository=a/b")
        .refused(400, "unknown-field")
        .await;
    assert!(told.detail().contains("repo"), "{told:?}");
    bench
        .get("/jobs/acme-1/events?org=acme")
        .refused(400, "unknown-field")
        .await;
    let long = "x".repeat(2_000);
    bench
        .get(&format!("/events?name={long}"))
        .refused(400, "invalid")
        .await;
    bench.get("/events?name=a%00b").refused(400, "invalid").await;
}

#[tokio::test]
async fn what_is_missing_from_the_record_is_said() {
    let bench = filled().await;
    let list = bench.get("/events").ok().await.value();
    let since: Timestamp = list["complete_since"].as_str().unwrap().parse().unwrap();
    let age = Timestamp::now().duration_since(since);
    assert!(
        age > SignedDuration::from_hours(29 * 24),
        "thirty days are kept: {age}"
    );
    let recent = Timestamp::now() - SignedDuration::from_hours(1);
    let list = bench.get(&format!("/events?since={recent}")).ok().await.value();
    assert_eq!(list.get("complete_since"), None);
    assert_eq!(list.get("losses"), None);
    let export = bench.get("/events?format=ndjson").ok().await;
    assert_eq!(
        export.headers["tidegate-complete-since"].to_str().unwrap()[..4],
        since.to_string()[..4]
    );
    let head = BatchHead {
        protocol: PROTOCOL,
        spool: "full".into(),
        lane: Lane::Refusals,
        dropped: 11,
    };
    bench.store.ingest("gw-1", head, Vec::new()).await.unwrap();
    let list = bench
        .get(&format!("/events?since={recent}&limit=1"))
        .ok()
        .await
        .value();
    assert_eq!(list["losses"][0]["dropped"], 11);
    assert_eq!(list["losses"][0]["lane"], "refusals");
    let next = list["next"].as_str().unwrap();
    let second = bench
        .get(&format!("/events?since={recent}&after={next}"))
        .ok()
        .await
        .value();
    assert_eq!(second.get("losses"), None, "once");
}

#[tokio::test]
async fn a_jobs_summary_is_a_page_of_markdown_without_anything_raw() {
    let bench = filled().await;
    let page = bench.get("/jobs/acme-1/summary.md").ok().await;
    assert_eq!(page.media(), "text/markdown; charset=utf-8");
    assert!(
        page.text.contains("evil") && page.text.contains("a2"),
        "{}",
        page.text
    );
    assert!(!page.text.contains('\u{1b}'), "{}", page.text);
    bench
        .get("/jobs/nobody/summary.md")
        .refused(404, "not-found")
        .await;
    bench.gateway("gw-1", "runners", "10.77.0.0/16").await;
    let start = json!({"owner": "acme", "repo": "acme/web", "sources": ["10.77.1.9"]});
    let made = bench
        .post("/jobs")
        .json(&start)
        .expect(StatusCode::CREATED)
        .await
        .value();
    let quiet = bench
        .get(&format!("/jobs/{}/summary.md", made["id"].as_str().unwrap()))
        .ok()
        .await;
    assert!(
        quiet.text.contains("acme"),
        "a job without events: {}",
        quiet.text
    );
    bench.pass(Duration::from_secs(1));
}
