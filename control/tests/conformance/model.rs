//! A naive model of policies, sets and attachments, held against the store: random sequences of operations must give
//! the same answers and the same visible state. On SQLite; that both databases do the same is what the rest shows.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tidegate_control::model::{Apply, PageRequest};
use tidegate_control::store::{AttachRequest, Expected, PolicyFilter, Store, StoreError};
use tokio::runtime::Runtime;

use crate::bench::Bench;
use crate::fixture::actor;

/// Documents to choose from, with the set that each uses; the last one has an error.
const DOCUMENTS: [(&str, Option<&str>); 6] = [
    ("egress-policy: block\n", None),
    ("egress-policy: audit\n", None),
    ("lockdown-mode: {enabled: true}\n", None),
    ("use: [s0]\n", Some("s0")),
    ("use: [s1]\n", Some("s1")),
    ("egress-policy: maybe\n", None),
];
const SETS: [&str; 2] = ["s0", "s1"];
const NAMES: [&str; 3] = ["base", "Base", "Büro 1"];
const OWNERS: [&str; 2] = ["acme", "other"];
const SCOPES: [&str; 5] = [
    "org:acme",
    "repo:acme/web",
    "workflow:acme/web/ci.yml",
    "cluster:prod",
    "org:other",
];

/// One operation. Numbers index the lists above; a version is what the caller believes to be the newest.
#[derive(Clone, Debug)]
enum Step {
    Create {
        policy: (usize, usize),
        document: usize,
    },
    Update {
        policy: (usize, usize),
        version: Option<u32>,
        document: usize,
        next_job: bool,
    },
    Rollback {
        policy: (usize, usize),
        to: u32,
    },
    Delete {
        policy: (usize, usize),
        version: Option<u32>,
    },
    Attach {
        policy: (usize, usize),
        add: BTreeSet<usize>,
        remove: BTreeSet<usize>,
        replace: bool,
    },
    PutSet {
        set: (usize, usize),
        version: Option<u32>,
    },
    DeleteSet {
        set: (usize, usize),
    },
}

fn step() -> impl Strategy<Value = Step> {
    let policy = || (0..OWNERS.len(), 0..NAMES.len());
    let set = || (0..OWNERS.len(), 0..SETS.len());
    let version = || proptest::option::weighted(0.7, 1_u32..4);
    let document = || 0..DOCUMENTS.len();
    let scopes = || proptest::collection::btree_set(0..SCOPES.len(), 0..3);
    prop_oneof![
        4 => (policy(), document()).prop_map(|(policy, document)| Step::Create { policy, document }),
        4 => (policy(), version(), document(), any::<bool>()).prop_map(|(policy, version, document, next_job)| {
            Step::Update { policy, version, document, next_job }
        }),
        1 => (policy(), 1_u32..4).prop_map(|(policy, to)| Step::Rollback { policy, to }),
        1 => (policy(), version()).prop_map(|(policy, version)| Step::Delete { policy, version }),
        4 => (policy(), scopes(), scopes(), any::<bool>()).prop_map(|(policy, add, remove, replace)| {
            Step::Attach { policy, add, remove, replace }
        }),
        2 => (set(), version()).prop_map(|(set, version)| Step::PutSet { set, version }),
        1 => set().prop_map(|set| Step::DeleteSet { set }),
    ]
}

/// What an operation came to: the version or count that it returned, or the kind of its error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done(usize),
    NotFound,
    Conflict,
    Stale(u32),
    Invalid,
    Document,
}

fn outcome(result: Result<usize, StoreError>) -> Outcome {
    match result {
        Ok(value) => Outcome::Done(value),
        Err(StoreError::NotFound { .. }) => Outcome::NotFound,
        Err(StoreError::Conflict { .. }) => Outcome::Conflict,
        Err(StoreError::Stale { current, .. }) => Outcome::Stale(current),
        Err(StoreError::Invalid { .. }) => Outcome::Invalid,
        Err(StoreError::Document(_)) => Outcome::Document,
        Err(other) => panic!("{}", other.chain()),
    }
}

