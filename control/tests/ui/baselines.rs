//! Pages of baselines: what is shown, and the way to a policy.

use axum::http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tidegate_control::model::Role;
use tidegate_control::store::{Item, Store};
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::batch::{BatchHead, Lane};
use tidegate_control_wire::event::EventRecord;

use crate::bench::{Bench, NASTY, of_owners};

const WEB: &str = "/ui/baselines/scope?scope=repo%3Aacme%2Fweb";

/// A run of an owner's `web` reaches a name.
fn reach(owner: &str, run: u32, name: &str) -> EventRecord {
    let event = json!({
        "schema": 1, "time": Timestamp::now().to_string(), "id": format!("{owner}{run}"), "gateway": "gw-1",
        "source": "10.77.1.2", "kind": "tls", "name": name, "port": 443, "mode": "audit", "verdict": "permit",
        "job": {
            "id": format!("job_{owner}{run}"), "owner": owner, "repo": format!("{owner}/web"), "workflow": "ci.yml",
            "job": "build", "run_id": run.to_string(), "cluster": "prod", "event": "push", "assurance": "signed",
        },
    });
    EventRecord::read(&serde_json::to_vec(&event).unwrap(), "gw-1").unwrap()
}

async fn tell(store: &Store, spool: &str, events: Vec<EventRecord>) {
    let head = BatchHead {
        protocol: PROTOCOL,
        spool: spool.into(),
        lane: Lane::Permits,
        dropped: 0,
    };
    let entries = events
        .into_iter()
        .zip(1..)
        .map(|(event, seq)| (seq, Item::from(event)));
    store.ingest("gw-1", head, entries.collect()).await.unwrap();
}

/// `acme/web` reached three names of a domain and one of another twice, and something odd; `beta/web` something else.
async fn filled() -> Bench {
    let bench = Bench::new().await;
    let mut events = Vec::new();
    for run in [1, 2] {
        for name in ["a.cdn.test", "b.cdn.test", "c.cdn.test", "registry.test"] {
            events.push(reach("acme", run, name));
        }
    }
    events.push(reach("acme", 3, "once.test"));
    events.push(reach("acme", 3, NASTY));
    events.push(reach("beta", 1, "beta.test"));
    tell(&bench.store, "s1", events).await;
    bench
}

#[tokio::test]
async fn baselines_are_listed_to_whom_they_concern() {
    let bench = Bench::new().await;
    let viewer = bench.browser(Role::Viewer).await;
    viewer
        .open("/ui/baselines")
        .await
        .shows("No job was seen yet")
        .shows("href=\"/ui/connect\"");
    let bench = filled().await;
    let viewer = bench.browser(Role::Viewer).await;
    viewer
        .open("/ui/baselines")
        .await
        .shows("href=\"/ui/baselines/scope?scope=repo%3Aacme%2Fweb\"")
        .shows("creating")
        .shows("<span class=\"note\">Cluster</span>")
        .shows("beta/web");
    viewer
        .open("/ui/baselines?owner=acme&search=CI.yml")
        .await
        .shows("acme/web/ci.yml")
        .hides("beta")
        .hides("Organization</span>");
    viewer
        .open("/ui/baselines?search=nothing+like+it")
        .await
        .shows("No baseline is like that");
    let beta = bench
        .browser_of(&of_owners(Role::Viewer, "beta", &["beta", "gamma"]))
        .await;
    beta.open("/ui/baselines").await.shows("beta/web").hides("acme");
    beta.get(WEB).await.is(403);
    bench.stranger().get("/ui/baselines").await.wants_login();
    bench.stranger().get(WEB).await.wants_login();
}

#[tokio::test]
async fn a_baseline_shows_what_was_reached_how_often_and_what_an_import_takes() {
    let bench = filled().await;
    let editor = bench.browser(Role::Editor).await;
    let page = editor.open(WEB).await;
    page.shows("It is stable after 100 runs")
        .shows("registry.test:443")
        .shows("aria-label=\"2 calls in 30 days, 2 on the busiest\"")
        .shows("leaves it out: a single run reached it")
        .shows("no policy can name it")
        .shows("&#60;script&#62;alert(1)")
        .shows("Preview the policy");
    assert_eq!(page.text.matches("name=\"was\"").count(), 4, "{page:?}");
    let found = editor.open(&format!("{WEB}&search=once&min_runs=1")).await;
    found
        .shows("once.test:443")
        .shows("takes it")
        .hides("registry.test");
    editor
        .open(&format!("{WEB}&search=nothing"))
        .await
        .shows("No endpoint is like that");
    editor
        .get(&format!("{WEB}&min_runs=0"))
        .await
        .is(400)
        .shows("min_runs");
    editor.get(&format!("{WEB}&since=yesterday")).await.is(400);
    let viewer = bench.browser(Role::Viewer).await;
    viewer
        .open(WEB)
        .await
        .shows("registry.test:443")
        .hides("Preview")
        .hides("type=\"checkbox\"");
    let cluster = editor.open("/ui/baselines/scope?scope=cluster%3Aprod").await;
    cluster
        .shows("Policies belong to organizations")
        .hides("Preview")
        .hides("Last 30 days");
    let nobody = editor.open("/ui/baselines/scope?scope=repo%3Aacme%2Fnew").await;
    nobody.shows("Nothing was reached yet");
}

