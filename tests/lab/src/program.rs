//! Owns a process of the program under test: its directory, its configuration
//! file, its life in a machine of the lab. Knows the program only by its
//! command line and its files. `Gateway` and `Control` drive it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::command::Process;
use crate::error::{During, LabError};
use crate::machine::Machine;
use crate::wait::{WaitError, wait_until};

/// Longest wait for the program to say that it is up.
pub(crate) const START: Duration = Duration::from_secs(20);
/// The configuration's name in the program's directory.
pub(crate) const CONFIG: &str = "tidegate.yaml";

/// Why the program did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something of the lab failed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// It never said that it is up.
    #[error("it did not come up: {source}; its log:\n{log}")]
    Start {
        /// What was seen last.
        source: WaitError,
        /// Its stderr.
        log: String,
    },
}

/// What is started, where and with which files.
#[derive(Debug)]
pub(crate) struct Program {
    machine: Machine,
    binary: PathBuf,
    subcommand: &'static str,
    dir: PathBuf,
    process: Process,
}

impl Program {
    /// Writes the configuration to `dir` and starts `binary SUBCOMMAND --config` with it.
    pub(crate) fn launch(
        machine: &Machine,
        binary: PathBuf,
        subcommand: &'static str,
        dir: PathBuf,
        config: &str,
    ) -> Result<Self, LabError> {
        write(&dir, CONFIG, config)?;
        Ok(Self {
            process: spawn(machine, &binary, subcommand, &dir)?,
            machine: machine.clone(),
            binary,
            subcommand,
            dir,
        })
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Where a file beside the configuration is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file beside the configuration, in one rename as editors do.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), LabError> {
        write(&self.dir, name, text)
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub(crate) async fn kill(&mut self) -> Result<(), LabError> {
        self.process.signal(Signal::SIGKILL)?;
        self.process.wait(Duration::from_secs(5)).await;
        Ok(())
    }

    /// Asks it to drain and end (SIGTERM), and waits for that; its exit code.
    pub(crate) async fn stop(&mut self, patience: Duration) -> Result<Option<i32>, LabError> {
        self.process.signal(Signal::SIGTERM)?;
        Ok(self.process.wait(patience).await.and_then(|status| status.code()))
    }

    /// Starts it again with the same files.
    pub(crate) fn respawn(&mut self) -> Result<(), LabError> {
        self.process = spawn(&self.machine, &self.binary, self.subcommand, &self.dir)?;
        Ok(())
    }

    /// Waits until the program says that it is up, or has ended before it did.
    pub(crate) async fn wait_up(
        &self,
        what: &str,
        mut probe: impl AsyncFnMut() -> Result<(), String>,
    ) -> Result<(), StartError> {
        let start = Instant::now();
        let mut last = String::from("nothing");
        let up = wait_until(what, START, async || {
            if self.process.has_ended() {
                return Ok(false);
            }
            probe()
                .await
                .map(|()| true)
                .inspect_err(|seen| last.clone_from(seen))
        });
        let source = match up.await {
            Ok(true) => return Ok(()),
            Ok(false) => {
                self.process.drained().await;
                WaitError {
                    what: what.to_owned(),
                    waited: start.elapsed(),
                    last: format!("it has ended; before: {last}"),
                }
            }
            Err(error) => error,
        };
        let log = self.process.stderr();
        Err(StartError::Start { source, log })
    }
}

fn spawn(machine: &Machine, binary: &Path, subcommand: &str, dir: &Path) -> Result<Process, LabError> {
    let command = machine.command(binary).args([subcommand, "--config"]);
    command.arg(dir.join(CONFIG)).env("TIDEGATE_LOG", "info").spawn()
}

/// Writes a file in one rename, as editors do; makes the directory.
pub(crate) fn write(dir: &Path, name: &str, text: &str) -> Result<(), LabError> {
    let what = || format!("write {name} for the program");
    std::fs::create_dir_all(dir).during(what())?;
    let beside = dir.join(format!(".{name}.new"));
    std::fs::write(&beside, text).during(what())?;
    std::fs::rename(beside, dir.join(name)).during(what())
}
