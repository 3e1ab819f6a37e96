//! Network events: found, followed, exported; what strangers wrote in them does nothing.

use axum::http::Method;
use serde_json::json;
use tidegate_control::model::Role;

use crate::bench::{Bench, NASTY, POLICY, of_owners};
use crate::coverage::{attach, event, gateway, job, tell};

async fn filled() -> Bench {
    let bench = Bench::new().await;
    let refused = json!({"verdict": "refuse", "reason": "not-allowed", "name": "evil.test", "policy": "base",
        "policy_version": 3, "scope": "repo:acme/web", "nearest": "good.test:443"});
    let events = [
        event(
            "aaaaaaaa",
            Some(("job_a", "acme/web")),
            &json!({"name": "good.test", "rule": "*.test:443"}),
        ),
        event("bbbbbbbb", Some(("job_a", "acme/web")), &refused),
        event(
            "cccccccc",
            Some(("job_b", "beta/api")),
            &json!({"name": "beta.test"}),
        ),
        event(
            "dddddddd",
            None,
            &json!({"verdict": "refuse", "reason": "no-policy", "name": "strange.test"}),
        ),
    ];
    tell(&bench.store, "s1", &events).await;
    bench
}

#[tokio::test]
async fn events_are_shown_with_why_and_lead_on() {
    let bench = filled().await;
    let viewer = bench.browser(Role::Viewer).await;
    let page = viewer.open("/ui/events").await;
    page.shows("evil.test:443")
        .shows("not-allowed")
        .shows("No allowed endpoint of the policy covers it.")
        .shows("/ui/jobs/job_a")
        .shows("/ui/events?id=bbbbbbbb&#38;job=job_a")
        .shows("data-stream=\"/ui/events/stream?after=4\"");
    let refused = viewer.open("/ui/events?verdict=refuse%2Cwould-refuse").await;
    refused
        .shows("evil.test")
        .shows("strange.test")
        .hides("good.test:443");
    let own = viewer.open("/ui/events?unidentified=true").await;
    own.shows("strange.test").hides("evil.test");
    let one = viewer.open("/ui/events?id=bbbbbbbb&job=job_a").await;
    one.shows("The nearest allowed endpoint is <code>good.test:443</code>")
        .shows("version 3")
        .hides("Allow in this policy")
        .hides("data-stream");
    let none = viewer.open("/ui/events?name=nobody.test").await;
    none.shows("No event is like that");
    let wrong = viewer.get("/ui/events?reason=odd").await;
    wrong.is(400).shows("there is no reason");
    bench.stranger().get("/ui/events").await.wants_login();
}

#[tokio::test]
async fn what_a_policy_refused_is_allowed_from_where_it_is_seen() {
    let bench = filled().await;
    let href = "/ui/allow?to=policy&#38;endpoint=evil.test%3A443&#38;scope=repo%3Aacme%2Fweb&#38;policy=base&#38;\
                version=3&#38;job=job_a";
    let editor = bench.browser(Role::Editor).await;
    let list = editor.open("/ui/events").await;
    list.shows(href).shows("Allow…<span class=\"sr\"> evil.test:443");
    assert_eq!(
        list.text.matches("/ui/allow?").count(),
        1,
        "none for permits and strangers"
    );
    let rows = editor.part("/ui/events/rows?verdict=refuse").await;
    rows.is(200)
        .shows("data-key=\"gw-1-bbbbbbbb\"")
        .shows(href)
        .hides("<html")
        .hides("good.test:443</code>");
    let one = editor.open("/ui/events?id=bbbbbbbb&job=job_a").await;
    one.shows("<h1>Event bbbbbbbb</h1>")
        .shows("All events")
        .shows("Allow in this policy</a>")
        .shows("or in an endpoint set</a>")
        .shows("<code>not-allowed</code>");
    editor
        .open("/ui/events?id=dddddddd")
        .await
        .hides("Allow in this policy")
        .shows("no lease, no policy");
    let viewer = bench.browser(Role::Viewer).await;
    viewer.open("/ui/events").await.hides("/ui/allow?");
    viewer.part("/ui/events/rows").await.hides("/ui/allow?");
    bench.stranger().part("/ui/events/rows").await.is(401);
}

