//! What a registration would do, told before it is done; and a provisioner's word that a machine is gone.

use super::*;

fn previewed(table: &LeaseTable, request: &Registration, seconds: u64) -> Result<Preview, RegisterError> {
    table.preview(request, at(seconds))
}

#[test]
fn a_preview_of_a_free_source_names_the_job_as_it_would_be_known_and_changes_nothing() {
    let table = table();
    let asked = request(
        "10.77.0.2 ::ffff:10.77.0.3",
        "Acme/Web",
        "1",
        runner_token(&["acme"]),
    );
    let preview = previewed(&table, &asked, 0).unwrap();
    assert!(preview.held.is_none() && preview.replaces.is_empty());
    assert_eq!(
        (preview.network.as_str(), preview.identity.repo.as_str()),
        ("runners", "acme/web")
    );
    assert_eq!(
        (preview.identity.assurance, preview.identity.cluster.as_str()),
        (Assurance::Declared, "prod")
    );
    assert_eq!(preview.sources, [ip("10.77.0.2"), ip("10.77.0.3")]);
    assert_eq!(preview.began, asked.began);
    assert_eq!(
        (table.leases().len(), standing(&table, "10.77.0.2", 1)),
        (0, Standing::Unleased)
    );
    let lease = table.register(asked, at(1)).unwrap().lease;
    assert_eq!(lease.job.identity, preview.identity);
}

#[test]
fn a_preview_names_the_lease_that_the_same_job_holds() {
    let table = table();
    let lease = start(&table, "10.77.0.2 10.77.0.3");
    let again = request("10.77.0.2", "acme/web", "1", runner_token(&["acme"]));
    let preview = previewed(&table, &again, 1).unwrap();
    assert!(Arc::ptr_eq(preview.held.as_ref().unwrap(), &lease));
    assert_eq!(preview.replaces, [""; 0]);
    assert_eq!(preview.sources, [ip("10.77.0.2"), ip("10.77.0.3")]);
}

#[test]
fn a_preview_names_what_it_would_replace_and_the_addresses_that_go_over() {
    let table = table();
    let lease = start(&table, "10.77.0.2 fd77::2");
    let stronger = request("10.77.0.2", "acme/web", "1", Credential::Oidc);
    let preview = previewed(&table, &stronger, 1).unwrap();
    assert_eq!(preview.replaces, std::slice::from_ref(&lease.id));
    assert_eq!(preview.sources, [ip("10.77.0.2"), ip("fd77::2")]);
    assert!(table.lease(&lease.id).is_some());
    assert_eq!(table.lookup(ip("10.77.0.2"), at(1)).id, lease.subject.id);
}

#[test]
fn a_preview_refuses_what_a_registration_refuses() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    let foreign = request("192.0.2.1", "acme/web", "2", provisioner());
    assert_eq!(
        previewed(&table, &foreign, 1).unwrap_err(),
        RegisterError::Foreign(ip("192.0.2.1"))
    );
    let held = request("10.77.0.2", "acme/api", "2", runner_token(&["acme"]));
    assert!(matches!(
        previewed(&table, &held, 1),
        Err(RegisterError::Held { .. })
    ));
    let mut taken = request("10.77.0.3", "acme/web", "2", provisioner());
    taken.id = lease.id.clone();
    assert_eq!(
        previewed(&table, &taken, 1).unwrap_err(),
        RegisterError::DuplicateId(lease.id.clone())
    );
    table.end(&lease.id, &Party::Operator, at(2)).unwrap();
    let next = request("10.77.0.2", "acme/web", "2", runner_token(&["acme"]));
    assert_eq!(
        previewed(&table, &next, 3).unwrap_err(),
        RegisterError::Quarantined(ip("10.77.0.2"))
    );
}

#[test]
fn a_preview_sees_no_lease_that_has_expired() {
    let table = table_of(vec![persistent()]);
    let lease = start(&table, "10.77.0.2");
    let next = request("10.77.0.2", "acme/api", "2", runner_token(&["acme"]));
    assert!(previewed(&table, &next, 3_599).is_err());
    assert_eq!(previewed(&table, &next, 3_600).unwrap().replaces, [""; 0]);
    assert!(table.lease(&lease.id).is_none());
    assert_eq!(
        table.expire(at(3_600)),
        [ip("10.77.0.2")],
        "and its end is reported"
    );
}

