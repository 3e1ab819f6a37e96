//! Runs: where they stand, which are found by what is known of their jobs, and how those are counted.

use tidegate_control::model::PageRequest;
use tidegate_control::store::{JobFilter, MAX_LEGS, MAX_RUN, Micros, Store};
use tidegate_control_wire::claim::{Claim, EndedBy};
use tidegate_control_wire::record::Ending;

use crate::bench::Bench;
use crate::fixture::{claimed, end};
use crate::seen::{at, of_run};

/// Runs of `acme/web` and others, whose jobs began in turns.
pub(crate) fn runs() -> Vec<Claim> {
    vec![
        of_run("job_0", "10.0.0.1", "web", "1", 0),
        of_run("job_1", "10.0.0.2", "web", "2", 1),
        of_run("job_2", "10.0.0.3", "web", "1", 2),
        of_run("job_3", "10.0.0.4", "api", "1", 3),
        of_run("job_4", "10.0.0.5", "web", "2", 4),
        of_run("job_5", "10.0.0.6", "web", "", 5),
        of_run("job_6", "10.0.0.7", "web", "", 6),
        // At the same moment as another of its run: the id decides.
        of_run("job_7", "10.0.0.8", "web", "2", 4),
    ]
}

async fn walked(store: &Store, filter: &JobFilter, limit: u32) -> Vec<String> {
    let mut request = PageRequest { after: None, limit };
    let mut all = Vec::new();
    loop {
        let page = store.runs(filter, &request).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        all.extend(page.items.into_iter().map(|run| {
            let ids = run.ids.unwrap();
            assert_eq!(run.legs.jobs, ids.len() as u64);
            format!("{}: {}", run.newest.lease.id, ids.join(" "))
        }));
        match page.next {
            Some(next) => request.after = Some(next),
            None => return all,
        }
    }
}

pub(crate) async fn a_run_stands_where_its_newest_job_does(bench: Bench) {
    let store = bench.open().await;
    for one in runs() {
        claimed(&store, &one).await;
    }
    let whole = [
        "job_6: job_6",
        "job_5: job_5",
        "job_7: job_7 job_4 job_1",
        "job_3: job_3",
        "job_2: job_2 job_0",
    ];
    for limit in [1, 2, 3, 100] {
        assert_eq!(
            walked(&store, &JobFilter::default(), limit).await,
            whole,
            "by {limit}"
        );
    }
    let repo = JobFilter {
        repo: Some("Acme/API".into()),
        ..JobFilter::default()
    };
    assert_eq!(walked(&store, &repo, 10).await, ["job_3: job_3"]);
    let over = end(EndedBy::Job, Ending::Release);
    for id in ["job_7", "job_2"] {
        assert!(store.end_job(id, None, &over).await.unwrap());
    }
    let alive = JobFilter {
        alive: Some(true),
        run_id: Some("2".into()),
        ..JobFilter::default()
    };
    assert_eq!(
        walked(&store, &alive, 10).await,
        ["job_4: job_7 job_4 job_1"],
        "the newest that runs stands for it"
    );
    let ended = JobFilter {
        alive: Some(false),
        ..JobFilter::default()
    };
    assert_eq!(
        walked(&store, &ended, 1).await,
        ["job_7: job_7 job_4 job_1", "job_2: job_2 job_0"]
    );
    let (jobs, more) = store.run_jobs("Acme/web", "2").await.unwrap();
    assert!(!more);
    let ids: Vec<&str> = jobs.iter().map(|job| job.lease.id.as_str()).collect();
    assert_eq!(ids, ["job_7", "job_4", "job_1"]);
    for (repo, run) in [
        ("acme/web", ""),
        ("acme/web", "9"),
        ("acme/x", "1"),
        ("a\0", "1"),
        ("acme/web", "\0"),
    ] {
        assert!(
            store.run_jobs(repo, run).await.unwrap().0.is_empty(),
            "{repo:?} {run:?}"
        );
    }
}

