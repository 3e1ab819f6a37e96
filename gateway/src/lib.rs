//! The appliance around the data plane: it makes a machine the default route and resolver of runner networks.
//!
//! Owns interception rules, configuration, policy files, the lease table's content, events, metrics, status,
//! start and drain. Never parses packets: that is `dns` and `proxy`. Driven by `cli`.

mod adapters;
pub mod appliance;
pub mod config;
mod core;
mod dataplane;
mod encrypted;
pub mod events;
mod http;
pub mod intercept;
mod jobs;
mod journal;
mod keep;
pub mod link;
pub mod listen;
pub mod metrics;
mod networks;
mod only;
mod parts;
mod pings;
pub mod policies;
pub mod raw;
mod rebind;
mod runner_api;
pub mod status;
pub mod sync;
mod sys;
pub mod tally;
mod threads;
mod watch;
