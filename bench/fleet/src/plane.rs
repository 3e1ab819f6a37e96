//! The control plane under test: a process of its own, started, looked at, killed and started anew by its id.
//!
//! Owns the child and its folder. The child is this program again (`control`), serving `tidegate-control` as
//! `tidegate control` does; it ends when its standard input ends, so that nothing outlives a run that was killed.

use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidegate_bench::measure::{instant, process_cpu, resident};
use tidegate_bench::rest::Client;
use tidegate_control::config::ControlConfig;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::calls::Calls;

/// How long it may take to serve.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running control plane.
#[derive(Debug)]
pub struct Plane {
    program: PathBuf,
    folder: PathBuf,
    store: String,
    address: SocketAddr,
    child: Option<Child>,
}

impl Plane {
    /// Starts one with an empty store: `store`, or SQLite in `folder`. Its log is `control.log` there.
    pub async fn start(program: &Path, folder: &Path, store: Option<String>) -> Result<Self> {
        let sqlite = || format!("sqlite://{}", folder.join("control.db").display());
        // Taken for a moment, to learn a port that is free; the same one serves after a restart.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut plane = Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            store: store.unwrap_or_else(sqlite),
            address,
            child: None,
        };
        plane.launch()?;
        plane.ready().await?;
        Ok(plane)
    }

    fn launch(&mut self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("control.log"))?;
        let child = Command::new(&self.program)
            .arg("control")
            .args(["--listen", &self.address.to_string(), "--store", &self.store])
            .arg("--folder")
            .arg(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("can't start {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it answers.
    pub async fn ready(&mut self) -> Result<()> {
        let begun = instant();
        loop {
            if let Ok(mut connection) = Client::new(self.address, "").connect().await
                && matches!(connection.get("/readyz").await, Ok((200, _)))
            {
                return Ok(());
            }
            let child = self.child.as_mut().context("it was not started")?;
            let ended = child.try_wait()?;
            ensure!(
                ended.is_none(),
                "the control plane ended: {ended:?}, {}",
                self.log()
            );
            ensure!(
                begun.elapsed() < PATIENCE,
                "the control plane does not answer: {}",
                self.log()
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("control.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Kills it as a power cut would, and starts it again on its store. It serves when [`Self::ready`] says so.
    pub fn restart(&mut self) -> Result<()> {
        self.end();
        self.launch()
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection of the first admin, for as long as the tasks beside it live.
    pub async fn admin(&self) -> Result<(Calls, JoinSet<()>)> {
        let token = std::fs::read_to_string(self.folder.join("admin-token"))?;
        Calls::open(self.address, token.trim()).await
    }

    /// Its process id.
    pub fn pid(&self) -> Result<i32> {
        Ok(self.child.as_ref().context("not running")?.id().cast_signed())
    }

    /// User and system time so far.
    pub fn cpu(&self) -> Result<Duration> {
        process_cpu(self.pid()?)
    }

    /// Resident memory, bytes.
    pub fn memory(&self) -> Result<u64> {
        resident(&[self.pid()?])
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended already can't be killed, and is waited for all the same.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.end();
    }
}

/// Serves a control plane until its end is asked for, by a signal or by the end of the standard input.
pub fn serve(listen: SocketAddr, store: &str, folder: &Path) -> Result<()> {
    let text = format!(
        "version: 1\ncontrol:\n  listen: {listen}\n  store: {store}\n  bootstrap-token-file: admin-token\n"
    );
    let config = ControlConfig::parse(&text, &folder.join("tidegate.yaml"), None)?;
    std::thread::spawn(|| {
        let mut nothing = Vec::new();
        drop(std::io::stdin().read_to_end(&mut nothing));
        std::process::exit(0);
    });
    Ok(tidegate_control::plane::run(config)?)
}
