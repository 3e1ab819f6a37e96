//! Sums for an overview, sources without a lease, and what else pages ask of the record: right, bounded, and cut to owners.

use std::fmt::Write as _;
use std::time::Duration;

use axum::http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tidegate_control::model::Role;
use tidegate_control_wire::event::EventRecord;

use crate::bench::{Bench, POLICY, of_owners};
use crate::events::{event, store};

/// Refusals and permits of two organizations, and of nobody.
async fn filled() -> Bench {
    let bench = Bench::new().await;
    let refused = |more: &Value| {
        let mut all = json!({"verdict": "refuse", "reason": "not-allowed", "name": "evil.test", "count": 3});
        for (key, value) in more.as_object().unwrap() {
            all[key] = value.clone();
        }
        all
    };
    let would = json!({"verdict": "would-refuse", "reason": "denied", "mode": "audit"});
    let suffix = json!({"reason": "search-suffix", "name": "a.lan.test"});
    let events = vec![
        event("a1", Some("acme-1"), &json!({})),
        event("a2", Some("acme-1"), &refused(&json!({}))),
        event("a3", Some("acme-2"), &refused(&would)),
        event("a4", Some("acme-2"), &refused(&suffix)),
        event(
            "b1",
            Some("beta-1"),
            &refused(&json!({"name": "other.test", "count": 5})),
        ),
        event(
            "n1",
            None,
            &refused(&json!({"reason": "no-policy", "network": "runners"})),
        ),
    ];
    store(&bench.store, events).await;
    bench
}

fn names<'v>(list: &'v Value, key: &str) -> Vec<&'v str> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|one| one[key].as_str().unwrap()).collect()
}

#[tokio::test]
async fn verdicts_are_summed_by_hour_for_who_asks() {
    let bench = filled().await;
    let acme = bench.token(&of_owners(Role::Viewer, "of acme", &["Acme"])).await;
    let all = bench.get("/stats/verdicts").ok().await.value();
    assert_eq!(all["items"].as_array().unwrap().len(), 24);
    assert_eq!(
        all["total"],
        json!({"permit": 1, "refuse": 14, "would_refuse": 3})
    );
    assert!(all["complete_since"].is_null(), "sums were always made here");
    let of_acme = json!({"permit": 1, "refuse": 6, "would_refuse": 3});
    for (token, query) in [
        (None, "?owner=ACME&hours=2"),
        (Some(&acme), "?hours=2"),
        (Some(&acme), "?owner=acme"),
    ] {
        let call = bench.get(&format!("/stats/verdicts{query}"));
        let call = match token {
            Some(token) => call.by(token),
            None => call,
        };
        assert_eq!(call.ok().await.value()["total"], of_acme, "{query}");
    }
    bench
        .get("/stats/verdicts?owner=beta")
        .by(&acme)
        .refused(403, "forbidden")
        .await;
    bench
        .get("/stats/verdicts?hours=745")
        .refused(400, "invalid")
        .await;
    bench.get("/stats/verdicts?hours=0").refused(400, "invalid").await;
    bench
        .get("/stats/verdicts?owner=a%00b")
        .refused(400, "invalid")
        .await;
    bench.pass(Duration::from_hours(48));
    let later = bench.get("/stats/verdicts").ok().await.value();
    assert_eq!(
        later["total"],
        json!({"permit": 0, "refuse": 0, "would_refuse": 0})
    );
}

