//! The Policy Store's pages: what they show, what they do, what they refuse, and that all of it works by plain forms.
//! Attaching, deleting and several at once are [`crate::attachments`]'.

use axum::http::Method;
use serde_json::{Value, json};
use tidegate_control::model::Role;

use crate::bench::{Answer, Bench, Browser, NASTY, POLICY, of_owners};

pub(crate) const LIST: &str = "/ui/orgs/acme/policies";
pub(crate) const BASE: &str = "/ui/orgs/acme/policies/base";
pub(crate) const AUDIT: &str = "egress-policy: audit\n";

/// The value of a form's hidden field.
pub(crate) fn field(answer: &Answer, name: &str) -> String {
    let before = format!("name=\"{name}\" value=\"");
    let at = answer
        .text
        .find(&before)
        .unwrap_or_else(|| panic!("no field {name}: {answer:?}"));
    let rest = &answer.text[at + before.len()..];
    rest[..rest.find('"').unwrap()]
        .replace("&quot;", "\"")
        .replace("&#34;", "\"")
        .replace("&#x22;", "\"")
}

pub(crate) async fn attach(bench: &Bench, name: &str, scopes: &[&str]) {
    let path = format!("/orgs/acme/policies/{name}/attachments");
    bench
        .api(Method::POST, &path, &json!({"add": scopes, "replace": true}))
        .await;
}

pub(crate) async fn stored(bench: &Bench, name: &str) -> Value {
    bench
        .api(Method::GET, &format!("/orgs/acme/policies/{name}"), &Value::Null)
        .await
}

/// Saves a text by the editor, from the version that is stored.
async fn save(browser: &Browser<'_>, yaml: &str) -> Answer {
    let page = browser.open(&format!("{BASE}/edit")).await;
    let tag = field(&page, "etag");
    browser
        .post(
            &format!("{BASE}/edit"),
            &[("do", "save"), ("etag", &tag), ("yaml", yaml)],
        )
        .await
}

#[tokio::test]
async fn an_empty_store_says_what_to_do_next() {
    let bench = Bench::new().await;
    let page = bench.browser(Role::Editor).await.open(LIST).await;
    page.shows("No policies yet")
        .shows("New policy")
        .shows("Global Block Policy");
    let page = bench.browser(Role::Viewer).await.open(LIST).await;
    page.shows("No policies yet").hides("New policy");
}

#[tokio::test]
async fn the_list_shows_counts_filters_searches_and_pages() {
    let bench = Bench::new().await;
    bench.policy("acme", "base", POLICY).await;
    bench.policy("acme", "watcher", AUDIT).await;
    bench
        .policy("acme", "lock", "lockdown-mode: {enabled: true}\n")
        .await;
    attach(
        &bench,
        "base",
        &["repo:acme/a", "repo:acme/b", "repo:acme/c", "repo:acme/d"],
    )
    .await;
    let entry = json!({"pattern": "*.evil.example", "reason": "known"});
    bench.api(Method::POST, "/global-block/entries", &entry).await;
    let editor = bench.browser(Role::Editor).await;
    let page = editor.open(LIST).await;
    page.shows("1 entry is refused").shows("Last updated <time");
    page.shows("<strong>3</strong>Total")
        .shows("<strong>2</strong>Unattached");
    page.shows("and 1 more")
        .shows("Block</span>")
        .shows("Lockdown only</span>")
        .shows("Modify attachment");
    editor
        .open(&format!("{LIST}?mode=audit"))
        .await
        .shows("watcher")
        .hides(">base<");
    editor
        .open(&format!("{LIST}?attached=false"))
        .await
        .shows("watcher")
        .hides(">base<");
    editor
        .open(&format!("{LIST}?search=BAS"))
        .await
        .shows(">base<")
        .hides("watcher");
    editor
        .open(&format!("{LIST}?search=nothing"))
        .await
        .shows("No policy is like that");
    editor
        .open(&format!("{LIST}?endpoint=registry.example.test"))
        .await
        .shows(">base<")
        .hides("watcher");
    for at in 0..50 {
        bench.policy("acme", &format!("x{at:02}"), AUDIT).await;
    }
    let page = editor.open(&format!("{LIST}?search=x")).await;
    page.hides("Next page");
    editor.open(LIST).await.shows("Next page");
}

