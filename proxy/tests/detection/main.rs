//! The pure detectors against the evasion rows they must withstand, other people's captures and vectors, other
//! parsers as oracles, and arbitrary bytes. One binary, one module a topic.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod body;
mod corpus;
mod fuzz;
mod http;
mod oracle;
mod sniff;
mod support;
mod tls;
mod watch;
