//! Shows the poller against a server: deltas, tags, replaced files, rollbacks, a store that fails.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::body::Body;
use axum::http::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::DropGuard;

use super::*;
use crate::fetch::server::{Asked, Server, answer};

const QUICK: Pace = Pace {
    interval: Duration::from_millis(20),
    retry: Duration::from_millis(10),
    hurried: Duration::from_millis(5),
};

/// A publisher: each serial adds the name `nSERIAL.example`.
struct Publisher {
    pair: Ed25519KeyPair,
    serial: u64,
    /// Oldest serial that deltas are made from; `None` for a plain file server.
    deltas_from: Option<u64>,
    /// So many more signatures are those of something else.
    bad_signatures: u32,
    /// Answers requests for the whole feed with a delta, too.
    only_deltas: bool,
}

type Shared = Arc<Mutex<Publisher>>;

impl Publisher {
    fn document(&self, target: &str) -> String {
        let since = target
            .split_once("since=")
            .map(|(_, serial)| serial.parse::<u64>().unwrap());
        let since = since.filter(|since| self.deltas_from.is_some_and(|from| *since >= from));
        let since = if self.only_deltas { Some(0) } else { since };
        let first = since.map_or(1, |since| since + 1);
        let add: Vec<_> = (first..=self.serial)
            .map(|serial| json!({"pattern": format!("n{serial}.example"), "reason": "test"}))
            .collect();
        let mut document = json!({
            "format": 1, "serial": self.serial, "date": "2026-03-01T00:00:00Z", "add": add
        });
        if let Some(since) = since {
            document["since"] = json!(since);
        }
        document.to_string()
    }

    fn answer(&mut self, asked: &Asked) -> Response<Body> {
        let tag = format!("\"{}\"", self.serial);
        let document = self.document(&asked.target);
        if asked.target.contains(".sig") {
            let other = self.bad_signatures > 0;
            self.bad_signatures = self.bad_signatures.saturating_sub(1);
            let bytes = if other { b"other" } else { document.as_bytes() };
            return answer(200, STANDARD.encode(self.pair.sign(bytes)));
        }
        if asked.known.as_ref() == Some(&tag) {
            return answer(304, Body::empty());
        }
        let mut answer = answer(200, document);
        answer.headers_mut().insert("etag", tag.parse().unwrap());
        answer
    }
}

struct Running {
    server: Server,
    publisher: Shared,
    updates: mpsc::Receiver<Delivery>,
    state: watch::Receiver<FeedState>,
    _stop: DropGuard,
}

async fn publisher(serial: u64, deltas_from: Option<u64>) -> (Server, Shared) {
    let publisher = Arc::new(Mutex::new(Publisher {
        pair: Ed25519KeyPair::generate().unwrap(),
        serial,
        deltas_from,
        bad_signatures: 0,
        only_deltas: false,
    }));
    let answers = publisher.clone();
    let server = Server::new(move |asked| answers.lock().answer(asked)).await;
    (server, publisher)
}

/// A publisher for tests of what becomes of its updates.
pub(crate) struct Published {
    server: Server,
    publisher: Shared,
}

impl Published {
    /// Names up to `n<serial>.example`, and deltas between any two serials.
    pub(crate) async fn new(serial: u64) -> Self {
        let (server, publisher) = publisher(serial, Some(0)).await;
        Self { server, publisher }
    }

    /// How it is followed.
    pub(crate) fn config(&self) -> FeedConfig {
        config_of(&self.server, &self.publisher)
    }

    /// Publishes the names up to another serial.
    pub(crate) fn advance(&self, serial: u64) {
        self.publisher.lock().serial = serial;
    }

    /// What it was asked.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.server.targets()
    }
}

async fn run(serial: u64, deltas_from: Option<u64>, known: Known) -> Running {
    let (server, publisher) = publisher(serial, deltas_from).await;
    start(server, publisher, known)
}

fn config_of(server: &Server, publisher: &Shared) -> FeedConfig {
    let public_key = STANDARD.encode(publisher.lock().pair.public_key().as_ref());
    FeedConfig {
        url: format!("{}/block.json", server.url),
        public_key: public_key.parse().unwrap(),
        interval: Duration::from_hours(1),
        ca: None,
    }
}

