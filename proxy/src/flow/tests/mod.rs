//! Flows as a runner and an origin see them: real sockets in a namespace, everything between them ours.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod block;
