//! The mirror: every synced record, and what follows from them: compiled policies by scope, block lists, credentials.
//!
//! Gateway and control run the same one, so that both mean the same by the same records. It does no I/O and reads no
//! clock; whoever follows the stream hands it the batches. What it can't use (a policy that does not compile, an
//! attachment of a policy that never came) is never left out in silence: its place is taken and refuses everything.

mod blocks;
mod credentials;
mod policies;
mod touched;

use std::collections::BTreeMap;
use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::HashMap;
use tidegate_policy::compile::block::GlobalBlock;
use tidegate_policy::effective::{Attached, Generation, Slot};
use tidegate_policy::job::Scope;
use tidegate_policy::rulebook::PolicyMeta;

use crate::frame::{Batch, Resume};
use crate::oidc::Issuer;
use crate::record::{BlockLayer, Change, Ending, LeaseRecord, PolicyRecord, TokenRecord};

use blocks::Blocks;
pub use blocks::{CompiledLayer, StaleLayer};
pub use credentials::Credentials;
pub use policies::CompiledEdition;
use policies::Policies;
use touched::LeaseTouches;
pub use touched::{LeaseTouch, Touched};

/// Every synced record, and what follows from them.
#[derive(Debug, Default)]
pub struct Mirror {
    epoch: String,
    generation: Generation,
    policies: Policies,
    attachments: BTreeMap<Scope, CompactString>,
    credentials: Arc<Credentials>,
    blocks: Blocks,
    leases: BTreeMap<CompactString, LeaseRecord>,
}

impl Mirror {
    /// Nothing synced yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// True when the batch can follow on what is held: it is a whole snapshot, or of the same store.
    pub fn accepts(&self, batch: &Batch) -> bool {
        batch.reset || batch.epoch == self.epoch
    }

    /// Takes in a batch. One that it does not [accept](Self::accepts), or that is held already, changes nothing.
    pub fn apply(&mut self, batch: Batch) -> Touched {
        if !self.accepts(&batch) || (!batch.reset && batch.generation <= self.generation) {
            return Touched::default();
        }
        let before = batch.reset.then(|| self.forget());
        let mut touches = LeaseTouches::default();
        let mut work = Work::default();
        for change in batch.changes {
            self.change(change, &mut work, &mut touches);
        }
        if let Some(before) = before {
            self.compare(&before, &mut work, &mut touches);
        }
        self.epoch = batch.epoch;
        self.generation = batch.generation;
        Touched {
            policies: self.policies.compile() | work.attachments,
            blocks: self.blocks.settle(),
            credentials: work.credentials,
            leases: touches.into_vec(),
        }
    }

    fn change(&mut self, change: Change, work: &mut Work, touches: &mut LeaseTouches) {
        match change {
            Change::Policy(record) => self.policies.put(record),
            Change::PolicyGone { id } => self.policies.remove(&id),
            Change::Set(record) => self.policies.put_set(record),
            Change::SetGone { owner, name } => self.policies.remove_set(&owner, &name),
            Change::Attachment { scope, policy } => {
                let before = match policy.clone() {
                    Some(policy) => self.attachments.insert(scope, policy),
                    None => self.attachments.remove(&scope),
                };
                work.attachments |= before != policy;
            }
            Change::Token(token) => work.credentials |= self.credentials_mut().put_token(token),
            Change::TokenGone { id } => work.credentials |= self.credentials_mut().remove_token(&id),
            Change::Issuer(issuer) => work.credentials |= self.credentials_mut().put_issuer(issuer),
            Change::IssuerGone { issuer } => {
                work.credentials |= self.credentials_mut().remove_issuer(&issuer);
            }
            Change::Block(change) => self.blocks.change(change),
            Change::Lease(lease) => {
                if self.leases.get(&lease.id) != Some(&lease) {
                    self.leases.insert(lease.id.clone(), lease.clone());
                    touches.push(LeaseTouch::New(Box::new(lease)));
                }
            }
            Change::LeaseGone { id, ending, sources } => {
                let held = self.leases.remove(&id).map(|lease| lease.sources);
                touches.push(LeaseTouch::Gone {
                    id,
                    ending,
                    sources: held.unwrap_or(sources),
                });
            }
        }
    }

    fn credentials_mut(&mut self) -> &mut Credentials {
        Arc::make_mut(&mut self.credentials)
    }

    /// Empties everything for a snapshot, and gives back what the snapshot is compared with.
    fn forget(&mut self) -> Before {
        self.policies.forget();
        self.blocks.forget();
        Before {
            attachments: std::mem::take(&mut self.attachments),
            credentials: std::mem::take(&mut self.credentials),
            leases: std::mem::take(&mut self.leases),
        }
    }

