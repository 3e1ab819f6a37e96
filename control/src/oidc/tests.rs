//! Shows that keys are found, followed and kept, and what is not believed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use axum::body::Body;
use axum::http::Response;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::fetch::server::{Server, answer, moved};

const QUICK: Pace = Pace {
    interval: Duration::from_millis(20),
    retry: Duration::from_millis(5),
    hurried: Duration::from_millis(5),
};

/// The first attempt, and then nothing for longer than any test.
const SLOW: Pace = Pace {
    interval: Duration::from_hours(1),
    retry: Duration::from_hours(1),
    hurried: Duration::from_millis(5),
};

/// A key of P-256 by name; the point is the example of RFC 7517, appendix A.1.
fn key(kid: &str) -> Value {
    json!({
        "kty": "EC", "crv": "P-256", "kid": kid, "use": "sig",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
    })
}

/// What the issuer answers at each path; `URL` stands for its own.
#[derive(Default)]
struct World {
    url: String,
    description: String,
    keys: String,
}

type Shared = Arc<Mutex<World>>;

async fn issuer() -> (Server, Shared) {
    let world = Shared::default();
    let answers = world.clone();
    let server = Server::new(move |asked| respond(&answers.lock(), &asked.target)).await;
    *world.lock() = World {
        url: server.url.clone(),
        description: json!({"issuer": "URL", "jwks_uri": "URL/keys", "more": [1]}).to_string(),
        keys: json!({"keys": [key("first")]}).to_string(),
    };
    (server, world)
}

fn respond(world: &World, target: &str) -> Response<Body> {
    match target {
        "/.well-known/openid-configuration" => answer(200, world.description.replace("URL", &world.url)),
        "/keys" if world.keys == "moved" => moved("http://keys.forge.example/"),
        "/keys" => answer(200, world.keys.clone()),
        _ => answer(404, ""),
    }
}

fn config(issuer: &str) -> OidcConfig {
    OidcConfig {
        issuer: issuer.into(),
        audience: "tidegate".into(),
        owners: Vec::new(),
        ca: None,
    }
}

struct Running {
    handle: Handle,
    sets: mpsc::Receiver<Issuer>,
    state: watch::Receiver<IssuerState>,
    _stop: tokio_util::sync::DropGuard,
}

fn keep(issuer: &str, known: Vec<Issuer>, pace: Pace) -> Running {
    let (publish, sets) = mpsc::channel(4);
    let keeper = Keeper::new(vec![config(issuer)], known, pace, publish).unwrap();
    let handle = keeper.handle();
    let stop = CancellationToken::new();
    tokio::spawn(keeper.run(stop.clone()));
    Running {
        state: handle.watch(issuer).unwrap(),
        handle,
        sets,
        _stop: stop.drop_guard(),
    }
}

impl Running {
    async fn until(&mut self, reached: impl Fn(&IssuerState) -> bool) -> IssuerState {
        let wait = self.state.wait_for(|state| reached(state));
        if let Ok(state) = tokio::time::timeout(Duration::from_secs(20), wait).await {
            return state.unwrap().clone();
        }
        panic!("never reached; last state: {:?}", self.state.borrow().clone());
    }

    async fn next_set(&mut self) -> Issuer {
        let next = tokio::time::timeout(Duration::from_secs(20), self.sets.recv()).await;
        next.unwrap_or_else(|_| panic!("no set; last state: {:?}", self.state.borrow().clone()))
            .unwrap()
    }
}

fn names(issuer: &Issuer) -> Vec<&str> {
    let keys = issuer.jwks.keys.iter();
    keys.filter_map(|key| key.common.key_id.as_deref()).collect()
}

#[tokio::test]
async fn each_changed_set_is_published_once() {
    let (server, world) = issuer().await;
    let mut running = keep(&server.url, Vec::new(), QUICK);
    let first = running.next_set().await;
    assert_eq!(
        (first.issuer.as_str(), first.audience.as_str()),
        (&*server.url, "tidegate")
    );
    assert_eq!(names(&first), ["first"]);
    let seen = running.until(|state| state.attempts >= 4).await;
    assert!(seen.error.is_none() && seen.fetched.is_some(), "{seen:?}");
    assert!(running.sets.is_empty(), "the same set came again");

    // A strange key and a symmetric one beside a new one.
    let strange = json!({"kty": "PQC", "kid": 7});
    let secret = json!({"kty": "oct", "kid": "s", "k": "c2VjcmV0"});
    world.lock().keys = json!({"keys": [strange, key("first"), secret, key("second")]}).to_string();
    assert_eq!(names(&running.next_set().await), ["first", "second"]);
    assert_eq!(running.handle.states()[0].keys, 2);
}

