//! Rulebooks, one for all who are judged by the same.
//!
//! A policy of an organization governs thousands of leases: they share one rulebook, so that a swap costs each of
//! them a pointer. Bounded by what the policy set holds: a book names a policy of it, or a reason.

use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::HashMap;

use crate::effective::{Asked, PolicySet};
use crate::job::Scope;
use crate::rulebook::{Governing, Rulebook};
use crate::verdict::Reason;

/// What a book is made of, beside the set of policies and the network.
#[derive(Debug, PartialEq, Eq, Hash)]
enum By {
    /// A compiled policy by its address, which stays taken as long as the book is kept, and the scope.
    Policy(usize, Scope),
    /// Deny-all.
    Nobody(Reason),
}

/// The rulebooks made of one set of policies so far.
#[derive(Debug)]
pub(super) struct Books {
    policies: Arc<PolicySet>,
    known: HashMap<(CompactString, By), Arc<Rulebook>>,
}

impl Books {
    pub(super) fn new(policies: Arc<PolicySet>) -> Self {
        let known = HashMap::new();
        Self { policies, known }
    }

    /// The set of policies that they are made of.
    pub(super) const fn policies(&self) -> &Arc<PolicySet> {
        &self.policies
    }

    /// What somebody is judged by.
    pub(super) fn of(&mut self, asked: &Asked<'_>) -> Arc<Rulebook> {
        let governing = self.policies.governing(asked, |_, _| ());
        let by = match &governing {
            Governing::Policy(policy, scope) => By::Policy(Arc::as_ptr(policy).addr(), scope.clone()),
            Governing::DenyAll(reason) => By::Nobody(*reason),
        };
        let network = &asked.network.name;
        let make = || self.policies.rulebook(governing, network);
        let book = self.known.entry((network.clone(), by)).or_insert_with(make);
        Arc::clone(book)
    }
}
