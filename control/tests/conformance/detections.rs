//! Detections: what is outside of a stable baseline, what was refused, and what somebody says of it.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tidegate_control::baseline::{DetectionType, LeftOut, Severity, Status};
use tidegate_control::model::PageRequest;
use tidegate_control::store::{DetectionFilter, Said, StoreError, SuppressionDraft};
use tidegate_control_wire::batch::ProcessReport;
use tidegate_control_wire::event::{EventRecord, Process};
use tidegate_policy::event::Kind;
use tidegate_policy::verdict::Verdict;

use crate::bench::{Bench, within};
use crate::fixture::actor;
use crate::watched::{Watched, change, fork, left_out, reach};

const NEW: &str = "New-Outbound-Network-Call";
const BLOCKED: &str = "Domain-Blocked";

/// Of type, endpoint, status and count.
fn told(kind: &str, endpoint: &str, status: &str, count: u64) -> (String, String, String, u64) {
    (kind.into(), endpoint.into(), status.into(), count)
}

async fn stable(bench: &Bench) -> Watched {
    let watched = Watched::new(bench.open().await);
    watched.runs(1, 101, "a.test").await;
    watched
}

fn refused(run: u64, name: &str) -> EventRecord {
    let mut event = reach(run, name);
    (event.verdict, event.reason) = (Verdict::Refuse, Some("not-allowed".into()));
    event
}

fn rule(endpoint: &str) -> SuppressionDraft {
    SuppressionDraft {
        endpoint: endpoint.into(),
        reason: "ours".into(),
        ..SuppressionDraft::default()
    }
}

const fn said(status: Status) -> Said {
    Said {
        status,
        note: None,
        expected: None,
    }
}

pub(crate) async fn a_new_endpoint_of_a_stable_baseline_is_detected_once(bench: Bench) {
    let watched = stable(&bench).await;
    assert_eq!(watched.detections().await, [], "what was new before says nothing");
    watched.runs(200, 1, "evil.test").await;
    watched.runs(200, 1, "evil.test").await;
    watched.runs(201, 2, "evil.test").await;
    let all = watched.detections().await;
    assert_eq!(
        all,
        [told(NEW, "evil.test", "new", 3)],
        "two more runs, not one more detection"
    );
    let one = watched
        .store
        .detection(&watched.detection_of("evil.test").await)
        .await
        .unwrap();
    assert_eq!(
        (one.kind, one.severity),
        (DetectionType::NewOutboundNetworkCall, Severity::Medium)
    );
    assert_eq!(one.job["run_id"], "200");
    assert_eq!(one.evidence["event_id"], "200-evil.test");
    let scopes = json!([
        "cluster:prod",
        "org:acme",
        "repo:acme/web",
        "workflow:acme/web/ci.yml"
    ]);
    assert_eq!(one.evidence["outside"], scopes);
    // However many runs repeat it, it does not become normal.
    let seen = watched.look("repo:acme/web").await;
    assert_eq!(left_out(&seen, "evil.test"), [LeftOut::OpenDetection]);
    assert_eq!(seen.endpoints, ["a.test:443"]);
}

pub(crate) async fn a_rule_of_one_scope_is_not_anothers(bench: Bench) {
    let watched = stable(&bench).await;
    let mut other = reach(300, "b.test");
    change(&mut other, |job| {
        (job.repo, job.cluster) = ("acme/api".into(), "".into());
    });
    watched.tell(vec![other]).await;
    let one = watched
        .store
        .detection(&watched.detection_of("b.test").await)
        .await
        .unwrap();
    assert_eq!(
        one.evidence["outside"],
        json!(["org:acme"]),
        "its own baselines are being created"
    );
    assert_eq!(one.severity, Severity::Low);
}

