//! From an upstream's answer to what one job gets of it. Pure functions; no I/O, no clock.
//!
//! Decisions are policy's (`judge_chain`, `judge_address`); this module carries them out on records.

pub(crate) mod emit;
pub(crate) mod explain;
pub(crate) mod local;
pub(crate) mod reverse;
pub(crate) mod share;
