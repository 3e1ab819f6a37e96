//! Suppression rules: what is expected, so that nobody is told again.

use jiff::{SignedDuration, Timestamp};
use tidegate_control::baseline::Status;
use tidegate_control::model::PageRequest;
use tidegate_control::store::{DetectionFilter, StoreError, SuppressionDraft};
use tidegate_control_wire::batch::ProcessReport;
use tidegate_control_wire::event::Process;

use crate::bench::{Bench, within};
use crate::detections::{BLOCKED, refused, stable, told};
use crate::fixture::actor;
use crate::watched::{Watched, change};

fn rule(endpoint: &str) -> SuppressionDraft {
    SuppressionDraft {
        endpoint: endpoint.into(),
        reason: "ours".into(),
        ..SuppressionDraft::default()
    }
}

pub(crate) async fn a_rule_keeps_what_it_covers_quiet(bench: Bench) {
    let watched = stable(&bench).await;
    watched
        .tell(vec![refused(200, "x.corp.test"), refused(200, "y.corp.test")])
        .await;
    watched.runs(201, 2, "z.corp.test").await;
    let narrow = SuppressionDraft {
        repo: Some("Acme/Web".into()),
        ..rule(" *.corp.test ")
    };
    let (made, covered) = watched.store.add_suppression(&narrow, &actor()).await.unwrap();
    assert_eq!(
        (made.owner.as_deref(), made.repo.as_deref()),
        (Some("acme"), Some("acme/web"))
    );
    assert_eq!(
        (made.endpoint.as_str(), covered),
        ("*.corp.test", 3),
        "what was new already, too"
    );
    watched
        .tell(vec![refused(202, "w.corp.test"), refused(202, "corp.test")])
        .await;
    watched.runs(203, 2, "v.corp.test").await;
    let status = |all: &[(String, String, String, u64)], name: &str| {
        let of = all.iter().find(|one| one.1 == name).unwrap();
        of.2.clone()
    };
    let all = watched.detections().await;
    assert_eq!(status(&all, "w.corp.test"), "suppressed");
    assert_eq!(status(&all, "corp.test"), "new", "the pattern does not name it");
    let one = watched
        .store
        .detection(&watched.detection_of("w.corp.test").await)
        .await
        .unwrap();
    assert_eq!(one.suppression.as_deref(), Some(made.id.as_str()));
    let seen = watched.look("repo:acme/web").await;
    assert_eq!(
        seen.endpoints,
        ["a.test:443", "v.corp.test:443", "z.corp.test:443"],
        "a rule says that it is expected"
    );
    // Another repository's are none of its business; nor is anything after it is gone.
    let mut other = refused(300, "x.corp.test");
    change(&mut other, |job| {
        (job.repo, job.id) = ("acme/api".into(), "job_o".into());
    });
    watched.tell(vec![other]).await;
    watched
        .store
        .remove_suppression(&made.id, &actor())
        .await
        .unwrap();
    watched.tell(vec![refused(301, "x.corp.test")]).await;
    let new = DetectionFilter {
        status: Some(Status::New),
        ..DetectionFilter::default()
    };
    let new = watched
        .store
        .detections(&new, &PageRequest::default())
        .await
        .unwrap()
        .items;
    let jobs: Vec<_> = new.iter().map(|one| one.job["id"].as_str().unwrap()).collect();
    assert_eq!(jobs, ["job_301", "job_o", "job_202"]);
    let log = watched
        .store
        .audit_log(Some("acme"), &PageRequest::default(), true)
        .await
        .unwrap()
        .items;
    let actions: Vec<_> = log.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["suppression.removed", "suppression.added"]);
}

