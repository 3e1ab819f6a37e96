//! Coverage and unidentified sources: what is shown of whom, and to whom.

use axum::http::Method;
use serde_json::{Value, json};
use tidegate_control::model::Role;
use tidegate_control::store::{Item, Store};
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::batch::{BatchHead, Lane};
use tidegate_control_wire::event::EventRecord;
use tidegate_control_wire::frame::{Hello, ServedNetwork};
use tidegate_policy::effective::Generation;

use crate::bench::{Answer, Bench, NASTY, POLICY, of_owners};

pub(crate) const AUDIT: &str = "egress-policy: audit\nallowed-endpoints: >\n  registry.example.test:443\n";

/// A gateway that serves a network.
pub(crate) async fn gateway(bench: &Bench) {
    let hello = Hello {
        protocol: PROTOCOL,
        gateway: "gw-1".into(),
        group: None,
        version: "0.1.0".into(),
        networks: vec![ServedNetwork {
            name: "runners".into(),
            cluster: "prod".into(),
            ranges: vec!["10.77.0.0/16".parse().unwrap()],
            default_policy: Some("house (audit)".into()),
            default_yaml: None,
            ..ServedNetwork::default()
        }],
        resume: None,
    };
    let seen = bench.store.gateway_seen(&hello, "gateway:gw-1", Generation(0));
    seen.await.unwrap();
}

/// Registers a job of a repository; its id.
pub(crate) async fn job(bench: &Bench, repo: &str, source: &str, more: &Value) -> String {
    let mut start = json!({
        "owner": repo.split('/').next().unwrap(), "repo": repo, "workflow": "ci.yml", "job": "build", "run_id": "77",
        "run_attempt": 1, "event": "push", "ref": "refs/heads/main", "actor": "ann", "sources": [source],
    });
    for (key, value) in more.as_object().unwrap() {
        start[key] = value.clone();
    }
    let made = bench.api(Method::POST, "/jobs", &start).await;
    made["id"].as_str().unwrap().to_owned()
}

pub(crate) async fn attach(bench: &Bench, name: &str, scope: &str) {
    let path = format!("/orgs/acme/policies/{name}/attachments");
    bench.api(Method::POST, &path, &json!({"add": [scope]})).await;
}

/// Stores events as gateway `gw-1` sends them, each call as a spool of its own.
pub(crate) async fn tell(store: &Store, spool: &str, events: &[Value]) {
    let head = BatchHead {
        protocol: PROTOCOL,
        spool: spool.into(),
        lane: Lane::Permits,
        dropped: 0,
    };
    let read = |event: &Value| EventRecord::read(&serde_json::to_vec(event).unwrap(), "gw-1").unwrap();
    let entries = (1..).zip(events.iter().map(|event| Item::from(read(event))));
    store.ingest("gw-1", head, entries.collect()).await.unwrap();
}

/// An event about a job of a repository, or about nobody.
pub(crate) fn event(id: &str, job: Option<(&str, &str)>, more: &Value) -> Value {
    let mut event = json!({
        "schema": 1, "time": jiff::Timestamp::now().to_string(), "id": id, "gateway": "gw-1", "network": "runners",
        "source": "10.77.9.9", "kind": "tls", "name": "forge.test", "port": 443, "mode": "block", "verdict": "permit",
    });
    if let Some((job, repo)) = job {
        event["job"] = json!({
            "id": job, "owner": repo.split('/').next().unwrap(), "repo": repo, "workflow": "ci.yml", "job": "build",
            "run_id": "77", "cluster": "prod", "assurance": "declared",
        });
    }
    for (key, value) in more.as_object().unwrap() {
        event[key] = value.clone();
    }
    event
}

async fn filled() -> Bench {
    let bench = Bench::new().await;
    gateway(&bench).await;
    bench.policy("acme", "base", POLICY).await;
    bench.policy("acme", "watch", AUDIT).await;
    attach(&bench, "base", "repo:acme/web").await;
    attach(&bench, "watch", "repo:acme/api").await;
    job(&bench, "acme/web", "10.77.0.1", &json!({})).await;
    let api = job(&bench, "acme/api", "10.77.0.2", &json!({})).await;
    job(&bench, "beta/x", "10.77.0.3", &json!({})).await;
    let would =
        json!({"mode": "audit", "verdict": "would-refuse", "reason": "not-allowed", "name": "new.test"});
    tell(
        &bench.store,
        "s1",
        &[event("e1", Some((&api, "acme/api")), &would)],
    )
    .await;
    bench
}

#[tokio::test]
async fn every_workflow_is_shown_with_its_policy_and_the_counters_filter() {
    let bench = filled().await;
    let viewer = bench.browser(Role::Viewer).await;
    let page = viewer.open("/ui/coverage").await;
    page.shows("acme/web").shows("acme/api").shows("beta/x");
    page.shows("href=\"/ui/orgs/acme/policies/base\"");
    page.shows("not ready to block")
        .shows("would have been a refusal");
    page.shows("network default: house (audit)");
    let refusals = "/ui/events?repo=acme%2Fapi&#38;workflow=ci.yml&#38;verdict=would-refuse&#38;since=";
    let since = |page: &Answer| {
        let (_, rest) = page.text.split_once(refusals).unwrap();
        let day = rest.split('"').next().unwrap().strip_suffix("T00%3A00%3A00Z");
        day.unwrap().parse::<jiff::civil::Date>().unwrap()
    };
    let today = viewer.open("/ui/coverage?days=1").await;
    let days = since(&today) - since(&page);
    assert_eq!(days.get_days(), 6, "the days that are counted");
    let none = viewer.open("/ui/coverage?filter=no-policy").await;
    none.shows("beta/x").hides("acme/web</a>");
    none.shows("aria-current=\"true\"");
    viewer
        .open("/ui/coverage?filter=ready-to-block")
        .await
        .shows("A workflow is ready when");
    viewer
        .open("/ui/coverage?search=nothing")
        .await
        .shows("No workflow is like that");
    let acme = bench
        .browser_of(&of_owners(Role::Viewer, "acme", &["acme"]))
        .await;
    acme.open("/ui/coverage").await.shows("acme/web").hides("beta/x");
}

