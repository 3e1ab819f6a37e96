//! A control plane with its web UI over an SQLite store of its own, and browsers that look at it.
//!
//! ```ignore
//! let bench = Bench::new().await;
//! bench.policy("acme", "base", POLICY).await;
//! let editor = bench.browser(Role::Editor).await;
//! let page = editor.open("/ui/orgs/acme/policies").await;
//! page.shows("base");
//! let done = editor.post("/ui/orgs/acme/policies/base/delete", &[("confirm", "yes")]).await;
//! editor.follow(&done).await.shows("deleted");
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::header::{CONTENT_TYPE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, Method, Request};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_control::api::{self, ApiState};
use tidegate_control::model::{NewToken, Role};
use tidegate_control::store::Store;
use tidegate_control::sync::Hub;
use tidegate_control::view::View;
use tidegate_control_ui::UiSettings;
use tower::ServiceExt;

use crate::credentials::token;
pub(crate) use crate::credentials::{of_owners, wanted};
use crate::markup;

/// A policy that allows a name.
pub(crate) const POLICY: &str =
    "# the base\negress-policy: block\nallowed-endpoints: >\n  registry.example.test:443\n";

/// What strangers like to call things.
pub(crate) const NASTY: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u{202e}";

/// A control plane with its UI.
pub(crate) struct Bench {
    pub(crate) store: Store,
    router: Router,
    clock: Arc<AtomicI64>,
    admin: String,
    _folder: TempDir,
}

/// A browser: a jar of cookies, and forms sent as browsers send them.
pub(crate) struct Browser<'b> {
    bench: &'b Bench,
    jar: Mutex<BTreeMap<String, String>>,
    peer: SocketAddr,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    what: String,
}

impl Bench {
    /// As on plain loopback.
    pub(crate) async fn new() -> Self {
        Self::reached(UiSettings::default()).await
    }

    /// As browsers reach it otherwise.
    pub(crate) async fn reached(settings: UiSettings) -> Self {
        Self::made(settings, |state| state).await
    }

