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
mod coverage;
#[path = "../common/credentials.rs"]
mod credentials;
mod documented;
mod drafts;
mod effective;
mod events;
mod fall_backs;
mod harden_runner;
#[path = "../common/issuer.rs"]
mod issuer;
mod jobs;
mod lists;
mod login;
mod policies;
mod preconditions;
mod previews;
mod propose;
mod runs;
mod sessions;
mod sets;
mod simulate;
mod stats;
mod system;
mod tokens;
mod versions;
