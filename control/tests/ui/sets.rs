//! Pages of endpoint sets.

use axum::http::Method;
use serde_json::json;
use tidegate_control::model::Role;

use crate::bench::{Bench, of_owners};

const LIST: &str = "/ui/orgs/acme/endpoint-sets";

async fn set(bench: &Bench, name: &str, yaml: &str) {
    let path = format!("/orgs/acme/endpoint-sets/{name}");
    bench.api(Method::PUT, &path, &json!({"yaml": yaml})).await;
}

/// The value of the hidden field with the tag.
fn tag(text: &str) -> String {
    let (_, rest) = text.split_once("name=\"tag\" value=\"").unwrap();
    rest.split_once("\">").unwrap().0.replace("&#34;", "\"")
}

#[tokio::test]
async fn sets_are_listed_with_who_uses_them() {
    let bench = Bench::new().await;
    let viewer = bench.browser(Role::Viewer).await;
    viewer.open(LIST).await.shows("No endpoint sets yet");
    set(&bench, "corp", "- git.example:443\n- \"*.corp.example\"\n").await;
    set(&bench, "lonely", "- a.example\n").await;
    bench
        .policy(
            "acme",
            "web",
            "egress-policy: block\nallowed-endpoints: >\n  b.example:443\nuse: [corp]\n",
        )
        .await;
    viewer
        .open(LIST)
        .await
        .shows("href=\"/ui/orgs/acme/endpoint-sets/corp\"")
        .shows("href=\"/ui/orgs/acme/policies/web\"")
        .shows("no policy")
        .hides("New endpoint set")
        .hides("/edit");
    viewer
        .open("/ui/orgs/acme/endpoint-sets?search=LONE")
        .await
        .shows("lonely")
        .hides(">corp<");
    viewer
        .open("/ui/orgs/acme/endpoint-sets/corp")
        .await
        .shows("*.corp.example")
        .hides(">Edit<")
        .hides(">Delete<");
    viewer.get("/ui/orgs/acme/endpoint-sets/none").await.is(404);
}

#[tokio::test]
async fn a_set_is_made_checked_and_changed_without_scripts() {
    let bench = Bench::new().await;
    let editor = bench.browser(Role::Editor).await;
    let new = "/ui/orgs/acme/new-endpoint-set";
    editor.open(new).await.shows("Create endpoint set");
    let wrong = [
        ("do", "save"),
        ("name", "corp"),
        ("yaml", "- git.example:443\r\n- a.example:abc\r\n"),
    ];
    editor
        .post(new, &wrong)
        .await
        .is(422)
        .shows("Line 2")
        .shows("value=\"corp\"")
        .shows("- a.example:abc");
    editor
        .post(new, &[("do", "save"), ("name", ""), ("yaml", "- a.example\n")])
        .await
        .is(422)
        .shows("give the set a name");
    let good = [
        ("do", "save"),
        ("name", "corp"),
        ("yaml", "- git.example:443\r\n"),
    ];
    let done = editor.post(new, &good).await;
    assert_eq!(done.location(), "/ui/orgs/acme/endpoint-sets/corp");
    editor
        .follow(&done)
        .await
        .shows("The endpoint set is saved")
        .shows("<td>- git.example:443</td>");

    let edit = "/ui/orgs/acme/endpoint-sets/corp/edit";
    let page = editor.open(edit).await;
    let tag = tag(&page.text);
    let checked = [("tag", tag.as_str()), ("yaml", "- b.example\n"), ("do", "check")];
    editor.post(edit, &checked).await.is(200).shows("No problems.");
    let review = [("do", "review"), ("tag", tag.as_str()), ("yaml", "- b.example\n")];
    editor
        .post(edit, &review)
        .await
        .is(200)
        .shows("aria-label=\"removed\"")
        .shows("No policy uses corp yet.");
    editor
        .open("/ui/orgs/acme/endpoint-sets/corp")
        .await
        .shows("- git.example:443");
    let saved = [("do", "save"), ("tag", tag.as_str()), ("yaml", "- b.example\n")];
    let done = editor.post(edit, &saved).await;
    editor
        .follow(&done)
        .await
        .shows("- b.example")
        .shows("by the editor");
    let again = [("do", "save"), ("name", "corp"), ("yaml", "- c.example\n")];
    editor
        .post(new, &again)
        .await
        .is(428)
        .shows("- b.example")
        .shows("- c.example");
}

