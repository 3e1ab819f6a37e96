//! Sums that pages are made of say what was ingested: no more and no less, whatever came twice, and within their bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tidegate_control::model::PageRequest;
use tidegate_control::store::{Backend, EventFilter, EventRetention, Item, Store};
use tidegate_control_wire::batch::{BatchHead, Lane};
use tidegate_control_wire::event::{EventJob, EventRecord};
use tidegate_policy::event::Kind;
use tidegate_policy::verdict::Verdict;

use crate::bench::Bench;
use crate::ingest::{event, head, ingest, job};

/// Events of a random record.
const EVENTS: usize = 300;

/// A row of a table: what it is of, and its sums.
type Rows = BTreeMap<Vec<String>, Vec<i64>>;

/// The tables: what a row is of, its sums, and how each is put together.
const TABLES: [(&str, &[&str], &[&str]); 5] = [
    ("verdict_hours", &["owner", "hour", "verdict"], &["verdicts"]),
    (
        "workflow_days",
        &["repo", "workflow", "day", "owner", "cluster"],
        &["permits", "refusals", "would_refuse", "suffixes", "last_at"],
    ),
    (
        "job_sums",
        &["job_id"],
        &[
            "permits",
            "refusals",
            "would_refuse",
            "bytes_up",
            "bytes_down",
            "last_at",
        ],
    ),
    (
        "policy_days",
        &["policy", "scope", "version", "day"],
        &["permits", "refusals", "would_refuse", "last_at"],
    ),
    (
        "stranger_days",
        &[
            "day", "gateway", "network", "source", "endpoint", "port", "kind", "verdict", "reason",
        ],
        &["verdicts", "last_at"],
    ),
];

async fn stored(store: &Store, place: usize) -> Rows {
    let (table, keys, sums) = TABLES[place];
    let texts = keys.iter().map(|key| format!("CAST({key} AS TEXT)"));
    let text = texts.collect::<Vec<_>>().join(" || '|' || ");
    let mut rows = Rows::new();
    for (at, sum) in sums.iter().enumerate() {
        let sql = format!("SELECT {text}, {sum} FROM {table}");
        let read: Vec<(String, i64)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_all(store.events_db().read())
            .await
            .unwrap();
        for (key, value) in read {
            let row = rows
                .entry(key.split('|').map(str::to_owned).collect())
                .or_default();
            assert_eq!(row.len(), at, "one row each: {key}");
            row.push(value);
        }
    }
    rows
}

fn text(of: &impl ToString) -> String {
    of.to_string()
}

/// What each table must say of some events.
fn expected(events: &[EventRecord]) -> [Rows; 5] {
    let mut all: [Rows; 5] = Default::default();
    for event in events {
        let at = event.time.as_microsecond();
        let (day, hour) = (
            text(&at.div_euclid(86_400_000_000)),
            text(&at.div_euclid(3_600_000_000)),
        );
        let times = event.count.cast_signed();
        let verdict = event.verdict.as_str();
        let each = [Verdict::Permit, Verdict::Refuse, Verdict::WouldRefuse]
            .map(|one| if one == event.verdict { times } else { 0 });
        let suffix = event.reason.as_deref() == Some("search-suffix");
        let job = event.job.as_ref();
        let owner = job.map_or_else(String::new, |job| text(&job.owner));
        add(
            &mut all[0],
            vec![owner.clone(), hour, verdict.into()],
            &[times],
            None,
        );
        if let Some(job) = job {
            let key = [&job.repo, &job.workflow].map(text).to_vec();
            let key = [key, vec![day.clone(), owner, text(&job.cluster)]].concat();
            let sums = [&each[..], &[if suffix { times } else { 0 }]].concat();
            add(&mut all[1], key, &sums, Some(at));
            let bytes = [event.bytes_up.cast_signed(), event.bytes_down.cast_signed()];
            add(
                &mut all[2],
                vec![text(&job.id)],
                &[&each[..], &bytes].concat(),
                Some(at),
            );
        } else {
            let key = [&event.gateway, &event.network].map(text).to_vec();
            let rest = [
                text(&event.source),
                text(&event.endpoint()),
                text(&event.port),
                event.kind.as_str().into(),
                verdict.into(),
                text(&event.reason.clone().unwrap_or_default()),
            ];
            let key = [vec![day.clone()], key, rest.to_vec()].concat();
            add(&mut all[4], key, &[times], Some(at));
        }
        if let Some(policy) = &event.policy {
            let scope = text(&event.scope.clone().unwrap_or_default());
            let version = text(&event.policy_version.unwrap_or_default());
            add(
                &mut all[3],
                vec![text(policy), scope, version, day],
                &each,
                Some(at),
            );
        }
    }
    // A sum of nothing has no row there.
    all[0].retain(|_, sums| sums != &[0]);
    all
}

