//! Synced policies and endpoint sets, and their compilation: only what changed is compiled anew.
//!
//! A compilation that is kept is the same pointer as before, so that no job is judged again for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::{HashMap, HashSet};
use tidegate_policy::compile::rules::RuleSource;
use tidegate_policy::document::{EndpointSet, ParseOptions, PolicyDocument, platform};
use tidegate_policy::effective::{Attached, Edition, Generation, LockdownPolicy, Slot};
use tidegate_policy::rulebook::{CompiledPolicy, PolicyMeta, RuleList};

use crate::record::{Change, PolicyRecord, SetRecord, VersionRecord};

/// One version of a policy, compiled.
#[derive(Clone, Debug)]
pub struct CompiledEdition {
    /// Its version.
    pub version: u32,
    /// Jobs that began at this generation or later are governed by it.
    pub since: Generation,
    /// The egress facet; [`Slot::Unknown`] when the document or one of its sets can't be used, [`Slot::Vacant`] when it
    /// decides only lockdown.
    pub egress: Slot,
    /// The lockdown facet.
    pub lockdown: Option<Arc<LockdownPolicy>>,
    /// Why the egress facet is unknown.
    pub problem: Option<Arc<str>>,
    made_of: MadeOf,
}

/// What a compilation was made from; another one is made when it differs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MadeOf {
    name: CompactString,
    yaml: Arc<str>,
    /// The sets that it uses, with their stamps; 0 for one that is not there.
    sets: Vec<(String, u64)>,
}

impl CompiledEdition {
    /// As precedence wants it.
    fn edition(&self) -> Edition {
        Edition {
            since: self.since,
            egress: self.egress.clone(),
            lockdown: self.lockdown.clone(),
        }
    }
}

/// One policy.
#[derive(Debug)]
struct Policy {
    record: PolicyRecord,
    editions: Vec<CompiledEdition>,
}

/// The endpoint sets of one owner.
#[derive(Debug, Default)]
struct OwnerSets {
    records: BTreeMap<CompactString, SetRecord>,
    parsed: HashMap<String, EndpointSet>,
    stamps: HashMap<String, u64>,
}

/// Every policy and set.
#[derive(Debug)]
pub(super) struct Policies {
    pack: Arc<RuleList>,
    all: BTreeMap<CompactString, Policy>,
    sets: BTreeMap<CompactString, OwnerSets>,
    /// Policies whose record changed since the last compilation.
    dirty: BTreeSet<CompactString>,
    /// Owners some of whose sets changed since.
    dirty_owners: HashSet<CompactString>,
    /// A policy that could be attached went.
    removed: bool,
    /// Grows with every text of a set.
    stamp: u64,
    /// What was held before a snapshot that is being taken in: its compilations are used again.
    before: Option<Forgotten>,
}

/// See [`Policies::forget`].
#[derive(Debug)]
struct Forgotten {
    all: BTreeMap<CompactString, Policy>,
    sets: BTreeMap<CompactString, OwnerSets>,
}

impl Default for Policies {
    fn default() -> Self {
        let pack = platform::pack().endpoints.iter();
        let pack = RuleList::compile(pack.map(|one| (one, RuleSource::Platform)));
        Self {
            pack: Arc::new(pack),
            all: BTreeMap::new(),
            sets: BTreeMap::new(),
            dirty: BTreeSet::new(),
            dirty_owners: HashSet::new(),
            removed: false,
            stamp: 0,
            before: None,
        }
    }
}

impl Policies {
    /// A policy by its id.
    pub(super) fn record(&self, id: &str) -> Option<&PolicyRecord> {
        self.all.get(id).map(|policy| &policy.record)
    }

    pub(super) fn put(&mut self, record: PolicyRecord) {
        if self
            .all
            .get(&record.id)
            .is_some_and(|known| known.record == record)
        {
            return;
        }
        self.dirty.insert(record.id.clone());
        let editions = match self.all.remove(&record.id) {
            Some(known) => known.editions,
            None => self.recall(&record),
        };
        self.all.insert(record.id.clone(), Policy { record, editions });
    }

    /// The compilations that a policy had before the snapshot that is being taken in.
    fn recall(&mut self, record: &PolicyRecord) -> Vec<CompiledEdition> {
        let before = self
            .before
            .as_mut()
            .and_then(|before| before.all.get_mut(&record.id));
        before.map_or_else(Vec::new, |known| std::mem::take(&mut known.editions))
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.dirty.remove(id);
        self.removed |= self.all.remove(id).is_some();
    }

    pub(super) fn put_set(&mut self, record: SetRecord) {
        let sets = self.sets.entry(record.owner.clone()).or_default();
        let known = sets.records.get(&record.name);
        if known.is_some_and(|known| known.yaml == record.yaml) {
            sets.records.insert(record.name.clone(), record);
            return;
        }
        self.dirty_owners.insert(record.owner.clone());
        let (owner, name) = (record.owner.clone(), record.name.to_string());
        let before = self
            .before
            .as_mut()
            .and_then(|before| before.sets.get_mut(&owner));
        let same = before.filter(|before| {
            before
                .records
                .get(&record.name)
                .is_some_and(|known| known.yaml == record.yaml)
        });
        if let Some(before) = same {
            if let Some(set) = before.parsed.remove(&name) {
                sets.parsed.insert(name.clone(), set);
            }
            sets.stamps.extend(before.stamps.remove_entry(&name));
        } else {
            self.stamp += 1;
            sets.stamps.insert(name.clone(), self.stamp);
            match EndpointSet::parse(&record.yaml, &ParseOptions::default()).document {
                Some(set) => sets.parsed.insert(name, set),
                None => sets.parsed.remove(&name),
            };
        }
        sets.records.insert(record.name.clone(), record);
    }

