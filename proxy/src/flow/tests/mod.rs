//! Flows as a runner and an origin see them: real sockets in a namespace, everything between them ours.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod audit;
mod block;
mod change;
mod hello;
mod size;
mod wait;

use tidegate_policy::event::{Kind, NetworkEvent};
use tidegate_policy::verdict::{Reason, Verdict};

/// What most tests are judged by.
const POLICY: &str = "egress-policy: block
platform: none
allowed-endpoints: a.test:443 a.test:80 s.test:22 198.51.100.0/24:7000
";

/// What an event says of the verdict.
fn judged(event: &NetworkEvent) -> (Kind, Verdict, Option<Reason>) {
    (event.kind, event.verdict, event.reason)
}
