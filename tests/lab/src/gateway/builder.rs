//! Owns what a gateway is configured with: its configuration's text, its files,
//! its certificate. Text and files only; the running program is `Gateway`'s.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::Gateway;
use crate::api::Api;
use crate::control::{ADMIN_TOKEN, ControlApi, ControlSection};
use crate::error::{During, LabError};
use crate::lab::Lab;
use crate::machine::Machine;
use crate::plan;
use crate::program::{self, Program, StartError};

/// The file with the gateway's token for the control plane.
const TOKEN: &str = "token";
/// Where control listens when it is in the same process.
const UP_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), plan::CONTROL_PORT);

/// What a gateway is configured with before it starts.
#[derive(Debug)]
pub struct GatewayBuilder<'a> {
    lab: &'a Lab,
    machine: &'a Machine,
    /// 1 or 2: which of the lab's gateway machines it stands in.
    number: usize,
    binary: PathBuf,
    name: String,
    dir: PathBuf,
    networks: Vec<String>,
    leases: Vec<String>,
    dns: Vec<String>,
    sections: Vec<String>,
    token: Option<String>,
    runner_api: bool,
    /// Names under which it serves the runner API besides its own.
    hosts: Vec<String>,
    up: Option<ControlSection>,
}

impl<'a> GatewayBuilder<'a> {
    /// A gateway for `lab`, run from the program at `binary`, with the lab's resolver as its upstream: in the
    /// first gateway's machine, called `lab-gw`, with its files in a directory `gateway`.
    pub fn new(lab: &'a Lab, binary: impl Into<PathBuf>) -> Self {
        Self::at(lab, (1, lab.gw()), ("lab-gw", "gateway"), binary.into())
    }

    /// A gateway called `name`, with a directory of that name, in the first gateway's machine.
    pub fn named(lab: &'a Lab, name: &str, binary: impl Into<PathBuf>) -> Self {
        Self::at(lab, (1, lab.gw()), (name, name), binary.into())
    }

    /// The same in the second gateway's machine, [`Lab::gw2`].
    pub fn second(lab: &'a Lab, name: &str, binary: impl Into<PathBuf>) -> Self {
        Self::at(lab, (2, lab.gw2()), (name, name), binary.into())
    }

    fn at(
        lab: &'a Lab,
        (number, machine): (usize, &'a Machine),
        (name, dir): (&str, &str),
        binary: PathBuf,
    ) -> Self {
        Self {
            lab,
            machine,
            number,
            binary,
            name: name.to_owned(),
            dir: lab.dir().join(dir),
            networks: Vec::new(),
            leases: Vec::new(),
            dns: vec![format!("upstreams: [{}]", plan::DNS_V4)],
            sections: Vec::new(),
            token: None,
            runner_api: false,
            hosts: Vec::new(),
            up: None,
        }
    }

    /// Adds a network on interface `runnersN`; `keys` are further keys (`default-policy: d.yaml`).
    #[must_use]
    pub fn network(mut self, keys: &str) -> Self {
        let number = self.networks.len();
        let comma = if keys.is_empty() { "" } else { ", " };
        self.networks.push(format!(
            "{{name: net{number}, interface: runners{number}{comma}{keys}}}"
        ));
        self
    }

    /// Writes a file beside the configuration: a policy, an endpoint set, a block list.
    pub fn file(self, name: &str, text: &str) -> Result<Self, LabError> {
        program::write(&self.dir, name, text)?;
        Ok(self)
    }

    /// Gives runner `index` of the first network a static lease (v4 and v6) with a policy file.
    #[must_use]
    pub fn lease(self, index: usize, job: &str, policy: &str) -> Self {
        let (v4, v6) = (plan::runner_v4(0, index), plan::runner_v6(0, index));
        self.lease_of(&format!(
            "{{sources: [{v4}, \"{v6}\"], owner: acme, repo: acme/web, workflow: ci.yml, job: {job}, policy: {policy}}}"
        ))
    }

    /// Adds a static lease as written.
    #[must_use]
    pub fn lease_of(mut self, entry: &str) -> Self {
        self.leases.push(entry.to_owned());
        self
    }

    /// Adds a key to the `dns` section.
    #[must_use]
    pub fn dns(mut self, key: &str) -> Self {
        if key.starts_with("upstreams:") {
            self.dns.clear();
        }
        self.dns.push(key.to_owned());
        self
    }

    /// Adds a key to the `gateway` section, on one line: `global-block: [block.txt]`.
    #[must_use]
    pub fn section(mut self, key: &str) -> Self {
        self.sections.push(key.to_owned());
        self
    }

    /// Makes it one of the gateways that share leases.
    #[must_use]
    pub fn group(self, name: &str) -> Self {
        self.section(&format!("group: {name}"))
    }

    /// Follows the control plane at `url` (`https://control.test:8443`), with this token, which is written to the
    /// file `token`, and the authority that signed control's certificate ([`Lab::ca_pem_path`]).
    #[must_use]
    pub fn control_plane(mut self, url: &str, token: &str, ca: &Path) -> Self {
        self.token = Some(token.to_owned());
        let ca = ca.display();
        self.section(&format!(
            "control-plane: {{url: \"{url}\", token-file: {TOKEN}, ca: \"{ca}\"}}"
        ))
    }

    /// Opens the runner API on port 443 of the gateway's addresses (both families) on every network that the
    /// gateway has, with a certificate of the lab's CA for them, `tidegate.internal` and `runner-api.test`.
    #[must_use]
    pub fn runner_api(mut self) -> Self {
        self.runner_api = true;
        self
    }

    /// Answers these names (`gateway.dns.hosts`) with its own addresses on its first network, and serves the runner API under
    /// them, as for clients that know it by another's name.
    #[must_use]
    pub fn hosts(mut self, names: &[&str]) -> Self {
        let own: Vec<_> = self
            .addresses()
            .take(2)
            .map(|socket| format!("\"{}\"", socket.ip()))
            .collect();
        let own = own.join(", ");
        let hosts: Vec<_> = names.iter().map(|name| format!("{name}: [{own}]")).collect();
        self.hosts.extend(names.iter().map(|name| (*name).to_owned()));
        self.dns(&format!("hosts: {{{}}}", hosts.join(", ")))
    }

    /// Runs `tidegate up`, with the control plane in the same process: see [`Gateway::control`]. It listens in the
    /// clear on the loopback of the gateway's machine.
    #[must_use]
    pub fn up(mut self, control: ControlSection) -> Self {
        self.up = Some(control.listen(&UP_LISTEN.to_string()));
        self
    }

    /// The gateway's addresses on its networks.
    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let number = self.number;
        (0..self.networks.len().max(1)).flat_map(move |network| {
            let (v4, v6) = match number {
                1 => (plan::gateway_v4(network), plan::gateway_v6(network)),
                _ => (plan::second_gateway_v4(network), plan::second_gateway_v6(network)),
            };
            [SocketAddr::from((v4, 443)), SocketAddr::from((v6, 443))]
        })
    }

