//! Leases and quarantine that were decided elsewhere, or before a restart.

use super::*;

fn adopt(table: &LeaseTable, lease: &AdoptedLease, seconds: u64) -> Result<Vec<IpAddr>, AdoptError> {
    table.adopt(lease.clone(), at(seconds))
}

#[test]
fn a_lease_granted_elsewhere_governs_here() {
    let table = table();
    let before = table.lookup(ip("10.77.0.2"), at(0));
    let lease = granted_elsewhere("a", "10.77.0.2 ::ffff:10.77.0.3 fd77::2");
    let changed = adopt(&table, &lease, 0).unwrap();
    assert_eq!(changed, [ip("10.77.0.2"), ip("10.77.0.3"), ip("fd77::2")]);
    for source in ["10.77.0.2", "10.77.0.3", "fd77::2"] {
        assert_eq!(judged(&table, source, 1), Ok("web".into()), "{source}");
    }
    assert!(governed_by(&before).is_err());
    let adopted = table.lease("a").unwrap();
    assert_eq!(adopted.job.identity, lease.identity);
    assert_eq!(adopted.expires, Some(at(3_600)));
    assert_eq!(adopted.began, lease.began);
    table.end("a", &Party::Source(ip("10.77.0.2")), at(2)).unwrap();
    assert_eq!(standing(&table, "10.77.0.3", 3), Standing::Quarantined);
}

#[test]
fn adopting_again_changes_nothing_and_takes_further_sources_in() {
    let table = table();
    let lease = granted_elsewhere("a", "10.77.0.2");
    adopt(&table, &lease, 0).unwrap();
    let subject = table.lookup(ip("10.77.0.2"), at(0));
    assert_eq!(adopt(&table, &lease, 1).unwrap(), NOBODY);
    let grown = granted_elsewhere("a", "10.77.0.2 fd77::2");
    assert_eq!(adopt(&table, &grown, 2).unwrap(), [ip("fd77::2")]);
    assert_eq!(
        adopt(&table, &lease, 3).unwrap(),
        NOBODY,
        "an older record takes none away"
    );
    for source in ["10.77.0.2", "fd77::2"] {
        assert_eq!(table.lookup(ip(source), at(4)).id, subject.id, "{source}");
    }
    assert_eq!(
        table.lease("a").unwrap().expires,
        Some(at(3_600)),
        "as it was granted first"
    );
}

#[test]
fn adopting_ones_own_lease_back_changes_nothing() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    let back = AdoptedLease {
        began: lease.began,
        ..granted_elsewhere(&lease.id, "10.77.0.2")
    };
    assert_eq!(adopt(&table, &back, 1).unwrap(), NOBODY);
    assert!(Arc::ptr_eq(&table.lease(&lease.id).unwrap(), &lease));
}

#[test]
fn other_content_under_the_same_id_replaces_the_lease_and_keeps_its_tickets() {
    let table = table();
    adopt(&table, &granted_elsewhere("a", "10.77.0.2 10.77.0.3"), 0).unwrap();
    let old = table.lease("a").unwrap();
    let mut other = granted_elsewhere("a", "10.77.0.2");
    other.identity.assurance = Assurance::Signed;
    assert_eq!(
        adopt(&table, &other, 1).unwrap(),
        [ip("10.77.0.2"), ip("10.77.0.3")]
    );
    let new = table.lookup(ip("10.77.0.3"), at(2));
    assert_eq!(new.job().unwrap().identity.assurance, Assurance::Signed);
    assert!(Arc::ptr_eq(new.tickets(), old.subject.tickets()));
    assert_eq!(governed_by(&old.subject), Err(Reason::LeaseChanged));
    assert_eq!(table.leases().len(), 1);
}

