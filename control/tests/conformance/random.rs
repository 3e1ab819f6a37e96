//! The property that the whole sync stands on: whoever follows the changes, with pages of whatever size and from
//! whatever moment, holds what a snapshot says. Random operations, random moments.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tidegate_control::model::Apply;
use tidegate_control::store::{
    AttachRequest, BlockUpdate, ClaimError, Expected, Retention, Store, StoreError,
};
use tidegate_control_wire::claim::EndedBy;
use tidegate_control_wire::oidc::{Issuer, JwkSet};
use tidegate_control_wire::record::{BlockLayer, Ending};
use tidegate_control_wire::secret::Role;
use tidegate_policy::job::Scope;

use crate::bench::Bench;
use crate::fixture::{actor, claim, end, in_seconds, wanted};
use crate::reader::{Reader, snapshot, whole};

/// Operations of one run.
const LENGTH: usize = 120;
/// Runs, each on what the one before left.
const RUNS: usize = 4;
/// Pages of one change, of a few, of all.
const LIMITS: [u32; 3] = [1, 7, 5_000];

#[derive(Clone, Copy, Debug)]
enum Step {
    Create(u8),
    Update(u8, Apply, bool),
    Delete(u8),
    Attach(u8, u8, bool),
    Detach(u8, u8),
    PutSet(u8, u8),
    DeleteSet(u8),
    Token(Role),
    Revoke(u8),
    PutIssuer(u8, u8),
    KeepIssuers(u8),
    Block(u8),
    Unblock,
    Feed(bool, u16),
    Expire,
    Claim(u8, u8, bool),
    End(u8, bool),
    Prune(bool, bool),
    Read(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let small = 0..4_u8;
    let apply = prop_oneof![Just(Apply::Now), Just(Apply::NextJob)];
    let role = prop_oneof![Just(Role::Runner), Just(Role::Provisioner), Just(Role::Viewer)];
    prop_oneof![
        4 => small.clone().prop_map(Step::Create),
        6 => (small.clone(), apply, any::<bool>()).prop_map(|(p, apply, set)| Step::Update(p, apply, set)),
        2 => small.clone().prop_map(Step::Delete),
        6 => (small.clone(), 0..6_u8, any::<bool>()).prop_map(|(p, scope, take)| Step::Attach(p, scope, take)),
        3 => (small.clone(), 0..6_u8).prop_map(|(p, scope)| Step::Detach(p, scope)),
        3 => (small.clone(), 0..4_u8).prop_map(|(set, text)| Step::PutSet(set, text)),
        2 => small.clone().prop_map(Step::DeleteSet),
        2 => role.prop_map(Step::Token),
        2 => small.clone().prop_map(Step::Revoke),
        2 => (small.clone(), small.clone()).prop_map(|(issuer, keys)| Step::PutIssuer(issuer, keys)),
        1 => small.clone().prop_map(Step::KeepIssuers),
        3 => (0..12_u8).prop_map(Step::Block),
        2 => Just(Step::Unblock),
        3 => (any::<bool>(), any::<u16>()).prop_map(|(full, names)| Step::Feed(full, names)),
        1 => Just(Step::Expire),
        9 => (0..6_u8, 0..2_u8, any::<bool>()).prop_map(|(source, group, take)| Step::Claim(source, group, take)),
        5 => (any::<u8>(), any::<bool>()).prop_map(|(at, release)| Step::End(at, release)),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(changes, jobs)| Step::Prune(changes, jobs)),
        20 => (0..6_u8).prop_map(Step::Read),
        1 => Just(Step::Reopen),
    ]
}

fn scope(number: u8) -> Scope {
    let scopes = [
        "org:acme",
        "repo:acme/web",
        "workflow:acme/web/ci.yml",
        "cluster:prod",
        "org:beta",
        "repo:beta/x",
    ];
    scopes[usize::from(number)].parse().unwrap()
}

fn policy_text(number: u8, uses: bool) -> String {
    let uses = if uses {
        format!("use: [set-{number}]\n")
    } else {
        String::new()
    };
    format!("egress-policy: block\nallowed-endpoints: p{number}.example:443\n{uses}")
}

/// The store under test, and what was made so far.
struct World {
    store: Store,
    tokens: Vec<String>,
    jobs: Vec<(String, usize)>,
    made: u32,
}

const GROUPS: [&str; 2] = ["a", "b"];

