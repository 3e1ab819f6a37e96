//! Rows of "Who is asking".

use super::*;

#[test]
fn asking_row_a_source_holds_at_most_one_lease() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    for credential in [Credential::Claimed, runner_token(&[])] {
        let refused = table
            .register(request("10.77.0.2", "evil/repo", "9", credential), at(1))
            .unwrap_err();
        let held = RegisterError::Held {
            source_address: ip("10.77.0.2"),
            lease: lease.id.clone(),
            assurance: Assurance::Declared,
        };
        assert_eq!(refused, held);
    }
    assert_eq!(judged(&table, "10.77.0.2", 1), Ok("web".into()));
}

#[test]
fn asking_row_a_stronger_assurance_takes_over() {
    let table = table();
    let weak = start(&table, "10.77.0.2 fd77::2");
    let strong = table
        .register(request("10.77.0.2", "acme/api", "2", Credential::Oidc), at(1))
        .unwrap();
    assert_eq!(strong.changed, [ip("10.77.0.2"), ip("fd77::2")]);
    assert_eq!(strong.lease.assurance(), Assurance::Signed);
    assert_eq!(judged(&table, "10.77.0.2", 1), Ok("acme".into()));
    assert_eq!(
        judged(&table, "fd77::2", 1),
        Ok("acme".into()),
        "the machine's other address goes over too"
    );
    assert_eq!(
        governed_by(&weak.subject),
        Err(Reason::LeaseChanged),
        "whoever still holds the old subject"
    );
    let weaker = table.register(
        request("10.77.0.2", "acme/web", "3", runner_token(&["acme"])),
        at(2),
    );
    assert!(
        matches!(
            weaker,
            Err(RegisterError::Held {
                assurance: Assurance::Signed,
                ..
            })
        ),
        "{weaker:?}"
    );
    let forge = table.register(request("10.77.0.2", "acme/web", "3", Credential::Forge), at(2));
    assert_eq!(forge.unwrap().lease.assurance(), Assurance::Forge);
}

#[test]
fn asking_row_a_provisioner_takes_over_whatever_is_held_but_a_static_lease() {
    let table = table();
    table
        .register(request("10.77.0.2", "acme/api", "1", Credential::Forge), at(0))
        .unwrap();
    let taken = table
        .register(request("10.77.0.2", "acme/web", "2", provisioner()), at(1))
        .unwrap();
    assert_eq!(taken.lease.assurance(), Assurance::Declared);
    let fixed = StaticLease {
        sources: vec![single("10.77.0.3")],
        identity: job("acme/api", ""),
        pinned: None,
    };
    table.set_static(vec![fixed], at(1));
    let refused = table
        .register(request("10.77.0.3", "acme/web", "2", provisioner()), at(2))
        .unwrap_err();
    assert!(
        matches!(
            refused,
            RegisterError::Held {
                assurance: Assurance::Static,
                ..
            }
        ),
        "{refused:?}"
    );
}

#[test]
fn asking_row_the_same_job_asking_again_gets_its_lease() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    let again = table
        .register(
            request("10.77.0.2", "Acme/Web", "1", runner_token(&["acme"])),
            at(1),
        )
        .unwrap();
    assert!(Arc::ptr_eq(&lease, &again.lease));
    assert_eq!(again.changed, NOBODY);
}

#[test]
fn asking_row_the_same_run_known_better_keeps_its_tickets() {
    use crate::ticket::Grant;
    let table = table();
    let claimed = table
        .register(request("10.77.0.2", "acme/web", "1", Credential::Claimed), at(0))
        .unwrap();
    let asked = crate::fixture::name("web.test");
    let address = [ip("192.0.2.1")];
    let grant = Grant {
        asked: &asked,
        chain: &[],
        addresses: &address,
        ttl: HOUR,
    };
    claimed.lease.subject.tickets().grant(&grant, HOUR, at(0));
    let signed = table
        .register(request("10.77.0.2", "acme/web", "1", Credential::Oidc), at(1))
        .unwrap();
    assert!(signed.lease.subject.tickets().holds(&asked, address[0], at(1)));
    let other = table
        .register(request("10.77.0.2", "acme/web", "2", Credential::Forge), at(1))
        .unwrap();
    assert!(
        !other.lease.subject.tickets().holds(&asked, address[0], at(1)),
        "another run starts without"
    );
}

