//! Which policy governs: workflow, repository, organization, cluster, whole and per facet; who may take a scope.

use serde_json::{Value, json};
use tidegate_e2e::store::{AUDIENCE, Fleet, start_of};
use tidegate_e2e::{block, event};
use tidegate_lab::{Lab, Site, plan};

use super::{NAMES, history, lab, problem};

/// The four scopes of job `acme/web/ci.yml` in cluster `prod`, widest first, and a name for each.
const LEVELS: [(&str, &str); 4] = [
    ("cluster:prod", "cdn-a.test"),
    ("org:acme", "cdn-b.test"),
    ("repo:acme/web", "allowed.test"),
    ("workflow:acme/web/ci.yml", "evil.test"),
];

/// What `effective` says decides egress for `acme/web/ci.yml` in `prod`: policy and scope.
async fn effective(fleet: &Fleet<'_>, facet: &str) -> (Value, Value) {
    let path = "/effective?owner=acme&repo=acme/web&workflow=ci.yml&cluster=prod";
    let answer = fleet.api("GET", path, None).await.expect(200).json();
    let facet = &answer[facet];
    (facet["policy"]["name"].clone(), facet["scope"].clone())
}

#[tokio::test]
async fn workflow_before_repository_before_organization_before_cluster_before_the_default() {
    let lab = Lab::builder()
        .control()
        .site(Site::new("default.test", plan::site(71)))
        .build()
        .unwrap();
    let fleet = Fleet::builder(&lab)
        .network("cluster: prod, default-policy: default.yaml")
        .file("default.yaml", &block(&["default.test:443"]))
        .start()
        .await;
    let names = [&NAMES[..], &["default.test"]].concat();
    let job = fleet.register(0, "acme/web", "ci.yml").await;
    // Another workflow of the repository follows the repository at most.
    fleet.register(1, "acme/web", "other.yml").await;
    assert_eq!(job["policy"]["name"], "default.yaml", "{job}");
    assert_eq!(fleet.reached(0, &names).await, ["default.test"]);
    for (scope, name) in LEVELS {
        fleet
            .attached(name, &block(&[&format!("{name}:443")]), scope)
            .await;
        fleet.reaches(0, name).await;
        assert_eq!(
            fleet.reached(0, &names).await,
            [name],
            "{scope} and nothing wider"
        );
        assert_eq!(effective(&fleet, "egress").await, (name.into(), scope.into()));
        let current = fleet.current(0).await;
        assert_eq!(
            (&current["policy"]["name"], &current["policy"]["scope"]),
            (&name.into(), &scope.into())
        );
    }
    assert_eq!(fleet.reached(1, &names).await, ["allowed.test"]);
    for index in (0..LEVELS.len()).rev() {
        let (scope, name) = LEVELS[index];
        fleet.detach(name, scope).await;
        let wider = index
            .checked_sub(1)
            .map_or("default.test", |wider| LEVELS[wider].1);
        fleet.reaches(0, wider).await;
        assert_eq!(fleet.reached(0, &names).await, [wider], "without {scope}");
    }
    assert_eq!(effective(&fleet, "egress").await, (Value::Null, Value::Null));
}

#[tokio::test]
async fn a_document_that_has_lockdown_only_leaves_egress_to_the_wider_scope() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    fleet
        .attached("org", &block(&["cdn-a.test:443"]), "org:acme")
        .await;
    let exempt = "lockdown-mode:\n  enabled: false\n";
    fleet.attached("exempt", exempt, "workflow:acme/web/ci.yml").await;
    let job = fleet.register(0, "acme/web", "ci.yml").await;
    assert_eq!(job["policy"]["name"], "org", "{job}");
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    assert_eq!(
        effective(&fleet, "egress").await,
        ("org".into(), "org:acme".into())
    );
    let lockdown = effective(&fleet, "lockdown").await;
    assert_eq!(lockdown, ("exempt".into(), "workflow:acme/web/ci.yml".into()));
    // With an egress facet it decides that whole too, and without one again it does not.
    fleet.edit("exempt", &(block(&["cdn-b.test:443"]) + exempt)).await;
    fleet.reaches(0, "cdn-b.test").await;
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-b.test"], "no merging");
    fleet.edit("exempt", exempt).await;
    fleet.reaches(0, "cdn-a.test").await;
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    // Where no scope has egress, the exemption opens nothing.
    fleet.detach("org", "org:acme").await;
    fleet.refused(0, "cdn-a.test").await;
    assert_eq!(fleet.reached(0, &NAMES).await, <[&str; 0]>::default());
}

