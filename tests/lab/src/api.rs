//! Owns a small HTTP client that stands in a machine of the lab: for tests that
//! call an API hundreds of times. Every request has a connection of its own, so
//! that none fails by what happened to an earlier one. Follows and retries
//! nothing; judges no answer.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::ca::{Authority, provider};
use crate::error::{During, LabError, invalid, with_causes};
use crate::internet::Internet;
use crate::machine::Machine;

/// How long a request may take when nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The longest answer that is taken.
const LIMIT: usize = 64 << 20;

/// A client of one server, with the addresses of one machine.
///
/// ```no_run
/// # use serde_json::json;
/// # use tidegate_lab::{Lab, LabError, plan};
/// # async fn example(lab: &Lab) -> Result<(), LabError> {
/// let runner_api = (plan::gateway_v4(0), 443).into();
/// let api = lab.api(lab.runner(0), runner_api, "tidegate.internal")?;
/// let job = api.call("POST", "/v1/jobs", Some("token"), Some(&json!({"owner": "acme"}))).await?;
/// assert_eq!(job.status, 201, "{job}");
/// let changed = api.request("PUT", "/api/v1/x").header("if-match", "\"1\"").yaml("a: b").send().await?;
/// assert_eq!(changed.json()["version"], 2);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Api {
    threads: Internet,
    door: Door,
}

/// How the server is reached.
#[derive(Debug, Clone)]
struct Door {
    address: SocketAddr,
    authority: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Api {
    /// HTTPS at `address`, whose certificate must be of `ca` for `name`.
    pub(crate) fn https(
        machine: &Machine,
        address: SocketAddr,
        name: &str,
        ca: &Authority,
    ) -> Result<Self, LabError> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.certificate())?;
        let mut tls = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let server = ServerName::try_from(name.to_owned()).map_err(|error| invalid(name, error))?;
        let authority = format!("{name}:{}", address.port());
        Self::new(machine, address, authority, Some((Arc::new(tls), server)))
    }

    /// Cleartext HTTP at `address`.
    pub(crate) fn http(machine: &Machine, address: SocketAddr) -> Result<Self, LabError> {
        Self::new(machine, address, address.to_string(), None)
    }

    fn new(
        machine: &Machine,
        address: SocketAddr,
        authority: String,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    ) -> Result<Self, LabError> {
        Ok(Self {
            threads: Internet::start(machine.name())?,
            door: Door {
                address,
                authority,
                tls,
            },
        })
    }

    /// A request for a path with its query, to be completed and sent.
    pub fn request(&self, method: &str, path: &str) -> ApiRequest<'_> {
        let request = Request::builder().method(method).uri(path);
        ApiRequest {
            api: self,
            request: request.header(header::HOST, &self.door.authority),
            body: Bytes::new(),
            timeout: TIMEOUT,
        }
    }

    /// Sends a request with a bearer token and a JSON body, if any.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, LabError> {
        let request = self.request(method, path);
        let request = token.into_iter().fold(request, ApiRequest::token);
        body.into_iter().fold(request, ApiRequest::json).send().await
    }
}

/// A request that is being made.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct ApiRequest<'a> {
    api: &'a Api,
    request: http::request::Builder,
    body: Bytes,
    timeout: Duration,
}

impl ApiRequest<'_> {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// Shows a bearer token.
    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Sends a JSON body.
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// Sends a YAML body.
    pub fn yaml(self, body: &str) -> Self {
        self.body("application/yaml", body.to_owned())
    }

    /// Sends any body.
    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header("content-type", content_type)
    }

    /// How long it may take until the answer is whole (20 s).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends it. Without a whole answer in time it is an error that says how
    /// far it came.
    pub async fn send(self) -> Result<Answer, LabError> {
        let request = self.request.body(Full::new(self.body));
        let request = request.map_err(|error| invalid("request", error))?;
        let what = format!("{} {}", request.method(), request.uri());
        // Boxed, or every test that makes a request carries a TLS handshake's state in its own future.
        let exchange = Box::pin(exchange(self.api.door.clone(), request, what.clone()));
        let timeout = self.timeout;
        let bounded = async move {
            let ended = tokio::time::timeout(timeout, exchange).await;
            ended.unwrap_or_else(|_| Err(invalid(what, format!("no answer within {timeout:?}"))))
        };
        self.api.threads.ground().run(bounded).await
    }
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The request: method and path.
    pub request: String,
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A header's value; the first of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Itself if it has this status; panics with all of it otherwise. For tests.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "often the check alone is wanted")]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} was answered {}", self.request, self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        write!(f, "{}", self.text())
    }
}

async fn exchange(door: Door, request: Request<Full<Bytes>>, what: String) -> Result<Answer, LabError> {
    let stream = TcpStream::connect(door.address).await;
    let stream = stream.during(format!("{what}: connect to {}", door.address))?;
    let Some((tls, name)) = door.tls else {
        return converse(stream, request, what).await;
    };
    let stream = TlsConnector::from(tls).connect(name, stream).await;
    converse(stream.during(format!("{what}: TLS"))?, request, what).await
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    what: String,
) -> Result<Answer, LabError> {
    let failed = |error: hyper::Error| invalid(what.clone(), with_causes(&error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(async move {
        // The request's own error tells the same.
        let _broken = connection.await;
    });
    let (parts, body) = sender.send_request(request).await.map_err(failed)?.into_parts();
    let body = Limited::new(body, LIMIT).collect().await;
    let body = body.map_err(|error| invalid(format!("{what}: its answer's body"), with_causes(&*error)))?;
    Ok(Answer {
        request: what,
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body.to_bytes(),
    })
}
