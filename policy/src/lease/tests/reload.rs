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

#[test]
fn a_source_that_a_static_lease_takes_joins_no_other_lease_on_the_way() {
    let table = table();
    for (source, run) in [("fd77::1", "1"), ("fd77::2", "2"), ("10.77.0.2", "3")] {
        let asked = request(source, "acme/web", run, runner_token(&["acme"]));
        table.register(asked, at(0)).unwrap();
    }
    let row = |source: &str| neighbour(source, MACHINE);
    table.observe_neighbours(&[row("fd77::2"), row("fd77::9")]);
    table.observe_neighbours(&[row("fd77::1"), row("fd77::2"), row("10.77.0.2")]);
    // When fd77::2 goes, the machine is that of 10.77.0.2 alone, and fd77::1 has no holder just then.
    let taken = StaticLease {
        sources: vec![single("fd77::1"), single("fd77::2")],
        ..fixed("fd77::1", "acme/api")
    };
    table.set_static(vec![taken], at(1));
    let holds = |view: &LeaseView| view.sources.iter().any(|source| source.address == ip("fd77::1"));
    let holders: Vec<_> = table
        .leases()
        .into_iter()
        .filter(holds)
        .map(|view| view.lease.id.clone())
        .collect();
    assert_eq!(holders, ["static-fd77::1"]);
}

#[test]
fn leases_under_the_same_policy_share_one_rulebook() {
    let table = table_of(vec![runners(), network("other", &["10.88.0.0/16"])]);
    let book = |source: &str, repo: &str| {
        let asked = request(source, repo, "1", runner_token(&["acme"]));
        Arc::clone(&table.register(asked, at(0)).unwrap().lease.subject)
    };
    let one = book("10.77.0.2", "acme/api");
    let two = book("10.77.0.3", "acme/tool");
    let web = book("10.77.0.4", "acme/web");
    let elsewhere = book("10.88.0.2", "acme/api");
    let shared = || Arc::ptr_eq(&one.rulebook(), &two.rulebook());
    assert!(shared());
    assert!(!Arc::ptr_eq(&one.rulebook(), &web.rulebook()));
    assert!(
        !Arc::ptr_eq(&one.rulebook(), &elsewhere.rulebook()),
        "each network has an always-allow list of its own"
    );
    assert_eq!(table.set_policies(policies()).swapped.len(), 4, "compiled anew");
    assert!(shared(), "after a swap too");
    assert_eq!(governed_by(&two), Ok("acme".into()));
}

#[test]
fn a_change_for_the_next_job_governs_leases_that_begin_after_it() {
    let table = table();
    let begin = |source: &str, began: u64| {
        let mut asked = request(source, "acme/web", source, runner_token(&["acme"]));
        asked.began = Generation(began);
        Arc::clone(&table.register(asked, at(0)).unwrap().lease.subject)
    };
    let before = begin("10.77.0.2", 5);
    let old = table.policies();
    let edition = |since: u64, name: &str| Edition {
        since: Generation(since),
        egress: Slot::Policy(policy_with(name, "egress-policy: block", &[])),
        lockdown: None,
    };
    let web = Scope::Repository("acme/web".into());
    let mut attached = old.attached.clone();
    let known = attached[&web].editions().next().unwrap().clone();
    attached.insert(web.clone(), Attached::new(vec![known, edition(8, "web-2")]));
    let published = |attached| PolicySet {
        attached,
        networks: old.networks.clone(),
        world: Arc::clone(&old.world),
        ..PolicySet::default()
    };
    let report = table.set_policies(Arc::new(published(attached.clone())));
    assert_eq!(
        (report.swapped.len(), report.kept),
        (0, 1),
        "nothing is judged again"
    );
    let after = begin("10.77.0.3", 8);
    assert_eq!(
        (governed_by(&before), governed_by(&after)),
        (Ok("web".into()), Ok("web-2".into()))
    );
    attached.insert(web, Attached::new(vec![edition(9, "web-3")]));
    assert_eq!(table.set_policies(Arc::new(published(attached))).swapped.len(), 2);
    assert_eq!(
        (governed_by(&before), governed_by(&after)),
        (Ok("web-3".into()), Ok("web-3".into()))
    );
}
