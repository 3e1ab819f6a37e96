//! Owns a PostgreSQL cluster: Debian's newest programs on fresh files in a
//! directory of its own, and the life of its server process, on the host or in
//! a machine of a lab. Blocking. Never touches a cluster of the host.
//!
//! The server runs as the first process of a PID namespace: when it is killed,
//! the kernel kills its backends before its end shows, so that nobody of the
//! old server still writes when the next one starts. It dies with this program,
//! and its shared memory (an IPC namespace of its own) with it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};

use crate::daemon::{self, Daemon, accepts};
use crate::error::{During, LabError, invalid};
use crate::machine::{self, Machine};
use crate::tool;

/// Where Debian keeps PostgreSQL's versions.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Where a cluster's processes run.
#[derive(Debug)]
pub(crate) enum Place {
    /// In the network of this program.
    Host,
    /// In the namespace of a machine.
    Machine(Machine),
}

/// A cluster and its server. Dropping it kills the server and removes the files.
#[derive(Debug)]
pub(crate) struct Cluster {
    place: Place,
    dir: PathBuf,
    programs: PathBuf,
    user: User,
    listen: Vec<SocketAddr>,
    server: Option<Daemon>,
}

impl Cluster {
    /// Makes the files of a cluster in `dir`, which must be missing or empty and is given to the server's
    /// user. About a second.
    pub(crate) fn init(place: Place, dir: PathBuf) -> Result<Self, LabError> {
        fs::create_dir_all(&dir).during(format!("make {}", dir.display()))?;
        let mut inside = fs::read_dir(&dir).during(format!("read {}", dir.display()))?;
        if inside.next().is_some() {
            return Err(invalid(
                dir.display().to_string(),
                "not empty, so no place for a cluster",
            ));
        }
        let (programs, user) = (programs()?, user()?);
        must_be_reachable(&dir, &user)?;
        chown(&dir, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .during("give PostgreSQL its directory")?;
        let cluster = Self {
            place,
            dir,
            programs,
            user,
            listen: Vec::new(),
            server: None,
        };
        let mut init = cluster.command("setpriv");
        init.args(cluster.unprivileged());
        init.arg(cluster.programs.join("initdb"))
            .arg("-D")
            .arg(cluster.data());
        // Its own synchronization only: the server keeps fsync on.
        init.args(["--username=postgres", "--auth=trust", "--no-sync"]);
        init.args(["--locale=C", "--encoding=UTF8", "--no-instructions"]);
        tool::feed(&mut init, b"")?;
        let everybody = "local all all trust\nhost all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n";
        fs::write(cluster.data().join("pg_hba.conf"), everybody).during("open PostgreSQL to everybody")?;
        Ok(cluster)
    }

    /// Starts the server, to accept at these addresses (one port) and at a socket in its directory; returns
    /// when it does.
    pub(crate) fn start_at(&mut self, listen: Vec<SocketAddr>) -> Result<(), LabError> {
        self.listen = listen;
        self.start()
    }

    /// Starts the server where it was before.
    pub(crate) fn start(&mut self) -> Result<(), LabError> {
        self.kill()?;
        let mut command = self.command("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--ipc", "--pid", "--fork"]);
        command.args(["--kill-child=KILL", "setpriv", "--pdeathsig", "KILL"]);
        command.args(self.unprivileged());
        command
            .arg(self.programs.join("postgres"))
            .arg("-D")
            .arg(self.data());
        for setting in self.settings() {
            command.arg("-c").arg(setting);
        }
        let mut server = Daemon::start(command, self.dir.join("log"))?;
        let up = server.wait("PostgreSQL", || self.answers());
        self.server = Some(server);
        up.inspect_err(|_| {
            // The error is what went wrong; the next start kills again.
            let _gone = self.kill();
        })
    }

    /// Asks the server to end at once, in order (SIGINT: clients are disconnected), and waits for it.
    pub(crate) fn stop(&mut self) -> Result<(), LabError> {
        self.end(Signal::SIGINT)
    }

    /// Kills the server and all its backends (SIGKILL), and waits until they are gone.
    pub(crate) fn kill(&mut self) -> Result<(), LabError> {
        self.end(Signal::SIGKILL)
    }

