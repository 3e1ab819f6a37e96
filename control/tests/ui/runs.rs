//! Runs, jobs, and the way from a refusal to a policy that allows it.

use axum::http::Method;
use serde_json::{Value, json};
use tidegate_control::model::Role;

use crate::bench::{Answer, Bench, POLICY, of_owners};
use crate::coverage::{attach, event, gateway, job, tell};

/// A job of `acme/web` whose policy refused a name.
async fn refused() -> (Bench, String) {
    let bench = Bench::new().await;
    gateway(&bench).await;
    bench.policy("acme", "base", POLICY).await;
    attach(&bench, "base", "repo:acme/web").await;
    let id = job(&bench, "acme/web", "10.77.0.1", &json!({})).await;
    let of = Some((id.as_str(), "acme/web"));
    let by = json!({"policy": "base", "policy_version": 1, "scope": "repo:acme/web"});
    let with = |more: Value| {
        let mut all = by.clone();
        for (key, value) in more.as_object().unwrap() {
            all[key] = value.clone();
        }
        all
    };
    let events = [
        event(
            "e1",
            of,
            &with(json!({"verdict": "refuse", "reason": "not-allowed", "name": "evil.test", "port": 8443})),
        ),
        event(
            "e2",
            of,
            &with(
                json!({"name": "registry.example.test", "rule": "registry.example.test:443", "rule_source": "policy",
                "bytes_up": 10, "bytes_down": 2_048}),
            ),
        ),
    ];
    tell(&bench.store, "s1", &events).await;
    (bench, id)
}

/// The first link whose address begins so.
fn link(page: &Answer, beginning: &str) -> String {
    let wanted = format!("href=\"{beginning}");
    let at = page
        .text
        .find(&wanted)
        .unwrap_or_else(|| panic!("no link {beginning}: {page:?}"));
    let rest = &page.text[at + 6..];
    rest.split('"')
        .next()
        .unwrap()
        .replace("&#38;", "&")
        .replace("&amp;", "&")
}

/// The value of a hidden field of the form.
fn field(page: &Answer, name: &str) -> String {
    let wanted = format!("name=\"{name}\" value=\"");
    let at = page
        .text
        .rfind(&wanted)
        .unwrap_or_else(|| panic!("no field {name}: {page:?}"));
    let rest = &page.text[at + wanted.len()..];
    rest.split('"')
        .next()
        .unwrap()
        .replace("&#34;", "\"")
        .replace("&quot;", "\"")
}

fn fields(page: &Answer) -> Vec<(&'static str, String)> {
    [
        "to", "owner", "name", "set", "endpoint", "scope", "policy", "version", "job", "etag",
    ]
    .into_iter()
    .map(|name| (name, field(page, name)))
    .collect()
}

