//! Lists of jobs and of living leases.

use tidegate_control::model::PageRequest;
use tidegate_control::store::{JobFilter, LeaseFilter, Store, StoreError};
use tidegate_control_wire::claim::EndedBy;
use tidegate_control_wire::record::Ending;

use crate::bench::Bench;
use crate::fixture::{NASTY, claim, end, in_seconds};

/// Seven jobs, the later the newer; two have ended.
async fn filled(bench: &Bench) -> Store {
    let store = bench.open().await;
    let rows = [
        // id, owner, repository, workflow, run, group, network
        ("job_0", "acme", "web", "ci.yml", "1", "a", "runners"),
        ("job_1", "acme", "web", "ci.yml", "1", "a", "runners"),
        ("job_2", "acme", "api", "ci.yml", "2", "a", "runners"),
        ("job_3", "beta", "web", "release.yml", "3", "a", "pods"),
        ("job_4", "beta", "api", "", "", "b", "runners"),
        ("job_5", "gamma", "x", "ci.yml", "1", "b", "runners"),
        ("job_6", "gamma", "x", "ci.yml", "1", "b", "pods"),
    ];
    for (at, (id, owner, repo, workflow, run, group, network)) in rows.into_iter().enumerate() {
        let mut one = claim(id, &[&format!("10.0.0.{at}"), &format!("fd00::{at}")]);
        let identity = &mut one.lease.identity;
        (identity.owner, identity.repo) = (owner.into(), repo.into());
        (identity.workflow, identity.run_id) = (workflow.into(), run.into());
        one.lease.network = network.into();
        // Two began at the same microsecond: the id decides.
        let second = if at == 1 { 0 } else { i64::try_from(at).unwrap() };
        one.lease.started_at = jiff::Timestamp::from_second(1_700_000_000 + second).unwrap();
        one.lease.expires_at = in_seconds(3_600);
        store.claim(&one, group, "gw-1").await.unwrap();
    }
    for id in ["job_2", "job_6"] {
        assert!(
            store
                .end_job(id, None, &end(EndedBy::Job, Ending::Release))
                .await
                .unwrap()
        );
    }
    store
}

/// Ids of every page.
async fn ids(store: &Store, filter: &JobFilter, limit: u32) -> Vec<String> {
    let mut request = PageRequest { after: None, limit };
    let mut ids = Vec::new();
    loop {
        let page = store.jobs(filter, &request).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        ids.extend(page.items.into_iter().map(|job| job.lease.id.to_string()));
        match page.next {
            Some(next) => request.after = Some(next),
            None => return ids,
        }
    }
}

