//! Link evidence: the architecture's "a set: v4 and v6 of one machine are one job", L11, L12 and L19.

use super::*;

#[test]
fn link_row_addresses_of_the_leases_machine_join_it() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    let rows = [
        neighbour("10.77.0.2", MACHINE),
        neighbour("fd77::2", MACHINE),
        neighbour("fd77::3", OTHER_MACHINE),
    ];
    assert_eq!(table.observe_neighbours(&rows), [ip("fd77::2")]);
    assert_eq!(
        table.lookup(ip("fd77::2"), at(1)).id,
        lease.subject.id,
        "one job, one subject, one set of tickets"
    );
    assert_eq!(standing(&table, "fd77::3", 1), Standing::Unleased);
    assert_eq!(
        table.observe_neighbours(&rows),
        NOBODY,
        "nothing new, nothing changed"
    );
    let bindings = table.bindings();
    let bound: Vec<(IpAddr, Mac)> = bindings.iter().map(|one| (one.address, one.mac)).collect();
    assert_eq!(bound, [(ip("10.77.0.2"), MACHINE), (ip("fd77::2"), MACHINE)]);
    assert!(
        table.leases()[0]
            .sources
            .iter()
            .any(|source| source.joined && source.address == ip("fd77::2"))
    );
}

#[test]
fn link_row_evidence_from_before_the_lease_counts() {
    let table = table();
    table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE), neighbour("fd77::2", MACHINE)]);
    let mut asked = request("10.77.0.2", "acme/web", "1", runner_token(&["acme"]));
    asked.mac = Some(MACHINE);
    let lease = table.register(asked, at(0)).unwrap();
    assert_eq!(lease.changed, [ip("10.77.0.2"), ip("fd77::2")]);
    assert_eq!(table.lookup(ip("fd77::2"), at(1)).id, lease.lease.subject.id);
    assert_eq!(table.binding(ip("10.77.0.2")), Some(MACHINE));
}

#[test]
fn l19_asking_row_an_unleased_v6_address_beside_a_lease_is_deny_all_not_the_default() {
    let table = table();
    table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE)]);
    assert_eq!(
        standing(&table, "fd77::bad", 0),
        Standing::Unleased,
        "no machine there holds a lease yet"
    );
    let started = table
        .register(
            request("10.77.0.2", "acme/web", "1", runner_token(&["acme"])),
            at(0),
        )
        .unwrap();
    assert!(
        started.changed.contains(&ip("fd77::bad")),
        "{:?}",
        started.changed
    );
    assert_eq!(judged(&table, "fd77::bad", 1), Err(Reason::UnboundSource));
    assert_eq!(standing(&table, "fd77::bad", 1), Standing::Unbound);
    assert_eq!(
        table.unbound_sources(),
        [UnboundSource {
            address: ip("fd77::bad"),
            mac: None
        }]
    );
    // Known to be another machine's: the default after all.
    let rows = [
        neighbour("10.77.0.2", MACHINE),
        neighbour("fd77::bad", OTHER_MACHINE),
    ];
    table.observe_neighbours(&rows);
    assert_eq!(judged(&table, "fd77::bad", 2), Ok("default".into()));
    assert_eq!(table.unbound_sources(), []);
}

#[test]
fn asking_row_a_machine_that_is_silent_on_ipv4_may_be_the_leases() {
    let table = table();
    let start = || neighbour("fd77::9", MACHINE);
    table.observe_neighbours(&[start()]);
    assert_eq!(judged(&table, "fd77::9", 0), Ok("default".into()));
    let lease = request("10.77.0.2", "acme/web", "1", runner_token(&["acme"]));
    let sources = table.register(lease, at(0)).unwrap().changed;
    assert!(sources.contains(&ip("fd77::9")), "{sources:?}");
    assert_eq!(judged(&table, "fd77::9", 1), Err(Reason::UnboundSource));
    // With an IPv4 address of its own it is another machine; so it is once the lease's was seen.
    table.observe_neighbours(&[start(), neighbour("10.77.0.3", MACHINE)]);
    assert_eq!(judged(&table, "fd77::9", 2), Ok("default".into()));
    table.observe_neighbours(&[start()]);
    assert_eq!(judged(&table, "fd77::9", 3), Err(Reason::UnboundSource));
    table.observe_neighbours(&[start(), neighbour("10.77.0.2", OTHER_MACHINE)]);
    assert_eq!(judged(&table, "fd77::9", 4), Ok("default".into()));
}

