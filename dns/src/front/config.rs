//! What the handler is told, as people write it and as queries are answered by it.

use std::net::IpAddr;
use std::time::Duration;

use compact_str::CompactString;
use hashbrown::{HashMap, HashSet};
use tidegate_policy::DnsName;

use super::budget::BudgetConfig;
use crate::answer::local::Hosts;

/// What the handler is told; may change at every reload.
#[derive(Clone, Debug)]
pub struct HandlerConfig {
    /// Names answered from here, to every job.
    pub hosts: Vec<(DnsName, Vec<IpAddr>)>,
    /// The least life of a ticket (`proxy.ticket-hold`).
    pub ticket_hold: Duration,
    /// Where each network reaches the gateway's own pages: what `tidegate.internal` is answered with there, unless `hosts`
    /// names it. A network that is not named has none.
    pub pages: HashMap<CompactString, Vec<IpAddr>>,
    /// The gateway's own addresses: queries to any other server are foreign.
    pub own: HashSet<IpAddr>,
    /// The DNS budget of a job.
    pub budget: BudgetConfig,
}

impl Default for HandlerConfig {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            pages: HashMap::new(),
            ticket_hold: Duration::from_hours(1),
            own: HashSet::new(),
            budget: BudgetConfig::default(),
        }
    }
}

/// A configuration in force.
pub(crate) struct Live {
    pub(crate) config: HandlerConfig,
    pub(crate) hosts: Hosts,
}

impl Live {
    pub(crate) fn new(config: HandlerConfig) -> Self {
        Self {
            hosts: Hosts::new(&config.hosts),
            config,
        }
    }
}
