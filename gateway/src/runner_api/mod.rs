//! What runners can reach of the gateway besides DNS: their job's registration, what governs it, and why.
//!
//! [`pages`] answers; it knows requests and answers, no sockets, so that the same pages can stand elsewhere.
//! [`listener`] serves them over TLS, [`cleartext`] the one that is for people without. Whose word counts for what is
//! [`crate::jobs`]'. The data plane never waits for any of it.

mod cleartext;
mod harden_runner;
mod listener;
mod machines;
mod pages;
mod problem;
mod throttle;
mod view;
mod why;

pub(crate) use cleartext::{Cleartext, addresses as cleartext_addresses};
pub(crate) use harden_runner::ReportSink;
pub(crate) use listener::{Listeners, ServeError};
pub(crate) use machines::Links;
pub(crate) use pages::{Counts, Parts, RunnerApi};
