//! What the side-by-side benchmark `gate` is made of: the names, policy and lab that every subject serves alike
//! ([`cast`]), load generators ([`flood`] for DNS, [`flows`] and their [`origins`] for TLS), the subjects
//! ([`peers`], [`floor`]) and the machine that they run on in turn ([`stage`]), what is read off them ([`measure`],
//! [`counters`]) and what becomes of it ([`report`], [`chart`]).
//!
//! Owns no figure and no judgement: `benches/gate` runs the rounds and prints, `results/` keeps what one run gave.
//! Needs root, two cores and what `packaging/install-deps.sh bench` installs.

#![deny(unsafe_code)]

pub mod cast;
pub mod chart;
pub mod counters;
pub mod emitters;
pub mod flood;
pub mod floor;
pub mod flows;
pub mod lists;
pub mod measure;
pub mod ops;
pub mod options;
pub mod origins;
pub mod peers;
pub mod report;
pub mod rest;
pub mod stage;
pub mod sys;
pub mod world;