    /// The same over an API with something more.
    pub(crate) async fn made(settings: UiSettings, change: impl FnOnce(ApiState) -> ApiState) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("control.db").display());
        let store = Store::open(&url).await.unwrap();
        let admin = token(&store, &wanted(Role::Admin, "root")).await;
        let view = View::open(&store).await.unwrap();
        let clock = Arc::new(AtomicI64::new(Timestamp::now().as_microsecond()));
        let read = Arc::clone(&clock);
        let state = ApiState::with_clock(
            store.clone(),
            view,
            Hub::new(store.clone()),
            Arc::new(move || Timestamp::from_microsecond(read.load(Ordering::SeqCst)).unwrap()),
        );
        let api = api::router(change(state));
        Self {
            store,
            router: api.clone().merge(tidegate_control_ui::router(api, settings)),
            clock,
            admin,
            _folder: folder,
        }
    }

    /// Lets time pass for the API; the store's own time goes on as it does.
    pub(crate) fn pass(&self, span: Duration) {
        self.clock
            .fetch_add(i64::try_from(span.as_micros()).unwrap(), Ordering::SeqCst);
    }

    /// A token's text.
    pub(crate) async fn token(&self, wanted: &NewToken) -> String {
        token(&self.store, wanted).await
    }

    /// A browser that nobody is logged in with.
    pub(crate) fn stranger(&self) -> Browser<'_> {
        Browser {
            bench: self,
            jar: Mutex::default(),
            peer: "192.0.2.1:1234".parse().unwrap(),
        }
    }

    /// A browser in which somebody of a role is logged in, without limits.
    pub(crate) async fn browser(&self, role: Role) -> Browser<'_> {
        let name = format!("the {role}");
        self.browser_of(&wanted(role, &name)).await
    }

    /// A browser in which the holder of such a token is logged in.
    pub(crate) async fn browser_of(&self, wanted: &NewToken) -> Browser<'_> {
        let text = self.token(wanted).await;
        let browser = self.stranger();
        let answer = browser.post("/ui/login", &[("token", &text)]).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        browser
    }

    /// Asks the API as an admin, below `/api/v1`, for what a test begins with. Panics at a refusal.
    pub(crate) async fn api(&self, method: Method, path: &str, body: &Value) -> Value {
        let what = format!("{method} {path}");
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("authorization", format!("Bearer {}", self.admin));
        if !body.is_null() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        let answer = self
            .router
            .clone()
            .oneshot(request.body(body).unwrap())
            .await
            .unwrap();
        let status = answer.status();
        let read = to_bytes(answer.into_body(), 64 << 20).await.unwrap();
        let text = String::from_utf8(read.into()).unwrap();
        assert!(status.is_success(), "{what}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// A policy, made by an admin.
    pub(crate) async fn policy(&self, owner: &str, name: &str, yaml: &str) {
        let body = json!({"name": name, "yaml": yaml});
        self.api(Method::POST, &format!("/orgs/{owner}/policies"), &body)
            .await;
    }
}

impl Browser<'_> {
    /// Comes from another address.
    pub(crate) fn from(mut self, peer: &str) -> Self {
        self.peer = peer.parse().unwrap();
        self
    }

    /// The value of a cookie that it holds.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        self.jar.lock().get(name).cloned()
    }

    /// Puts a cookie into its jar.
    pub(crate) fn put(&self, name: &str, value: &str) {
        self.jar.lock().insert(name.into(), value.into());
    }

    /// Goes to an address.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[("sec-fetch-site", "none")], String::new())
            .await
    }

    /// Goes to an address, and wants a page.
    pub(crate) async fn open(&self, path: &str) -> Answer {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
    }

    /// As a script asks for a part of a page.
    pub(crate) async fn part(&self, path: &str) -> Answer {
        let headers = [("sec-fetch-site", "same-origin"), ("tidegate-fragment", "1")];
        self.send(Method::GET, path, &headers, String::new()).await
    }

    /// Sends a form of a page of ours.
    pub(crate) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_with(path, fields, &[("sec-fetch-site", "same-origin")])
            .await
    }

    /// Sends a form with these headers: as another site would.
    pub(crate) async fn post_with(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&'static str, &str)],
    ) -> Answer {
        self.send(Method::POST, path, headers, form(fields)).await
    }

    /// Goes where an answer leads.
    pub(crate) async fn follow(&self, answer: &Answer) -> Answer {
        self.open(answer.location()).await
    }

    /// Sends a request as it is written here.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: String,
    ) -> Answer {
        let what = format!("{method} {path}");
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header("host", "tidegate.test");
        if method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let cookies: Vec<String> = self
            .jar
            .lock()
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        let mut request = request.body(Body::from(body)).unwrap();
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let answer = self.bench.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        self.keep(&parts.headers);
        let endless = parts
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|media| media == "text/event-stream");
        let body = if endless { Body::empty() } else { body };
        let text = to_bytes(body, 64 << 20).await.unwrap();
        let answer = Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(text.into()).unwrap(),
            what,
        };
        if path.starts_with("/ui") {
            markup::check(&answer);
        }
        answer
    }

    fn keep(&self, headers: &HeaderMap) {
        for cookie in headers.get_all(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let (name, rest) = cookie.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            let mut jar = self.jar.lock();
            if cookie.contains("Max-Age=0") {
                jar.remove(name);
            } else {
                jar.insert(name.into(), value.into());
            }
        }
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Where it leads.
    pub(crate) fn location(&self) -> &str {
        assert_eq!(self.status, 303, "{self:?}");
        self.headers[LOCATION].to_str().unwrap()
    }

    /// The page has this text, written as HTML has it.
    pub(crate) fn shows(&self, text: &str) -> &Self {
        assert!(
            self.text.contains(text),
            "no {text:?} in {}: {}",
            self.what,
            self.text
        );
        self
    }

    /// The page does not have this text.
    pub(crate) fn hides(&self, text: &str) -> &Self {
        assert!(
            !self.text.contains(text),
            "{text:?} in {}: {}",
            self.what,
            self.text
        );
        self
    }

    /// Wants a status.
    pub(crate) fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// It leads to the login page.
    pub(crate) fn wants_login(&self) {
        assert!(self.location().starts_with("/ui/login"), "{self:?}");
    }
}

/// Fields as a form sends them.
fn form(fields: &[(&str, &str)]) -> String {
    let encoded = |text: &str| -> String {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
        let one = |byte: u8| {
            if plain(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        };
        text.bytes().map(one).collect()
    };
    let pairs = fields
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

impl Answer {
    /// An answer as the markup's own test needs it.
    pub(crate) fn of_html(text: &str) -> Self {
        Self {
            status: 200,
            headers: HeaderMap::new(),
            text: text.into(),
            what: "a test".into(),
        }
    }
}
