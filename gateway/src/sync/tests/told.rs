//! What the control plane is told of a network.

use tidegate_control_wire::frame::MAX_DEFAULT_POLICY;
use tidegate_policy::effective::{NetworkPolicies, PolicySet, Slot};
use tidegate_policy::job::Assurance;
use tidegate_policy::rulebook::PolicyMeta;
use tidegate_policy::special::NeverDial;
use tidegate_policy::subject::{Network, RunnerKind};

use crate::config::GatewayConfig;
use crate::policies::{PolicyFiles, Synced};
use crate::sync::told::told;

fn network() -> Network {
    Network {
        name: "runners".into(),
        cluster: "prod".into(),
        ranges: vec!["10.0.0.0/24".parse().unwrap()],
        runners: RunnerKind::Persistent,
        min_assurance: Some(Assurance::Signed),
        adjacent: false,
    }
}

fn unreadable(name: &str) -> Slot {
    Slot::Unknown(PolicyMeta {
        id: name.into(),
        name: name.into(),
        version: 1,
    })
}

#[test]
fn a_network_says_its_demand_its_runners_and_what_governs_by_default() {
    let mut policies = PolicySet::default();
    let said = told(&network(), &policies, None);
    assert_eq!(said.min_assurance, Some(Assurance::Signed));
    assert_eq!(said.runners.as_deref(), Some("persistent"));
    assert_eq!(said.default_policy.as_deref(), Some("deny-all"));
    assert_eq!((said.cluster.as_str(), said.ranges.len()), ("prod", 1));

    policies.default = unreadable("house.yaml");
    let said = told(&network(), &policies, None);
    assert_eq!(
        said.default_policy.as_deref(),
        Some("house.yaml (not readable: deny-all)")
    );

    let own = NetworkPolicies {
        default: unreadable("own.yaml"),
        ..NetworkPolicies::default()
    };
    policies.networks.insert("runners".into(), own);
    let said = told(&network(), &policies, None);
    assert_eq!(
        said.default_policy.as_deref(),
        Some("own.yaml (not readable: deny-all)"),
        "its own stands before the gateway's"
    );
}

#[test]
fn a_default_policy_is_told_with_its_text_unless_others_can_not_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("house.yaml");
    let config = "version: 1\ngateway:\n  name: gw\n  networks: [{name: runners, interface: r0}]\n  \
                  default-policy: house.yaml\n  endpoint-sets: {base: base.yaml}\n  dns: {upstreams: [198.51.100.53]}\n";
    let config = GatewayConfig::parse(config, &dir.path().join("tidegate.yaml")).unwrap();
    std::fs::write(dir.path().join("base.yaml"), "- b.test:443\n").unwrap();
    let mut files = PolicyFiles::new();
    let mut told_of = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let policies = files.load(&config, NeverDial::default(), &Synced::default());
        let said = told(&network(), &policies, Some((&file, &files)));
        assert_eq!(said.default_policy.as_deref(), Some("house.yaml (audit)"));
        said.default_yaml
    };
    let text = "egress-policy: audit\nallowed-endpoints: a.test:443\n";
    assert_eq!(told_of(text).as_deref(), Some(text));
    assert_eq!(told_of("egress-policy: [\n"), None, "it is not what is in force");
    let with_set = format!("{text}use: [base]\n");
    assert_eq!(told_of(&with_set), None, "the set lies on the gateway");
    let long = format!("{text}# {}\n", "x".repeat(MAX_DEFAULT_POLICY));
    assert_eq!(told_of(&long), None, "it is too long");
}