#[tokio::test]
async fn lists_are_of_the_organization_in_the_bar_until_another_is_asked_for() {
    let bench = filled().await;
    let viewer = bench.browser(Role::Viewer).await;
    viewer.open("/ui/orgs/acme/policies").await;
    for (list, of_acme, of_beta) in [
        ("/ui/coverage", "acme/api", "beta/x"),
        ("/ui/runs", "acme/api 77", "beta/x 77"),
    ] {
        let chosen = viewer.open(list).await;
        chosen
            .shows("name=\"owner\" value=\"acme\"")
            .shows(of_acme)
            .hides(of_beta);
        // The form of that page with an emptied field.
        let every = viewer.open(&format!("{list}?owner=")).await;
        every
            .shows("name=\"owner\" value=\"\"")
            .shows(of_acme)
            .shows(of_beta);
        viewer
            .open(&format!("{list}?owner=beta"))
            .await
            .shows(of_beta)
            .hides(of_acme);
        // A repository says enough.
        viewer.open(&format!("{list}?repo=beta/x")).await.shows(of_beta);
    }
    viewer
        .open("/ui/coverage?owner=*")
        .await
        .shows("href=\"/ui/coverage?owner=%2A&#38;filter=audit\"");
    viewer
        .open("/ui/detections")
        .await
        .shows("name=\"owner\" value=\"acme\"")
        .shows("Nothing to look at");
    viewer
        .open("/ui/detections?owner=")
        .await
        .shows("href=\"/ui/detections?owner=%2A&#38;status=suppressed\"")
        .hides("name=\"owner\" value=\"acme\"");
}

#[tokio::test]
async fn an_empty_deployment_is_told_how_to_begin() {
    let bench = Bench::new().await;
    let viewer = bench.browser(Role::Viewer).await;
    viewer.open("/ui/coverage").await.shows("Connect runners");
    viewer.open("/ui/runs").await.shows("Connect runners");
    viewer
        .open("/ui/unidentified")
        .await
        .shows("Every source was somebody");
}

#[tokio::test]
async fn what_a_stranger_calls_itself_is_text() {
    let bench = Bench::new().await;
    gateway(&bench).await;
    job(
        &bench,
        "acme/web",
        "10.77.0.1",
        &json!({"workflow": "<b>x</b>.yml", "actor": NASTY.trim_end_matches('\u{202e}'),
        "job": "\u{202e}moc"}),
    )
    .await;
    let viewer = bench.browser(Role::Viewer).await;
    viewer
        .open("/ui/coverage")
        .await
        .hides("<b>x</b>")
        .shows("&#60;b&#62;x&#60;/b&#62;.yml");
    let runs = viewer.open("/ui/runs").await;
    runs.hides("<script>alert").shows("&#60;script&#62;");
    viewer
        .open("/ui/runs/acme/web/77")
        .await
        .hides("\u{202e}")
        .shows("\\u{202e}moc");
}

#[tokio::test]
async fn strangers_without_a_lease_are_shown_to_people_without_limits() {
    let bench = Bench::new().await;
    gateway(&bench).await;
    let refused = json!({"verdict": "refuse", "reason": "no-policy", "name": "evil.test"});
    let other = json!({"source": "10.77.0.5", "name": "other.test"});
    tell(
        &bench.store,
        "s1",
        &[event("n1", None, &refused), event("n2", None, &other)],
    )
    .await;
    job(&bench, "acme/web", "10.77.0.5", &json!({})).await;
    let viewer = bench.browser(Role::Viewer).await;
    let page = viewer.open("/ui/unidentified").await;
    page.shows("10.77.9.9")
        .shows("evil.test:443")
        .shows("No job ever held this address");
    page.shows("/ui/connect?network=runners");
    page.shows("10.77.0.5").shows("A job holds this address now");
    viewer
        .open("/ui/unidentified?source=10.77.1.1")
        .await
        .shows("No such source");
    let acme = bench
        .browser_of(&of_owners(Role::Viewer, "acme", &["acme"]))
        .await;
    acme.open("/ui/unidentified")
        .await
        .shows("These are nobody")
        .hides("10.77.9.9");
}

#[tokio::test]
async fn nobody_looks_without_a_session() {
    let bench = Bench::new().await;
    for path in [
        "/ui/coverage",
        "/ui/unidentified",
        "/ui/runs",
        "/ui/runs/acme/web/77",
        "/ui/jobs/x",
        "/ui/jobs/x/summary",
        "/ui/jobs/x/end",
        "/ui/allow?endpoint=a.test:443",
    ] {
        bench.stranger().get(path).await.wants_login();
    }
    for part in ["/ui/jobs/x/rows", "/ui/jobs/x/summary"] {
        bench.stranger().part(part).await.is(401);
    }
}
