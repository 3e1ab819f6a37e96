//! Lists as tables need them: without documents, searched, counted, of what is gone; and how large the block list is.

use serde_json::{Value, json};

use crate::bench::{Bench, POLICY};

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_summary_has_what_a_table_shows_and_no_document() {
    let bench = Bench::new().await;
    bench.policy("base", POLICY).await;
    bench.policy("audit one", "egress-policy: audit\n").await;
    let scopes = json!({"add": ["org:acme", "repo:acme/a", "repo:acme/b", "repo:acme/c"]});
    bench
        .post("/orgs/acme/policies/base/attachments")
        .json(&scopes)
        .ok()
        .await;
    let list = bench.get("/orgs/acme/policies?fields=summary").ok().await.value();
    assert_eq!(names(&list), ["audit one", "base"]);
    let base = &list["items"][1];
    assert_eq!(base["attached"], 4);
    assert_eq!(
        base["attachments"],
        json!(["org:acme", "repo:acme/a", "repo:acme/b"])
    );
    assert_eq!((&base["mode"], &base["endpoints"]), (&json!("block"), &json!(1)));
    assert!(
        base.get("yaml").is_none() && base.get("parsed").is_none(),
        "{base}"
    );
    assert!(
        base["changed_at"].as_str() > base["updated_at"].as_str(),
        "attaching is a change: {base}"
    );
    assert_eq!(
        list["counters"],
        json!({"total": 2, "block": 1, "audit": 1, "unattached": 1})
    );
    let whole = bench.get("/orgs/acme/policies?fields=all").ok().await.value();
    assert_eq!(whole["items"][1]["yaml"], POLICY);
}

#[tokio::test]
async fn a_list_is_searched_in_any_case_and_paged() {
    let bench = Bench::new().await;
    for at in 0..7 {
        bench.policy(&format!("Base {at}"), POLICY).await;
        bench.policy(&format!("other {at}"), POLICY).await;
    }
    let mut path = "/orgs/acme/policies?fields=summary&search=bASE&limit=3".to_owned();
    let mut found = Vec::new();
    loop {
        let page = bench.get(&path).ok().await.value();
        found.extend(names(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_str() else { break };
        path = format!(
            "/orgs/acme/policies?fields=summary&search=bASE&limit=3&after={}",
            next.replace(' ', "%20").replace('/', "%2F")
        );
    }
    assert_eq!(found, (0..7).map(|at| format!("Base {at}")).collect::<Vec<_>>());
    bench
        .get("/orgs/acme/policies?fields=some")
        .refused(400, "invalid")
        .await;
}

#[tokio::test]
async fn deleted_policies_are_listed_the_latest_first_and_lead_to_their_history() {
    let bench = Bench::new().await;
    for name in ["first", "second", "third"] {
        bench.policy(name, POLICY).await;
        bench.delete(&format!("/orgs/acme/policies/{name}")).ok().await;
    }
    bench.policy("third", POLICY).await;
    let path = "/orgs/acme/policies?deleted=true&fields=summary";
    let list = bench.get(&format!("{path}&limit=2")).ok().await.value();
    assert_eq!(names(&list), ["third", "second"]);
    assert!(list["items"][0]["deleted_at"].is_string());
    let next = list["next"].as_str().unwrap().replace('/', "%2F");
    let rest = bench
        .get(&format!("{path}&limit=2&after={next}"))
        .ok()
        .await
        .value();
    assert_eq!((names(&rest), &rest["next"]), (vec!["first"], &Value::Null));
    let id = list["items"][0]["id"].as_str().unwrap();
    let history = bench
        .get(&format!("/orgs/acme/policies/third/history?id={id}"))
        .ok()
        .await
        .value();
    assert_eq!(history["items"][0]["action"], "policy.deleted");
    let whole = bench
        .get("/orgs/acme/policies?deleted=true&search=FIRST")
        .ok()
        .await
        .value();
    assert_eq!(whole["items"][0]["yaml"], POLICY);
    let mixed = bench.get("/orgs/acme/policies?deleted=true&mode=block");
    mixed.refused(400, "invalid").await;
    bench
        .get(&format!("{path}&after=x"))
        .refused(400, "invalid")
        .await;
}

#[tokio::test]
async fn sets_have_a_summary_too() {
    let bench = Bench::new().await;
    for name in ["corp", "other"] {
        let path = format!("/orgs/acme/endpoint-sets/{name}");
        bench.put(&path).yaml("- git.example:443\n").send().await;
    }
    for at in 0..4 {
        bench
            .policy(&format!("p{at}"), "egress-policy: block\nuse: [corp]\n")
            .await;
    }
    let list = bench
        .get("/orgs/acme/endpoint-sets?fields=summary")
        .ok()
        .await
        .value();
    let corp = &list["items"][0];
    assert_eq!(
        (&corp["used"], &corp["used_by"]),
        (&json!(4), &json!(["p0", "p1", "p2"]))
    );
    assert!(corp.get("yaml").is_none(), "{corp}");
    let found = bench
        .get("/orgs/acme/endpoint-sets?search=OTH")
        .ok()
        .await
        .value();
    assert_eq!(names(&found), ["other"]);
    let page = bench
        .get("/orgs/acme/endpoint-sets?fields=summary&limit=1")
        .ok()
        .await
        .value();
    assert_eq!((names(&page), &page["next"]), (vec!["corp"], &json!("corp")));
}

#[tokio::test]
async fn the_block_list_says_how_large_it_is_and_when_it_changed() {
    let bench = Bench::new().await;
    let told = bench.get("/global-block/entries?limit=1").ok().await.value();
    assert_eq!(
        (&told["updated_at"], &told["counters"]["deployment"]),
        (&Value::Null, &json!(0))
    );
    let entry = json!({"pattern": "*.evil.example", "reason": "known"});
    let made = bench
        .post("/global-block/entries")
        .json(&entry)
        .send()
        .await
        .value();
    let told = bench.get("/global-block/entries?limit=1").ok().await.value();
    assert_eq!(told["counters"]["deployment"], 1);
    assert_eq!(told["updated_at"], told["updated"]["deployment"]);
    let first = told["updated_at"].as_str().unwrap().to_owned();
    let id = made["id"].as_str().unwrap();
    bench.delete(&format!("/global-block/entries/{id}")).send().await;
    let told = bench.get("/global-block/entries?limit=1").ok().await.value();
    assert_eq!(told["counters"]["deployment"], 0);
    assert!(told["updated_at"].as_str().unwrap() > first.as_str(), "{told}");
}
