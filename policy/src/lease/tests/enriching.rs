//! Harden-Runner's `monitor` call: what a client says without a credential.

use super::*;

/// The lease of a job of which only owner and repository were said.
fn bare(table: &LeaseTable, source: &str) -> Arc<Lease> {
    let mut asked = request(source, "acme/web", "", runner_token(&["acme"]));
    asked.identity = JobIdentity {
        owner: "acme".into(),
        repo: "acme/web".into(),
        ..nobody()
    };
    table.register(asked, at(0)).unwrap().lease
}

fn nobody() -> JobIdentity {
    JobIdentity {
        owner: "".into(),
        workflow: "".into(),
        job: "".into(),
        run_attempt: 0,
        runner_name: "".into(),
        event: "".into(),
        git_ref: "".into(),
        actor: "".into(),
        head_repo: "".into(),
        ..job("", "")
    }
}

fn known(table: &LeaseTable, source: &str) -> JobIdentity {
    table.lookup(ip(source), at(2)).job().unwrap().identity.clone()
}

#[test]
fn asking_row_a_claim_fills_what_a_lease_leaves_open_and_decides_nothing() {
    let table = table();
    let lease = bare(&table, "10.77.0.2");
    let tickets = Arc::clone(lease.subject.tickets());
    let claim = JobIdentity {
        cluster: "staging".into(),
        assurance: Assurance::Forge,
        ..job("Acme/Web", "7")
    };
    assert!(table.enrich(ip("::ffff:10.77.0.2"), claim.clone(), at(1)));
    let wanted = JobIdentity {
        workflow: "".into(),
        cluster: "prod".into(),
        assurance: Assurance::Declared,
        ..claim.canonical()
    };
    assert_eq!(known(&table, "10.77.0.2"), wanted);
    let subject = table.lookup(ip("10.77.0.2"), at(2));
    assert_eq!(subject.id, lease.subject.id);
    assert!(Arc::ptr_eq(subject.tickets(), &tickets));
    assert_eq!(governed_by(&subject), Ok("web".into()));
    assert_eq!(subject.job().unwrap().id, lease.id, "events name the same lease");
}

#[test]
fn a_claim_takes_nothing_that_is_known() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    let claim = JobIdentity {
        job: "other".into(),
        run_attempt: 9,
        runner_name: "other".into(),
        event: "other".into(),
        git_ref: "other".into(),
        actor: "other".into(),
        head_repo: "".into(),
        ..job("acme/web", "1")
    };
    assert!(table.enrich(ip("10.77.0.2"), claim, at(1)));
    assert_eq!(known(&table, "10.77.0.2"), lease.job.identity);
}

#[test]
fn a_claim_of_another_job_is_left_out() {
    let table = table();
    let lease = bare(&table, "10.77.0.2");
    for repo in ["evil/web", "acme/api"] {
        assert!(
            table.enrich(ip("10.77.0.2"), job(repo, "7"), at(1)),
            "there is a lease all the same"
        );
        assert_eq!(known(&table, "10.77.0.2"), lease.job.identity);
    }
    assert!(table.enrich(ip("10.77.0.2"), job("acme/web", "7"), at(1)));
    let first = known(&table, "10.77.0.2");
    let later = JobIdentity {
        actor: "later".into(),
        head_repo: "".into(),
        ..job("acme/web", "8")
    };
    assert!(table.enrich(ip("10.77.0.2"), later, at(1)));
    assert_eq!(
        known(&table, "10.77.0.2"),
        first,
        "a later step does not rename the job"
    );
}

#[test]
fn an_enriched_lease_is_still_that_of_the_job_that_registered_it() {
    let table = table();
    let lease = bare(&table, "10.77.0.2");
    table.enrich(ip("10.77.0.2"), job("acme/web", "7"), at(1));
    let again = bare(&table, "10.77.0.2");
    assert!(Arc::ptr_eq(&lease, &again));
    assert_eq!(known(&table, "10.77.0.2").run_id, "7");
}

#[test]
fn a_machine_of_the_configuration_is_named_by_the_last_claim() {
    let table = table();
    let fixed = |source: &str| StaticLease {
        sources: vec![source.parse().unwrap()],
        identity: JobIdentity {
            owner: "acme".into(),
            ..nobody()
        },
        pinned: None,
    };
    let leases = vec![fixed("10.77.0.2/32"), fixed("10.77.3.0/24")];
    table.set_static(leases.clone(), at(0));
    for source in ["10.77.0.2", "10.77.3.4"] {
        let subject = table.lookup(ip(source), at(1));
        for run in ["7", "8"] {
            assert!(table.enrich(ip(source), job("acme/web", run), at(1)));
            let known = known(&table, source);
            assert_eq!(
                (known.run_id.as_str(), known.repo.as_str(), known.assurance),
                (run, "", Assurance::Static)
            );
        }
        assert_eq!(
            table.set_static(leases.clone(), at(2)),
            NOBODY,
            "it is the same static lease"
        );
        assert_eq!(table.lookup(ip(source), at(2)).id, subject.id);
    }
    assert_eq!(
        known(&table, "10.77.3.5").run_id,
        "",
        "another machine of the range"
    );
}

#[test]
fn a_source_without_a_lease_is_not_enriched() {
    let table = table();
    let lease = start(&table, "10.77.0.2");
    table.end(&lease.id, &Party::Operator, at(1)).unwrap();
    start(&table, "10.77.0.4");
    for (source, seconds) in [
        ("10.77.0.2", 2),
        ("10.77.0.3", 2),
        ("192.0.2.1", 2),
        ("10.77.0.4", 3_601),
    ] {
        assert!(
            !table.enrich(ip(source), job("acme/web", "7"), at(seconds)),
            "{source}"
        );
        assert!(table.lookup(ip(source), at(seconds)).job().is_none(), "{source}");
    }
}

#[test]
fn at_the_bound_of_subjects_a_claim_names_nobody() {
    let table = table();
    table.state.lock().pool_capacity = 1;
    let range = StaticLease {
        sources: vec!["10.77.3.0/24".parse().unwrap()],
        identity: job("acme/api", ""),
        pinned: None,
    };
    table.set_static(vec![range], at(0));
    let first = table.lookup(ip("10.77.3.1"), at(0));
    assert!(table.enrich(ip("10.77.3.2"), job("acme/api", "7"), at(0)));
    assert_eq!(judged(&table, "10.77.3.2", 0), Err(Reason::Limit));
    assert!(table.lookup(ip("10.77.3.2"), at(0)).job().is_none());
    assert_eq!(first.job().unwrap().identity.run_id, "");
}
