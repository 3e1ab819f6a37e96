//! What the kernel knows about the gateway's links: owns the netlink connections,
//! the current picture of addresses and neighbours, and its upkeep; never changes
//! anything and never decides. The appliance starts a [`Monitor`] once; the
//! never-dial set, the lease table and `status` read its snapshots.

pub(crate) mod ask;
mod monitor;
pub(crate) mod netlink;
mod snapshot;
pub(crate) mod wake;

pub use monitor::{LinkError, Monitor};
pub use netlink::NetlinkError;
pub use snapshot::{Interface, LinkSnapshot, MAX_NEIGHBOURS, Neighbour};
pub use tidegate_policy::lease::Mac;
