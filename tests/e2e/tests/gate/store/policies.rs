//! Policies: every change of one is seen by the jobs that it governs, and by no other; open flows live or end with it.

use serde_json::{Value, json};
use tidegate_e2e::store::{Fleet, OWNER};
use tidegate_e2e::{PATIENCE, block, event};

use super::{NAMES, download, history, lab, problem};

#[tokio::test]
async fn two_repositories_behind_one_gateway_have_their_own_policies() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    assert_eq!(fleet.reached(0, &NAMES).await, <[&str; 0]>::default());
    fleet
        .attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web")
        .await;
    fleet
        .attached("api", &block(&["cdn-b.test:443"]), "repo:acme/api")
        .await;
    let web = fleet.register(0, "acme/web", "ci.yml").await;
    let api = fleet.register(1, "acme/api", "ci.yml").await;
    // A registration is answered when it is in force: nothing is waited for.
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    assert_eq!(fleet.reached(1, &NAMES).await, ["cdn-b.test"]);
    for (job, repo, policy) in [(web, "acme/web", "web"), (api, "acme/api", "api")] {
        assert_eq!(job["policy"]["name"], policy, "{job}");
        let id = job["id"].as_str().unwrap();
        let record = event(
            &mut fleet.gateway().events(),
            &[("job.id", id), ("verdict", "permit"), ("kind", "tls")],
        )
        .await;
        for (field, value) in [
            ("job.repo", repo),
            ("job.workflow", "ci.yml"),
            ("job.assurance", "declared"),
            ("job.cluster", "prod"),
            ("policy", policy),
            ("policy_version", "1"),
            ("scope", &format!("repo:{repo}")),
        ] {
            assert!(tidegate_e2e::has(&record, &[(field, value)]), "{field}: {record}");
        }
    }
}

/// Create, attach, edit, detach, rollback, delete: each governs a running job at once, and no other job.
#[tokio::test]
async fn every_change_of_a_policy_is_on_the_wire_and_only_for_its_jobs() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    fleet
        .attached("other", &block(&["evil.test:443"]), "repo:acme/api")
        .await;
    fleet.register(1, "acme/api", "ci.yml").await;
    let neighbour = async || assert_eq!(fleet.reached(1, &NAMES).await, ["evil.test"]);
    fleet.policy("web", &block(&["cdn-a.test:443"])).await;
    let job = fleet.register(0, "acme/web", "ci.yml").await;
    assert_eq!(
        job["policy"],
        Value::Null,
        "a policy that is attached nowhere governs nobody"
    );
    assert_eq!(fleet.reached(0, &NAMES).await, <[&str; 0]>::default());

    fleet.attach("web", "repo:acme/web").await;
    fleet.reaches(0, "cdn-a.test").await;
    neighbour().await;
    fleet.edit("web", &block(&["cdn-b.test:443"])).await;
    fleet.reaches(0, "cdn-b.test").await;
    assert_eq!(
        fleet.reached(0, &NAMES).await,
        ["cdn-b.test"],
        "what it allowed before is gone"
    );
    neighbour().await;
    let third = fleet.rollback("web", 1).await;
    assert_eq!(
        (&third["version"], &third["yaml"]),
        (&3.into(), &block(&["cdn-a.test:443"]).into())
    );
    fleet.reaches(0, "cdn-a.test").await;
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    fleet.detach("web", "repo:acme/web").await;
    fleet.refused(0, "cdn-a.test").await;
    fleet.attach("web", "repo:acme/web").await;
    fleet.reaches(0, "cdn-a.test").await;
    let gone = fleet.delete("web").await;
    assert_eq!(gone["detached"], json!(["repo:acme/web"]));
    fleet.refused(0, "cdn-a.test").await;
    assert_eq!(fleet.reached(0, &NAMES).await, <[&str; 0]>::default());
    neighbour().await;
}

