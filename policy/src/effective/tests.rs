//! Rows of "Effective policy" (policy-semantics.md): what precedence yields.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod editions;
mod precedence;

use super::*;
use crate::document::{ParseOptions, PolicyDocument};
use crate::fixture::{job, network, policy_with};

fn slot(name: &str) -> Slot {
    Slot::Policy(policy_with(name, "egress-policy: block", &[]))
}

fn egress(scope: &str, egress: Slot) -> (Scope, Attached) {
    (scope.parse().unwrap(), Attached::always(egress, None))
}

fn asked<'a>(job: Option<&'a JobIdentity>, pinned: Option<&'a str>, network: &'a Network) -> Asked<'a> {
    Asked {
        job,
        pinned,
        network,
        began: Generation::NEWEST,
    }
}

fn declared(repo: &str) -> JobIdentity {
    JobIdentity {
        assurance: Assurance::Declared,
        cluster: "prod".into(),
        ..job(repo, "1").canonical()
    }
}

fn set(attached: impl IntoIterator<Item = (Scope, Attached)>) -> PolicySet {
    let networks = [(
        "runners".into(),
        NetworkPolicies {
            default: slot("network"),
            always_allow: None,
        },
    )];
    PolicySet {
        attached: attached.into_iter().collect(),
        networks: networks.into_iter().collect(),
        default: slot("gateway"),
        ..PolicySet::default()
    }
}

fn runners() -> Network {
    network("runners", &["10.77.0.0/16"])
}

/// `policy@scope`, or the reason.
fn decided(effective: &Effective) -> String {
    match &effective.governing {
        Governing::Policy(policy, scope) => format!("{}@{scope}", policy.meta.name),
        Governing::DenyAll(reason) => reason.as_str().into(),
    }
}

const SCOPES: [&str; 4] = [
    "workflow:acme/web/ci.yml",
    "repo:acme/web",
    "org:acme",
    "cluster:prod",
];

#[test]
fn effective_row_workflow_else_repository_else_organization_else_cluster_else_network() {
    for (skip, scope) in SCOPES.iter().enumerate() {
        let attached = SCOPES.iter().skip(skip).map(|scope| egress(scope, slot(scope)));
        let effective = set(attached).effective(&asked(Some(&declared("acme/web")), None, &runners()));
        assert_eq!(decided(&effective), format!("{scope}@{scope}"));
        let considered: Vec<String> = effective
            .considered
            .iter()
            .map(|one| one.scope.to_string())
            .collect();
        assert_eq!(
            considered,
            SCOPES.get(..=skip).unwrap(),
            "what was looked at until one decided"
        );
        assert!(
            effective
                .considered
                .iter()
                .rev()
                .skip(1)
                .all(|one| one.policy.is_none())
        );
        assert_eq!(
            effective.considered.last().unwrap().policy.as_ref().unwrap().name,
            *scope
        );
    }
    let effective = set([]).effective(&asked(Some(&declared("acme/web")), None, &runners()));
    assert_eq!(decided(&effective), "network@network:runners");
    assert_eq!(effective.considered.len(), 5);
}

#[test]
fn effective_row_the_gateways_default_where_the_network_names_none() {
    let mut set = set([]);
    set.networks.clear();
    assert_eq!(
        decided(&set.effective(&asked(None, None, &runners()))),
        "gateway@network:runners"
    );
    set.default = Slot::Vacant;
    assert_eq!(
        decided(&set.effective(&asked(None, None, &runners()))),
        "no-policy"
    );
}

#[test]
fn effective_row_a_document_with_lockdown_only_decides_only_that_facet() {
    let text = "lockdown-mode: {enabled: false}";
    let document = PolicyDocument::parse(text, &ParseOptions::default())
        .document
        .unwrap();
    assert!(!document.decides_egress() && document.decides_lockdown());
    let meta = PolicyMeta {
        id: "x".into(),
        name: "exempt".into(),
        version: 3,
    };
    let lockdown = Some(Arc::new(LockdownPolicy {
        meta,
        lockdown: document.lockdown.unwrap(),
    }));
    let exemption = (
        "repo:acme/web".parse().unwrap(),
        Attached::always(Slot::Vacant, lockdown),
    );
    let effective = set([exemption, egress("org:acme", slot("org"))]).effective(&asked(
        Some(&declared("acme/web")),
        None,
        &runners(),
    ));
    assert_eq!(decided(&effective), "org@org:acme");
    let (lockdown, scope) = effective.lockdown.unwrap();
    assert_eq!(
        (lockdown.meta.name.as_str(), scope.to_string().as_str()),
        ("exempt", "repo:acme/web")
    );
}

#[test]
fn effective_row_owner_and_repository_compare_without_case() {
    let set = set([egress("repo:Acme/Web", slot("repo"))]);
    assert_eq!(
        decided(&set.effective(&asked(Some(&declared("ACME/weB")), None, &runners()))),
        "repo@repo:acme/web"
    );
}

#[test]
fn effective_row_a_workflow_without_a_file_has_no_workflow_scope() {
    let set = set([
        egress("workflow:acme/web/ci.yml", slot("workflow")),
        egress("repo:acme/web", slot("repo")),
    ]);
    let dynamic = JobIdentity {
        workflow: "".into(),
        ..declared("acme/web")
    };
    assert_eq!(
        decided(&set.effective(&asked(Some(&dynamic), None, &runners()))),
        "repo@repo:acme/web"
    );
}

