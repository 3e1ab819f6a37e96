//! What is bounded, and what happens at the bound (invariant 9).

use super::*;

fn small(capacity: usize) -> LeaseTable {
    let table = table();
    table.state.lock().pool_capacity = capacity;
    table
}

fn source(n: usize) -> String {
    format!("10.77.{}.{}", n / 250, n % 250 + 1)
}

#[test]
fn on_demand_subjects_at_the_bound_the_longest_unused_goes() {
    let table = small(3);
    let ids: Vec<u64> = (0..3)
        .map(|n| table.lookup(ip(&source(n)), at(n as u64)).id)
        .collect();
    assert_eq!(table.lookup(ip(&source(0)), at(100)).id, ids[0], "used again");
    table.lookup(ip(&source(3)), at(101));
    assert_eq!(table.lookup(ip(&source(0)), at(102)).id, ids[0]);
    assert_eq!(table.lookup(ip(&source(2)), at(102)).id, ids[2]);
    assert_ne!(
        table.lookup(ip(&source(1)), at(102)).id,
        ids[1],
        "the longest unused was made anew"
    );
    assert!(table.cache.len() <= 3, "{}", table.cache.len());
}

#[test]
fn on_demand_subjects_in_use_do_not_go_and_then_the_limit_refuses() {
    let table = small(2);
    let held = [
        table.lookup(ip(&source(0)), at(0)),
        table.lookup(ip(&source(1)), at(0)),
    ];
    let third = table.lookup(ip(&source(2)), at(5));
    assert_eq!(governed_by(&third), Err(Reason::Limit));
    assert_eq!(
        table.lookup(ip(&source(3)), at(5)).id,
        third.id,
        "shared: refusing needs no state"
    );
    assert_eq!(governed_by(&held[0]), Ok("default".into()));
    drop(held);
    assert_eq!(judged(&table, &source(2), 6), Ok("default".into()));
}

#[test]
fn a_flood_of_sources_stays_in_bounds() {
    let table = small(500);
    for n in 0..5_000 {
        table.lookup(ip(&source(n)), at(n as u64 / 100));
    }
    assert!(table.cache.len() <= 500, "{}", table.cache.len());
    assert!(table.subjects().len() <= 500, "{}", table.subjects().len());
}

#[test]
fn quarantined_unbound_and_foreign_sources_take_no_memory_each() {
    let table = table();
    start(&table, "10.77.0.2");
    table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE)]);
    let before = table.cache.len();
    for n in 0..1_000_u32 {
        assert_eq!(
            judged(&table, &format!("fd77::{:x}", n + 16), 1),
            Err(Reason::UnboundSource)
        );
        assert_eq!(
            judged(&table, &format!("192.0.2.{}", n % 250), 1),
            Err(Reason::NoPolicy)
        );
    }
    assert_eq!(table.cache.len(), before);
    assert!(
        table.unbound_sources().len() <= 256,
        "{}",
        table.unbound_sources().len()
    );
}

#[test]
fn joined_addresses_of_one_lease_are_bounded_and_the_rest_is_unbound() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    let mut rows = vec![neighbour("10.77.0.2", MACHINE)];
    rows.extend((0..MAX_JOINED + 6).map(|n| neighbour(&format!("fd77::1:{n:x}"), MACHINE)));
    assert_eq!(table.observe_neighbours(&rows).len(), MAX_JOINED);
    let joined = rows
        .iter()
        .filter(|row| table.lookup(row.address, at(1)).id == lease.subject.id)
        .count();
    assert_eq!(joined, MAX_JOINED + 1);
    assert_eq!(table.unbound_sources().len(), 6);
    assert_eq!(table.observe_neighbours(&rows), NOBODY, "those that joined stay");
}

#[test]
fn sources_of_one_registration_are_bounded() {
    let table = table();
    let sources: Vec<String> = (0..=MAX_SOURCES).map(source).collect();
    let refused = table
        .register(request(&sources.join(" "), "acme/web", "1", provisioner()), at(0))
        .unwrap_err();
    assert_eq!(refused, RegisterError::SourceCount(MAX_SOURCES + 1));
}

#[test]
fn leases_are_bounded_and_the_bound_refuses() {
    let table = table_of(vec![network("runners", &["10.0.0.0/8"])]);
    let take = |n: u32, credential: Credential| {
        let source = std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string();
        table.register(request(&source, "acme/web", "1", credential), at(0))
    };
    let (half, all) = (MAX_LEASES as u32 / 2, MAX_LEASES as u32);
    for n in 0..half {
        take(n, Credential::Claimed).unwrap();
    }
    // Half of the table is for those who show a credential, whoever claims what.
    assert_eq!(take(all, Credential::Claimed).unwrap_err(), RegisterError::Full);
    for n in half..all {
        take(n, Credential::Oidc).unwrap();
    }
    assert_eq!(take(all, Credential::Oidc).unwrap_err(), RegisterError::Full);
    // All of them end: quarantine is bounded too, and holds exactly as many.
    assert_eq!(table.expire(at(3_600)).len(), MAX_LEASES);
    assert_eq!(table.quarantined_sources().len(), MAX_QUARANTINED);
    let one_more = table
        .register(
            request("10.200.0.1", "acme/web", "1", Credential::Claimed),
            at(3_600),
        )
        .unwrap();
    table
        .end(&one_more.lease.id, &Party::Operator, at(3_601))
        .unwrap();
    assert_eq!(table.quarantined_sources().len(), MAX_QUARANTINED);
    assert_eq!(standing(&table, "10.200.0.1", 3_602), Standing::Quarantined);
}

#[test]
fn neighbours_beyond_the_bound_are_left_out() {
    let table = table_of(vec![network("runners", &["10.0.0.0/8"])]);
    let rows: Vec<Neighbour> = (0..MAX_NEIGHBOURS as u32 + 10)
        .map(|n| neighbour(&std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string(), MACHINE))
        .collect();
    table.observe_neighbours(&rows);
    assert_eq!(table.state.lock().link.rows().count(), MAX_NEIGHBOURS);
}

#[test]
fn lookups_beside_changes_never_outlive_them() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (table, done) = (table(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    table.lookup(ip("10.77.0.2"), at(1));
                }
            });
        }
        for _ in 0..300 {
            let asked = request("10.77.0.2", "acme/web", "1", Credential::Forge);
            let lease = table.register(asked, at(1)).unwrap().lease;
            assert_eq!(table.lookup(ip("10.77.0.2"), at(1)).id, lease.subject.id);
            table.end(&lease.id, &Party::Operator, at(1)).unwrap();
            assert_eq!(standing(&table, "10.77.0.2", 1), Standing::Quarantined);
        }
        done.store(true, Ordering::Relaxed);
    });
}
