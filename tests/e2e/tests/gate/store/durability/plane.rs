//! Owns a `tidegate control` on loopback as a process that is killed and started again.
//!
//! Knows the program only by its command line and its files.

use std::fs::{File, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;
use tidegate_e2e::{PATIENCE, tidegate};
use tidegate_lab::wait_until;

use super::super::plain::Client;

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
        let address = own_address();
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

/// An address of loopback that no other process takes, nor another plane of this one, while control is down.
fn own_address() -> SocketAddr {
    static PLANES: AtomicU32 = AtomicU32::new(0);
    let plane = PLANES.fetch_add(1, Ordering::Relaxed) % 4;
    // A process's id has 22 bits at most.
    let host = (std::process::id() << 2 | plane) & 0x00ff_ffff;
    SocketAddr::from((Ipv4Addr::from(0x7f00_0000 | host), 8443))
}
