//! Tests of what one gateway, or a stranger, can do to the others by the sync endpoints.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, BodyDataStream, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::claim::{Claim, End, EndedBy};
use tidegate_control_wire::frame::{Ack, Frame, Hello, Resume, read_line};
use tidegate_control_wire::record::{CredentialKind, Ending, LeaseRecord};
use tidegate_control_wire::secret::Secret;
use tidegate_policy::effective::Generation;
use tidegate_policy::job::{Assurance, JobIdentity};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tower::ServiceExt;

use super::*;
use crate::model::{Actor, NewToken, Role};
use crate::oidc::{Keeper, Pace};

/// Longest wait for something that happens by itself.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Bench {
    pub(super) store: Store,
    hub: Hub,
    pub(super) router: Router,
    _folder: TempDir,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("control.db").display());
        let store = Store::open(&url).await.unwrap();
        let hub = Hub::new(store.clone());
        let (publish, _) = mpsc::channel(1);
        let keeper = Keeper::new(Vec::new(), Vec::new(), Pace::every(PATIENCE), publish).unwrap();
        let state = SyncState::new(store.clone(), hub.clone(), keeper.handle());
        Self {
            router: router(state),
            store,
            hub,
            _folder: folder,
        }
    }

    /// A gateway's token.
    pub(super) async fn token(&self, name: &str) -> String {
        self.token_of(Role::Gateway, name).await
    }

    pub(super) async fn token_of(&self, role: Role, name: &str) -> String {
        let wanted = NewToken {
            role,
            name: name.into(),
            owners: Vec::new(),
            repos: Vec::new(),
            networks: Vec::new(),
            cluster: None,
            expires_at: None,
        };
        let actor = Actor {
            subject: "test".into(),
            token_id: None,
            via: "api".into(),
        };
        let secret = Secret::new(role);
        self.store
            .create_token(&wanted, &secret.digest(), &actor)
            .await
            .unwrap();
        secret.expose().to_owned()
    }

    async fn post(
        &self,
        peer: u8,
        token: &str,
        path: &str,
        body: &impl Serialize,
    ) -> axum::response::Response {
        let peer = SocketAddr::from(([192, 0, 2, peer], 40_000));
        let request = Request::post(path)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::from(serde_json::to_vec(body).unwrap()))
            .unwrap();
        let router = self.router.clone().layer(Extension(ConnectInfo(peer)));
        router.oneshot(request).await.unwrap()
    }

    /// Opens a stream and reads its first frame.
    async fn stream(&self, token: &str, hello: &Hello) -> (BodyDataStream, Frame) {
        let answer = self.post(1, token, STREAM_PATH, hello).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let mut lines = answer.into_body().into_data_stream();
        let line = timeout(PATIENCE, lines.next()).await.unwrap().unwrap().unwrap();
        let frame = read_line(&line).unwrap();
        (lines, frame)
    }
}

pub(super) fn hello(gateway: &str, group: &str) -> Hello {
    Hello {
        protocol: PROTOCOL,
        gateway: gateway.into(),
        group: Some(group.into()),
        version: "0.1.0".into(),
        networks: Vec::new(),
        resume: None,
    }
}

pub(super) fn claim(id: &str, gateway: &str) -> Claim {
    Claim {
        lease: LeaseRecord {
            id: id.into(),
            gateway: gateway.into(),
            network: "runners".into(),
            sources: vec!["10.77.1.2".parse().unwrap()],
            identity: JobIdentity {
                owner: "acme".into(),
                repo: "acme/web".into(),
                workflow: "ci.yml".into(),
                job: "build".into(),
                run_id: "1".into(),
                run_attempt: 1,
                runner_name: "".into(),
                cluster: "".into(),
                event: "".into(),
                git_ref: "".into(),
                actor: "".into(),
                head_repo: "".into(),
                assurance: Assurance::Declared,
            },
            credential: CredentialKind::RunnerToken,
            token_id: None,
            began: Generation(0),
            started_at: Timestamp::now(),
            expires_at: Timestamp::now() + SignedDuration::from_hours(1),
        },
        replaces: Vec::new(),
        proof: None,
        granted: false,
    }
}

