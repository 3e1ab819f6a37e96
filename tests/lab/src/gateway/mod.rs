//! Owns a running Tidegate in one of the lab's gateway machines: `tidegate
//! gateway`, or `tidegate up` with control in it. How it is configured is
//! `builder`'s. Knows the program only by its command line and its files.
//! Tests and `tidegate demo` drive it.

mod builder;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::command::Process;
use crate::control::ControlApi;
use crate::error::LabError;
use crate::events::EventLog;
use crate::lab::Lab;
use crate::machine::Machine;
use crate::program::{CONFIG, Program, StartError};
use crate::wait::{WaitError, wait_until};

pub use self::builder::GatewayBuilder;

/// A running gateway. Dropping it kills it.
#[derive(Debug)]
pub struct Gateway<'a> {
    lab: &'a Lab,
    program: Program,
    control: Option<ControlApi>,
}

impl Gateway<'_> {
    /// The lab that it stands in.
    pub fn lab(&self) -> &Lab {
        self.lab
    }

    /// Writes a file beside the configuration, in one rename as editors do.
    pub fn write(&self, name: &str, text: &str) -> Result<(), LabError> {
        self.program.write(name, text)
    }

    /// Where a file beside the configuration is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.program.path(name)
    }

    /// Its event log, from the beginning.
    pub fn events(&self) -> EventLog {
        EventLog::open(self.path("events.ndjson"))
    }

    /// The process.
    pub fn process(&self) -> &Process {
        self.program.process()
    }

    /// The machine that it runs in.
    pub fn machine(&self) -> &Machine {
        self.program.machine()
    }

    /// The control plane in the same process. Panics unless the gateway is
    /// [`up`](GatewayBuilder::up).
    pub fn control(&self) -> &ControlApi {
        let control = self.control.as_ref();
        control.expect("the gateway was started by `up`")
    }

    /// What `tidegate status --json` says, with its exit code.
    pub async fn status(&self) -> Result<(Option<i32>, Value), LabError> {
        let status = self.machine().command(self.program.binary());
        let status = status.args(["status", "--json", "--config"]);
        let output = status.arg(self.path(CONFIG)).run().await?;
        Ok((
            output.code(),
            serde_json::from_str(&output.text()).unwrap_or(Value::String(output.errors())),
        ))
    }

    /// One Prometheus scrape.
    pub async fn metrics(&self) -> Result<String, LabError> {
        let scrape = ["-sS", "http://127.0.0.1:9464/metrics"];
        Ok(self.machine().command("curl").args(scrape).run().await?.text())
    }

    /// Waits until the gateway says that interception is up, and the control
    /// plane in the same process, if any, that it is ready.
    pub async fn ready(&self) -> Result<(), StartError> {
        let up = async || match self.status().await {
            Ok((_, status)) if status["interception"]["state"] == "up" => Ok(()),
            Ok((code, status)) => Err(format!("exit {code:?}: {status}")),
            Err(error) => Err(error.to_string()),
        };
        self.program.wait_up("the gateway to be up", up).await?;
        let Some(control) = &self.control else {
            return Ok(());
        };
        let ready = async || control.is_ready().await;
        self.program.wait_up("control to be ready", ready).await
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
        self.program.kill().await
    }

    /// Asks it to drain and end (SIGTERM), and waits for that.
    pub async fn stop(&mut self, patience: Duration) -> Result<Option<i32>, LabError> {
        self.program.stop(patience).await
    }

    /// Starts it again with the same files, after [`Gateway::kill`] or [`Gateway::stop`].
    pub async fn restart(&mut self) -> Result<(), StartError> {
        self.program.respawn()?;
        self.ready().await
    }
}
