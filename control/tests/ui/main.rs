//! The web UI, in this process, over a real store and the real API: what each page shows, to whom, and what it refuses.
//!
//! [`bench`] holds what a test stands on: browsers with cookies. [`markup`] looks at every page that any test gets:
//! nothing inline, every control labelled, every tag closed, small enough.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attachments;
mod audit;
mod baselines;
mod bench;
mod block;
mod connect;
mod coverage;
#[path = "../common/credentials.rs"]
mod credentials;
mod detections;
mod events;
mod frame;
mod gateways;
mod history;
#[path = "../common/issuer.rs"]
#[allow(dead_code, reason = "the API's own tests ask more of it")]
mod issuer;
mod login;
mod markup;
mod oidc;
mod overview;
mod policies;
mod resume;
mod runs;
mod sets;
mod settings;