    pub(super) fn remove_set(&mut self, owner: &str, name: &str) {
        let Some(sets) = self.sets.get_mut(owner) else {
            return;
        };
        if sets.records.remove(name).is_some() {
            sets.parsed.remove(name);
            sets.stamps.remove(name);
            self.dirty_owners.insert(owner.into());
        }
        if sets.records.is_empty() {
            self.sets.remove(owner);
        }
    }

    /// Empties everything for a snapshot; compilations of what comes again are used again.
    pub(super) fn forget(&mut self) {
        self.dirty.clear();
        self.before = Some(Forgotten {
            all: std::mem::take(&mut self.all),
            sets: std::mem::take(&mut self.sets),
        });
    }

    /// Compiles what changed. True when some policy means something else than before, or is not there any more.
    pub(super) fn compile(&mut self) -> bool {
        let mut dirty = std::mem::take(&mut self.dirty);
        let owners = std::mem::take(&mut self.dirty_owners);
        if !owners.is_empty() {
            let concerned = self.all.values().filter(|one| owners.contains(&one.record.owner));
            dirty.extend(concerned.map(|one| one.record.id.clone()));
        }
        let mut changed = std::mem::take(&mut self.removed);
        if let Some(before) = self.before.take() {
            changed |= before.all.keys().any(|id| !self.all.contains_key(id));
        }
        let nothing = OwnerSets::default();
        for id in dirty {
            let Some(policy) = self.all.get_mut(&id) else {
                continue;
            };
            let sets = self.sets.get(&policy.record.owner).unwrap_or(&nothing);
            changed |= policy.compile(sets, &self.pack);
        }
        changed
    }

    /// What is in force wherever this policy is attached.
    pub(super) fn attached(&self, id: &str) -> Option<Attached> {
        let policy = self.all.get(id)?;
        Some(Attached::new(
            policy.editions.iter().map(CompiledEdition::edition).collect(),
        ))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PolicyRecord, &[CompiledEdition])> {
        self.all
            .values()
            .map(|one| (&one.record, one.editions.as_slice()))
    }

    pub(super) fn snapshot(&self) -> impl Iterator<Item = Change> + '_ {
        let sets = self.sets.values().flat_map(|sets| sets.records.values());
        let policies = self.all.values().map(|one| &one.record);
        sets.cloned()
            .map(Change::Set)
            .chain(policies.cloned().map(Change::Policy))
    }
}

impl Policy {
    /// True when some edition is another than before.
    fn compile(&mut self, sets: &OwnerSets, pack: &Arc<RuleList>) -> bool {
        let before = std::mem::take(&mut self.editions);
        let mut changed = before.len() != self.record.versions.len();
        for (at, version) in self.record.versions.iter().enumerate() {
            let known = before
                .iter()
                .find(|known| known.is_of(&self.record, version, sets));
            changed |= known.is_none()
                || before.get(at).map(|one| (one.version, one.since))
                    != Some((version.version, version.since));
            self.editions.push(match known {
                Some(known) => CompiledEdition {
                    since: version.since,
                    ..known.clone()
                },
                None => CompiledEdition::compile(&self.record, version, sets, pack),
            });
        }
        changed
    }
}

impl CompiledEdition {
    /// True when compiling this version would make the same.
    fn is_of(&self, record: &PolicyRecord, version: &VersionRecord, sets: &OwnerSets) -> bool {
        let stamp = |name: &String| sets.stamps.get(name).copied().unwrap_or_default();
        self.version == version.version
            && self.made_of.name == record.name
            && *self.made_of.yaml == *version.yaml
            && self
                .made_of
                .sets
                .iter()
                .all(|(name, known)| stamp(name) == *known)
    }

    fn compile(
        record: &PolicyRecord,
        version: &VersionRecord,
        sets: &OwnerSets,
        pack: &Arc<RuleList>,
    ) -> Self {
        let meta = PolicyMeta {
            id: record.id.clone(),
            name: record.name.clone(),
            version: version.version,
        };
        let parsed = PolicyDocument::parse(&version.yaml, &ParseOptions::default());
        let (egress, problem) = match &parsed.document {
            None => {
                let first = parsed.diagnostics.first().map(|one| one.message.as_str());
                (
                    Slot::Unknown(meta.clone()),
                    Some(first.unwrap_or("not a policy").into()),
                )
            }
            Some(document) if !document.decides_egress() => (Slot::Vacant, None),
            Some(document) => match CompiledPolicy::compile(document, meta.clone(), &sets.parsed, pack) {
                Ok(policy) => (Slot::Policy(Arc::new(policy)), None),
                Err(error) => (Slot::Unknown(meta.clone()), Some(error.to_string().into())),
            },
        };
        let document = parsed.document.unwrap_or_default();
        let lockdown = document
            .lockdown
            .map(|lockdown| Arc::new(LockdownPolicy { meta, lockdown }));
        let stamped = |name: String| {
            let stamp = sets.stamps.get(&name).copied().unwrap_or_default();
            (name, stamp)
        };
        Self {
            version: version.version,
            since: version.since,
            egress,
            lockdown,
            problem,
            made_of: MadeOf {
                name: record.name.clone(),
                yaml: version.yaml.as_str().into(),
                sets: document.use_sets.into_iter().map(stamped).collect(),
            },
        }
    }
}