fn add(rows: &mut Rows, key: Vec<String>, sums: &[i64], last: Option<i64>) {
    let width = sums.len() + usize::from(last.is_some());
    let row = rows.entry(key).or_insert_with(|| vec![0; width]);
    for (sum, more) in row.iter_mut().zip(sums) {
        *sum += more;
    }
    if let Some(last) = last {
        let newest = row.last_mut().unwrap();
        *newest = last.max(*newest);
    }
}

/// Any event of a small world, of the last three days.
fn any_event() -> impl Strategy<Value = EventRecord> {
    let one_of = |texts: &'static [&'static str]| prop::sample::select(texts);
    let of = prop::option::weighted(
        0.7,
        (
            one_of(&["acme", "other"]),
            one_of(&["web", "api"]),
            one_of(&["ci.yml", ""]),
            0..9_u8,
            one_of(&["prod", "test"]),
        ),
    );
    let policy = prop::option::of((one_of(&["base", "strict"]), one_of(&["org:acme", ""]), 1..3_u32));
    let verdicts = [Verdict::Permit, Verdict::Refuse, Verdict::WouldRefuse];
    let said = (
        prop::sample::select(verdicts.to_vec()),
        prop::option::of(one_of(&["not-allowed", "search-suffix"])),
        0..4_u64,
        0..1_000_u64,
    );
    let place = (
        1..5_u8,
        one_of(&["a.test", "b.test"]),
        one_of(&["runners", "lab"]),
        0..3_000_i64,
    );
    (of, policy, said, place).prop_map(|(of, policy, said, (host, name, network, ago))| {
        let job = of.map(|(owner, repo, workflow, number, cluster)| EventJob {
            owner: owner.into(),
            repo: format!("{owner}/{repo}").into(),
            workflow: workflow.into(),
            cluster: cluster.into(),
            ..job(&format!("job_{number}_{owner}_{repo}"))
        });
        let (verdict, reason, count, bytes_up) = said;
        EventRecord {
            time: now() - SignedDuration::from_mins(ago),
            job,
            network: network.into(),
            source: format!("10.0.0.{host}").parse().unwrap(),
            policy: policy.map(|(name, ..)| name.into()),
            scope: policy.map(|(_, scope, _)| scope.into()),
            policy_version: policy.map(|(.., version)| version),
            verdict,
            reason: reason.map(Into::into),
            count,
            bytes_up,
            ..event(name)
        }
    })
}

/// To the millisecond, as events tell it.
fn now() -> Timestamp {
    Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap()
}

pub(crate) async fn sums_say_what_was_ingested_whatever_came_twice(bench: Bench) {
    let mut store = bench.open().await;
    let mut runner = TestRunner::default();
    let events = prop::collection::vec(any_event(), EVENTS)
        .new_tree(&mut runner)
        .unwrap()
        .current();
    let numbered = || {
        let items = events.iter().cloned().map(Item::from);
        (1..).zip(items).collect::<Vec<(u64, Item)>>()
    };
    // Cut anywhere, sent again in part and whole, to a control plane that starts anew between.
    let cuts = [0, 1, 3, 120, 250, EVENTS];
    for (at, pair) in cuts.windows(2).enumerate() {
        let again = pair[0].saturating_sub(at * 2);
        ingest(&store, head(), numbered()[again..pair[1]].to_vec()).await;
        if at == 2 {
            store = bench.open().await;
        }
    }
    ingest(&store, head(), numbered()).await;
    for (place, wanted) in expected(&events).into_iter().enumerate() {
        assert_eq!(stored(&store, place).await, wanted, "{}", TABLES[place].0);
        assert!(!wanted.is_empty());
    }
}