#[test]
fn asking_row_an_ended_lease_leaves_quarantine_on_ephemeral_networks() {
    let table = table();
    let lease = start(&table, "10.77.0.2 fd77::2");
    let changed = table
        .end(&lease.id, &Party::Source(ip("10.77.0.2")), at(5))
        .unwrap();
    assert_eq!(changed, [ip("10.77.0.2"), ip("fd77::2")]);
    for source in ["10.77.0.2", "fd77::2"] {
        assert_eq!(standing(&table, source, 6), Standing::Quarantined);
        assert_eq!(judged(&table, source, 6), Err(Reason::Quarantined));
    }
    assert_eq!(governed_by(&lease.subject), Err(Reason::Quarantined));
    assert!(lease.subject.tickets().is_empty(), "tickets end with the lease");
    assert_eq!(table.quarantined_sources().len(), 2);
}

#[test]
fn asking_row_the_jobs_own_credentials_cannot_re_register_a_quarantined_source() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    table
        .end(&lease.id, &Party::Source(ip("10.77.0.2")), at(5))
        .unwrap();
    for credential in [Credential::Claimed, runner_token(&["acme"]), Credential::Oidc] {
        let refused = table
            .register(request("10.77.0.2", "acme/web", "2", credential.clone()), at(6))
            .unwrap_err();
        assert_eq!(
            refused,
            RegisterError::Quarantined(ip("10.77.0.2")),
            "{credential:?}"
        );
    }
    assert_eq!(
        table.release_quarantine(&[ip("10.77.0.2")], &Party::Source(ip("10.77.0.2"))),
        NOBODY
    );
    assert_eq!(standing(&table, "10.77.0.2", 7), Standing::Quarantined);
}

#[test]
fn asking_row_quarantine_ends_by_a_provisioners_word_or_the_forges_next_job() {
    for credential in [provisioner(), Credential::Forge] {
        let table = table();
        let lease = start(&table, "10.77.0.2");
        table.end(&lease.id, &Party::Operator, at(5)).unwrap();
        table
            .register(request("10.77.0.2", "acme/api", "2", credential), at(6))
            .unwrap();
        assert_eq!(judged(&table, "10.77.0.2", 7), Ok("acme".into()));
        assert_eq!(table.quarantined_sources(), []);
    }
    let table = table();
    let lease = start(&table, "10.77.0.2");
    table.end(&lease.id, &Party::Forge, at(5)).unwrap();
    let elsewhere = TokenScope {
        networks: vec!["other".into()],
        ..TokenScope::default()
    };
    assert_eq!(
        table.release_quarantine(&[ip("10.77.0.2")], &Party::Provisioner(elsewhere)),
        NOBODY
    );
    let released = table.release_quarantine(&[ip("10.77.0.2")], &Party::Provisioner(TokenScope::default()));
    assert_eq!(released, [ip("10.77.0.2")]);
    assert_eq!(judged(&table, "10.77.0.2", 7), Ok("default".into()));
}

#[test]
fn asking_row_on_persistent_networks_the_runner_token_registers_the_next_job_it_names() {
    let table = table_of(vec![persistent()]);
    let nobody = table
        .register(request("10.77.0.2", "acme/web", "1", runner_token(&[])), at(0))
        .unwrap_err();
    assert_eq!(
        nobody,
        RegisterError::NotNamed("acme/web".into()),
        "a token that names nobody"
    );
    let lease = start(&table, "10.77.0.2");
    table
        .end(&lease.id, &Party::Source(ip("10.77.0.2")), at(5))
        .unwrap();
    assert_eq!(standing(&table, "10.77.0.2", 6), Standing::Unleased);
    let other = table
        .register(
            request("10.77.0.2", "evil/repo", "2", runner_token(&["acme"])),
            at(6),
        )
        .unwrap_err();
    assert_eq!(other, RegisterError::NotNamed("evil/repo".into()));
    let repos = TokenScope {
        repos: vec!["Acme/Web".into()],
        ..TokenScope::default()
    };
    let other = request(
        "10.77.0.2",
        "acme/api",
        "2",
        Credential::RunnerToken(repos.clone()),
    );
    assert_eq!(
        table.register(other, at(6)).unwrap_err(),
        RegisterError::NotNamed("acme/api".into())
    );
    table
        .register(
            request("10.77.0.2", "acme/web", "2", Credential::RunnerToken(repos)),
            at(6),
        )
        .unwrap();
}

