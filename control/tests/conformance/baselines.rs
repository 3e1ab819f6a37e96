//! Baselines: what is normal for a scope, when, and what an import takes of it.

use std::time::Duration;

use tidegate_control::baseline::import::Wanted;
use tidegate_control::baseline::{LeftOut, State};
use tidegate_control::model::PageRequest;
use tidegate_control::store::{BaselineFilter, EventRetention, Shown, StoreError};
use tidegate_policy::event::Kind;
use tidegate_policy::job::{Assurance, Scope};
use tidegate_policy::verdict::Verdict;

use crate::bench::{Bench, within};
use crate::watched::{Watched, change, days_ago, endpoint, fork, left_out, reach};

pub(crate) async fn a_hundred_quiet_runs_make_every_scope_stable(bench: Bench) {
    let watched = Watched::new(bench.open().await);
    watched.runs(1, 100, "a.test").await;
    assert_eq!(watched.state("repo:acme/web").await, (State::Creating, 100, 99));
    watched.runs(101, 1, "a.test").await;
    for scope in [
        "workflow:Acme/Web/ci.yml",
        "repo:acme/web",
        "org:acme",
        "cluster:prod",
    ] {
        assert_eq!(watched.state(scope).await, (State::Stable, 101, 100), "{scope}");
    }
    let seen = watched.look("repo:acme/web").await;
    let one = endpoint(&seen, "a.test");
    assert_eq!((one.runs, one.calls, one.imported), (101, 101, true));
    assert_eq!(seen.endpoints, ["a.test:443"]);
    assert_eq!(watched.state("repo:acme/other").await, (State::Creating, 0, 0));
    let nowhere = Scope::Network("runners".into());
    let refused = watched
        .store
        .baseline(&nowhere, &Wanted::default())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, StoreError::Invalid { field: "scope", .. }),
        "{refused}"
    );
}

pub(crate) async fn fourteen_quiet_days_make_it_stable_with_ten_runs(bench: Bench) {
    let watched = Watched::new(bench.open().await);
    let mut old: Vec<_> = (1..=9).map(|run| reach(run, "a.test")).collect();
    for event in &mut old {
        event.time = days_ago(15);
    }
    watched.tell(old).await;
    assert_eq!(watched.state("org:acme").await.0, State::Creating);
    watched.runs(10, 1, "a.test").await;
    assert_eq!(watched.state("org:acme").await.0, State::Stable);
    watched.runs(11, 1, "b.test").await;
    assert_eq!(watched.state("org:acme").await.0, State::Unstable);
}

pub(crate) async fn what_is_new_unsettles_a_stable_one_for_fifty_runs(bench: Bench) {
    let watched = Watched::new(bench.open().await);
    watched.runs(1, 101, "a.test").await;
    watched.runs(200, 1, "b.test").await;
    assert_eq!(watched.state("repo:acme/web").await, (State::Unstable, 102, 0));
    watched.runs(300, 49, "a.test").await;
    assert_eq!(watched.state("repo:acme/web").await.0, State::Unstable);
    watched.runs(400, 1, "a.test").await;
    assert_eq!(watched.state("repo:acme/web").await.0, State::Stable);
}

pub(crate) async fn attempts_jobs_and_repeats_are_one_run(bench: Bench) {
    let watched = Watched::new(bench.open().await);
    let mut told = Vec::new();
    for (job, attempt) in [("job_a", 1), ("job_b", 1), ("job_c", 2)] {
        let mut event = reach(7, "a.test");
        change(&mut event, |one| {
            (one.id, one.run_attempt) = (job.into(), attempt);
        });
        told.push(event);
    }
    for event in told.clone() {
        watched.tell(vec![event]).await;
    }
    watched.tell(told).await;
    let seen = watched.look("repo:acme/web").await;
    let one = endpoint(&seen, "a.test");
    assert_eq!((seen.baseline.runs, one.runs, one.calls), (1, 1, 6));
    assert_eq!(one.left_out, [LeftOut::SingleRun]);
    // Jobs that name no run are runs of their own.
    for id in ["job_x", "job_y"] {
        let mut event = reach(0, "a.test");
        change(&mut event, |one| (one.id, one.run_id) = (id.into(), "".into()));
        watched.tell(vec![event]).await;
    }
    assert_eq!(watched.state("repo:acme/web").await.1, 3);
}

