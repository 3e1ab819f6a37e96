//! The resolver of a runner subnet: every question is judged by the asking job's policy.
//!
//! Owns listening, the answer cache, upstreams and the DNS verdict on the wire; writes tickets before
//! an answer leaves. Never decides policy: that is `tidegate_policy::judge`. Driven by `gateway`, and
//! by `proxy` when a flow's own name must be resolved.
//!
//! Read in this order: [`front::handler`] (the steps of one query), [`resolver`] (cache, coalescing,
//! upstreams), `answer` (what one job gets of an answer), `wire` (bytes), [`fast`] (what is repeated without all that).

#![deny(unsafe_code)]

mod answer;
pub mod clock;
pub mod fast;
pub mod front;
pub mod resolver;
pub mod subjects;
#[expect(
    unsafe_code,
    reason = "the one module that calls the kernel past its safe wrappers"
)]
mod sys;
pub mod wire;

pub use clock::Clock;
pub use front::{Client, DnsHandler, HandlerConfig, Parts, Transport};
pub use resolver::{Resolver, ResolverConfig};
pub use subjects::Subjects;