pub(crate) async fn what_is_too_old_to_be_kept_raw_is_summed_as_well(bench: Bench) {
    let kept = EventRetention {
        events: Duration::from_hours(24),
        ..EventRetention::default()
    };
    let store = bench.open().await.keeping(kept);
    let old = EventRecord {
        time: now() - SignedDuration::from_hours(24 * 5),
        ..event("old.test")
    };
    let events = [old, event("new.test")].map(|event| EventRecord {
        time: event.time.min(now()),
        ..event
    });
    let items = events.iter().cloned().map(Item::from);
    ingest(&store, head(), (1..).zip(items).collect()).await;
    assert_eq!(crate::ingest::names(&store).await, ["new.test"]);
    for (place, wanted) in expected(&events).into_iter().enumerate() {
        assert_eq!(stored(&store, place).await, wanted, "{}", TABLES[place].0);
    }
}

/// An event of a source without a lease.
fn strange(source: &str, name: &str) -> EventRecord {
    EventRecord {
        job: None,
        source: source.parse().unwrap(),
        verdict: Verdict::Refuse,
        reason: Some("no-policy".into()),
        ..event(name)
    }
}

/// Rows of strangers, and what they sum up to: all, under no endpoint, under no source.
async fn strangers(store: &Store) -> (i64, i64, i64, i64) {
    sqlx::query_as(
        "SELECT COUNT(*), CAST(SUM(verdicts) AS BIGINT), \
         CAST(SUM(CASE WHEN endpoint = '' AND source <> '' THEN verdicts ELSE 0 END) AS BIGINT), \
         CAST(SUM(CASE WHEN source = '' THEN verdicts ELSE 0 END) AS BIGINT) FROM stranger_days",
    )
    .fetch_one(store.events_db().read())
    .await
    .unwrap()
}

pub(crate) async fn what_strangers_try_is_bounded_and_all_of_it_counted(bench: Bench) {
    let mut store = bench.open().await;
    let mut sent = 0_u64;
    let mut send = async |store: &Store, events: Vec<EventRecord>| {
        let items = events.into_iter().map(Item::from);
        let entries: Vec<(u64, Item)> = (sent + 1..).zip(items).collect();
        sent += entries.len() as u64;
        ingest(store, head(), entries).await;
    };
    let names = |many: usize| (0..many).map(|at| strange("10.9.0.1", &format!("n{at}.test")));
    send(&store, names(99).collect()).await;
    assert_eq!(strangers(&store).await, (99, 99, 0, 0));
    send(&store, names(130).collect()).await;
    assert_eq!(strangers(&store).await, (101, 229, 30, 0));
    // Who starts anew knows what there is.
    store = bench.open().await;
    send(&store, names(101).collect()).await;
    assert_eq!(strangers(&store).await, (101, 330, 31, 0));
    // Another source has room of its own, until its gateway has none.
    let host = |at: usize| format!("2001:db8::{at:x}");
    for lot in 0..3 {
        let many = (lot * 2_000..(lot + 1) * 2_000).map(|at| strange(&host(at), "x.test"));
        send(&store, many.collect()).await;
    }
    assert_eq!(strangers(&store).await, (5_001, 6_330, 31, 1_101));
    // A source that is there is still told apart.
    send(
        &store,
        vec![strange(&host(7), "x.test"), strange("10.9.0.1", "more.test")],
    )
    .await;
    assert_eq!(strangers(&store).await, (5_001, 6_332, 32, 1_101));
}