#[tokio::test]
async fn what_is_refused_most_comes_first_with_its_reason() {
    let bench = filled().await;
    let all = bench.get("/stats/refused").ok().await.value();
    assert_eq!(
        names(&all, "endpoint"),
        ["evil.test", "other.test"],
        "no search suffixes"
    );
    assert_eq!(all["truncated"], false);
    let evil = &all["items"][0];
    assert_eq!(
        (evil["refuse"].as_u64(), evil["would_refuse"].as_u64()),
        (Some(6), Some(3))
    );
    assert_eq!(
        (evil["workflows"].as_u64(), &evil["reason"]),
        (Some(1), &Value::Null),
        "several reasons"
    );
    let other = &all["items"][1];
    assert_eq!(other["reason"], "not-allowed");
    assert!(
        other["meaning"].as_str().unwrap().ends_with("covers it."),
        "{other}"
    );
    let one = bench.get("/stats/refused?limit=1&owner=beta").ok().await.value();
    assert_eq!(names(&one, "endpoint"), ["other.test"]);
    let acme = bench
        .token(&of_owners(Role::Viewer, "of acme", &["acme", "none"]))
        .await;
    let own = bench.get("/stats/refused").by(&acme).ok().await.value();
    assert_eq!(names(&own, "endpoint"), ["evil.test"]);
    assert_eq!(own["items"][0]["refuse"], 3, "nobody's are not its own");
    bench.get("/stats/refused?days=91").refused(400, "invalid").await;
    bench
        .get("/stats/refused?limit=101")
        .refused(400, "invalid")
        .await;
}

/// A run of an organization reaches a name.
fn reach(owner: &str, run: u32, name: &str, at: Timestamp) -> EventRecord {
    let job = json!({
        "id": format!("job_{owner}{run}"), "owner": owner, "repo": format!("{owner}/web"), "workflow": "ci.yml",
        "job": "build", "run_id": run.to_string(), "cluster": "prod", "event": "push", "assurance": "signed",
    });
    let more = json!({"name": name, "job": job, "time": at.to_string()});
    event(&format!("e{run}"), None, &more)
}

#[tokio::test]
async fn what_was_reached_first_says_whether_it_is_new_anywhere() {
    let bench = Bench::new().await;
    let now = Timestamp::now();
    let ago = |seconds: i64| now - SignedDuration::from_secs(seconds);
    let events = vec![
        reach("acme", 1, "known.test", ago(50)),
        reach("beta", 2, "known.test", ago(40)),
        reach("beta", 3, "new.test", ago(30)),
    ];
    store(&bench.store, events).await;
    let all = bench.get("/stats/first-seen").ok().await.value();
    let told: Vec<_> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap();
            (
                text("owner"),
                text("endpoint"),
                one["anywhere"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("beta", "new.test", true),
            ("beta", "known.test", false),
            ("acme", "known.test", true)
        ]
    );
    let acme = bench.token(&of_owners(Role::Viewer, "of acme", &["acme"])).await;
    let own = bench.get("/stats/first-seen").by(&acme).ok().await.value();
    assert_eq!(names(&own, "endpoint"), ["known.test"]);
    assert_eq!(
        own["items"][0]["anywhere"],
        Value::Null,
        "what others reached is not its to know"
    );
    bench
        .get("/stats/first-seen?owner=beta")
        .by(&acme)
        .refused(403, "forbidden")
        .await;
    bench.pass(Duration::from_hours(24 * 10));
    let later = bench.get("/stats/first-seen").ok().await.value();
    assert_eq!(later["items"], json!([]));
}

#[tokio::test]
async fn policies_that_say_nothing_are_told_apart() {
    let bench = Bench::new().await;
    for name in ["loose", "silent", "busy", "fresh"] {
        bench.policy(name, POLICY).await;
    }
    let attach = async |name: &str, scope: &str| {
        let path = format!("/orgs/acme/policies/{name}/attachments");
        bench.post(&path).json(&json!({"add": [scope]})).ok().await;
    };
    attach("silent", "repo:acme/old").await;
    attach("busy", "repo:acme/web").await;
    // It was attached a week ago, as far as the database knows.
    sqlx::query("UPDATE attachments SET attached_at = attached_at - 864000000000")
        .execute(bench.store.db().read())
        .await
        .unwrap();
    attach("fresh", "repo:acme/new").await;
    let by = json!({"policy": "busy", "policy_version": 1, "scope": "repo:acme/web"});
    store(&bench.store, vec![event("a1", Some("acme-1"), &by)]).await;
    let told = bench.get("/stats/policies").ok().await.value();
    let of = |key: &str| {
        let names: Vec<_> = told[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap())
            .collect();
        (names, told[format!("{key}_count")].as_u64().unwrap())
    };
    assert_eq!(of("unattached"), (vec!["loose"], 1));
    assert_eq!(of("never_hit"), (vec!["silent"], 1), "who is new had no time");
    assert_eq!(told["never_hit"][0]["attachments"], json!(["repo:acme/old"]));
    let none = bench.get("/stats/policies?owner=beta").ok().await.value();
    assert_eq!(
        (&none["unattached"], &none["never_hit"]),
        (&json!([]), &json!([]))
    );
    let beta = bench.token(&of_owners(Role::Viewer, "of beta", &["beta"])).await;
    let own = bench.get("/stats/policies").by(&beta).ok().await.value();
    assert_eq!(own["unattached_count"], 0);
}

