//! Leases that were granted while control was away: by what right they stand when it hears of them.

use tidegate_control::store::Store;
use tidegate_control_wire::claim::{Claim, EndedBy, OnceProof, Refusal};
use tidegate_control_wire::record::CredentialKind;
use tidegate_policy::effective::Generation;
use tidegate_policy::job::Assurance;

use crate::bench::Bench;
use crate::fixture::{claim, claimed, in_seconds, refused};

fn once(key: &str, seconds: i64) -> OnceProof {
    OnceProof {
        issuer: "https://issuer.example".into(),
        key: key.into(),
        expires_at: in_seconds(seconds),
    }
}

/// A claim of something that was granted so many seconds from now.
fn away(id: &str, source: &str, assurance: Assurance, started: i64) -> Claim {
    let mut one = claim(id, &[source]);
    one.granted = true;
    one.lease.started_at = in_seconds(started);
    one.lease.identity.assurance = assurance;
    if assurance == Assurance::Claimed {
        one.lease.credential = CredentialKind::Claimed;
    }
    one
}

async fn holder(store: &Store, source: &str) -> Option<String> {
    let job = store.lease_at(Some("a"), source.parse().unwrap()).await.unwrap();
    job.map(|job| job.lease.id.to_string())
}

/// "Registering over a held one is refused, except by a stronger assurance": a job that is known well can't become one
/// that is known less by asking a gateway that does not know it.
pub(crate) async fn who_is_known_less_replaces_nobody_however_new(bench: Bench) {
    let store = bench.open().await;
    let known = [Assurance::Claimed, Assurance::Declared, Assurance::Signed];
    for (at, held) in known.into_iter().enumerate() {
        for (by, later) in known.into_iter().enumerate() {
            let source = format!("10.0.{at}.{by}");
            let (first, second) = (format!("job_{at}_{by}_a"), format!("job_{at}_{by}_b"));
            assert!(claimed(&store, &away(&first, &source, held, -30)).await.stands);
            let outcome = claimed(&store, &away(&second, &source, later, -10)).await;
            assert_eq!(outcome.stands, later >= held, "{later:?} over {held:?}");
            let stays = if later >= held {
                first.clone()
            } else {
                second.clone()
            };
            let lost = store.job(&stays).await.unwrap();
            assert_eq!(lost.ended_by, Some(EndedBy::Replaced), "{later:?} over {held:?}");
            let holds = if later >= held { second } else { first };
            assert_eq!(
                holder(&store, &source).await,
                Some(holds),
                "{later:?} over {held:?}"
            );
        }
    }
    // One that is known better but older does not come back from the dead: its end may still be on its way.
    assert!(
        claimed(&store, &away("job_new", "10.1.0.1", Assurance::Declared, -10))
            .await
            .stands
    );
    assert!(
        !claimed(&store, &away("job_old", "10.1.0.1", Assurance::Signed, -30))
            .await
            .stands
    );
    // Its gateway saw that the other one was gone.
    let mut replacing = away("job_next", "10.0.2.2", Assurance::Declared, -5);
    replacing.replaces = vec!["job_2_2_b".into()];
    assert!(claimed(&store, &replacing).await.stands);
}

pub(crate) async fn a_spent_proof_makes_no_second_job_though_nobody_could_be_asked(bench: Bench) {
    let store = bench.open().await;
    let mut first = claim("job_1", &["10.0.0.1"]);
    first.proof = Some(once("jti", 600));
    claimed(&store, &first).await;
    let mut second = away("job_2", "10.0.0.2", Assurance::Signed, -5);
    second.proof = Some(once("jti", 600));
    assert!(!claimed(&store, &second).await.stands);
    assert_eq!(holder(&store, "10.0.0.2").await, None);
    let job = store.job("job_2").await.unwrap();
    assert_eq!(
        job.ended_by,
        Some(EndedBy::Replaced),
        "it is on record all the same"
    );
    assert_eq!(holder(&store, "10.0.0.1").await.as_deref(), Some("job_1"));
    // The same job once more, by its gateway's word.
    let mut again = away("job_3", "10.0.0.1", Assurance::Signed, -1);
    again.proof = Some(once("jti", 600));
    again.replaces = vec!["job_1".into()];
    assert!(claimed(&store, &again).await.stands);
}

/// Used proofs are remembered until they expire; a gateway whose clock is behind must not make one good again.
pub(crate) async fn a_proof_that_control_forgets_by_now_registers_nothing(bench: Bench) {
    let store = bench.open().await;
    let mut late = claim("job_1", &["10.0.0.1"]);
    late.proof = Some(once("jti", -1));
    let (code, detail) = refused(store.claim(&late, "a", "gw-1").await);
    assert_eq!(code, Refusal::TokenGone, "{detail}");
    assert!(detail.contains("clocks"), "{detail}");
    assert_eq!(store.db().newest().borrow().0, 0, "nothing was stored");
}

/// `apply: next-job`: a job that began before a version was published is not governed by it, also when control hears of
/// the job afterwards.
pub(crate) async fn what_was_granted_began_where_its_gateway_stood(bench: Bench) {
    let store = bench.open().await;
    claimed(&store, &claim("job_1", &["10.0.0.1"])).await;
    let newest = claimed(&store, &claim("job_2", &["10.0.0.2"])).await.generation;
    for (id, source, stood) in [("job_3", "10.0.0.3", 1), ("job_4", "10.0.0.4", 1_000_000)] {
        let mut one = away(id, source, Assurance::Declared, -5);
        one.lease.began = Generation(stood);
        let outcome = claimed(&store, &one).await;
        assert!(outcome.generation > newest);
        let began = Generation(stood).min(outcome.generation);
        assert_eq!(outcome.record.began, began, "never later than now");
        assert_eq!(store.job(id).await.unwrap().lease.began, began);
    }
    let mut asked = claim("job_5", &["10.0.0.5"]);
    asked.lease.began = Generation(1);
    let outcome = claimed(&store, &asked).await;
    assert_eq!(outcome.record.began, outcome.generation, "who asks begins now");
}
