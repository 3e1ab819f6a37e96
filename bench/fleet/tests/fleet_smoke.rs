//! A small fleet, whole: everything that the large run does, and what must be right however fast the machine is. No times.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use tidegate_fleet::plan::Plan;
use tidegate_fleet::run::run;

#[tokio::test(flavor = "multi_thread")]
async fn a_small_fleet_hears_every_publication_loses_no_lease_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_tidegate-fleet"));
    let plan = Plan::smoke();
    let step = plan.steps[0];
    let outcome = run(&plan, (program, folder.path()), None, &|text| println!("{text}")).await;
    let outcome = outcome.unwrap_or_else(|error| {
        let log = std::fs::read_to_string(folder.path().join("control.log")).unwrap_or_default();
        panic!("{error:#}\n{log}");
    });
    outcome.check().unwrap();
    let figures = &outcome.steps[0];
    assert_eq!(
        figures.filled.waits.len(),
        step.leases,
        "each was registered once"
    );
    assert!(
        !figures.paced.waits.is_empty(),
        "jobs began and ended beside publishing"
    );
    assert_eq!(
        figures.quiet.all.len() + figures.busy.all.len(),
        2 * plan.publishes
    );
    assert!(outcome.events.0.events > 0, "events were delivered");
    assert_eq!(outcome.cold.0, plan.cold, "who held nothing has everything");
    assert_eq!(outcome.agreed.0, step.gateways + plan.cold);
}
