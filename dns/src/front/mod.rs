//! The fronts: where queries come in and answers leave, all before one handler.
//!
//! Owns sockets' loops and the order of steps for one query; never decides (policy does) and never keeps
//! an answer (the resolver does).

pub(crate) mod ask;
pub mod budget;
pub mod client;
pub mod config;
mod deliver;
pub mod encrypted;
mod envelope;
mod frame;
pub mod handler;
mod learn;
mod limits;
pub(crate) mod metrics;
mod relay;
pub mod relay_tcp;
mod steps;
pub mod tcp;
pub mod udp;

pub use client::{Client, Transport};
pub use config::HandlerConfig;
pub use encrypted::{Encrypted, serve_encrypted, server_config};
pub use handler::{DnsHandler, Parts};
pub use limits::{Limit, Slot};
pub use relay_tcp::relay_stream;
pub use tcp::{serve_stream, serve_tcp};
pub use udp::serve_udp;
