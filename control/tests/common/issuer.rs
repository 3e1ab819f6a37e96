//! An issuer where people log in, on loopback: its description, its token endpoint, and the person at its own pages.
//!
//! Its keys and signatures are the lab's. It is as strict as the standards have it: a code is good once, for the client,
//! the place and the verifier that it was asked with.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_control::config::{LoginConfig, LoginGroup};
use tidegate_control::model::Role;
use tidegate_lab::{KeyKind, OidcIssuer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) const CLIENT: &str = "tidegate ui";
pub(crate) const SECRET: &str = "s3cr:t/+";

/// Runs until it is dropped.
pub(crate) struct Issuer {
    pub(crate) url: String,
    pub(crate) lab: Arc<OidcIssuer>,
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

struct Inner {
    lab: Arc<OidcIssuer>,
    url: String,
    down: AtomicBool,
    in_form: AtomicBool,
    exchanges: AtomicUsize,
    codes: Mutex<HashMap<String, Code>>,
}

/// A code with what it was asked with, and who it is for.
struct Code {
    challenge: String,
    callback: String,
    claims: Value,
}

/// What the browser brings back.
pub(crate) struct Back {
    pub(crate) code: String,
    pub(crate) state: String,
}

impl Issuer {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let lab = Arc::new(OidcIssuer::loopback().unwrap());
        let inner = Arc::new(Inner {
            lab: Arc::clone(&lab),
            url: url.clone(),
            down: AtomicBool::new(false),
            in_form: AtomicBool::new(false),
            exchanges: AtomicUsize::new(0),
            codes: Mutex::default(),
        });
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(description))
            .route("/token", post(token))
            .with_state(Arc::clone(&inner));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            url,
            lab,
            inner,
            task,
        }
    }

    /// How a control plane is told to use it.
    pub(crate) fn config(&self) -> LoginConfig {
        let group = |group: &str, role, owners: &[&str]| LoginGroup {
            group: group.into(),
            role,
            owners: owners.iter().map(|owner| (*owner).to_owned()).collect(),
        };
        LoginConfig {
            issuer: self.url.clone(),
            client_id: CLIENT.into(),
            client_secret: Some(SECRET.into()),
            scopes: vec!["openid".into(), "groups".into()],
            name_claim: None,
            groups_claim: "groups".into(),
            groups: vec![
                group("security", Role::Admin, &[]),
                group("acme-devs", Role::Editor, &["acme"]),
                group("beta-devs", Role::Editor, &["beta"]),
            ],
            public_url: "https://tidegate.example.test".into(),
            ca: None,
        }
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.inner.down.store(down, Ordering::SeqCst);
    }

    /// From now on it takes the secret in the form only.
    pub(crate) fn want_secret_in_form(&self) {
        self.inner.in_form.store(true, Ordering::SeqCst);
    }

    /// How often a code was shown.
    pub(crate) fn exchanges(&self) -> usize {
        self.inner.exchanges.load(Ordering::SeqCst)
    }

    /// Signs with another key from now on.
    pub(crate) fn rotate(&self) {
        self.lab.rotate(KeyKind::Es256).unwrap();
    }

    /// Somebody of these groups logs in where the browser was sent to, and is sent back. `change` bends what the ID
    /// token will say.
    pub(crate) fn log_in(&self, sent_to: &str, groups: &[&str], change: impl FnOnce(&mut Value)) -> Back {
        let (place, query) = sent_to.split_once('?').unwrap();
        assert_eq!(place, format!("{}/authorize", self.url));
        let asked: HashMap<String, String> = form(query);
        let get = |name: &str| {
            asked
                .get(name)
                .unwrap_or_else(|| panic!("{name}: {sent_to}"))
                .clone()
        };
        assert_eq!(
            (get("response_type"), get("client_id")),
            ("code".into(), CLIENT.into())
        );
        assert_eq!(
            (get("scope"), get("code_challenge_method")),
            ("openid groups".into(), "S256".into())
        );
        let now = Timestamp::now().as_second();
        let mut claims = json!({
            "iss": self.url, "aud": CLIENT, "sub": "u-7", "email": "ada@acme.example", "groups": groups,
            "nonce": get("nonce"), "iat": now, "exp": now + 300
        });
        change(&mut claims);
        let code = URL_SAFE_NO_PAD
            .encode(get("state"))
            .chars()
            .rev()
            .collect::<String>();
        let made = Code {
            challenge: get("code_challenge"),
            callback: get("redirect_uri"),
            claims,
        };
        self.inner.codes.lock().insert(code.clone(), made);
        Back {
            code,
            state: get("state"),
        }
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn form(text: &str) -> HashMap<String, String> {
    let uri: axum::http::Uri = format!("/?{text}").parse().unwrap();
    axum::extract::Query::try_from_uri(&uri).unwrap().0
}

async fn description(State(issuer): State<Arc<Inner>>) -> Response {
    if issuer.down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let methods = if issuer.in_form.load(Ordering::SeqCst) {
        json!(["client_secret_post"])
    } else {
        json!(["client_secret_basic", "client_secret_post"])
    };
    Json(json!({
        "issuer": issuer.url,
        "authorization_endpoint": format!("{}/authorize", issuer.url),
        "token_endpoint": format!("{}/token", issuer.url),
        "jwks_uri": format!("{}/jwks", issuer.lab.url()),
        "token_endpoint_auth_methods_supported": methods,
    }))
    .into_response()
}

async fn token(
    State(issuer): State<Arc<Inner>>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    issuer.exchanges.fetch_add(1, Ordering::SeqCst);
    if issuer.down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let refuse = |error: &str| (StatusCode::BAD_REQUEST, Json(json!({"error": error}))).into_response();
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    // RFC 6749 section 2.3.1: encoded as in a form, then by RFC 7617.
    let basic = format!("Basic {}", STANDARD.encode("tidegate+ui:s3cr%3At%2F%2B"));
    let known = if issuer.in_form.load(Ordering::SeqCst) {
        field("client_id") == CLIENT && field("client_secret") == SECRET
    } else {
        headers
            .get("authorization")
            .is_some_and(|value| value == basic.as_str())
    };
    if !known {
        return refuse("invalid_client");
    }
    let Some(code) = issuer.codes.lock().remove(field("code")) else {
        return refuse("invalid_grant");
    };
    let verifier = field("code_verifier");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    let fits = URL_SAFE_NO_PAD.encode(digest) == code.challenge
        && field("redirect_uri") == code.callback
        && field("grant_type") == "authorization_code";
    if !fits {
        return refuse("invalid_grant");
    }
    let id_token = issuer.lab.sign(&code.claims).unwrap();
    Json(json!({"access_token": "a", "token_type": "Bearer", "id_token": id_token})).into_response()
}