pub(crate) async fn a_run_counts_once_in_each_scope_wherever_its_jobs_ran(bench: Bench) {
    let watched = Watched::new(bench.open().await);
    for cluster in ["prod", "spare", "prod"] {
        let mut event = reach(7, "a.test");
        change(&mut event, |one| one.cluster = cluster.into());
        watched.tell(vec![event]).await;
    }
    for scope in ["repo:acme/web", "cluster:prod", "cluster:spare", "org:acme"] {
        let seen = watched.look(scope).await;
        assert_eq!(
            (seen.baseline.runs, endpoint(&seen, "a.test").runs),
            (1, 1),
            "{scope}"
        );
    }
    let calls = endpoint(&watched.look("org:acme").await, "a.test").calls;
    assert_eq!(calls, 3);
}

pub(crate) async fn strangers_add_nothing_and_are_left_out(bench: Bench) {
    let watched = Watched::new(bench.open().await);
    watched.runs(1, 101, "a.test").await;
    let mut claimed = reach(300, "claimed.test");
    change(&mut claimed, |job| job.assurance = Assurance::Claimed);
    watched
        .tell(vec![
            fork(200, "fork.test"),
            fork(201, "fork.test"),
            fork(202, "a.test"),
            claimed,
        ])
        .await;
    assert_eq!(
        watched.state("repo:acme/web").await,
        (State::Stable, 101, 100),
        "nothing changed"
    );
    let seen = watched.look("repo:acme/web").await;
    assert_eq!(left_out(&seen, "fork.test"), [LeftOut::ForkPullRequest]);
    assert_eq!(left_out(&seen, "claimed.test"), [LeftOut::Claimed]);
    assert_eq!(seen.endpoints, ["a.test:443"]);
    assert_eq!(endpoint(&seen, "a.test").runs, 101);
    let told = watched.detections().await;
    assert_eq!(told.len(), 2, "they do reach out: {told:?}");
    // The same repository's own pull requests are its own.
    let mut own = reach(400, "a.test");
    change(&mut own, |job| {
        (job.event, job.head_repo) = ("pull_request".into(), "acme/web".into());
    });
    watched.tell(vec![own]).await;
    assert_eq!(watched.state("repo:acme/web").await.1, 102);
}

pub(crate) async fn noise_and_single_runs_are_left_out_and_said(bench: Bench) {
    let watched = Watched::new(bench.open().await);
    watched.runs(1, 2, "a.test").await;
    watched.runs(1, 2, "a.test.corp.test").await;
    watched.runs(1, 1, "once.test").await;
    watched.runs(1, 2, "*.evil.test").await;
    let mut query = reach(1, "a.test.corp.test");
    (query.kind, query.verdict) = (Kind::Dns, Verdict::WouldRefuse);
    query.reason = Some("search-suffix".into());
    watched.tell(vec![query]).await;
    let seen = watched.look("org:acme").await;
    assert_eq!(seen.endpoints, ["a.test:443"]);
    assert_eq!(left_out(&seen, "a.test.corp.test"), [LeftOut::SearchSuffix]);
    assert_eq!(left_out(&seen, "once.test"), [LeftOut::SingleRun]);
    assert_eq!(left_out(&seen, "*.evil.test"), [LeftOut::NotAnEndpoint]);
    assert_eq!(
        seen.left_out,
        [
            (LeftOut::SingleRun, 1),
            (LeftOut::SearchSuffix, 1),
            (LeftOut::NotAnEndpoint, 1)
        ]
    );
    let all = Wanted {
        since: Some(days_ago(1)),
        min_runs: 1,
    };
    assert_eq!(
        watched.look_for("org:acme", all).await.endpoints,
        ["a.test:443", "once.test:443"]
    );
    let none = Wanted {
        since: Some(days_ago(-1)),
        min_runs: 1,
    };
    assert_eq!(watched.look_for("org:acme", none).await.endpoints, [""; 0]);
}

