//! Interception: owns everything by which packets of runners reach the gateway's
//! sockets and nothing else (kernel settings, routing rules, the nftables table)
//! and its repair; never reads a packet. The appliance's start drives
//! [`install`](install::install), then [`watch`](watch::watch) for as long as it runs.

pub mod bindings;
pub mod install;
pub mod nft;
pub mod plan;
pub mod routing;
pub mod ruleset;
pub mod sysctl;

pub use install::{Guard, cleanup, install};
pub use plan::{InterceptPlan, InterfaceName, NetworkPlan, PlanError, Steering};
pub use ruleset::Ruleset;
