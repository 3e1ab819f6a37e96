//! Owns a `tidegate control` on loopback as a process that is killed and started again, and a client that outlives it.
//!
//! Knows the program only by its command line, its files and its HTTP API. A client connects anew after each loss and
//! tells what became of a request: answered, refused for want of a store, or cut off. It repeats nothing.

use std::fs::{File, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_e2e::{PATIENCE, tidegate};
use tidegate_lab::{Answer, wait_until};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Where free ports are looked for: below those that Linux gives to outgoing connections, or one of them could take the
/// port while control is down.
const PORTS: std::ops::Range<u16> = 10_000..20_000;
/// How long an answer may take: control itself says within five seconds that its database is away.
const ANSWER: Duration = Duration::from_secs(30);

/// A control plane that can die.
pub(super) struct Plane {
    folder: TempDir,
    address: SocketAddr,
    child: Option<Child>,
}

impl Plane {
    /// A control plane with its files in a folder of its own; not running yet. `store` as in the configuration.
    pub(super) fn new(store: impl FnOnce(&TempDir) -> String) -> Self {
        // PostgreSQL's user has to pass through.
        let passable = Permissions::from_mode(0o711);
        let folder = tempfile::Builder::new().permissions(passable).tempdir().unwrap();
        let address = free_address();
        let store = store(&folder);
        let config = format!(
            "version: 1\ncontrol:\n  listen: \"{address}\"\n  store: \"{store}\"\n  bootstrap-token-file: admin-token\n"
        );
        std::fs::write(folder.path().join("tidegate.yaml"), config).unwrap();
        Self {
            folder,
            address,
            child: None,
        }
    }

    /// Starts it and waits until it answers.
    pub(super) async fn start(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .unwrap();
        let mut command = Command::new(tidegate());
        command
            .args(["control", "--config"])
            .arg(self.folder.path().join("tidegate.yaml"));
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
        let mut client = Client::new(self.address, String::new());
        let up = wait_until("control to be ready", PATIENCE, async || {
            match client.call("GET", "/readyz", None).await {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("{other:?}; its log:\n{}", self.log())),
            }
        });
        up.await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Kills it (SIGKILL); nothing of it runs afterwards.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The process, which must be the one that was started.
    pub(super) fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// A client with the first admin's token.
    pub(super) fn admin(&self) -> Client {
        let text = std::fs::read_to_string(self.folder.path().join("admin-token")).unwrap();
        self.client(text.trim())
    }

    /// A client with any token.
    pub(super) fn client(&self, token: &str) -> Client {
        Client::new(self.address, token.to_owned())
    }

    /// The last lines of what it logged.
    pub(super) fn log(&self) -> String {
        let text = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("control's log ends with:\n{}", self.log());
        }
        self.kill();
    }
}

fn free_address() -> SocketAddr {
    let first = std::process::id() as usize % PORTS.len();
    let ports = PORTS.skip(first).chain(PORTS.take(first));
    let mut sockets = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    sockets
        .find(|socket| TcpListener::bind(socket).is_ok())
        .expect("a free port of loopback")
}

/// A request of which nobody knows whether it was carried out.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// There was no connection to send it on: it was not carried out.
    Unsent,
    /// The connection broke before the answer was whole.
    Cut,
    /// A problem document that says to come again: the store is away.
    Away,
}

/// A client of one control plane with one token.
pub(super) struct Client {
    address: SocketAddr,
    token: String,
    open: Option<(SendRequest<Full<Bytes>>, JoinSet<()>)>,
}

impl Client {
    fn new(address: SocketAddr, token: String) -> Self {
        Self {
            address,
            token,
            open: None,
        }
    }

    /// Asks, with a JSON body or none.
    pub(super) async fn call(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Unanswered> {
        self.ask((method, path), None, body).await
    }

    /// Asks for a change of one version and no other.
    pub(super) async fn put(&mut self, path: &str, version: u32, body: &Value) -> Result<Answer, Unanswered> {
        let version = format!("\"{version}\"");
        self.ask(("PUT", path), Some(&version), Some(body)).await
    }

    async fn ask(
        &mut self,
        what: (&str, &str),
        if_match: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, Unanswered> {
        let asked = async {
            let response = self.send(what, if_match, body).await?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|_| Unanswered::Cut)?.to_bytes();
            Ok(Answer {
                request: format!("{} {}", what.0, what.1),
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
            })
        };
        let answer = tokio::time::timeout(ANSWER, asked).await;
        match answer.unwrap_or_else(|_| panic!("{what:?} was not answered within {ANSWER:?}")) {
            Ok(answer) if answer.status == 503 => {
                away(&answer);
                Err(Unanswered::Away)
            }
            Ok(answer) => Ok(answer),
            Err(unanswered) => {
                self.open = None;
                Err(unanswered)
            }
        }
    }

    /// The answer with a body that goes on, on a connection of its own: whatever was open is closed.
    pub(super) async fn stream(&mut self, path: &str, body: &Value) -> Result<Incoming, Unanswered> {
        self.open = None;
        let response = self.send(("POST", path), None, Some(body)).await?;
        match response.status().as_u16() {
            200 => Ok(response.into_body()),
            503 => Err(Unanswered::Away),
            other => panic!("the stream was answered {other}"),
        }
    }

    async fn send(
        &mut self,
        (method, path): (&str, &str),
        if_match: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.token));
        if let Some(version) = if_match {
            request = request.header("if-match", version);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let mut open = match self.open.take() {
            Some(open) => open,
            None => connect(self.address).await.ok_or(Unanswered::Unsent)?,
        };
        if open.0.ready().await.is_err() {
            open = connect(self.address).await.ok_or(Unanswered::Unsent)?;
        }
        let open = &mut self.open.insert(open).0;
        open.send_request(request).await.map_err(|_| Unanswered::Cut)
    }
}

async fn connect(address: SocketAddr) -> Option<(SendRequest<Full<Bytes>>, JoinSet<()>)> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (open, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    Some((open, driver))
}

/// What a program is told while the store is away (RFC 9457).
fn away(answer: &Answer) {
    let problem = answer.json();
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{answer}"
    );
    assert_eq!(problem["status"], json!(503), "{answer}");
    let code = problem["code"].as_str().unwrap_or_default();
    assert!(["unavailable", "busy", "timeout"].contains(&code), "{answer}");
    assert!(
        problem["detail"].as_str().is_some_and(|text| !text.is_empty()),
        "{answer}"
    );
}
