//! What the side-by-side benchmark `gate` is made of: the names and policy that every subject serves
//! ([`cast`]), load generators ([`flood`] for DNS, [`flows`] for TLS), the subjects themselves ([`servers`]),
//! and what is read off them ([`measure`]).
//!
//! Owns no figure and no judgement: `benches/gate.rs` runs the rounds and prints, `README.md` keeps what one
//! run printed. Needs root, two cores and Debian's `unbound`, `haproxy` and `strace`.

#![forbid(unsafe_code)]

pub mod cast;
pub mod chart;
pub mod flood;
pub mod flows;
pub mod measure;
pub mod rest;
pub mod servers;