pub(crate) async fn jobs_are_listed_newest_first_by_what_is_asked(bench: Bench) {
    let store = filled(&bench).await;
    let text = |text: &str| Some(text.to_owned());
    let all = JobFilter::default;
    let rows: [(JobFilter, &[&str]); 11] = [
        (
            all(),
            &["job_6", "job_5", "job_4", "job_3", "job_2", "job_1", "job_0"],
        ),
        (
            JobFilter {
                owner: text("Acme"),
                ..all()
            },
            &["job_2", "job_1", "job_0"],
        ),
        (
            JobFilter {
                repo: text("ACME/web"),
                ..all()
            },
            &["job_1", "job_0"],
        ),
        (
            JobFilter {
                owner: text("beta"),
                repo: text("acme/web"),
                ..all()
            },
            &[],
        ),
        (
            JobFilter {
                workflow: text("release.yml"),
                ..all()
            },
            &["job_3"],
        ),
        (
            JobFilter {
                run_id: text("1"),
                ..all()
            },
            &["job_6", "job_5", "job_1", "job_0"],
        ),
        (
            JobFilter {
                alive: Some(false),
                ..all()
            },
            &["job_6", "job_2"],
        ),
        (
            JobFilter {
                alive: Some(true),
                owner: text("gamma"),
                ..all()
            },
            &["job_5"],
        ),
        (
            JobFilter {
                owners: vec!["beta".into(), "gamma".into()],
                ..all()
            },
            &["job_6", "job_5", "job_4", "job_3"],
        ),
        (
            JobFilter {
                owners: vec!["beta".into()],
                owner: text("acme"),
                ..all()
            },
            &[],
        ),
        (
            JobFilter {
                workflow: text("%"),
                ..all()
            },
            &[],
        ),
    ];
    for (filter, wanted) in rows {
        for limit in [1, 2, 100] {
            assert_eq!(ids(&store, &filter, limit).await, wanted, "{filter:?} by {limit}");
        }
    }
    for nasty in &NASTY[..7] {
        assert!(
            ids(
                &store,
                &JobFilter {
                    repo: text(nasty),
                    ..all()
                },
                10
            )
            .await
            .is_empty()
        );
    }
    let nul = store
        .jobs(
            &JobFilter {
                repo: text("a\0"),
                ..all()
            },
            &PageRequest::default(),
        )
        .await;
    assert!(matches!(nul, Err(StoreError::Invalid { .. })), "{nul:?}");
    for after in ["", "x", "1.", "x.job", "99999999999999999999.job_1", "1.\0"] {
        let request = PageRequest {
            after: text(after),
            limit: 2,
        };
        match store.jobs(&all(), &request).await {
            Ok(page) => assert!(after == "1." && page.items.is_empty(), "{after:?}"),
            Err(StoreError::Invalid { field: "after", .. }) => {}
            Err(other) => panic!("{after:?}: {other:?}"),
        }
    }
    let unknown = store.job("job_x").await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })), "{unknown:?}");
}