pub(crate) async fn only_what_is_expected_gets_into_a_baseline(bench: Bench) {
    let watched = stable(&bench).await;
    for name in ["incident.test", "fine.test", "quiet.test"] {
        watched.runs(200, 2, name).await;
    }
    let store = &watched.store;
    let id = async |name| watched.detection_of(name).await;
    let resolved = Said {
        note: Some("removed".into()),
        ..said(Status::Resolved)
    };
    let fine = Said {
        expected: Some(true),
        ..said(Status::Resolved)
    };
    store
        .change_detection(&id("incident.test").await, &resolved, &actor())
        .await
        .unwrap();
    store
        .change_detection(&id("fine.test").await, &fine, &actor())
        .await
        .unwrap();
    let quiet = id("quiet.test").await;
    let changed = store
        .change_detection(&quiet, &said(Status::Suppressed), &actor())
        .await
        .unwrap();
    assert_eq!((changed.status, changed.expected), (Status::Suppressed, true));
    assert_eq!(changed.changed_by.as_deref(), Some("ada"));
    let seen = watched.look("repo:acme/web").await;
    assert_eq!(seen.endpoints, ["a.test:443", "fine.test:443", "quiet.test:443"]);
    assert_eq!(left_out(&seen, "incident.test"), [LeftOut::Unexpected]);
    // What comes again after it was dealt with is told again; what is expected is not.
    for name in ["incident.test", "fine.test", "quiet.test"] {
        watched.runs(202, 1, name).await;
    }
    let all = watched.detections().await;
    assert_eq!(all.len(), 4, "{all:?}");
    assert_eq!(all[3], told(NEW, "incident.test", "new", 1));
    let seen = watched.look("repo:acme/web").await;
    assert_eq!(left_out(&seen, "incident.test"), [LeftOut::OpenDetection]);
    // Taken back.
    store
        .change_detection(&quiet, &said(Status::New), &actor())
        .await
        .unwrap();
    assert_eq!(
        watched.look("repo:acme/web").await.endpoints,
        ["a.test:443", "fine.test:443"]
    );
}

pub(crate) async fn what_was_said_is_in_the_audit_log(bench: Bench) {
    let watched = stable(&bench).await;
    watched.runs(200, 1, "evil.test").await;
    let id = watched.detection_of("evil.test").await;
    let resolved = Said {
        note: Some("a test".into()),
        ..said(Status::Resolved)
    };
    watched
        .store
        .change_detection(&id, &resolved, &actor())
        .await
        .unwrap();
    let log = watched
        .store
        .audit_log(Some("acme"), &PageRequest::default(), true)
        .await
        .unwrap();
    let entry = &log.items[0];
    assert_eq!(
        (entry.action.as_str(), entry.actor.subject.as_str()),
        ("detection.resolved", "ada")
    );
    assert_eq!(entry.target, format!("detection {id}"));
    assert_eq!(
        entry.detail,
        json!({"type": NEW, "from": "new", "to": "resolved", "expected": false, "endpoint": "evil.test", "note": "a test"})
    );
    let wrong = Said {
        note: Some("a\nb".into()),
        ..said(Status::Resolved)
    };
    let refused = watched
        .store
        .change_detection(&id, &wrong, &actor())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, StoreError::Invalid { field: "note", .. }),
        "{refused}"
    );
    let wrong = Said {
        expected: Some(true),
        ..said(Status::New)
    };
    let refused = watched
        .store
        .change_detection(&id, &wrong, &actor())
        .await
        .unwrap_err();
    assert!(
        matches!(
            refused,
            StoreError::Invalid {
                field: "expected",
                ..
            }
        ),
        "{refused}"
    );
    let missing = watched
        .store
        .change_detection("det_x", &resolved, &actor())
        .await
        .unwrap_err();
    assert!(matches!(missing, StoreError::NotFound { .. }), "{missing}");
}

pub(crate) async fn a_refusal_is_detected_once_a_job_and_counted(bench: Bench) {
    let watched = Watched::new(bench.open().await);
    let mut asked = refused(1, "evil.test");
    (asked.kind, asked.port) = (Kind::Dns, 53);
    let mut suffix = refused(1, "a.test.corp.test");
    (suffix.kind, suffix.reason) = (Kind::Dns, Some("search-suffix".into()));
    let mut quic = refused(1, "q.test");
    quic.reason = Some("quic".into());
    watched
        .tell(vec![asked.clone(), asked.clone(), suffix, quic])
        .await;
    asked.count = 5;
    watched.tell(vec![asked.clone()]).await;
    assert_eq!(watched.detections().await, [told(BLOCKED, "evil.test", "new", 7)]);
    change(&mut asked, |job| job.id = "job_2".into());
    watched.tell(vec![asked]).await;
    assert_eq!(watched.detections().await.len(), 2, "another job");
    let of_job = DetectionFilter {
        job: Some("job_2".into()),
        ..DetectionFilter::default()
    };
    let page = watched
        .store
        .detections(&of_job, &PageRequest::default())
        .await
        .unwrap();
    assert_eq!(
        (page.items.len(), &page.items[0].evidence["reason"]),
        (1, &json!("not-allowed"))
    );
}

