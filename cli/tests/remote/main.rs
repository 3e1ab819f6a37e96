//! The commands that talk to a control plane, as people run them: the built binary against the real API over a real
//! store ([`plane`]), and against servers that are none or lie ([`fake`]).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod audit;
mod coverage;
mod errors;
mod events;
mod fake;
mod help;
mod import;
mod plane;
mod policies;
mod record;
mod sync;
mod things;