#[tokio::test]
async fn a_held_scope_is_taken_by_replace_only_and_both_histories_say_so() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    fleet
        .attached("first", &block(&["cdn-a.test:443"]), "repo:acme/web")
        .await;
    fleet.policy("second", &block(&["cdn-b.test:443"])).await;
    fleet.register(0, "acme/web", "ci.yml").await;
    // One held scope fails the whole request: the free one beside it is not taken.
    let both = json!({"add": ["repo:acme/api", "repo:Acme/WEB"]});
    let refused = fleet.attachments("second", &both).await;
    assert_eq!(problem(&refused).0, 409);
    assert!(
        refused.text().contains("first") && refused.text().contains("repo:acme/web"),
        "{refused}"
    );
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    let free = fleet
        .api("GET", "/effective?repo=acme/api", None)
        .await
        .expect(200)
        .json();
    assert_eq!(free["egress"]["policy"], Value::Null, "{free}");
    assert_eq!(history(&fleet, "second").await.len(), 1);
    let taken = fleet
        .attachments("second", &json!({"add": ["repo:acme/web"], "replace": true}))
        .await
        .expect(200)
        .json();
    assert_eq!(taken["displaced"][0]["policy"], "first", "{taken}");
    fleet.reaches(0, "cdn-b.test").await;
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-b.test"]);
    for (policy, action, other) in [
        ("first", "policy.detached", "second"),
        ("second", "policy.attached", "first"),
    ] {
        let entries = history(&fleet, policy).await;
        let last = entries.last().unwrap();
        assert_eq!(last["action"], action, "{last}");
        let detail = last["detail"].to_string();
        assert!(
            detail.contains("repo:acme/web") && detail.contains(other),
            "{policy}: {detail}"
        );
    }
}

#[tokio::test]
async fn a_policy_stands_at_many_scopes_and_a_stricter_workflow_is_warned_of() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    let scopes = json!({"add": ["repo:acme/web", "repo:acme/api"]});
    fleet
        .policy("wide", &block(&["cdn-a.test:443", "cdn-b.test:443"]))
        .await;
    fleet.attachments("wide", &scopes).await.expect(200);
    fleet.register(0, "acme/web", "ci.yml").await;
    fleet.register(1, "acme/api", "ci.yml").await;
    for runner in [0, 1] {
        assert_eq!(fleet.reached(runner, &NAMES).await, ["cdn-a.test", "cdn-b.test"]);
    }
    fleet.policy("strict", &block(&["cdn-a.test:443"])).await;
    let attached = fleet.attach("strict", "workflow:acme/web/ci.yml").await;
    let warnings = attached["warnings"].to_string();
    assert!(warnings.contains("workflow:acme/web/ci.yml"), "{attached}");
    fleet.refused(0, "cdn-b.test").await;
    assert_eq!(fleet.reached(1, &NAMES).await, ["cdn-a.test", "cdn-b.test"]);
}

#[tokio::test]
async fn owner_and_repository_compare_without_case() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    fleet
        .attached("web", &block(&["cdn-a.test:443"]), "repo:Acme/WEB")
        .await;
    let job = fleet.register(0, "ACME/Web", "ci.yml").await;
    assert_eq!(job["policy"]["scope"], "repo:acme/web", "{job}");
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    assert_eq!(fleet.current(0).await["repo"], "acme/web");
    fleet
        .attached("ci", &block(&["cdn-b.test:443"]), "workflow:aCME/wEB/ci.yml")
        .await;
    fleet.reaches(0, "cdn-b.test").await;
    let path = "/effective?repo=acME/weB";
    let effective = fleet.api("GET", path, None).await.expect(200).json();
    assert_eq!(effective["egress"]["policy"]["name"], "web", "{effective}");
}