#[tokio::test]
async fn sources_without_a_lease_are_listed_with_what_they_tried() {
    let bench = Bench::new().await;
    bench.gateway("gw-1", "runners", "10.77.0.0/16").await;
    let ago = |seconds: i64| (Timestamp::now() - SignedDuration::from_secs(seconds)).to_string();
    let tried = |id: &str, source: &str, seconds: i64, name: &str| {
        event(
            id,
            None,
            &json!({"source": source, "network": "runners", "time": ago(seconds), "name": name, "verdict": "refuse",
                "reason": "no-policy"}),
        )
    };
    let mut events = vec![
        tried("n1", "10.77.0.1", 30, "a.test"),
        tried("n2", "10.77.0.1", 20, "a.test"),
        tried("n3", "10.77.0.2", 10, "b.test"),
    ];
    events.extend((0..12).map(|at| tried(&format!("m{at}"), "10.77.0.3", 40, &format!("m{at}.test"))));
    store(&bench.store, events).await;
    let job = json!({"sources": ["10.77.0.2"], "owner": "acme", "repo": "acme/web"});
    let made = bench
        .post("/jobs")
        .json(&job)
        .expect(axum::http::StatusCode::CREATED)
        .await
        .value();
    let list = bench.get("/unidentified-sources").ok().await.value();
    assert_eq!(names(&list, "source"), ["10.77.0.2", "10.77.0.1", "10.77.0.3"]);
    assert_eq!((&list["next"], &list["beyond"]), (&Value::Null, &json!(0)));
    let (held, twice, many) = (&list["items"][0], &list["items"][1], &list["items"][2]);
    assert_eq!(held["lease_now"], made["id"], "{made} {held}");
    assert_eq!((&twice["refusals"], &twice["permits"]), (&json!(2), &json!(0)));
    assert_eq!(
        twice["tried"],
        json!([{"endpoint": "a.test", "port": 443, "verdict": "refuse", "count": 2}])
    );
    assert_eq!(
        (&twice["reasons"][0]["reason"], &twice["reasons"][0]["count"]),
        (&json!("no-policy"), &json!(2))
    );
    assert_eq!(
        (many["tried"].as_array().unwrap().len(), &many["further"]),
        (10, &json!(2))
    );
    let mut path = "/unidentified-sources?limit=2".to_owned();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let page = bench.get(&path).ok().await.value();
        seen.extend(names(&page, "source").into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_str() else { break };
        let mut encoded = String::new();
        for byte in next.bytes() {
            write!(encoded, "%{byte:02X}").unwrap();
        }
        path = format!("/unidentified-sources?limit=2&after={encoded}");
    }
    assert_eq!(seen, ["10.77.0.2", "10.77.0.1", "10.77.0.3"]);
    for (query, wanted) in [
        ("source=10.77.0.3", 1),
        ("network=lab", 0),
        ("gateway=gw-1&network=runners", 3),
        ("since=2100-01-01T00:00:00Z", 0),
        ("since=1970-01-01T00:00:00Z", 3),
    ] {
        let list = bench
            .get(&format!("/unidentified-sources?{query}"))
            .ok()
            .await
            .value();
        assert_eq!(list["items"].as_array().unwrap().len(), wanted, "{query}");
    }
    for query in ["after=x", "source=nobody", "limit=0", "network=a%00b"] {
        bench
            .get(&format!("/unidentified-sources?{query}"))
            .refused(400, "invalid")
            .await;
    }
    let acme = bench.token(&of_owners(Role::Viewer, "of acme", &["acme"])).await;
    bench
        .get("/unidentified-sources")
        .by(&acme)
        .refused(403, "forbidden")
        .await;
}

