//! Plain things that many tests store.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use tidegate_control::model::{Actor, NewToken, Token};
use tidegate_control::store::{ClaimError, Claimed, Store};
use tidegate_control_wire::claim::{Claim, End, EndedBy, Refusal};
use tidegate_control_wire::record::{CredentialKind, Ending, LeaseRecord};
use tidegate_control_wire::secret::{Role, Secret};
use tidegate_policy::effective::Generation;
use tidegate_policy::job::{Assurance, JobIdentity};

/// Texts that have broken somebody's SQL, JSON or terminal. PostgreSQL can't store the NUL in the last one.
pub(crate) const NASTY: [&str; 8] = [
    "'; DROP TABLE jobs; --",
    "\" OR 1=1",
    "$1",
    "%_!\\",
    "naïve-日本-\u{1f680}",
    "\u{202e}evil",
    "a\u{301}",
    "a\0b",
];

/// Somebody.
pub(crate) fn actor() -> Actor {
    Actor {
        subject: "ada".into(),
        token_id: Some("tok_ada".into()),
        via: "api".into(),
    }
}

/// A moment so many seconds from now.
pub(crate) fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

/// A lease of a job of `acme/web`, from now on for an hour.
pub(crate) fn lease(id: &str, sources: &[&str]) -> LeaseRecord {
    LeaseRecord {
        id: id.into(),
        gateway: "gw-1".into(),
        network: "runners".into(),
        sources: sources.iter().map(|one| one.parse::<IpAddr>().unwrap()).collect(),
        identity: JobIdentity {
            owner: "acme".into(),
            repo: "acme/web".into(),
            workflow: "ci.yml".into(),
            job: "build".into(),
            run_id: "42".into(),
            run_attempt: 1,
            runner_name: "runner-1".into(),
            cluster: "prod".into(),
            event: "push".into(),
            git_ref: "refs/heads/main".into(),
            actor: "ada".into(),
            head_repo: "".into(),
            assurance: Assurance::Declared,
        },
        credential: CredentialKind::RunnerToken,
        token_id: None,
        began: Generation(0),
        started_at: Timestamp::now(),
        expires_at: in_seconds(3_600),
    }
}

/// A claim of that lease.
pub(crate) fn claim(id: &str, sources: &[&str]) -> Claim {
    Claim {
        lease: lease(id, sources),
        replaces: Vec::new(),
        proof: None,
        granted: false,
    }
}

/// Claims for gateway `gw-1` of group `a`.
pub(crate) async fn claimed(store: &Store, claim: &Claim) -> Claimed {
    store.claim(claim, "a", "gw-1").await.unwrap()
}

/// Which rule refused a claim, and with which words.
pub(crate) fn refused(outcome: Result<Claimed, ClaimError>) -> (Refusal, String) {
    match outcome {
        Ok(claimed) => panic!("not refused: {claimed:?}"),
        Err(ClaimError::Store(error)) => panic!("the store failed: {}", error.chain()),
        Err(ClaimError::Refused { code, detail }) => (code, detail),
    }
}

/// The end of a job, now.
pub(crate) fn end(by: EndedBy, ending: Ending) -> End {
    End {
        at: Timestamp::now(),
        by,
        ending,
    }
}

/// A token of a role, with the limits that the role needs.
pub(crate) fn wanted(role: Role) -> NewToken {
    NewToken {
        role,
        name: format!("a-{role}"),
        owners: if role == Role::Runner {
            vec!["acme".into()]
        } else {
            Vec::new()
        },
        repos: Vec::new(),
        networks: Vec::new(),
        cluster: None,
        expires_at: None,
    }
}

/// Makes a token and records it.
pub(crate) async fn token(store: &Store, wanted: &NewToken) -> (Secret, Token) {
    let secret = Secret::new(wanted.role);
    let token = store
        .create_token(wanted, &secret.digest(), &actor())
        .await
        .unwrap();
    (secret, token)
}
