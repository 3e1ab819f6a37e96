//! What is asked beside the stream: acknowledgements, claims, ends.

use tidegate_control_wire::claim::{Claim, End, EndedBy, Refusal};
use tidegate_control_wire::frame::{Ack, RefusedLease};
use tidegate_control_wire::record::{CredentialKind, Ending, LeaseRecord};
use tidegate_policy::job::{Assurance, JobIdentity};
use tokio::time::Instant;

use super::super::acks::MAX_REFUSED;
use super::super::calls::ClaimError;
use super::*;
use crate::events::{Carrier, ShipError};

fn claim() -> Claim {
    let identity = JobIdentity {
        owner: "acme".into(),
        repo: "acme/web".into(),
        workflow: "ci.yml".into(),
        job: "build".into(),
        run_id: "1".into(),
        run_attempt: 1,
        runner_name: "".into(),
        cluster: "".into(),
        event: "push".into(),
        git_ref: "".into(),
        actor: "".into(),
        head_repo: "".into(),
        assurance: Assurance::Signed,
    };
    Claim {
        lease: LeaseRecord {
            id: "job-1".into(),
            gateway: "gw-1".into(),
            network: "runners".into(),
            sources: vec!["10.0.0.1".parse().unwrap()],
            identity,
            credential: CredentialKind::Oidc,
            token_id: None,
            began: Generation(0),
            started_at: at(0),
            expires_at: at(3_600),
        },
        replaces: Vec::new(),
        proof: None,
        granted: false,
    }
}

fn end() -> End {
    End {
        at: at(1),
        by: EndedBy::Job,
        ending: Ending::Quarantine,
    }
}

/// A scene that is connected, with these answers to what is asked next.
async fn connected(answers: Vec<Answer>) -> (Scene, Line) {
    let (line, answer) = line();
    let mut scene = Scene::new(vec![answer]);
    scene.hello().await;
    line.begin("one", true).await;
    scene.connected().await;
    for answer in answers {
        scene.answers(answer);
    }
    (scene, line)
}

fn said(status: u16, text: &str) -> Answer {
    Answer::Whole(StatusCode::from_u16(status).unwrap(), text.into())
}