#[derive(Clone, Debug, Default)]
struct Policy {
    /// Indices of documents; version 1 first.
    versions: Vec<usize>,
    /// Sets that some version needs which may still govern a job.
    needs: BTreeSet<&'static str>,
    /// Entries in its history.
    entries: usize,
}

#[derive(Debug, Default)]
struct Model {
    policies: BTreeMap<(usize, usize), Policy>,
    sets: BTreeMap<(usize, usize), u32>,
    held: BTreeMap<usize, (usize, usize)>,
    /// Entries of the whole audit log.
    entries: usize,
}

impl Model {
    fn step(&mut self, step: &Step) -> Outcome {
        self.try_step(step).map_or_else(|outcome| outcome, Outcome::Done)
    }

    fn try_step(&mut self, step: &Step) -> Result<usize, Outcome> {
        match step {
            Step::Create { policy, document } => self.create(*policy, *document),
            Step::Update {
                policy,
                version,
                document,
                next_job,
            } => {
                if *document == 5 {
                    return Err(Outcome::Document);
                }
                self.publish(*policy, *version, *document, *next_job)
            }
            Step::Rollback { policy, to } => {
                let found = self.policies.get(policy).ok_or(Outcome::NotFound)?;
                let document = *found.versions.get(*to as usize - 1).ok_or(Outcome::NotFound)?;
                self.publish(*policy, None, document, false)
            }
            Step::Delete { policy, version } => self.delete(*policy, *version),
            Step::Attach {
                policy,
                add,
                remove,
                replace,
            } => self.attach(*policy, (add, remove), *replace),
            Step::PutSet { set, version } => {
                let current = self.sets.get(set).copied();
                match (version, current) {
                    (Some(_), None) => return Err(Outcome::NotFound),
                    (Some(version), Some(current)) if *version != current => {
                        return Err(Outcome::Stale(current));
                    }
                    _ => {}
                }
                let version = current.unwrap_or(0) + 1;
                self.sets.insert(*set, version);
                self.entries += 1;
                Ok(version as usize)
            }
            Step::DeleteSet { set } => {
                self.sets.get(set).ok_or(Outcome::NotFound)?;
                if !self.users(*set).is_empty() {
                    return Err(Outcome::Conflict);
                }
                self.sets.remove(set);
                self.entries += 1;
                Ok(0)
            }
        }
    }

