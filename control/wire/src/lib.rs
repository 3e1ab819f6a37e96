//! What a gateway and the control plane say to each other, and what both of them must read the same way.
//!
//! Owns the records that are synced ([`record`]), the frames of the stream ([`frame`]), registrations on their way
//! to the store ([`claim`]), events on theirs ([`batch`], [`event`]), text from strangers ([`text`]), what a job is told
//! about itself ([`summary`]), the mirror that turns records into policies ([`mirror`]), ids ([`id`]), token texts
//! ([`secret`]) and the verification of OIDC tokens ([`oidc`]). It does no I/O and reads no clock: `gateway` and `control`
//! drive it from their connections. Unknown fields are tolerated here: both ends say [`PROTOCOL`] first.

pub mod batch;
pub mod claim;
pub mod event;
pub mod frame;
pub mod id;
pub mod mirror;
pub mod oidc;
pub mod record;
pub mod secret;
pub mod summary;
pub mod text;

/// Version of what is said here. A gateway that says another one is told so and gets nothing.
pub const PROTOCOL: u32 = 1;

/// Where a gateway opens the stream of changes: `POST`, a [`frame::Hello`], answered by [`frame::Frame`]s, one JSON
/// object a line.
pub const STREAM_PATH: &str = "/sync/v1/stream";
/// Where a gateway says what it has put in force: `POST`, a [`frame::Ack`].
pub const ACK_PATH: &str = "/sync/v1/ack";
/// Where a gateway asks to have a lease recorded: `POST`, a [`claim::Claim`], answered by [`claim::Granted`].
/// `{LEASES_PATH}/{id}/end` takes a [`claim::End`].
pub const LEASES_PATH: &str = "/sync/v1/leases";
/// Where a gateway says that an issuer signed with a key it was never told: `POST`, a [`frame::UnknownKey`].
pub const UNKNOWN_KEY_PATH: &str = "/sync/v1/unknown-key";
/// Where a gateway delivers events: `POST`, lines of JSON ([`batch`]), answered by [`batch::BatchStored`].
pub const EVENTS_PATH: &str = "/sync/v1/events";