#[tokio::test]
async fn a_rule_leads_to_its_line_in_the_policy_or_in_its_endpoint_set() {
    let bench = Bench::new().await;
    gateway(&bench).await;
    let set = json!({"yaml": "# what builds share\n- other.test\n- shared.test:443\n"});
    for name in ["aaa", "tools"] {
        let body = if name == "tools" {
            set.clone()
        } else {
            json!({"yaml": "- a.test\n"})
        };
        bench
            .api(Method::PUT, &format!("/orgs/acme/endpoint-sets/{name}"), &body)
            .await;
    }
    bench
        .policy("acme", "base", &format!("{POLICY}use: [aaa, tools]\n"))
        .await;
    attach(&bench, "base", "repo:acme/web").await;
    let id = job(&bench, "acme/web", "10.77.0.1", &json!({})).await;
    let by = |name: &str, rule: &str, source: &str| {
        json!({"name": name, "rule": rule, "rule_source": source, "policy": "base", "policy_version": 1,
            "scope": "repo:acme/web"})
    };
    let of = Some((id.as_str(), "acme/web"));
    let events = [
        event("aaaaaaaa", of, &by("shared.test", "shared.test:443", "set")),
        event(
            "bbbbbbbb",
            of,
            &by("registry.example.test", "registry.example.test:443", "policy"),
        ),
        event("cccccccc", of, &by("gone.test", "gone.test:443", "set")),
    ];
    tell(&bench.store, "s1", &events).await;
    let viewer = bench.browser(Role::Viewer).await;
    let of_set = "href=\"/ui/orgs/acme/endpoint-sets/tools#line-3\"";
    let of_policy = "href=\"/ui/orgs/acme/policies/base#line-4\"";
    viewer
        .open(&format!("/ui/jobs/{id}"))
        .await
        .shows(of_set)
        .shows(of_policy);
    let one = |event: &str| format!("/ui/events?id={event}&job={id}");
    viewer.open(&one("aaaaaaaa")).await.shows(of_set);
    viewer.open(&one("bbbbbbbb")).await.shows(of_policy);
    viewer.open(&one("cccccccc")).await.hides("#line-");
    viewer
        .open("/ui/orgs/acme/endpoint-sets/tools")
        .await
        .shows("<tr id=\"line-3\">");
}

#[tokio::test]
async fn a_search_becomes_a_filter_in_the_address() {
    let bench = filled().await;
    let viewer = bench.browser(Role::Viewer).await;
    for (typed, leads) in [
        ("evil.test", "/ui/events?name=evil.test"),
        ("acme%2Fweb", "/ui/events?repo=acme%2Fweb"),
        ("job_a", "/ui/events?job=job_a"),
    ] {
        let answer = viewer.get(&format!("/ui/events?q={typed}")).await;
        assert_eq!(answer.location(), leads);
        viewer.follow(&answer).await.shows("evil.test:443");
    }
    let id = viewer.get("/ui/events?q=B2222222").await;
    assert_eq!(id.location(), "/ui/events?id=B2222222");
    // A word may be an id, too: then the way there is shown.
    let word = viewer.get("/ui/events?q=BBBBBBBB").await;
    assert_eq!(word.location(), "/ui/events?name=BBBBBBBB");
    let nothing = viewer.follow(&word).await;
    nothing
        .shows("No event is like that")
        .shows("href=\"/ui/events?id=BBBBBBBB\"");
    viewer.open("/ui/events?id=BBBBBBBB").await.shows("evil.test:443");
    let kept = viewer.get("/ui/events?q=evil.test&verdict=permit&span=24h").await;
    assert_eq!(
        kept.location(),
        "/ui/events?verdict=permit&name=evil.test&span=24h"
    );
    viewer.follow(&kept).await.shows("No event is like that");
}

