//! The subjects: Tidegate, Unbound and HAProxy, one at a time in the gateway's namespace, each on the server's
//! core, all behind the same interception.
//!
//! Owns the peers' configurations. The interception is Tidegate's own table and routes: killed, it leaves them in
//! place, and a peer takes over its sockets' addresses. So all subjects get packets over the same path.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidegate_lab::{Gateway, GatewayBuilder, Lab, Process, Signal, plan};

use crate::cast;
use crate::measure::{LOAD_CORE, SERVER_CORE, pin};

/// Where Tidegate's table diverts TCP to.
const PROXY_PORT: u16 = 7453;
const STOP: Duration = Duration::from_secs(5);

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The gateway: per-job policy, tickets, events, metrics.
    Tidegate,
    /// Unbound as a caching forwarder that answers everybody everything.
    Unbound,
    /// Unbound that refuses all but the allowlist's names (`local-zone`), for everybody alike.
    UnboundAllowlist,
    /// HAProxy as a transparent proxy that passes the allowlist's names by SNI.
    HaProxy,
}

impl Subject {
    /// Its name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Tidegate => "Tidegate",
            Self::Unbound => "Unbound",
            Self::UnboundAllowlist => "Unbound, allowlist",
            Self::HaProxy => "HAProxy",
        }
    }
}

/// The gateway's machine, on which one subject runs at a time.
#[derive(Debug)]
pub struct Stage<'a> {
    lab: &'a Lab,
    gateway: Gateway<'a>,
    peer: Option<Process>,
    dir: PathBuf,
}

impl<'a> Stage<'a> {
    /// Puts the interception in place: starts Tidegate and kills it.
    pub async fn open(lab: &'a Lab, program: PathBuf) -> Result<Self> {
        let dir = lab.dir().join("peers");
        fs::create_dir_all(&dir)?;
        let builder = GatewayBuilder::new(lab, program).file("job.yaml", &cast::policy())?;
        let mut gateway = builder.network("").lease(0, "bench", "job.yaml").start().await?;
        gateway.kill().await?;
        Ok(Self {
            lab,
            gateway,
            peer: None,
            dir,
        })
    }

    /// Starts a subject on the server's core. Returns its process id; it may not answer yet.
    pub async fn start(&mut self, subject: Subject) -> Result<i32> {
        pin(SERVER_CORE)?;
        let started = self.launch(subject).await;
        pin(LOAD_CORE)?;
        started.with_context(|| format!("can't start {}", subject.title()))
    }

    async fn launch(&mut self, subject: Subject) -> Result<i32> {
        let line = match subject {
            Subject::Tidegate => {
                self.gateway.restart().await?;
                return self.gateway.process().pid().context("it ended");
            }
            Subject::Unbound => [
                "unbound",
                "-d",
                "-c",
                &self.write("unbound.conf", &unbound(false))?,
            ]
            .map(String::from),
            Subject::UnboundAllowlist => [
                "unbound",
                "-d",
                "-c",
                &self.write("unbound-allowlist.conf", &unbound(true))?,
            ]
            .map(String::from),
            Subject::HaProxy => {
                let names = cast::names(cast::ALLOWED_NAMES).join("\n");
                let list = self.write("names", &names)?;
                [
                    "haproxy",
                    "-db",
                    "-f",
                    &self.write("haproxy.cfg", &haproxy(&list))?,
                ]
                .map(String::from)
            }
        };
        let process = self.lab.gw().command(&line[0]).args(&line[1..]).spawn()?;
        let pid = process.pid().context("it ended")?;
        self.peer = Some(process);
        Ok(pid)
    }

    /// Ends whatever runs; the interception stays.
    pub async fn stop(&mut self) -> Result<()> {
        match self.peer.take() {
            Some(mut peer) => {
                peer.signal(Signal::SIGKILL)?;
                ensure!(peer.wait(STOP).await.is_some(), "a peer did not end");
            }
            None => self.gateway.kill().await?,
        }
        Ok(())
    }

    /// What the running subject has said on stderr.
    pub fn complaints(&self) -> String {
        self.peer
            .as_ref()
            .map_or_else(|| self.gateway.process().stderr(), Process::stderr)
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.dir.join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }
}

/// One thread, no DNSSEC validation (Tidegate does none), the lab's resolver behind it.
fn unbound(allowlist: bool) -> String {
    let mut zones = String::from("  local-zone: \"test.\" nodefault\n");
    if allowlist {
        zones = String::from("  local-zone: \".\" refuse\n");
        for name in cast::names(cast::ALLOWED_NAMES) {
            // Writing to a String can't fail.
            let _ = writeln!(zones, "  local-zone: \"{name}.\" transparent");
        }
    }
    format!(
        "server:\n  interface: {}\n  ip-transparent: yes\n  access-control: 10.77.0.0/16 allow\n  num-threads: 1\n  \
         chroot: \"\"\n  username: \"\"\n  directory: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  \
         module-config: \"iterator\"\n  do-ip6: no\n{zones}\
         remote-control:\n  control-enable: no\nforward-zone:\n  name: \".\"\n  forward-addr: {}\n",
        plan::gateway_v4(0),
        plan::DNS_V4
    )
}

/// One thread, no log; passes on to wherever the client wanted to go.
fn haproxy(names: &str) -> String {
    format!(
        "global\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         frontend runners\n  bind 127.0.0.1:{PROXY_PORT} transparent\n  tcp-request inspect-delay 3s\n  \
         tcp-request content accept if {{ req.ssl_sni -i -f {names} }}\n  \
         tcp-request content reject if {{ req.ssl_hello_type 1 }}\n  \
         tcp-request content reject if WAIT_END\n  default_backend original\n\
         backend original\n  server original 0.0.0.0:0\n"
    )
}
