//! `apply: next-job`: the edition that a lease is governed by.

use super::*;

/// The version that governs a job of acme/web that began at this generation.
fn version_at(set: &PolicySet, began: Generation) -> String {
    decided(&set.effective(&Asked::leased(&declared("acme/web"), began, &runners())))
}

fn edition(since: u64, name: &str) -> Edition {
    Edition {
        since: Generation(since),
        egress: slot(name),
        lockdown: None,
    }
}

#[test]
fn a_lease_keeps_the_edition_it_began_with() {
    let attached = Attached::new(vec![
        edition(30, "third"),
        edition(10, "first"),
        edition(20, "second"),
    ]);
    let set = set([("repo:acme/web".parse().unwrap(), attached)]);
    for (began, name) in [
        (0, "first"),
        (9, "first"),
        (10, "first"),
        (19, "first"),
        (20, "second"),
        (29, "second"),
        (30, "third"),
        (31, "third"),
    ] {
        assert_eq!(
            version_at(&set, Generation(began)),
            format!("{name}@repo:acme/web"),
            "began at {began}"
        );
    }
    assert_eq!(version_at(&set, Generation::NEWEST), "third@repo:acme/web");
}

#[test]
fn an_edition_applied_now_governs_leases_that_began_before_it() {
    let attached = Attached::new(vec![edition(30, "now")]);
    let set = set([("repo:acme/web".parse().unwrap(), attached)]);
    assert_eq!(version_at(&set, Generation(1)), "now@repo:acme/web");
}

#[test]
fn of_two_editions_of_one_generation_the_later_one_governs() {
    let attached = Attached::new(vec![edition(10, "one"), edition(20, "two"), edition(20, "three")]);
    let names: Vec<_> = attached
        .editions()
        .map(|edition| edition.policy().unwrap().name.clone())
        .collect();
    assert_eq!(names, ["one", "two", "three"]);
    let set = set([("repo:acme/web".parse().unwrap(), attached)]);
    assert_eq!(version_at(&set, Generation(20)), "three@repo:acme/web");
    assert_eq!(version_at(&set, Generation(19)), "one@repo:acme/web");
}

#[test]
fn an_attachment_without_editions_leaves_the_decision_to_the_next_scope() {
    let set = set([
        ("repo:acme/web".parse().unwrap(), Attached::new(Vec::new())),
        egress("org:acme", slot("org")),
    ]);
    assert_eq!(version_at(&set, Generation(5)), "org@org:acme");
}

#[test]
fn static_leases_and_unleased_sources_get_the_newest_edition() {
    let (job, network) = (declared("acme/web"), runners());
    assert_eq!(Asked::fixed(&job, None, &network).began, Generation::NEWEST);
    assert_eq!(Asked::unleased(&network).began, Generation::NEWEST);
}

#[test]
fn a_generation_reads_back_as_a_number() {
    let text = serde_json::to_string(&Generation(7)).unwrap();
    assert_eq!((text.as_str(), Generation(7).to_string().as_str()), ("7", "7"));
    assert_eq!(serde_json::from_str::<Generation>(&text).unwrap(), Generation(7));
}