pub(crate) async fn what_is_undone_takes_no_room(bench: Bench) {
    let store = bench.open().await;
    let forbid = match store.events_db().backend() {
        Backend::Sqlite => {
            "CREATE TRIGGER forbid BEFORE INSERT ON event_sources WHEN NEW.stored = 100 \
             BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        }
        Backend::Postgres => "ALTER TABLE event_sources ADD CONSTRAINT forbid CHECK (stored <> 100)",
    };
    sqlx::query(forbid)
        .execute(store.events_db().read())
        .await
        .unwrap();
    let numbered = |prefix: &str, many: usize| {
        let events = (0..many).map(|at| strange("10.9.0.1", &format!("{prefix}{at}.test")).into());
        (1..).zip(events).collect::<Vec<(u64, Item)>>()
    };
    let failed = store.ingest("gw-1", head(), numbered("a", 100)).await;
    assert!(failed.is_err(), "{failed:?}");
    assert_eq!(strangers_or_none(&store).await, 0);
    ingest(&store, head(), numbered("b", 60)).await;
    assert_eq!(strangers(&store).await, (60, 60, 0, 0));
}

async fn strangers_or_none(store: &Store) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM stranger_days")
        .fetch_one(store.events_db().read())
        .await
        .unwrap()
}

pub(crate) async fn sums_are_forgotten_each_kind_in_its_time(bench: Bench) {
    let days = |count: u32| count * Duration::from_hours(24);
    let kept = |events, rollups| EventRetention {
        events: days(events),
        rollups: days(rollups),
    };
    let long = bench.open().await.keeping(kept(60, 60));
    let now = now();
    let old = |ago: i64, record: EventRecord| EventRecord {
        time: now - SignedDuration::from_hours(24 * ago),
        ..record
    };
    let of_job = |id: &str, ago: i64| {
        old(
            ago,
            EventRecord {
                job: Some(job(id)),
                ..event("a.test")
            },
        )
    };
    let events = [
        of_job("job_old", 40),
        of_job("job_long", 40),
        of_job("job_long", 0),
        of_job("job_new", 0),
        old(40, strange("10.9.0.1", "a.test")),
        old(0, strange("10.9.0.1", "a.test")),
    ];
    let items = events.into_iter().map(Item::from);
    ingest(&long, head(), (1..).zip(items).collect()).await;
    let counts = async |store: &Store| {
        let mut counts = Vec::new();
        for place in 0..5 {
            counts.push(stored(store, place).await.len());
        }
        counts
    };
    assert_eq!(counts(&long).await[1..], [2, 3, 2, 2]);
    let raw = long.clone().keeping(kept(30, 60));
    assert_eq!(raw.forget_events().await.unwrap().sums, 2);
    let jobs: BTreeSet<_> = stored(&long, 2).await.into_keys().flatten().collect();
    assert_eq!(jobs, ["job_long", "job_new"].map(str::to_owned).into());
    assert_eq!(counts(&long).await[1..], [2, 2, 2, 1]);
    let sums = long.clone().keeping(kept(30, 30));
    // Of the hour of 40 days ago there are a permit and a refusal.
    assert_eq!(sums.forget_events().await.unwrap().sums, 4);
    assert_eq!(counts(&long).await[1..], [1, 2, 1, 1]);
    assert_eq!(sums.forget_events().await.unwrap().sums, 0);
}