#[test]
fn link_row_without_link_evidence_silence_means_nothing() {
    let table = table();
    start(&table, "10.77.0.2");
    assert_eq!(standing(&table, "fd77::9", 1), Standing::Unleased);
    assert_eq!(table.binding(ip("10.77.0.2")), None);
}

#[test]
fn link_row_a_machine_with_two_leases_shares_its_further_addresses_with_none() {
    let table = table();
    start(&table, "10.77.0.2");
    let rows = [
        neighbour("10.77.0.2", MACHINE),
        neighbour("10.77.0.3", MACHINE),
        neighbour("fd77::2", MACHINE),
    ];
    table.observe_neighbours(&rows);
    assert_eq!(standing(&table, "fd77::2", 1), Standing::Leased);
    // The runner's own word can't split the machine; the provisioner's can.
    let own = table
        .register(
            request("10.77.0.3", "acme/api", "2", runner_token(&["acme"])),
            at(1),
        )
        .unwrap_err();
    assert!(matches!(own, RegisterError::Held { .. }), "{own:?}");
    let second = table
        .register(request("10.77.0.3", "acme/api", "2", provisioner()), at(1))
        .unwrap();
    assert!(second.changed.contains(&ip("10.77.0.3")));
    assert!(
        second.changed.contains(&ip("fd77::2")),
        "the machine was seen before"
    );
    assert_eq!(table.observe_neighbours(&rows), NOBODY);
    assert_eq!(judged(&table, "10.77.0.2", 2), Ok("web".into()));
    assert_eq!(judged(&table, "10.77.0.3", 2), Ok("acme".into()));
    assert_eq!(judged(&table, "fd77::2", 2), Err(Reason::UnboundSource));
    assert_eq!(
        table.unbound_sources(),
        [UnboundSource {
            address: ip("fd77::2"),
            mac: Some(MACHINE)
        }]
    );
}

#[test]
fn l12_a_leased_source_stays_bound_to_its_machine_whatever_is_seen_later() {
    let table = table();
    start(&table, "10.77.0.2");
    table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE)]);
    table.observe_neighbours(&[
        neighbour("10.77.0.2", OTHER_MACHINE),
        neighbour("fd77::666", OTHER_MACHINE),
    ]);
    assert_eq!(
        table.binding(ip("10.77.0.2")),
        Some(MACHINE),
        "the poisoner's datagrams are spoofs"
    );
    assert_eq!(
        standing(&table, "fd77::666", 1),
        Standing::Unleased,
        "and its addresses don't join the victim"
    );
    assert_eq!(standing(&table, "10.77.0.2", 1), Standing::Leased);
}

#[test]
fn l19_a_joined_address_stays_while_the_lease_lives_though_the_neighbour_table_forgets_it() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE), neighbour("fd77::2", MACHINE)]);
    assert_eq!(
        table.observe_neighbours(&[neighbour("10.77.0.9", OTHER_MACHINE)]),
        NOBODY
    );
    assert_eq!(table.lookup(ip("fd77::2"), at(1)).id, lease.subject.id);
}

#[test]
fn link_row_a_joined_address_leaves_with_another_machine() {
    let table = table();
    start(&table, "10.77.0.2");
    table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE), neighbour("fd77::2", MACHINE)]);
    let changed = table.observe_neighbours(&[
        neighbour("10.77.0.2", MACHINE),
        neighbour("fd77::2", OTHER_MACHINE),
    ]);
    assert_eq!(changed, [ip("fd77::2")]);
    assert_eq!(judged(&table, "fd77::2", 1), Ok("default".into()));
}

#[test]
fn asking_row_quarantine_ends_when_another_mac_sits_at_the_address() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE)]);
    table
        .end(&lease.id, &Party::Source(ip("10.77.0.2")), at(5))
        .unwrap();
    assert_eq!(
        table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE)]),
        NOBODY
    );
    assert_eq!(standing(&table, "10.77.0.2", 6), Standing::Quarantined);
    assert_eq!(
        table.observe_neighbours(&[neighbour("10.77.0.2", OTHER_MACHINE)]),
        [ip("10.77.0.2")]
    );
    assert_eq!(judged(&table, "10.77.0.2", 7), Ok("default".into()));
    start(&table, "10.77.0.2");
}

