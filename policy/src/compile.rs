//! Compiled matchers: what lookups run on.
//!
//! A policy is read once ([`crate::document`]) and compiled into immutable tables that every worker
//! shares by `Arc`: [`rules`] says which written line a match came from, [`names`] matches names over
//! reversed labels, [`nets`] matches addresses, [`matcher`] holds both for one allow or deny list, and
//! [`block`] is the separate, leaner matcher of the global block list. Nothing here decides anything,
//! does I/O or changes after it was built: a changed policy is compiled anew and swapped.

pub mod block;
pub mod matcher;
pub mod names;
pub mod nets;
pub mod rules;
mod trie;

pub(crate) use trie::{Ends, NameView};