#[tokio::test]
async fn a_viewer_sees_everything_and_changes_nothing() {
    let bench = Bench::new().await;
    bench.policy("acme", "base", POLICY).await;
    let viewer = bench.browser(Role::Viewer).await;
    viewer
        .open(LIST)
        .await
        .shows(">base<")
        .hides("Modify attachment")
        .hides("Delete</a>");
    viewer
        .open(BASE)
        .await
        .shows("registry.example.test")
        .hides("Edit</a>")
        .hides("Attach now");
    viewer.open(&format!("{BASE}/history")).await.shows("Created");
    let tag = "\"1\"";
    let edit = [("do", "save"), ("etag", tag), ("yaml", AUDIT)];
    viewer.post(&format!("{BASE}/edit"), &edit).await.is(403);
    viewer
        .post(
            "/ui/orgs/acme/new-policy",
            &[("do", "review"), ("name", "x"), ("yaml", AUDIT)],
        )
        .await
        .is(403);
    viewer
        .post(
            &format!("{BASE}/attach"),
            &[("do", "confirm"), ("add", "org:acme")],
        )
        .await
        .is(403);
    viewer
        .post(&format!("{BASE}/delete"), &[("shown", "")])
        .await
        .is(403);
    viewer
        .post(&format!("{BASE}/rollback"), &[("to", "1"), ("etag", tag)])
        .await
        .is(403);
    assert_eq!(stored(&bench, "base").await["version"], 1);
    let other = bench
        .browser_of(&of_owners(Role::Editor, "beta", &["beta"]))
        .await;
    other.get(LIST).await.is(403);
}

#[tokio::test]
async fn nobody_sees_policies_without_a_session() {
    let bench = Bench::new().await;
    bench.policy("acme", "base", POLICY).await;
    let stranger = bench.stranger();
    for path in [
        "",
        "/edit",
        "/attach",
        "/detach",
        "/delete",
        "/mode",
        "/history",
        "/rollback?to=1",
    ] {
        stranger.get(&format!("{BASE}{path}")).await.wants_login();
    }
    for path in [
        LIST,
        "/ui/orgs/acme/new-policy",
        "/ui/orgs/acme/selected?do=delete",
    ] {
        stranger.get(path).await.wants_login();
    }
    for path in ["/ui/orgs/acme/check", "/ui/orgs/acme/policies/base/impact"] {
        stranger.post(path, &[("yaml", AUDIT)]).await.is(403);
    }
    let editor = bench.browser(Role::Editor).await;
    let cross = [("sec-fetch-site", "cross-site")];
    editor
        .post_with(&format!("{BASE}/delete"), &[("shown", "")], &cross)
        .await
        .is(403);
    assert_eq!(stored(&bench, "base").await["version"], 1);
}

#[tokio::test]
async fn a_policy_is_made_and_offers_to_be_attached() {
    let bench = Bench::new().await;
    let editor = bench.browser(Role::Editor).await;
    let page = editor.open("/ui/orgs/acme/new-policy").await;
    page.shows("egress-policy: audit").shows("No problems.");
    let wrong = [
        ("do", "review"),
        ("name", "base"),
        ("yaml", "egress-polcy: block\n"),
    ];
    let page = editor.post("/ui/orgs/acme/new-policy", &wrong).await;
    page.is(422)
        .shows("egress-polcy: block")
        .shows("did you mean")
        .shows("data-line=\"1\"")
        .shows("value=\"base\"");
    let fine = [("do", "review"), ("name", "base"), ("yaml", POLICY)];
    let done = editor.post("/ui/orgs/acme/new-policy", &fine).await;
    assert_eq!(done.location(), BASE);
    editor
        .follow(&done)
        .await
        .shows("The policy is made")
        .shows("Attach now")
        .shows("id=\"line-4\"");
    let taken = editor.post("/ui/orgs/acme/new-policy", &fine).await;
    taken.is(409).shows("already");
}

