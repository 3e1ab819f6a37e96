//! Tests of the mirror: what follows from records, what is compiled anew, and that resends and snapshots change nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod properties;
mod records;

use std::sync::Arc;

use jsonwebtoken::jwk::JwkSet;
use tidegate_policy::DnsName;
use tidegate_policy::effective::{Asked, PolicySet, Store};
use tidegate_policy::job::{Assurance, JobIdentity};
use tidegate_policy::rulebook::{CompiledPolicy, Governing};
use tidegate_policy::subject::{Network, RunnerKind};
use tidegate_policy::verdict::{Mode, Reason};

use super::*;
use crate::record::{BlockChange, CredentialKind, SetRecord, SyncedRole, VersionRecord};
use crate::secret::digest;

fn version(version: u32, since: u64, yaml: &str) -> VersionRecord {
    VersionRecord {
        version,
        since: Generation(since),
        yaml: yaml.into(),
    }
}

fn policy(id: &str, versions: Vec<VersionRecord>) -> Change {
    Change::Policy(PolicyRecord {
        id: id.into(),
        owner: "acme".into(),
        name: format!("name-of-{id}").into(),
        versions,
    })
}

fn set(owner: &str, name: &str, yaml: &str) -> Change {
    Change::Set(SetRecord {
        owner: owner.into(),
        name: name.into(),
        version: 1,
        yaml: yaml.into(),
    })
}

fn attach(scope: &str, policy: &str) -> Change {
    Change::Attachment {
        scope: scope.parse().unwrap(),
        policy: (!policy.is_empty()).then(|| policy.into()),
    }
}

fn token(id: &str, text: &str) -> Change {
    Change::Token(TokenRecord {
        id: id.into(),
        digest: digest(text),
        role: SyncedRole::Runner,
        owners: vec!["acme".into()],
        repos: Vec::new(),
        networks: Vec::new(),
        cluster: None,
        expires_at: None,
    })
}

fn issuer(url: &str, audience: &str) -> Change {
    Change::Issuer(Issuer {
        issuer: url.into(),
        audience: audience.into(),
        owners: Vec::new(),
        jwks: JwkSet { keys: Vec::new() },
    })
}

fn job(repo: &str) -> JobIdentity {
    JobIdentity {
        owner: "acme".into(),
        repo: repo.into(),
        workflow: "ci.yml".into(),
        job: "build".into(),
        run_id: "1".into(),
        run_attempt: 1,
        runner_name: "".into(),
        cluster: "prod".into(),
        event: "push".into(),
        git_ref: "".into(),
        actor: "".into(),
        head_repo: "".into(),
        assurance: Assurance::Signed,
    }
}

fn lease_of(id: &str, source: &str) -> LeaseRecord {
    LeaseRecord {
        id: id.into(),
        gateway: "gw-1".into(),
        network: "runners".into(),
        sources: vec![source.parse().unwrap()],
        identity: job("acme/web"),
        credential: CredentialKind::Oidc,
        token_id: None,
        began: Generation(1),
        started_at: "2026-11-01T00:00:00Z".parse().unwrap(),
        expires_at: "2026-11-01T06:00:00Z".parse().unwrap(),
    }
}

fn lease_boxed(id: &str, source: &str) -> Box<LeaseRecord> {
    Box::new(lease_of(id, source))
}

fn lease(id: &str, source: &str) -> Change {
    Change::Lease(lease_of(id, source))
}

fn lease_gone(id: &str, ending: Ending) -> Change {
    Change::LeaseGone {
        id: id.into(),
        ending,
        sources: Vec::new(),
    }
}

fn block(layer: BlockLayer, add: &[&str], remove: &[&str]) -> Change {
    let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect();
    Change::Block(BlockChange {
        layer,
        add: texts(add),
        remove: texts(remove),
    })
}

fn batch(reset: bool, generation: u64, changes: Vec<Change>) -> Batch {
    Batch {
        epoch: "one".into(),
        reset,
        changes,
        generation: Generation(generation),
        ..Batch::default()
    }
}

/// A mirror that follows a store: each call of `say` is the next batch.
struct Scene {
    mirror: Mirror,
    generation: u64,
}

impl Scene {
    fn new(changes: Vec<Change>) -> Self {
        let mut mirror = Mirror::new();
        mirror.apply(batch(true, 1, changes));
        Self {
            mirror,
            generation: 1,
        }
    }

