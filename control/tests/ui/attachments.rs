//! Attaching, detaching and deleting policies in the browser, one or several: the effect is shown, then done or refused.

use serde_json::json;
use tidegate_control::model::Role;

use crate::bench::{Bench, POLICY};
use crate::coverage::{event, gateway, job, tell};
use crate::policies::{AUDIT, BASE, LIST, attach, field, stored};

#[tokio::test]
async fn attaching_shows_its_effect_and_refuses_another() {
    let bench = Bench::new().await;
    for (name, yaml) in [("base", POLICY), ("org", AUDIT), ("old", AUDIT)] {
        bench.policy("acme", name, yaml).await;
    }
    attach(&bench, "org", &["org:acme"]).await;
    attach(&bench, "old", &["repo:acme/web"]).await;
    let editor = bench.browser(Role::Editor).await;
    let place = format!("{BASE}/attach");
    editor
        .open(&place)
        .await
        .shows("Paste scopes")
        .shows("repo:acme/web");
    let fields = [
        ("do", "preview"),
        ("paste", "acme/web, repo:acme/api\norg:nobody/x"),
    ];
    editor
        .post(&place, &fields)
        .await
        .is(422)
        .shows("is not a scope")
        .shows("acme/web, repo:acme/api");
    editor
        .post(&place, &[("do", "preview")])
        .await
        .is(422)
        .shows("Nothing would change");
    let page = editor
        .post(&place, &[("do", "preview"), ("paste", "acme/web repo:acme/api")])
        .await;
    page.shows("loses its scope")
        .shows(">old</a>")
        .shows("Attach to 2 scopes");
    let shown = field(&page, "shown");
    let confirm = [
        ("do", "confirm"),
        ("shown", shown.as_str()),
        ("replace", "yes"),
        ("add", "repo:acme/web"),
        ("add", "repo:acme/api"),
    ];
    attach(&bench, "org", &["repo:acme/web"]).await;
    let page = editor.post(&place, &confirm).await;
    page.is(409)
        .shows("not as it was shown")
        .shows(">org</a>")
        .shows("the effect as it is now");
    let shown = field(&page, "shown");
    let mut confirm = confirm;
    confirm[1].1 = &shown;
    let done = editor.post(&place, &confirm).await;
    editor
        .follow(&done)
        .await
        .shows("The policy is attached")
        .shows("repo:acme/api");
    // What is unticked is left, and falls back to the organization's.
    let fields = [
        ("do", "preview"),
        ("was", "repo:acme/api"),
        ("was", "repo:acme/web"),
        ("keep", "repo:acme/web"),
    ];
    let page = editor.post(&place, &fields).await;
    page.shows("What jobs fall back to")
        .shows(">org</a>")
        .shows("Detach from 1 scope");
    let part = editor
        .post(
            &format!("{BASE}/impact"),
            &[("remove", "repo:acme/api"), ("add", "repo:acme/web")],
        )
        .await;
    part.is(200).shows("No recorded job");
    let page = editor.open(&format!("{BASE}/detach")).await;
    page.shows("Detach from 2 scopes");
    let (shown, fields) = (field(&page, "shown"), ["repo:acme/api", "repo:acme/web"]);
    let confirm = [
        ("do", "confirm"),
        ("shown", shown.as_str()),
        ("remove", fields[0]),
        ("remove", fields[1]),
    ];
    let done = editor.post(&place, &confirm).await;
    editor
        .follow(&done)
        .await
        .shows("detached there")
        .shows("Attached to nothing");
}

#[tokio::test]
async fn a_pattern_takes_every_scope_that_is_like_it() {
    let bench = Bench::new().await;
    bench.policy("acme", "base", POLICY).await;
    bench.policy("acme", "old", AUDIT).await;
    let scopes: Vec<String> = (0..200).map(|at| format!("repo:acme/api-{at}")).collect();
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    attach(&bench, "old", &scopes).await;
    let editor = bench.browser(Role::Editor).await;
    let place = format!("{BASE}/attach");
    let page = editor
        .open(&format!("{place}?pattern=acme/api-*&kind=repo"))
        .await;
    page.shows("Every scope that is like").shows("200 were seen");
    let fields = [
        ("do", "preview"),
        ("matching", "acme/api-*"),
        ("matching_kind", "repo"),
    ];
    let page = editor.post(&place, &fields).await;
    page.shows("200 scopes are taken from other policies")
        .shows("Attach to 200 scopes")
        .shows("and 100 more");
    let none = [("do", "preview"), ("matching", "acme/none-*")];
    editor
        .post(&place, &none)
        .await
        .is(422)
        .shows("no scope that was seen");
}