    /// What a snapshot changed: only what differs from before.
    fn compare(&mut self, before: &Before, work: &mut Work, touches: &mut LeaseTouches) {
        work.attachments = before.attachments != self.attachments;
        work.credentials = !before.credentials.is_same(&self.credentials);
        let known = |touch: &LeaseTouch| match touch {
            LeaseTouch::New(lease) => before.leases.get(&lease.id) == Some(&**lease),
            LeaseTouch::Gone { .. } => false,
        };
        let mut fresh = std::mem::take(touches).into_vec();
        fresh.retain(|touch| !known(touch));
        // First those that are not there any more: their sources may be held by others now.
        let gone = before
            .leases
            .values()
            .filter(|lease| !self.leases.contains_key(&lease.id));
        for lease in gone {
            touches.push(LeaseTouch::Gone {
                id: lease.id.clone(),
                ending: Ending::Quarantine,
                sources: lease.sources.clone(),
            });
        }
        touches.extend(fresh);
    }

    /// What is attached to every scope that something is attached to. An attachment of a policy that is not there
    /// refuses everything.
    pub fn attached(&self) -> HashMap<Scope, Attached> {
        let of = |(scope, id): (&Scope, &CompactString)| {
            let attached = self.policies.attached(id).unwrap_or_else(|| {
                let meta = PolicyMeta {
                    id: id.clone(),
                    name: id.clone(),
                    version: 0,
                };
                Attached::always(Slot::Unknown(meta), None)
            });
            (scope.clone(), attached)
        };
        self.attachments.iter().map(of).collect()
    }

    /// Scopes and the ids of the policies attached to them.
    pub fn attachments(&self) -> impl Iterator<Item = (&Scope, &CompactString)> {
        self.attachments.iter()
    }

    /// The layers of the global block list, in the order of [`BlockLayer::ALL`], each as it was
    /// [put](Self::put_layer) last.
    pub fn block_layers(&self) -> [Arc<GlobalBlock>; BlockLayer::ALL.len()] {
        self.blocks.layers()
    }

    /// Layers that changed since they were taken last and have at most `largest` patterns. Whoever takes them has to
    /// [compile](StaleLayer::compile) them and put them back.
    pub fn take_stale_layers(&mut self, largest: usize) -> Vec<StaleLayer> {
        self.blocks.take_stale(largest)
    }

    /// Takes a compiled layer in.
    pub fn put_layer(&mut self, layer: CompiledLayer) {
        self.blocks.put(layer);
    }

    /// Block list patterns that are not understood, and so block nothing.
    pub fn unread_patterns(&self) -> usize {
        self.blocks.unread()
    }

    /// Tokens and issuers, as one pointer that changes when they do.
    pub fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// Living leases, by id.
    pub fn leases(&self) -> impl Iterator<Item = &LeaseRecord> {
        self.leases.values()
    }

    /// Every policy with its compiled editions, oldest first, by id.
    pub fn policies(&self) -> impl Iterator<Item = (&PolicyRecord, &[CompiledEdition])> {
        self.policies.iter()
    }

    /// A policy by its id.
    pub fn policy(&self, id: &str) -> Option<&PolicyRecord> {
        self.policies.record(id)
    }

    /// The newest egress facet of every policy by `owner/name`.
    pub fn named(&self) -> HashMap<CompactString, Slot> {
        let of = |(record, editions): (&PolicyRecord, &[CompiledEdition])| {
            let name = compact_str::format_compact!("{}/{}", record.owner, record.name);
            Some((name, editions.last()?.egress.clone()))
        };
        self.policies().filter_map(of).collect()
    }

    /// Position of the newest batch.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The store that all of this is from; empty before the first batch.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// True when anything was ever taken in.
    pub fn is_synced(&self) -> bool {
        !self.epoch.is_empty()
    }

    /// What to go on from; `None` before the first batch.
    pub fn resume(&self) -> Option<Resume> {
        self.is_synced().then(|| Resume {
            epoch: self.epoch.clone(),
            generation: self.generation,
        })
    }

    /// Everything, as the changes of a snapshot.
    pub fn snapshot(&self) -> impl Iterator<Item = Change> + '_ {
        let attachments = self.attachments.iter().map(|(scope, policy)| Change::Attachment {
            scope: scope.clone(),
            policy: Some(policy.clone()),
        });
        let tokens = self.credentials.tokens();
        let issuers = self.credentials.issuers();
        self.policies
            .snapshot()
            .chain(attachments)
            .chain(tokens.map(|token| Change::Token(TokenRecord::clone(token))))
            .chain(issuers.map(|issuer| Change::Issuer(Issuer::clone(issuer))))
            .chain(self.blocks.snapshot().map(Change::Block))
            .chain(self.leases.values().cloned().map(Change::Lease))
    }
}

/// What a batch changed, as far as it is seen change by change.
#[derive(Default)]
struct Work {
    attachments: bool,
    credentials: bool,
}

/// What was held before a snapshot.
struct Before {
    attachments: BTreeMap<Scope, CompactString>,
    credentials: Arc<Credentials>,
    leases: BTreeMap<CompactString, LeaseRecord>,
}

#[cfg(test)]
mod tests;