async fn yaml(bench: &Bench, path: &str) -> String {
    let read = bench.api(Method::GET, path, &Value::Null).await;
    read["yaml"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_job_says_who_it_is_what_holds_for_it_and_what_it_was_told() {
    let (bench, id) = refused().await;
    let viewer = bench.browser(Role::Viewer).await;
    let page = viewer.open(&format!("/ui/jobs/{id}")).await;
    page.shows("build · acme/web")
        .shows("declared")
        .shows("10.77.0.1");
    page.shows("policy base (version 1) is attached; it is the most specific one and decides egress.");
    page.shows("evil.test").shows("8443 tls").shows("e1");
    page.shows("/ui/orgs/acme/policies/base#line-4").shows("2.0 KiB");
    page.hides("Allow in this policy").hides("End the lease");
    page.shows(&format!("data-stream=\"/ui/jobs/{id}/stream?after=2\""));
    page.shows(&format!("data-load=\"/ui/jobs/{id}/summary\""));
    page.shows(">Refresh</a>");
    let only = viewer
        .open(&format!("/ui/jobs/{id}?verdict=refuse,would-refuse"))
        .await;
    only.shows("evil.test").hides("registry.example.test</");
    let rows = viewer.part(&format!("/ui/jobs/{id}/rows")).await;
    rows.is(200).shows("data-key=\"gw-1-e1\"").hides("<html");
    let part = viewer.part(&format!("/ui/jobs/{id}/summary")).await;
    part.is(200)
        .shows("1 refused")
        .shows("evil.test:8443")
        .hides("<html");
    viewer
        .open(&format!("/ui/jobs/{id}/summary"))
        .await
        .shows("Back to the job")
        .shows("evil.test:8443");
    let stream = viewer
        .send(
            Method::GET,
            &format!("/ui/jobs/{id}/stream"),
            &[("accept", "text/event-stream")],
            String::new(),
        )
        .await;
    assert_eq!(stream.header("content-type"), "text/event-stream");
    viewer.get("/ui/jobs/nothing").await.is(404);
    let beta = bench
        .browser_of(&of_owners(Role::Viewer, "beta", &["beta"]))
        .await;
    beta.get(&format!("/ui/jobs/{id}")).await.is(404);
}

#[tokio::test]
async fn runs_lead_to_their_attempts_and_jobs() {
    let (bench, id) = refused().await;
    job(&bench, "acme/web", "10.77.0.2", &json!({"run_attempt": 2})).await;
    job(&bench, "acme/web", "10.77.0.3", &json!({"run_attempt": 2})).await;
    job(
        &bench,
        "acme/web",
        "10.77.0.4",
        &json!({"run_id": "", "job": "lone"}),
    )
    .await;
    let viewer = bench.browser(Role::Viewer).await;
    let list = viewer.open("/ui/runs").await;
    list.shows("/ui/runs/acme/web/77")
        .shows("attempt 2")
        .shows("a job without a run");
    let run = viewer.open("/ui/runs/acme/web/77").await;
    run.shows("Attempt 2")
        .shows("Attempt 1")
        .shows("leg 1 of 2")
        .shows("leg 2 of 2");
    run.shows(&format!("/ui/jobs/{id}"));
    viewer
        .open("/ui/runs?search=lone")
        .await
        .hides("/ui/runs/acme/web/77");
    viewer
        .open("/ui/runs?alive=false")
        .await
        .shows("No run is like that");
    viewer.get("/ui/runs/acme/web/9").await.is(404);
}

#[tokio::test]
async fn a_refusal_is_allowed_in_the_policy_in_two_clicks() {
    let (bench, id) = refused().await;
    let editor = bench.browser(Role::Editor).await;
    let page = editor.open(&format!("/ui/jobs/{id}")).await;
    let asked = editor.open(&link(&page, "/ui/allow?to=policy")).await;
    asked
        .shows("Save the policy")
        .shows("evil.test:8443")
        .shows("1 added");
    let before = yaml(&bench, "/orgs/acme/policies/base").await;
    let form = fields(&asked);
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let saved = editor.post("/ui/allow", &form).await;
    assert_eq!(saved.location(), format!("/ui/jobs/{id}"));
    editor
        .follow(&saved)
        .await
        .shows("The policy allows it from its new version on.");
    let after = yaml(&bench, "/orgs/acme/policies/base").await;
    assert!(
        after.contains("evil.test:8443") && !before.contains("evil.test"),
        "{after}"
    );
    // Once more: nothing is to do, and the form that was shown is old.
    let again = editor.open(&link(&page, "/ui/allow?to=policy")).await;
    again.shows("Nothing has to be changed").hides("Save the policy");
    let stale = editor.post("/ui/allow", &form).await;
    assert_eq!(stale.status, 412, "{stale:?}");
}

#[tokio::test]
async fn a_refusal_is_allowed_in_a_set_that_the_policy_uses() {
    let (bench, id) = refused().await;
    for (name, text) in [("other", "- o.test:443\n"), ("tools", "- t.test:443\n")] {
        let path = format!("/orgs/acme/endpoint-sets/{name}");
        bench.api(Method::PUT, &path, &json!({"yaml": text})).await;
    }
    let editor = bench.browser(Role::Editor).await;
    let page = editor.open(&format!("/ui/jobs/{id}")).await;
    let href = link(&page, "/ui/allow?to=set");
    editor.open(&href).await.shows("does not use this set");
    let uses = json!({"yaml": format!("{POLICY}use: [tools]\n")});
    let path = "/orgs/acme/policies/base";
    let version = bench.api(Method::GET, path, &Value::Null).await["version"].clone();
    assert_eq!(version, 1);
    let write = json!({"use": ["tools"]});
    let proposal = bench.api(Method::POST, &format!("{path}/propose"), &write).await;
    assert_eq!(proposal["changed"], true, "{uses}");
    let edited = editor
        .post(
            "/ui/allow",
            &[
                ("to", "policy"),
                ("owner", "acme"),
                ("name", "nothing"),
                ("endpoint", "a.test:443"),
            ],
        )
        .await;
    edited.is(404);
    let asked = editor.open(&format!("{href}&set=tools")).await;
    asked.shows("Save the endpoint set");
    let form = fields(&asked);
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let saved = editor.post("/ui/allow", &form).await;
    assert_eq!(saved.location(), format!("/ui/jobs/{id}"));
    let set = yaml(&bench, "/orgs/acme/endpoint-sets/tools").await;
    assert!(set.contains("evil.test:8443"), "{set}");
}

#[tokio::test]
async fn the_policy_that_holds_now_is_changed_and_it_is_said_when_another_decided() {
    let (bench, id) = refused().await;
    let editor = bench.browser(Role::Editor).await;
    let page = editor.open(&format!("/ui/jobs/{id}")).await;
    let href = link(&page, "/ui/allow?to=policy");
    bench.policy("acme", "other", POLICY).await;
    let take = json!({"add": ["repo:acme/web"], "replace": true});
    bench
        .api(Method::POST, "/orgs/acme/policies/other/attachments", &take)
        .await;
    editor
        .open(&href)
        .await
        .shows("Policy base decided then. Now other of acme holds repo:acme/web");
    let leave = json!({"remove": ["repo:acme/web"]});
    bench
        .api(Method::POST, "/orgs/acme/policies/other/attachments", &leave)
        .await;
    editor
        .open(&href)
        .await
        .shows("Nothing is attached there any more");
    editor
        .open("/ui/allow?endpoint=a.test:443&scope=network:runners")
        .await
        .shows("default policy did");
    editor.get("/ui/allow").await.is(400);
}

#[tokio::test]
async fn a_viewer_changes_nothing_and_only_an_admin_ends_a_job() {
    let (bench, id) = refused().await;
    let viewer = bench.browser(Role::Viewer).await;
    let href = "/ui/allow?to=policy&endpoint=evil.test:8443&scope=repo:acme/web";
    viewer
        .open(href)
        .await
        .hides("Save the policy")
        .shows("not change them");
    let form = [
        ("to", "policy"),
        ("owner", "acme"),
        ("name", "base"),
        ("endpoint", "evil.test:8443"),
        ("scope", "repo:acme/web"),
    ];
    viewer.post("/ui/allow", &form).await.is(403);
    let end = format!("/ui/jobs/{id}/end");
    viewer.post(&end, &[]).await.is(403);
    assert!(!yaml(&bench, "/orgs/acme/policies/base").await.contains("evil"));
    let admin = bench.browser(Role::Admin).await;
    admin
        .open(&end)
        .await
        .shows("is not stopped; it loses its network");
    let ended = admin.post(&end, &[]).await;
    admin.follow(&ended).await.shows("ended").hides("data-stream");
}
