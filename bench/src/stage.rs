//! The gateway's machine, on which one subject runs at a time, behind the same interception, on the cores that it is
//! given.
//!
//! Owns the life of the subjects. The interception is Tidegate's own table and routes: killed, it leaves them in place,
//! and a peer takes over its sockets' addresses. So all subjects get packets over the same path. Benchmarks drive it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tidegate_lab::{Gateway, GatewayBuilder, Lab, Process, wait_until};

use crate::cast;
use crate::measure::{LOAD_CORE, SERVER_CORE, family, pin, pin_to};
use crate::peers::render::{self, Setting};
use crate::peers::{Peer, Programs};
use crate::sys::make_transparent;

const CONFIG: &str = "tidegate.yaml";
const STOP: Duration = Duration::from_secs(5);

/// The machine, and who runs on it.
#[derive(Debug)]
pub struct Stage<'a> {
    lab: &'a Lab,
    gateway: Gateway<'a>,
    /// As the lab wrote it.
    config: String,
    programs: Programs,
    dir: PathBuf,
    on: Option<Peer>,
    processes: Vec<Process>,
}

impl<'a> Stage<'a> {
    /// Puts the interception in place: starts Tidegate, the program at `tidegate`, and kills it.
    pub async fn open(lab: &'a Lab, tidegate: PathBuf, programs: Programs) -> Result<Self> {
        let dir = lab.dir().join("peers");
        let builder = GatewayBuilder::new(lab, tidegate).file("job.yaml", &cast::policy())?;
        let mut gateway = builder.network("").lease(0, "bench", "job.yaml").start().await?;
        gateway.kill().await?;
        Ok(Self {
            config: fs::read_to_string(gateway.path(CONFIG))?,
            lab,
            gateway,
            programs,
            dir,
            on: None,
            processes: Vec::new(),
        })
    }

    /// Starts a subject afresh; it may not answer yet.
    pub async fn start(&mut self, peer: Peer, setting: &Setting) -> Result<()> {
        let cores: Vec<_> = [SERVER_CORE, LOAD_CORE][..setting.cores.min(2)].to_vec();
        pin_to(&cores)?;
        let started = self.launch(peer, setting).await;
        pin(LOAD_CORE)?;
        started.with_context(|| {
            let said = self.complaints();
            format!(
                "can't start {}, leave it out by --peers if you must; it says: {said}",
                peer.title()
            )
        })
    }

    async fn launch(&mut self, peer: Peer, setting: &Setting) -> Result<()> {
        self.on = Some(peer);
        if peer.is_ours() {
            let text = render::tidegate(&self.config, setting.leases, peer);
            // What the round before wrote is not read again.
            let _none_yet = fs::remove_file(self.gateway.path("events.ndjson"));
            self.gateway.write(CONFIG, &text)?;
            return Ok(self.gateway.restart().await?);
        }
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir)?;
        }
        fs::create_dir_all(&self.dir)?;
        for launch in peer.launches(setting, &self.programs) {
            for (name, text) in &launch.files {
                fs::write(self.dir.join(name), text)?;
            }
            let command = self.lab.gw().command(&launch.line[0]).args(&launch.line[1..]);
            self.processes.push(command.current_dir(&self.dir).spawn()?);
        }
        Ok(())
    }

    /// The subject's processes, as far as they have come. Opens the interception to the sockets of those peers
    /// that can't do it themselves.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let ours = self.on.is_some_and(Peer::is_ours);
        let ours = ours.then(|| self.gateway.process());
        let mut pids = Vec::new();
        for process in self.processes.iter().chain(ours) {
            let pid = process.pid().filter(|_| !process.has_ended());
            let pid = pid.with_context(|| format!("it ended: {}", process.stderr()))?;
            pids.extend(family(pid));
        }
        if self.on.is_some_and(Peer::needs_help) {
            for pid in &pids {
                make_transparent(*pid)?;
            }
        }
        Ok(pids)
    }

    /// Ends whatever runs; the interception stays.
    pub async fn stop(&mut self) -> Result<()> {
        if self.on.take().is_some_and(Peer::is_ours) {
            self.gateway.kill().await?;
        }
        let mut pids = Vec::new();
        for process in self.processes.drain(..) {
            pids.extend(process.pid().map(family).unwrap_or_default());
            process.kill().await;
        }
        // Workers end with their group, but nobody here is their parent to wait for them.
        let gone = wait_until("a peer's end", STOP, async || {
            let alive = pids
                .iter()
                .find(|pid| Path::new(&format!("/proc/{pid}")).exists());
            alive.map_or(Ok(()), |pid| Err(pid.to_string()))
        });
        Ok(gone.await?)
    }

    /// What the running subject has said.
    pub fn complaints(&self) -> String {
        if self.on.is_some_and(Peer::is_ours) {
            return self.gateway.process().stderr();
        }
        let said = self.processes.iter().map(|one| one.stderr() + &one.stdout());
        said.collect::<Vec<_>>().join("\n")
    }
}
