//! Policies that say nothing: all of them are looked at, or nobody is said to be silent.

use jiff::{SignedDuration, Timestamp};
use tidegate_control::store::{AttachRequest, IdlePolicies, Store};

use crate::bench::Bench;
use crate::fixture::actor;

/// More attachments, and more policies at scopes with a verdict, than are looked through.
const TOO_MANY: i64 = 50_001;
const YAML: &str = "egress-policy: audit\nallowed-endpoints: >\n  a.test:443\n";

async fn asked(store: &Store, limit: u32) -> IdlePolicies {
    let since = Timestamp::now() - SignedDuration::from_hours(24 * 7);
    let owners = ["acme".to_owned()];
    let told = store.idle_policies(&owners, since, limit).await.unwrap();
    assert!(told.unattached.len() <= limit as usize && told.never_hit.len() <= limit as usize);
    told
}

fn names(policies: &[tidegate_control::model::IdlePolicy]) -> Vec<&str> {
    policies.iter().map(|one| one.name.as_str()).collect()
}

async fn done(db: &tidegate_control::store::Db, sql: &'static str, number: i64) {
    let query = sqlx::query(sql).bind(number);
    query.execute(db.read()).await.unwrap();
}

pub(crate) async fn nobody_is_said_to_be_silent_when_there_are_too_many_to_look_at(bench: Bench) {
    let store = bench.open().await;
    for name in ["a-silent", "b-loose", "z-loose"] {
        store.create_policy("acme", name, YAML, &actor()).await.unwrap();
    }
    let scopes = ["repo:acme/web".parse().unwrap(), "repo:acme/api".parse().unwrap()];
    let attach = AttachRequest {
        add: scopes.to_vec(),
        ..AttachRequest::default()
    };
    store.attach("acme", "a-silent", &attach, &actor()).await.unwrap();
    let ages = "UPDATE attachments SET attached_at = attached_at - $1";
    done(store.db(), ages, 10 * 86_400_000_000).await;
    let told = asked(&store, 1).await;
    assert_eq!(
        (names(&told.unattached), told.unattached_count),
        (vec!["z-loose"], 2)
    );
    assert_eq!(
        (names(&told.never_hit), told.never_hit_count),
        (vec!["a-silent"], 1)
    );
    assert_eq!(told.never_hit[0].attachments, ["repo:acme/api", "repo:acme/web"]);
    assert!(!told.truncated);

    let many = "INSERT INTO policy_days (policy, scope, version, day, permits, refusals, would_refuse, last_at) \
        WITH RECURSIVE copies (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM copies WHERE n < $1) \
        SELECT 'other', 'repo:acme/' || n, 1, 1000000, 1, 0, 0, 1 FROM copies";
    done(store.events_db(), many, TOO_MANY).await;
    let told = asked(&store, 5).await;
    assert_eq!(
        (names(&told.unattached), told.unattached_count),
        (vec!["z-loose", "b-loose"], 2)
    );
    assert_eq!(
        (told.never_hit_count, told.truncated),
        (0, true),
        "it may be beyond what was read"
    );
    let fewer = "DELETE FROM policy_days WHERE scope = 'repo:acme/' || CAST($1 AS BIGINT)";
    done(store.events_db(), fewer, TOO_MANY).await;
    let told = asked(&store, 5).await;
    assert_eq!(
        (names(&told.never_hit), told.truncated),
        (vec!["a-silent"], false)
    );

    let many = "INSERT INTO attachments (scope, policy_id, attached_at, attached_by) \
        WITH RECURSIVE copies (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM copies WHERE n < $1) \
        SELECT 'repo:acme/' || n, policy_id, attached_at, attached_by FROM copies, attachments \
        WHERE scope = 'repo:acme/web'";
    done(store.db(), many, TOO_MANY - 2).await;
    let told = asked(&store, 5).await;
    assert_eq!(
        (told.unattached_count, names(&told.unattached)),
        (2, vec!["z-loose", "b-loose"])
    );
    assert_eq!(
        (told.never_hit_count, told.truncated),
        (0, true),
        "nor is it said of some"
    );
}