    fn say(&mut self, changes: Vec<Change>) -> Touched {
        self.generation += 1;
        self.mirror.apply(batch(false, self.generation, changes))
    }

    fn snapshot_is(&mut self, changes: Vec<Change>) -> Touched {
        self.generation += 1;
        self.mirror.apply(batch(true, self.generation, changes))
    }

    fn layers(&mut self) -> [Arc<GlobalBlock>; 3] {
        layers_of(&mut self.mirror)
    }

    /// What governs a job of this repository that began at this generation.
    fn governing(&self, repo: &str, began: u64) -> Governing {
        let set = PolicySet {
            attached: self.mirror.attached(),
            store: Store::Known,
            ..PolicySet::default()
        };
        let network = Network {
            name: "runners".into(),
            cluster: "prod".into(),
            ranges: Vec::new(),
            runners: RunnerKind::Ephemeral,
            min_assurance: None,
            adjacent: false,
        };
        let job = job(repo);
        set.effective(&Asked::leased(&job, Generation(began), &network))
            .governing
    }

    fn policy_of(&self, repo: &str, began: u64) -> Arc<CompiledPolicy> {
        match self.governing(repo, began) {
            Governing::Policy(policy, _) => policy,
            Governing::DenyAll(reason) => panic!("{repo} is refused everything: {reason:?}"),
        }
    }

    fn refusal_of(&self, repo: &str) -> Reason {
        match self.governing(repo, 1) {
            Governing::DenyAll(reason) => reason,
            Governing::Policy(policy, _) => panic!("{repo} is governed by {:?}", policy.meta),
        }
    }
}

/// The layers, those that changed compiled anew.
fn layers_of(mirror: &mut Mirror) -> [Arc<GlobalBlock>; 3] {
    for stale in mirror.take_stale_layers(usize::MAX) {
        mirror.put_layer(stale.compile());
    }
    mirror.block_layers()
}

fn allows(policy: &CompiledPolicy, name: &str) -> bool {
    let name = DnsName::parse(name).unwrap();
    policy
        .allowed()
        .find_name(&name, 443, tidegate_policy::endpoint::Transport::Tcp)
        .is_some()
}

const BLOCK: &str = "egress-policy: block\nallowed-endpoints: a.test:443\n";

#[test]
fn records_become_policies_by_scope() {
    let scene = Scene::new(vec![
        policy("pol-1", vec![version(3, 1, BLOCK)]),
        attach("repo:acme/web", "pol-1"),
        attach("org:acme", "pol-1"),
    ]);
    let compiled = scene.policy_of("acme/web", 1);
    assert_eq!(compiled.mode, Mode::Block);
    assert_eq!(
        (
            compiled.meta.id.as_str(),
            compiled.meta.name.as_str(),
            compiled.meta.version
        ),
        ("pol-1", "name-of-pol-1", 3)
    );
    assert!(allows(&compiled, "a.test") && !allows(&compiled, "b.test"));
    let same = scene.policy_of("acme/api", 1);
    assert!(
        Arc::ptr_eq(&compiled, &same),
        "one policy in two scopes is compiled once"
    );
}

#[test]
fn the_order_of_records_within_a_batch_does_not_matter() {
    let mut scene = Scene::new(vec![
        attach("repo:acme/web", "pol-1"),
        policy("pol-1", vec![version(1, 1, "use: [base]\n")]),
        set("acme", "base", "- b.test:443\n"),
    ]);
    assert!(allows(&scene.policy_of("acme/web", 1), "b.test"));
    scene.say(vec![
        attach("repo:acme/api", "pol-2"),
        policy("pol-2", vec![version(1, 1, BLOCK)]),
    ]);
    assert!(allows(&scene.policy_of("acme/api", 1), "a.test"));
}