#[test]
fn asking_row_an_ephemeral_networks_token_is_held_to_what_it_names_too() {
    let table = table();
    let other = table
        .register(
            request("10.77.0.2", "evil/repo", "1", runner_token(&["acme"])),
            at(0),
        )
        .unwrap_err();
    assert_eq!(other, RegisterError::NotNamed("evil/repo".into()));
    let elsewhere = TokenScope {
        networks: vec!["other".into()],
        ..TokenScope::default()
    };
    for credential in [
        Credential::RunnerToken(elsewhere.clone()),
        Credential::Provisioner(elsewhere),
    ] {
        let refused = table
            .register(request("10.77.0.2", "acme/web", "1", credential), at(0))
            .unwrap_err();
        assert_eq!(refused, RegisterError::Network("runners".into()));
    }
}

#[test]
fn asking_row_the_cluster_comes_from_the_network_and_a_said_one_must_match() {
    let table = table();
    let mut wrong = request("10.77.0.2", "acme/web", "1", runner_token(&["acme"]));
    wrong.identity.cluster = "staging".into();
    let mismatch = RegisterError::Cluster {
        said: "staging".into(),
        known: "prod".into(),
    };
    assert_eq!(table.register(wrong, at(0)).unwrap_err(), mismatch);
    let lease = start(&table, "10.77.0.2");
    assert_eq!(lease.job.identity.cluster, "prod");
}

#[test]
fn asking_row_the_cluster_may_come_from_the_token() {
    let table = table_of(vec![Network {
        cluster: "".into(),
        ..runners()
    }]);
    let scope = TokenScope {
        cluster: Some("edge".into()),
        ..TokenScope::default()
    };
    let lease = table
        .register(
            request("10.77.0.2", "acme/web", "1", Credential::RunnerToken(scope)),
            at(0),
        )
        .unwrap();
    assert_eq!(lease.lease.job.identity.cluster, "edge");
    let mut said = request("10.77.0.3", "acme/web", "2", runner_token(&["acme"]));
    said.identity.cluster = "edge".into();
    let refused = table.register(said, at(0)).unwrap_err();
    assert!(
        matches!(refused, RegisterError::Cluster { .. }),
        "nobody but the client says so: {refused:?}"
    );
}

#[test]
fn asking_row_below_min_assurance_the_networks_default_governs() {
    let table = table_of(vec![Network {
        min_assurance: Some(Assurance::Signed),
        ..runners()
    }]);
    let declared = start(&table, "10.77.0.2");
    assert_eq!(governed_by(&declared.subject), Ok("default".into()));
    assert_eq!(
        declared.subject.standing,
        Standing::Leased,
        "it is known all the same"
    );
    let signed = table
        .register(request("10.77.0.2", "acme/web", "1", Credential::Oidc), at(1))
        .unwrap();
    assert_eq!(governed_by(&signed.lease.subject), Ok("web".into()));
}

#[test]
fn asking_row_a_claimed_identity_enriches_and_never_decides() {
    let table = table();
    let claimed = table
        .register(request("10.77.0.2", "acme/web", "1", Credential::Claimed), at(0))
        .unwrap();
    assert_eq!(governed_by(&claimed.lease.subject), Ok("default".into()));
    assert_eq!(claimed.lease.job.identity.repo, "acme/web");
}

#[test]
fn asking_row_no_default_policy_is_deny_all() {
    let table = LeaseTable::new(vec![runners()], Arc::default());
    assert_eq!(judged(&table, "10.77.0.9", 0), Err(Reason::NoPolicy));
    assert_eq!(judged(&table, "192.0.2.1", 0), Err(Reason::NoPolicy));
    assert_eq!(standing(&table, "192.0.2.1", 0), Standing::Foreign);
}

