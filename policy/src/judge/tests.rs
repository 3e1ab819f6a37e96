//! The semantics of judging.
