//! Owns the PostgreSQL server of the fake internet: Debian's own, on a fresh
//! cluster in the lab's directory, open to everybody, without TLS.
//! Never touches a cluster of the host.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use nix::unistd::User;

use crate::command::Command;
use crate::daemon::{Daemon, accepts};
use crate::error::{During, LabError, invalid};
use crate::machine::Machine;
use crate::{plan, tool};

/// The server's name.
pub(crate) const NAME: &str = "db.test";
/// Where Debian keeps PostgreSQL's versions.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Makes a cluster and starts it on port 5432 of `db.test`. About two seconds.
pub(crate) fn start(net: &Machine, lab_dir: &Path) -> Result<Daemon, LabError> {
    let programs = programs()?;
    let dir = lab_dir.join("postgres");
    fs::create_dir_all(&dir).during("make PostgreSQL's directory")?;
    let user = user()?;
    chown(&dir, Some(user.uid.as_raw()), Some(user.gid.as_raw())).during("give PostgreSQL its directory")?;
    let data = dir.join("data");
    let init = as_user(net, &user, &programs.join("initdb")).arg("-D").arg(&data);
    let init = init.args(["--username=postgres", "--auth=trust", "--no-sync"]);
    let init = init.args(["--locale=C", "--encoding=UTF8", "--no-instructions"]);
    tool::feed(&mut init.into_std(), b"")?;
    let everybody = "host all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n";
    let access = data.join("pg_hba.conf");
    fs::write(&access, everybody).during("open PostgreSQL to everybody")?;
    let postgres = as_user(net, &user, &programs.join("postgres"))
        .arg("-D")
        .arg(&data);
    let mut daemon = Daemon::start(postgres.args(settings()), lab_dir.join("postgres.log"))?;
    daemon.wait("PostgreSQL", || answers(net, &programs))?;
    Ok(daemon)
}

fn settings() -> Vec<String> {
    let [v4, v6] = plan::site(40);
    let addresses = format!("listen_addresses={v4},{v6}");
    let rest = [
        "unix_socket_directories=",
        "ssl=off",
        "fsync=off",
        // In the data directory: a killed server leaves nothing in /dev/shm.
        "dynamic_shared_memory_type=mmap",
    ];
    let settings = std::iter::once(addresses).chain(rest.map(str::to_owned));
    settings.flat_map(|setting| ["-c".to_owned(), setting]).collect()
}

/// PostgreSQL refuses to run as root. Its own IPC namespace takes its shared
/// memory along, however it ends.
fn as_user(net: &Machine, user: &User, program: &Path) -> Command {
    let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
    let command = net.command("unshare").args(["--ipc", "setpriv", "--reuid"]);
    let command = command.args([&uid, "--regid", &gid, "--clear-groups"]);
    command.current_dir("/").arg(program)
}

fn user() -> Result<User, LabError> {
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name).during(format!("look up user {name}"))? {
            return Ok(user);
        }
    }
    Err(invalid("users postgres and nobody", "neither exists"))
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

/// A connection alone says little: it accepts while it still starts up.
fn answers(net: &Machine, programs: &Path) -> bool {
    plan::site(40).iter().all(|address: &IpAddr| {
        let ready = || {
            let probe = net.command(programs.join("pg_isready"));
            let probe = probe.arg("-q").arg("-h").arg(address.to_string());
            tool::feed(&mut probe.into_std(), b"").is_ok()
        };
        accepts(net, (*address, 5432).into()) && ready()
    })
}
