//! The decision core of Tidegate: what a policy means and what follows for one query or one flow.
//!
//! This crate owns the endpoint grammar, policy documents and their diagnostics, the compiled
//! matchers, jobs and leases, answer tickets, verdicts and network events. It does no I/O, reads no
//! clock (`now` is always an argument) and knows no async runtime: `dns`, `proxy` and `gateway` drive
//! it from their sockets, `cli` from files.
//!
//! Read in this order: [`name`] and [`endpoint`] (what is matched), [`document`] (what people write),
//! [`compile`] (what lookups run on), [`rulebook`] (everything one job is judged by), [`effective`] (which
//! policy governs it), [`judge`] (the order of decision), [`ticket`] and [`lease`] (who holds what),
//! [`event`] (the record).

pub mod compile;
pub mod detection;
pub mod document;
pub mod ech;
pub mod effective;
pub mod endpoint;
pub mod event;
pub mod explain;
pub mod job;
pub mod judge;
pub mod lease;
pub mod name;
pub mod rulebook;
pub mod settings;
pub mod special;
pub mod subject;
pub mod ticket;
pub mod time;
pub mod verdict;

#[cfg(test)]
mod fixture;

pub use name::DnsName;
pub use time::Moment;