#[tokio::test]
async fn a_refusal_keeps_what_was_ticked_unticked_searched_and_pasted() {
    let bench = Bench::new().await;
    bench.policy("acme", "base", POLICY).await;
    bench.policy("acme", "old", AUDIT).await;
    attach(
        &bench,
        "old",
        &["repo:acme/api-1", "repo:acme/api-2", "repo:acme/web"],
    )
    .await;
    attach(&bench, "base", &["repo:acme/one", "repo:acme/two"]).await;
    let editor = bench.browser(Role::Editor).await;
    let place = format!("{BASE}/attach");
    let fields = [
        ("do", "preview"),
        ("kind", "repo"),
        ("search", "api"),
        ("was", "repo:acme/one"),
        ("was", "repo:acme/two"),
        ("keep", "repo:acme/two"),
        ("add", "repo:acme/api-2"),
        ("paste", "org:nobody/x"),
    ];
    let page = editor.post(&place, &fields).await;
    page.is(422)
        .shows("name=\"add\" value=\"repo:acme/api-2\" aria-label=\"Attach to repo:acme/api-2\" checked>")
        .shows("name=\"add\" value=\"repo:acme/api-1\" aria-label=\"Attach to repo:acme/api-1\">")
        .shows("name=\"keep\" value=\"repo:acme/one\">")
        .shows("name=\"keep\" value=\"repo:acme/two\" checked>")
        .shows("type=\"search\" value=\"api\"")
        .hides("value=\"repo:acme/web\"")
        .shows("org:nobody/x</textarea>");
    // A confirmation that is refused keeps all of it, where it can be changed.
    let fields = [
        ("do", "confirm"),
        ("remove", "repo:acme/one"),
        ("add", "repo:acme/api-2"),
        ("add", "org:nobody/x"),
    ];
    let page = editor.post(&place, &fields).await;
    page.is(422)
        .shows("aria-label=\"Attach to repo:acme/api-2\" checked>")
        .shows("name=\"keep\" value=\"repo:acme/one\">")
        .shows("org:nobody/x</textarea>");
}

#[tokio::test]
async fn a_pattern_that_more_are_like_than_can_be_attached_is_refused() {
    let bench = Bench::new().await;
    bench.policy("acme", "base", POLICY).await;
    bench.policy("acme", "old", AUDIT).await;
    let scopes: Vec<String> = (0..1_001).map(|at| format!("repo:acme/api-{at}")).collect();
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    for lot in scopes.chunks(1_000) {
        attach(&bench, "old", lot).await;
    }
    let editor = bench.browser(Role::Editor).await;
    let place = format!("{BASE}/attach");
    let page = editor
        .open(&format!("{place}?pattern=acme/api-*&kind=repo"))
        .await;
    page.shows("1001 scopes are like")
        .shows("1000 can be attached at once")
        .hides("name=\"matching\"");
    let fields = [
        ("do", "preview"),
        ("matching", "acme/api-*"),
        ("matching_kind", "repo"),
    ];
    let page = editor.post(&place, &fields).await;
    page.is(422).shows("1001 scopes are like");
}

#[tokio::test]
async fn deleting_names_what_is_attached_and_what_is_fallen_back_to() {
    let bench = Bench::new().await;
    bench.policy("acme", "base", POLICY).await;
    attach(&bench, "base", &["repo:acme/web"]).await;
    let editor = bench.browser(Role::Editor).await;
    let page = editor.open(&format!("{BASE}/delete")).await;
    page.shows("repo:acme/web")
        .shows("network's default")
        .shows("its history stays");
    let shown = field(&page, "shown");
    attach(&bench, "base", &["repo:acme/late"]).await;
    let page = editor.post(&format!("{BASE}/delete"), &[("shown", &shown)]).await;
    page.is(409).shows("repo:acme/late");
    let shown = field(&page, "shown");
    let done = editor.post(&format!("{BASE}/delete"), &[("shown", &shown)]).await;
    assert_eq!(done.location(), LIST);
    editor
        .follow(&done)
        .await
        .shows("The policy was deleted")
        .shows("No policies yet");
    let page = editor.open(&format!("{LIST}?deleted=true")).await;
    page.shows("base").shows("View history");
    let at = page.text.find("/history?id=").unwrap();
    let id = page.text[at + 12..].split('"').next().unwrap().to_owned();
    let page = editor.open(&format!("{BASE}/history?id={id}")).await;
    page.shows("Deleted").shows("repo:acme/late").hides("Roll back");
}

