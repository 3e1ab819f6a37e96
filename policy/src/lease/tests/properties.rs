//! Invariants of the table under random histories.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::state::{Hold, Place};
use super::*;

const SOURCES: [&str; 8] = [
    "10.77.0.1",
    "10.77.0.2",
    "10.77.3.1",
    "10.77.3.2",
    "fd77::1",
    "fd77::2",
    "fd77::3",
    "10.88.0.1",
];
const REPOS: [&str; 3] = ["acme/web", "acme/api", "other/x"];

#[derive(Clone, Debug)]
enum Step {
    Register {
        sources: Vec<usize>,
        repo: usize,
        credential: usize,
        mac: Option<u8>,
    },
    End(usize),
    Expire(u64),
    Observe(Vec<(usize, u8)>),
    Release(usize),
    Adopt {
        /// Under the id of the lease that holds this source, if any, else under its own.
        id: usize,
        sources: Vec<(usize, Option<u8>)>,
        repo: usize,
        began: u64,
    },
    Quarantine(Vec<(usize, Option<u8>)>),
    Enrich(usize, usize),
    Clear(usize),
    Static(Vec<(usize, usize)>),
    Networks(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let source = || 0..SOURCES.len();
    let register = (
        prop::collection::vec(source(), 1..3),
        0..REPOS.len(),
        0..5_usize,
        prop::option::of(1..4_u8),
    );
    let machine = move || (source(), prop::option::of(1..4_u8));
    let adopt = (
        source(),
        prop::collection::vec(machine(), 1..3),
        0..REPOS.len(),
        0..3_u64,
    );
    let step = prop_oneof![
        4 => register.prop_map(|(sources, repo, credential, mac)| Step::Register { sources, repo, credential, mac }),
        2 => source().prop_map(Step::End),
        1 => (0..5_000_u64).prop_map(Step::Expire),
        3 => prop::collection::vec((source(), 1..4_u8), 0..8).prop_map(Step::Observe),
        1 => source().prop_map(Step::Release),
        3 => adopt.prop_map(|(id, sources, repo, began)| Step::Adopt { id, sources, repo, began }),
        1 => prop::collection::vec(machine(), 1..3).prop_map(Step::Quarantine),
        1 => (source(), 0..REPOS.len()).prop_map(|(source, repo)| Step::Enrich(source, repo)),
        1 => source().prop_map(Step::Clear),
        1 => prop::collection::vec((0..SOURCES.len() + 1, 0..REPOS.len()), 0..3).prop_map(Step::Static),
        1 => any::<bool>().prop_map(Step::Networks),
    ];
    prop::collection::vec(step, 1..40)
}

fn networks(wide: bool) -> Vec<Network> {
    let ranges: &[&str] = if wide {
        &["10.77.0.0/16", "fd77::/64"]
    } else {
        &["10.77.0.0/24", "fd77::/64"]
    };
    vec![network("runners", ranges), network("other", &["10.88.0.0/16"])]
}

/// Does one step; gives back the sources that it reports.
fn apply(table: &LeaseTable, step: &Step, now: &mut u64) -> Vec<IpAddr> {
    let mac = |n: u8| Mac([2, 0, 0, 0, 0, n]);
    match step {
        Step::Register {
            sources,
            repo,
            credential,
            mac: at_mac,
        } => {
            let credential = match credential {
                0 => Credential::Claimed,
                1 => runner_token(&[]),
                2 => Credential::Oidc,
                3 => Credential::Forge,
                _ => provisioner(),
            };
            let mut asked = request("", REPOS[*repo], "1", credential);
            asked.sources = sources.iter().map(|at| ip(SOURCES[*at])).collect();
            asked.mac = at_mac.map(mac);
            register_as_previewed(table, asked, at(*now))
        }
        Step::End(source) => match table.lease_at(ip(SOURCES[*source])) {
            Some(lease) => table
                .end(&lease.id, &Party::Operator, at(*now))
                .unwrap_or_default(),
            None => Vec::new(),
        },
        Step::Expire(later) => {
            *now += later;
            table.expire(at(*now))
        }
        Step::Observe(rows) => {
            let row = |(source, n): &(usize, u8)| {
                let network = if *source == 7 { "other" } else { "runners" };
                Neighbour {
                    network: network.into(),
                    ..neighbour(SOURCES[*source], mac(*n))
                }
            };
            table.observe_neighbours(&rows.iter().map(row).collect::<Vec<_>>())
        }
        Step::Adopt {
            id,
            sources,
            repo,
            began,
        } => {
            let held = table.lease_at(ip(SOURCES[*id]));
            let lease = AdoptedLease {
                id: held.map_or_else(
                    || compact_str::format_compact!("adopted-{id}"),
                    |lease| lease.id.clone(),
                ),
                network: if sources[0].0 == 7 { "other" } else { "runners" }.into(),
                sources: sources
                    .iter()
                    .map(|(at, n)| (ip(SOURCES[*at]), n.map(mac)))
                    .collect(),
                identity: job(REPOS[*repo], "1"),
                began: Generation(*began),
                lifetime: HOUR,
            };
            adopt_once(table, &lease, at(*now))
        }
        Step::Quarantine(sources) => {
            let known: Vec<_> = sources
                .iter()
                .map(|(at, n)| (ip(SOURCES[*at]), n.map(mac)))
                .collect();
            table.quarantine(&known, "runners", at(*now))
        }
        Step::Enrich(source, repo) => {
            let holds = table.lookup(ip(SOURCES[*source]), at(*now)).standing == Standing::Leased;
            let was = table.enrich(ip(SOURCES[*source]), job(REPOS[*repo], "2"), at(*now));
            assert_eq!(was, holds, "{}", SOURCES[*source]);
            Vec::new()
        }
        Step::Clear(source) => table
            .clear(ip(SOURCES[*source]), &Party::Operator, at(*now))
            .unwrap_or_default(),
        Step::Release(source) => table.release_quarantine(&[ip(SOURCES[*source])], &Party::Operator),
        Step::Static(leases) => {
            let fixed = |(source, repo): &(usize, usize)| StaticLease {
                sources: vec![
                    SOURCES
                        .get(*source)
                        .map_or_else(|| "10.77.3.0/24".parse().unwrap(), |one| single(one)),
                ],
                identity: job(REPOS[*repo], ""),
                pinned: None,
            };
            table.set_static(leases.iter().map(fixed).collect(), at(*now))
        }
        Step::Networks(wide) => table.set_networks(networks(*wide), at(*now)).changed,
    }
}

/// Registers, and what comes of it is what a preview said.
fn register_as_previewed(table: &LeaseTable, asked: Registration, now: Moment) -> Vec<IpAddr> {
    let ids = || table.leases().into_iter().map(|view| view.lease.id.clone());
    let (preview, before) = (table.preview(&asked, now), ids().collect::<Vec<_>>());
    let granted = match (preview, table.register(asked, now)) {
        (Err(said), Err(refused)) => {
            assert_eq!(said, refused);
            return Vec::new();
        }
        (Ok(said), Ok(granted)) => {
            let after: Vec<_> = ids().collect();
            let gone: BTreeSet<_> = before.into_iter().filter(|id| !after.contains(id)).collect();
            assert_eq!(said.replaces.into_iter().collect::<BTreeSet<_>>(), gone);
            assert!(said.held.is_none_or(|held| Arc::ptr_eq(&held, &granted.lease)));
            assert_eq!(said.identity, granted.lease.job.identity);
            assert_eq!(
                (said.network, said.began),
                (granted.lease.network.clone(), granted.lease.began)
            );
            assert_eq!(said.sources, registered(table, &granted.lease.id));
            granted
        }
        (said, done) => panic!("previewed {said:?}, became {done:?}"),
    };
    granted.changed
}

/// Adopts, and adopting the same again changes nothing.
fn adopt_once(table: &LeaseTable, lease: &AdoptedLease, now: Moment) -> Vec<IpAddr> {
    let Ok(changed) = table.adopt(lease.clone(), now) else {
        return Vec::new();
    };
    let sources = registered(table, &lease.id);
    assert!(
        lease.sources.iter().all(|(source, _)| sources.contains(source)),
        "{sources:?}"
    );
    assert_eq!(table.adopt(lease.clone(), now), Ok(Vec::new()));
    changed
}

/// The sources of a lease, without those that joined.
fn registered(table: &LeaseTable, id: &str) -> Vec<IpAddr> {
    let view = table
        .leases()
        .into_iter()
        .find(|view| view.lease.id == id)
        .unwrap();
    let sources = view.sources.into_iter().filter(|source| !source.joined);
    sources.map(|source| source.address).collect()
}

/// The tables agree with each other.
fn consistent(table: &LeaseTable) -> Result<(), TestCaseError> {
    let state = table.state.lock();
    let mut registered = 0;
    for (key, entry) in &state.leases {
        prop_assert_eq!(*key, entry.lease.subject.id);
        prop_assert_eq!(state.by_id.get(&entry.lease.id), Some(key));
        prop_assert!(
            entry.sources.values().any(|source| !source.joined),
            "a lease of joined addresses only"
        );
        for (address, source) in &entry.sources {
            prop_assert_eq!(state.held.get(address), Some(&Hold::Lease(*key)));
            let network = state.network_of(*address).map(|network| network.name.clone());
            prop_assert_eq!(network.as_ref(), Some(&entry.lease.network));
            if let (false, Some(mac)) = (source.joined, source.mac) {
                registered += 1;
                let bound = state.bound.get(&(entry.lease.network.clone(), mac));
                prop_assert!(bound.is_some_and(|all| all.iter().filter(|one| *one == address).count() == 1));
            }
            prop_assert!(
                state.quarantine.get(*address).is_none(),
                "held and quarantined: {}",
                address
            );
        }
    }
    prop_assert_eq!(state.bound.values().map(Vec::len).sum::<usize>(), registered);
    prop_assert_eq!(state.counts.values().sum::<usize>(), state.leases.len());
    prop_assert_eq!(state.by_id.len(), state.leases.len());
    for (address, hold) in &state.held {
        match hold {
            Hold::Lease(key) => prop_assert!(state.leases[key].sources.contains_key(address)),
            Hold::Beside(first) => prop_assert!(matches!(state.place(*first), Place::Range(..)), "{}", first),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens: the tables agree, every source whose subject changed is reported, and what a
    /// lookup finds is what the state says without the cache.
    #[test]
    fn every_change_is_reported_and_the_cache_never_lies(steps in steps()) {
        let table = table_of(networks(true));
        let mut now = 0;
        for (at_step, step) in steps.iter().enumerate() {
            let before: Vec<Arc<Subject>> = SOURCES.iter().map(|one| table.lookup(ip(one), at(now))).collect();
            let lasting = SOURCES.map(|one| {
                let moved = table.changes().of(table.changes().stripe(ip(one)));
                (moved, table.lookup_lasting(ip(one), at(now)).1)
            });
            let changed = apply(&table, step, &mut now);
            consistent(&table)?;
            // Before anything is looked up, which moves the counters of what was not known.
            let moved = SOURCES.map(|one| table.changes().of(table.changes().stripe(ip(one))));
            for ((source, old), (was, moved)) in SOURCES.iter().zip(&before).zip(lasting.iter().zip(moved)) {
                let found = table.lookup(ip(source), at(now));
                if found.id != old.id {
                    let (count, lasting) = was;
                    let lasted = lasting.is_some_and(|one| one.until.is_none_or(|until| at(now) < until));
                    prop_assert!(!lasted || moved != *count, "step {at_step}: {source} changed, no counter did");
                    // Who was refused everything has no flow to judge again.
                    let had_flows = matches!(old.standing, Standing::Leased | Standing::Unleased);
                    let told = !had_flows || changed.contains(&ip(source));
                    prop_assert!(told, "step {at_step}: {source} changed silently");
                    let gone = old.standing == Standing::Leased && old.job().is_some();
                    let gone = gone && table.subjects().iter().all(|subject| subject.id != old.id);
                    prop_assert!(!gone || governed_by(old).is_err(), "step {at_step}: {source} still permits");
                }
                table.cache.remove(ip(source));
                let anew = table.lookup(ip(source), at(now));
                prop_assert_eq!(found.id, anew.id, "step {}: the cache lied about {}", at_step, source);
                let place = table.state.lock().place(ip(source));
                let wanted = match place {
                    Place::Foreign => Standing::Foreign,
                    Place::Lease(_) | Place::Range(..) => Standing::Leased,
                    Place::Quarantined => Standing::Quarantined,
                    Place::Unbound => Standing::Unbound,
                    Place::Unleased => Standing::Unleased,
                };
                prop_assert_eq!(found.standing, wanted);
            }
        }
    }
}
