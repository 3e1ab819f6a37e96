//! DNS as a runner sees it: every row of the table "DNS" in the policy semantics, and the DNS rows of the
//! catalogue of evasions. Each refusal is also an event, and no upstream heard of it.

mod answers;
mod audit;
mod evasions;
mod kinds;
mod malformed;
mod rebinding;
mod refusals;
mod servers;

use serde_json::Value;
use tidegate_e2e::event;
use tidegate_lab::{EventLog, Lab};

/// The event of a refused query; no resolver of the internet heard of the name.
async fn refused(lab: &Lab, events: &mut EventLog, name: &str, reason: &str) -> Value {
    let fields = [
        ("kind", "dns"),
        ("name", name),
        ("verdict", "refuse"),
        ("reason", reason),
    ];
    let record = event(events, &fields).await;
    unasked(lab, name);
    record
}

/// Nothing at or below this name reached a resolver of the internet.
fn unasked(lab: &Lab, name: &str) {
    for (which, server) in [("own", lab.dns()), ("foreign", lab.foreign_dns())] {
        let asked = server.asked_below(name);
        assert!(asked.is_empty(), "the {which} resolver was asked: {asked:?}");
    }
}
