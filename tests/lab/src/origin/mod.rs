//! Owns the fake internet's web sites: who is at which address, with which
//! certificate, and what reached them. Tests ask it whether anything arrived.
//! Never refuses a visitor by name: like a CDN it answers whoever asks.

mod cgi;
mod log;
mod pages;
mod serve;
mod site;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

pub use self::log::{LoggedConnection, LoggedRequest};
pub use self::site::{Site, TlsMode};

use self::log::Log;
use self::site::Running;
use crate::ca::Authority;
use crate::error::LabError;
use crate::internet::Ground;

/// The ports every site listens on: TLS, then cleartext.
pub(crate) const TLS_PORT: u16 = 443;
/// Cleartext ports: HTTP/1 and HTTP/2 with prior knowledge on both.
pub(crate) const CLEAR_PORTS: [u16; 2] = [80, 8080];

/// The web sites of the fake internet and what reached them.
#[derive(Debug, Clone)]
pub struct Origins {
    ground: Ground,
    trusted: Arc<Authority>,
    rogue: Arc<Authority>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    log: Mutex<Log>,
    fronts: Mutex<HashMap<IpAddr, Arc<Front>>>,
    released: watch::Sender<bool>,
}

/// An address and the sites that share it; the first is the default.
#[derive(Debug, Default)]
struct Front {
    sites: Mutex<Vec<Arc<Running>>>,
}

impl Front {
    /// The site with this name here.
    fn named(&self, name: &str) -> Option<Arc<Running>> {
        let sites = self.sites.lock();
        let found = sites.iter().find(|site| site.is_called(name));
        found.map(Arc::clone)
    }

    fn default_site(&self) -> Arc<Running> {
        Arc::clone(&self.sites.lock()[0])
    }
}

impl Origins {
    pub(crate) fn new(ground: Ground, trusted: Arc<Authority>, rogue: Arc<Authority>) -> Self {
        Self {
            ground,
            trusted,
            rogue,
            shared: Arc::new(Shared {
                log: Mutex::default(),
                fronts: Mutex::default(),
                released: watch::Sender::new(false),
            }),
        }
    }

    /// Opens a site on its addresses; it shares those that others have already.
    pub(crate) fn open(&self, site: Site) -> Result<(), LabError> {
        let addresses = site.addresses.clone();
        let running = Arc::new(Running::new(site, &self.trusted, Arc::clone(&self.rogue))?);
        for address in addresses {
            let known = self.shared.fronts.lock().get(&address).map(Arc::clone);
            if let Some(front) = known {
                front.sites.lock().push(Arc::clone(&running));
                continue;
            }
            let front = Arc::new(Front::default());
            front.sites.lock().push(Arc::clone(&running));
            serve::listen(&self.ground, &self.shared, &front, address)?;
            self.shared.fronts.lock().insert(address, front);
        }
        Ok(())
    }

    /// Every request so far, oldest first; the last 65 536 are kept.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.shared.log.lock().requests()
    }

    /// Every TCP connection so far, oldest first; the last 65 536 are kept.
    pub fn connections(&self) -> Vec<LoggedConnection> {
        self.shared.log.lock().connections()
    }

    /// The requests that site `name` served so far.
    pub fn requests_of(&self, name: &str) -> Vec<LoggedRequest> {
        let mut requests = self.requests();
        requests.retain(|request| request.site == name);
        requests
    }

    /// The TCP connections that reached `address` so far, whatever they said.
    pub fn connections_to(&self, address: IpAddr) -> Vec<LoggedConnection> {
        let mut connections = self.connections();
        connections.retain(|connection| connection.local.ip() == address);
        connections
    }

    /// Empties both logs.
    pub fn clear_log(&self) {
        self.shared.log.lock().clear();
    }

    /// Lets all `/slow/N` downloads finish at once, those to come too.
    pub fn release_downloads(&self) {
        self.shared.released.send_replace(true);
    }

    /// Makes `/slow/N` downloads slow again.
    pub fn hold_downloads(&self) {
        self.shared.released.send_replace(false);
    }
}