#[test]
fn link_row_an_address_quarantined_before_its_machine_was_seen_stays_with_the_first_seen() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    table.end(&lease.id, &Party::Operator, at(5)).unwrap();
    assert_eq!(
        table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE)]),
        NOBODY
    );
    assert_eq!(standing(&table, "10.77.0.2", 6), Standing::Quarantined);
    assert_eq!(
        table.observe_neighbours(&[neighbour("10.77.0.2", OTHER_MACHINE)]),
        [ip("10.77.0.2")]
    );
}

#[test]
fn l19_a_fresh_address_of_a_quarantined_machine_is_quarantined_and_can_not_register() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE)]);
    table
        .end(&lease.id, &Party::Source(ip("10.77.0.2")), at(5))
        .unwrap();
    table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE), neighbour("10.77.0.66", MACHINE)]);
    assert_eq!(judged(&table, "10.77.0.66", 6), Err(Reason::Quarantined));
    // Not seen there yet, but the request shows the machine.
    let mut fresh = request("10.77.0.67", "acme/api", "2", Credential::Oidc);
    fresh.mac = Some(MACHINE);
    assert_eq!(
        table.register(fresh, at(6)).unwrap_err(),
        RegisterError::Quarantined(ip("10.77.0.67"))
    );
    let unknown = table
        .register(request("fd77::67", "acme/api", "2", Credential::Oidc), at(6))
        .unwrap_err();
    assert_eq!(unknown, RegisterError::Unbound(ip("fd77::67")));
    // The provisioner's word about one address frees the machine.
    let released = table.release_quarantine(&[ip("10.77.0.2")], &Party::Provisioner(TokenScope::default()));
    assert_eq!(released, [ip("10.77.0.2")]);
    assert_eq!(judged(&table, "10.77.0.66", 7), Ok("default".into()));
}

#[test]
fn l19_a_fresh_address_of_a_leased_machine_can_not_register_another_repository() {
    let table = table();
    let mut first = request("10.77.0.2", "acme/web", "1", runner_token(&[]));
    first.mac = Some(MACHINE);
    table.register(first, at(0)).unwrap();
    let mut second = request("10.77.0.66", "evil/repo", "2", runner_token(&[]));
    second.mac = Some(MACHINE);
    let refused = table.register(second, at(1)).unwrap_err();
    assert!(matches!(refused, RegisterError::Held { .. }), "{refused:?}");
}

#[test]
fn link_row_a_machine_in_a_static_range_takes_its_v6_address_along() {
    let table = table();
    let range = StaticLease {
        sources: vec!["10.77.3.0/24".parse().unwrap()],
        identity: job("acme/api", ""),
        pinned: None,
    };
    table.set_static(vec![range], at(0));
    table.observe_neighbours(&[neighbour("10.77.3.4", MACHINE), neighbour("fd77::4", MACHINE)]);
    let (v4, v6) = (
        table.lookup(ip("10.77.3.4"), at(1)),
        table.lookup(ip("fd77::4"), at(1)),
    );
    assert_eq!(v4.id, v6.id);
    assert_eq!(judged(&table, "fd77::5", 1), Err(Reason::UnboundSource));
    // Its v4 address registered by the provisioner: both go over.
    let mut better = request("10.77.3.4", "acme/web", "1", provisioner());
    better.mac = Some(MACHINE);
    let granted = table.register(better, at(2)).unwrap();
    assert_eq!(granted.changed, [ip("10.77.3.4"), ip("fd77::4")]);
    assert_eq!(table.lookup(ip("fd77::4"), at(2)).id, granted.lease.subject.id);
    assert_eq!(governed_by(&v6), Err(Reason::LeaseChanged));
}

#[test]
fn link_row_the_whole_machine_is_quarantined_with_its_joined_addresses() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE), neighbour("fd77::2", MACHINE)]);
    let changed = table
        .end(&lease.id, &Party::Source(ip("fd77::2")), at(5))
        .unwrap();
    assert_eq!(changed, [ip("10.77.0.2"), ip("fd77::2")]);
    assert_eq!(judged(&table, "fd77::2", 6), Err(Reason::Quarantined));
    assert_eq!(table.bindings(), []);
}

