//! Interception on a real kernel, in namespaces: each test builds its own lab.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "tests look for one variant of foreign enums"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "waits for the kernel, on the kernel's clock"
)]

mod closed;
mod divert;
mod dns;
mod lab;
mod link;
mod raw;
mod repair;
mod spoof;
mod udp;
