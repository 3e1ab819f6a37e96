//! Jobs on their way into the lease table and out of it: whose word counts, in which order things happen, what is told to
//! the control plane, and what outlives the process.
//!
//! [`registrar`] is the way of one request; [`outbox`] what control is still to be told. The rules of leases are
//! `tidegate_policy::lease`'s; HTTP is [`crate::runner_api`]'s.

mod ask;
mod asker;
mod authority;
mod file;
mod keeper;
mod ledger;
mod outbox;
mod proof;
mod refused;
mod registrar;
mod replays;
mod turns;

pub(crate) use ask::{AskError, JobStart, claimed};
pub(crate) use asker::{Asker, Now};
pub(crate) use authority::{Authority, Pending};
pub(crate) use proof::Shown;
pub(crate) use refused::{AuthError, EndError, MonitorError, StartError};
pub(crate) use registrar::{Parts, Registrar};

#[cfg(test)]
pub(crate) mod tests;