    fn users(&self, (owner, set): (usize, usize)) -> Vec<&'static str> {
        let uses = self
            .policies
            .iter()
            .filter(|((of, _), policy)| *of == owner && policy.needs.contains(SETS[set]));
        let mut names: Vec<&str> = uses.map(|((_, name), _)| NAMES[*name]).collect();
        names.sort_unstable();
        names
    }

    fn has_sets(&self, owner: usize, document: usize) -> Result<(), Outcome> {
        let there = |set: &str| self.sets.keys().any(|(of, at)| *of == owner && SETS[*at] == set);
        DOCUMENTS[document]
            .1
            .is_none_or(there)
            .then_some(())
            .ok_or(Outcome::Document)
    }

    fn create(&mut self, at: (usize, usize), document: usize) -> Result<usize, Outcome> {
        if document == 5 {
            return Err(Outcome::Document);
        }
        if self.policies.contains_key(&at) {
            return Err(Outcome::Conflict);
        }
        self.has_sets(at.0, document)?;
        let policy = Policy {
            versions: vec![document],
            needs: DOCUMENTS[document].1.into_iter().collect(),
            entries: 1,
        };
        self.policies.insert(at, policy);
        self.entries += 1;
        Ok(1)
    }

    fn publish(
        &mut self,
        at: (usize, usize),
        version: Option<u32>,
        document: usize,
        next_job: bool,
    ) -> Result<usize, Outcome> {
        let current = self.policies.get(&at).ok_or(Outcome::NotFound)?.versions.len();
        if version.is_some_and(|version| version as usize != current) {
            return Err(Outcome::Stale(current as u32));
        }
        self.has_sets(at.0, document)?;
        let policy = self.policies.get_mut(&at).expect("it was there");
        policy.versions.push(document);
        if !next_job {
            policy.needs.clear();
        }
        policy.needs.extend(DOCUMENTS[document].1);
        policy.entries += 1;
        self.entries += 1;
        Ok(current + 1)
    }

    fn delete(&mut self, at: (usize, usize), version: Option<u32>) -> Result<usize, Outcome> {
        let current = self.policies.get(&at).ok_or(Outcome::NotFound)?.versions.len();
        if version.is_some_and(|version| version as usize != current) {
            return Err(Outcome::Stale(current as u32));
        }
        let before = self.held.len();
        self.held.retain(|_, holder| *holder != at);
        self.policies.remove(&at);
        let detached = before - self.held.len();
        self.entries += detached + 1;
        Ok(detached)
    }

    fn attach(
        &mut self,
        at: (usize, usize),
        (add, remove): (&BTreeSet<usize>, &BTreeSet<usize>),
        replace: bool,
    ) -> Result<usize, Outcome> {
        if add.len() + remove.len() == 0 || !add.is_disjoint(remove) {
            return Err(Outcome::Invalid);
        }
        self.policies.get(&at).ok_or(Outcome::NotFound)?;
        // In the order of the scopes' texts, as the store goes through them.
        let sorted = |scopes: &BTreeSet<usize>| {
            let mut scopes: Vec<usize> = scopes.iter().copied().collect();
            scopes.sort_by_key(|scope| SCOPES[*scope]);
            scopes
        };
        for scope in sorted(remove) {
            match self.held.get(&scope) {
                Some(holder) if *holder == at => {}
                Some(_) => return Err(Outcome::Conflict),
                None => return Err(Outcome::NotFound),
            }
        }
        let taken: Vec<usize> = sorted(add)
            .into_iter()
            .filter(|scope| self.held.get(scope) != Some(&at))
            .collect();
        if !replace && taken.iter().any(|scope| self.held.contains_key(scope)) {
            return Err(Outcome::Conflict);
        }
        let moved = usize::from(!remove.is_empty() && !taken.is_empty());
        self.enter(at, remove.len() + taken.len() + moved);
        for scope in remove {
            self.held.remove(scope);
        }
        let mut displaced = 0;
        for scope in taken {
            if let Some(before) = self.held.insert(scope, at) {
                displaced += 1;
                self.enter(before, 1);
            }
        }
        Ok(displaced)
    }

    fn enter(&mut self, at: (usize, usize), entries: usize) {
        self.policies.get_mut(&at).expect("it is there").entries += entries;
        self.entries += entries;
    }
}

async fn act(store: &Store, step: &Step) -> Outcome {
    let somebody = actor();
    let named = |(owner, name): &(usize, usize)| (OWNERS[*owner], NAMES[*name]);
    let expected = |version: &Option<u32>| version.map_or(Expected::Any, Expected::Version);
    let scopes = |scopes: &BTreeSet<usize>| scopes.iter().map(|at| SCOPES[*at].parse().unwrap()).collect();
    outcome(match step {
        Step::Create { policy, document } => {
            let (owner, name) = named(policy);
            let made = store
                .create_policy(owner, name, DOCUMENTS[*document].0, &somebody)
                .await;
            made.map(|policy| policy.version as usize)
        }
        Step::Update {
            policy,
            version,
            document,
            next_job,
        } => {
            let (owner, name) = named(policy);
            let apply = if *next_job { Apply::NextJob } else { Apply::Now };
            let yaml = DOCUMENTS[*document].0;
            let updated = store
                .update_policy(owner, name, expected(version), yaml, apply, &somebody)
                .await;
            updated.map(|policy| policy.version as usize)
        }
        Step::Rollback { policy, to } => {
            let (owner, name) = named(policy);
            let back = store
                .rollback_policy(owner, name, Expected::Any, *to, Apply::Now, &somebody)
                .await;
            back.map(|policy| policy.version as usize)
        }
        Step::Delete { policy, version } => {
            let (owner, name) = named(policy);
            let detached = store
                .delete_policy(owner, name, version.map(Expected::Version), &somebody)
                .await;
            detached.map(|scopes| scopes.len())
        }
        Step::Attach {
            policy,
            add,
            remove,
            replace,
        } => {
            let (owner, name) = named(policy);
            let request = AttachRequest {
                add: scopes(add),
                remove: scopes(remove),
                replace: *replace,
            };
            let attached = store.attach(owner, name, &request, &somebody).await;
            attached.map(|attached| attached.displaced.len())
        }
        Step::PutSet {
            set: (owner, set),
            version,
        } => {
            let expected = version.map(Expected::Version);
            let put = store
                .put_set(OWNERS[*owner], SETS[*set], expected, "- a.test:443\n", &somebody)
                .await;
            put.map(|set| set.version as usize)
        }
        Step::DeleteSet { set: (owner, set) } => store
            .delete_set(OWNERS[*owner], SETS[*set], None, &somebody)
            .await
            .map(|()| 0),
    })
}

