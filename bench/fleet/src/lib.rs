//! A simulated fleet: thousands of gateways and a hundred thousand leases against one real control plane, to find where
//! it stops scaling.
//!
//! Owns the simulated gateways ([`member`], the wire's protocol without a data plane), what they are made to do
//! ([`load`], [`publish`], [`events`]), the control plane's process ([`plane`]), the order of things ([`run`]) and what is
//! written of it ([`report`]). It decides nothing and never ships; `main` and the smoke test drive it.
//!
//! A simulated gateway is not a whole one: a real gateway compiles what it is sent (a second of processor and some 100 MiB
//! for a thousand policies of two hundred endpoints, `bench/README.md`), which is the gateway's cost and not what is asked
//! here. It has a connection, the stream, the acknowledgements, the timeouts and the pauses of a real one, says what a real
//! one says with the types of `control/wire`, and keeps what it was told well enough to tell whether anything is missing.

#![forbid(unsafe_code)]

pub mod calls;
pub mod events;
pub mod fleet;
pub mod load;
pub mod member;
pub mod outcome;
pub mod plan;
pub mod plane;
pub mod publish;
pub mod report;
pub mod run;
pub mod watch;
