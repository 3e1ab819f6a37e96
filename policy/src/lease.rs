//! The lease table: which job holds which source address.
pub mod mac;
pub use mac::Mac;
