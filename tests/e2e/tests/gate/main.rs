//! The gate, end to end: real tools in network namespaces, through a running gateway, to a small internet.
//!
//! One module a topic. Each test makes and removes its own lab, so all of them may run at once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod appliance;
mod audit;
mod bad_input;
mod clients;
mod closed;
mod destinations;
mod dns;
mod evasions;
mod flows;
mod protocols;
mod reach;
mod requests;
mod rows;
mod sources;
mod store;
mod swap;
mod tls;
mod udp;
mod upstreams;
