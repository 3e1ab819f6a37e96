//! What jobs reach, end to end: events on their way to the store and back to people, and what is made of them.

mod baselines;
mod doctor;
mod events;
mod explained;
mod harden_runner;
mod hooks;
mod simulate;
mod spool;