pub(crate) async fn what_is_not_reached_is_no_endpoint(bench: Bench) {
    let watched = Watched::new(bench.open().await);
    let mut told: Vec<_> = (0..6).map(|at| reach(1, &format!("n{at}.test"))).collect();
    told[0].kind = Kind::Dns;
    told[1].verdict = Verdict::Refuse;
    told[2].count = 0;
    told[3].rule_source = Some("platform".into());
    told[4].job = None;
    watched.tell(told).await;
    let seen = watched.look("repo:acme/web").await;
    let names: Vec<_> = seen
        .baseline
        .endpoints
        .iter()
        .map(|one| one.endpoint.as_str())
        .collect();
    assert_eq!(names, ["n5.test"]);
    let runs = watched.store.observations("acme", None, 10).await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (
            runs[0].run.as_str(),
            runs[0].job.as_str(),
            runs[0].workflow.as_str()
        ),
        ("1", "build", "ci.yml")
    );
    assert!(
        watched
            .store
            .observations("acme", Some("%"), 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        watched.store.observations("acme", Some("N5"), 10).await.unwrap(),
        runs
    );
}

pub(crate) async fn repeats_are_counted_by_memory_on_every_control_plane(bench: Bench) {
    let (one, two) = (
        Watched::new(bench.open().await),
        Watched::spooled(bench.open().await, "s2"),
    );
    one.runs(1, 5, "a.test").await;
    two.runs(1, 5, "a.test").await;
    one.runs(1, 5, "a.test").await;
    two.runs(1, 6, "a.test").await;
    let count = async |watched: &Watched| {
        let seen = watched.look("repo:acme/web").await;
        (
            seen.baseline.runs,
            endpoint(&seen, "a.test").runs,
            endpoint(&seen, "a.test").calls,
        )
    };
    // What waits in one of the two is added by itself.
    let counts = within("all calls", async || match count(&one).await {
        all @ (6, 6, 21) => Ok(all),
        other => Err(other),
    });
    assert_eq!(counts.await, count(&two).await);
}

pub(crate) async fn what_was_undone_is_not_remembered(bench: Bench) {
    let watched = Watched::new(bench.open().await);
    let lost = watched
        .store
        .events_db()
        .write(|tx| {
            Box::pin(async move {
                sqlx::query("DROP TABLE baselines")
                    .execute(tx.connection())
                    .await?;
                Ok(())
            })
        })
        .await;
    lost.unwrap();
    let entries = vec![(1, reach(1, "a.test").into())];
    let failed = watched
        .store
        .ingest("gw-1", crate::ingest::head(), entries.clone())
        .await;
    assert!(failed.is_err(), "{failed:?}");
    let again = "CREATE TABLE baselines (scope TEXT NOT NULL PRIMARY KEY, runs BIGINT NOT NULL, quiet BIGINT NOT NULL, \
         changed_at BIGINT NOT NULL, stable_at BIGINT NOT NULL, unsettled BIGINT NOT NULL, endpoints BIGINT NOT NULL, \
         strangers BIGINT NOT NULL, dropped BIGINT NOT NULL, last_at BIGINT NOT NULL)";
    watched
        .store
        .events_db()
        .write(move |tx| {
            Box::pin(async move {
                sqlx::query(again).execute(tx.connection()).await?;
                Ok(())
            })
        })
        .await
        .unwrap();
    let stored = watched
        .store
        .ingest("gw-1", crate::ingest::head(), entries)
        .await
        .unwrap();
    assert_eq!(stored.stored, 1);
    let seen = watched.look("repo:acme/web").await;
    assert_eq!((seen.baseline.runs, endpoint(&seen, "a.test").calls), (1, 1));
}

