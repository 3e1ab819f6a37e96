//! Owns what a lab shall have, and the order in which its parts are opened.
//! Makes nothing by itself: `Lab` and the servers do. Tests drive it.

use crate::error::{LabError, invalid};
use crate::lab::Lab;
use crate::origin::{Site, TlsMode};
use crate::topology::Shape;
use crate::{git, index, plan};

/// What a lab shall have. Made by [`Lab::builder`].
#[derive(Debug, Clone)]
pub struct Builder {
    shape: Shape,
    secure_dns: bool,
    sites: Vec<Site>,
    git: bool,
    ssh: bool,
    postgres: bool,
    index: bool,
}

impl Builder {
    /// Two runners, the gateway's machine and the default sites.
    pub(crate) fn new() -> Self {
        Self {
            shape: Shape {
                networks: vec![2],
                ..Shape::default()
            },
            secure_dns: false,
            sites: Vec::new(),
            git: false,
            ssh: false,
            postgres: false,
            index: false,
        }
    }

    /// How many runners the first network has (2).
    #[must_use]
    pub fn runners(mut self, count: usize) -> Self {
        self.shape.networks[0] = count;
        self
    }

    /// Adds another runner network, `runners1` and so on, with this many runners.
    #[must_use]
    pub fn network(mut self, runners: usize) -> Self {
        self.shape.networks.push(runners);
        self
    }

    /// Adds a machine that sits on the internet without the gateway.
    #[must_use]
    pub fn direct(mut self) -> Self {
        self.shape.direct = true;
        self
    }

    /// Lets the resolver serve DNS over TLS (853) and over HTTPS (443,
    /// `/dns-query`) too, as `dns.lab.test`.
    #[must_use]
    pub fn secure_dns(mut self) -> Self {
        self.secure_dns = true;
        self
    }

    /// Adds a web site from the beginning; see [`Lab::add_site`].
    #[must_use]
    pub fn site(mut self, site: Site) -> Self {
        self.sites.push(site);
        self
    }

    /// Adds `git.test` (192.0.2.30), which serves a repository over HTTPS; see
    /// [`Lab::git_https_url`].
    #[must_use]
    pub fn git(mut self) -> Self {
        self.git = true;
        self
    }

    /// Adds `git.test` with an sshd on port 22 too; see [`Lab::git_ssh_url`].
    #[must_use]
    pub fn ssh(mut self) -> Self {
        self.ssh = true;
        self.git()
    }

    /// Adds PostgreSQL as `db.test` (192.0.2.40), port 5432, user `postgres`
    /// without password or TLS. Costs two seconds.
    #[must_use]
    pub fn postgres(mut self) -> Self {
        self.postgres = true;
        self
    }

    /// Adds a Python package index, `index.test` (192.0.2.50), that has the
    /// package `tidegate-lab-demo`; see [`Lab::index_url`].
    #[must_use]
    pub fn index(mut self) -> Self {
        self.index = true;
        self
    }

    /// Adds a machine for the control plane, [`Lab::ctl`]: on the internet's
    /// side, called `control.test`. The gateways reach it; the runners only
    /// through a gateway.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.shape.control = true;
        self
    }

    /// Adds a second gateway's machine, [`Lab::gw2`], on every runner network
    /// and with an uplink of its own. The networks' switch is then a machine
    /// by itself: it works with either gateway's machine cut off. Runners begin
    /// with the first gateway: [`use_gateway`](crate::Machine::use_gateway).
    #[must_use]
    pub fn second_gateway(mut self) -> Self {
        self.shape.second_gateway = true;
        self
    }

    /// Makes the lab. What was made is removed again when something fails.
    pub fn build(self) -> Result<Lab, LabError> {
        let networks = &self.shape.networks;
        if networks.len() > plan::LIMIT || networks.iter().any(|size| *size > plan::LIMIT) {
            let size = format!("{networks:?} runners");
            return Err(invalid(size, "more than the address plan holds"));
        }
        let mut lab = Lab::found(&self.shape)?;
        lab.open_resolvers(self.secure_dns)?;
        let dir = lab.dir();
        let mut sites = Vec::from(default_sites());
        if self.git {
            sites.push(git::site(&dir)?);
        }
        if self.index {
            sites.push(index::site(&dir)?);
        }
        for site in sites.into_iter().chain(self.sites) {
            lab.add_site(site)?;
        }
        if self.shape.control {
            let addresses = [plan::CONTROL_V4.into(), plan::CONTROL_V6.into()];
            lab.name(plan::CONTROL_NAME, &addresses)?;
        }
        if self.ssh {
            lab.start_sshd()?;
        }
        if self.postgres {
            lab.start_postgres()?;
        }
        Ok(lab)
    }
}

/// The sites that every lab has.
fn default_sites() -> [Site; 5] {
    [
        Site::new("allowed.test", plan::site(10)).alias("www.allowed.test"),
        Site::new("evil.test", plan::site(66)),
        Site::new("cdn-a.test", plan::site(20)),
        Site::new("cdn-b.test", plan::site(20)),
        Site::new("attacker.test", plan::foreign_site(66)).tls(TlsMode::AnyName),
    ]
}
