//! Keeping step with the control plane: one HTTP/2 connection ([`client`]), over which changes come and registrations go.
//!
//! Owns the connection, what is known of its state, and the way from a batch of changes to what is in force
//! ([`force`]). Never stands in the data plane's way: with control away, what was last in force stays, from disk after a
//! restart too ([`crate::journal`]). Started by [`crate::appliance`]; the runner API asks [`Control`].

mod backoff;
mod calls;
mod client;
mod connect;
mod force;
pub(crate) mod lines;
mod state;

pub(crate) use calls::ClaimError;
pub(crate) use client::{Client, QUEUE};
pub(crate) use connect::Remote;
pub use connect::{ConnectError, Connected, Connector, ControlLink, Duplex, Pending, RemoteError};
pub(crate) use force::{Enforcer, Leases, run};
pub(crate) use state::{Control, EndedLeases, LinkState};