fn refused_lease(id: &str) -> RefusedLease {
    RefusedLease {
        id: id.into(),
        reason: "no room".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_put_in_force_is_acknowledged_on_the_same_connection() {
    let (mut scene, _line) = connected(Vec::new()).await;
    scene
        .control
        .acks()
        .add(Generation(7), vec![refused_lease("job-1")]);
    let asked = scene.asked().await;
    assert_eq!(
        (asked.path.as_str(), asked.authorization.as_deref()),
        (ACK_PATH, Some("Bearer tgg_secret"))
    );
    let ack: Ack = serde_json::from_value(asked.body).unwrap();
    assert_eq!(
        (ack.generation, ack.refused),
        (Generation(7), vec![refused_lease("job-1")])
    );
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_that_failed_goes_with_the_next() {
    let (mut scene, _line) = connected(Vec::new()).await;
    scene.plane.acks.lock().push_back(StatusCode::SERVICE_UNAVAILABLE);
    scene
        .control
        .acks()
        .add(Generation(7), vec![refused_lease("job-1")]);
    scene.asked().await;
    scene
        .control
        .acks()
        .add(Generation(8), vec![refused_lease("job-2")]);
    let ack: Ack = serde_json::from_value(scene.asked().await.body).unwrap();
    assert_eq!(ack.generation, Generation(8));
    let mut ids: Vec<&str> = ack.refused.iter().map(|one| one.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["job-1", "job-2"], "no refused lease is forgotten");
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_waits_for_the_connection_and_stays_bounded() {
    let (line, answer) = line();
    let mut scene = Scene::failing(3, vec![answer]);
    for at in 0..MAX_REFUSED + 10 {
        scene
            .control
            .acks()
            .add(Generation(at as u64), vec![refused_lease(&format!("job-{at}"))]);
    }
    line.begin("one", true).await;
    scene.hello().await;
    let ack: Ack = serde_json::from_value(scene.asked().await.body).unwrap();
    assert_eq!(ack.refused.len(), MAX_REFUSED);
    assert_eq!(ack.generation, Generation(MAX_REFUSED as u64 + 9));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_claimed_and_its_end_is_told() {
    let granted = r#"{"began":41,"members":[{"gateway":"gw-2","has_it":true}],"later":"field"}"#;
    let (mut scene, _line) = connected(vec![said(200, granted), said(204, "")]).await;
    let granted = scene.control.claim(&claim()).await.unwrap();
    assert_eq!(granted.began, Generation(41));
    assert!(granted.members[0].has_it);
    let asked = scene.asked().await;
    assert_eq!(asked.path, "/sync/v1/leases");
    assert_eq!(serde_json::from_value::<Claim>(asked.body).unwrap(), claim());
    scene.control.end("job-1", &end()).await.unwrap();
    let asked = scene.asked().await;
    assert_eq!(asked.path, "/sync/v1/leases/job-1/end");
    assert_eq!(serde_json::from_value::<End>(asked.body).unwrap(), end());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_final_and_an_outage_is_not() {
    let problem = |code: &str| format!(r#"{{"title":"no","detail":"because","code":"{code}"}}"#);
    let refused = |code| {
        Err(ClaimError::Refused {
            code,
            detail: "because".into(),
        })
    };
    for (answer, want) in [
        (said(409, &problem("replayed")), refused(Refusal::Replayed)),
        (said(409, &problem("held")), refused(Refusal::Held)),
        (said(403, &problem("token-gone")), refused(Refusal::TokenGone)),
        (said(422, &problem("invalid")), refused(Refusal::Invalid)),
        (said(401, &problem("unauthorized")), Err(ClaimError::Away)),
        (said(403, "forbidden"), Err(ClaimError::Away)),
        (said(429, ""), Err(ClaimError::Away)),
        (said(500, ""), Err(ClaimError::Away)),
        (said(503, ""), Err(ClaimError::Away)),
        (said(200, "no json"), Err(ClaimError::Away)),
    ] {
        let (scene, _line) = connected(vec![answer]).await;
        assert_eq!(scene.control.claim(&claim()).await, want);
    }
    let (scene, _line) = connected(vec![said(404, &problem("something-new"))]).await;
    let ended = scene.control.end("job-1", &end()).await;
    assert!(
        matches!(&ended, Err(ClaimError::Refused { code: Refusal::Invalid, detail }) if detail.contains("404")),
        "asking again would be refused again: {ended:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_control_plane_that_is_away() {
    let scene = Scene::failing(1_000, Vec::new());
    scene.away().await;
    let begun = Instant::now();
    assert_eq!(scene.control.claim(&claim()).await, Err(ClaimError::Away));
    assert_eq!(scene.control.end("job-1", &end()).await, Err(ClaimError::Away));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let (scene, _line) = connected(vec![Answer::Never]).await;
    let begun = Instant::now();
    assert_eq!(scene.control.claim(&claim()).await, Err(ClaimError::Away));
    assert_eq!(
        begun.elapsed().as_secs(),
        2,
        "and two seconds for one that does not answer"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_not_asked_again() {
    let (scene, line) = connected(Vec::new()).await;
    drop(line);
    scene.away().await;
    assert_eq!(scene.control.claim(&claim()).await, Err(ClaimError::Away));
    assert!(scene.plane.answers.lock().is_empty());
}

/// What became of a batch that is answered like this.
async fn shipped(answer: Answer) -> (Result<u64, ShipError>, Asked) {
    let (mut scene, _line) = connected(vec![answer]).await;
    let outcome = scene.control.ship(Bytes::from_static(b"{}")).await;
    (outcome.map(|stored| stored.stored), scene.asked().await)
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_events_goes_over_the_same_connection() {
    let (outcome, asked) = shipped(said(200, r#"{"stored":41,"later":"field"}"#)).await;
    assert_eq!(outcome.unwrap(), 41);
    assert_eq!(
        (asked.path.as_str(), asked.authorization.as_deref()),
        ("/sync/v1/events", Some("Bearer tgg_secret"))
    );
}

#[tokio::test(start_paused = true)]
async fn only_what_is_in_a_batch_is_a_reason_to_give_it_up() {
    for status in [400, 413, 422] {
        let (outcome, _) = shipped(said(status, r#"{"detail":"no"}"#)).await;
        let text = format!("{outcome:?}");
        assert!(
            matches!(outcome, Err(ShipError::Refused(_))) && text.contains("no"),
            "{text}"
        );
    }
    for status in [401, 403, 404, 405, 408, 409, 429, 500, 502, 503, 307] {
        let (outcome, _) = shipped(said(status, "")).await;
        assert!(
            matches!(outcome, Err(ShipError::Later(_))),
            "{status}: {outcome:?}"
        );
    }
    let (outcome, _) = shipped(said(200, "nonsense")).await;
    assert!(matches!(outcome, Err(ShipError::Later(_))), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_holds_a_batch_for_seconds_only() {
    let begun = Instant::now();
    let (outcome, _) = shipped(Answer::Never).await;
    assert!(matches!(outcome, Err(ShipError::Later(_))), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn batches_wait_until_control_is_there() {
    let (line, answer) = line();
    let scene = Scene::failing(3, vec![answer]);
    let away = scene.control.ship(Bytes::from_static(b"{}")).await;
    assert!(matches!(away, Err(ShipError::Later(_))), "{away:?}");
    line.begin("one", true).await;
    timeout(LONG, scene.control.reachable()).await.unwrap();
    assert_eq!(scene.link(), LinkState::Connected);
}