fn start(server: Server, publisher: Shared, known: Known) -> Running {
    let config = config_of(&server, &publisher);
    let (deliver, updates) = mpsc::channel(1);
    let poller = Poller::new(config, known, QUICK, deliver).unwrap();
    let state = poller.watch();
    let stop = CancellationToken::new();
    tokio::spawn(poller.run(stop.clone()));
    Running {
        server,
        publisher,
        updates,
        state,
        _stop: stop.drop_guard(),
    }
}

fn at(serial: u64) -> Known {
    Known {
        serial: Some(serial),
        date: None,
        checked: None,
    }
}

impl Running {
    /// The next update, taken into the store.
    async fn stored(&mut self) -> FeedUpdate {
        let delivery = self.delivery().await;
        delivery.stored.send(()).unwrap();
        delivery.update
    }

    async fn delivery(&mut self) -> Delivery {
        let next = tokio::time::timeout(Duration::from_secs(20), self.updates.recv()).await;
        next.unwrap_or_else(|_| panic!("no update; last state: {:?}", self.state.borrow().clone()))
            .unwrap()
    }

    async fn until(&mut self, reached: impl Fn(&FeedState) -> bool) -> FeedState {
        let wait = self.state.wait_for(|state| reached(state));
        if let Ok(state) = tokio::time::timeout(Duration::from_secs(20), wait).await {
            return state.unwrap().clone();
        }
        panic!("never reached; last state: {:?}", self.state.borrow().clone());
    }

    async fn until_failed(&mut self, reason: &str) -> FeedState {
        let failed = |state: &FeedState| state.error.as_ref().is_some_and(|error| error.contains(reason));
        self.until(failed).await
    }
}

fn names(update: &FeedUpdate) -> Vec<&str> {
    update.add.iter().map(|one| one.pattern.as_str()).collect()
}

#[tokio::test]
async fn the_whole_feed_first_and_then_deltas() {
    let mut running = run(2, Some(0), Known::default()).await;
    let first = running.stored().await;
    assert!(first.full);
    assert_eq!(names(&first), ["n1.example", "n2.example"]);
    running.publisher.lock().serial = 4;
    let second = running.stored().await;
    assert_eq!((second.full, second.serial), (false, 4));
    assert_eq!(names(&second), ["n3.example", "n4.example"]);
    let state = running.until(|state| state.known.serial == Some(4)).await;
    assert_eq!(state.known.date.unwrap().to_string(), "2026-03-01T00:00:00Z");
    let targets = running.server.targets();
    assert_eq!(targets[..2], ["/block.json", "/block.json.sig"]);
    assert!(
        targets.iter().any(|target| target == "/block.json.sig?since=2"),
        "{targets:?}"
    );
}

#[tokio::test]
async fn a_plain_file_server_will_do_and_is_asked_by_tag() {
    let mut running = run(1, None, Known::default()).await;
    running.stored().await;
    let attempts = running.state.borrow().attempts;
    running.until(|state| state.attempts > attempts + 3).await;
    let asked = running.server.asked.lock().clone();
    let later: Vec<_> = asked
        .iter()
        .filter(|one| one.target == "/block.json?since=1")
        .collect();
    assert!(later.len() >= 3, "{asked:?}");
    assert!(
        later.iter().all(|one| one.known.as_deref() == Some("\"1\"")),
        "{asked:?}"
    );
    // Unchanged, so nobody needs a signature.
    assert_eq!(asked.iter().filter(|one| one.target.contains(".sig")).count(), 1);
    assert!(running.updates.is_empty());

    running.publisher.lock().serial = 2;
    let update = running.stored().await;
    assert!(update.full);
    assert_eq!(names(&update), ["n1.example", "n2.example"]);
}

#[tokio::test]
async fn a_restart_goes_on_from_the_store() {
    let mut running = run(5, Some(0), at(3)).await;
    let update = running.stored().await;
    assert!(!update.full);
    assert_eq!(names(&update), ["n4.example", "n5.example"]);
    assert_eq!(running.server.targets()[0], "/block.json?since=3");
}