#[test]
fn asking_row_lookup_is_longest_prefix_over_networks() {
    let inner = network("inner", &["10.77.5.0/24"]);
    let table = table_of(vec![runners(), inner]);
    assert_eq!(table.lookup(ip("10.77.5.1"), at(0)).network.name, "inner");
    assert_eq!(table.lookup(ip("10.77.6.1"), at(0)).network.name, "runners");
    assert_eq!(
        table.lookup(ip("::ffff:10.77.6.1"), at(0)).id,
        table.lookup(ip("10.77.6.1"), at(0)).id
    );
    let apart = table
        .register(
            request("10.77.5.1 10.77.6.1", "acme/web", "1", provisioner()),
            at(0),
        )
        .unwrap_err();
    assert_eq!(apart, RegisterError::Apart(ip("10.77.5.1"), ip("10.77.6.1")));
    let foreign = table
        .register(request("192.0.2.1", "acme/web", "1", provisioner()), at(0))
        .unwrap_err();
    assert_eq!(foreign, RegisterError::Foreign(ip("192.0.2.1")));
}

#[test]
fn asking_row_static_leases_beat_dynamic_ones() {
    let table = table();
    let dynamic = start(&table, "10.77.0.2");
    let fixed = StaticLease {
        sources: vec![single("10.77.0.2")],
        identity: job("acme/api", ""),
        pinned: None,
    };
    let changed = table.set_static(vec![fixed], at(1));
    assert_eq!(changed, [ip("10.77.0.2")]);
    let subject = table.lookup(ip("10.77.0.2"), at(1));
    assert_eq!(
        subject.job().as_ref().unwrap().identity.assurance,
        Assurance::Static
    );
    assert_eq!(governed_by(&subject), Ok("acme".into()));
    assert!(table.lease(&dynamic.id).is_none());
    for credential in [Credential::Oidc, Credential::Forge] {
        let refused = table
            .register(request("10.77.0.2", "acme/web", "2", credential), at(2))
            .unwrap_err();
        assert!(
            matches!(
                refused,
                RegisterError::Held {
                    assurance: Assurance::Static,
                    ..
                }
            ),
            "{refused:?}"
        );
    }
}

#[test]
fn asking_row_a_static_range_is_held_too_and_only_a_provisioner_says_better() {
    let table = table();
    let range = StaticLease {
        sources: vec!["10.77.3.0/24".parse().unwrap()],
        identity: job("acme/api", ""),
        pinned: None,
    };
    table.set_static(vec![range], at(0));
    for credential in [runner_token(&[]), Credential::Oidc, Credential::Forge] {
        let refused = table
            .register(request("10.77.3.4", "acme/web", "2", credential), at(1))
            .unwrap_err();
        assert!(
            matches!(
                refused,
                RegisterError::Held {
                    assurance: Assurance::Static,
                    ..
                }
            ),
            "{refused:?}"
        );
    }
    table
        .register(request("10.77.3.4", "acme/web", "2", provisioner()), at(1))
        .unwrap();
    assert_eq!(judged(&table, "10.77.3.4", 2), Ok("web".into()), "longest prefix");
    assert_eq!(judged(&table, "10.77.3.5", 2), Ok("acme".into()));
}

#[test]
fn asking_row_a_range_lease_keys_tickets_by_source() {
    let table = table();
    let range = StaticLease {
        sources: vec!["10.77.3.0/24".parse().unwrap()],
        identity: job("acme/api", ""),
        pinned: None,
    };
    table.set_static(vec![range], at(0));
    let (one, other) = (
        table.lookup(ip("10.77.3.1"), at(0)),
        table.lookup(ip("10.77.3.2"), at(0)),
    );
    assert_ne!(one.id, other.id);
    assert!(!Arc::ptr_eq(one.tickets(), other.tickets()));
    assert_eq!(one.job().as_ref().unwrap().id, other.job().as_ref().unwrap().id);
    assert_eq!(one.job().as_ref().unwrap().identity.cluster, "prod");
    assert_eq!(table.lookup(ip("10.77.3.1"), at(9)).id, one.id);
}

#[test]
fn asking_row_single_addresses_of_a_static_lease_are_one_machine() {
    let table = table();
    let sources = vec![single("10.77.0.2"), single("fd77::2")];
    table.set_static(
        vec![StaticLease {
            sources,
            identity: job("acme/web", ""),
            pinned: None,
        }],
        at(0),
    );
    assert_eq!(
        table.lookup(ip("10.77.0.2"), at(0)).id,
        table.lookup(ip("fd77::2"), at(0)).id
    );
}