#[test]
fn an_adopted_lease_replaces_others_and_lifts_quarantine() {
    let table = table();
    let (held, ended) = (start(&table, "10.77.0.2 10.77.0.3"), start(&table, "10.77.0.4"));
    table.end(&ended.id, &Party::Operator, at(1)).unwrap();
    let also = start(&table, "10.77.0.5 10.77.0.6");
    let changed = adopt(
        &table,
        &granted_elsewhere("a", "10.77.0.2 10.77.0.4 10.77.0.5"),
        2,
    )
    .unwrap();
    for source in ["10.77.0.2", "10.77.0.4", "10.77.0.5"] {
        assert_eq!(table.lookup(ip(source), at(3)).job().unwrap().id, "a", "{source}");
    }
    for source in ["10.77.0.3", "10.77.0.6"] {
        assert!(changed.contains(&ip(source)), "{changed:?}");
        assert_eq!(
            standing(&table, source, 3),
            Standing::Quarantined,
            "left behind: {source}"
        );
    }
    assert!(table.lease(&held.id).is_none() && table.lease(&also.id).is_none());
    assert!(governed_by(&held.subject).is_err());
}

#[test]
fn a_grown_lease_takes_its_sources_from_other_leases() {
    let table = table();
    adopt(&table, &granted_elsewhere("a", "10.77.0.2"), 0).unwrap();
    let other = start(&table, "10.77.0.3 10.77.0.4");
    let changed = adopt(&table, &granted_elsewhere("a", "10.77.0.2 10.77.0.3"), 1).unwrap();
    assert_eq!(changed, [ip("10.77.0.3"), ip("10.77.0.4")]);
    assert!(table.lease(&other.id).is_none());
    assert_eq!(judged(&table, "10.77.0.4", 2), Err(Reason::Quarantined));
}

#[test]
fn a_lease_whose_machine_only_shows_a_source_stays() {
    let table = table();
    let held = start(&table, "10.77.0.2");
    table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE), neighbour("fd77::2", MACHINE)]);
    assert_eq!(table.lookup(ip("fd77::2"), at(1)).id, held.subject.id);
    adopt(&table, &granted_elsewhere("a", "fd77::2"), 2).unwrap();
    assert_eq!(table.lookup(ip("fd77::2"), at(3)).job().unwrap().id, "a");
    assert_eq!(table.lookup(ip("10.77.0.2"), at(3)).id, held.subject.id);
}

#[test]
fn the_configurations_leases_stay() {
    let table = table();
    let fixed = |source: &str| StaticLease {
        sources: vec![source.parse().unwrap()],
        identity: job("acme/api", ""),
        pinned: None,
    };
    table.set_static(vec![fixed("10.77.0.9/32"), fixed("10.77.3.0/24")], at(0));
    for (source, id) in [
        ("10.77.0.9", "static-10.77.0.9"),
        ("10.77.3.4", "static-10.77.3.0/24"),
    ] {
        let refused = adopt(&table, &granted_elsewhere("a", &format!("10.77.0.2 {source}")), 1).unwrap_err();
        assert_eq!(refused, AdoptError::Static(id.into()));
    }
    let posing = granted_elsewhere("static-10.77.0.9", "10.77.0.2");
    assert_eq!(
        adopt(&table, &posing, 1),
        Err(AdoptError::Static("static-10.77.0.9".into()))
    );
    assert_eq!(
        standing(&table, "10.77.0.2", 2),
        Standing::Unleased,
        "nothing was taken in part"
    );
    let mut posing = granted_elsewhere("a", "10.77.0.2");
    posing.identity.assurance = Assurance::Static;
    adopt(&table, &posing, 2).unwrap();
    assert_eq!(table.lease("a").unwrap().assurance(), Assurance::Forge);
}