#[tokio::test]
async fn what_strangers_wrote_is_text() {
    let bench = Bench::new().await;
    let nasty = json!({"name": NASTY, "rule": NASTY, "policy": NASTY, "note": NASTY, "verdict": "refuse",
        "reason": NASTY, "job": {"id": NASTY, "owner": "acme", "repo": NASTY, "workflow": NASTY, "job": NASTY,
        "actor": NASTY, "assurance": "claimed"}});
    tell(&bench.store, "s1", &[event("eeeeeeee", None, &nasty)]).await;
    let viewer = bench.browser(Role::Viewer).await;
    for path in ["/ui/events", "/ui/events?id=eeeeeeee"] {
        viewer
            .open(path)
            .await
            .hides("<script>alert")
            .hides("<img src=x")
            .hides("\u{202e}");
    }
    viewer
        .open("/ui/events?name=%3Cscript%3Ealert(1)%3C%2Fscript%3E")
        .await
        .hides("<script>alert");
}

#[tokio::test]
async fn a_session_sees_events_of_its_owners_only() {
    let bench = filled().await;
    let acme = bench
        .browser_of(&of_owners(Role::Viewer, "of acme", &["acme"]))
        .await;
    acme.open("/ui/events")
        .await
        .shows("evil.test")
        .hides("beta.test")
        .hides("strange.test");
    acme.open("/ui/events?id=dddddddd")
        .await
        .shows("No event is like that");
    acme.get("/ui/events?org=beta").await.is(403).shows("not for");
}

#[tokio::test]
async fn events_leave_as_files_and_as_a_stream() {
    let bench = filled().await;
    let viewer = bench.browser(Role::Viewer).await;
    let lines = viewer
        .open("/ui/events/export?format=ndjson&verdict=refuse")
        .await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    assert!(
        lines
            .header("content-disposition")
            .contains("network-events.ndjson")
    );
    assert_eq!(lines.text.lines().count(), 2);
    let sheet = viewer.open("/ui/events/export?format=csv").await;
    assert_eq!(sheet.header("content-type"), "text/csv");
    assert_eq!(sheet.text.lines().count(), 5);
    let accept = [("accept", "text/event-stream"), ("sec-fetch-site", "same-origin")];
    let stream = viewer
        .send(Method::GET, "/ui/events/stream?after=1", &accept, String::new())
        .await;
    assert_eq!(
        (stream.status, stream.header("content-type")),
        (200, "text/event-stream")
    );
    let foreign = bench
        .stranger()
        .send(Method::GET, "/ui/events/stream", &accept, String::new())
        .await;
    foreign.is(401);
    let acme = bench
        .browser_of(&of_owners(Role::Viewer, "of acme", &["acme"]))
        .await;
    acme.get("/ui/events/export?format=csv&org=beta").await.is(403);
}

#[tokio::test]
async fn an_empty_record_says_what_to_do() {
    let bench = Bench::new().await;
    let viewer = bench.browser(Role::Viewer).await;
    viewer
        .open("/ui/events")
        .await
        .shows("No event yet")
        .shows("/ui/connect");
}

#[tokio::test]
async fn pages_lead_on_and_back_to_the_newest() {
    let bench = Bench::new().await;
    let events: Vec<_> = (0..120)
        .map(|at| {
            event(
                &format!("e{at}"),
                Some(("job_a", "acme/web")),
                &json!({"name": format!("n{at}.test")}),
            )
        })
        .collect();
    tell(&bench.store, "s1", &events).await;
    let viewer = bench.browser(Role::Viewer).await;
    let first = viewer.open("/ui/events").await;
    let at = first.text.find("rel=\"next\" href=\"").expect("a next page") + 17;
    let next = first.text[at..].split('"').next().unwrap().replace("&#38;", "&");
    let second = viewer.open(&next).await;
    second.shows("First page").hides("data-stream");
    assert!(first.text.len() < 100 << 10, "{}", first.text.len());
}