    /// Runs one statement and returns its rows: columns by `|`, a line each.
    pub(crate) fn sql(&self, database: &str, statement: &str) -> Result<String, LabError> {
        let mut psql = self.command(self.programs.join("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
        psql.arg("-h")
            .arg(&self.dir)
            .args(["-p", &self.port().to_string()]);
        let rows = tool::feed(psql.arg("-c").arg(statement), b"")?;
        Ok(String::from_utf8_lossy(&rows).into_owned())
    }

    /// What the server has logged so far.
    pub(crate) fn log(&self) -> String {
        daemon::log_text(&self.dir.join("log"))
    }

    /// Where it accepts connections.
    pub(crate) fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    fn end(&mut self, signal: Signal) -> Result<(), LabError> {
        let Some(mut server) = self.server.take() else {
            return Ok(());
        };
        // None: it ends, or has not come so far as to be PostgreSQL; dropping the daemon is enough.
        if let Some(postgres) = child_of(server.pid()) {
            let _ended = kill(postgres, signal);
            server.wait_end("PostgreSQL's end")?;
        }
        Ok(())
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        match &self.place {
            Place::Host => {
                let mut command = Command::new(program.as_ref());
                command.env_clear().env("PATH", machine::PATH);
                command.env("LANG", "C.UTF-8").process_group(0).current_dir("/");
                command
            }
            Place::Machine(machine) => machine.command(program.as_ref()).current_dir("/").into_std(),
        }
    }

    /// Arguments of `setpriv`: PostgreSQL refuses to run as root.
    fn unprivileged(&self) -> [String; 5] {
        let (uid, gid) = (self.user.uid.to_string(), self.user.gid.to_string());
        [
            "--reuid".to_owned(),
            uid,
            "--regid".to_owned(),
            gid,
            "--clear-groups".to_owned(),
        ]
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A cluster accepts at one port.
    fn port(&self) -> u16 {
        self.listen.first().map_or(5432, SocketAddr::port)
    }

    fn settings(&self) -> Vec<String> {
        let addresses: Vec<_> = self.listen.iter().map(|socket| socket.ip().to_string()).collect();
        vec![
            format!("listen_addresses={}", addresses.join(",")),
            format!("port={}", self.port()),
            format!("unix_socket_directories={}", self.dir.display()),
            // Suites of many tests share one server, each with a pool.
            "max_connections=300".to_owned(),
            "ssl=off".to_owned(),
            "fsync=on".to_owned(),
            // In the data directory: a killed server leaves nothing in /dev/shm.
            "dynamic_shared_memory_type=mmap".to_owned(),
        ]
    }

    /// A connection alone says little: it accepts while it still starts up. The socket in the directory
    /// comes first, for it can only be ours.
    fn answers(&self) -> bool {
        let ready = |host: &str| {
            let mut probe = self.command(self.programs.join("pg_isready"));
            probe.args(["-q", "-h", host, "-p", &self.port().to_string()]);
            tool::feed(&mut probe, b"").is_ok()
        };
        let knock = |socket: &SocketAddr| match &self.place {
            Place::Host => std::net::TcpStream::connect(socket).is_ok(),
            Place::Machine(machine) => accepts(machine, *socket),
        };
        let socket = self.dir.join(format!(".s.PGSQL.{}", self.port()));
        socket.exists()
            && ready(&self.dir.display().to_string())
            && self
                .listen
                .iter()
                .all(|socket| knock(socket) && ready(&socket.ip().to_string()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _gone = self.kill();
        if let Err(error) = fs::remove_dir_all(&self.dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %self.dir.display(), %error, "cluster not wholly removed");
        }
    }
}

/// The one process that `unshare` forked.
fn child_of(parent: Pid) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let child = children.split_whitespace().next()?;
    child.parse().ok().map(Pid::from_raw)
}

fn user() -> Result<User, LabError> {
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name).during(format!("look up user {name}"))? {
            return Ok(user);
        }
    }
    Err(invalid("users postgres and nobody", "neither exists"))
}

/// PostgreSQL's own message for a closed parent directory is hard to read.
fn must_be_reachable(dir: &Path, user: &User) -> Result<(), LabError> {
    for above in dir
        .ancestors()
        .skip(1)
        .filter(|above| !above.as_os_str().is_empty())
    {
        let mode = fs::metadata(above).during(format!("look at {}", above.display()))?;
        if mode.permissions().mode() & 0o001 == 0 {
            let why = format!("user {} may not enter {}", user.name, above.display());
            return Err(invalid(dir.display().to_string(), why));
        }
    }
    Ok(())
}

/// The programs of the newest version installed.
fn programs() -> Result<PathBuf, LabError> {
    let versions = fs::read_dir(VERSIONS).during(format!("look for PostgreSQL in {VERSIONS}"))?;
    let newest = versions
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|programs| programs.join("postgres").exists())
        .max_by_key(|programs| version_of(programs));
    newest.ok_or_else(|| invalid(VERSIONS, "no PostgreSQL server in it"))
}

fn version_of(programs: &Path) -> Option<u32> {
    programs.parent()?.file_name()?.to_str()?.parse().ok()
}