#[tokio::test]
async fn events_are_asked_for_by_source_policy_and_lease_and_say_what_reasons_mean() {
    let bench = filled().await;
    let ids = |list: &Value| {
        let mut ids: Vec<String> = names(list, "id").into_iter().map(str::to_owned).collect();
        ids.sort();
        ids
    };
    for (query, wanted) in [
        ("unidentified=true", &["n1"][..]),
        ("unidentified=false&verdict=refuse", &["a2", "a4", "b1"]),
        ("network=runners", &["n1"]),
        ("source=10.77.1.2&org=beta", &["b1"]),
        ("source=10.0.0.9", &[]),
        ("policy=base", &[]),
        ("scope=org:acme", &[]),
        ("verdict=would-refuse", &["a3"]),
        ("verdict=would-refuse,refuse&repo=acme/web", &["a2", "a3", "a4"]),
        ("id=A4", &["a4"]),
        ("id=a1", &["a1"]),
    ] {
        let list = bench.get(&format!("/events?{query}")).ok().await.value();
        assert_eq!(ids(&list), wanted, "{query}");
    }
    let list = bench.get("/events?id=a2").ok().await.value();
    assert_eq!(
        list["items"][0]["meaning"],
        "No allowed endpoint of the policy covers it."
    );
    let permit = bench.get("/events?id=a1").ok().await.value();
    assert!(permit["items"][0].get("meaning").is_none());
    for query in [
        "unidentified=true&job=acme-1",
        "unidentified=maybe",
        "source=nobody",
    ] {
        bench
            .get(&format!("/events?{query}"))
            .refused(400, "invalid")
            .await;
    }
    let csv = bench.get("/events?format=csv&verdict=refuse").ok().await;
    assert_eq!(csv.media(), "text/csv");
    let lines: Vec<&str> = csv.text.lines().collect();
    assert!(lines[0].starts_with("time,id,verdict,mode,reason,"), "{lines:?}");
    assert_eq!(lines.len(), 5, "{lines:?}");
    let asked = bench.get("/events").header("accept", "text/csv").ok().await;
    assert_eq!(asked.text.lines().count(), 7);
    bench
        .get("/events?format=csv&limit=1")
        .refused(400, "invalid")
        .await;
}

