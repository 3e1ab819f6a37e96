//! Baselines: what a scope's jobs were seen to reach, when that is normal, and what reaches beyond it.
//!
//! Pure: which events say something ([`sighting`]), when a baseline is stable ([`standing`]), what an import takes of it
//! and why it leaves the rest ([`import`]), what is a detection and which rules keep it quiet ([`detection`], [`rule`]).
//! Reads no clock and does no I/O; driven by the store, inside of the transaction that stores the events.
//!
//! # What an attacker can do here
//!
//! Whoever runs code in a job chooses what it reaches, and nothing else. So:
//!
//! - What a job reaches for the first time after its scope's baseline was stable once is *late*: it stays out of imports,
//!   however many runs repeat it, until somebody says that it is expected (suppresses its detection, or resolves it as
//!   expected). Resolving an incident does not make its endpoint normal; the next run that reaches it is detected anew.
//! - Pull requests from forks and claimed identities add nothing to a baseline and unsettle none: strangers choose
//!   when and how often those run. They are kept and marked, and raise detections like everybody else. Their endpoints
//!   have a room of their own, so that they can't fill the baseline's.
//! - Before a baseline is stable nobody can tell normal from not. There a single run counts for nothing: an import asks
//!   for two, and attempts of one run are one.
//! - Names that only continue an allowed name (search suffixes) stay out of imports, but are detected: nobody hides
//!   behind `registry.example.evil.example`.
//! - A name that is no endpoint of the policy grammar never gets into an export.

pub mod collapse;
pub mod detection;
pub mod import;
pub mod model;
pub mod rule;
pub mod sighting;
pub mod standing;

pub use detection::{DetectionType, Severity, Status};
pub use import::{LeftOut, Seen, Wanted};
pub use sighting::{Target, Transport, Trust};
pub use standing::{Standing, State};
