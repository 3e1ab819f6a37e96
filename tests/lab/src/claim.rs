//! Owns a lab's identity and its traces on the machine: the id that all its
//! names carry, the directory under `/run/tidegate-lab`, the lock that says
//! its owner lives, and the removal of everything that carries a dead id.
//!
//! Never touches a namespace, process or file that does not carry a lab id.
//! `Lab` drives it; so does whoever wants to [`sweep`] by hand.

use std::collections::HashSet;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{During, LabError};
use crate::tool;

/// Where labs live; only root writes there, so nobody can pre-plant names.
const HOME: &str = "/run/tidegate-lab";
/// Where `ip netns` keeps its handles.
const HANDLES: &str = "/run/netns";
/// Where `ip netns exec` looks for a namespace's own `/etc` files.
const ETC: &str = "/etc/netns";

/// How long killed processes may take to be gone.
const END_WITHIN: Duration = Duration::from_secs(3);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A held lab id. Dropping it removes everything that carries the id.
#[derive(Debug)]
pub(crate) struct Claim {
    id: String,
    /// Held for as long as the owner lives; the kernel frees it on any death.
    lock: Option<Flock<File>>,
}

impl Claim {
    /// Takes a fresh id, after removing what dead owners left.
    pub(crate) fn take() -> Result<Self, LabError> {
        let _guard = guard()?;
        sweep_guarded()?;
        let id = fresh_id();
        let dir = home(&id);
        fs::create_dir(&dir).during(format!("make {}", dir.display()))?;
        let lock = lock_owner(&dir)?
            .ok_or_else(|| crate::error::invalid(&id, "a lab with this fresh id is already owned"))?;
        Ok(Self { id, lock: Some(lock) })
    }

    /// The id in every name: digits, hex and dashes.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The lab's directory.
    pub(crate) fn dir(&self) -> PathBuf {
        home(&self.id)
    }

    /// The name of the namespace that plays `role`.
    pub(crate) fn namespace(&self, role: &str) -> String {
        format!("tg-{}-{role}", self.id)
    }

    /// Removes everything that carries the id; once.
    pub(crate) fn release(&mut self) -> Result<(), LabError> {
        match self.lock.take() {
            Some(_lock) => remove_traces(&self.id),
            None => Ok(()),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            tracing::warn!(id = self.id, %error, "lab not wholly removed; the next one sweeps it");
        }
    }
}

/// The directory for `/etc` files of a namespace, as `ip netns exec` knows it.
pub(crate) fn etc_dir(namespace: &str) -> PathBuf {
    Path::new(ETC).join(namespace)
}

/// The file that stands for a namespace.
pub(crate) fn handle(namespace: &str) -> PathBuf {
    Path::new(HANDLES).join(namespace)
}

/// Removes the labs whose owner is dead and returns their ids. Every build
/// does this first; labs that live are left alone.
pub fn sweep() -> Result<Vec<String>, LabError> {
    let _guard = guard()?;
    sweep_guarded()
}

fn home(id: &str) -> PathBuf {
    Path::new(HOME).join(id)
}

fn fresh_id() -> String {
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let random = RandomState::new().hash_one(count) as u16;
    format!("{}-{count}-{random:04x}", std::process::id())
}

/// One builder or sweeper at a time on the machine: a directory must not be
/// seen between its creation and its owner's lock.
fn guard() -> Result<Flock<File>, LabError> {
    fs::create_dir_all(HOME).during(format!("make {HOME}"))?;
    let file = File::create(Path::new(HOME).join(".guard")).during("open the labs' guard")?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .during("lock the labs' guard")
}

/// The owner's lock, or `None` when its owner lives.
fn lock_owner(dir: &Path) -> Result<Option<Flock<File>>, LabError> {
    let file = File::create(dir.join(".owner")).during(format!("open {}", dir.display()))?;
    Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).ok())
}

fn sweep_guarded() -> Result<Vec<String>, LabError> {
    let mut swept = Vec::new();
    for id in names_in(Path::new(HOME)) {
        if !home(&id).is_dir() {
            continue;
        }
        match lock_owner(&home(&id)) {
            Ok(Some(_lock)) => {
                remove_traces(&id)?;
                swept.push(id);
            }
            Ok(None) => {}
            // A living owner removes its own at this moment; it needs no guard for that.
            Err(_) if !home(&id).exists() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(swept)
}

/// The directory goes last: while any trace is left, a sweep can find it.
fn remove_traces(id: &str) -> Result<(), LabError> {
    let prefix = format!("tg-{id}-");
    let carries = |dir: &str| -> Vec<String> {
        let mut names = names_in(Path::new(dir));
        names.retain(|name| name.starts_with(&prefix));
        names
    };
    let namespaces = carries(HANDLES);
    let inside = Inside::of(&namespaces);
    inside.end_processes();
    if !namespaces.is_empty() {
        let lines = namespaces.iter().map(|name| format!("netns del {name}"));
        tool::ip(None, &lines.collect::<Vec<_>>().join("\n"))?;
        // Who came in meanwhile; nobody can any more.
        inside.end_processes();
    }
    for name in carries(ETC) {
        let dir = etc_dir(&name);
        fs::remove_dir_all(&dir).during(format!("remove {}", dir.display()))?;
    }
    let dir = home(id);
    fs::remove_dir_all(&dir).during(format!("remove {}", dir.display()))
}

/// A lab's namespaces, held open: as long as they are, the kernel gives their
/// inodes to no other lab.
struct Inside<'a> {
    names: &'a [String],
    files: Vec<File>,
}

impl<'a> Inside<'a> {
    fn of(names: &'a [String]) -> Self {
        let files = names.iter().filter_map(|name| File::open(handle(name)).ok());
        Self {
            names,
            files: files.collect(),
        }
    }

    /// Ends every process in these namespaces or on its way into one, by its
    /// pid, and waits for their ends: one that still writes would refill the
    /// directory. Threads of this program that entered one are not processes
    /// and end by themselves.
    fn end_processes(&self) {
        let inodes = self.files.iter().filter_map(|file| file.metadata().ok());
        let inodes: HashSet<u64> = inodes.map(|meta| meta.ino()).collect();
        let give_up = Instant::now() + END_WITHIN;
        while Instant::now() < give_up {
            let inside = processes(|pid| is_inside(pid, &inodes) || enters(pid, self.names));
            if inside.is_empty() {
                return;
            }
            for pid in inside {
                // It may have ended by itself since we looked.
                let _gone = kill(pid, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The other processes that `wanted` picks.
fn processes(wanted: impl Fn(i32) -> bool) -> Vec<Pid> {
    let names = names_in(Path::new("/proc"));
    let pids = names.iter().filter_map(|name| name.parse::<i32>().ok());
    pids.filter(|pid| wanted(*pid))
        .map(Pid::from_raw)
        .filter(|pid| *pid != Pid::this())
        .collect()
}

/// Whether its network is one of these; a zombie has none.
fn is_inside(pid: i32, inodes: &HashSet<u64>) -> bool {
    fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|meta| inodes.contains(&meta.ino()))
}

/// Whether it is the `ip netns exec` of one of these that has not entered yet:
/// it may hold the handle already, and would come in after all are ended.
fn enters(pid: i32, namespaces: &[String]) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    words.windows(3).any(|words| {
        words[..2] == [b"netns".as_slice(), b"exec"]
            && namespaces.iter().any(|name| name.as_bytes() == words[2])
    })
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