#[tokio::test]
async fn a_delta_that_does_not_continue_is_followed_by_the_whole_feed() {
    let (server, publisher) = publisher(5, None).await;
    publisher.lock().only_deltas = true;
    let mut running = start(server, publisher, at(3));
    running
        .until_failed("answers a request for the whole feed with a delta")
        .await;
    assert!(running.updates.is_empty());
    let targets = running.server.targets();
    assert_eq!(
        targets[..3],
        ["/block.json?since=3", "/block.json.sig?since=3", "/block.json"]
    );
    running.publisher.lock().only_deltas = false;
    let update = running.stored().await;
    assert!(update.full);
    assert_eq!(update.serial, 5);
}

#[tokio::test]
async fn a_rolled_back_feed_changes_nothing() {
    let mut running = run(2, Some(0), at(9)).await;
    let state = running.until_failed("serial 2, and 9 is in force").await;
    assert_eq!(state.known, at(9));
    running.until(|state| state.failures >= 2).await;
    assert!(running.updates.is_empty());
    running.publisher.lock().serial = 10;
    assert_eq!(names(&running.stored().await), ["n10.example"]);
    let state = running
        .until(|state| state.error.is_none() && state.known.serial == Some(10))
        .await;
    assert_eq!(state.failures, 0);
}

#[tokio::test]
async fn files_that_are_replaced_meanwhile_are_fetched_again() {
    let (server, publisher) = publisher(1, None).await;
    publisher.lock().bad_signatures = ATTEMPTS - 1;
    let mut running = start(server, publisher, Known::default());
    assert_eq!(running.stored().await.serial, 1);
    assert_eq!(running.state.borrow().failures, 0);
}

#[tokio::test]
async fn a_wrong_signature_is_an_error_after_a_few_attempts() {
    let (server, publisher) = publisher(1, None).await;
    publisher.lock().bad_signatures = u32::MAX;
    let mut running = start(server, publisher, Known::default());
    running.until_failed("the signature does not fit").await;
    assert!(running.updates.is_empty());
    assert_eq!(running.state.borrow().known, Known::default());
    let signatures = running
        .server
        .targets()
        .iter()
        .filter(|one| one.contains(".sig"))
        .count();
    assert!(signatures >= ATTEMPTS as usize, "{signatures}");
}

#[tokio::test]
async fn an_update_that_was_not_stored_comes_again() {
    let mut running = run(3, Some(0), at(1)).await;
    let lost = running.delivery().await;
    assert_eq!(names(&lost.update), ["n2.example", "n3.example"]);
    drop(lost);
    running.until_failed("serial 3 could not be stored").await;
    assert_eq!(running.state.borrow().known.serial, Some(1));
    assert_eq!(names(&running.stored().await), ["n2.example", "n3.example"]);
    running.until(|state| state.known.serial == Some(3)).await;
}

#[tokio::test]
async fn the_age_grows_from_the_last_good_answer() {
    let (server, publisher) = publisher(1, None).await;
    let stored = Known {
        checked: Some("2026-03-01T00:00:00Z".parse().unwrap()),
        ..at(1)
    };
    let mut running = start(server, publisher, stored);
    let seen = running.until(|state| state.attempts > 0).await;
    let checked = seen.known.checked.unwrap();
    assert!(checked > stored.checked.unwrap());
    let later = |seconds| Timestamp::from_second(checked.as_second() + seconds).unwrap();
    assert_eq!(seen.age_seconds(later(90)), Some(90));
    assert_eq!(seen.age_seconds(later(-5)), Some(0), "the clock was set back");
    assert_eq!(FeedState::default().age_seconds(later(0)), None);

    running.publisher.lock().bad_signatures = u32::MAX;
    running.publisher.lock().serial = 2;
    let failed = running.until_failed("signature").await;
    let still = running.until(|state| state.attempts > failed.attempts).await;
    assert_eq!(still.known.checked, failed.known.checked);
}

#[tokio::test]
async fn it_stops_when_nobody_takes_updates() {
    let (server, publisher) = publisher(1, None).await;
    let config = config_of(&server, &publisher);
    let (deliver, updates) = mpsc::channel(1);
    let poller = Poller::new(config, Known::default(), QUICK, deliver).unwrap();
    drop(updates);
    let run = poller.run(CancellationToken::new());
    tokio::time::timeout(Duration::from_secs(20), run)
        .await
        .expect("it stops");
}
