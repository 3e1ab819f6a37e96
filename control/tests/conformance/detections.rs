//! Detections: what is outside of a stable baseline, what was refused, and what somebody says of it.

use serde_json::json;
use tidegate_control::baseline::{DetectionType, LeftOut, Severity, Status};
use tidegate_control::model::PageRequest;
use tidegate_control::store::{DetectionFilter, Said, StoreError, SuppressionDraft};
use tidegate_control_wire::event::EventRecord;
use tidegate_policy::event::Kind;
use tidegate_policy::verdict::Verdict;

use crate::bench::Bench;
use crate::fixture::actor;
use crate::watched::{Watched, change, fork, left_out, reach};

const NEW: &str = "New-Outbound-Network-Call";
pub(crate) const BLOCKED: &str = "Domain-Blocked";

/// Of type, endpoint, status and count.
pub(crate) fn told(kind: &str, endpoint: &str, status: &str, count: u64) -> (String, String, String, u64) {
    (kind.into(), endpoint.into(), status.into(), count)
}

pub(crate) async fn stable(bench: &Bench) -> Watched {
    let watched = Watched::new(bench.open().await);
    watched.runs(1, 101, "a.test").await;
    watched
}

pub(crate) fn refused(run: u64, name: &str) -> EventRecord {
    let mut event = reach(run, name);
    (event.verdict, event.reason) = (Verdict::Refuse, Some("not-allowed".into()));
    event
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

/// A job chooses what it is refused, and so which detection is its last: nothing else hides behind that one.
pub(crate) async fn a_flood_that_a_rule_covers_hides_no_new_endpoint(bench: Bench) {
    let watched = stable(&bench).await;
    let rule = SuppressionDraft {
        endpoint: "*.noise.test".into(),
        reason: "noise".into(),
        ..SuppressionDraft::default()
    };
    watched.store.add_suppression(&rule, &actor()).await.unwrap();
    let noise = (0..100).map(|at| refused(200, &format!("n{at}.noise.test")));
    watched.tell(noise.collect()).await;
    watched.runs(200, 1, "evil.test").await;
    watched.runs(201, 1, "evil.test").await;
    let new = DetectionFilter {
        status: Some(Status::New),
        ..DetectionFilter::default()
    };
    let page = PageRequest {
        after: None,
        limit: 1_000,
    };
    let open = watched.store.detections(&new, &page).await.unwrap().items;
    let told: Vec<_> = open.iter().map(|one| &one.evidence["endpoint"]).collect();
    assert_eq!(told, ["evil.test"]);
    // The same of new endpoints among themselves.
    let many = (0..=100).map(|at| reach(300, &format!("e{at}.test")));
    watched.tell(many.collect()).await;
    for one in watched.store.detections(&new, &page).await.unwrap().items {
        watched
            .store
            .change_detection(&one.id, &said(Status::Suppressed), &actor())
            .await
            .unwrap();
    }
    let seen = watched.look("repo:acme/web").await;
    let open = seen.baseline.endpoints.iter();
    let open = open.filter(|one| one.left_out.contains(&LeftOut::OpenDetection));
    assert_eq!(open.count(), 1, "what nobody was told of nobody has accepted");
}

pub(crate) async fn counts_of_nonsense_stand_before_no_others(bench: Bench) {
    let watched = stable(&bench).await;
    let mut huge = refused(200, "evil.test");
    huge.count = u64::MAX;
    let mut reached = reach(1, "a.test");
    reached.count = u64::MAX;
    for _ in 0..2 {
        watched.tell(vec![huge.clone(), reached.clone()]).await;
        watched.detections().await;
    }
    let most = 1 << 53;
    assert_eq!(
        watched.detections().await,
        [told(BLOCKED, "evil.test", "new", most)]
    );
    assert_eq!(
        watched.look("repo:acme/web").await.baseline.endpoints[0].calls,
        most
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