#[test]
fn next_job_a_lease_is_governed_by_the_version_that_it_began_with() {
    let mut scene = Scene::new(vec![
        policy("pol-1", vec![version(1, 1, BLOCK)]),
        attach("repo:acme/web", "pol-1"),
    ]);
    let first = scene.policy_of("acme/web", 1);
    let both = vec![
        version(1, 1, BLOCK),
        version(2, 2, "allowed-endpoints: b.test:443\n"),
    ];
    assert!(scene.say(vec![policy("pol-1", both)]).policies);
    assert!(
        Arc::ptr_eq(&first, &scene.policy_of("acme/web", 1)),
        "the older version is the same compilation: nobody is judged again"
    );
    let second = scene.policy_of("acme/web", 2);
    assert_eq!(second.meta.version, 2);
    let now = vec![version(2, 2, "allowed-endpoints: b.test:443\n")];
    assert!(scene.say(vec![policy("pol-1", now)]).policies);
    assert!(
        Arc::ptr_eq(&second, &scene.policy_of("acme/web", 1)),
        "no older version is left"
    );
}

#[test]
fn a_policy_that_can_not_be_used_takes_its_place_and_refuses() {
    let mut scene = Scene::new(vec![
        policy("pol-org", vec![version(1, 1, BLOCK)]),
        attach("org:acme", "pol-org"),
        policy("pol-set", vec![version(1, 1, "use: [missing]\n")]),
        attach("repo:acme/set", "pol-set"),
        policy(
            "pol-bad",
            vec![version(1, 1, "allowed-endpoints: https://a.test/x\n")],
        ),
        attach("repo:acme/bad", "pol-bad"),
        attach("repo:acme/none", "pol-none"),
        set("other", "missing", "- b.test:443\n"),
    ]);
    for repo in ["acme/set", "acme/bad", "acme/none"] {
        assert_eq!(
            scene.refusal_of(repo),
            Reason::PolicyUnknown,
            "{repo} must not fall to its organization's"
        );
    }
    let problems: Vec<(&str, bool)> = scene
        .mirror
        .policies()
        .map(|(record, editions)| (record.id.as_str(), editions[0].problem.is_some()))
        .collect();
    assert_eq!(
        problems,
        [("pol-bad", true), ("pol-org", false), ("pol-set", true)]
    );
    assert!(scene.say(vec![set("acme", "missing", "- b.test:443\n")]).policies);
    assert!(
        allows(&scene.policy_of("acme/set", 1), "b.test"),
        "the set came later"
    );
    assert!(
        scene
            .say(vec![Change::SetGone {
                owner: "acme".into(),
                name: "missing".into()
            }])
            .policies
    );
    assert_eq!(scene.refusal_of("acme/set"), Reason::PolicyUnknown);
}

#[test]
fn lockdown_alone_leaves_egress_to_the_next_scope() {
    let scene = Scene::new(vec![
        policy("pol-org", vec![version(1, 1, BLOCK)]),
        attach("org:acme", "pol-org"),
        policy(
            "pol-lock",
            vec![version(1, 1, "lockdown-mode: {enabled: true}\n")],
        ),
        attach("repo:acme/web", "pol-lock"),
    ]);
    assert_eq!(scene.policy_of("acme/web", 1).meta.id, "pol-org");
    let attached = scene.mirror.attached();
    let lockdown = &attached[&"repo:acme/web".parse::<Scope>().unwrap()]
        .at(Generation(1))
        .lockdown;
    assert!(
        lockdown
            .as_ref()
            .is_some_and(|one| one.lockdown.enabled && one.meta.id == "pol-lock")
    );
}

#[test]
fn a_set_compiles_its_users_anew_and_nobody_else() {
    let mut scene = Scene::new(vec![
        set("acme", "base", "- b.test:443\n"),
        set("acme", "other", "- o.test:443\n"),
        policy("pol-user", vec![version(1, 1, "use: [base]\n")]),
        policy("pol-else", vec![version(1, 1, "use: [other]\n")]),
        attach("repo:acme/web", "pol-user"),
        attach("repo:acme/api", "pol-else"),
    ]);
    let (user, other) = (scene.policy_of("acme/web", 1), scene.policy_of("acme/api", 1));
    let touched = scene.say(vec![set("acme", "base", "- c.test:443\n")]);
    assert!(touched.policies && !touched.blocks && !touched.credentials && touched.leases.is_empty());
    let now = scene.policy_of("acme/web", 1);
    assert!(!Arc::ptr_eq(&user, &now) && allows(&now, "c.test") && !allows(&now, "b.test"));
    assert!(Arc::ptr_eq(&other, &scene.policy_of("acme/api", 1)));
    let touched = scene.say(vec![set("acme", "unused", "- x.test:443\n")]);
    assert_eq!(touched, Touched::default(), "nobody uses it");
}