#[tokio::test]
async fn the_second_of_two_editors_sees_both_texts() {
    let bench = Bench::new().await;
    set(&bench, "corp", "- one.example\n").await;
    let (first, second) = (
        bench.browser(Role::Editor).await,
        bench.browser(Role::Editor).await,
    );
    let edit = "/ui/orgs/acme/endpoint-sets/corp/edit";
    let (one, two) = (first.open(edit).await, second.open(edit).await);
    let mine = [
        ("do", "save"),
        ("tag", &tag(&one.text)[..]),
        ("yaml", "- first.example\n"),
    ];
    first.post(edit, &mine).await.is(303);
    let other = [
        ("do", "save"),
        ("tag", &tag(&two.text)[..]),
        ("yaml", "- second.example\n"),
    ];
    let told = second.post(edit, &other).await;
    told.is(412)
        .shows("- first.example")
        .shows("- second.example")
        .shows("saving goes over version 2");
    let knowing = [
        ("do", "save"),
        ("tag", &tag(&told.text)[..]),
        ("yaml", "- second.example\n"),
    ];
    let done = second.post(edit, &knowing).await;
    second
        .follow(&done)
        .await
        .shows("- second.example")
        .hides("- first.example");
}

#[tokio::test]
async fn a_set_that_is_used_can_not_be_deleted_and_says_by_whom() {
    let bench = Bench::new().await;
    set(&bench, "corp", "- git.example:443\n").await;
    bench
        .policy(
            "acme",
            "web",
            "egress-policy: block\nallowed-endpoints: >\n  b.example:443\nuse: [corp]\n",
        )
        .await;
    let editor = bench.browser(Role::Editor).await;
    let delete = "/ui/orgs/acme/endpoint-sets/corp/delete";
    editor
        .open(delete)
        .await
        .shows("href=\"/ui/orgs/acme/policies/web\"")
        .hides("method=\"post\" action=\"/ui/orgs/acme/endpoint-sets/corp/delete\"");
    editor.post(delete, &[]).await.is(409).shows("role=\"alert\"");
    bench
        .api(
            Method::DELETE,
            "/orgs/acme/policies/web",
            &serde_json::Value::Null,
        )
        .await;
    let page = editor.open(delete).await;
    let done = editor.post(delete, &[("tag", &tag(&page.text))]).await;
    editor.follow(&done).await.shows("was deleted").hides(">corp<");
}

#[tokio::test]
async fn viewers_and_other_organizations_change_nothing() {
    let bench = Bench::new().await;
    set(&bench, "corp", "- git.example:443\n").await;
    let viewer = bench.browser(Role::Viewer).await;
    let other = bench
        .browser_of(&of_owners(Role::Editor, "Bo", &["umbrella"]))
        .await;
    let fields = [
        ("do", "save"),
        ("name", "mine"),
        ("tag", "*"),
        ("yaml", "- evil.example\n"),
    ];
    for browser in [&viewer, &other] {
        for path in [
            "new-endpoint-set",
            "endpoint-sets/corp/edit",
            "endpoint-sets/corp/delete",
        ] {
            let path = format!("/ui/orgs/acme/{path}");
            assert_eq!(browser.post(&path, &fields).await.status, 403, "{path}");
        }
    }
    other.get(LIST).await.is(403);
    viewer
        .open("/ui/orgs/acme/endpoint-sets/corp")
        .await
        .shows("git.example");
}

#[tokio::test]
async fn a_change_shows_whom_it_reaches_and_a_script_checks_while_typing() {
    let bench = Bench::new().await;
    set(&bench, "corp", "- one.example\n").await;
    let yaml = "egress-policy: block\nallowed-endpoints: >\n  b.example:443\nuse: [corp]\n";
    bench.policy("acme", "web", yaml).await;
    let editor = bench.browser(Role::Editor).await;
    let edit = "/ui/orgs/acme/endpoint-sets/corp/edit";
    let page = editor.open(edit).await;
    page.shows("href=\"/ui/orgs/acme/policies/web\"");
    let tag = tag(&page.text);
    let change = [("do", "review"), ("tag", &tag[..]), ("yaml", "- two.example\n")];
    editor
        .post(edit, &change)
        .await
        .is(200)
        .shows("These policies change at once")
        .shows("href=\"/ui/orgs/acme/policies/web\"");
    let same = [("do", "review"), ("tag", &tag[..]), ("yaml", "- one.example\n")];
    editor
        .post(edit, &same)
        .await
        .shows("Nothing differs from version 1.");
    let wrong = [("do", "review"), ("tag", &tag[..]), ("yaml", "- a.example:abc\n")];
    editor.post(edit, &wrong).await.is(422).shows("data-line=\"1\"");
    let part = editor
        .post(
            "/ui/orgs/acme/check-endpoint-set",
            &[("yaml", "- a.example:abc\n")],
        )
        .await;
    part.is(200).shows("data-line=\"1\"").hides("<html");
}
