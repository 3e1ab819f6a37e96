//! Baselines and detections over the API: what is shown to whom, and policies made of what was seen.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_control::model::Role;
use tidegate_control_wire::event::EventRecord;

use crate::bench::{Answer, Bench, of_owners, wanted};
use crate::events::{event, store};

/// A run of `web` of an owner reaches a name.
fn reach(owner: &str, run: u32, name: &str, more: &Value) -> EventRecord {
    let job = json!({
        "id": format!("job_{owner}{run}"), "owner": owner, "repo": format!("{owner}/web"), "workflow": "ci.yml",
        "job": "build", "run_id": run.to_string(), "cluster": "prod", "event": "push", "assurance": "signed",
    });
    let mut changed = json!({"name": name, "job": job});
    for (key, value) in more.as_object().unwrap() {
        changed[key] = value.clone();
    }
    event(&format!("e{run}"), None, &changed)
}

/// `acme` and `beta` have baselines; acme's was stable before its run 200 reached what it never had.
async fn filled() -> Bench {
    let bench = Bench::new().await;
    let none = json!({});
    let mut events: Vec<_> = [1, 2].map(|run| reach("beta", run, "beta.example", &none)).into();
    events.extend([1, 2].map(|run| reach("acme", run, "ntp.example", &json!({"kind": "udp", "port": 123}))));
    let by_address = json!({"name": null, "address": "2001:db8::1", "kind": "tcp", "port": 5432});
    events.extend([1, 2].map(|run| reach("acme", run, "", &by_address)));
    events.push(reach("acme", 3, "once.example", &none));
    events.extend([1, 2].map(|run| reach("acme", run, "*.evil.example", &none)));
    events.extend((1..=201).map(|run| reach("acme", run, "registry.npm.example", &none)));
    store(&bench.store, events).await;
    let late = [300, 301].map(|run| reach("acme", run, "late.example", &none));
    store(&bench.store, late.into()).await;
    let blocked = json!({"verdict": "refuse", "reason": "not-allowed"});
    store(&bench.store, vec![reach("beta", 9, "blocked.example", &blocked)]).await;
    bench
}

fn items(answer: &Answer) -> Vec<Value> {
    answer.value()["items"].as_array().unwrap().clone()
}

