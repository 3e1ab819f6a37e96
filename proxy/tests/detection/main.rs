//! The pure detectors against the evasion rows they must withstand, other people's captures and vectors, other
//! parsers as oracles, and arbitrary bytes. One binary, one module a topic.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names the outcome it wants; all others fail it"
)]

mod body;
mod corpus;
mod fuzz;
mod http;
mod oracle;
mod response;
mod sniff;
mod support;
mod tls;
mod watch;