#[test]
fn what_can_not_be_adopted_says_why() {
    let table = table_of(vec![runners(), network("other", &["10.88.0.0/16"])]);
    let foreign = granted_elsewhere("a", "10.77.0.2 192.0.2.1");
    assert_eq!(
        adopt(&table, &foreign, 0),
        Err(AdoptError::Foreign(ip("192.0.2.1")))
    );
    let elsewhere = AdoptError::Elsewhere {
        source_address: ip("10.88.0.2"),
        network: "other".into(),
    };
    assert_eq!(
        adopt(&table, &granted_elsewhere("a", "10.77.0.2 10.88.0.2"), 0),
        Err(elsewhere)
    );
    assert_eq!(
        adopt(&table, &granted_elsewhere("a", ""), 0),
        Err(AdoptError::SourceCount(0))
    );
    let many: Vec<String> = (0..=MAX_SOURCES).map(|n| format!("10.77.1.{n}")).collect();
    let all = granted_elsewhere("a", &many.join(" "));
    assert_eq!(
        adopt(&table, &all, 0),
        Err(AdoptError::SourceCount(MAX_SOURCES + 1))
    );
    adopt(&table, &granted_elsewhere("a", &many[1..].join(" ")), 0).unwrap();
    let one_more = granted_elsewhere("a", &many[0]);
    assert_eq!(
        adopt(&table, &one_more, 0),
        Err(AdoptError::SourceCount(MAX_SOURCES + 1))
    );
    let over = AdoptedLease {
        lifetime: Duration::ZERO,
        ..granted_elsewhere("b", "10.77.0.2")
    };
    assert_eq!(adopt(&table, &over, 0), Err(AdoptError::Expired("b".into())));
    assert_eq!(table.leases().len(), 1);
}

#[test]
fn adopted_leases_count_towards_the_bound() {
    let table = table_of(vec![network("runners", &["10.0.0.0/8"])]);
    let lease = |n: usize| {
        granted_elsewhere(
            &n.to_string(),
            &std::net::Ipv4Addr::from(0x0a00_0000 + n as u32).to_string(),
        )
    };
    for n in 0..MAX_LEASES {
        table.adopt(lease(n), at(0)).unwrap();
    }
    assert_eq!(table.adopt(lease(MAX_LEASES), at(0)), Err(AdoptError::Full));
    let successor = AdoptedLease {
        id: "successor".into(),
        ..lease(0)
    };
    table.adopt(successor, at(0)).unwrap();
    assert_eq!(table.leases().len(), MAX_LEASES);
}

#[test]
fn an_adopted_machine_binding_holds_against_another_machine() {
    let table = table();
    let mut lease = granted_elsewhere("a", "10.77.0.2");
    lease.sources = vec![(ip("10.77.0.2"), Some(MACHINE))];
    adopt(&table, &lease, 0).unwrap();
    assert_eq!(table.binding(ip("10.77.0.2")), Some(MACHINE));
    table.observe_neighbours(&[
        neighbour("10.77.0.2", OTHER_MACHINE),
        neighbour("fd77::2", MACHINE),
    ]);
    assert_eq!(
        table.binding(ip("10.77.0.2")),
        Some(MACHINE),
        "whoever took the address since is a spoof"
    );
    assert_eq!(
        table.lookup(ip("fd77::2"), at(1)).job().unwrap().id,
        "a",
        "one machine is one job"
    );
}

#[test]
fn a_lease_that_expired_here_and_lives_elsewhere_is_adopted_anew() {
    let table = table();
    adopt(&table, &granted_elsewhere("a", "10.77.0.2"), 0).unwrap();
    let old = table.lease("a").unwrap();
    let left = AdoptedLease {
        lifetime: Duration::from_secs(10),
        ..granted_elsewhere("a", "10.77.0.3")
    };
    adopt(&table, &left, 3_600).unwrap();
    assert_eq!(governed_by(&old.subject), Err(Reason::Quarantined));
    assert_eq!(standing(&table, "10.77.0.2", 3_601), Standing::Quarantined);
    assert_eq!(judged(&table, "10.77.0.3", 3_601), Ok("web".into()));
    assert_eq!(standing(&table, "10.77.0.3", 3_610), Standing::Quarantined);
}

#[test]
fn the_earlier_generation_of_two_records_of_a_lease_counts() {
    let table = table();
    let record = |began: u64| AdoptedLease {
        began: Generation(began),
        ..granted_elsewhere("a", "10.77.0.2")
    };
    adopt(&table, &record(7), 0).unwrap();
    assert_eq!(adopt(&table, &record(9), 1).unwrap(), NOBODY);
    assert_eq!(table.lease("a").unwrap().began, Generation(7));
    adopt(&table, &record(5), 2).unwrap();
    assert_eq!(table.lease("a").unwrap().began, Generation(5));
}

