//! New policies, networks and static leases under living subjects.

use super::*;

fn fixed(source: &str, repo: &str) -> StaticLease {
    StaticLease {
        sources: vec![source.parse().unwrap_or_else(|_| single(source))],
        identity: job(repo, ""),
        pinned: None,
    }
}

#[test]
fn invariant_8_a_policy_change_swaps_only_the_subjects_that_it_concerns() {
    let table = table();
    let (web, api) = (start(&table, "10.77.0.2"), {
        let asked = request("10.77.0.3", "acme/api", "2", runner_token(&["acme"]));
        table.register(asked, at(0)).unwrap().lease
    });
    let nobody = table.lookup(ip("10.77.0.9"), at(0));
    let before = [web.subject.rulebook(), api.subject.rulebook(), nobody.rulebook()];
    let old = table.policies();
    let mut attached = old.attached.clone();
    let changed = Slot::Policy(policy_with("web-2", "egress-policy: audit", &[]));
    attached.insert(
        Scope::Repository("acme/web".into()),
        Attached::always(changed, None),
    );
    let next = PolicySet {
        attached,
        networks: old.networks.clone(),
        world: Arc::new(crate::rulebook::World {
            global: old.world.global.clone(),
            ech: Arc::clone(&old.world.ech),
            ..Default::default()
        }),
        ..PolicySet::default()
    };
    let report = table.set_policies(Arc::new(next));
    let swapped: Vec<u64> = report.swapped.iter().map(|subject| subject.id).collect();
    assert_eq!((swapped, report.kept), (vec![web.subject.id], 2));
    assert_eq!(
        governed_by(&web.subject),
        Ok("web-2".into()),
        "in place, for whoever holds the subject"
    );
    assert!(
        Arc::ptr_eq(&before[1], &api.subject.rulebook()),
        "the others keep theirs by pointer"
    );
    assert!(Arc::ptr_eq(&before[2], &nobody.rulebook()));
    assert!(!Arc::ptr_eq(&before[0], &web.subject.rulebook()));
}

#[test]
fn a_new_global_block_list_reaches_every_subject() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    let old = table.policies();
    let world = Arc::new(crate::fixture::world("evil.test"));
    let next = PolicySet {
        attached: old.attached.clone(),
        networks: old.networks.clone(),
        world,
        ..PolicySet::default()
    };
    assert_eq!(table.set_policies(Arc::new(next)).swapped.len(), 1);
    assert!(
        lease
            .subject
            .rulebook()
            .world
            .global
            .find_name(&crate::fixture::name("evil.test"))
            .is_some()
    );
    table.end(&lease.id, &Party::Operator, at(1)).unwrap();
    let quarantined = table.lookup(ip("10.77.0.2"), at(2));
    assert!(
        quarantined
            .rulebook()
            .world
            .global
            .find_name(&crate::fixture::name("evil.test"))
            .is_some()
    );
}

#[test]
fn unchanged_static_leases_keep_their_subjects_over_a_reload() {
    let table = table();
    let both = vec![fixed("10.77.0.2", "acme/web"), fixed("10.77.3.0/24", "acme/api")];
    let changed = table.set_static(both.clone(), at(0));
    assert_eq!(changed, [ip("10.77.0.2")]);
    let (single, ranged) = (
        table.lookup(ip("10.77.0.2"), at(1)),
        table.lookup(ip("10.77.3.4"), at(1)),
    );
    assert_eq!(table.set_static(both, at(2)), NOBODY);
    assert_eq!(table.lookup(ip("10.77.0.2"), at(3)).id, single.id);
    assert_eq!(table.lookup(ip("10.77.3.4"), at(3)).id, ranged.id);
    let other = vec![fixed("10.77.0.2", "acme/api"), fixed("10.77.3.0/24", "acme/web")];
    assert_eq!(table.set_static(other, at(4)), [ip("10.77.0.2"), ip("10.77.3.4")]);
    assert_eq!(judged(&table, "10.77.0.2", 5), Ok("acme".into()));
    assert_eq!(judged(&table, "10.77.3.4", 5), Ok("web".into()));
    assert_eq!(governed_by(&ranged), Err(Reason::LeaseChanged));
    assert_eq!(
        table.set_static(Vec::new(), at(6)),
        [ip("10.77.0.2"), ip("10.77.3.4")]
    );
    assert_eq!(
        judged(&table, "10.77.0.2", 7),
        Ok("default".into()),
        "the configuration's word leaves no quarantine"
    );
    assert_eq!(judged(&table, "10.77.3.4", 7), Ok("default".into()));
}

