//! What a run gave, and what of it must hold however fast the machine is.
//!
//! Owns figures and [`Outcome::check`]; measures nothing. Filled by [`crate::run`], told by [`crate::report`].

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use tidegate_bench::measure::Quantiles;

use crate::events::Delivered;
use crate::load::Registered;
use crate::plan::Step;
use crate::publish::Published;

/// What one stretch of time cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// By the clock.
    pub elapsed: Duration,
    /// The control plane's processor time.
    pub cpu: Duration,
    /// Bytes that came to gateways over their streams.
    pub bytes: u64,
    /// Commits that came to gateways.
    pub commits: u64,
}

impl Cost {
    /// Processor time as a share of one core.
    pub fn share(&self) -> f64 {
        self.cpu.as_secs_f64() / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Policies published, one after another.
#[derive(Clone, Debug, Default)]
pub struct Publishing {
    /// Each of them.
    pub all: Vec<Published>,
    /// What that cost, pauses included.
    pub cost: Cost,
}

/// What one size gave.
#[derive(Clone, Debug)]
pub struct Figures {
    /// What was to be.
    pub step: Step,
    /// Gateways that were connected, and how long that took.
    pub connected: (usize, Duration),
    /// Resident memory of the control plane: before the new gateways, with them, with the leases.
    pub memory: [u64; 3],
    /// Gateways and leases added by this step.
    pub added: (usize, usize),
    /// Standing still.
    pub idle: Cost,
    /// Publishing, nothing else going on.
    pub quiet: Publishing,
    /// Leases filled up.
    pub filled: Registered,
    /// What that cost.
    pub filling: Cost,
    /// Living leases afterwards.
    pub living: usize,
    /// Publishing beside registrations.
    pub busy: Publishing,
    /// Those registrations.
    pub paced: Registered,
    /// Registrations told again, failed, answered before the group had them, late: in this step.
    pub trouble: [u64; 4],
    /// What failed, and how often.
    pub failures: BTreeMap<String, u64>,
    /// Connections lost in this step.
    pub lost: u64,
    /// Gateways that hold another number of leases than their group has.
    pub wrong: usize,
}

/// The control plane killed and started again.
#[derive(Clone, Debug)]
pub struct Herd {
    /// Until it answered anything.
    pub ready: Duration,
    /// Until then something was published.
    pub offset: Duration,
    /// From then on until gateways were connected and had it, for each that had.
    pub current: Quantiles,
    /// How many that are, of how many.
    pub reached: (usize, usize),
    /// Its processor time since its start.
    pub cpu: Duration,
    /// Tries that failed.
    pub refused: u64,
    /// Why.
    pub failures: BTreeMap<String, u64>,
}

/// What a whole run gave.
#[derive(Debug)]
pub struct Outcome {
    /// Each size.
    pub steps: Vec<Figures>,
    /// Events delivered beside registrations, and those.
    pub events: (Delivered, Registered, Cost),
    /// Gateways that began with nothing: how many had the snapshot, after how long, at what cost.
    pub cold: (usize, Duration, Cost),
    /// The restart.
    pub herd: Herd,
    /// Gateways, and how many of them the control plane says are as far as they say themselves.
    pub agreed: (usize, usize),
    /// At the end: gateways that hold another number of leases than their group has.
    pub wrong: usize,
    /// Registrations and ends that never got a good answer.
    pub failed: u64,
}

impl Outcome {
    /// What must hold however fast the machine is: every gateway reached every published version, no lease is lost, no
    /// registration failed, and both sides say the same.
    pub fn check(&self) -> Result<()> {
        for one in &self.steps {
            let want = one.step.gateways;
            ensure!(
                one.connected.0 == want,
                "{} of {want} are connected",
                one.connected.0
            );
            ensure!(
                one.living == one.step.leases,
                "{} leases live, not {}",
                one.living,
                one.step.leases
            );
            for published in one.quiet.all.iter().chain(&one.busy.all) {
                let (arrived, acked) = (&published.reached.arrived, &published.reached.acknowledged);
                ensure!(
                    arrived.len() == want && acked.len() == want,
                    "of {want} gateways {} got a version, {} were heard",
                    arrived.len(),
                    acked.len()
                );
            }
            ensure!(
                one.wrong == 0,
                "{} gateways miss leases, or have too many",
                one.wrong
            );
        }
        ensure!(
            self.events.0.failed == 0,
            "{} batches failed",
            self.events.0.failed
        );
        ensure!(self.failed == 0, "{} registrations or ends failed", self.failed);
        let (reached, all) = self.herd.reached;
        ensure!(reached == all, "{reached} of {all} gateways came back");
        ensure!(
            self.agreed.0 == self.agreed.1,
            "of {} gateways {} are where control says",
            self.agreed.0,
            self.agreed.1
        );
        ensure!(
            self.wrong == 0,
            "{} gateways miss leases after the restart",
            self.wrong
        );
        Ok(())
    }
}
