//! How large, how long, how fast: what a run does, as figures. Pure.

use std::time::Duration;

/// One size of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Gateways in all.
    pub gateways: usize,
    /// Living leases in all at its end.
    pub leases: usize,
}

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Growing sizes; each begins where the one before ended.
    pub steps: Vec<Step>,
    /// Policies in the store, each attached to a repository, every tenth to an organization too.
    pub policies: usize,
    /// Endpoints of each policy.
    pub endpoints: usize,
    /// Gateways of one group, which share their leases: a registration waits for the others.
    pub group: usize,
    /// Registrations under way at once while leases are filled up.
    pub in_flight: usize,
    /// Registrations a second, and as many ends, while publishing is measured.
    pub pace: u64,
    /// Policies that are published at each size, one after another.
    pub publishes: usize,
    /// How long nothing is done, to see what standing still costs: more than a ping's period.
    pub idle: Duration,
    /// How long events are delivered.
    pub events: Duration,
    /// Gateways that begin with nothing at all, at the end.
    pub cold: usize,
    /// How long anything that has to happen may take; then the figure says how far it came.
    pub patience: Duration,
}

impl Plan {
    /// The default: two to three minutes on two quiet cores.
    pub fn full() -> Self {
        let step = |gateways, leases| Step { gateways, leases };
        Self {
            steps: vec![
                step(100, 3_000),
                step(300, 10_000),
                step(1_000, 30_000),
                step(3_000, 100_000),
            ],
            policies: 1_000,
            endpoints: 200,
            group: 2,
            in_flight: 64,
            pace: 100,
            publishes: 5,
            idle: Duration::from_secs(6),
            events: Duration::from_secs(5),
            cold: 16,
            patience: Duration::from_mins(2),
        }
    }

    /// What belongs to every run of the tests: everything once, small.
    pub fn smoke() -> Self {
        Self {
            steps: vec![Step {
                gateways: 20,
                leases: 200,
            }],
            policies: 12,
            endpoints: 5,
            group: 2,
            in_flight: 16,
            pace: 50,
            publishes: 2,
            idle: Duration::from_millis(200),
            events: Duration::from_millis(500),
            cold: 2,
            patience: Duration::from_mins(1),
        }
    }

    /// No more gateways than `most`.
    #[must_use]
    pub fn up_to(mut self, most: usize) -> Self {
        self.steps.retain(|step| step.gateways <= most);
        self
    }
}
