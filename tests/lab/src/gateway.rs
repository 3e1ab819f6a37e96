//! Owns a Tidegate process in the lab's gateway namespace: its configuration, its policy files, its
//! life. Knows the program only by its command line and its files. Tests and `tidegate demo` drive it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::error::LabError;
use crate::{EventLog, Lab, Process, WaitError, plan, wait_until};

/// Longest wait for a gateway to say that it is up.
const START: Duration = Duration::from_secs(20);

/// What a gateway is configured with before it starts.
#[derive(Debug)]
pub struct GatewayBuilder<'a> {
    lab: &'a Lab,
    binary: PathBuf,
    dir: PathBuf,
    networks: Vec<String>,
    leases: Vec<String>,
    dns: Vec<String>,
    sections: Vec<String>,
}

/// A running gateway. Dropping it kills it.
#[derive(Debug)]
pub struct Gateway<'a> {
    lab: &'a Lab,
    binary: PathBuf,
    dir: PathBuf,
    process: Process,
}

/// Why a gateway did not come up.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Something of the lab failed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// It never said that it is up.
    #[error("the gateway did not come up: {source}; its log:\n{log}")]
    Start {
        /// What was seen last.
        source: WaitError,
        /// Its stderr.
        log: String,
    },
}

impl<'a> GatewayBuilder<'a> {
    /// A gateway for `lab`, run from the program at `binary`, with the lab's resolver as its upstream.
    pub fn new(lab: &'a Lab, binary: impl Into<PathBuf>) -> Self {
        Self {
            lab,
            binary: binary.into(),
            dir: lab.dir().join("gateway"),
            networks: Vec::new(),
            leases: Vec::new(),
            dns: vec![format!("upstreams: [{}]", plan::DNS_V4)],
            sections: Vec::new(),
        }
    }

    /// Adds a network on interface `runnersN`; `keys` are further keys (`default-policy: d.yaml`).
    #[must_use]
    pub fn network(mut self, keys: &str) -> Self {
        let number = self.networks.len();
        let comma = if keys.is_empty() { "" } else { ", " };
        self.networks.push(format!(
            "{{name: net{number}, interface: runners{number}{comma}{keys}}}"
        ));
        self
    }

    /// Writes a file beside the configuration: a policy, an endpoint set, a block list.
    pub fn file(self, name: &str, text: &str) -> Result<Self, LabError> {
        write(&self.dir, name, text)?;
        Ok(self)
    }

    /// Gives runner `index` of the first network a static lease (v4 and v6) with a policy file.
    #[must_use]
    pub fn lease(self, index: usize, job: &str, policy: &str) -> Self {
        let (v4, v6) = (plan::runner_v4(0, index), plan::runner_v6(0, index));
        self.lease_of(&format!(
            "{{sources: [{v4}, \"{v6}\"], owner: acme, repo: acme/web, workflow: ci.yml, job: {job}, policy: {policy}}}"
        ))
    }

    /// Adds a static lease as written.
    #[must_use]
    pub fn lease_of(mut self, entry: &str) -> Self {
        self.leases.push(entry.to_owned());
        self
    }

    /// Adds a key to the `dns` section.
    #[must_use]
    pub fn dns(mut self, key: &str) -> Self {
        if key.starts_with("upstreams:") {
            self.dns.clear();
        }
        self.dns.push(key.to_owned());
        self
    }

    /// Adds a key to the `gateway` section, on one line: `global-block: [block.txt]`.
    #[must_use]
    pub fn section(mut self, key: &str) -> Self {
        self.sections.push(key.to_owned());
        self
    }

    /// The configuration's text.
    fn config(&self) -> String {
        let mut text =
            String::from("version: 1\ngateway:\n  name: lab-gw\n  state-dir: state\n  networks:\n");
        let plain = ["{name: net0, interface: runners0}".to_owned()];
        let networks = if self.networks.is_empty() {
            &plain[..]
        } else {
            &self.networks
        };
        for network in networks {
            text.extend(["    - ", network, "\n"]);
        }
        text.extend(["  dns: {", &self.dns.join(", "), "}\n"]);
        text += "  events: {file: events.ndjson}\n  metrics: {listen: \"127.0.0.1:9464\"}\n";
        for section in &self.sections {
            text.extend(["  ", section, "\n"]);
        }
        if !self.leases.is_empty() {
            text += "  static-leases:\n";
            for lease in &self.leases {
                text.extend(["    - ", lease, "\n"]);
            }
        }
        text
    }