#[tokio::test]
async fn a_text_is_checked_as_it_is_typed_and_by_a_button() {
    let bench = Bench::new().await;
    bench.policy("acme", "base", POLICY).await;
    let editor = bench.browser(Role::Editor).await;
    let part = editor
        .post("/ui/orgs/acme/check", &[("yaml", "egress-policy: blok\n")])
        .await;
    part.is(200)
        .shows("data-line=\"1\" data-column=\"16\" data-length=\"4\" data-severity=\"error\"")
        .hides("<html");
    editor
        .post("/ui/orgs/acme/check", &[("yaml", POLICY)])
        .await
        .shows("No problems.");
    let unknown = [("yaml", "egress-policy: block\nuse: [nobody]\n")];
    editor
        .post("/ui/orgs/acme/check", &unknown)
        .await
        .shows("no endpoint set");
    let button = [
        ("do", "check"),
        ("etag", "\"1\""),
        ("yaml", "egress-policy: blok\n"),
    ];
    editor
        .post(&format!("{BASE}/edit"), &button)
        .await
        .is(200)
        .shows("blok")
        .shows("data-severity=\"error\"");
}

#[tokio::test]
async fn mode_and_lockdown_are_switched_in_the_text() {
    let bench = Bench::new().await;
    bench.policy("acme", "base", POLICY).await;
    let editor = bench.browser(Role::Editor).await;
    let edit = format!("{BASE}/edit");
    let page = editor
        .post(&edit, &[("do", "audit"), ("etag", "\"1\""), ("yaml", POLICY)])
        .await;
    page.is(200)
        .shows("# the base\negress-policy: audit\n")
        .shows("It is not stored yet");
    let fields = [
        ("do", "lockdown"),
        ("yaml", POLICY),
        ("enabled", "yes"),
        ("detection", "Reverse-Shell"),
    ];
    let page = editor.post(&edit, &fields).await;
    page.shows("lockdown-mode:\n  enabled: true\n  detections:\n    - Reverse-Shell")
        .shows("Take it away");
    let wrong = [("do", "block"), ("yaml", "allowed-endpoints: 'a b:x'\n")];
    editor
        .post(&edit, &wrong)
        .await
        .is(422)
        .shows("a b:x")
        .shows("id=\"problem\"");
    assert_eq!(stored(&bench, "base").await["version"], 1);
}

#[tokio::test]
async fn a_policy_as_large_as_may_be_is_rolled_back() {
    let bench = Bench::new().await;
    let list: Vec<String> = (0..16_000)
        .map(|n| format!("  host-{n}.service.bench.example.test:443\n"))
        .collect();
    let large = format!("egress-policy: block\nallowed-endpoints: >\n{}", list.concat());
    assert!(large.len() > 600_000);
    bench.policy("acme", "base", &large).await;
    let editor = bench.browser(Role::Editor).await;
    let fields = [
        ("to", "1"),
        ("etag", "\"7\""),
        ("yaml", large.as_str()),
        ("apply", "now"),
    ];
    let answer = editor.post(&format!("{BASE}/rollback"), &fields).await;
    assert!(
        [409, 412].contains(&answer.status),
        "refused for its version, not for its size"
    );
}

#[tokio::test]
async fn a_change_is_reviewed_and_saved() {
    let bench = Bench::new().await;
    bench.policy("acme", "base", POLICY).await;
    attach(&bench, "base", &["repo:acme/web"]).await;
    let editor = bench.browser(Role::Editor).await;
    let page = editor.open(&format!("{BASE}/edit")).await;
    let tag = field(&page, "etag");
    let mine = POLICY.replace("block", "audit");
    let fields = [("do", "review"), ("etag", tag.as_str()), ("yaml", &mine)];
    let page = editor.post(&format!("{BASE}/edit"), &fields).await;
    page.shows("1 added, 1 removed")
        .shows("class=\"removed\"")
        .shows("data-send=\"")
        .shows("Save the change");
    assert_eq!(field(&page, "etag"), tag);
    let part = editor
        .post(&format!("{BASE}/impact"), &[("yaml", &mine), ("days", "7")])
        .await;
    part.is(200).shows("No recorded job would have been under it.");
    let done = save(&editor, &mine).await;
    editor
        .follow(&done)
        .await
        .shows("The change is saved")
        .shows("egress-policy: audit");
    assert_eq!(stored(&bench, "base").await["version"], 2);
    let same = [("do", "review"), ("etag", "\"2\""), ("yaml", &mine)];
    editor
        .post(&format!("{BASE}/edit"), &same)
        .await
        .shows("Nothing differs")
        .hides("Save the change");
    let page = editor.open(&format!("{BASE}/mode?to=block")).await;
    page.shows("egress-policy: block").shows("Save the change");
}