#[test]
fn a_job_known_better_keeps_the_generation_that_it_began_with() {
    let table = table();
    let mut first = request("10.77.0.2", "acme/web", "1", runner_token(&["acme"]));
    first.began = Generation(7);
    table.register(first, at(0)).unwrap();
    let mut better = request("10.77.0.2", "acme/web", "1", Credential::Oidc);
    better.began = Generation(9);
    assert_eq!(previewed(&table, &better, 1).unwrap().began, Generation(7));
    assert_eq!(table.register(better, at(1)).unwrap().lease.began, Generation(7));
    let mut other = request("10.77.0.2", "acme/web", "2", Credential::Forge);
    other.began = Generation(9);
    assert_eq!(
        previewed(&table, &other, 2).unwrap().began,
        Generation(9),
        "another run is another job"
    );
    assert_eq!(table.register(other, at(2)).unwrap().lease.began, Generation(9));
}

#[test]
fn asking_row_a_provisioner_ends_any_source_in_its_networks() {
    for by in [
        Party::Provisioner(TokenScope::default()),
        Party::Forge,
        Party::Operator,
    ] {
        let table = table();
        let lease = start(&table, "10.77.0.2 10.77.0.3");
        let cleared = table.clear(ip("::ffff:10.77.0.2"), &by, at(1)).unwrap();
        assert_eq!(cleared, [ip("10.77.0.2"), ip("10.77.0.3")]);
        assert!(table.lease(&lease.id).is_none());
        assert!(governed_by(&lease.subject).is_err() && lease.subject.tickets().is_empty());
        assert_eq!(
            table.quarantined_sources(),
            [],
            "the machine is gone, with each of its addresses"
        );
        assert_eq!(judged(&table, "10.77.0.3", 2), Ok("default".into()));
        assert_eq!(
            table.clear(ip("10.77.0.2"), &by, at(3)).unwrap(),
            NOBODY,
            "nothing is left to clear"
        );
    }
}

#[test]
fn clearing_a_quarantined_source_lifts_its_machines_quarantine() {
    let table = table();
    table.observe_neighbours(&[neighbour("10.77.0.2", MACHINE), neighbour("fd77::2", MACHINE)]);
    let lease = start(&table, "10.77.0.2");
    table
        .end(&lease.id, &Party::Source(ip("10.77.0.2")), at(1))
        .unwrap();
    assert_eq!(standing(&table, "fd77::2", 2), Standing::Quarantined);
    let cleared = table.clear(ip("fd77::2"), &Party::Operator, at(3)).unwrap();
    assert!(cleared.contains(&ip("10.77.0.2")), "{cleared:?}");
    for source in ["10.77.0.2", "fd77::2"] {
        assert_eq!(standing(&table, source, 4), Standing::Unleased, "{source}");
    }
}

#[test]
fn nobody_clears_what_is_not_his() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    let elsewhere = Party::Provisioner(TokenScope {
        networks: vec!["other".into()],
        ..TokenScope::default()
    });
    for by in [Party::Source(ip("10.77.0.2")), elsewhere.clone()] {
        let refused = table.clear(ip("10.77.0.2"), &by, at(1)).unwrap_err();
        assert_eq!(refused, EndError::Network("runners".into()), "{by:?}");
    }
    // The same by two calls: ending and releasing.
    assert_eq!(
        table.end(&lease.id, &elsewhere, at(1)),
        Err(EndError::NotYours(lease.id.clone()))
    );
    assert_eq!(
        table.clear(ip("192.0.2.1"), &Party::Operator, at(1)),
        Err(EndError::Foreign(ip("192.0.2.1")))
    );
    let fixed = |source: &str| StaticLease {
        sources: vec![source.parse().unwrap()],
        identity: job("acme/api", ""),
        pinned: None,
    };
    table.set_static(vec![fixed("10.77.0.9/32"), fixed("10.77.3.0/24")], at(1));
    for (source, id) in [
        ("10.77.0.9", "static-10.77.0.9"),
        ("10.77.3.4", "static-10.77.3.0/24"),
    ] {
        let refused = table.clear(ip(source), &Party::Operator, at(2)).unwrap_err();
        assert_eq!(refused, EndError::Static(id.into()));
    }
    assert_eq!(table.lookup(ip("10.77.0.2"), at(2)).id, lease.subject.id);
}