pub(crate) async fn leases_are_listed_by_source(bench: Bench) {
    let store = filled(&bench).await;
    let all = LeaseFilter::default;
    let list = async |filter: LeaseFilter| {
        let mut request = PageRequest {
            after: None,
            limit: 3,
        };
        let mut seen = Vec::new();
        loop {
            let page = store.leases(&filter, &request).await.unwrap();
            seen.extend(
                page.items
                    .into_iter()
                    .map(|one| format!("{} {} {}", one.group, one.source, one.job_id)),
            );
            match page.next {
                Some(next) => request.after = Some(next),
                None => return seen,
            }
        }
    };
    assert_eq!(list(all()).await.len(), 10, "the two that ended hold nothing");
    let group = Some("b".to_owned());
    assert_eq!(
        list(LeaseFilter {
            group: group.clone(),
            ..all()
        })
        .await,
        [
            "b 10.0.0.4 job_4",
            "b 10.0.0.5 job_5",
            "b fd00::4 job_4",
            "b fd00::5 job_5"
        ]
    );
    let source = Some("::ffff:10.0.0.1".parse().unwrap());
    assert_eq!(list(LeaseFilter { source, ..all() }).await, ["a 10.0.0.1 job_1"]);
    assert_eq!(
        list(LeaseFilter {
            source,
            group,
            ..all()
        })
        .await,
        Vec::<String>::new()
    );
    let network = Some("pods".to_owned());
    assert_eq!(
        list(LeaseFilter { network, ..all() }).await,
        ["a 10.0.0.3 job_3", "a fd00::3 job_3"]
    );
    let owners = vec!["gamma".to_owned()];
    assert_eq!(
        list(LeaseFilter { owners, ..all() }).await,
        ["b 10.0.0.5 job_5", "b fd00::5 job_5"]
    );

    let job = store
        .lease_at(None, "10.0.0.5".parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((job.group.as_str(), job.lease.id.as_str()), ("b", "job_5"));
    assert_eq!(
        store
            .lease_at(Some("a"), "10.0.0.5".parse().unwrap())
            .await
            .unwrap(),
        None
    );
    let request = PageRequest {
        after: Some("nonsense".into()),
        limit: 3,
    };
    let odd = store.leases(&all(), &request).await;
    assert!(
        matches!(odd, Err(StoreError::Invalid { field: "after", .. })),
        "{odd:?}"
    );
}

pub(crate) async fn jobs_and_leases_are_cut_down_to_networks(bench: Bench) {
    let store = filled(&bench).await;
    let of = |networks: &[&str]| networks.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    let jobs = |networks: &[&str]| JobFilter {
        networks: of(networks),
        ..JobFilter::default()
    };
    assert_eq!(ids(&store, &jobs(&["pods"]), 10).await, ["job_6", "job_3"]);
    assert_eq!(ids(&store, &jobs(&["runners", "pods"]), 10).await.len(), 7);
    assert_eq!(ids(&store, &jobs(&["nothing", "' OR 1=1"]), 10).await, [""; 0]);
    let leases = LeaseFilter {
        networks: of(&["pods"]),
        ..LeaseFilter::default()
    };
    let page = store.leases(&leases, &PageRequest::default()).await.unwrap();
    assert!(
        page.items.iter().all(|one| one.job_id == "job_3"),
        "job_6 has ended: {page:?}"
    );
    assert_eq!(page.items.len(), 2, "one a source");
    let nul = store
        .jobs(&jobs(&["\0"]), &PageRequest::default())
        .await
        .unwrap_err();
    assert!(matches!(nul, StoreError::Invalid { .. }), "{nul:?}");
}

fn with(text: &str) -> JobFilter {
    JobFilter {
        search: Some(text.into()),
        ..JobFilter::default()
    }
}

pub(crate) async fn a_search_folds_the_case_of_every_letter_and_goes_through_pages(bench: Bench) {
    let store = filled(&bench).await;
    let mut one = claim("job_7", &["10.0.0.7"]);
    one.lease.identity.workflow = "Über.yml".into();
    one.lease.started_at = jiff::Timestamp::from_second(1_600_000_000).unwrap();
    one.lease.expires_at = in_seconds(3_600);
    store.claim(&one, "a", "gw-1").await.unwrap();
    for text in ["Über.yml", "über", "ÜBER"] {
        assert_eq!(ids(&store, &with(text), 5).await, ["job_7"], "{text}");
    }
    let runs = store
        .runs(&with("Über.yml"), &PageRequest::default())
        .await
        .unwrap();
    assert_eq!(runs.items.len(), 1);
    let all = ["job_6", "job_5", "job_3", "job_2", "job_1", "job_0"];
    for limit in [1, 2, 5, 6, 7] {
        assert_eq!(ids(&store, &with(".YML"), limit).await[..6], all, "{limit}");
    }
    let ended = JobFilter {
        alive: Some(false),
        ..with("job_")
    };
    assert_eq!(ids(&store, &ended, 1).await, ["job_6", "job_2"]);
    let wrong = PageRequest {
        after: Some("x".into()),
        limit: 1,
    };
    assert!(store.jobs(&with("a"), &wrong).await.is_err());
}

pub(crate) async fn a_search_looks_through_so_many_jobs_a_page(bench: Bench) {
    let store = filled(&bench).await;
    let many = store.db().write(|tx| {
        Box::pin(async move {
            let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99994) \
                INSERT INTO jobs (id, group_name, gateway, network, owner, repo, workflow, job, run_id, assurance, \
                record, began, started_at, expires_at, ended_at) SELECT 'bulk_' || i, group_name, gateway, network, \
                owner, repo, workflow, job, run_id, assurance, record, began, started_at + i, expires_at, expires_at \
                FROM jobs, n WHERE id = 'job_6'";
            sqlx::query(sql).execute(tx.connection()).await?;
            Ok(())
        })
    });
    many.await.unwrap();
    // Six jobs stand before the last of all, 99 994 before them.
    let first = store.jobs(&with("job_0"), &PageRequest::default()).await.unwrap();
    assert_eq!((first.items, first.next.is_some()), (Vec::new(), true));
    let second = PageRequest {
        after: first.next,
        ..PageRequest::default()
    };
    let second = store.jobs(&with("job_0"), &second).await.unwrap();
    assert_eq!((second.items.len(), second.next), (1, None));
}