#[test]
fn effective_row_claimed_never_decides_and_min_assurance_sends_to_the_default() {
    let set = set([egress("repo:acme/web", slot("repo"))]);
    let strict = Network {
        min_assurance: Some(Assurance::Signed),
        ..runners()
    };
    for (assurance, open, wanting) in [
        (
            Assurance::Claimed,
            "network@network:runners",
            "network@network:runners",
        ),
        (
            Assurance::Declared,
            "repo@repo:acme/web",
            "network@network:runners",
        ),
        (Assurance::Signed, "repo@repo:acme/web", "repo@repo:acme/web"),
        (Assurance::Forge, "repo@repo:acme/web", "repo@repo:acme/web"),
        (Assurance::Static, "repo@repo:acme/web", "repo@repo:acme/web"),
    ] {
        let job = JobIdentity {
            assurance,
            ..declared("acme/web")
        };
        assert_eq!(
            decided(&set.effective(&asked(Some(&job), None, &runners()))),
            open,
            "{assurance:?}"
        );
        assert_eq!(
            decided(&set.effective(&asked(Some(&job), None, &strict))),
            wanting,
            "{assurance:?}"
        );
    }
}

#[test]
fn order_row_no_policy_known_yet_is_deny_all_never_a_looser_default() {
    let unread = PolicySet {
        store: Store::NeverRead,
        ..set([])
    };
    assert_eq!(
        decided(&unread.effective(&asked(Some(&declared("acme/web")), None, &runners()))),
        "policy-unknown"
    );
    assert_eq!(
        decided(&unread.effective(&asked(None, None, &runners()))),
        "policy-unknown",
        "whoever asks may be a job that could not register"
    );
    let meta = PolicyMeta {
        id: "b".into(),
        name: "broken".into(),
        version: 1,
    };
    let broken = set([
        egress("repo:acme/web", Slot::Unknown(meta.clone())),
        egress("org:acme", slot("looser")),
    ]);
    assert_eq!(
        decided(&broken.effective(&asked(Some(&declared("acme/web")), None, &runners()))),
        "policy-unknown"
    );
    let networks = [(
        "runners".into(),
        NetworkPolicies {
            default: Slot::Unknown(meta),
            always_allow: None,
        },
    )];
    let broken = PolicySet {
        networks: networks.into_iter().collect(),
        ..set([])
    };
    assert_eq!(
        decided(&broken.effective(&asked(None, None, &runners()))),
        "policy-unknown"
    );
}

#[test]
fn effective_row_a_pinned_policy_decides_alone_and_a_missing_one_denies_all() {
    let mut set = set([egress("repo:acme/web", slot("repo"))]);
    set.pinned.insert(
        "ci.yaml".into(),
        policy_with("ci.yaml", "egress-policy: audit", &[]),
    );
    let job = declared("acme/web");
    assert_eq!(
        decided(&set.effective(&asked(Some(&job), Some("ci.yaml"), &runners()))),
        "ci.yaml@lease:ci.yaml"
    );
    assert_eq!(
        decided(&set.effective(&asked(Some(&job), Some("gone.yaml"), &runners()))),
        "policy-unknown"
    );
}

#[test]
fn a_rulebook_carries_its_networks_always_allow_list() {
    let mut set = set([]);
    let list = crate::fixture::pack();
    set.networks.get_mut("runners").unwrap().always_allow = Some(Arc::clone(&list));
    assert!(Arc::ptr_eq(
        set.rulebook_for(&asked(None, None, &runners()))
            .host
            .as_ref()
            .unwrap(),
        &list
    ));
    assert!(
        set.rulebook_for(&asked(None, None, &network("other", &[])))
            .host
            .is_none()
    );
}

#[test]
fn equal_rulebooks_are_the_same_and_each_part_counts() {
    let set = set([egress("repo:acme/web", slot("repo"))]);
    let book = |set: &PolicySet| set.rulebook_for(&asked(Some(&declared("acme/web")), None, &runners()));
    assert!(book(&set).is_same(&book(&set)));
    let other_world = |change: &dyn Fn(&mut World)| {
        let World {
            global,
            never_dial,
            internal,
            ech,
            destination,
        } = &*set.world;
        let (global, ech) = (global.clone(), Arc::clone(ech));
        let (never_dial, internal) = (never_dial.clone(), internal.clone());
        let mut world = World {
            global,
            never_dial,
            internal,
            ech,
            destination: *destination,
        };
        change(&mut world);
        Rulebook {
            world: Arc::new(world),
            governing: book(&set).governing.clone(),
            host: None,
        }
    };
    assert!(
        book(&set).is_same(&other_world(&|_| ())),
        "a rebuilt world that says the same"
    );
    assert!(!book(&set).is_same(&other_world(
        &|world| world.global = crate::fixture::world("evil.test").global
    )));
    assert!(!book(&set).is_same(&other_world(
        &|world| world.destination = crate::rulebook::Destination::TicketOnly
    )));
    let own = crate::special::NeverDial::new(["192.0.2.1".parse().unwrap()]);
    assert!(!book(&set).is_same(&other_world(&|world| world.never_dial = own.clone())));
    assert!(!book(&set).is_same(&set.rulebook_for(&asked(None, None, &runners()))));
    let deny = |reason| Rulebook::deny_all(Arc::clone(&set.world), reason);
    assert!(deny(Reason::Quarantined).is_same(&deny(Reason::Quarantined)));
    assert!(!deny(Reason::Quarantined).is_same(&deny(Reason::NoPolicy)));
    assert!(!deny(Reason::Quarantined).is_same(&book(&set)));
}
