//! The HTTP API, in this process, over a real store: every route's good and bad days.
//!
//! [`bench`] holds what a test stands on. It also compares every answer with the OpenAPI document: a status or a media
//! type that is not declared fails the test that got it, whatever it was about.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod attachments;
mod authentication;
mod bad_input;
mod baselines;
mod bench;
mod block;
mod documented;
mod effective;
mod events;
mod harden_runner;
mod jobs;
mod policies;
mod preconditions;
mod sets;
mod simulate;
mod system;
mod tokens;
mod versions;