#[test]
fn link_row_rows_of_other_networks_and_foreign_addresses_say_nothing() {
    let table = table_of(vec![runners(), network("other", &["10.88.0.0/16", "fd88::/64"])]);
    start(&table, "10.77.0.2");
    let mut stray = neighbour("fd88::2", MACHINE);
    let rows = [
        neighbour("10.77.0.2", MACHINE),
        stray.clone(),
        neighbour("192.0.2.1", MACHINE),
    ];
    assert_eq!(table.observe_neighbours(&rows), NOBODY);
    stray.network = "other".into();
    assert_eq!(
        table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE), stray]),
        NOBODY
    );
    assert_eq!(
        standing(&table, "fd88::2", 1),
        Standing::Unleased,
        "the same MAC on another link is another machine"
    );
}

#[test]
fn l19_on_an_adjacent_network_no_v6_source_gets_the_default_before_its_machine_was_seen() {
    let table = table_of(vec![Network {
        adjacent: true,
        ..runners()
    }]);
    let now = Moment::from_millis(0);
    let v6: IpAddr = "fd77::2".parse().unwrap();
    assert_eq!(
        table.lookup(v6, now).standing,
        Standing::Unleased,
        "without a lease nobody can hide"
    );
    table.set_static(
        vec![StaticLease {
            sources: vec!["10.77.1.2/32".parse().unwrap()],
            identity: job("acme/web", "1"),
            pinned: None,
        }],
        now,
    );
    assert_eq!(table.lookup(v6, now).standing, Standing::Unbound);
}

/// The lease of a gateway of the group, or the own one that the stream brought first: what was seen before counts,
/// because the neighbour tables may not change again.
#[test]
fn l19_link_row_an_adopted_lease_is_bound_to_the_machine_that_was_seen_before() {
    let table = table();
    table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE)]);
    table.adopt(adopted("10.77.0.2"), at(0)).unwrap();
    assert_eq!(table.binding(ip("10.77.0.2")), Some(MACHINE));
    let rows = [neighbour("10.77.0.2", MACHINE), neighbour("fd77::bad", MACHINE)];
    table.observe_neighbours(&rows);
    assert_eq!(
        standing(&table, "fd77::bad", 1),
        Standing::Leased,
        "the same job, not the default"
    );
}

#[test]
fn link_row_a_lease_that_came_from_elsewhere_first_is_bound_to_who_registers_it() {
    let table = table();
    let networks = vec![Network {
        adjacent: true,
        ..runners()
    }];
    table.set_networks(networks, at(0));
    table.adopt(adopted("10.77.0.2"), at(0)).unwrap();
    assert_eq!(table.binding(ip("10.77.0.2")), None, "nobody was seen there yet");
    let mut asked = request("10.77.0.2", "acme/web", "1", runner_token(&["acme"]));
    (asked.id, asked.mac) = ("job-1".into(), Some(MACHINE));
    let registered = table.register(asked.clone(), at(1)).unwrap();
    assert_eq!(registered.lease.id, "job-1");
    assert_eq!(table.binding(ip("10.77.0.2")), Some(MACHINE));
    asked.mac = Some(OTHER_MACHINE);
    table.register(asked, at(2)).unwrap();
    assert_eq!(table.binding(ip("10.77.0.2")), Some(MACHINE), "once");
    table.observe_neighbours(&[neighbour("fd77::bad", MACHINE)]);
    assert_eq!(standing(&table, "fd77::bad", 3), Standing::Leased);
}

fn adopted(source: &str) -> AdoptedLease {
    let mut identity = job("acme/web", "1");
    identity.assurance = Assurance::Declared;
    identity.cluster = "prod".into();
    AdoptedLease {
        id: "job-1".into(),
        network: "runners".into(),
        sources: vec![(ip(source), None)],
        identity,
        began: Generation::NEWEST,
        lifetime: HOUR,
    }
}