/// A run is there if any of its jobs is what was asked for, not only its newest.
pub(crate) async fn a_run_is_found_by_any_of_its_jobs(bench: Bench) {
    let store = bench.open().await;
    for (place, (name, second)) in [("build", 1), ("test", 3), ("deploy", 5)].into_iter().enumerate() {
        let mut one = of_run(
            &format!("job_{place}"),
            &format!("10.0.0.{place}"),
            "web",
            "1",
            second,
        );
        one.lease.identity.job = name.into();
        one.lease.network = format!("of-{name}").into();
        one.lease.identity.workflow = format!("{name}.yml").into();
        claimed(&store, &one).await;
    }
    let all = JobFilter::default;
    let text = |text: &str| Some(text.to_owned());
    for (filter, wanted) in [
        (all(), "job_2"),
        (
            JobFilter {
                search: text("BUILD"),
                ..all()
            },
            "job_0",
        ),
        (
            JobFilter {
                search: text("t"),
                until: Some(at(5)),
                ..all()
            },
            "job_1",
        ),
        (
            JobFilter {
                until: Some(at(2)),
                ..all()
            },
            "job_0",
        ),
        (
            JobFilter {
                since: Some(at(2)),
                until: Some(at(5)),
                ..all()
            },
            "job_1",
        ),
        (
            JobFilter {
                workflow: text("build.yml"),
                ..all()
            },
            "job_0",
        ),
        (
            JobFilter {
                job: text("test"),
                owner: text("Acme"),
                ..all()
            },
            "job_1",
        ),
        (
            JobFilter {
                networks: vec!["of-test".into(), "of-build".into()],
                ..all()
            },
            "job_1",
        ),
        (
            JobFilter {
                source: Some("10.0.0.0".parse().unwrap()),
                ..all()
            },
            "job_0",
        ),
    ] {
        let wanted = format!("{wanted}: job_2 job_1 job_0");
        assert_eq!(walked(&store, &filter, 10).await, [wanted], "{filter:?}");
    }
    let none = JobFilter {
        search: text("build"),
        since: Some(at(2)),
        ..all()
    };
    assert!(walked(&store, &none, 10).await.is_empty(), "no job is both");
}

/// Copies of a job, so many, each ended and an older second than the one before.
async fn copied(store: &Store, id: &str, many: i64) {
    let sql = "INSERT INTO jobs (id, group_name, gateway, network, owner, repo, workflow, job, run_id, assurance, \
        record, began, started_at, expires_at, ended_at) \
        WITH RECURSIVE copies (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM copies WHERE n < $1) \
        SELECT id || '_' || n, group_name, gateway, network, owner, repo, workflow, job, run_id, assurance, record, \
        began, started_at - n * 1000000, expires_at, started_at FROM jobs, copies WHERE id = $2";
    let made = sqlx::query(sql).bind(many).bind(id).execute(store.db().read());
    assert_eq!(made.await.unwrap().rows_affected(), many.unsigned_abs());
}

pub(crate) async fn runs_of_many_jobs_are_counted_whole(bench: Bench) {
    let store = bench.open().await;
    for one in [
        of_run("job_0", "10.0.0.1", "web", "old", 0),
        of_run("job_1", "10.0.0.2", "web", "large", 100_000),
        of_run("job_2", "10.0.0.3", "web", "new", 200_000),
    ] {
        claimed(&store, &one).await;
    }
    copied(&store, "job_0", 1_999).await;
    assert!(
        !store.run_jobs("acme/web", "old").await.unwrap().1,
        "just all of them"
    );
    copied(&store, "job_1", i64::try_from(MAX_LEGS).unwrap() - 2_001).await;
    let page = async || {
        let page = store
            .runs(&JobFilter::default(), &PageRequest::default())
            .await
            .unwrap();
        let told = page.items.into_iter();
        told.map(|run| {
            let legs = run.legs;
            assert_eq!((legs.alive, legs.ended_at.is_some()), (1, legs.jobs > 1));
            let began = Micros::from(run.newest.lease.started_at).0 - legs.started_at.0;
            assert_eq!(began, (legs.jobs.cast_signed() - 1) * 1_000_000);
            (legs.jobs, run.ids.map(|ids| ids.len()))
        })
        .collect::<Vec<_>>()
    };
    let large = MAX_LEGS - 2_000;
    let whole = |jobs: u64| (jobs, Some(jobs as usize));
    // With the lone one of the newest run it is one too many for a page.
    assert_eq!(page().await, [whole(1), whole(large), (2_000, None)]);
    copied(&store, "job_2", i64::try_from(MAX_LEGS).unwrap()).await;
    assert_eq!(
        page().await,
        [(MAX_LEGS + 1, None), whole(large), whole(2_000)],
        "one too large leaves the others theirs"
    );
    let (jobs, more) = store.run_jobs("acme/web", "large").await.unwrap();
    assert_eq!((jobs.len(), more), (MAX_RUN, true));
}