#[tokio::test]
async fn an_edited_endpoint_set_changes_every_policy_that_uses_it() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    fleet.set("base", &["cdn-a.test:443"]).await;
    let using =
        |own: &str| format!("egress-policy: block\nplatform: none\nuse: [base]\nallowed-endpoints: {own}\n");
    fleet
        .attached("web", &using("allowed.test:443"), "repo:acme/web")
        .await;
    fleet
        .attached("api", &using("evil.test:443"), "repo:acme/api")
        .await;
    fleet.register(0, "acme/web", "ci.yml").await;
    fleet.register(1, "acme/api", "ci.yml").await;
    assert_eq!(fleet.reached(0, &NAMES).await, ["allowed.test", "cdn-a.test"]);
    assert_eq!(fleet.reached(1, &NAMES).await, ["cdn-a.test", "evil.test"]);
    fleet.set("base", &["cdn-b.test:443"]).await;
    fleet.reaches(0, "cdn-b.test").await;
    fleet.reaches(1, "cdn-b.test").await;
    assert_eq!(fleet.reached(0, &NAMES).await, ["allowed.test", "cdn-b.test"]);
    assert_eq!(fleet.reached(1, &NAMES).await, ["cdn-b.test", "evil.test"]);
    let record = event(
        &mut fleet.gateway().events(),
        &[("name", "cdn-b.test"), ("verdict", "permit"), ("kind", "tls")],
    )
    .await;
    assert_eq!(record["rule_source"], "set", "{record}");
    // It is not taken from under them.
    let path = format!("/orgs/{OWNER}/endpoint-sets/base");
    let held = fleet.api("DELETE", &path, None).await;
    assert_eq!(problem(&held).0, 409);
    assert!(
        held.text().contains("web") && held.text().contains("api"),
        "{held}"
    );
}

#[tokio::test]
async fn a_download_survives_publications_that_allow_it_and_ends_with_one_that_does_not() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    fleet
        .attached(
            "web",
            &block(&["allowed.test:443", "cdn-a.test:443"]),
            "repo:acme/web",
        )
        .await;
    fleet
        .attached("api", &block(&["allowed.test:443"]), "repo:acme/api")
        .await;
    let job = fleet.register(0, "acme/web", "ci.yml").await;
    fleet.register(1, "acme/api", "ci.yml").await;
    let mut ended = download(&lab, 0, "cdn-a.test").await;
    let mut steady = download(&lab, 1, "allowed.test").await;
    for endpoints in [
        ["allowed.test:443", "evil.test:443"],
        ["allowed.test:443", "cdn-b.test:443"],
    ] {
        fleet.edit("api", &block(&endpoints)).await;
        fleet.reaches(1, endpoints[1].split(':').next().unwrap()).await;
    }
    // The same document at another scope governs all the same.
    fleet.attach("api", "workflow:acme/api/ci.yml").await;
    fleet.detach("api", "repo:acme/api").await;
    fleet.edit("web", &block(&["allowed.test:443"])).await;
    let status = ended
        .wait(PATIENCE)
        .await
        .expect("the refused download is cut off");
    assert!(!status.success());
    let fields = [
        ("name", "cdn-a.test"),
        ("reason", "policy-changed"),
        ("job.id", job["id"].as_str().unwrap()),
    ];
    let record = event(&mut fleet.gateway().events(), &fields).await;
    assert!(record.to_string().contains("terminated by policy"), "{record}");
    fleet.refused(0, "cdn-a.test").await;
    assert!(steady.pid().is_some(), "the other goes on: {}", steady.stderr());
    lab.origins().release_downloads();
    let status = steady.wait(PATIENCE).await.expect("the download ends");
    assert!(status.success(), "{}", steady.stderr());
    let got = lab.runner(1).home().join("got");
    assert_eq!(std::fs::metadata(got).unwrap().len(), 1_000_000);
}

#[tokio::test]
async fn an_edit_that_is_refused_changes_nothing_on_the_wire_or_in_history() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    fleet
        .attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web")
        .await;
    fleet.register(0, "acme/web", "ci.yml").await;
    let before = history(&fleet, "web").await;
    let path = format!("/api/v1/orgs/{OWNER}/policies/web");
    let edit = |yaml: &str| {
        let request = fleet.control.request("PUT", &path).token(&fleet.admin);
        request.json(&json!({"yaml": yaml}))
    };
    let other = block(&["evil.test:443"]);
    for (request, status) in [
        (edit(&other), 428),
        (edit(&other).header("if-match", "\"7\""), 412),
        (edit("egress-policy: blok\n").header("if-match", "*"), 422),
        (
            edit("allowed-endpoints: evil.test:0\n").header("if-match", "*"),
            422,
        ),
        (edit("a: &a [*a, *a]\n").header("if-match", "*"), 422),
        (edit("use: [nowhere]\n").header("if-match", "*"), 422),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(problem(&answer).0, status, "{answer}");
    }
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    assert_eq!(history(&fleet, "web").await, before);
    // Two editors who read the same version: the second is told.
    let read = fleet
        .control
        .request("GET", &path)
        .token(&fleet.admin)
        .send()
        .await
        .unwrap();
    let tag = read.header("etag").unwrap().to_owned();
    edit(&block(&["cdn-b.test:443"]))
        .header("if-match", &tag)
        .send()
        .await
        .unwrap()
        .expect(200);
    let lost = edit(&other).header("if-match", &tag).send().await.unwrap();
    assert_eq!(problem(&lost).0, 412);
    fleet.reaches(0, "cdn-b.test").await;
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-b.test"]);
}