pub(crate) async fn a_rule_with_a_process_covers_what_is_known_of_it(bench: Bench) {
    let watched = Watched::new(bench.open().await);
    let curl = SuppressionDraft {
        process: Some("curl".into()),
        ..rule("*.test")
    };
    watched.store.add_suppression(&curl, &actor()).await.unwrap();
    let report = ProcessReport {
        time: Timestamp::now(),
        job_id: "job_1".into(),
        name: "known.test".into(),
        address: None,
        port: 443,
        process: Process {
            name: "/usr/bin/curl".into(),
            ..Process::default()
        },
    };
    let head = tidegate_control_wire::batch::BatchHead {
        spool: "reports".into(),
        ..crate::ingest::head()
    };
    watched
        .store
        .ingest("gw-1", head, vec![(1, report.into())])
        .await
        .unwrap();
    watched
        .tell(vec![refused(1, "known.test"), refused(1, "unknown.test")])
        .await;
    let mut all = watched.detections().await;
    all.sort();
    let wanted = [
        told(BLOCKED, "known.test", "suppressed", 1),
        told(BLOCKED, "unknown.test", "new", 1),
    ];
    assert_eq!(all, wanted);
}

pub(crate) async fn rules_reach_every_control_plane_and_end_with_their_time(bench: Bench) {
    let (one, two) = (
        Watched::new(bench.open().await),
        Watched::spooled(bench.open().await, "s2"),
    );
    let soon = Timestamp::now() + SignedDuration::from_millis(1_500);
    let brief = SuppressionDraft {
        expires_at: Some(soon),
        ..rule("brief.test")
    };
    one.store.add_suppression(&brief, &actor()).await.unwrap();
    one.store
        .add_suppression(&rule("*.test"), &actor())
        .await
        .unwrap();
    two.tell(vec![refused(1, "x.test")]).await;
    // Stored before it was known there, perhaps: then it is found by itself.
    within("the rule on the other control plane", async || {
        let all = two.detections().await;
        if all[0].2 == "suppressed" {
            Ok(())
        } else {
            Err(all)
        }
    })
    .await;
    two.tell(vec![refused(2, "y.test")]).await;
    let all = two.detections().await;
    assert!(all.iter().all(|one| one.2 == "suppressed"), "{all:?}");
    within("the end of the brief rule", async || {
        if Timestamp::now() > soon {
            Ok(())
        } else {
            Err(soon)
        }
    })
    .await;
    one.store
        .add_suppression(&rule("more.test"), &actor())
        .await
        .unwrap();
    let left = one
        .store
        .suppressions(&[], &PageRequest::default())
        .await
        .unwrap()
        .items;
    let patterns: Vec<_> = left.iter().map(|rule| rule.endpoint.as_str()).collect();
    assert_eq!(patterns, ["more.test", "*.test"]);
}

pub(crate) async fn a_rule_that_makes_no_sense_is_refused_with_its_field(bench: Bench) {
    let store = bench.open().await;
    for (draft, field) in [
        (rule("https://x.test/"), "endpoint"),
        (rule(""), "endpoint"),
        (
            SuppressionDraft {
                reason: " ".into(),
                ..rule("x.test")
            },
            "reason",
        ),
        (
            SuppressionDraft {
                workflow: Some("ci.yml".into()),
                ..rule("x.test")
            },
            "workflow",
        ),
        (
            SuppressionDraft {
                repo: Some("acme".into()),
                ..rule("x.test")
            },
            "repo",
        ),
        (
            SuppressionDraft {
                owner: Some("a/b".into()),
                ..rule("x.test")
            },
            "owner",
        ),
        (
            SuppressionDraft {
                owner: Some("other".into()),
                repo: Some("acme/web".into()),
                ..rule("x.test")
            },
            "repo",
        ),
        (
            SuppressionDraft {
                expires_at: Some(Timestamp::UNIX_EPOCH),
                ..rule("x.test")
            },
            "expires_at",
        ),
        (
            SuppressionDraft {
                process: Some("a\u{1b}".into()),
                ..rule("x.test")
            },
            "process",
        ),
    ] {
        match store.add_suppression(&draft, &actor()).await {
            Err(StoreError::Invalid { field: named, .. }) => assert_eq!(named, field, "{draft:?}"),
            other => panic!("{draft:?}: {other:?}"),
        }
    }
    assert!(
        store
            .suppressions(&[], &PageRequest::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}
