//! A control plane's API over an SQLite store of its own, and the requests that tests make of it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::Row;
use tempfile::TempDir;
use tidegate_control::api::{self, ApiState};
use tidegate_control::config::LoginConfig;
use tidegate_control::login::{Login, LoginKey};
use tidegate_control::model::{NewToken, Role};
use tidegate_control::store::Store;
use tidegate_control::sync::Hub;
use tidegate_control::view::View;
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::frame::{Hello, ServedNetwork};
use tidegate_policy::effective::Generation;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::credentials::token;
pub(crate) use crate::credentials::{of_owners, wanted};
use crate::documented::check_documented;

/// Longest wait for something that happens by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// A policy that allows a name.
pub(crate) const POLICY: &str =
    "# the base\negress-policy: block\nallowed-endpoints: >\n  registry.example.test:443\n";

/// An API over a store.
pub(crate) struct Bench {
    pub(crate) store: Store,
    router: Router,
    clock: Arc<AtomicI64>,
    admin: String,
    pub(crate) closing: CancellationToken,
    _folder: TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// A request to be.
pub(crate) struct Call<'b> {
    bench: &'b Bench,
    method: Method,
    path: String,
    token: Option<String>,
    headers: Vec<(&'static str, String)>,
    body: Body,
    peer: SocketAddr,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::made(|state| state).await
    }

    /// The same where people log in at an issuer.
    pub(crate) async fn with_login(config: LoginConfig) -> Self {
        let login = Login::new(config, &LoginKey::random()).unwrap();
        Self::made(|state| state.with_login(login)).await
    }

    pub(crate) async fn made(change: impl FnOnce(ApiState) -> ApiState) -> Self {
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
        let state = change(state);
        Self {
            store,
            closing: state.closing(),
            router: api::router(state),
            clock,
            admin,
            _folder: folder,
        }
    }

    /// The router itself.
    pub(crate) fn router(&self) -> Router {
        self.router.clone()
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

    /// A gateway that serves a network, as the store knows it.
    pub(crate) async fn gateway(&self, name: &str, network: &str, range: &str) {
        let hello = Hello {
            protocol: PROTOCOL,
            gateway: name.into(),
            group: None,
            version: "0.1.0".into(),
            networks: vec![ServedNetwork {
                name: network.into(),
                cluster: "prod".into(),
                ranges: vec![range.parse().unwrap()],
                ..ServedNetwork::default()
            }],
            resume: None,
        };
        let group = format!("gateway:{name}");
        self.store
            .gateway_seen(&hello, &group, Generation(0))
            .await
            .unwrap();
    }

    /// A request by the admin, below `/api/v1` but for paths that begin with `/v1/`.
    pub(crate) fn call(&self, method: Method, path: &str) -> Call<'_> {
        let before = if path.starts_with("/v1/") { "" } else { "/api/v1" };
        Call {
            bench: self,
            method,
            path: format!("{before}{path}"),
            token: Some(self.admin.clone()),
            headers: Vec::new(),
            body: Body::empty(),
            peer: "192.0.2.1:1234".parse().unwrap(),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Call<'_> {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> Call<'_> {
        self.call(Method::POST, path)
    }

    pub(crate) fn put(&self, path: &str) -> Call<'_> {
        self.call(Method::PUT, path)
    }

    pub(crate) fn delete(&self, path: &str) -> Call<'_> {
        self.call(Method::DELETE, path)
    }

    /// A policy of `acme`, made by the admin.
    pub(crate) async fn policy(&self, name: &str, yaml: &str) -> Answer {
        let made = self
            .post("/orgs/acme/policies")
            .json(&json!({"name": name, "yaml": yaml}))
            .send()
            .await;
        assert_eq!(made.status, 201, "{made:?}");
        made
    }