#[tokio::test]
async fn a_baseline_is_exported_as_text() {
    let bench = filled().await;
    let viewer = bench.browser(Role::Viewer).await;
    viewer
        .open(WEB)
        .await
        .shows("href=\"/ui/baselines/export?scope=repo%3Aacme%2Fweb\"");
    let file = viewer
        .open("/ui/baselines/export?scope=repo%3Aacme%2Fweb&min_runs=1")
        .await;
    assert!(
        file.header("content-disposition").starts_with("attachment"),
        "{file:?}"
    );
    assert_eq!(
        file.text,
        "a.cdn.test:443\nb.cdn.test:443\nc.cdn.test:443\nonce.test:443\nregistry.test:443\n"
    );
    bench
        .stranger()
        .get("/ui/baselines/export?scope=org%3Aacme")
        .await
        .wants_login();
}

/// What a browser sends of the page: everything that is taken, but for `b.cdn.test`, and what a single run reached.
const CHOSEN: [(&str, &str); 12] = [
    ("scope", "repo:acme/web"),
    ("min_runs", ""),
    ("since", ""),
    ("mode", "block"),
    ("was", "a.cdn.test:443"),
    ("take", "a.cdn.test:443"),
    ("was", "b.cdn.test:443"),
    ("was", "c.cdn.test:443"),
    ("take", "c.cdn.test:443"),
    ("was", "registry.test:443"),
    ("take", "registry.test:443"),
    ("take", "once.test:443"),
];

#[tokio::test]
async fn a_choice_of_endpoints_becomes_a_policy_without_scripts() {
    let bench = filled().await;
    let editor = bench.browser(Role::Editor).await;
    let draft = editor.post("/ui/baselines/draft", &CHOSEN).await;
    draft
        .is(200)
        .shows("egress-policy: block")
        .shows("  once.test:443")
        .hides("b.cdn.test")
        .shows("name=\"name\" value=\"web\"");
    let mut wide = CHOSEN.to_vec();
    wide.retain(|(name, _)| *name != "was" && *name != "take");
    wide.push(("collapse", "auto"));
    editor
        .post("/ui/baselines/draft", &wide)
        .await
        .is(200)
        .shows("<code>*.cdn.test:443</code> for 3 names")
        .hides("a.cdn.test");
    let yaml = "egress-policy: block\r\nallowed-endpoints: >\r\n  a.cdn.test:443\r\n";
    let form = |name: &'static str| [("scope", "repo:acme/web"), ("name", name), ("yaml", yaml)];
    editor
        .post("/ui/baselines/create", &form("<b>"))
        .await
        .is(422)
        .shows("value=\"&#60;b&#62;\"")
        .shows("a.cdn.test:443");
    let done = editor.post("/ui/baselines/create", &form("from jobs")).await;
    assert_eq!(done.location(), "/ui/orgs/acme/policies/from%20jobs");
    let made = bench
        .api(Method::GET, "/orgs/acme/policies/from%20jobs", &Value::Null)
        .await;
    assert_eq!((&made["mode"], &made["endpoints"]), (&json!("block"), &json!(1)));
    editor
        .post("/ui/baselines/create", &form("from jobs"))
        .await
        .is(409)
        .shows("a.cdn.test:443");
}

#[tokio::test]
async fn who_may_not_make_policies_makes_none_of_a_baseline() {
    let bench = filled().await;
    let viewer = bench.browser(Role::Viewer).await;
    let form = [
        ("scope", "repo:acme/web"),
        ("name", "web"),
        ("yaml", "egress-policy: audit\n"),
    ];
    viewer.post("/ui/baselines/create", &form).await.is(403);
    bench
        .stranger()
        .post("/ui/baselines/draft", &CHOSEN)
        .await
        .is(403);
    let editor = bench.browser(Role::Editor).await;
    let foreign = [("sec-fetch-site", "cross-site")];
    editor
        .post_with("/ui/baselines/create", &form, &foreign)
        .await
        .is(403);
    let policies = bench.api(Method::GET, "/orgs/acme/policies", &Value::Null).await;
    assert_eq!(policies["items"], json!([]));
    editor
        .post(
            "/ui/baselines/draft",
            &[("scope", "repo:acme/web"), ("min_runs", "many")],
        )
        .await
        .is(400)
        .shows("no number of runs");
    let back = editor.get("/ui/baselines/draft").await;
    assert_eq!(back.location(), "/ui/baselines");
}
