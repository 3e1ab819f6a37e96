//! Owns the real daemons in the fake internet (sshd, PostgreSQL): started in
//! its namespace, ready when they answer, killed with the lab. Blocking, as a
//! build is. Never outlives the lab: a sweep ends what a crash left.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::command::Command;
use crate::error::{During, LabError};
use crate::machine::Machine;
use crate::wait::WaitError;

/// How long a daemon may take to answer.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// A running daemon; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`, which must stay in the foreground. What it writes
    /// goes to `log`.
    pub(crate) fn start(command: Command, log: PathBuf) -> Result<Self, LabError> {
        let file = File::create(&log).during(format!("make {}", log.display()))?;
        let errors = file.try_clone().during("share a log")?;
        let mut command = command.into_std();
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = command.spawn();
        let child = child.during(format!("start {:?}", command.get_args()))?;
        Ok(Self { child, log })
    }

    /// Waits until `ready` says so; the error ends with the daemon's log.
    pub(crate) fn wait(&mut self, what: &str, mut ready: impl FnMut() -> bool) -> Result<(), LabError> {
        let start = Instant::now();
        while !ready() {
            let dead = self.child.try_wait().is_ok_and(|status| status.is_some());
            if dead || start.elapsed() > READY_WITHIN {
                return Err(LabError::Waited(WaitError {
                    what: what.to_owned(),
                    waited: start.elapsed(),
                    last: fs::read_to_string(&self.log).unwrap_or_default(),
                }));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let group = Pid::from_raw(self.child.id().cast_signed());
            let _gone = killpg(group, Signal::SIGKILL);
            let _reaped = self.child.wait();
        }
    }
}

/// Whether somebody accepts TCP connections at `address`, seen from `machine`.
pub(crate) fn accepts(machine: &Machine, address: SocketAddr) -> bool {
    let connects = || TcpStream::connect(address).is_ok();
    machine.enter(connects).unwrap_or(false)
}
