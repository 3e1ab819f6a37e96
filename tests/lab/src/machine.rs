//! Owns one machine of the lab: a network namespace, its addresses, and what
//! can be done in it (run commands, enter it, change its links).
//! Never reaches into another machine's namespace. Tests drive it.

use std::ffi::OsStr;
use std::fs;
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use crate::command::Command;
use crate::error::{During, LabError};
use crate::{claim, git, netns, plan, tool};

/// The clean `PATH`: the distribution's tools, nobody's shims.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a machine is made of; `topology` fills it in.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) namespace: String,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
    pub(crate) interface: &'static str,
    /// The runner network that it is a runner of.
    pub(crate) network: Option<usize>,
    /// Lines of its `resolv.conf`.
    pub(crate) resolvers: Vec<String>,
    pub(crate) lab_dir: PathBuf,
}

/// A machine of the lab: one network namespace.
#[derive(Debug, Clone)]
pub struct Machine {
    plan: Plan,
    environment: Vec<(&'static str, String)>,
}

impl Machine {
    /// Makes the machine's files: its home and its own `/etc`.
    pub(crate) fn new(plan: Plan) -> Result<Self, LabError> {
        let home = plan.lab_dir.join("home").join(&plan.namespace);
        fs::create_dir_all(&home).during(format!("make {}", home.display()))?;
        let etc = claim::etc_dir(&plan.namespace);
        fs::create_dir_all(&etc).during(format!("make {}", etc.display()))?;
        let environment = clean_environment(&plan.lab_dir, &home);
        let machine = Self { plan, environment };
        machine.set_resolvers(&machine.plan.resolvers)?;
        machine.set_hosts("127.0.0.1 localhost\n::1 localhost\n")?;
        Ok(machine)
    }

    /// The name of its namespace, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.plan.namespace
    }

    /// Its first IPv4 address.
    pub fn v4(&self) -> Ipv4Addr {
        self.plan.v4
    }

    /// Its first global IPv6 address.
    pub fn v6(&self) -> Ipv6Addr {
        self.plan.v6
    }

    /// The interface that has those addresses.
    pub fn interface(&self) -> &str {
        self.plan.interface
    }

    /// Its home directory, `$HOME` and working directory of its commands.
    pub fn home(&self) -> PathBuf {
        self.plan.lab_dir.join("home").join(&self.plan.namespace)
    }