#[tokio::test]
async fn a_cluster_is_the_networks_and_a_request_may_not_choose_it() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    fleet
        .attached("prod", &block(&["cdn-a.test:443"]), "cluster:prod")
        .await;
    fleet
        .attached(
            "lax",
            &block(
                &NAMES
                    .map(|name| format!("{name}:443"))
                    .each_ref()
                    .map(String::as_str),
            ),
            "cluster:lax",
        )
        .await;
    let mut start = start_of("acme/web", "ci.yml");
    start["cluster"] = "lax".into();
    let refused = fleet.try_register(0, Some(&fleet.runner), &start).await;
    assert_eq!(problem(&refused), (403, "forbidden".to_owned()));
    assert_eq!(fleet.reached(0, &NAMES).await, <[&str; 0]>::default());
    start["cluster"] = "prod".into();
    fleet
        .try_register(0, Some(&fleet.runner), &start)
        .await
        .expect(201);
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    event(
        &mut fleet.gateway().events(),
        &[("scope", "cluster:prod"), ("name", "cdn-a.test")],
    )
    .await;
}

/// For a called workflow the caller's repository and workflow count: `workflow_ref`, never `job_workflow_ref`.
#[tokio::test]
async fn a_reusable_workflow_is_governed_as_its_caller() {
    let lab = lab();
    let issuer = lab.oidc_issuer("issuer.test", plan::site(60)).unwrap();
    let fleet = Fleet::builder(&lab).issuer(&issuer).start().await;
    fleet
        .attached("caller", &block(&["cdn-a.test:443"]), "workflow:acme/web/ci.yml")
        .await;
    let lax = block(
        &NAMES
            .map(|name| format!("{name}:443"))
            .each_ref()
            .map(String::as_str),
    );
    fleet
        .attached("called", &lax, "workflow:acme/shared/build.yml")
        .await;
    fleet.attached("shared", &lax, "repo:acme/shared").await;
    let mut claims = issuer.claims("acme/web", "ci.yml", AUDIENCE);
    claims["job_workflow_ref"] = "acme/shared/.github/workflows/build.yml@refs/heads/main".into();
    let start = json!({"oidc_token": issuer.sign(&claims).unwrap()});
    let job = fleet.try_register(0, None, &start).await.expect(201).json();
    assert_eq!(
        (&job["policy"]["name"], &job["assurance"]),
        (&"caller".into(), &"signed".into()),
        "{job}"
    );
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    let current = fleet.current(0).await;
    assert_eq!(
        (&current["repo"], &current["workflow"]),
        (&"acme/web".into(), &"ci.yml".into())
    );
}

/// `dynamic/…` workflow refs have no file: no workflow's policy governs them, the repository's does.
#[tokio::test]
async fn a_dynamic_workflow_has_no_file_and_follows_its_repository() {
    let lab = lab();
    let issuer = lab.oidc_issuer("issuer.test", plan::site(60)).unwrap();
    let fleet = Fleet::builder(&lab).issuer(&issuer).start().await;
    fleet
        .attached("repo", &block(&["cdn-a.test:443"]), "repo:acme/web")
        .await;
    fleet
        .attached("file", &block(&["evil.test:443"]), "workflow:acme/web/ci.yml")
        .await;
    let mut claims = issuer.claims("acme/web", "ci.yml", AUDIENCE);
    claims["workflow_ref"] = "acme/web/dynamic/pages/pages-build-deployment@refs/heads/main".into();
    claims["job_workflow_ref"] = claims["workflow_ref"].clone();
    let start = json!({"oidc_token": issuer.sign(&claims).unwrap()});
    let job = fleet.try_register(0, None, &start).await.expect(201).json();
    assert_eq!(job["policy"]["scope"], "repo:acme/web", "{job}");
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    let declared = fleet
        .register(
            1,
            "acme/web",
            "dynamic/github-code-scanning/codeql@refs/heads/main",
        )
        .await;
    assert_eq!(declared["policy"]["scope"], "repo:acme/web", "{declared}");
    assert_eq!(fleet.reached(1, &NAMES).await, ["cdn-a.test"]);
}