/// IPv4 too: a fresh address of a job's machine is not given the default in the moment before it is seen there.
#[test]
fn l19_on_an_adjacent_network_no_v4_source_gets_the_default_before_its_machine_was_seen() {
    let table = table_of(vec![Network {
        adjacent: true,
        ..runners()
    }]);
    assert_eq!(
        standing(&table, "10.77.0.9", 0),
        Standing::Unleased,
        "without a lease nobody can hide"
    );
    let mut asked = request("10.77.0.2", "acme/web", "1", runner_token(&["acme"]));
    asked.mac = Some(MACHINE);
    let started = table.register(asked, at(0)).unwrap();
    assert!(
        started.changed.contains(&ip("10.77.0.9")),
        "{:?}",
        started.changed
    );
    for source in ["10.77.0.9", "10.77.0.10"] {
        assert_eq!(judged(&table, source, 1), Err(Reason::UnboundSource));
        assert!(table.is_unseen(ip(source)));
    }
    // Who asks for one row need not wait for the whole table.
    table.observe_neighbour(&neighbour("10.77.0.9", MACHINE));
    table.observe_neighbour(&neighbour("10.77.0.10", OTHER_MACHINE));
    assert_eq!(table.lookup(ip("10.77.0.9"), at(1)).id, started.lease.subject.id);
    assert_eq!(judged(&table, "10.77.0.10", 1).as_deref(), Ok("default"));
    assert!(!table.is_unseen(ip("10.77.0.9")));
    assert_eq!(
        table.expire(at(1)),
        [ip("10.77.0.9")],
        "flows of before are judged again"
    );
    // An ended job's machine has no further address either.
    table
        .end(&started.lease.id, &Party::Source(ip("10.77.0.2")), at(2))
        .unwrap();
    assert_eq!(judged(&table, "10.77.0.11", 2), Err(Reason::UnboundSource));
    table.observe_neighbour(&neighbour("10.77.0.11", MACHINE));
    assert_eq!(judged(&table, "10.77.0.11", 2), Err(Reason::Quarantined));
    let rows = [
        neighbour("10.77.0.10", OTHER_MACHINE),
        neighbour("10.77.0.11", MACHINE),
    ];
    assert!(
        !table.observe_neighbours(&rows).contains(&ip("10.77.0.11")),
        "nothing new"
    );
    // A row of another network's is no evidence.
    let elsewhere = Neighbour {
        network: "pods".into(),
        ..neighbour("10.77.0.12", OTHER_MACHINE)
    };
    table.observe_neighbour(&elsewhere);
    assert!(table.is_unseen(ip("10.77.0.12")));
}

/// IP reuse: a provisioner gives an address to the next job before its machine has spoken. What the neighbour tables
/// still show there is the machine of the job before.
#[test]
fn link_row_a_reused_address_is_bound_to_its_new_machine_and_not_to_the_one_before() {
    let table = table();
    let (source, v6) = ("10.77.0.2", "fd77::bad");
    table.observe_neighbours(&[neighbour(source, MACHINE)]);
    let mut asked = request(source, "acme/web", "1", runner_token(&["acme"]));
    (asked.id, asked.mac) = ("job-0".into(), Some(MACHINE));
    table.register(asked, at(0)).unwrap();
    table.end("job-0", &Party::Operator, at(1)).unwrap();
    table.adopt(adopted(source), at(2)).unwrap();
    // The new job keeps silent on IPv4: it is not rid of its policy by that.
    table.observe_neighbours(&[neighbour(source, MACHINE), neighbour(v6, OTHER_MACHINE)]);
    assert_eq!(standing(&table, v6, 3), Standing::Unbound);
    let changed = table.observe_neighbours(&[neighbour(source, OTHER_MACHINE), neighbour(v6, OTHER_MACHINE)]);
    assert!(
        changed.contains(&ip(source)),
        "its binding is another: {changed:?}"
    );
    assert_eq!(table.binding(ip(source)), Some(OTHER_MACHINE));
    assert_eq!(
        standing(&table, v6, 4),
        Standing::Leased,
        "one machine is one job"
    );
    assert!(table.bindings().iter().all(|one| one.mac == OTHER_MACHINE));
    table.observe_neighbours(&[neighbour(source, MACHINE), neighbour(v6, OTHER_MACHINE)]);
    assert_eq!(table.binding(ip(source)), Some(OTHER_MACHINE), "once");
    table.observe_neighbours(&[neighbour(source, OTHER_MACHINE), neighbour(v6, OTHER_MACHINE)]);
    // The same machine once more, as where hardware addresses go with addresses.
    table.end("job-1", &Party::Operator, at(5)).unwrap();
    let again = AdoptedLease {
        id: "job-2".into(),
        ..adopted(source)
    };
    table.adopt(again, at(6)).unwrap();
    table.observe_neighbours(&[]);
    table.observe_neighbours(&[neighbour(source, OTHER_MACHINE), neighbour(v6, OTHER_MACHINE)]);
    assert_eq!(table.binding(ip(source)), Some(OTHER_MACHINE));
    assert_eq!(standing(&table, v6, 7), Standing::Leased);
}