pub(crate) async fn a_job_has_a_hundred_detections_and_the_last_counts_on(bench: Bench) {
    let watched = Watched::new(bench.open().await);
    let flood = |from: u64, many: u64| {
        (from..from + many)
            .map(|at| refused(1, &format!("n{at}.test")))
            .collect()
    };
    watched.tell(flood(0, 150)).await;
    watched.tell(flood(150, 50)).await;
    watched.tell(vec![refused(2, "other.test")]).await;
    let of_job = DetectionFilter {
        job: Some("job_1".into()),
        ..DetectionFilter::default()
    };
    let page = PageRequest {
        after: None,
        limit: 1_000,
    };
    let all = watched.store.detections(&of_job, &page).await.unwrap().items;
    assert_eq!(all.len(), 100);
    assert_eq!(all[0].evidence["further"], 100, "the newest one");
    assert!(all[1..].iter().all(|one| one.evidence.get("further").is_none()));
    assert_eq!(
        watched
            .store
            .detections(&DetectionFilter::default(), &page)
            .await
            .unwrap()
            .items
            .len(),
        101
    );
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

pub(crate) async fn detections_are_listed_by_what_is_asked_and_paged(bench: Bench) {
    let watched = Watched::new(bench.open().await);
    for at in 0..5 {
        let mut event = refused(at, &format!("n{at}.test"));
        change(&mut event, |job| {
            if at % 2 == 1 {
                (job.owner, job.repo) = ("beta".into(), "beta/x".into());
            }
        });
        watched.tell(vec![event]).await;
    }
    let names = async |filter: DetectionFilter, limit| {
        let mut page = PageRequest { after: None, limit };
        let mut names = Vec::new();
        loop {
            let found = watched.store.detections(&filter, &page).await.unwrap();
            assert!(found.items.len() <= limit as usize);
            names.extend(
                found
                    .items
                    .iter()
                    .map(|one| one.evidence["endpoint"].as_str().unwrap().to_owned()),
            );
            match found.next {
                Some(next) => page.after = Some(next),
                None => return names,
            }
        }
    };
    let all = DetectionFilter::default;
    assert_eq!(
        names(all(), 2).await,
        ["n4.test", "n3.test", "n2.test", "n1.test", "n0.test"]
    );
    let beta = DetectionFilter {
        owners: vec!["Beta".into()],
        ..all()
    };
    assert_eq!(names(beta, 1).await, ["n3.test", "n1.test"]);
    let repo = DetectionFilter {
        repo: Some("acme/web".into()),
        ..all()
    };
    assert_eq!(names(repo, 10).await, ["n4.test", "n2.test", "n0.test"]);
    let kind = DetectionFilter {
        kind: Some(DetectionType::NewOutboundNetworkCall),
        ..all()
    };
    assert_eq!(names(kind, 10).await, [""; 0]);
    let odd = DetectionFilter {
        owner: Some("a\0".into()),
        ..all()
    };
    let refused = watched.store.detections(&odd, &PageRequest::default()).await;
    assert!(matches!(refused, Err(StoreError::Invalid { .. })), "{refused:?}");
}

pub(crate) async fn hostile_names_are_kept_as_text(bench: Bench) {
    let watched = stable(&bench).await;
    for (at, name) in ["<img src=x>", "\\u{1b}[2J", "'; DROP TABLE detections; --", "%_!"]
        .into_iter()
        .enumerate()
    {
        watched.runs(300 + at as u64, 1, name).await;
    }
    let all = watched.detections().await;
    assert_eq!(all.len(), 4, "{all:?}");
    let seen = watched.look("repo:acme/web").await;
    assert_eq!(seen.endpoints, ["a.test:443"]);
    assert!(left_out(&seen, "<img src=x>").contains(&LeftOut::NotAnEndpoint));
}

pub(crate) async fn forks_are_detected_and_unsettle_nothing(bench: Bench) {
    let watched = stable(&bench).await;
    let mut with_secrets = fork(201, "evil.test");
    change(&mut with_secrets, |job| job.event = "pull_request_target".into());
    watched.tell(vec![fork(200, "odd.test"), with_secrets]).await;
    let severity = async |name| {
        let id = watched.detection_of(name).await;
        watched.store.detection(&id).await.unwrap().severity
    };
    assert_eq!(severity("odd.test").await, Severity::Low);
    assert_eq!(
        severity("evil.test").await,
        Severity::High,
        "a fork's code with the repository's secrets"
    );
}
