//! Owns the lab as a whole: what is in it, the order in which it is made, and
//! its end. Everything else is a part of it. Tests and `tidegate demo` drive it.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::api::Api;
use crate::builder::Builder;
use crate::ca::Authority;
use crate::claim::Claim;
use crate::daemon::Daemon;
use crate::datagram::{UdpReply, UdpServer};
use crate::dns::{self, DnsServer};
use crate::error::{During, LabError};
use crate::internet::Internet;
use crate::leaks::{self, Leaks};
use crate::machine::{Machine, ca_path};
use crate::oidc::OidcIssuer;
use crate::origin::{Origins, Site};
use crate::postgres::Cluster;
use crate::raw::{RawServer, Script};
use crate::topology::{Shape, Topology};
use crate::{git, index, plan, postgres};

/// The name of the resolver's certificate.
const DNS_NAME: &str = "dns.lab.test";

/// A running lab. Dropping it removes everything it made.
#[derive(Debug)]
pub struct Lab {
    dns: DnsServer,
    foreign_dns: DnsServer,
    origins: Origins,
    ca: Arc<Authority>,
    daemons: Vec<Daemon>,
    database: Option<Cluster>,
    /// Before the claim: its threads must have left the namespaces.
    internet: Internet,
    topology: Topology,
    /// Last: dropping it removes what carries the lab's id.
    claim: Claim,
}

impl Lab {
    /// A lab with two runners, the gateway's namespace, and the fake internet
    /// with its default sites.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The machines, and an internet without any server yet.
    pub(crate) fn found(shape: &Shape) -> Result<Self, LabError> {
        let claim = Claim::take()?;
        let topology = Topology::build(&claim, shape)?;
        leaks::install(topology.net.name(), &topology.uplinks())?;
        let ca = Arc::new(Authority::new("tidegate lab CA")?);
        fs::write(ca_path(&claim.dir()), ca.pem()).during("write the lab's CA")?;
        let rogue = Arc::new(Authority::new("nobody's CA")?);
        let internet = Internet::start(topology.net.name())?;
        Ok(Self {
            origins: Origins::new(internet.ground(), Arc::clone(&ca), rogue),
            dns: DnsServer::default(),
            foreign_dns: DnsServer::default(),
            daemons: Vec::new(),
            database: None,
            ca,
            internet,
            topology,
            claim,
        })
    }

    /// The lab's id: part of all its names.
    pub fn id(&self) -> &str {
        self.claim.id()
    }

    /// The lab's directory, gone with the lab. For configurations and logs too.
    pub fn dir(&self) -> PathBuf {
        self.claim.dir()
    }

    /// The gateway's machine.
    pub fn gw(&self) -> &Machine {
        &self.topology.gw
    }

    /// The second gateway's machine. Panics unless the builder was asked for it.
    pub fn gw2(&self) -> &Machine {
        let second = self.topology.gw2.as_ref();
        second.expect("the builder was asked for a second gateway")
    }

    /// The control plane's machine. Panics unless the builder was asked for it.
    pub fn ctl(&self) -> &Machine {
        let control = self.topology.ctl.as_ref();
        control.expect("the builder was asked for a control plane's machine")
    }

    /// The internet's machine.
    pub fn net(&self) -> &Machine {
        &self.topology.net
    }

    /// Runner `index` of the first network. Panics if there is none.
    pub fn runner(&self, index: usize) -> &Machine {
        self.runner_on(0, index)
    }

    /// Runner `index` of network `network`. Panics if there is none.
    pub fn runner_on(&self, network: usize, index: usize) -> &Machine {
        &self.topology.runners[network][index]
    }

    /// The machine without a gateway. Panics unless the builder was asked for it.
    pub fn direct(&self) -> &Machine {
        let direct = self.topology.direct.as_ref();
        direct.expect("the builder was asked for a direct machine")
    }

    /// The resolver at 198.51.100.53.
    pub fn dns(&self) -> &DnsServer {
        &self.dns
    }

    /// Somebody else's resolver, at 203.0.113.53, with answers of its own.
    pub fn foreign_dns(&self) -> &DnsServer {
        &self.foreign_dns
    }

    /// The web sites and what reached them.
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// Opens another site and gives its names to the resolver.
    pub fn add_site(&self, site: Site) -> Result<(), LabError> {
        if site.in_dns {
            for name in &site.names {
                self.name(name, &site.addresses)?;
            }
        }
        self.origins.open(site)
    }