pub(crate) async fn what_nobody_reached_for_long_is_forgotten(bench: Bench) {
    const DAY: Duration = Duration::from_hours(24);
    let watched = Watched::new(bench.open().await);
    let kept = EventRetention {
        events: 25 * DAY,
        rollups: 25 * DAY,
    };
    let mut old = reach(1, "old.test");
    old.time = days_ago(20);
    watched
        .tell(vec![old, reach(2, "new.test"), fork(3, "fork.test")])
        .await;
    assert_eq!(
        watched
            .store
            .clone()
            .keeping(kept)
            .forget_events()
            .await
            .unwrap()
            .observed,
        0
    );
    let kept = EventRetention {
        events: 10 * DAY,
        rollups: 25 * DAY,
    };
    let gone = watched
        .store
        .clone()
        .keeping(kept)
        .forget_events()
        .await
        .unwrap()
        .observed;
    assert_eq!(gone, 2, "that a run was seen, and what it reached");
    assert_eq!(watched.look("repo:acme/web").await.baseline.endpoints.len(), 3);
    let kept = EventRetention {
        events: 10 * DAY,
        rollups: 10 * DAY,
    };
    let gone = watched
        .store
        .clone()
        .keeping(kept)
        .forget_events()
        .await
        .unwrap()
        .observed;
    assert_eq!(gone, 4, "an endpoint in four scopes");
    let seen = watched.look("repo:acme/web").await;
    assert_eq!((seen.baseline.endpoints.len(), seen.baseline.runs), (2, 2));
}

pub(crate) async fn what_is_known_needs_no_look_at_the_tables(bench: Bench) {
    let watched = Watched::new(bench.open().await);
    let mut suffix = reach(1, "a.test.corp.test");
    (suffix.kind, suffix.verdict) = (Kind::Dns, Verdict::Refuse);
    suffix.reason = Some("search-suffix".into());
    let mut refused = reach(1, "b.test");
    (refused.verdict, refused.reason) = (Verdict::Refuse, Some("not-allowed".into()));
    let all = vec![reach(1, "a.test"), fork(2, "a.test"), suffix, refused];
    watched.tell(all.clone()).await;
    let gone = watched.store.events_db().write(|tx| {
        Box::pin(async move {
            sqlx::query("DROP TABLE observations")
                .execute(tx.connection())
                .await?;
            sqlx::query("DROP TABLE baselines")
                .execute(tx.connection())
                .await?;
            sqlx::query("DROP TABLE suffix_names")
                .execute(tx.connection())
                .await?;
            Ok(())
        })
    });
    gone.await.unwrap();
    watched.tell(all.clone()).await;
    let new = vec![(100, reach(3, "a.test").into())];
    let failed = watched.store.ingest("gw-1", crate::ingest::head(), new).await;
    assert!(failed.is_err(), "only what is known needs none: {failed:?}");
    assert_eq!(watched.detections().await[0].3, 2, "it is counted all the same");
}

/// A page of so many endpoints after this one.
fn part(limit: u32, after: Option<String>) -> Shown {
    Shown {
        page: PageRequest { after, limit },
        ..Shown::default()
    }
}