    /// Writes the configuration, starts the gateway and waits until it says that it is up.
    pub async fn start(self) -> Result<Gateway<'a>, GatewayError> {
        let gateway = self.launch()?;
        gateway.ready().await?;
        Ok(gateway)
    }

    /// Starts the gateway without waiting for it.
    pub fn launch(self) -> Result<Gateway<'a>, LabError> {
        write(&self.dir, "tidegate.yaml", &self.config())?;
        let process = spawn(self.lab, &self.binary, &self.dir)?;
        Ok(Gateway {
            lab: self.lab,
            binary: self.binary,
            dir: self.dir,
            process,
        })
    }
}

impl Gateway<'_> {
    /// The lab that it stands in.
    pub fn lab(&self) -> &Lab {
        self.lab
    }

    /// Writes a file beside the configuration, in one rename as editors do.
    pub fn write(&self, name: &str, text: &str) -> Result<(), LabError> {
        write(&self.dir, name, text)
    }

    /// Where a file beside the configuration is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Its event log, from the beginning.
    pub fn events(&self) -> EventLog {
        EventLog::open(self.path("events.ndjson"))
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What `tidegate status --json` says, with its exit code.
    pub async fn status(&self) -> Result<(Option<i32>, Value), LabError> {
        let config = self.path("tidegate.yaml");
        let output = self
            .lab
            .gw()
            .command(&self.binary)
            .args(["status", "--json", "--config"])
            .arg(config)
            .run()
            .await?;
        Ok((
            output.code(),
            serde_json::from_str(&output.text()).unwrap_or(Value::String(output.errors())),
        ))
    }

    /// One Prometheus scrape.
    pub async fn metrics(&self) -> Result<String, LabError> {
        let scrape = ["-sS", "http://127.0.0.1:9464/metrics"];
        Ok(self.lab.gw().command("curl").args(scrape).run().await?.text())
    }

    /// Waits until the gateway says that interception is up.
    pub async fn ready(&self) -> Result<(), GatewayError> {
        let up = wait_until("the gateway to be up", START, async || {
            match self.status().await {
                Ok((_, status)) if status["interception"]["state"] == "up" => Ok(()),
                Ok((code, status)) => Err(format!("exit {code:?}: {status}")),
                Err(error) => Err(error.to_string()),
            }
        });
        up.await.map_err(|source| GatewayError::Start {
            source,
            log: self.process.stderr(),
        })
    }

    /// Waits until `status` satisfies `wanted`.
    pub async fn wait_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value, WaitError> {
        wait_until(what, Duration::from_secs(10), async || {
            match self.status().await {
                Ok((_, status)) if wanted(&status) => Ok(status),
                Ok((_, status)) => Err(status.to_string()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }

    /// Kills it (SIGKILL) and waits until it is gone; rules and sysctls stay as they are.
    pub async fn kill(&mut self) -> Result<(), LabError> {
        self.process.signal(Signal::SIGKILL)?;
        self.process.wait(Duration::from_secs(5)).await;
        Ok(())
    }

    /// Asks it to drain and end (SIGTERM), and waits for that.
    pub async fn stop(&mut self, patience: Duration) -> Result<Option<i32>, LabError> {
        self.process.signal(Signal::SIGTERM)?;
        Ok(self.process.wait(patience).await.and_then(|status| status.code()))
    }

    /// Starts it again with the same files, after [`Gateway::kill`] or [`Gateway::stop`].
    pub async fn restart(&mut self) -> Result<(), GatewayError> {
        self.process = spawn(self.lab, &self.binary, &self.dir)?;
        self.ready().await
    }
}

fn spawn(lab: &Lab, binary: &Path, dir: &Path) -> Result<Process, LabError> {
    let config = dir.join("tidegate.yaml");
    lab.gw()
        .command(binary)
        .args(["gateway", "--config"])
        .arg(config)
        .env("TIDEGATE_LOG", "info")
        .spawn()
}

fn write(dir: &Path, name: &str, text: &str) -> Result<(), LabError> {
    let failed = |source| LabError::Io {
        what: format!("write {name} for the gateway"),
        source,
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let beside = dir.join(format!(".{name}.new"));
    std::fs::write(&beside, text).map_err(failed)?;
    std::fs::rename(beside, dir.join(name)).map_err(failed)
}