/// Refusals have an index of their own; those that an older program stored are brought into it.
pub(crate) async fn a_refusal_is_found_by_its_id_and_among_all_whoever_stored_it(bench: Bench) {
    let store = bench.open().await;
    let one = |name: &str, verdict: Verdict| EventRecord {
        verdict,
        id: format!("id-{name}").into(),
        kind: Kind::Tls,
        ..event(name)
    };
    let events = [
        one("a.test", Verdict::Refuse),
        one("b.test", Verdict::Permit),
        one("c.test", Verdict::WouldRefuse),
    ];
    let refusals = BatchHead {
        lane: Lane::Refusals,
        ..head()
    };
    let items = events.into_iter().map(Item::from);
    ingest(&store, refusals, (1..).zip(items).collect()).await;
    let found = async |store: &Store, filter: EventFilter| {
        let page = store.events(&filter, &PageRequest::default()).await.unwrap();
        assert_eq!(page.next, None);
        let names = page.items.iter().map(|one| one.event.endpoint().to_string());
        names.collect::<BTreeSet<_>>()
    };
    let check = async |store: &Store| {
        let all = || EventFilter::default();
        let verdicts = |verdicts: &[Verdict]| EventFilter {
            verdicts: verdicts.to_vec(),
            ..all()
        };
        let both = [Verdict::Refuse, Verdict::WouldRefuse];
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<BTreeSet<_>>()
        };
        for (filter, wanted) in [
            (verdicts(&both), names(&["a.test", "c.test"])),
            (verdicts(&[Verdict::WouldRefuse]), names(&["c.test"])),
            (verdicts(&[Verdict::Permit]), names(&["b.test"])),
            (
                EventFilter {
                    repo: Some("acme/web".into()),
                    ..verdicts(&both)
                },
                names(&["a.test", "c.test"]),
            ),
            (
                EventFilter {
                    repo: Some("acme/none".into()),
                    ..verdicts(&both)
                },
                names(&[]),
            ),
        ] {
            assert_eq!(found(store, filter.clone()).await, wanted, "{filter:?}");
        }
        for name in ["a.test", "b.test", "c.test"] {
            let by_id = EventFilter {
                id: Some(format!("ID-{name}")),
                ..all()
            };
            assert_eq!(
                found(store, by_id.clone()).await,
                names(&[name]),
                "refusal or permit"
            );
            let of_another = EventFilter {
                job: Some("job_2".into()),
                ..by_id
            };
            assert_eq!(
                found(store, of_another).await,
                names(&[]),
                "within what else is asked"
            );
        }
    };
    check(&store).await;
    for sql in [
        "UPDATE events SET refused_id = ''",
        "UPDATE event_marks SET value = 3 WHERE name = 'refused-unfilled'",
    ] {
        sqlx::query(sql).execute(store.events_db().read()).await.unwrap();
    }
    let store = bench.open().await;
    check(&store).await;
    store.forget_events().await.unwrap();
    check(&store).await;
    let filled: Vec<String> = sqlx::query_scalar("SELECT refused_id FROM events ORDER BY seq")
        .fetch_all(store.events_db().read())
        .await
        .unwrap();
    assert_eq!(filled, ["id-a.test", "", "id-c.test"]);
}

pub(crate) async fn events_are_found_by_where_they_came_from_and_what_judged_them(bench: Bench) {
    let store = bench.open().await;
    let other = EventRecord {
        network: "lab".into(),
        source: "2001:db8::7".parse().unwrap(),
        policy: Some("strict".into()),
        scope: Some("org:acme".into()),
        ..event("other.test")
    };
    let events = [event("own.test"), other, strange("10.9.0.1", "strange.test")];
    let items = events.into_iter().map(Item::from);
    ingest(&store, head(), (1..).zip(items).collect()).await;
    let all = || EventFilter::default();
    for (filter, wanted) in [
        (
            EventFilter {
                network: Some("lab".into()),
                ..all()
            },
            &["other.test"][..],
        ),
        (
            EventFilter {
                source: Some("10.0.0.1".parse().unwrap()),
                ..all()
            },
            &["own.test"],
        ),
        (
            EventFilter {
                source: Some("2001:db8::7".parse().unwrap()),
                ..all()
            },
            &["other.test"],
        ),
        (
            EventFilter {
                policy: Some("strict".into()),
                ..all()
            },
            &["other.test"],
        ),
        (
            EventFilter {
                policy: Some("stri".into()),
                ..all()
            },
            &[],
        ),
        (
            EventFilter {
                scope: Some("org:acme".into()),
                ..all()
            },
            &["other.test"],
        ),
        (
            EventFilter {
                unidentified: Some(true),
                ..all()
            },
            &["strange.test"],
        ),
        (
            EventFilter {
                unidentified: Some(false),
                ..all()
            },
            &["other.test", "own.test"],
        ),
    ] {
        let page = store.events(&filter, &PageRequest::default()).await.unwrap();
        let mut names: Vec<_> = page.items.iter().map(|one| one.event.endpoint()).collect();
        names.sort();
        assert_eq!(names, wanted, "{filter:?}");
        let tail = store.events_after(&filter, 0, 10).await.unwrap();
        assert_eq!(tail.items.len(), wanted.len(), "{filter:?}");
    }
    let both = EventFilter {
        unidentified: Some(true),
        job: Some("job_1".into()),
        ..all()
    };
    let refused = store.events(&both, &PageRequest::default()).await;
    assert!(
        refused.is_err_and(|error| error.to_string().contains("unidentified")),
        "nobody's and somebody's"
    );
}