#[tokio::test]
async fn gateways_say_how_far_they_are_and_what_is_wrong() {
    let bench = Bench::new().await;
    for (name, network) in [("gw-1", "runners"), ("gw-2", "lab"), ("gw-3", "runners")] {
        bench.gateway(name, network, "10.77.0.0/16").await;
    }
    for name in ["gw-1", "gw-2"] {
        let wanted = json!({"role": "gateway", "name": name});
        bench
            .post("/tokens")
            .json(&wanted)
            .expect(axum::http::StatusCode::CREATED)
            .await;
    }
    let told = bench.get("/gateways").ok().await.value();
    assert_eq!(names(&told, "name"), ["gw-1", "gw-2", "gw-3"]);
    assert_eq!(told["next"], Value::Null);
    let codes = |one: &Value| {
        let all = one["degraded"].as_array().unwrap().iter();
        all.map(|why| why["code"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(codes(&told["items"][0]), [""; 0], "{told}");
    assert_eq!(codes(&told["items"][2]), ["token"]);
    assert!(told["items"][0]["token"]["id"].is_string());
    assert_eq!(told["items"][0]["lag"], told["items"][0]["newest_generation"]);
    // A change that none of them has.
    bench.policy("base", POLICY).await;
    let path = "/orgs/acme/policies/base/attachments";
    bench.post(path).json(&json!({"add": ["org:acme"]})).ok().await;
    let told = bench.get("/gateways").ok().await.value();
    assert!(told["items"][0]["lag"].as_u64().unwrap() > 0 && told["items"][0]["behind_since"].is_string());
    bench.pass(Duration::from_mins(1));
    let late = bench.get("/gateways?sort=degraded&limit=2").ok().await.value();
    assert_eq!(codes(&late["items"][0])[0], "away");
    assert_eq!(late["counters"]["away"], 3);
    let next = late["next"].as_str().unwrap();
    let rest = bench
        .get(&format!("/gateways?sort=degraded&limit=2&after={next}"))
        .ok()
        .await
        .value();
    assert_eq!(
        (names(&rest, "name"), &rest["next"]),
        (vec!["gw-3"], &Value::Null)
    );
    for (query, wanted) in [
        ("search=LAB", &["gw-2"][..]),
        ("state=away&search=gw", &["gw-1", "gw-2", "gw-3"]),
        ("state=ok", &[]),
        ("state=drops", &[]),
        ("state=behind", &[]),
    ] {
        let list = bench.get(&format!("/gateways?{query}")).ok().await.value();
        assert_eq!(names(&list, "name"), wanted, "{query}");
    }
    for query in [
        "state=odd",
        "sort=odd",
        "limit=0",
        "after=",
        "limit=1&after=%C3%BC",
    ] {
        bench
            .get(&format!("/gateways?{query}"))
            .refused(400, "invalid")
            .await;
    }
}

#[tokio::test]
async fn detections_are_found_counted_and_changed_together() {
    let bench = filled().await;
    let again = json!({"verdict": "refuse", "reason": "not-allowed", "name": "evil.test"});
    store(&bench.store, vec![event("a9", Some("acme-9"), &again)]).await;
    let told = bench.get("/detections?search=EVIL").ok().await.value();
    let ids: Vec<&str> = names(&told, "id");
    assert_eq!(ids.len(), 2, "{told}");
    assert_eq!(told["counters"]["new"], 3);
    assert_eq!(
        (&told["counters"]["new_medium"], &told["counters"]["resolved"]),
        (&json!(3), &json!(0))
    );
    for (query, wanted) in [
        ("severity=high", 0),
        ("severity=medium&owner=beta", 1),
        ("search=other.test", 1),
        ("since=2100-01-01T00:00:00Z", 0),
        ("since=1970-01-01T00:00:00Z", 3),
    ] {
        let list = bench.get(&format!("/detections?{query}")).ok().await.value();
        assert_eq!(list["items"].as_array().unwrap().len(), wanted, "{query}");
    }
    let change = json!({"ids": ids, "status": "resolved", "note": "looked at"});
    let patch = |body: &Value| bench.call(Method::PATCH, "/detections").json(body);
    let changed = patch(&change).ok().await.value();
    assert_eq!(changed["items"][1]["status"], "resolved");
    assert_eq!(
        bench.get("/detections").ok().await.value()["counters"]["resolved"],
        2
    );
    let beta = bench.token(&of_owners(Role::Editor, "of beta", &["beta"])).await;
    let own = bench.get("/detections").by(&beta).ok().await.value();
    assert_eq!(
        (&own["counters"]["new"], &own["counters"]["resolved"]),
        (&json!(1), &json!(0))
    );
    // One that it may not see keeps all from being changed.
    let mixed = json!({"ids": [own["items"][0]["id"], ids[0]], "status": "new"});
    patch(&mixed).by(&beta).refused(404, "not-found").await;
    assert_eq!(
        bench.get("/detections").ok().await.value()["counters"]["resolved"],
        2
    );
    for wrong in [
        json!({"ids": [], "status": "new"}),
        json!({"ids": vec!["x"; 101], "status": "new"}),
        json!({"ids": ids, "status": "odd"}),
    ] {
        let status = patch(&wrong).send().await.status;
        assert!((400..500).contains(&status), "{wrong}");
    }
    bench
        .get(&format!("/detections?search={}", "x".repeat(256)))
        .refused(400, "invalid")
        .await;
}
