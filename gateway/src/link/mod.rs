//! The links as the kernel knows them.

pub use mac::Mac;

mod mac;
