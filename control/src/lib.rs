//! The control plane: the Policy Store, its API, and the sync of its gateways.
//!
//! Owns policies, attachments, history, the global block list, identities and leases ([`store`]), what people and
//! programs ask of them ([`api`]), and what gateways hear ([`sync`]). It never touches a packet. Run by `cli`, alone or
//! beside a gateway ([`plane`]).
//!
//! Read in this order: [`model`] (what is held), [`store`] (where), [`api`] and [`sync`] (who asks), [`view`] (what
//! follows from it), [`plane`] (all of it, running).

pub mod api;
pub mod baseline;
mod body;
mod bootstrap;
pub mod config;
mod coverage;
pub mod diff;
pub mod document;
pub mod feed;
mod fetch;
pub mod login;
pub mod model;
pub mod oidc;
pub mod plane;
pub mod server;
pub mod simulate;
pub mod store;
pub mod sync;
mod throttle;
pub mod view;
mod world;