#[test]
fn a_static_lease_takes_one_source_and_leaves_the_lease_its_others() {
    let table = table();
    let lease = start(&table, "10.77.0.2 10.77.0.3");
    assert_eq!(
        table.set_static(vec![fixed("10.77.0.2", "acme/api")], at(1)),
        [ip("10.77.0.2")]
    );
    assert_eq!(table.lookup(ip("10.77.0.3"), at(1)).id, lease.subject.id);
    assert_eq!(
        table.set_static(
            vec![fixed("10.77.0.2", "acme/api"), fixed("10.77.0.3", "acme/api")],
            at(1)
        ),
        [ip("10.77.0.3")]
    );
    assert!(table.lease(&lease.id).is_none());
    assert_eq!(governed_by(&lease.subject), Err(Reason::LeaseChanged));
}

#[test]
fn a_static_range_in_two_networks_belongs_to_each_by_address() {
    let table = table_of(vec![
        network("one", &["10.1.0.0/16"]),
        network("two", &["10.2.0.0/16"]),
    ]);
    table.set_static(vec![fixed("10.0.0.0/8", "acme/web")], at(0));
    assert_eq!(table.lookup(ip("10.1.0.1"), at(0)).network.name, "one");
    assert_eq!(table.lookup(ip("10.2.0.1"), at(0)).network.name, "two");
    assert_eq!(standing(&table, "10.3.0.1", 0), Standing::Foreign);
}

#[test]
fn leases_live_over_a_reload_of_the_networks() {
    let table = table();
    let lease = start(&table, "10.77.0.2 10.77.9.2");
    let (near, far) = (
        table.lookup(ip("10.77.0.50"), at(0)),
        table.lookup(ip("10.77.9.50"), at(0)),
    );
    let smaller = network("runners", &["10.77.0.0/24"]);
    let other = network("other", &["10.77.9.0/24"]);
    let report = table.set_networks(vec![smaller, other], at(1));
    assert_eq!(report.changed, [ip("10.77.9.2"), ip("10.77.9.50")]);
    assert_eq!(table.lookup(ip("10.77.0.2"), at(2)).id, lease.subject.id);
    assert_eq!(table.lookup(ip("10.77.0.50"), at(2)).id, near.id);
    assert_eq!(judged(&table, "10.77.9.2", 2), Err(Reason::NoPolicy));
    assert_eq!(governed_by(&far), Err(Reason::LeaseChanged));
    let report = table.set_networks(Vec::new(), at(3));
    assert_eq!(standing(&table, "10.77.0.2", 3), Standing::Foreign);
    assert!(report.changed.contains(&ip("10.77.0.2")), "{report:?}");
    assert!(table.lease(&lease.id).is_none());
}

#[test]
fn a_raised_min_assurance_reaches_living_leases() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    let report = table.set_networks(
        vec![Network {
            min_assurance: Some(Assurance::Forge),
            ..runners()
        }],
        at(1),
    );
    assert_eq!((report.changed.len(), report.policies.swapped.len()), (0, 1));
    assert_eq!(governed_by(&lease.subject), Ok("default".into()));
}

#[test]
fn static_leases_find_their_place_when_their_network_appears() {
    let table = table_of(Vec::new());
    table.set_static(vec![fixed("10.77.0.2", "acme/web")], at(0));
    assert_eq!(standing(&table, "10.77.0.2", 0), Standing::Foreign);
    let report = table.set_networks(vec![runners()], at(1));
    assert_eq!(report.changed, [ip("10.77.0.2")]);
    assert_eq!(judged(&table, "10.77.0.2", 1), Ok("web".into()));
}
