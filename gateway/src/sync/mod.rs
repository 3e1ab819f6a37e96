//! Keeping step with the control plane: one HTTP/2 connection ([`client`]), over which changes come and registrations go.
//!
//! Owns the connection, what is known of its state, and the way from a batch of changes to what is in force
//! ([`force`]). Never stands in the data plane's way: with control away, what was last in force stays, from disk after a
//! restart too ([`crate::journal`]). Started by [`crate::appliance`]; the runner API asks [`Control`].

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::core::Core;
use crate::keep;
use crate::networks::Served;

mod acks;
mod backoff;
mod calls;
mod client;
mod connect;
mod disk;
mod ended;
mod force;
mod leases;
pub(crate) mod lines;
mod state;
mod told;

pub(crate) use backoff::Backoff;
pub(crate) use calls::ClaimError;
pub(crate) use connect::Remote;
pub use connect::{ConnectError, Connected, Connector, ControlLink, Duplex, Pending, RemoteError};
pub(crate) use disk::flush;
pub(crate) use ended::EndedLeases;
pub(crate) use force::Enforcer;
pub(crate) use leases::Leases;
pub(crate) use state::{Control, LinkState};
use told::Told;

/// Keeps the gateway in step with the control plane behind `connector`.
pub(crate) fn follow(
    core: &Arc<Core>,
    served: &[Served],
    connector: Arc<dyn Connector>,
    tasks: &mut JoinSet<()>,
) {
    let told = Told::new(core, served);
    let (queue, batches) = mpsc::channel(client::QUEUE);
    tasks.spawn(force::run(Arc::clone(core), batches));
    tasks.spawn(force::blocks(Arc::clone(core)));
    tasks.spawn(disk::run(Arc::clone(core)));
    tasks.spawn(keep::control_addresses(Arc::clone(core)));
    let hello = Box::new(move || told.hello());
    tasks.spawn(client::Client::new(Arc::clone(&core.control), connector, hello, queue).run());
}

#[cfg(test)]
mod tests;
