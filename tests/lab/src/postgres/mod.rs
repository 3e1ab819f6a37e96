//! Owns PostgreSQL as tests see it: a server of their own on loopback, on the
//! host or in a machine of a lab, and the `db.test` of the fake internet. What
//! a cluster is made of is `cluster`'s. Never touches a cluster of the host.

mod cluster;

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

pub(crate) use self::cluster::Cluster;
use self::cluster::Place;
use crate::claim::Claim;
use crate::error::{LabError, invalid};
use crate::machine::Machine;
use crate::plan;

/// The name of the fake internet's server.
pub(crate) const NAME: &str = "db.test";
/// Where free ports are looked for: below those that Linux gives to outgoing
/// connections (from 32768), or one of them could take the port while the
/// server restarts.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many ports are tried when others take them in between.
const ATTEMPTS: usize = 5;

/// A PostgreSQL server for tests: Debian's own, a fresh cluster, `fsync` on,
/// user `postgres` without password or TLS. Ready when it is returned; killed,
/// with its files, on drop. It dies with the program that started it, however
/// that ends. Needs root (it changes to user `postgres` itself) and the Debian
/// package `postgresql`. All calls block: about two seconds to start.
///
/// For a suite that runs every test on both stores, one server and a database
/// for each test:
///
/// ```no_run
/// # use tidegate_lab::{LabError, PostgresServer};
/// fn store_url() -> Result<(std::sync::Arc<PostgresServer>, String), LabError> {
///     let server = PostgresServer::shared()?; // the first caller starts it
///     let url = server.create_database()?; // empty, nobody else's
///     Ok((server, url)) // keep the server as long as the store
/// }
/// ```
///
/// For a test that restarts or kills it under load, a server of its own:
///
/// ```no_run
/// # use tidegate_lab::{LabError, PostgresServer};
/// # fn example(dir: &std::path::Path) -> Result<(), LabError> {
/// let mut server = PostgresServer::start(dir.join("postgres"))?;
/// let url = server.url(); // stays the same
/// server.restart()?; // in order: clients are disconnected
/// server.kill()?; // SIGKILL, backends included
/// server.restart()?; // recovers from its log
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct PostgresServer {
    cluster: Cluster,
    databases: AtomicU32,
    /// After the cluster: dropping it removes the directory of a shared server.
    _home: Option<Claim>,
}

impl PostgresServer {
    /// Starts a server on a free port of 127.0.0.1, with its files in `dir`,
    /// which must be missing or empty, is given to the server's user and
    /// removed on drop. The directories above must let everybody pass.
    pub fn start(dir: impl Into<PathBuf>) -> Result<Self, LabError> {
        Ok(Self::of(on_loopback(dir.into())?, None))
    }

    /// The server that the tests of one process share, in a directory of the
    /// lab's own. Started by the first caller, gone with the last holder.
    pub fn shared() -> Result<Arc<Self>, LabError> {
        static SHARED: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock();
        if let Some(server) = shared.upgrade() {
            return Ok(server);
        }
        let home = Claim::take()?;
        let cluster = on_loopback(home.dir().join("postgres"))?;
        let server = Arc::new(Self::of(cluster, Some(home)));
        *shared = Arc::downgrade(&server);
        Ok(server)
    }

    /// Starts a server inside a machine of a lab, at port 5432 of its
    /// 127.0.0.1, with its files in `dir` as for [`start`](Self::start).
    pub fn start_in(machine: &Machine, dir: impl Into<PathBuf>) -> Result<Self, LabError> {
        let mut cluster = Cluster::init(Place::Machine(machine.clone()), dir.into())?;
        cluster.start_at(vec![(Ipv4Addr::LOCALHOST, 5432).into()])?;
        Ok(Self::of(cluster, None))
    }

    /// `postgres://postgres@127.0.0.1:PORT/postgres`; the same after a restart.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Makes a fresh, empty database and returns its URL.
    pub fn create_database(&self) -> Result<String, LabError> {
        let name = format!("lab{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql(&format!("CREATE DATABASE {name}"))?;
        Ok(self.url_of(&name))
    }

    /// Runs a statement in database `postgres` and returns its rows: columns by
    /// `|`, a line each.
    pub fn sql(&self, statement: &str) -> Result<String, LabError> {
        self.cluster.sql("postgres", statement)
    }

    /// Starts it again at the same place, after ending it in order if it runs:
    /// what `systemctl restart postgresql` does. Clients are disconnected.
    pub fn restart(&mut self) -> Result<(), LabError> {
        self.cluster.stop()?;
        self.cluster.start()
    }

    /// Ends it in order; clients are disconnected.
    pub fn stop(&mut self) -> Result<(), LabError> {
        self.cluster.stop()
    }

    /// Kills it with all its backends (SIGKILL). Nothing of it runs afterwards.
    pub fn kill(&mut self) -> Result<(), LabError> {
        self.cluster.kill()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.cluster.log()
    }

    fn of(cluster: Cluster, home: Option<Claim>) -> Self {
        Self {
            cluster,
            databases: AtomicU32::new(0),
            _home: home,
        }
    }

    fn url_of(&self, database: &str) -> String {
        let sockets = self.cluster.listen().iter();
        let sockets: String = sockets.take(1).map(ToString::to_string).collect();
        format!("postgres://postgres@{sockets}/{database}")
    }
}

/// Makes the fake internet's server and starts it on port 5432 of `db.test`,
/// open to everybody.
pub(crate) fn start(net: &Machine, lab_dir: &Path) -> Result<Cluster, LabError> {
    let mut cluster = Cluster::init(Place::Machine(net.clone()), lab_dir.join("postgres"))?;
    let sockets = plan::site(40).map(|address| SocketAddr::new(address, 5432));
    cluster.start_at(sockets.to_vec())?;
    Ok(cluster)
}

/// A fresh cluster's server on a free port of the host's loopback.
fn on_loopback(dir: PathBuf) -> Result<Cluster, LabError> {
    let mut cluster = Cluster::init(Place::Host, dir)?;
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match cluster.start_at(vec![free_port()?]) {
            Err(error) if left == 0 => return Err(error),
            // Somebody took the port since we looked, or the server is broken: then the last error says so.
            Err(_) => {}
            Ok(()) => return Ok(cluster),
        }
    }
}

/// A port of loopback that nobody listens at now.
fn free_port() -> Result<SocketAddr, LabError> {
    let first = RandomState::new().hash_one(std::process::id()) as usize % PORTS.len();
    let ports = PORTS.skip(first).chain(PORTS.take(first));
    let mut sockets = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let free = sockets.find(|socket| TcpListener::bind(socket).is_ok());
    free.ok_or_else(|| invalid(format!("ports {PORTS:?}"), "somebody listens at every one"))
}
