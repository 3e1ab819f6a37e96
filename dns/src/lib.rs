//! The resolver of a runner subnet: every question is judged by the asking job's policy.
//!
//! Owns listening, the answer cache, upstreams and the DNS verdict on the wire; writes tickets before
//! an answer leaves. Never decides policy: that is `tidegate_policy::judge`. Driven by `gateway`, and
//! by `proxy` when a flow's own name must be resolved.

pub mod clock;