#[tokio::test]
async fn the_last_good_set_stays_when_the_issuer_fails() {
    let (server, world) = issuer().await;
    let mut running = keep(&server.url, Vec::new(), QUICK);
    running.next_set().await;
    let good = json!({"issuer": "URL", "jwks_uri": "URL/keys"}).to_string();
    for (description, keys, reason) in [
        ("<html>", "", "its description can't be read"),
        (
            r#"{"issuer": "https://evil.example", "jwks_uri": "URL/keys"}"#,
            "",
            "calls itself \"https://evil.example\"",
        ),
        (
            r#"{"issuer": "URL", "jwks_uri": "http://keys.forge.example/"}"#,
            "",
            "which is not https",
        ),
        (
            r#"{"issuer": "URL", "jwks_uri": "URL/nowhere"}"#,
            "",
            "answered 404",
        ),
        (&good, "[]", "its key set can't be read"),
        (&good, r#"{"keys": []}"#, "has no key for RS256"),
        (
            &good,
            r#"{"keys": [{"kty": "oct", "kid": "s", "k": "c2VjcmV0"}]}"#,
            "has no key for RS256",
        ),
        (&good, "moved", "a redirect to another scheme"),
    ] {
        *world.lock() = World {
            url: server.url.clone(),
            description: description.into(),
            keys: keys.into(),
        };
        let seen = running
            .until(|state| state.error.as_ref().is_some_and(|error| error.contains(reason)))
            .await;
        assert_eq!(seen.keys, 1, "{reason}");
    }
    assert!(running.sets.is_empty(), "a broken set was published");
    world.lock().keys = json!({"keys": [key("first")]}).to_string();
    running.until(|state| state.error.is_none()).await;
    assert!(running.sets.is_empty(), "nothing changed");
}

#[tokio::test]
async fn an_unknown_key_fetches_at_once() {
    let (server, world) = issuer().await;
    let mut running = keep(&server.url, Vec::new(), SLOW);
    running.next_set().await;
    world.lock().keys = json!({"keys": [key("rotated")]}).to_string();
    assert!(running.handle.unknown_key(&server.url));
    assert_eq!(names(&running.next_set().await), ["rotated"]);
    assert!(!running.handle.unknown_key("https://other.example"));
}

#[tokio::test]
async fn a_restart_publishes_only_what_the_store_does_not_have() {
    let (server, _world) = issuer().await;
    let mut running = keep(&server.url, Vec::new(), SLOW);
    let stored = running.next_set().await;

    let mut again = keep(&server.url, vec![stored.clone()], SLOW);
    assert_eq!(again.handle.states()[0].keys, 1);
    again
        .until(|state| state.attempts == 1 && state.error.is_none())
        .await;
    assert!(again.sets.is_empty(), "the store had this set");

    let url = server.url.clone();
    drop(server);
    // The configuration names another audience, or other owners, and the issuer is away.
    let others = [
        Issuer {
            audience: "before".into(),
            ..stored.clone()
        },
        Issuer {
            owners: vec!["before".into()],
            ..stored
        },
    ];
    for other in others {
        let mut away = keep(&url, vec![other], SLOW);
        let told = away.next_set().await;
        assert_eq!((told.audience.as_str(), told.owners.len()), ("tidegate", 0));
        let seen = away.until(|state| state.error.is_some()).await;
        assert_eq!((seen.keys, seen.fetched), (1, None));
    }
}

#[tokio::test]
async fn an_issuer_below_a_path_is_asked_there() {
    let server = Server::new(|_| answer(404, "")).await;
    let mut running = keep(&format!("{}/realm/", server.url), Vec::new(), SLOW);
    running.until(|state| state.attempts == 1).await;
    assert_eq!(server.targets(), ["/realm/.well-known/openid-configuration"]);
}

#[tokio::test]
async fn it_stops_when_it_is_told_to() {
    let (server, _world) = issuer().await;
    // Nobody takes the sets: the keeper waits at the full channel.
    let (publish, sets) = mpsc::channel(1);
    let configs = vec![config(&server.url)];
    let keeper = Keeper::new(configs, Vec::new(), QUICK, publish).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(keeper.run(stop.clone()));
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), task)
        .await
        .expect("it stops")
        .unwrap();
    drop(sets);
}

#[test]
fn a_plain_issuer_elsewhere_is_refused() {
    let (publish, _sets) = mpsc::channel(1);
    let wrong = vec![config("http://token.forge.example")];
    assert!(Keeper::new(wrong, Vec::new(), QUICK, publish).is_err());
}