    /// The configuration's text.
    fn config(&self) -> String {
        let mut text = format!(
            "version: 1\ngateway:\n  name: {}\n  state-dir: state\n  networks:\n",
            self.name
        );
        let plain = ["{name: net0, interface: runners0}".to_owned()];
        let networks = if self.networks.is_empty() {
            &plain[..]
        } else {
            &self.networks
        };
        for network in networks {
            text.extend(["    - ", network, "\n"]);
        }
        text.extend(["  dns: {", &self.dns.join(", "), "}\n"]);
        text += "  events: {file: events.ndjson}\n  metrics: {listen: \"127.0.0.1:9464\"}\n";
        if self.runner_api {
            let listen: Vec<_> = self.addresses().map(|socket| format!("\"{socket}\"")).collect();
            text.extend(["  runner-api: {listen: [", &listen.join(", ")]);
            text += "], tls: {cert: runner.pem, key: runner.key}}\n";
        }
        for section in &self.sections {
            text.extend(["  ", section, "\n"]);
        }
        if !self.leases.is_empty() {
            text += "  static-leases:\n";
            for lease in &self.leases {
                text.extend(["    - ", lease, "\n"]);
            }
        }
        text + &self.up.as_ref().map(ControlSection::text).unwrap_or_default()
    }

    /// The files that the configuration names, besides those of [`file`](Self::file).
    fn write_files(&self) -> Result<(), LabError> {
        std::fs::create_dir_all(&self.dir).during("make the gateway's directory")?;
        if let Some(token) = &self.token {
            program::write(&self.dir, TOKEN, token)?;
        }
        if self.runner_api {
            let addresses: Vec<_> = self.addresses().map(|socket| socket.ip().to_string()).collect();
            let mut names = vec!["tidegate.internal", "runner-api.test"];
            names.extend(addresses.iter().chain(&self.hosts).map(String::as_str));
            self.lab.ca().issue_files(&self.dir, "runner", &names)?;
        }
        Ok(())
    }

    /// Writes the configuration, starts the gateway and waits until it says that it is up.
    pub async fn start(self) -> Result<Gateway<'a>, StartError> {
        let gateway = self.launch()?;
        gateway.ready().await?;
        Ok(gateway)
    }

    /// Starts the gateway without waiting for it.
    pub fn launch(self) -> Result<Gateway<'a>, LabError> {
        self.write_files()?;
        let subcommand = if self.up.is_some() { "up" } else { "gateway" };
        let control = self.up.as_ref().map(|_| {
            let api = Api::http(self.machine, UP_LISTEN)?;
            Ok::<_, LabError>(ControlApi::new(api, self.dir.join(ADMIN_TOKEN)))
        });
        let config = self.config();
        Ok(Gateway {
            lab: self.lab,
            program: Program::launch(self.machine, self.binary, subcommand, self.dir, &config)?,
            control: control.transpose()?,
        })
    }
}