#[tokio::test]
async fn a_name_that_is_made_again_is_another_policy() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    fleet
        .attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web")
        .await;
    let first = fleet.register(0, "acme/web", "ci.yml").await["policy"]["id"].clone();
    fleet.delete("web").await;
    fleet.refused(0, "cdn-a.test").await;
    let second = fleet.policy("web", &block(&["cdn-a.test:443"])).await;
    assert_ne!(second["id"], first);
    assert_eq!(
        (&second["version"], &second["attachments"]),
        (&1.into(), &json!([]))
    );
    // The scope was the old one's; nobody inherits it.
    let path = "/effective?repo=acme/web";
    let effective = fleet.api("GET", path, None).await.expect(200).json();
    assert_eq!(effective["egress"]["policy"], Value::Null, "{effective}");
    assert_eq!(fleet.reached(0, &NAMES).await, <[&str; 0]>::default());
    fleet.attach("web", "repo:acme/web").await;
    fleet.reaches(0, "cdn-a.test").await;
    assert_eq!(fleet.current(0).await["policy"]["id"], second["id"]);
    let old = format!(
        "/orgs/{OWNER}/policies/web/history?id={}",
        first.as_str().unwrap()
    );
    let old = fleet.api("GET", &old, None).await.expect(200).json();
    let actions: Vec<&Value> = old["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["action"])
        .collect();
    assert_eq!(
        actions,
        [
            "policy.deleted",
            "policy.detached",
            "policy.attached",
            "policy.created"
        ]
    );
    let actions: Vec<Value> = history(&fleet, "web")
        .await
        .iter()
        .map(|one| one["action"].clone())
        .collect();
    assert_eq!(actions, ["policy.created", "policy.attached"]);
}

/// The figures behind "within a second": each kind of change several times, from control's answer to the wire.
/// Printed, not judged: a busy machine must not fail a test that says nothing about the program.
#[tokio::test]
async fn how_soon_changes_are_on_the_wire() {
    const ROUNDS: usize = 5;
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    fleet.set("base", &["allowed.test:443"]).await;
    let policy = |endpoint: &str| block(&[endpoint]) + "use: [base]\n";
    fleet.policy("web", &policy("cdn-a.test:443")).await;
    fleet.register(0, "acme/web", "ci.yml").await;
    let mut kinds = ["attach", "edit", "rollback", "set edit", "detach"].map(|kind| (kind, Vec::new()));
    for _ in 0..ROUNDS {
        fleet.attach("web", "repo:acme/web").await;
        kinds[0].1.push(fleet.reaches(0, "cdn-a.test").await);
        fleet.edit("web", &policy("cdn-b.test:443")).await;
        kinds[1].1.push(fleet.reaches(0, "cdn-b.test").await);
        fleet.rollback("web", 1).await;
        kinds[2].1.push(fleet.refused(0, "cdn-b.test").await);
        fleet.set("base", &["evil.test:443"]).await;
        kinds[3].1.push(fleet.reaches(0, "evil.test").await);
        fleet.set("base", &["allowed.test:443"]).await;
        kinds[3].1.push(fleet.refused(0, "evil.test").await);
        fleet.detach("web", "repo:acme/web").await;
        kinds[4].1.push(fleet.refused(0, "cdn-a.test").await);
    }
    println!("{:>10} {:>8} {:>8}", "change", "median", "longest");
    for (kind, mut took) in kinds {
        took.sort();
        let (median, longest) = (took[took.len() / 2].as_millis(), took[took.len() - 1].as_millis());
        println!("{kind:>10} {median:>5} ms {longest:>5} ms");
    }
}