impl World {
    /// Does a step. What the rules refuse is no failure; the database's refusals are.
    async fn walk(&mut self, step: Step) {
        let outcome = match step {
            Step::Claim(source, group, take) => self.claim(source, usize::from(group), take).await,
            Step::Create(_) | Step::Update(..) | Step::Delete(_) | Step::PutSet(..) | Step::DeleteSet(_) => {
                self.document(step).await
            }
            Step::Attach(..) | Step::Detach(..) => self.attach(step).await,
            Step::Token(_) | Step::Revoke(_) | Step::PutIssuer(..) | Step::KeepIssuers(_) => {
                self.credential(step).await
            }
            Step::Block(_) | Step::Unblock | Step::Feed(..) => self.block(step).await,
            Step::End(..) | Step::Expire | Step::Prune(..) => self.upkeep(step).await,
            Step::Read(_) | Step::Reopen => Ok(()),
        };
        match outcome {
            Ok(()) => {}
            Err(
                StoreError::NotFound { .. }
                | StoreError::Conflict { .. }
                | StoreError::Stale { .. }
                | StoreError::Invalid { .. }
                | StoreError::Document(_),
            ) => {}
            Err(error) => panic!("{step:?}: {}", error.chain()),
        }
    }

    async fn document(&mut self, step: Step) -> Result<(), StoreError> {
        let (store, actor) = (&self.store, actor());
        let name = |p: u8| format!("policy-{p}");
        let set = |s: u8| format!("set-{s}");
        match step {
            Step::Create(p) => {
                let text = policy_text(p, false);
                store
                    .create_policy("acme", &name(p), &text, &actor)
                    .await
                    .map(drop)
            }
            Step::Update(p, apply, uses) => {
                let text = policy_text(p, uses);
                store
                    .update_policy("acme", &name(p), Expected::Any, &text, apply, &actor)
                    .await
                    .map(drop)
            }
            Step::Delete(p) => store
                .delete_policy("acme", &name(p), None, &actor)
                .await
                .map(drop),
            Step::PutSet(s, text) => {
                let text = format!("- s{text}.example:443\n");
                store
                    .put_set("acme", &set(s), None, &text, &actor)
                    .await
                    .map(drop)
            }
            Step::DeleteSet(s) => store.delete_set("acme", &set(s), None, &actor).await,
            other => panic!("{other:?}"),
        }
    }

    async fn attach(&mut self, step: Step) -> Result<(), StoreError> {
        let (policy, request) = match step {
            Step::Attach(p, s, replace) => (
                p,
                AttachRequest {
                    add: vec![scope(s)],
                    remove: Vec::new(),
                    replace,
                },
            ),
            Step::Detach(p, s) => (
                p,
                AttachRequest {
                    add: Vec::new(),
                    remove: vec![scope(s)],
                    replace: false,
                },
            ),
            other => panic!("{other:?}"),
        };
        let name = format!("policy-{policy}");
        self.store
            .attach("acme", &name, &request, &actor())
            .await
            .map(drop)
    }

    async fn credential(&mut self, step: Step) -> Result<(), StoreError> {
        let (store, actor) = (&self.store, actor());
        match step {
            Step::Token(role) => {
                let (_, token) = crate::fixture::token(store, &wanted(role)).await;
                self.tokens.push(token.id);
                Ok(())
            }
            Step::Revoke(at) => match self.tokens.len() {
                0 => Ok(()),
                many => store
                    .revoke_token(&self.tokens[usize::from(at) % many], &actor)
                    .await
                    .map(drop),
            },
            Step::PutIssuer(issuer, audience) => {
                let issuer = Issuer {
                    issuer: format!("https://issuer-{issuer}.example"),
                    audience: format!("audience-{audience}"),
                    owners: Vec::new(),
                    jwks: JwkSet { keys: Vec::new() },
                };
                store.put_issuer(&issuer, &actor).await.map(drop)
            }
            Step::KeepIssuers(kept) => {
                let kept: Vec<String> = (0..kept)
                    .map(|one| format!("https://issuer-{one}.example"))
                    .collect();
                store.remove_issuers_except(&kept, &actor).await
            }
            other => panic!("{other:?}"),
        }
    }