#[tokio::test]
async fn of_two_editors_the_second_sees_both_versions_and_takes_over_either() {
    let bench = Bench::new().await;
    bench.policy("acme", "base", POLICY).await;
    let (first, second) = (
        bench.browser(Role::Editor).await,
        bench.browser(Role::Admin).await,
    );
    let begun = field(&second.open(&format!("{BASE}/edit")).await, "etag");
    first
        .follow(&save(&first, &format!("{POLICY}# theirs\n")).await)
        .await;
    let mine = format!("{POLICY}# mine\n");
    let fields = [("do", "save"), ("etag", begun.as_str()), ("yaml", &mine)];
    let page = second.post(&format!("{BASE}/edit"), &fields).await;
    page.is(409)
        .shows("Nothing was stored")
        .shows("the editor")
        .shows("# theirs")
        .shows("# mine")
        .shows("Both texts");
    assert_eq!(stored(&bench, "base").await["version"], 2);
    // Going on with one's own is a change of theirs: reviewed, then stored.
    let tag = field(&page, "etag");
    assert_ne!(tag, begun);
    let on = [("do", "review"), ("etag", tag.as_str()), ("yaml", &mine)];
    second
        .post(&format!("{BASE}/edit"), &on)
        .await
        .shows("# theirs")
        .shows("# mine");
    let on = [("do", "save"), ("etag", tag.as_str()), ("yaml", &mine)];
    second
        .follow(&second.post(&format!("{BASE}/edit"), &on).await)
        .await
        .shows("# mine");
}

#[tokio::test]
async fn endpoints_are_imported_after_a_preview() {
    let bench = Bench::new().await;
    bench.policy("acme", "base", POLICY).await;
    let editor = bench.browser(Role::Editor).await;
    let edit = format!("{BASE}/edit");
    let list = "registry.example.test:443 # known\na.cdn.example.com\nb.cdn.example.com c.cdn.example.com\n";
    let base = [
        ("do", "import"),
        ("etag", "\"1\""),
        ("yaml", POLICY),
        ("list", list),
    ];
    let page = editor.post(&edit, &base).await;
    page.shows("3 of 4 endpoints are new")
        .shows("allowed already")
        .shows("*.cdn.example.com:443");
    let mut wild = base.to_vec();
    wild.push(("collapse", "*.cdn.example.com:443"));
    editor
        .post(&edit, &wild)
        .await
        .shows("1 of 2 endpoints is new")
        .shows("wildcard")
        .shows("type=\"hidden\" name=\"collapse\" value=\"*.cdn.example.com:443\"");
    // Another preview keeps what was unticked.
    let mut again = base.to_vec();
    again.extend([
        ("offered", "a.cdn.example.com:443"),
        ("offered", "b.cdn.example.com:443"),
        ("allow", "b.cdn.example.com:443"),
    ]);
    editor
        .post(&edit, &again)
        .await
        .shows("aria-label=\"Add a.cdn.example.com:443\">")
        .shows("aria-label=\"Add b.cdn.example.com:443\" checked>")
        .shows("aria-label=\"Add c.cdn.example.com:443\" checked>");
    let add = [
        ("do", "add"),
        ("etag", "\"1\""),
        ("yaml", POLICY),
        ("allow", "a.cdn.example.com:443"),
    ];
    let page = editor.post(&edit, &add).await;
    page.shows("registry.example.test:443\n  a.cdn.example.com:443\n")
        .shows("1 line added");
    // The Enter key in one of its fields shows the same, and stores nothing; the first button is what it means.
    let mut enter = base.to_vec();
    enter[0].1 = "enter";
    editor.post(&edit, &enter).await.shows("3 of 4 endpoints are new");
    let create = "/ui/orgs/acme/new-policy";
    let form = editor.open(create).await;
    let first = form
        .text
        .split("<button")
        .find(|text| text.contains("name=\"do\""));
    assert!(first.unwrap().contains("value=\"enter\""), "{form:?}");
    let named = [("do", "enter"), ("name", "fresh"), ("yaml", POLICY)];
    editor.post(create, &named).await.is(200).shows("value=\"fresh\"");
    editor.get(&format!("{LIST}/fresh")).await.is(404);
    let nothing = [("do", "import"), ("yaml", POLICY)];
    editor.post(&edit, &nothing).await.is(422).shows("Choose a scope");
    let job = [("do", "import"), ("yaml", POLICY), ("job", "job_none")];
    editor.post(&edit, &job).await.is(404);
    let scope = [("do", "import"), ("yaml", POLICY), ("scope", "repo:acme/web")];
    editor.post(&edit, &scope).await.shows("Nothing to import");
}