#[test]
fn asking_row_a_pinned_policy_decides_alone_and_an_unknown_one_is_deny_all() {
    let table = table();
    let pinned = |name: &str| StaticLease {
        sources: vec![single("10.77.0.2")],
        identity: job("acme/web", ""),
        pinned: Some(name.into()),
    };
    table.set_static(vec![pinned("missing.yaml")], at(0));
    assert_eq!(judged(&table, "10.77.0.2", 0), Err(Reason::PolicyUnknown));
    let mut set = PolicySet::default();
    set.pinned.insert(
        "missing.yaml".into(),
        policy_with("pinned", "egress-policy: block", &[]),
    );
    let report = table.set_policies(Arc::new(set));
    assert_eq!(report.swapped.len(), 1);
    assert_eq!(judged(&table, "10.77.0.2", 0), Ok("pinned".into()));
}

#[test]
fn asking_row_a_lease_ends_by_expiry_even_before_anybody_collects_it() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    assert_eq!(standing(&table, "10.77.0.2", 3_599), Standing::Leased);
    assert_eq!(
        standing(&table, "10.77.0.2", 3_600),
        Standing::Quarantined,
        "the lookup itself ends it"
    );
    assert_eq!(
        table.expire(at(3_600)),
        [ip("10.77.0.2")],
        "and the gateway is told afterwards"
    );
    assert_eq!(table.expire(at(3_601)), NOBODY);
    assert!(table.lease(&lease.id).is_none());
    let other = start(&table, "10.77.0.3");
    assert_eq!(table.expire(at(3_600)), [ip("10.77.0.3")]);
    assert_eq!(governed_by(&other.subject), Err(Reason::Quarantined));
}

#[test]
fn asking_row_a_lease_is_ended_by_its_own_address_a_provisioner_the_forge_or_an_operator() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    let elsewhere = TokenScope {
        networks: vec!["other".into()],
        ..TokenScope::default()
    };
    for party in [Party::Source(ip("10.77.0.3")), Party::Provisioner(elsewhere)] {
        assert_eq!(
            table.end(&lease.id, &party, at(1)).unwrap_err(),
            EndError::NotYours(lease.id.clone())
        );
    }
    for (at_source, party) in [
        ("10.77.0.4", Party::Source(ip("::ffff:10.77.0.4"))),
        ("10.77.0.5", Party::Provisioner(TokenScope::default())),
        ("10.77.0.6", Party::Forge),
        ("10.77.0.7", Party::Operator),
    ] {
        let lease = start(&table, at_source);
        assert_eq!(table.end(&lease.id, &party, at(1)).unwrap(), [ip(at_source)]);
        assert_eq!(
            table.end(&lease.id, &party, at(1)).unwrap_err(),
            EndError::Unknown(lease.id.clone())
        );
    }
    let fixed = StaticLease {
        sources: vec![single("10.77.0.8")],
        identity: job("acme/api", ""),
        pinned: None,
    };
    table.set_static(vec![fixed], at(1));
    let id = table.lease_at(ip("10.77.0.8")).unwrap().id.clone();
    assert_eq!(
        table.end(&id, &Party::Operator, at(1)).unwrap_err(),
        EndError::Static(id)
    );
}

#[test]
fn asking_row_a_start_changes_the_source_and_takes_the_default_policy_from_old_holders() {
    let table = table();
    let before = table.lookup(ip("10.77.0.2"), at(0));
    assert_eq!(governed_by(&before), Ok("default".into()));
    let lease = table
        .register(
            request("10.77.0.2", "acme/web", "1", runner_token(&["acme"])),
            at(1),
        )
        .unwrap();
    assert_eq!(lease.changed, [ip("10.77.0.2")]);
    assert_eq!(table.lookup(ip("10.77.0.2"), at(1)).id, lease.lease.subject.id);
    assert_eq!(governed_by(&before), Err(Reason::LeaseChanged));
}

#[test]
fn asking_row_a_registration_needs_sources_and_a_fresh_id() {
    let table = table();
    let none = table
        .register(request("", "acme/web", "1", provisioner()), at(0))
        .unwrap_err();
    assert_eq!(none, RegisterError::SourceCount(0));
    let lease = start(&table, "10.77.0.2");
    let mut twice = request("10.77.0.3", "acme/web", "2", provisioner());
    twice.id = lease.id.clone();
    assert_eq!(
        table.register(twice, at(0)).unwrap_err(),
        RegisterError::DuplicateId(lease.id.clone())
    );
}