    async fn block(&mut self, step: Step) -> Result<(), StoreError> {
        let (store, actor) = (&self.store, actor());
        match step {
            Step::Block(name) => {
                let expires = name.is_multiple_of(3).then(|| in_seconds(600));
                store
                    .add_block_entry(&format!("b{name}.example"), "x", expires, &actor)
                    .await
                    .map(drop)
            }
            Step::Unblock => {
                let page = tidegate_control::model::PageRequest {
                    after: None,
                    limit: 1,
                };
                let page = store
                    .block_entries(Some(BlockLayer::Deployment), &page, None)
                    .await?;
                match page.items.first() {
                    Some(entry) => store.remove_block_entry(&entry.id, &actor).await,
                    None => Ok(()),
                }
            }
            Step::Feed(full, names) => {
                let names: Vec<u32> = (0..16).filter(|bit| names >> bit & 1 == 1).collect();
                let (add, remove) = names.split_at(names.len() / 2);
                let update = BlockUpdate {
                    full,
                    add: add
                        .iter()
                        .map(|one| (format!("f{one}.example"), String::new()))
                        .collect(),
                    remove: remove.iter().map(|one| format!("f{one}.example")).collect(),
                };
                store
                    .apply_block_layer(BlockLayer::Feed, update, &[])
                    .await
                    .map(drop)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn claim(&mut self, source: u8, group: usize, take: bool) -> Result<(), StoreError> {
        self.made += 1;
        let id = format!("job_{:05}", self.made);
        // Two sources each, so that leases overlap in part.
        let sources = [format!("10.0.0.{source}"), format!("10.0.0.{}", source + 1)];
        let mut asked = claim(&id, &[&sources[0], &sources[1]]);
        asked.granted = take && self.made.is_multiple_of(3);
        if self.made.is_multiple_of(4) {
            asked.lease.expires_at = in_seconds(600);
        }
        if take {
            let holders = self.jobs.iter().filter(|(_, of)| *of == group);
            asked.replaces = holders.rev().take(10).map(|(id, _)| id.as_str().into()).collect();
        }
        match self.store.claim(&asked, GROUPS[group], "gw-1").await {
            Ok(_) => self.jobs.push((id, group)),
            Err(ClaimError::Refused { .. }) => {}
            Err(ClaimError::Store(error)) => return Err(error),
        }
        Ok(())
    }

    async fn upkeep(&mut self, step: Step) -> Result<(), StoreError> {
        let store = &self.store;
        match step {
            Step::End(at, release) => match self.jobs.len() {
                0 => Ok(()),
                many => {
                    let (id, group) = &self.jobs[usize::from(at) % many];
                    let ending = if release {
                        Ending::Release
                    } else {
                        Ending::Quarantine
                    };
                    store
                        .end_job(id, Some(GROUPS[*group]), &end(EndedBy::Job, ending))
                        .await
                        .map(drop)
                }
            },
            Step::Expire => {
                store.expire_jobs(in_seconds(700)).await?;
                store.expire_block_entries(in_seconds(700)).await.map(drop)
            }
            Step::Prune(changes, jobs) => {
                let kept = |now: bool| {
                    if now {
                        Duration::ZERO
                    } else {
                        Duration::from_hours(1)
                    }
                };
                let retention = Retention {
                    changes: kept(changes),
                    jobs: kept(jobs),
                    ..Retention::default()
                };
                store.prune(retention).await.map(drop)
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn a_follower_of_the_changes_holds_what_a_snapshot_says(bench: Bench) {
    let mut world = World {
        store: bench.open().await,
        tokens: Vec::new(),
        jobs: Vec::new(),
        made: 0,
    };
    let mut readers: Vec<Reader> = Vec::new();
    for limit in LIMITS {
        readers.extend(GROUPS.map(|group| Reader::new(group, limit)));
    }
    let mut runner = TestRunner::default();
    for _ in 0..RUNS {
        let steps = prop::collection::vec(step(), LENGTH)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        for (at, step) in steps.iter().enumerate() {
            match *step {
                Step::Read(number) => {
                    let reader = &mut readers[usize::from(number)];
                    reader.catch_up(&world.store).await;
                    let group = GROUPS[usize::from(number) % 2];
                    let (listed, of) = snapshot(&world.store, group).await;
                    assert_eq!(reader.mirror().generation(), of);
                    assert_eq!(
                        reader.state(),
                        whole(&listed),
                        "reader {number} after {:#?}",
                        &steps[..=at]
                    );
                }
                Step::Reopen => world.store = bench.open().await,
                step => world.walk(step).await,
            }
        }
    }
    let (resets, goes_on) = readers.iter().fold((0, 0), |(resets, goes_on), reader| {
        (resets + reader.resets, goes_on + reader.goes_on)
    });
    assert!(
        goes_on > 20,
        "followed {goes_on} times, began anew {resets} times"
    );
}
