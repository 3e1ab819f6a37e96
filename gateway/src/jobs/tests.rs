//! The way of a registration under the rules of "Who is asking" (policy-semantics.md), with a control plane that does as it
//! is told.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod away;
mod claims;
mod ends;
pub(crate) mod fixture;
mod restart;
mod rules;
