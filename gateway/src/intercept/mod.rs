//! Interception: owns everything by which packets of runners reach the gateway's
//! sockets and nothing else (kernel settings, routing rules, the nftables table)
//! and its repair; never reads a packet. The appliance's start drives
//! [`install`], then [`watch`] for as long as it runs; `tidegate gateway
//! --cleanup` drives [`cleanup`].

mod bindings;
mod changes;
mod install;
mod nft;
mod plan;
mod routing;
mod ruleset;
mod sysctl;
mod watch;

pub use bindings::{BindingTable, BindingsFull, MAX_BINDINGS};
pub use install::{Condition, Guard, InstallError, cleanup, install};
pub use nft::NftError;
pub use plan::{InterceptPlan, InterfaceName, MAX_NETWORKS, NetworkPlan, PlanError, Steering};
pub use routing::RoutingError;
pub use ruleset::{Ruleset, TABLE};
pub use sysctl::SysctlError;
pub use watch::{InterceptState, watch};