#[tokio::test]
async fn history_shows_what_happened_and_leads_back() {
    let bench = Bench::new().await;
    bench.policy("acme", "base", POLICY).await;
    let editor = bench.browser(Role::Editor).await;
    editor.follow(&save(&editor, AUDIT).await).await;
    attach(&bench, "base", &["repo:acme/b", "repo:acme/a"]).await;
    let page = editor.open(&format!("{BASE}/history")).await;
    page.shows("Created")
        .shows("Changed, to version 2")
        .shows("Attached")
        .shows("via ui")
        .shows("the editor");
    page.shows("class=\"plus\"")
        .shows("repo:acme/a")
        .shows("class=\"removed\"")
        .shows("<time datetime=");
    page.shows("Roll back to version 1")
        .hides("Roll back to version 2");
    let page = editor.open(&format!("{BASE}/rollback?to=1")).await;
    page.shows("becomes version 3").shows("registry.example.test");
    let tag = field(&page, "etag");
    let fields = [("to", "1"), ("etag", tag.as_str()), ("apply", "next-job")];
    let done = editor.post(&format!("{BASE}/rollback"), &fields).await;
    editor
        .follow(&done)
        .await
        .shows("older text is in force")
        .shows("registry.example.test");
    editor
        .post(&format!("{BASE}/rollback"), &fields)
        .await
        .is(412)
        .shows("version 3");
    let page = editor.open(&format!("{BASE}/edit?version=2")).await;
    page.shows("the text of version 2").shows(AUDIT);
    editor.get(&format!("{BASE}/rollback?to=99")).await.is(404);
    editor
        .open(&format!("{BASE}/diff?from=1&to=2"))
        .await
        .shows("Version 1")
        .shows("class=\"added\"");
    let long: Vec<String> = (0..2_000)
        .map(|at| format!("  long-name-{at}.example.test:443\n"))
        .collect();
    let long = format!("egress-policy: block\nallowed-endpoints: >\n{}", long.concat());
    editor
        .follow(&save(&editor, &long).await)
        .await
        .shows("id=\"line-500\"")
        .shows("2002 lines")
        .hides("id=\"line-501\"");
    editor
        .open(&format!("{BASE}?line=1999"))
        .await
        .shows("id=\"line-1999\"")
        .shows("Lines before")
        .shows("Lines after");
    editor
        .open(&format!("{BASE}/history"))
        .await
        .shows("The whole difference");
}

#[tokio::test]
async fn what_strangers_write_is_text() {
    let bench = Bench::new().await;
    let yaml = format!("# {NASTY}\negress-policy: audit\n");
    bench.policy("acme", "base", &yaml).await;
    attach(
        &bench,
        "base",
        &["workflow:acme/web/<script>alert(1)<script>.yml"],
    )
    .await;
    let editor = bench.browser(Role::Editor).await;
    for path in [
        "",
        "/edit",
        "/attach",
        "/detach",
        "/delete",
        "/history",
        "/rollback?to=1",
        "/mode?to=block",
    ] {
        let page = editor.open(&format!("{BASE}{path}")).await;
        page.hides("<script>alert").hides("<img src=x");
    }
    let nasty = format!("{LIST}?search={}", "%3Cscript%3Ealert(1)%3C%2Fscript%3E");
    editor.open(&nasty).await.hides("<script>alert");
    let fields = [("do", "review"), ("name", NASTY), ("yaml", yaml.as_str())];
    let page = editor.post("/ui/orgs/acme/new-policy", &fields).await;
    page.is(422).hides("<script>alert").hides("<img src=x");
}