#[test]
fn quarantine_holds_over_a_restart_until_the_machine_changes() {
    let table = table();
    let unleased = table.lookup(ip("10.77.0.2"), at(0));
    let known = [(ip("10.77.0.2"), Some(MACHINE)), (ip("10.77.0.3"), None)];
    let changed = table.quarantine(&known, "runners", at(0));
    assert_eq!(changed, [ip("10.77.0.2"), ip("10.77.0.3")]);
    assert!(governed_by(&unleased).is_err(), "whoever still works for it");
    for source in ["10.77.0.2", "10.77.0.3"] {
        assert_eq!(judged(&table, source, 1), Err(Reason::Quarantined));
    }
    let next = request("10.77.0.2", "acme/web", "2", runner_token(&["acme"]));
    assert_eq!(
        table.register(next, at(1)).unwrap_err(),
        RegisterError::Quarantined(ip("10.77.0.2"))
    );
    assert_eq!(table.quarantine(&known, "runners", at(2)), NOBODY, "again");
    assert_eq!(table.quarantined_sources()[0].since, at(0));
    table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE), neighbour("fd77::2", MACHINE)]);
    assert_eq!(
        standing(&table, "fd77::2", 3),
        Standing::Quarantined,
        "the machine, by any address"
    );
    table.observe_neighbours(&[neighbour("10.77.0.2", OTHER_MACHINE)]);
    assert_eq!(standing(&table, "10.77.0.2", 4), Standing::Unleased);
}

#[test]
fn quarantine_is_restored_only_where_it_belongs() {
    let table = table_of(vec![
        runners(),
        Network {
            runners: RunnerKind::Persistent,
            ..network("fixed", &["10.99.0.0/16"])
        },
    ]);
    let lease = start(&table, "10.77.0.2");
    let range = StaticLease {
        sources: vec!["10.77.3.0/24".parse().unwrap()],
        identity: job("acme/api", ""),
        pinned: None,
    };
    table.set_static(vec![range], at(0));
    table.observe_neighbours(&[neighbour("10.77.0.5", OTHER_MACHINE)]);
    let sources = ["10.77.0.2", "10.77.3.4", "192.0.2.1", "10.99.0.1", "10.77.0.5"];
    let known: Vec<(IpAddr, Option<Mac>)> =
        sources.iter().map(|source| (ip(source), Some(MACHINE))).collect();
    assert_eq!(table.quarantine(&known, "runners", at(1)), NOBODY);
    assert_eq!(
        table.quarantine(&known[3..4], "fixed", at(1)),
        NOBODY,
        "runners are persistent there"
    );
    assert_eq!(table.lookup(ip("10.77.0.2"), at(2)).id, lease.subject.id);
    assert_eq!(table.quarantined_sources(), []);
}

#[test]
fn restored_quarantine_takes_a_machines_further_addresses_along() {
    let table = table();
    table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE), neighbour("fd77::2", MACHINE)]);
    let further = table.lookup(ip("fd77::2"), at(0));
    let changed = table.quarantine(&[(ip("10.77.0.2"), None)], "runners", at(0));
    assert_eq!(changed, [ip("10.77.0.2"), ip("fd77::2")]);
    assert_eq!(standing(&table, "fd77::2", 1), Standing::Quarantined);
    assert!(governed_by(&further).is_err());
}

#[test]
fn restored_quarantine_is_bounded_and_the_oldest_goes() {
    let table = table_of(vec![network("runners", &["10.0.0.0/8"])]);
    let source = |n: usize| IpAddr::V4(std::net::Ipv4Addr::from(0x0a00_0000 + n as u32));
    let all: Vec<(IpAddr, Option<Mac>)> = (0..=MAX_QUARANTINED).map(|n| (source(n), None)).collect();
    table.quarantine(&all, "runners", at(0));
    assert_eq!(table.quarantined_sources().len(), MAX_QUARANTINED);
    assert_eq!(table.lookup(source(0), at(1)).standing, Standing::Unleased);
    assert_eq!(
        table.lookup(source(MAX_QUARANTINED), at(1)).standing,
        Standing::Quarantined
    );
}
