//! What happened to policies that were deleted, and to endpoint sets.

use axum::http::Method;
use serde_json::{Value, json};
use tidegate_control::model::Role;

use crate::bench::{Bench, NASTY, of_owners};

const BASE: &str = "/ui/orgs/acme/policies/base";
const FIRST: &str = "# the first\negress-policy: audit\nallowed-endpoints: >\n  a.example.test:443\n";
const SECOND: &str = "# the second\negress-policy: block\nallowed-endpoints: >\n  a.example.test:443\n";

/// A policy of two versions that was deleted; its id.
async fn deleted(bench: &Bench) -> String {
    bench.policy("acme", "base", FIRST).await;
    let change = json!({"yaml": SECOND});
    let path = "/orgs/acme/policies/base";
    let editor = bench.browser(Role::Editor).await;
    let made = bench.api(Method::GET, path, &Value::Null).await;
    let page = editor.open(&format!("{BASE}/edit")).await;
    let (_, rest) = page.text.split_once("name=\"etag\" value=\"").unwrap();
    let tag = rest.split_once("\">").unwrap().0.replace("&#34;", "\"");
    let yaml = change["yaml"].as_str().unwrap();
    let fields = [("do", "save"), ("etag", tag.as_str()), ("yaml", yaml)];
    editor.post(&format!("{BASE}/edit"), &fields).await.is(303);
    let scopes = json!({"add": ["repo:acme/web"]});
    bench
        .api(Method::POST, &format!("{path}/attachments"), &scopes)
        .await;
    bench.api(Method::DELETE, path, &Value::Null).await;
    made["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_deleted_policy_keeps_its_timeline_and_its_texts() {
    let bench = Bench::new().await;
    let id = deleted(&bench).await;
    let viewer = bench.browser(Role::Viewer).await;
    let history = format!("{BASE}/history?id={id}");
    viewer
        .open("/ui/orgs/acme/policies?deleted=true")
        .await
        .shows(&format!("href=\"{history}\">base</a>"));
    let page = viewer.open(&history).await;
    page.shows("This policy was deleted</strong> by root")
        .shows("The texts of its 2 versions stay")
        .shows(&id)
        .shows("Detached")
        .shows("repo:acme/web")
        .shows("Changed, to version 2")
        .shows("class=\"removed\"")
        .shows(&format!("href=\"{BASE}/versions/1?id={id}\""));
    page.hides("Roll back")
        .hides("Edit from it")
        .hides("Create again");
    let text = viewer.open(&format!("{BASE}/versions/1?id={id}")).await;
    text.shows("# the first")
        .shows("1 of 2")
        .shows("This policy was deleted")
        .hides("Create again")
        .hides("Roll back");
    let diff = viewer.open(&format!("{BASE}/diff?id={id}&from=1&to=2")).await;
    diff.shows("# the first")
        .shows("# the second")
        .shows(&format!("name=\"id\" value=\"{id}\""))
        .shows(&format!("href=\"{history}\""));
    viewer.get(&format!("{BASE}/versions/3?id={id}")).await.is(404);
    viewer.get(&format!("{BASE}/history")).await.is(404);
    let other = bench
        .browser_of(&of_owners(Role::Admin, "Bo", &["umbrella"]))
        .await;
    for path in ["history?", "versions/1?", "diff?", "again?version=1&"] {
        let path = format!("{BASE}/{path}id={id}");
        other.get(&path).await.is(403).hides("a.example.test");
        bench.stranger().get(&path).await.wants_login();
    }
}

#[tokio::test]
async fn a_deleted_policy_is_made_again_from_any_version() {
    let bench = Bench::new().await;
    let id = deleted(&bench).await;
    let editor = bench.browser(Role::Editor).await;
    let page = editor.open(&format!("{BASE}/history?id={id}")).await;
    let again = format!("{BASE}/again?id={id}&#38;version=1");
    page.shows("Create again from version 2").shows(&again);
    let page = editor.open(&again.replace("&#38;", "&")).await;
    page.shows("text of version 1 of the deleted policy base")
        .shows("name=\"name\" value=\"base\"")
        .shows("# the first")
        .shows("action=\"/ui/orgs/acme/new-policy\"")
        .hides("There is a policy with the name");
    let fields = [("do", "review"), ("name", "base"), ("yaml", FIRST)];
    let done = editor.post("/ui/orgs/acme/new-policy", &fields).await;
    editor.follow(&done).await.shows("Attach now");
    editor
        .open(&format!("{BASE}/history"))
        .await
        .shows("Created")
        .hides("Detached")
        .hides("was deleted");
    editor
        .open(&format!("{BASE}/again?id={id}&version=2"))
        .await
        .shows("There is a policy with the name base now")
        .shows("# the second");
    editor
        .open(&format!("{BASE}/history?id={id}"))
        .await
        .shows("This policy was deleted");
}

#[tokio::test]
async fn an_older_version_of_a_living_policy_is_read_and_gone_back_to() {
    let bench = Bench::new().await;
    deleted(&bench).await;
    bench.policy("acme", "base", SECOND).await;
    let editor = bench.browser(Role::Editor).await;
    editor
        .open(&format!("{BASE}/history"))
        .await
        .shows(&format!("href=\"{BASE}/versions/1\""));
    editor
        .open(&format!("{BASE}/versions/1"))
        .await
        .shows("# the second")
        .shows("which is in force")
        .hides("Roll back")
        .hides("Create again");
    editor.get(&format!("{BASE}/versions/2")).await.is(404);
    editor.get(&format!("{BASE}/versions/x")).await.is(400);
}

#[tokio::test]
async fn a_sets_history_outlives_it() {
    let bench = Bench::new().await;
    let path = "/orgs/acme/endpoint-sets/corp";
    let page = "/ui/orgs/acme/endpoint-sets/corp/history";
    let viewer = bench.browser(Role::Viewer).await;
    viewer.get(page).await.is(404).shows("never was");
    let yaml = format!("- one.example\n# {NASTY}\n");
    bench.api(Method::PUT, path, &json!({"yaml": yaml})).await;
    let other = json!({"yaml": "- two.example\n"});
    bench
        .api(Method::PUT, "/orgs/acme/endpoint-sets/corporate", &other)
        .await;
    viewer
        .open("/ui/orgs/acme/endpoint-sets/corp")
        .await
        .shows(&format!("href=\"{page}\""));
    viewer
        .open(page)
        .await
        .shows("Created</strong>, 1 endpoint by root")
        .shows("version 1 now");
    let editor = bench.browser(Role::Editor).await;
    let edit = "/ui/orgs/acme/endpoint-sets/corp/edit";
    for number in 1..=11 {
        let text = editor.open(edit).await.text;
        let (_, rest) = text.split_once("name=\"tag\" value=\"").unwrap();
        let tag = rest.split_once("\">").unwrap().0.replace("&#34;", "\"");
        let yaml = format!("- a{number}.example\n");
        let fields = [("do", "save"), ("tag", tag.as_str()), ("yaml", yaml.as_str())];
        editor.post(edit, &fields).await.is(303);
    }
    let told = viewer.open(page).await;
    told.shows("Changed, to version 12")
        .shows("class=\"added\"")
        .shows("a11.example")
        .shows("by the editor")
        .shows("Next page")
        .hides("Created")
        .hides("two.example");
    let next = told.text.split("rel=\"next\" href=\"").nth(1).unwrap();
    let next = next.split('"').next().unwrap();
    viewer
        .open(next)
        .await
        .shows("Changed, to version 2")
        .shows("Created")
        .shows("onerror=alert")
        .hides("<img src=x")
        .hides("<script>alert");
    bench.api(Method::DELETE, path, &Value::Null).await;
    viewer
        .open(page)
        .await
        .shows("There is no endpoint set corp any more")
        .shows("Deleted");
    let foreign = bench
        .browser_of(&of_owners(Role::Viewer, "Bo", &["umbrella"]))
        .await;
    foreign.get(page).await.is(403);
    bench.stranger().get(page).await.wants_login();
    viewer
        .get("/ui/orgs/acme/endpoint-sets/cor%2A/history")
        .await
        .is(400);
}
