//! The proxy of a runner subnet: every diverted connection is detected, judged, dialled and relayed, or
//! refused with an explanation.
//!
//! Owns accepting diverted flows, detection, dialling, relaying and explained refusals. Never decides
//! policy (that is `tidegate_policy::judge`), never talks to the control plane. Driven by `gateway`, which
//! makes the sockets, one set a core, and hands them to a [`Proxy`].
//!
//! Read in this order: [`address`] (what a flow's ends are called), [`config`] (bounds), `proxy` (the whole),
//! `flow` (the life of a TCP connection), `udp` (the life of an association), [`detect`] and [`http1`] (the
//! pure readers), `relay` (bytes after the verdict), `stream` and `reactor` (sockets), [`registry`] (open flows
//! and their re-judging).

#![deny(unsafe_code)]

mod accept;
pub mod address;
pub mod budget;
pub mod config;
mod context;
pub mod detect;
mod dial;
mod early;
mod explain;
mod flow;
mod http;
pub mod http1;
mod leg;
mod metrics;
mod places;
mod proxy;
mod reactor;
mod record;
pub mod registry;
pub mod relay;
mod route;
pub mod seams;
mod stream;
mod sys;
#[cfg(test)]
mod testing;
mod udp;

pub use proxy::{Proxy, ProxyParts};