fn generation(frame: &Frame) -> Option<Generation> {
    match frame {
        Frame::Commit { generation, .. } | Frame::Ping { generation, .. } => Some(*generation),
        Frame::Begin { .. } | Frame::Change(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_comes_again_ends_its_older_stream() {
    let bench = Bench::new().await;
    let token = bench.token("gw-1").await;
    let (mut first, _) = bench.stream(&token, &hello("gw-1", "a")).await;
    let (mut second, _) = bench.stream(&token, &hello("gw-1", "a")).await;
    let ended = async { while first.next().await.is_some() {} };
    timeout(PATIENCE, ended).await.expect("the first stream ends");
    let mut reached = None;
    while reached.is_none() {
        let line = timeout(PATIENCE, second.next()).await.unwrap();
        reached = generation(&read_line(&line.expect("the second goes on").unwrap()).unwrap());
    }
}

/// Whatever order connections end in, the gateway that is connected is counted.
#[tokio::test]
async fn an_old_connection_that_ends_late_takes_no_seat_away() {
    let bench = Bench::new().await;
    let hello = hello("gw-1", "a");
    let (first, _) = bench.hub.join(&hello, Generation(0));
    let (second, _) = bench.hub.join(&hello, Generation(0));
    drop(second);
    assert_eq!(bench.hub.group("gw-1"), None);
    let (third, _) = bench.hub.join(&hello, Generation(0));
    drop(first);
    assert_eq!(bench.hub.group("gw-1").as_deref(), Some("group:a"));
    drop(third);
    assert_eq!(bench.hub.group("gw-1"), None);
}

/// A job is told "registered" when every live member has it: what a member once had of another store does not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_in_another_stores_history_is_not_in_force_here() {
    let bench = Bench::new().await;
    let (one, two) = (bench.token("gw-1").await, bench.token("gw-2").await);
    let (_own, _) = bench.stream(&one, &hello("gw-1", "a")).await;
    let far = Hello {
        resume: Some(Resume {
            epoch: "epoch_of_another_store/group:a".into(),
            generation: Generation(1_000_000),
        }),
        ..hello("gw-2", "a")
    };
    let (_other, begin) = bench.stream(&two, &far).await;
    assert!(matches!(begin, Frame::Begin { reset: true, .. }), "{begin:?}");
    let claimed = async {
        let answer = bench.post(1, &one, LEASES_PATH, &claim("job_1", "gw-1")).await;
        let body = to_bytes(answer.into_body(), 1 << 16).await.unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()
    };
    let granted = timeout(PATIENCE, claimed).await.unwrap();
    assert_eq!(granted["members"][0]["gateway"], "gw-2", "{granted}");
    assert_eq!(
        granted["members"][0]["has_it"], false,
        "it never acknowledged: {granted}"
    );
    let ack = Ack {
        generation: Generation(1_000_000),
        refused: Vec::new(),
    };
    let answer = bench.post(1, &two, ACK_PATH, &ack).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_tokens_has_to_wait_and_gateways_beside_it_have_not() {
    let bench = Bench::new().await;
    let (known, fresh) = (bench.token("gw-1").await, bench.token("gw-2").await);
    let ack = Ack {
        generation: Generation(0),
        refused: Vec::new(),
    };
    let status = async |peer, token: &str| bench.post(peer, token, ACK_PATH, &ack).await.status();
    assert_eq!(status(1, &known).await, StatusCode::NO_CONTENT);
    let mut limited = None;
    for guess in 0..20 {
        let answer = bench.post(1, &format!("tgg_{guess}"), ACK_PATH, &ack).await;
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            limited = Some((guess, answer.headers()["retry-after"].clone()));
            break;
        }
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    let (guesses, wait) = limited.expect("it is limited");
    assert_eq!((guesses, wait.to_str().unwrap()), (10, "1"));
    assert_eq!(
        status(1, &known).await,
        StatusCode::NO_CONTENT,
        "a token that was good before"
    );
    assert_eq!(status(1, &fresh).await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(status(2, &fresh).await, StatusCode::NO_CONTENT, "another address");
}

/// A gateway tells ends in order; one that can't be told must not keep back what comes after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_another_groups_lease_is_refused_for_good() {
    let bench = Bench::new().await;
    let token = bench.token("gw-1").await;
    let (stream, _) = bench.stream(&token, &hello("gw-1", "a")).await;
    let answer = bench.post(1, &token, LEASES_PATH, &claim("job_1", "gw-1")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    drop(stream);
    let (_moved, _) = bench.stream(&token, &hello("gw-1", "b")).await;
    let end = End {
        at: Timestamp::now(),
        by: EndedBy::Job,
        ending: Ending::Quarantine,
    };
    let path = format!("{LEASES_PATH}/job_1/end");
    let answer = bench.post(1, &token, &path, &end).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let body = to_bytes(answer.into_body(), 1 << 16).await.unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["code"], "invalid", "a word that gateways know: {problem}");
}
