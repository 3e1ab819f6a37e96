//! Changes that are proposed: what the text would be, what differs, what needs no change; nothing is stored.

use serde_json::{Value, json};
use tidegate_control::model::Role;

use crate::bench::{Bench, POLICY, wanted};

async fn propose(bench: &Bench, path: &str, body: Value) -> Value {
    let before = bench.dump().await;
    let told = bench.post(path).json(&body).ok().await.value();
    assert_eq!(bench.dump().await, before, "nothing is stored");
    told
}

const BASE: &str = "/orgs/acme/policies/base/propose";

#[tokio::test]
async fn an_allowed_endpoint_joins_the_list_and_comments_stay() {
    let bench = Bench::new().await;
    let made = bench.policy("base", POLICY).await;
    let told = propose(
        &bench,
        BASE,
        json!({"allow": ["New.Example:8443", "registry.example.test"]}),
    )
    .await;
    assert_eq!(told["yaml"], format!("{POLICY}  new.example:8443\n"));
    assert_eq!(
        (&told["changed"], &told["base_version"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(told["etag"], made.tag());
    assert_eq!(
        (&told["diff"]["added"], &told["diff"]["removed"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(
        told["covered"],
        json!([{"endpoint": "registry.example.test:443", "by": "registry.example.test:443", "line": 4, "set": null}])
    );
    let tag = told["etag"].as_str().unwrap();
    let saved = bench
        .put("/orgs/acme/policies/base")
        .header("if-match", tag)
        .json(&json!({"yaml": told["yaml"]}))
        .ok()
        .await;
    assert_eq!(saved.value()["endpoints"], 2);
}

#[tokio::test]
async fn mode_lockdown_and_sets_are_written_too() {
    let bench = Bench::new().await;
    bench.policy("base", POLICY).await;
    bench
        .put("/orgs/acme/endpoint-sets/corp")
        .yaml("- git.example:443\n")
        .send()
        .await;
    let lockdown = json!({"enabled": true, "detections": ["reverse-shell"]});
    let told = propose(
        &bench,
        BASE,
        json!({"mode": "audit", "use": ["corp"], "lockdown": lockdown, "deny": ["bad.example"]}),
    )
    .await;
    let yaml = told["yaml"].as_str().unwrap();
    assert!(
        yaml.starts_with("# the base\negress-policy: audit\nuse: [corp]\n"),
        "{yaml}"
    );
    assert!(
        yaml.contains("denied-endpoints: >\n  bad.example") && yaml.contains("- Reverse-Shell"),
        "{yaml}"
    );
    assert_eq!(
        (&told["mode"], &told["diagnostics"]),
        (&json!("audit"), &json!([]))
    );
    let gone = propose(&bench, BASE, json!({"yaml": yaml, "lockdown": null})).await;
    assert!(
        !gone["yaml"].as_str().unwrap().contains("lockdown-mode"),
        "{gone}"
    );
    let covered = propose(&bench, BASE, json!({"yaml": yaml, "allow": ["git.example:443"]})).await;
    assert_eq!(
        (&covered["changed"], &covered["covered"][0]["set"]),
        (&json!(false), &json!("corp"))
    );
    let unknown = propose(&bench, BASE, json!({"use": ["nobody"]})).await;
    assert_eq!(unknown["diagnostics"][0]["severity"], "error", "{unknown}");
}

#[tokio::test]
async fn a_text_is_compared_with_what_is_stored_when_that_is_asked() {
    let bench = Bench::new().await;
    bench.policy("base", POLICY).await;
    let mine = POLICY.replace("block", "audit");
    let told = propose(&bench, BASE, json!({"yaml": mine, "against_stored": true})).await;
    assert_eq!(
        (&told["changed"], &told["diff"]["added"]),
        (&json!(true), &json!(1))
    );
    let new = "/orgs/acme/policies/unborn/propose";
    let told = propose(&bench, new, json!({"yaml": POLICY, "mode": "audit"})).await;
    assert_eq!((&told["base_version"], &told["etag"]), (&json!(0), &Value::Null));
    bench
        .post(new)
        .json(&json!({"mode": "audit"}))
        .refused(404, "not-found")
        .await;
}

#[tokio::test]
async fn what_is_no_endpoint_or_can_not_be_done_is_refused_with_its_place() {
    let bench = Bench::new().await;
    bench.policy("base", POLICY).await;
    for (body, code, field) in [
        (json!({"allow": ["a.test", "b c"]}), "invalid", "allow[1]"),
        (json!({"remove": ["q.test"]}), "invalid", "remove"),
        (json!({"use": ["no name"]}), "invalid", "use"),
        (
            json!({"lockdown": {"enabled": true, "detections": ["Naughty"]}}),
            "invalid",
            "lockdown.detections",
        ),
        (json!({"allow": vec!["a.test"; 2_001]}), "invalid", "allow"),
    ] {
        let told = bench.post(BASE).json(&body).refused(422, code).await;
        assert_eq!(told.value()["field"], field, "{told:?}");
    }
    let errors = json!({"yaml": "allowed-endpoints: 'a b:x'\n", "mode": "audit"});
    bench.post(BASE).json(&errors).refused(422, "document").await;
    let shared =
        json!({"yaml": "allowed-endpoints: &l [a.test]\ndenied-endpoints: *l\n", "allow": ["b.test"]});
    let told = bench.post(BASE).json(&shared).refused(422, "invalid").await;
    assert!(told.detail().contains("edit the text"), "{told:?}");
    let viewer = bench.token(&wanted(Role::Viewer, "v")).await;
    bench
        .post(BASE)
        .by(&viewer)
        .json(&json!({"mode": "audit"}))
        .ok()
        .await;
}

#[tokio::test]
async fn a_set_gains_and_loses_endpoints() {
    let bench = Bench::new().await;
    bench
        .put("/orgs/acme/endpoint-sets/corp")
        .yaml("# ours\n- a.example:443\n- b.example:443 # b\n")
        .send()
        .await;
    let path = "/orgs/acme/endpoint-sets/corp/propose";
    let told = propose(
        &bench,
        path,
        json!({"add": ["c.example"], "remove": ["a.example"]}),
    )
    .await;
    assert_eq!(told["yaml"], "# ours\n- b.example:443 # b\n- c.example:443\n");
    let tag = told["etag"].as_str().unwrap();
    let saved = bench
        .put("/orgs/acme/endpoint-sets/corp")
        .header("if-match", tag)
        .json(&json!({"yaml": told["yaml"]}));
    assert_eq!(saved.ok().await.value()["version"], 2);
    bench
        .post("/orgs/acme/endpoint-sets/none/propose")
        .json(&json!({}))
        .refused(404, "not-found")
        .await;
}