    /// Everything that is stored, but when tokens were last shown.
    pub(crate) async fn dump(&self) -> String {
        let pool = self.store.db().read();
        let tables =
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
        let mut out = String::new();
        for table in sqlx::query(tables).fetch_all(pool).await.unwrap() {
            let table: String = table.get(0);
            let columns = sqlx::query("SELECT name FROM pragma_table_info($1)")
                .bind(&table)
                .fetch_all(pool)
                .await
                .unwrap();
            let columns: Vec<String> = columns
                .iter()
                .map(|column| column.get(0))
                .filter(|column| column != "last_used_at")
                .map(|column: String| format!("quote({column})"))
                .collect();
            let all = format!(
                "SELECT {} AS line FROM {table} ORDER BY line",
                columns.join(" || ',' || ")
            );
            for row in sqlx::query(sqlx::AssertSqlSafe(all))
                .fetch_all(pool)
                .await
                .unwrap()
            {
                let line: String = row.get(0);
                writeln!(out, "{table}: {line}").unwrap();
            }
        }
        out
    }
}

impl Call<'_> {
    /// By another token.
    pub(crate) fn by(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Without a token.
    pub(crate) fn anonymous(mut self) -> Self {
        self.token = None;
        self
    }

    pub(crate) fn from(mut self, peer: &str) -> Self {
        self.peer = peer.parse().unwrap();
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn json(self, value: &Value) -> Self {
        self.body("application/json", value.to_string())
    }

    pub(crate) fn yaml(self, text: &str) -> Self {
        self.body("application/yaml", text.to_owned())
    }

    pub(crate) fn body(mut self, media: &str, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self.header("content-type", media)
    }

    /// Sends it; what is answered is not read yet.
    pub(crate) async fn open(self) -> Response {
        let mut request = Request::builder().method(self.method.clone()).uri(&self.path);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let mut request = request.body(self.body).unwrap();
        request.extensions_mut().insert(ConnectInfo(self.peer));
        self.bench.router.clone().oneshot(request).await.unwrap()
    }

    /// Sends it, and compares the answer with the OpenAPI document.
    pub(crate) async fn send(self) -> Answer {
        let (method, path) = (self.method.clone(), self.path.clone());
        let (parts, body) = self.open().await.into_parts();
        let endless = parts
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|media| media == "text/event-stream");
        // A stream is read by who follows it.
        let body = if endless { Body::empty() } else { body };
        let text = to_bytes(body, 64 << 20).await.unwrap();
        let answer = Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(text.into()).unwrap(),
        };
        check_documented(&method, &path, &answer);
        answer
    }

    /// Sends it and wants a status.
    pub(crate) async fn expect(self, status: StatusCode) -> Answer {
        let what = format!("{} {}", self.method, self.path);
        let answer = self.send().await;
        assert_eq!(answer.status, status.as_u16(), "{what}: {answer:?}");
        answer
    }

    /// Sends it and wants it done.
    pub(crate) async fn ok(self) -> Answer {
        self.expect(StatusCode::OK).await
    }

    /// Sends it and wants it refused: with a problem document of this status and code, and nothing stored.
    pub(crate) async fn refused(self, status: u16, code: &str) -> Answer {
        let bench = self.bench;
        let what = format!("{} {}", self.method, self.path);
        let before = bench.dump().await;
        let answer = self.send().await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_eq!(answer.media(), "application/problem+json", "{what}: {answer:?}");
        let problem = answer.value();
        assert_eq!(problem["code"], code, "{what}: {problem}");
        assert_eq!(problem["status"], status, "{what}: {problem}");
        assert_eq!(problem["type"], "about:blank", "{what}: {problem}");
        let said = problem["detail"].as_str().unwrap_or_default();
        assert!(
            said.len() > 5 && said.len() < 2_000,
            "{what}: it says what and where: {problem}"
        );
        assert_eq!(bench.dump().await, before, "{what}: nothing is stored");
        answer
    }
}

impl Answer {
    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn media(&self) -> &str {
        self.headers
            .get(CONTENT_TYPE)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn tag(&self) -> String {
        self.headers[ETAG].to_str().unwrap().to_owned()
    }

    /// The sentence of a problem document.
    pub(crate) fn detail(&self) -> String {
        self.value()["detail"].as_str().unwrap_or_default().to_owned()
    }
}

/// Waits until something is so; panics with what was seen last.
pub(crate) async fn eventually<T: std::fmt::Debug>(what: &str, mut look: impl AsyncFnMut() -> Result<(), T>) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let Err(seen) = look().await else { return };
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what}: last seen {seen:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