pub(crate) async fn a_baseline_is_shown_in_parts_with_its_calls_by_day(bench: Bench) {
    let watched = Watched::new(bench.open().await);
    let mut told: Vec<_> = (1..=3).map(|run| reach(run, "b.test")).collect();
    told.extend(["a.test", "c_d.test", "d.test"].map(|name| reach(4, name)));
    for event in &mut told[..2] {
        event.time = days_ago(2);
    }
    let mut refused = reach(5, "b.test");
    (refused.verdict, refused.reason) = (Verdict::Refuse, Some("not-allowed".into()));
    told.push(refused);
    watched.tell(told).await;
    let scope: Scope = "repo:acme/web".parse().unwrap();
    let wanted = Wanted::default();
    let whole = watched.look("repo:acme/web").await.baseline;
    assert_eq!((whole.endpoints.len(), whole.endpoints_total), (4, 4));
    let mut walked = Vec::new();
    let mut after = None;
    loop {
        let shown = part(1, after);
        let page = watched
            .store
            .baseline_page(&scope, &wanted, &shown)
            .await
            .unwrap();
        assert_eq!((page.runs, page.endpoints_total), (whole.runs, 4));
        walked.extend(page.endpoints);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(walked, whole.endpoints, "parts are the whole");
    let found = |search: &str| Shown {
        search: Some(search.to_owned()),
        days: 3,
        ..Shown::default()
    };
    let names = async |search: &str| {
        let page = watched
            .store
            .baseline_page(&scope, &wanted, &found(search))
            .await
            .unwrap();
        let names = page.endpoints.into_iter().map(|one| (one.endpoint, one.daily));
        names.collect::<Vec<_>>()
    };
    assert_eq!(
        names("B.T").await,
        [("b.test".to_owned(), vec![2, 0, 1])],
        "what was refused was not reached"
    );
    assert_eq!(
        names("c_").await,
        [("c_d.test".to_owned(), vec![0, 0, 1])],
        "an underscore is one"
    );
    assert_eq!(names("%").await, []);
    let org: Scope = "org:acme".parse().unwrap();
    let page = watched
        .store
        .baseline_page(&org, &wanted, &found("b.test"))
        .await
        .unwrap();
    assert!(
        page.endpoints[0].daily.is_empty(),
        "an organization's calls are not kept by themselves"
    );
    let workflow: Scope = "workflow:Acme/Web/ci.yml".parse().unwrap();
    let page = watched
        .store
        .baseline_page(&workflow, &wanted, &found("b.test"))
        .await
        .unwrap();
    assert_eq!(page.endpoints[0].daily, [2, 0, 1]);
    let wrong = part(1, Some("b.test".to_owned()));
    let refused = watched
        .store
        .baseline_page(&scope, &wanted, &wrong)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, StoreError::Invalid { field: "after", .. }),
        "{refused}"
    );
}

pub(crate) async fn baselines_are_listed_by_scope(bench: Bench) {
    let watched = Watched::new(bench.open().await);
    watched.runs(1, 101, "a.test").await;
    let mut other = reach(200, "b.test");
    change(&mut other, |job| {
        (job.owner, job.repo) = ("acme-labs".into(), "acme-labs/web".into());
    });
    watched.tell(vec![other]).await;
    let list = async |owner: Option<&str>, search: Option<&str>, request: PageRequest| {
        let filter = BaselineFilter {
            owner: owner.map(str::to_owned),
            search: search.map(str::to_owned),
        };
        watched.store.baselines(&filter, &request).await.unwrap()
    };
    let scopes = |page: &tidegate_control::model::Page<tidegate_control::baseline::model::BaselineScope>| {
        page.items.iter().map(|one| one.scope.clone()).collect::<Vec<_>>()
    };
    let all = list(None, None, PageRequest::default()).await;
    assert_eq!(
        scopes(&all),
        [
            "cluster:prod",
            "org:acme",
            "org:acme-labs",
            "repo:acme-labs/web",
            "repo:acme/web",
            "workflow:acme-labs/web/ci.yml",
            "workflow:acme/web/ci.yml"
        ]
    );
    let web = &all.items[4];
    assert_eq!((web.state, web.runs, web.endpoints), (State::Stable, 101, 1));
    assert!(web.last_seen.is_some() && web.stable_at.is_some(), "{web:?}");
    let own = list(Some("Acme"), None, PageRequest::default()).await;
    assert_eq!(
        scopes(&own),
        ["org:acme", "repo:acme/web", "workflow:acme/web/ci.yml"]
    );
    let first = PageRequest {
        after: None,
        limit: 2,
    };
    let first = list(Some("acme"), None, first).await;
    assert_eq!(first.next.as_deref(), Some("repo:acme/web"));
    let rest = PageRequest {
        after: first.next,
        limit: 2,
    };
    assert_eq!(
        scopes(&list(Some("acme"), None, rest).await),
        ["workflow:acme/web/ci.yml"]
    );
    let found = list(None, Some("LABS/web"), PageRequest::default()).await;
    assert_eq!(
        scopes(&found),
        ["repo:acme-labs/web", "workflow:acme-labs/web/ci.yml"]
    );
}