/// The id of the only detection of an endpoint.
async fn detection(bench: &Bench, endpoint: &str) -> String {
    let all = items(&bench.get("/detections").ok().await);
    let of: Vec<_> = all
        .iter()
        .filter(|one| one["evidence"]["endpoint"] == endpoint)
        .collect();
    assert_eq!(of.len(), 1, "{all:?}");
    of[0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_baseline_is_shown_with_what_an_import_takes_and_why_not() {
    let bench = filled().await;
    let shown = bench.get("/baselines?scope=repo:Acme/Web").ok().await.value();
    assert_eq!(shown["scope"], "repo:acme/web");
    assert_eq!(shown["state"], "unstable");
    assert_eq!(
        (shown["runs"].as_u64(), shown["runs_since_change"].as_u64()),
        (Some(203), Some(1))
    );
    assert!(
        shown["changed_at"].is_string() && shown["stable_at"].is_string(),
        "{shown}"
    );
    let all = shown["endpoints"].as_array().unwrap();
    let of = |name: &str| all.iter().find(|one| one["endpoint"] == name).unwrap();
    assert_eq!(
        (&of("once.example")["imported"], &of("once.example")["left_out"]),
        (&json!(false), &json!(["single-run"]))
    );
    assert_eq!(of("late.example")["left_out"], json!(["open-detection"]));
    assert_eq!(of("*.evil.example")["left_out"], json!(["not-an-endpoint"]));
    let ntp = of("ntp.example");
    assert_eq!(
        (&ntp["port"], &ntp["transport"], &ntp["runs"], &ntp["calls"]),
        (&json!(123), &json!("udp"), &json!(2), &json!(2))
    );
    let text = bench.get("/baselines?scope=repo:acme/web&format=txt").ok().await;
    assert_eq!(
        text.text,
        "[2001:db8::1]:5432\nntp.example:123/udp\nregistry.npm.example:443\n"
    );
    let more = bench
        .get("/baselines?scope=repo:acme/web&format=txt&min_runs=1")
        .ok()
        .await;
    assert!(
        more.text.contains("once.example:443\n") && !more.text.contains('*'),
        "{more:?}"
    );
    let none = bench
        .get("/baselines?scope=repo:acme/web&format=txt&since=2999-01-01T00:00:00Z")
        .ok()
        .await;
    assert_eq!(none.text, "");
    let nobody = bench.get("/baselines?scope=org:nobody").ok().await.value();
    assert_eq!(
        (&nobody["state"], &nobody["runs"], &nobody["endpoints"]),
        (&json!("creating"), &json!(0), &json!([]))
    );
}

#[tokio::test]
async fn a_part_of_a_baseline_is_shown_with_its_calls_by_day() {
    let bench = filled().await;
    let part = bench
        .get("/baselines?scope=repo:acme/web&search=n&limit=2&days=7")
        .ok()
        .await
        .value();
    assert_eq!(part["endpoints_total"], 6, "{part}");
    let shown = part["endpoints"].as_array().unwrap();
    assert_eq!(
        (&shown[0]["endpoint"], &shown[1]["endpoint"]),
        (&json!("ntp.example"), &json!("once.example"))
    );
    assert_eq!(shown[1]["left_out"], json!(["single-run"]));
    assert_eq!(shown[0]["daily"].as_array().unwrap().len(), 7);
    let next = part["next"].as_str().unwrap().replace('/', "%2F");
    let rest = format!("/baselines?scope=repo:acme/web&search=n&limit=2&after={next}");
    let rest = bench.get(&rest).ok().await.value();
    assert_eq!(rest["endpoints"][0]["endpoint"], "registry.npm.example");
    assert_eq!(
        (&rest["next"], &rest["endpoints"][0]["daily"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn baselines_are_listed_to_whom_they_concern() {
    let bench = filled().await;
    let scopes = |answer: &Answer| -> Vec<String> {
        let items = items(answer);
        items
            .iter()
            .map(|one| one["scope"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = scopes(&bench.get("/baseline-scopes").ok().await);
    assert!(
        all.contains(&"cluster:prod".to_owned()) && all.contains(&"org:beta".to_owned()),
        "{all:?}"
    );
    let beta = bench.token(&of_owners(Role::Viewer, "beta", &["beta"])).await;
    let own = bench.get("/baseline-scopes").by(&beta).ok().await;
    assert_eq!(
        scopes(&own),
        ["org:beta", "repo:beta/web", "workflow:beta/web/ci.yml"]
    );
    let other = bench.get("/baseline-scopes?owner=acme").by(&beta);
    other.refused(403, "forbidden").await;
    let found = bench
        .get("/baseline-scopes?owner=acme&search=REPO&limit=1")
        .ok()
        .await;
    assert_eq!(scopes(&found), ["repo:acme/web"]);
}

#[tokio::test]
async fn a_question_for_a_baseline_that_makes_no_sense_is_refused() {
    let bench = Bench::new().await;
    for (query, field) in [
        ("", "scope"),
        ("?scope=acme", "scope"),
        ("?scope=network:runners", "scope"),
        ("?scope=org:a%20b", "scope"),
        ("?scope=org:acme&min_runs=0", "min_runs"),
        ("?scope=org:acme&since=yesterday", "since"),
        ("?scope=org:acme&format=csv", "format"),
        ("?scope=org:acme&limit=0", "limit"),
        ("?scope=org:acme&limit=1001", "limit"),
        ("?scope=org:acme&days=0&limit=1", "days"),
        ("?scope=org:acme&days=91", "days"),
        ("?scope=org:acme&after=b.test", "after"),
        ("?scope=org:acme&format=txt&limit=5", "limit"),
    ] {
        let told = bench
            .get(&format!("/baselines{query}"))
            .refused(400, "invalid")
            .await;
        let problem = told.value();
        let named = problem["field"].as_str().unwrap_or_default();
        assert!(
            named == field || told.detail().contains(field) || field == "format",
            "{query}: {problem}"
        );
    }
}

#[tokio::test]
async fn a_policy_is_made_of_a_baseline_and_says_so() {
    let bench = filled().await;
    let new = json!({"name": "seen", "from_baseline": {"scope": "repo:Acme/Web"}});
    let made = bench
        .post("/orgs/Acme/policies")
        .json(&new)
        .expect(StatusCode::CREATED)
        .await
        .value();
    assert_eq!((&made["mode"], &made["endpoints"]), (&json!("audit"), &json!(3)));
    let yaml = made["yaml"].as_str().unwrap();
    assert!(
        yaml.starts_with("# From the baseline of repo:acme/web on "),
        "{yaml}"
    );
    assert!(
        yaml.contains("unstable after 203 runs; 3 endpoints, each reached in 2 runs or more"),
        "{yaml}"
    );
    let left =
        "# Left out: 1 reached in a single run, 1 with an open detection, 1 that no policy can name.\n";
    assert!(yaml.contains(left), "{yaml}");
    let list = "egress-policy: audit\nallowed-endpoints: >\n  [2001:db8::1]:5432\n  ntp.example:123/udp\n  \
         registry.npm.example:443\n";
    assert!(yaml.ends_with(list), "{yaml}");
    assert_eq!(made["diagnostics"], json!([]));
    let narrow = json!({"scope": "workflow:acme/web/ci.yml", "mode": "block", "min_runs": 1});
    let new = json!({"name": "blocks", "from_baseline": narrow});
    let made = bench
        .post("/orgs/acme/policies")
        .json(&new)
        .expect(StatusCode::CREATED)
        .await
        .value();
    assert_eq!((&made["mode"], &made["endpoints"]), (&json!("block"), &json!(4)));
}

#[tokio::test]
async fn an_import_of_nothing_says_what_was_left_out_and_why() {
    let bench = filled().await;
    let ask = |from: Value| {
        bench
            .post("/orgs/acme/policies")
            .json(&json!({"name": "x", "from_baseline": from}))
    };
    let told = ask(json!({"scope": "org:acme", "min_runs": 1_000}))
        .refused(422, "invalid")
        .await;
    let detail = told.detail();
    assert!(
        detail.contains("reached in too few runs") && detail.contains("with an open detection"),
        "{detail}"
    );
    let told = ask(json!({"scope": "repo:acme/api"}))
        .refused(422, "invalid")
        .await;
    assert!(told.detail().contains("no job of it was seen"), "{told:?}");
    for foreign in ["org:beta", "repo:beta/web", "cluster:prod"] {
        let told = ask(json!({"scope": foreign})).refused(422, "invalid").await;
        assert_eq!(told.value()["field"], "from_baseline.scope", "{told:?}");
    }
    ask(json!({"scope": "acme"})).refused(422, "invalid").await;
    ask(json!({"scope": "org:acme", "min_runs": 0}))
        .refused(422, "invalid")
        .await;
    ask(json!({"scope": "org:acme", "mode": "off"}))
        .refused(422, "invalid")
        .await;
    ask(json!({"scope": "org:acme", "sinse": "x"}))
        .refused(422, "unknown-field")
        .await;
    let both = json!({"name": "x", "yaml": "egress-policy: audit\n", "from_baseline": {"scope": "org:acme"}});
    bench
        .post("/orgs/acme/policies")
        .json(&both)
        .refused(422, "invalid")
        .await;
    let neither = json!({"name": "x"});
    bench
        .post("/orgs/acme/policies")
        .json(&neither)
        .refused(422, "invalid")
        .await;
}

#[tokio::test]
async fn detections_are_listed_and_dealt_with() {
    let bench = filled().await;
    let all = items(&bench.get("/detections").ok().await);
    let shown: Vec<_> = all
        .iter()
        .map(|one| (one["type"].as_str().unwrap(), one["severity"].as_str().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [
            ("Domain-Blocked", "medium"),
            ("New-Outbound-Network-Call", "medium")
        ]
    );
    for (query, found) in [
        ("owner=Acme", 1),
        ("owner=acme&repo=beta/web", 0),
        ("repo=beta/web", 1),
        ("type=Domain-Blocked", 1),
        ("status=resolved", 0),
        ("job=job_acme300", 1),
        ("limit=1", 1),
    ] {
        assert_eq!(
            items(&bench.get(&format!("/detections?{query}")).ok().await).len(),
            found,
            "{query}"
        );
    }
    bench
        .get("/detections?type=Nonsense")
        .refused(400, "invalid")
        .await;
    bench
        .get("/detections?after=x&limit=0")
        .refused(400, "invalid")
        .await;
    let path = format!("/detections/{}", detection(&bench, "late.example").await);
    let one = bench.get(&path).ok().await.value();
    assert_eq!(
        (&one["status"], &one["count"], &one["job"]["run_id"]),
        (&json!("new"), &json!(2), &json!("300"))
    );
    let say = |change: Value| bench.call(Method::PATCH, &path).json(&change);
    say(json!({"status": "gone"})).refused(422, "invalid").await;
    say(json!({"status": "new", "expected": true}))
        .refused(422, "invalid")
        .await;
    say(json!({"status": "resolved", "why": "x"}))
        .refused(422, "unknown-field")
        .await;
    let done = say(json!({"status": "resolved", "note": "ours", "expected": true}))
        .ok()
        .await
        .value();
    assert_eq!(
        (&done["status"], &done["note"], &done["changed_by"]),
        (&json!("resolved"), &json!("ours"), &json!("root"))
    );
    let text = bench
        .get("/baselines?scope=repo:acme/web&format=txt")
        .ok()
        .await
        .text;
    assert!(text.contains("late.example:443\n"), "{text}");
    let log = bench.get("/audit-log?owner=acme").ok().await;
    assert!(
        items(&log)
            .iter()
            .any(|entry| entry["action"] == "detection.resolved"),
        "{log:?}"
    );
    bench
        .get("/detections/det_nothing")
        .refused(404, "not-found")
        .await;
}

#[tokio::test]
async fn a_rule_is_made_listed_and_removed() {
    let bench = filled().await;
    let new =
        json!({"repo": "beta/web", "endpoint": "*.example", "reason": "known", "type": "Domain-Blocked"});
    let made = bench
        .post("/detection-suppressions")
        .json(&new)
        .expect(StatusCode::CREATED)
        .await
        .value();
    assert_eq!(
        (&made["owner"], &made["suppressed"], &made["created_by"]),
        (&json!("beta"), &json!(1), &json!("root"))
    );
    let one = bench
        .get(&format!(
            "/detections/{}",
            detection(&bench, "blocked.example").await
        ))
        .ok()
        .await
        .value();
    assert_eq!(
        (&one["status"], &one["suppression"]),
        (&json!("suppressed"), &made["id"])
    );
    assert_eq!(items(&bench.get("/detection-suppressions").ok().await).len(), 1);
    let path = format!("/detection-suppressions/{}", made["id"].as_str().unwrap());
    bench.delete(&path).expect(StatusCode::NO_CONTENT).await;
    bench.delete(&path).refused(404, "not-found").await;
    for (wrong, field) in [
        (json!({"endpoint": "a b", "reason": "x"}), "endpoint"),
        (json!({"endpoint": "a.example", "reason": ""}), "reason"),
        (
            json!({"endpoint": "a.example", "reason": "x", "repo": "beta"}),
            "repo",
        ),
    ] {
        let told = bench
            .post("/detection-suppressions")
            .json(&wrong)
            .refused(422, "invalid")
            .await;
        assert_eq!(told.value()["field"], field, "{told:?}");
    }
}

#[tokio::test]
async fn a_limited_token_sees_and_says_nothing_of_others() {
    let bench = filled().await;
    let editor = bench
        .token(&of_owners(Role::Editor, "acme-editor", &["acme"]))
        .await;
    for foreign in ["org:beta", "repo:beta/web", "cluster:prod"] {
        bench
            .get(&format!("/baselines?scope={foreign}"))
            .by(&editor)
            .refused(403, "forbidden")
            .await;
    }
    bench.get("/baselines?scope=cluster:prod").ok().await;
    bench.get("/baselines?scope=org:acme").by(&editor).ok().await;
    let seen = items(&bench.get("/detections").by(&editor).ok().await);
    assert!(seen.len() == 1 && seen[0]["job"]["owner"] == "acme", "{seen:?}");
    bench
        .get("/detections?owner=beta")
        .by(&editor)
        .refused(403, "forbidden")
        .await;
    assert_eq!(
        items(&bench.get("/detections?repo=beta/web").by(&editor).ok().await).len(),
        0
    );
    let foreign = format!("/detections/{}", detection(&bench, "blocked.example").await);
    bench.get(&foreign).by(&editor).refused(404, "not-found").await;
    let resolved = json!({"status": "resolved"});
    bench
        .call(Method::PATCH, &foreign)
        .by(&editor)
        .json(&resolved)
        .refused(404, "not-found")
        .await;
    let rule = |more: Value| {
        let mut rule = json!({"endpoint": "x.example", "reason": "x"});
        more.as_object()
            .unwrap()
            .iter()
            .for_each(|(key, value)| rule[key] = value.clone());
        bench.post("/detection-suppressions").by(&editor).json(&rule)
    };
    rule(json!({})).refused(403, "forbidden").await;
    rule(json!({"owner": "beta"})).refused(403, "forbidden").await;
    rule(json!({"repo": "beta/web"})).refused(403, "forbidden").await;
    rule(json!({"owner": "acme", "repo": "beta/web"}))
        .refused(422, "invalid")
        .await;
    rule(json!({"owner": "Acme"})).expect(StatusCode::CREATED).await;
    let everybodys = json!({"endpoint": "y.example", "reason": "x"});
    let everybodys = bench
        .post("/detection-suppressions")
        .json(&everybodys)
        .expect(StatusCode::CREATED)
        .await
        .value();
    assert_eq!(
        items(&bench.get("/detection-suppressions").by(&editor).ok().await).len(),
        1
    );
    let path = format!("/detection-suppressions/{}", everybodys["id"].as_str().unwrap());
    bench.delete(&path).by(&editor).refused(404, "not-found").await;
    let viewer = bench.token(&wanted(Role::Viewer, "viewer")).await;
    let own = format!("/detections/{}", detection(&bench, "late.example").await);
    bench
        .call(Method::PATCH, &own)
        .by(&viewer)
        .json(&resolved)
        .refused(403, "forbidden")
        .await;
}