/// Of jobs in a cluster that has no policy, with a default that the gateway tells without its text.
#[tokio::test]
async fn what_jobs_fall_back_to_is_named_and_tried_before_policies_go() {
    let bench = Bench::new().await;
    for name in ["web", "api"] {
        bench.policy("acme", name, POLICY).await;
    }
    attach(&bench, "web", &["repo:acme/web"]).await;
    attach(&bench, "api", &["repo:acme/api"]).await;
    gateway(&bench).await;
    let mut events = Vec::new();
    for (repo, source) in [("acme/web", "10.77.0.1"), ("acme/api", "10.77.0.2")] {
        let id = job(&bench, repo, source, &json!({})).await;
        let more = json!({"name_source": "sni", "address": "192.0.2.7", "job": {"id": id, "owner": "acme", "repo": repo,
            "workflow": "ci.yml", "job": "build", "cluster": "prod", "run_id": "7", "assurance": "declared"}});
        events.push(event(repo, None, &more));
    }
    tell(&bench.store, "s1", &events).await;
    let editor = bench.browser(Role::Editor).await;
    let page = editor.open("/ui/orgs/acme/policies/web/detach").await;
    page.shows("Detach web")
        .shows("in cluster prod")
        .shows("<code>house (audit)</code>");
    let tried = [("remove", "repo:acme/web")];
    let part = editor.post("/ui/orgs/acme/policies/web/impact", &tried).await;
    part.is(200).shows("no gateway says what it is");

    bench
        .policy("acme", "cluster", "egress-policy: block\nplatform: none\n")
        .await;
    attach(&bench, "cluster", &["cluster:prod"]).await;
    let place = "/ui/orgs/acme/selected";
    let page = editor.open(&format!("{place}?do=delete&name=web&name=api")).await;
    page.shows("of <span class=\"scope\">cluster:prod</span>")
        .shows(&format!("data-send=\"{place}/impact\""));
    let both = [
        ("do", "delete"),
        ("name", "web"),
        ("name", "api"),
        ("name", "gone"),
    ];
    let part = editor.post(&format!("{place}/impact"), &both).await;
    part.is(200)
        .shows("2 of 2 jobs would have been refused something: forge.test:443.")
        .shows("in cluster prod");
    let switched = [("do", "audit"), ("name", "web"), ("name", "api")];
    let part = editor.post(&format!("{place}/impact"), &switched).await;
    part.is(200)
        .shows("2 policies would decide; none would have refused what was let through.")
        .shows("in Audit mode");
    let page = editor.open(&format!("{place}?do=audit&name=web")).await;
    page.shows("What it would have done").hides("Jobs fall back to");
    let nothing = [("do", "detach"), ("name", "gone")];
    let part = editor.post(&format!("{place}/impact"), &nothing).await;
    part.is(200).shows("No job follows them");
}

#[tokio::test]
async fn several_policies_are_changed_at_once_each_by_itself() {
    let bench = Bench::new().await;
    for name in ["one", "two", "three"] {
        bench.policy("acme", name, POLICY).await;
    }
    attach(&bench, "one", &["repo:acme/one"]).await;
    let editor = bench.browser(Role::Editor).await;
    let place = "/ui/orgs/acme/selected";
    let page = editor.open(&format!("{place}?do=detach&name=one&name=two")).await;
    page.shows("repo:acme/one")
        .shows("network")
        .shows("Nothing to do");
    let shown = field(&page, "shown");
    let done = editor
        .post(place, &[("do", "detach"), ("name", "one"), ("shown", &shown)])
        .await;
    done.shows("done");
    assert_eq!(stored(&bench, "one").await["attachments"], json!([]));
    let page = editor
        .open(&format!("{place}?do=audit&name=one&name=two&name=gone"))
        .await;
    page.shows("left as it is");
    let fields = [
        ("do", "audit"),
        ("name", "one"),
        ("shown", "\"1\""),
        ("name", "two"),
        ("shown", "\"9\""),
    ];
    let page = editor.post(place, &fields).await;
    page.shows("done").shows("left as it is");
    assert_eq!(stored(&bench, "one").await["mode"], "audit");
    assert_eq!(stored(&bench, "two").await["mode"], "block");
    editor.get(&format!("{place}?do=nonsense")).await.is(400);
    let page = editor.open(&format!("{place}?do=delete&name=three")).await;
    let shown = field(&page, "shown");
    editor
        .post(place, &[("do", "delete"), ("name", "three"), ("shown", &shown)])
        .await
        .shows("done");
    editor.get("/ui/orgs/acme/policies/three").await.is(404);
}
