//! The appliance around the data plane.

pub mod intercept;
pub mod link;
pub mod listen;
pub mod sys;
