//! Detections: listed, dealt with, suppressed by rules; each by who may.

use axum::http::Method;
use serde_json::{Value, json};
use tidegate_control::model::Role;

use crate::bench::{Bench, NASTY, of_owners};
use crate::coverage::{event, tell};

async fn filled() -> Bench {
    let bench = Bench::new().await;
    let refused =
        json!({"verdict": "refuse", "reason": "not-allowed", "name": "evil.test", "policy": "base"});
    let high = json!({"verdict": "refuse", "reason": "global-block", "name": "worse.test"});
    let events = [
        event("aaaaaaaa", Some(("job_a", "acme/web")), &refused),
        event("bbbbbbbb", Some(("job_b", "beta/api")), &high),
    ];
    tell(&bench.store, "s1", &events).await;
    bench
}

async fn detection(bench: &Bench, search: &str) -> Value {
    let path = format!("/detections?search={search}");
    bench.api(Method::GET, &path, &Value::Null).await["items"][0].clone()
}

fn path(detection: &Value) -> String {
    format!("/ui/detections/{}", detection["id"].as_str().unwrap())
}

#[tokio::test]
async fn what_is_new_is_listed_with_its_numbers() {
    let bench = filled().await;
    let viewer = bench.browser(Role::Viewer).await;
    let page = viewer.open("/ui/detections").await;
    page.shows("evil.test:443")
        .shows("worse.test:443")
        .shows("1 high, 1 medium")
        .hides("Resolve</button>");
    viewer
        .open("/ui/detections?severity=high")
        .await
        .shows("worse.test")
        .hides("evil.test");
    viewer
        .open("/ui/detections?search=evil&status=all")
        .await
        .shows("evil.test")
        .hides("worse.test");
    viewer
        .open("/ui/detections?status=resolved")
        .await
        .shows("No detection is in this state");
    viewer
        .open("/ui/detections?search=nobody")
        .await
        .shows("No detection is like that");
    let acme = bench
        .browser_of(&of_owners(Role::Viewer, "of acme", &["acme"]))
        .await;
    acme.open("/ui/detections")
        .await
        .shows("evil.test")
        .hides("worse.test");
    bench.stranger().get("/ui/detections").await.wants_login();
}

#[tokio::test]
async fn one_is_resolved_by_who_may_with_a_note() {
    let bench = filled().await;
    let one = detection(&bench, "evil").await;
    let here = path(&one);
    let viewer = bench.browser(Role::Viewer).await;
    let page = viewer.open(&here).await;
    page.shows("not-allowed")
        .shows("/ui/events?id=aaaaaaaa")
        .shows("acme/web")
        .hides("<textarea");
    viewer.post(&here, &[("become", "resolved")]).await.is(403);
    let editor = bench.browser(Role::Editor).await;
    editor.open(&here).await.shows("Resolve");
    let done = editor
        .post(&here, &[("become", "resolved"), ("note", "spoke with them")])
        .await;
    editor
        .follow(&done)
        .await
        .shows("The detection is changed")
        .shows("spoke with them")
        .shows("Open again");
    let refused = editor
        .post(&here, &[("become", "new"), ("expected", "1"), ("note", "typed")])
        .await;
    assert!((400..500).contains(&refused.status), "{refused:?}");
    refused.shows("suppressed or resolved, not new").shows("typed");
    editor.get("/ui/detections/nobody").await.is(404);
}

#[tokio::test]
async fn several_are_changed_together() {
    let bench = filled().await;
    let editor = bench.browser(Role::Editor).await;
    let (one, other) = (detection(&bench, "evil").await, detection(&bench, "worse").await);
    let ids = [one["id"].as_str().unwrap(), other["id"].as_str().unwrap()];
    editor
        .post("/ui/detections/change", &[("become", "resolved")])
        .await
        .is(422)
        .shows("Tick");
    let fields = [
        ("id", ids[0]),
        ("id", ids[1]),
        ("become", "resolved"),
        ("status", "new"),
    ];
    let viewer = bench.browser(Role::Viewer).await;
    viewer.post("/ui/detections/change", &fields).await.is(403);
    let wrong = [
        ("id", ids[1]),
        ("become", "odd"),
        ("note", "typed"),
        ("status", "new"),
    ];
    let refused = editor.post("/ui/detections/change", &wrong).await;
    assert!((400..500).contains(&refused.status), "{refused:?}");
    let tick =
        |id: &str, of: &str, ticked: &str| format!("value=\"{id}\" aria-label=\"Choose {of}\"{ticked}>");
    refused
        .shows("name=\"note\" value=\"typed\"")
        .shows(&tick(ids[1], "worse.test:443 of beta/api", " checked"))
        .shows(&tick(ids[0], "evil.test:443 of acme/web", ""));
    let done = editor.post("/ui/detections/change", &fields).await;
    editor.follow(&done).await.shows("Nothing to look at");
    editor
        .open("/ui/detections?status=resolved")
        .await
        .shows("evil.test")
        .shows("worse.test");
}

