//! Keeping step with the control plane: one HTTP/2 connection, over which changes come and registrations go.
//!
//! Owns the connection, what is known of its state, and the way from a batch of changes to what is in force
//!. Never stands in the data plane's way: with control away, what was last in force stays, from disk after a
//! restart too ([`crate::journal`]). Started by [`crate::appliance`]; the runner API asks [`Control`].

mod calls;
mod connect;
mod state;

pub(crate) use calls::ClaimError;
pub use connect::{Connected, Connector, ControlLink, Duplex};
pub(crate) use state::{Control, EndedLeases, LinkState};
