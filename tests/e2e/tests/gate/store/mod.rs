//! The policy store, end to end: what is said to the control plane is what jobs meet on the wire.

mod policies;
