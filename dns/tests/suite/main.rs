//! The DNS crate from outside: a handler, a fake upstream on loopback, and what a client sees.
//!
//! Modules are named by what they show; rows of the policy semantics and evasion ids stand in the names
//! of tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod netns;
mod support;
mod upstream;

mod answers;
mod encrypted;
mod evasions;
mod fast;
mod own;
mod relay;
mod resolver;
mod rows;
mod tcp;
mod udp;