    /// Lets the resolver answer `name` with these addresses and nothing else.
    pub fn name(&self, name: &str, addresses: &[IpAddr]) -> Result<(), LabError> {
        let records = addresses.iter().map(|address| match address {
            IpAddr::V4(v4) => format!("A {v4}"),
            IpAddr::V6(v6) => format!("AAAA {v6}"),
        });
        let records: Vec<_> = records.collect();
        let records: Vec<_> = records.iter().map(String::as_str).collect();
        self.dns.set(name, &records)
    }

    /// Starts a scripted TCP server, e.g. at `192.0.2.80:7000`. Any address of
    /// 192.0.2.0/24, 203.0.113.0/24, 2001:db8:200::/64 and 2001:db8:300::/64
    /// will do.
    pub fn raw(&self, address: SocketAddr, script: Script) -> Result<RawServer, LabError> {
        RawServer::start(&self.internet.ground(), address, script)
    }

    /// Starts a UDP server; addresses as for [`raw`](Self::raw).
    pub fn udp(&self, address: SocketAddr, reply: UdpReply) -> Result<UdpServer, LabError> {
        UdpServer::start(&self.internet.ground(), address, reply)
    }

    /// Opens an OpenID Connect issuer at `https://NAME`, with a certificate of
    /// the lab's CA, and gives its name to the resolver. It is there as long
    /// as the lab. Usually `issuer.test` at [`plan::site`]`(60)`.
    pub fn oidc_issuer(
        &self,
        name: &str,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<OidcIssuer, LabError> {
        let addresses: Vec<_> = addresses.into_iter().collect();
        self.name(name, &addresses)?;
        OidcIssuer::open(&self.internet.ground(), &self.ca, name, &addresses)
    }

    /// The repository of `git.test` by HTTPS: clone, fetch and push.
    pub fn git_https_url(&self) -> String {
        git::https_url()
    }

    /// The repository of `git.test` by SSH. `git` in the lab's machines is set
    /// up for it; plain `ssh` needs `-F` [`ssh_config_path`](Self::ssh_config_path).
    pub fn git_ssh_url(&self) -> String {
        git::ssh_url()
    }

    /// The private key that `git@git.test` accepts.
    pub fn ssh_key_path(&self) -> PathBuf {
        git::ssh_key(&self.dir())
    }

    /// A client configuration with that key and the host's key.
    pub fn ssh_config_path(&self) -> PathBuf {
        git::ssh_config(&self.dir())
    }

    /// The package index, for `pip --index-url`.
    pub fn index_url(&self) -> String {
        index::url()
    }

    /// An HTTPS client in `machine` for the server at `address`, whose
    /// certificate must be of the lab's CA for `name` (or an address).
    pub fn api(&self, machine: &Machine, address: SocketAddr, name: &str) -> Result<Api, LabError> {
        Api::https(machine, address, name, &self.ca)
    }

    /// The authority that the lab's machines trust.
    pub fn ca(&self) -> &Authority {
        &self.ca
    }

    /// The authority's certificate as a PEM file.
    pub fn ca_pem_path(&self) -> PathBuf {
        ca_path(&self.dir())
    }

    /// What reached the internet from runner addresses so far.
    pub fn leaks(&self) -> Result<Leaks, LabError> {
        leaks::read(self.net().name())
    }

    /// Removes everything and tells what went wrong, which a drop cannot.
    pub fn close(self) -> Result<(), LabError> {
        let Self {
            mut claim,
            internet,
            daemons,
            database,
            ..
        } = self;
        drop((internet, daemons, database));
        claim.release()
    }

    pub(crate) fn start_sshd(&mut self) -> Result<(), LabError> {
        self.daemons.push(git::start_sshd(self.net(), &self.dir())?);
        Ok(())
    }

    pub(crate) fn start_postgres(&mut self) -> Result<(), LabError> {
        self.database = Some(postgres::start(self.net(), &self.dir())?);
        self.name(postgres::NAME, &plan::site(40))
    }

    pub(crate) fn open_resolvers(&self, secure_dns: bool) -> Result<(), LabError> {
        let ground = self.internet.ground();
        let addresses = [plan::DNS_V4.into(), plan::DNS_V6.into()];
        for address in addresses {
            dns::serve(&ground, &self.dns, address)?;
        }
        for address in [plan::FOREIGN_DNS_V4.into(), plan::FOREIGN_DNS_V6.into()] {
            dns::serve(&ground, &self.foreign_dns, address)?;
        }
        self.name(DNS_NAME, &addresses)?;
        if secure_dns {
            dns::serve_secure(&ground, &self.dns, &self.ca, DNS_NAME, &addresses)?;
        }
        Ok(())
    }
}