#[tokio::test]
async fn a_rule_begins_as_what_covers_one_detection() {
    let bench = filled().await;
    let editor = bench.browser(Role::Editor).await;
    let one = detection(&bench, "evil").await;
    let id = one["id"].as_str().unwrap();
    editor
        .open(&path(&one))
        .await
        .shows(&format!("/ui/detections/rules/new?from={id}"));
    let form = editor.open(&format!("/ui/detections/rules/new?from={id}")).await;
    form.shows("value=\"evil.test:443\"")
        .shows("value=\"acme/web\"")
        .shows("value=\"ci.yml\"");
    let fields = [
        ("from", id),
        ("endpoint", "evil.test:443"),
        ("type", "Domain-Blocked"),
        ("repo", "acme/web"),
        ("workflow", "ci.yml"),
        ("reason", ""),
    ];
    editor
        .post("/ui/detections/rules", &fields)
        .await
        .shows("value=\"evil.test:443\"")
        .shows("role=\"alert\"");
    let viewer = bench.browser(Role::Viewer).await;
    let good: Vec<_> = fields[..5]
        .iter()
        .copied()
        .chain([("reason", "the mirror")])
        .collect();
    viewer.post("/ui/detections/rules", &good).await.is(403);
    form.shows("Last day");
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let good: Vec<_> = good.into_iter().chain([("expires", today.as_str())]).collect();
    let done = editor.post("/ui/detections/rules", &good).await;
    let list = editor.follow(&done).await;
    list.shows("The rule is made")
        .shows("the mirror")
        .shows("acme/web, ci.yml");
    viewer
        .open("/ui/detections/rules")
        .await
        .shows("the mirror")
        .hides("Remove the rule");
    editor.open(&path(&one)).await.shows("Suppressed by rule");
    let rules = bench
        .api(Method::GET, "/detection-suppressions", &Value::Null)
        .await;
    let delete = format!(
        "/ui/detections/rules/{}/delete",
        rules["items"][0]["id"].as_str().unwrap()
    );
    viewer.post(&delete, &[]).await.is(403);
    let done = editor.post(&delete, &[]).await;
    editor
        .follow(&done)
        .await
        .shows("The rule was removed")
        .shows("No rule yet");
}

#[tokio::test]
async fn what_jobs_are_called_is_text() {
    let bench = Bench::new().await;
    let job = json!({"id": "job_x", "owner": "acme", "repo": "acme/web", "workflow": NASTY, "job": NASTY,
        "run_id": NASTY, "runner_name": NASTY, "actor": NASTY, "head_repo": NASTY, "ref": NASTY, "assurance": "signed"});
    let nasty = json!({"verdict": "refuse", "reason": "not-allowed", "name": NASTY, "rule": NASTY, "policy": NASTY,
        "nearest": NASTY, "job": job});
    tell(&bench.store, "s1", &[event("eeeeeeee", None, &nasty)]).await;
    let editor = bench.browser(Role::Editor).await;
    let one = bench.api(Method::GET, "/detections", &Value::Null).await["items"][0].clone();
    let id = one["id"].as_str().unwrap();
    for page in [
        "/ui/detections".to_owned(),
        path(&one),
        format!("/ui/detections/rules/new?from={id}"),
    ] {
        editor
            .open(&page)
            .await
            .hides("<script>alert")
            .hides("<img src=x")
            .hides("\u{202e}");
    }
}
