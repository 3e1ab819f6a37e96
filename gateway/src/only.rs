//! One gateway for a state directory: a second one would share its ports, undo its rules at its own end and
//! take its status socket.
//!
//! Owns the lock; the kernel gives it back when the process ends, however that happens.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The lock's name in the state directory.
const LOCK: &str = "lock";
/// How often the lock is tried, and the pause between two tries: a predecessor that was killed a moment ago
/// may still be ending.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// The right to be the gateway of a state directory, while it lives.
#[derive(Debug)]
pub(crate) struct Only {
    _held: Flock<File>,
}

impl Only {
    /// Takes it; an error of kind `AddrInUse` when another process has it.
    pub(crate) fn take(state_dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(state_dir)?;
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(state_dir.join(LOCK))?;
        for _ in 0..TRIES {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => return Ok(Self { _held: held }),
                Err((file, Errno::EWOULDBLOCK)) => file,
                Err((_, errno)) => return Err(errno.into()),
            };
            std::thread::sleep(PAUSE);
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another gateway runs with this state directory",
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn there_is_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let first = Only::take(&state).unwrap();
        assert_eq!(Only::take(&state).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        Only::take(&state).unwrap();
    }
}
