//! A control plane in this process, and the binary run against it.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tidegate_control::api::{self, ApiState};
use tidegate_control::model::{Actor, NewToken, Role};
use tidegate_control::server::Listener;
use tidegate_control::store::Store;
use tidegate_control::sync::Hub;
use tidegate_control::view::View;
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::frame::{Hello, ServedNetwork};
use tidegate_control_wire::secret::Secret;
use tidegate_policy::effective::Generation;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// A policy in block mode.
pub(crate) const POLICY: &str = "# the forge\negress-policy: block\nallowed-endpoints:\n  - github.com:443\n";

/// A control plane; it ends when it is dropped.
pub(crate) struct Plane {
    pub(crate) server: String,
    pub(crate) store: Store,
    runtime: Runtime,
    dir: TempDir,
    _stop: oneshot::Sender<()>,
}

/// What came of running the binary.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Plane {
    pub(crate) fn new() -> Self {
        Self::over(None)
    }

    /// Over TLS with this chain and key, for `control.test` at the loopback address.
    pub(crate) fn over(tls: Option<(&Path, &Path)>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("control.db").display());
        let (stop, stopped) = oneshot::channel();
        let (store, address) = runtime.block_on(async {
            let store = Store::open(&url).await.unwrap();
            let view = View::open(&store).await.unwrap();
            let router = api::router(ApiState::new(store.clone(), view, Hub::new(store.clone())));
            let listener = Listener::open("127.0.0.1:0".parse().unwrap(), tls).await.unwrap();
            let address: SocketAddr = listener.address().unwrap();
            tokio::spawn(listener.serve(router, async move {
                drop(stopped.await);
            }));
            (store, address)
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let plane = Self {
            server: format!("{scheme}://{address}"),
            store,
            runtime,
            dir,
            _stop: stop,
        };
        let admin = plane.token(&wanted(Role::Admin, "root"));
        plane.write("admin", &admin);
        plane
    }

    /// The text of a new token.
    pub(crate) fn token(&self, wanted: &NewToken) -> String {
        let secret = Secret::new(wanted.role);
        let (digest, actor) = (secret.digest(), Actor::system());
        self.runtime
            .block_on(self.store.create_token(wanted, &digest, &actor))
            .unwrap();
        secret.expose().to_owned()
    }

    /// Waits for something of the store.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// A gateway that serves 10.77.0.0/16, as the store knows it.
    pub(crate) fn gateway(&self) {
        let hello = Hello {
            protocol: PROTOCOL,
            gateway: "gw-1".into(),
            group: None,
            version: "0.1.0".into(),
            networks: vec![ServedNetwork {
                name: "runners".into(),
                cluster: "prod".into(),
                ranges: vec!["10.77.0.0/16".parse().unwrap()],
                ..ServedNetwork::default()
            }],
            resume: None,
        };
        let seen = self
            .store
            .gateway_seen(&hello, "gateway:gw-1", Generation::default());
        self.runtime.block_on(seen).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file, its folders too; where it is.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// The binary with the admin's token, in the folder of this plane's files.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = tidegate(args);
        command
            .current_dir(self.dir.path())
            .env("TIDEGATE_SERVER", &self.server)
            .env("TIDEGATE_OWNER", "acme")
            .args(["--token-file", "admin"]);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Runs what has to succeed; its output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}{}", ran.out, ran.err);
        ran.out
    }

    /// The same with `--json`.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let out = self.ok(&[args, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
    }

    /// Runs what has to fail with 1; what it says.
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 1, "{args:?}: {}{}", ran.out, ran.err);
        ran.err
    }

    /// A policy that there is.
    pub(crate) fn policy(&self, name: &str, yaml: &str) {
        let file = self.write(&format!("made/{name}.yaml"), yaml);
        self.ok(&["policy", "apply", file.to_str().unwrap(), "--name", name]);
    }
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The binary, with nothing of this process's environment.
pub(crate) fn tidegate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env_clear().args(args).stdin(Stdio::null());
    command
}

/// Runs a command with a text on its stdin.
pub(crate) fn fed(mut command: Command, text: &str) -> Ran {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    Ran::of(child.wait_with_output().unwrap())
}

/// A token without limits.
pub(crate) fn wanted(role: Role, name: &str) -> NewToken {
    NewToken {
        role,
        name: name.into(),
        owners: Vec::new(),
        repos: Vec::new(),
        networks: Vec::new(),
        cluster: None,
        expires_at: None,
    }
}
