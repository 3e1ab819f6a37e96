//! Owns the real daemons of the lab (sshd, PostgreSQL): started once, ready
//! when they answer, killed with their owner. Blocking, as a build is.
//! Never outlives a lab: a sweep ends what a crash left in its namespaces.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

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
    /// Ends the thread that the daemon was started by.
    _parent: SyncSender<()>,
}

impl Daemon {
    /// Starts `command`, which must stay in the foreground and be in a process
    /// group of its own. What it writes is appended to `log`.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Result<Self, LabError> {
        let file = File::options().create(true).append(true).open(&log);
        let file = file.during(format!("open {}", log.display()))?;
        let errors = file.try_clone().during("share a log")?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let line = format!("start {:?}", command.get_args());
        let (child, parent) = spawn_from_a_lasting_thread(command).during(line)?;
        Ok(Self {
            child,
            log,
            _parent: parent,
        })
    }

    /// The pid of the command that was started.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits until `ready` says so; the error ends with the daemon's log.
    pub(crate) fn wait(&mut self, what: &str, mut ready: impl FnMut() -> bool) -> Result<(), LabError> {
        self.look_until(what, |child| {
            let dead = child.try_wait().is_ok_and(|status| status.is_some());
            if dead {
                Some(false)
            } else {
                ready().then_some(true)
            }
        })
    }

    /// Waits until it has ended by itself or by a signal.
    pub(crate) fn wait_end(&mut self, what: &str) -> Result<(), LabError> {
        self.look_until(what, |child| match child.try_wait() {
            Ok(None) => None,
            Ok(Some(_)) | Err(_) => Some(true),
        })
    }

    /// Looks until there is an outcome: `true` is the wanted one.
    fn look_until(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Child) -> Option<bool>,
    ) -> Result<(), LabError> {
        let start = Instant::now();
        loop {
            let outcome = look(&mut self.child);
            if outcome == Some(true) {
                return Ok(());
            }
            if outcome == Some(false) || start.elapsed() > READY_WITHIN {
                return Err(LabError::Waited(WaitError {
                    what: what.to_owned(),
                    waited: start.elapsed(),
                    last: log_text(&self.log),
                }));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _gone = killpg(self.pid(), Signal::SIGKILL);
            let _reaped = self.child.wait();
        }
    }
}

/// What a daemon has written so far.
pub(crate) fn log_text(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

/// The kernel's parent-death signal means the *thread* that forked, and tests
/// run on threads that end. This one lasts until the sender goes.
fn spawn_from_a_lasting_thread(mut command: Command) -> io::Result<(Child, SyncSender<()>)> {
    let (hand_over, started) = sync_channel(1);
    let (parent, gone) = sync_channel::<()>(0);
    std::thread::Builder::new()
        .name("lab-daemon".to_owned())
        .spawn(move || {
            let _abandoned = hand_over.send(command.spawn());
            let _gone = gone.recv();
        })?;
    let child = started.recv().map_err(io::Error::other)??;
    Ok((child, parent))
}

/// Whether somebody accepts TCP connections at `address`, seen from `machine`.
pub(crate) fn accepts(machine: &Machine, address: SocketAddr) -> bool {
    let connects = || TcpStream::connect(address).is_ok();
    machine.enter(connects).unwrap_or(false)
}