/// Everything that can be seen of the store is what the model holds.
async fn compare(store: &Store, model: &Model) -> Result<(), TestCaseError> {
    let page = PageRequest {
        after: None,
        limit: 1_000,
    };
    let found = store
        .policies(None, &PolicyFilter::default(), &page)
        .await
        .unwrap()
        .items;
    prop_assert_eq!(found.len(), model.policies.len());
    for policy in &found {
        let owner = OWNERS.iter().position(|owner| *owner == policy.owner).unwrap();
        let at = (owner, NAMES.iter().position(|name| *name == policy.name).unwrap());
        let wanted = &model.policies[&at];
        prop_assert_eq!(policy.version as usize, wanted.versions.len());
        let mut scopes: Vec<&str> = model
            .held
            .iter()
            .filter(|(_, holder)| **holder == at)
            .map(|(scope, _)| SCOPES[*scope])
            .collect();
        scopes.sort_unstable();
        prop_assert_eq!(&policy.attachments, &scopes);
        let versions = store
            .versions(&policy.owner, &policy.name, &page)
            .await
            .unwrap()
            .items;
        let texts: Vec<&str> = versions
            .iter()
            .rev()
            .map(|version| version.yaml.as_str())
            .collect();
        let wanted_texts: Vec<&str> = wanted.versions.iter().map(|at| DOCUMENTS[*at].0).collect();
        prop_assert_eq!(texts, wanted_texts);
        prop_assert_eq!(&policy.yaml, &versions[0].yaml);
        let history = store.history(&policy.id, &page).await.unwrap().items;
        prop_assert_eq!(history.len(), wanted.entries);
    }
    for (at, scope) in SCOPES.iter().enumerate() {
        let held = store.held(&scope.parse().unwrap()).await.unwrap();
        let wanted = model
            .held
            .get(&at)
            .map(|(owner, name)| (OWNERS[*owner].to_owned(), NAMES[*name].to_owned()));
        prop_assert_eq!(held.map(|policy| (policy.owner, policy.name)), wanted);
    }
    for (at, owner) in OWNERS.iter().enumerate() {
        let sets = store.sets(owner, None, &page).await.unwrap().items;
        let found: Vec<(String, u32, Vec<String>)> = sets
            .into_iter()
            .map(|set| (set.name, set.version, set.used_by))
            .collect();
        let wanted = model
            .sets
            .iter()
            .filter(|((of, _), _)| *of == at)
            .map(|(key, version)| {
                let users = model.users(*key).into_iter().map(str::to_owned).collect();
                (SETS[key.1].to_owned(), *version, users)
            });
        prop_assert_eq!(found, wanted.collect::<Vec<_>>());
    }
    let counters = store.counters(None).await.unwrap();
    let attached: BTreeSet<_> = model.held.values().collect();
    prop_assert_eq!(counters.total as usize, model.policies.len());
    prop_assert_eq!(
        counters.unattached as usize,
        model.policies.len() - attached.len()
    );
    let head = store.verify_audit(None).await.unwrap();
    prop_assert_eq!(head.map(|head| head.seq as usize), Ok(model.entries));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = Runtime::new().unwrap();
        let bench = Bench::sqlite();
        runtime.block_on(async {
            let store = bench.open().await;
            let mut model = Model::default();
            for step in &steps {
                prop_assert_eq!(act(&store, step).await, model.step(step), "{:?}", step);
            }
            compare(&store, &model).await
        })?;
    }
}
