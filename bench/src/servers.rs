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
const CONFIG: &str = "tidegate.yaml";
const STOP: Duration = Duration::from_secs(5);

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The gateway: per-job policy, tickets, metrics, one event a query and a flow in a file.
    Tidegate,
    /// The same without the file.
    TidegateUnlogged,
    /// Unbound as a caching forwarder that answers everybody everything.
    Unbound,
    /// Unbound that refuses all but the allowlist's names (`local-zone`), for everybody alike.
    UnboundAllowlist,
    /// The same with a line a reply in a file (`log-replies`).
    UnboundLogged,
    /// HAProxy as a transparent proxy that passes the allowlist's names by SNI.
    HaProxy,
    /// The same with a line a flow (`option tcplog`), to a pipe that somebody reads.
    HaProxyLogged,
}

impl Subject {
    /// Its name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Tidegate => "Tidegate",
            Self::TidegateUnlogged => "Tidegate, no event file",
            Self::Unbound => "Unbound",
            Self::UnboundAllowlist => "Unbound, allowlist",
            Self::UnboundLogged => "Unbound, allowlist, reply log",
            Self::HaProxy => "HAProxy",
            Self::HaProxyLogged => "HAProxy, flow log",
        }
    }

    /// Whether it is Tidegate.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Tidegate | Self::TidegateUnlogged)
    }
}

/// The gateway's machine, on which one subject runs at a time.
#[derive(Debug)]
pub struct Stage<'a> {
    lab: &'a Lab,
    gateway: Gateway<'a>,
    /// As the lab wrote it.
    config: String,
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
        let config = fs::read_to_string(gateway.path(CONFIG))?;
        Ok(Self {
            config,
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
            Subject::Tidegate => return self.launch_tidegate(&self.config.clone()).await,
            Subject::TidegateUnlogged => {
                return self.launch_tidegate(&without_event_file(&self.config)).await;
            }
            Subject::Unbound => self.unbound(false, false)?,
            Subject::UnboundAllowlist => self.unbound(true, false)?,
            Subject::UnboundLogged => self.unbound(true, true)?,
            Subject::HaProxy => self.haproxy(false)?,
            Subject::HaProxyLogged => self.haproxy(true)?,
        };
        let process = self.lab.gw().command(&line[0]).args(&line[1..]).spawn()?;
        let pid = process.pid().context("it ended")?;
        self.peer = Some(process);
        Ok(pid)
    }

    async fn launch_tidegate(&mut self, config: &str) -> Result<i32> {
        self.gateway.write(CONFIG, config)?;
        self.gateway.restart().await?;
        self.gateway.process().pid().context("it ended")
    }

    fn unbound(&self, allowlist: bool, log: bool) -> Result<[String; 4]> {
        let file = if log {
            self.dir.join("unbound.log").display().to_string()
        } else {
            String::new()
        };
        let config = self.write("unbound.conf", &unbound(allowlist, &file))?;
        Ok(["unbound", "-d", "-c", &config].map(String::from))
    }

    fn haproxy(&self, log: bool) -> Result<[String; 4]> {
        let list = self.write("names", &cast::names(cast::ALLOWED_NAMES).join("\n"))?;
        let config = self.write("haproxy.cfg", &haproxy(&list, log))?;
        Ok(["haproxy", "-db", "-f", &config].map(String::from))
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

fn without_event_file(config: &str) -> String {
    let kept = config
        .lines()
        .filter(|line| !line.trim_start().starts_with("events:"));
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// One thread, no DNSSEC validation (Tidegate does none), the lab's resolver behind it. `log` is a file, or empty.
fn unbound(allowlist: bool, log: &str) -> String {
    let mut zones = String::from("  local-zone: \"test.\" nodefault\n");
    if allowlist {
        zones = String::from("  local-zone: \".\" refuse\n");
        for name in cast::names(cast::ALLOWED_NAMES) {
            // Writing to a String can't fail.
            let _ = writeln!(zones, "  local-zone: \"{name}.\" transparent");
        }
    }
    let replies = if log.is_empty() { "no" } else { "yes" };
    format!(
        "server:\n  interface: {}\n  ip-transparent: yes\n  access-control: 10.77.0.0/16 allow\n  num-threads: 1\n  \
         chroot: \"\"\n  username: \"\"\n  directory: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  logfile: \"{log}\"\n  \
         log-replies: {replies}\n  module-config: \"iterator\"\n  do-ip6: no\n{zones}\
         remote-control:\n  control-enable: no\nforward-zone:\n  name: \".\"\n  forward-addr: {}\n",
        plan::gateway_v4(0),
        plan::DNS_V4
    )
}

/// One thread; passes on to wherever the client wanted to go.
fn haproxy(names: &str, log: bool) -> String {
    let (target, lines) = if log {
        (
            "  log stdout format raw local0 info\n",
            "  log global\n  option tcplog\n",
        )
    } else {
        ("", "")
    };
    format!(
        "global\n  nbthread 1\n{target}defaults\n  mode tcp\n{lines}  \
         timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         frontend runners\n  bind 127.0.0.1:{PROXY_PORT} transparent\n  tcp-request inspect-delay 3s\n  \
         tcp-request content accept if {{ req.ssl_sni -i -f {names} }}\n  \
         tcp-request content reject if {{ req.ssl_hello_type 1 }}\n  \
         tcp-request content reject if WAIT_END\n  default_backend original\n\
         backend original\n  server original 0.0.0.0:0\n"
    )
}
