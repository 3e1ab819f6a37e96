//! Settings: tokens, sessions, and what is configured.

use tidegate_control::model::Role;

use crate::bench::{Bench, NASTY, of_owners, wanted};

#[tokio::test]
async fn a_token_is_made_shown_once_and_revoked() {
    let bench = Bench::new().await;
    let admin = bench.browser(Role::Admin).await;
    admin.open("/ui/settings/tokens").await.shows("New token");
    admin
        .open("/ui/settings/tokens/new")
        .await
        .shows("value=\"viewer\" selected");
    let fields = [
        ("role", "runner"),
        ("name", NASTY),
        ("owners", "Acme, umbrella"),
        ("repos", ""),
        ("networks", "runners"),
        ("cluster", ""),
        ("expires", "2099-12-31"),
    ];
    let made = admin.post("/ui/settings/tokens", &fields).await;
    made.is(201)
        .shows("value=\"tgr_")
        .shows("Copy the token now")
        .hides("<script>alert");
    assert_eq!(made.header("cache-control"), "no-store");
    let text = made
        .text
        .split("value=\"tgr_")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let id = made
        .text
        .split("<code>tok_")
        .nth(1)
        .unwrap()
        .split('<')
        .next()
        .unwrap();
    let listed = admin.open("/ui/settings/tokens?role=runner").await;
    listed
        .shows("acme, umbrella; runners")
        .hides(text)
        .hides("<script>alert");
    listed.shows("&#60;script&#62;alert(1)").shows("2099-12-31");
    let ask = admin.open(&format!("/ui/settings/tokens/tok_{id}/revoke")).await;
    ask.shows("registers no other")
        .shows("can't be undone")
        .hides(text);
    let done = admin
        .post(&format!("/ui/settings/tokens/tok_{id}/revoke"), &[])
        .await;
    admin.follow(&done).await.shows("The token is revoked.");
    admin
        .open("/ui/settings/tokens?role=runner")
        .await
        .shows("No token is like that");
    admin
        .open("/ui/settings/tokens?state=dead")
        .await
        .shows("revoked");
    admin
        .open(&format!("/ui/settings/tokens/tok_{id}/revoke"))
        .await
        .shows("nothing changes");
    admin.get("/ui/settings/tokens/tok_none/revoke").await.is(404);
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_said_beside_what_was_typed() {
    let bench = Bench::new().await;
    let admin = bench.browser(Role::Admin).await;
    for (fields, said) in [
        (
            [
                ("role", "gateway"),
                ("name", "gw 1"),
                ("owners", ""),
                ("expires", ""),
            ],
            "named as the gateway",
        ),
        (
            [
                ("role", "viewer"),
                ("name", "v"),
                ("owners", "a/b"),
                ("expires", ""),
            ],
            "is not an owner",
        ),
        (
            [
                ("role", "viewer"),
                ("name", "v"),
                ("owners", ""),
                ("expires", "soon"),
            ],
            "has to be a date",
        ),
        (
            [
                ("role", "viewer"),
                ("name", "v"),
                ("owners", ""),
                ("expires", "2001-01-01"),
            ],
            "lies in the past",
        ),
    ] {
        let told = admin.post("/ui/settings/tokens", &fields).await;
        told.is(422).shows("role=\"alert\"").shows(said);
        told.shows(&format!("value=\"{}\"", fields[1].1));
        told.shows(&format!("value=\"{}\" selected", fields[0].1));
    }
    let told = admin
        .post("/ui/settings/tokens", &[("role", "admin"), ("name", "for ever")])
        .await;
    told.is(403).shows("tidegate token create");
}

#[tokio::test]
async fn sessions_are_seen_and_ended() {
    let bench = Bench::new().await;
    let admin = bench.browser(Role::Admin).await;
    let editor = bench.browser_of(&wanted(Role::Editor, "Bo")).await;
    editor.open("/ui/").await;
    let listed = admin.open("/ui/settings/sessions").await;
    listed.shows("Bo").shows("this browser").shows("by a token");
    let id = listed.text.split("/ui/settings/sessions/ses_").nth(1).unwrap();
    let id = id.split('/').next().unwrap();
    let ask = admin.open(&format!("/ui/settings/sessions/ses_{id}/end")).await;
    ask.shows("End the session of <strong>Bo</strong>")
        .shows("Whoever has the token can sign in again")
        .hides("This signs you out");
    editor.open("/ui/").await;
    let done = admin
        .post(&format!("/ui/settings/sessions/ses_{id}/end"), &[])
        .await;
    admin.follow(&done).await.shows("The session ended.").hides("Bo");
    admin
        .open("/ui/settings/sessions?state=all")
        .await
        .shows("Bo")
        .shows("ended");
    editor.get("/ui/").await.wants_login();
    admin.open("/ui/").await;
    admin
        .open(&format!("/ui/settings/sessions/ses_{id}/end"))
        .await
        .shows("nothing changes");
    admin.get("/ui/settings/sessions/ses_none/end").await.is(404);
}

#[tokio::test]
async fn ending_ones_own_session_signs_out_and_says_so_before() {
    let bench = Bench::new().await;
    let admin = bench.browser(Role::Admin).await;
    let listed = admin.open("/ui/settings/sessions").await;
    let end = listed
        .text
        .split("href=\"/ui/settings/sessions/ses_")
        .nth(1)
        .unwrap();
    let end = format!("/ui/settings/sessions/ses_{}", end.split('"').next().unwrap());
    admin
        .open(&end)
        .await
        .shows("which is this browser's")
        .shows("This signs you out");
    let done = admin.post(&end, &[]).await;
    assert_eq!(done.location(), "/ui/login");
    assert_eq!(admin.cookie("tidegate"), None);
    admin.follow(&done).await.shows("You are signed out.");
    admin.get("/ui/").await.wants_login();
}

#[tokio::test]
async fn only_admins_see_tokens_and_sessions_and_only_unlimited_ones_the_configuration() {
    let bench = Bench::new().await;
    let viewer = bench.browser(Role::Viewer).await;
    let page = viewer.open("/ui/settings").await;
    page.shows("the viewer")
        .hides("/ui/settings/tokens")
        .hides("Store&#39;s name")
        .hides("Store's name");
    for path in [
        "/ui/settings/tokens",
        "/ui/settings/sessions",
        "/ui/settings/tokens/tok_x/revoke",
        "/ui/settings/sessions/ses_x/end",
    ] {
        viewer.get(path).await.is(403);
    }
    let fields = [("role", "viewer"), ("name", "mine")];
    viewer.post("/ui/settings/tokens", &fields).await.is(403);
    viewer.post("/ui/settings/tokens/tok_x/revoke", &[]).await.is(403);
    viewer.post("/ui/settings/sessions/ses_x/end", &[]).await.is(403);
    let limited = bench
        .browser_of(&of_owners(Role::Admin, "acme-admin", &["acme"]))
        .await;
    limited
        .open("/ui/settings")
        .await
        .shows("/ui/settings/tokens")
        .hides("Listens on");
    limited
        .open("/ui/settings/tokens")
        .await
        .shows("acme-admin")
        .hides("the viewer");
    let admin = bench.browser(Role::Admin).await;
    admin
        .open("/ui/settings")
        .await
        .shows("Version")
        .shows("Control plane");
    let stranger = bench.stranger();
    for path in [
        "/ui/settings",
        "/ui/settings/tokens",
        "/ui/settings/tokens/new",
        "/ui/settings/sessions",
    ] {
        stranger.get(path).await.wants_login();
    }
}
