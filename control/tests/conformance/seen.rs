//! What was seen: workflows by their jobs and by their events, runs, and what verdicts add up to.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tidegate_control::baseline::State;
use tidegate_control::model::PageRequest;
use tidegate_control::store::{Backend, JobFilter, Micros, Retention, SeenWorkflow, Store};
use tidegate_control_wire::claim::{Claim, EndedBy};
use tidegate_control_wire::event::EventRecord;
use tidegate_control_wire::record::Ending;
use tidegate_policy::job::Assurance;
use tidegate_policy::verdict::Verdict;

use crate::bench::Bench;
use crate::fixture::{claim, claimed, end, in_seconds};
use crate::ingest::{event, head, ingest, job};
use crate::runs::runs;

/// A job of `acme/REPO`'s run, so many seconds after a moment long ago.
pub(crate) fn of_run(id: &str, source: &str, repo: &str, run: &str, second: i64) -> Claim {
    let mut one = claim(id, &[source]);
    one.lease.identity.repo = repo.into();
    one.lease.identity.run_id = run.into();
    one.lease.started_at = at(second);
    one.lease.expires_at = in_seconds(3_600);
    one
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

async fn seen(store: &Store, repo: &str) -> Vec<SeenWorkflow> {
    let mut all = store.workflows_seen().await.unwrap();
    all.retain(|one| one.repo == repo);
    all
}

pub(crate) async fn a_workflow_is_noted_with_each_of_its_jobs(bench: Bench) {
    let store = bench.open().await;
    let first = of_run("job_1", "10.0.0.1", "web", "1", 10);
    claimed(&store, &first).await;
    assert!(claimed(&store, &first).await.repeated, "asked again");
    let mut newer = of_run("job_2", "10.0.0.2", "web", "2", 20);
    newer.lease.identity.assurance = Assurance::Signed;
    newer.lease.network = "pods".into();
    claimed(&store, &newer).await;
    // One that comes late was first, and is not the last.
    claimed(&store, &of_run("job_0", "10.0.0.3", "web", "0", 5)).await;
    let mut elsewhere = of_run("job_3", "10.0.0.4", "web", "3", 1);
    elsewhere.lease.identity.cluster = "".into();
    claimed(&store, &elsewhere).await;
    let all = seen(&store, "acme/web").await;
    assert_eq!(all.len(), 2, "one a cluster: {all:?}");
    let prod = all.iter().find(|one| one.cluster == "prod").unwrap();
    assert_eq!((prod.owner.as_str(), prod.workflow.as_str()), ("acme", "ci.yml"));
    assert_eq!(
        (prod.first_at, prod.last_at, prod.jobs),
        (Micros::from(at(5)), Micros::from(at(20)), 3)
    );
    let last = prod.last.as_ref().unwrap();
    assert_eq!(
        (last.id.as_str(), last.assurance, last.network.as_str()),
        ("job_2", Assurance::Signed, "pods")
    );
    // Too long for an index together with others: the job is registered all the same.
    let mut long = of_run("job_4", "10.0.0.5", "web", "4", 1);
    long.lease.identity.workflow = "w".repeat(256).into();
    claimed(&store, &long).await;
    assert_eq!(seen(&store, "acme/web").await.len(), 2);
    let mut longest = of_run("job_5", "10.0.0.6", "web", "4", 1);
    longest.lease.identity.workflow = "w".repeat(255).into();
    claimed(&store, &longest).await;
    assert_eq!(seen(&store, "acme/web").await.len(), 3);
}

/// An event of another repository's job.
pub(crate) fn of(repo: &str, name: &str, verdict: Verdict) -> EventRecord {
    let mut known = job(&format!("job_{repo}"));
    known.repo = format!("acme/{repo}").into();
    EventRecord {
        job: Some(known),
        verdict,
        reason: (verdict != Verdict::Permit).then(|| "not-allowed".into()),
        ..event(name)
    }
}

pub(crate) async fn what_only_events_tell_of_is_noted_too(bench: Bench) {
    let store = bench.open().await;
    let stranger = EventRecord {
        job: None,
        ..event("s.test")
    };
    let sent = [
        of("fixed", "a.test", Verdict::Permit),
        of("fixed", "b.test", Verdict::Refuse),
        of("fixed", "c.test", Verdict::WouldRefuse),
        stranger,
    ];
    let entries = (1..).zip(sent.into_iter().map(Into::into)).collect();
    ingest(&store, head(), entries).await;
    let today = Timestamp::now().as_second().div_euclid(86_400);
    let sums = store.workflow_sums(today - 1, today - 1).await.unwrap();
    assert_eq!(sums.len(), 1, "an event without a job is no workflow's: {sums:?}");
    assert_eq!(
        (sums[0].permits, sums[0].refusals, sums[0].would_refuse),
        (1, 1, 1),
        "{sums:?}"
    );
    assert_eq!(store.workflow_sums(today + 1, today + 1).await.unwrap(), []);
    assert_eq!(seen(&store, "acme/fixed").await, []);
    assert_eq!(store.note_seen().await.unwrap(), 1);
    assert_eq!(store.note_seen().await.unwrap(), 0, "it is known by now");
    let noted = seen(&store, "acme/fixed").await;
    assert_eq!((noted[0].jobs, &noted[0].last), (0, &None));
    // A job that registers later is its last one, however its clock stands.
    claimed(&store, &of_run("job_9", "10.0.0.9", "fixed", "1", 0)).await;
    let noted = seen(&store, "acme/fixed").await;
    assert_eq!(noted.len(), 1);
    assert_eq!(
        (noted[0].jobs, noted[0].last.as_ref().map(|last| last.id.as_str())),
        (1, Some("job_9"))
    );

    let counts = store
        .job_counts(&["job_fixed", "job_9", "a\0b", "'"])
        .await
        .unwrap();
    assert_eq!(counts.len(), 1);
    let counts = counts["job_fixed"];
    assert_eq!((counts.permit, counts.refuse, counts.would_refuse), (1, 1, 1));
    assert_eq!((counts.bytes_up, counts.bytes_down), (300, 6_000));
    assert!(store.job_counts(&[]).await.unwrap().is_empty());
}

/// Registrations wait for the writer; what is known already must not stand in their line.
pub(crate) async fn what_is_known_is_not_noted_again(bench: Bench) {
    let store = bench.open().await;
    let mut registered = of_run("job_1", "10.0.0.1", "web", "1", 0);
    registered.lease.started_at = in_seconds(0);
    claimed(&store, &registered).await;
    let sent = [
        of("web", "a.test", Verdict::Permit),
        of("fixed", "a.test", Verdict::Permit),
    ];
    let entries = (1..).zip(sent.into_iter().map(Into::into)).collect();
    ingest(&store, head(), entries).await;
    assert_eq!(
        store.note_seen().await.unwrap(),
        1,
        "the one that did not register"
    );
    let (go, waits) = tokio::sync::oneshot::channel::<()>();
    let (tells, started) = tokio::sync::oneshot::channel();
    let busy = tokio::spawn({
        let store = store.clone();
        async move {
            let work = store.db().write(move |_| {
                Box::pin(async move {
                    tells.send(()).unwrap();
                    waits.await.unwrap();
                    Ok(())
                })
            });
            work.await.unwrap();
        }
    });
    started.await.unwrap();
    let noted = tokio::time::timeout(Duration::from_secs(10), store.note_seen()).await;
    assert_eq!(noted.expect("it needs no writer").unwrap(), 0);
    go.send(()).unwrap();
    busy.await.unwrap();
    // What is silent for long is noted once a day.
    let ages = "UPDATE workflows_seen SET last_at = last_at - 90000000000";
    sqlx::query(ages).execute(store.db().read()).await.unwrap();
    assert_eq!(store.note_seen().await.unwrap(), 2);
    assert_eq!(store.note_seen().await.unwrap(), 0);
}

pub(crate) async fn a_workflow_is_forgotten_long_after_its_last_job(bench: Bench) {
    let store = bench.open().await;
    let days = |days: i64| Timestamp::now() - SignedDuration::from_hours(24 * days);
    for (place, (repo, age)) in [("old", 410), ("quiet", 390), ("new", 0)].into_iter().enumerate() {
        let mut one = of_run(&format!("job_{place}"), &format!("10.0.0.{place}"), repo, "1", 0);
        one.lease.started_at = days(age);
        claimed(&store, &one).await;
    }
    let kept = Retention {
        jobs: Duration::ZERO,
        ..Retention::default()
    };
    assert_eq!(store.prune(kept).await.unwrap().seen, 1);
    let left = store.workflows_seen().await.unwrap();
    let left: Vec<&str> = left.iter().map(|one| one.repo.as_str()).collect();
    assert_eq!(left, ["acme/new", "acme/quiet"], "the one seen last first");
}

pub(crate) async fn jobs_are_found_by_what_is_known_of_them(bench: Bench) {
    let store = bench.open().await;
    for mut one in runs() {
        if one.lease.id == "job_3" {
            one.lease.identity.assurance = Assurance::Signed;
            one.lease.identity.job = "Deploy_50%".into();
            one.lease.network = "pods".into();
        }
        claimed(&store, &one).await;
    }
    store
        .end_job("job_1", None, &end(EndedBy::Expiry, Ending::Quarantine))
        .await
        .unwrap();
    let all = JobFilter::default;
    let text = |text: &str| Some(text.to_owned());
    let found = async |filter: JobFilter| {
        let page = store.jobs(&filter, &PageRequest::default()).await.unwrap();
        let ids: Vec<String> = page
            .items
            .into_iter()
            .map(|job| job.lease.id.to_string())
            .collect();
        ids.join(" ")
    };
    let rows: [(JobFilter, &str); 12] = [
        (
            JobFilter {
                network: text("pods"),
                ..all()
            },
            "job_3",
        ),
        (
            JobFilter {
                job: text("Deploy_50%"),
                ..all()
            },
            "job_3",
        ),
        (
            JobFilter {
                assurance: Some(Assurance::Signed),
                ..all()
            },
            "job_3",
        ),
        (
            JobFilter {
                source: Some("10.0.0.2".parse().unwrap()),
                ..all()
            },
            "job_1",
        ),
        (
            JobFilter {
                source: Some("::ffff:10.0.0.4".parse().unwrap()),
                ..all()
            },
            "job_3",
        ),
        (
            JobFilter {
                source: Some("10.9.9.9".parse().unwrap()),
                ..all()
            },
            "",
        ),
        (
            JobFilter {
                since: Some(at(5)),
                ..all()
            },
            "job_6 job_5",
        ),
        (
            JobFilter {
                until: Some(at(1)),
                ..all()
            },
            "job_0",
        ),
        (
            JobFilter {
                since: Some(at(1)),
                until: Some(at(3)),
                ..all()
            },
            "job_2 job_1",
        ),
        (
            JobFilter {
                search: text("deploy_50%"),
                ..all()
            },
            "job_3",
        ),
        (
            JobFilter {
                search: text("%"),
                ..all()
            },
            "job_3",
        ),
        (
            JobFilter {
                search: text("ME/API"),
                ..all()
            },
            "job_3",
        ),
    ];
    for (filter, wanted) in rows {
        assert_eq!(found(filter.clone()).await, wanted, "{filter:?}");
    }
    let nul = JobFilter {
        search: text("\0"),
        ..all()
    };
    assert!(store.jobs(&nul, &PageRequest::default()).await.is_err());
}

pub(crate) async fn owners_and_baselines_are_counted_at_once(bench: Bench) {
    let store = bench.open().await;
    let by = crate::fixture::actor();
    for name in ["one", "two"] {
        let yaml = "egress-policy: audit\nallowed-endpoints: >\n  a.test:443\n";
        store.create_policy("acme", name, yaml, &by).await.unwrap();
    }
    for one in runs() {
        claimed(&store, &one).await;
    }
    ingest(
        &store,
        head(),
        vec![(1, of("web", "a.test", Verdict::Permit).into())],
    )
    .await;
    let owners = store.owners().await.unwrap();
    let acme = owners["acme"];
    assert_eq!((acme.policies, acme.unattached, acme.jobs_alive), (2, 2, 8));
    let states = store.baseline_states().await.unwrap();
    let web = states["repo:acme/web"];
    assert_eq!((web.state, web.runs), (State::Creating, 1), "{states:?}");
}

/// Questions of pages walk an index and sort nothing.
pub(crate) async fn questions_of_jobs_and_runs_use_an_index(bench: Bench) {
    let store = bench.open().await;
    claimed(&store, &of_run("job_0", "10.0.0.1", "web", "1", 0)).await;
    let sqlite = store.db().backend() == Backend::Sqlite;
    for (condition, index) in [
        (
            "jobs WHERE ended_at IS NULL ORDER BY started_at DESC, id DESC",
            "jobs_alive_by_start",
        ),
        (
            "jobs WHERE owner = 'acme' ORDER BY started_at DESC, id DESC",
            "jobs_by_owner",
        ),
        (
            "jobs WHERE repo = 'acme/web' AND run_id = '1' ORDER BY started_at DESC",
            "jobs_by_run",
        ),
        (
            "ended_sources WHERE source = '10.0.0.1'",
            "ended_sources_by_source",
        ),
        (
            "ended_sources AS ended JOIN jobs ON jobs.id = ended.job_id WHERE ended.source IN ('10.0.0.1', '10.0.0.2')",
            "ended_sources_by_source",
        ),
    ] {
        let mut connection = store.db().read().acquire().await.unwrap();
        if !sqlite {
            // A table of one row is read whole unless that is forbidden.
            for forbid in [
                "SET enable_seqscan = off",
                "SET enable_bitmapscan = off",
                "SET enable_sort = off",
            ] {
                sqlx::query(forbid).execute(&mut *connection).await.unwrap();
            }
        }
        let explain = if sqlite { "EXPLAIN QUERY PLAN" } else { "EXPLAIN" };
        let sql = format!("{explain} SELECT * FROM {condition} LIMIT 10");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .fetch_all(&mut *connection)
            .await
            .unwrap();
        let column = if sqlite { 3 } else { 0 };
        let plan: Vec<String> = rows.iter().map(|row| sqlx::Row::get(row, column)).collect();
        let plan = plan.join("\n");
        assert!(plan.contains(index), "{condition}: {plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{condition}: {plan}");
        connection.detach();
    }
}