    /// A command to run in it, with a clean environment that trusts the lab's CA.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let command = Command::new(self.name(), program.as_ref()).current_dir(self.home());
        self.environment
            .iter()
            .fold(command, |command, (name, value)| command.env(name, value))
    }

    /// Runs blocking `work` on a thread in the namespace, so that its sockets
    /// are the machine's, and waits for it. `/etc` stays the host's.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        netns::enter(self.name(), work)
    }

    /// Runs a future on a runtime of its own on a thread in the namespace.
    /// `work` makes the future there; it need not be `Send`.
    pub async fn enter_async<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> Result<T, LabError>
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        netns::enter_async(self.name().to_owned(), work).await
    }

    /// Runs lines of `ip -batch` in it, e.g. `link set eth0 mtu 1280`.
    pub fn ip(&self, script: &str) -> Result<(), LabError> {
        tool::ip(Some(self.name()), script)
    }

    /// Adds an address with its prefix length, e.g. `10.77.1.200/24`.
    pub fn add_address(&self, address: &str) -> Result<(), LabError> {
        // Only IPv6 detects duplicates, and would not use the address meanwhile.
        let flag = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("addr add {address} dev {}{flag}", self.interface()))
    }

    /// Makes gateway 1 or 2 a runner's default route of both families and its
    /// resolver, as when a virtual router fails over. Open connections are the
    /// other gateway's and break.
    pub fn use_gateway(&self, number: usize) -> Result<(), LabError> {
        let network = self.plan.network;
        let network = network.ok_or_else(|| crate::error::invalid(self.name(), "not a runner"))?;
        let (v4, v6) = match number {
            1 => (plan::gateway_v4(network), plan::gateway_v6(network)),
            2 => (plan::second_gateway_v4(network), plan::second_gateway_v6(network)),
            _ => {
                return Err(crate::error::invalid(
                    format!("gateway {number}"),
                    "1 or 2 is meant",
                ));
            }
        };
        self.set_resolvers(&[v4.to_string()])?;
        self.ip(&format!(
            "route replace default via {v4}\nroute replace default via {v6}\n"
        ))
    }

    /// Gives its interface another MAC, e.g. `02:77:00:00:00:99`.
    pub fn set_mac(&self, mac: &str) -> Result<(), LabError> {
        self.ip(&format!("link set dev {} address {mac}", self.interface()))
    }

    /// The MAC of its interface now.
    pub fn mac(&self) -> Result<String, LabError> {
        let mut command = std::process::Command::new("ip");
        command.args(["-netns", self.name(), "-json", "link", "show", "dev"]);
        command.arg(self.interface());
        let links = tool::feed(&mut command, b"")?;
        let links: serde_json::Value = serde_json::from_slice(&links)
            .map_err(|error| crate::error::invalid("output of `ip -json link`", error))?;
        let mac = links[0]["address"].as_str();
        mac.map(str::to_owned)
            .ok_or_else(|| crate::error::invalid(links.to_string(), "no MAC in it"))
    }

    /// Sets a kernel parameter of the namespace, e.g. `net/ipv4/ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        // `/proc/sys/net` shows the writer's own namespace.
        let path = Path::new("/proc/sys").join(key);
        self.enter(|| fs::write(&path, value))?
            .during(format!("set {key} to {value}"))
    }

    /// Replaces the name servers of its `resolv.conf`; seen by running commands too.
    pub fn set_resolvers(&self, servers: &[impl AsRef<str>]) -> Result<(), LabError> {
        let lines = servers
            .iter()
            .map(|server| format!("nameserver {}\n", server.as_ref()));
        self.write_etc("resolv.conf", &lines.collect::<String>())
    }

    /// Replaces its `/etc/hosts`; seen by running commands too.
    pub fn set_hosts(&self, text: &str) -> Result<(), LabError> {
        self.write_etc("hosts", text)
    }

    /// Replaces a file of its `/etc`, which `ip netns exec` binds over the
    /// host's. In place: a bind mount would not follow a renamed file. The
    /// host must have the file too, or there is nothing to bind over.
    pub(crate) fn write_etc(&self, file: &str, text: &str) -> Result<(), LabError> {
        let path = claim::etc_dir(self.name()).join(file);
        fs::write(&path, text).during(format!("write {}", path.display()))
    }
}

/// Where the lab's CA certificate lies in its directory.
pub(crate) fn ca_path(lab_dir: &Path) -> PathBuf {
    lab_dir.join("ca.pem")
}

fn clean_environment(lab_dir: &Path, home: &Path) -> Vec<(&'static str, String)> {
    let ca = ca_path(lab_dir).display().to_string();
    let home = home.display().to_string();
    let ssh = format!("ssh -F {}", git::ssh_config(lab_dir).display());
    let mut environment = vec![
        ("PATH", PATH.to_owned()),
        ("HOME", home),
        ("LANG", "C.UTF-8".to_owned()),
        ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
        ("GIT_TERMINAL_PROMPT", "0".to_owned()),
        ("GIT_SSH_COMMAND", ssh),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1".to_owned()),
        ("PIP_CONFIG_FILE", "/dev/null".to_owned()),
    ];
    let trusting = [
        "CURL_CA_BUNDLE",
        "SSL_CERT_FILE",
        "GIT_SSL_CAINFO",
        "PIP_CERT",
        "REQUESTS_CA_BUNDLE",
    ];
    environment.extend(trusting.map(|name| (name, ca.clone())));
    environment
}
