//! The appliance around the data plane: it makes a machine the default route and resolver of runner networks.
//!
//! Owns interception rules, configuration, policy files, the lease table's content, events, metrics, status,
//! start and drain. Never parses packets: that is `dns` and `proxy`. Driven by `cli`.

pub mod appliance;
pub mod config;
pub mod events;
mod http;
pub mod intercept;
pub mod link;
pub mod listen;
pub mod policies;
pub mod raw;
pub mod status;
mod sys;
mod watch;
