//! The order of decision: pure functions from (rulebook, what is asked, tickets) to a ruling.
//!
//! Three questions are judged here: a DNS query ([`query`]), the records of its answer ([`answer`]) and a
//! flow ([`flow`]). Each ruling carries, besides the judgement for the event, the only evidence with
//! which `dns` may ask an upstream ([`permit::QueryPermit`]) and `proxy` may dial
//! ([`permit::DialPermit`]); their constructors are private to this module.

pub mod answer;
pub mod flow;
pub mod permit;
mod probe;
mod proxied;
pub mod query;
mod rows;

#[cfg(test)]
mod tests;
