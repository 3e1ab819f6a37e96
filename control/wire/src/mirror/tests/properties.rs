//! Random histories: a mirror that missed nothing, one that heard everything twice, one that came late and a plain list of
//! what was said last are the same.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SCOPES: [&str; 4] = [
    "workflow:acme/web/ci.yml",
    "repo:acme/web",
    "org:acme",
    "cluster:prod",
];
const TEXTS: [&str; 4] = [
    "egress-policy: audit\n",
    "allowed-endpoints: a.test:443\nuse: [s0]\n",
    "use: [s1]\nlockdown-mode: {enabled: true}\n",
    "egress-policy: nonsense\n",
];
const SETS: [&str; 3] = ["- b.test:443\n", "- c.test:443\n", "- 'https://no'\n"];
const PATTERNS: [&str; 4] = ["evil.test", "*.bad.test", "203.0.113.0/24", "not a pattern"];

fn changes() -> impl Strategy<Value = Change> {
    let id = 0..3_usize;
    prop_oneof![
        (id.clone(), vec((0..4_usize, 0..9_u64), 1..3)).prop_map(|(id, texts)| {
            let versions = texts.into_iter().enumerate();
            let versions = versions.map(|(at, (text, since))| version(at as u32 + 1, since, TEXTS[text]));
            policy(&format!("p{id}"), versions.collect())
        }),
        id.clone().prop_map(|id| Change::PolicyGone {
            id: format!("p{id}").into()
        }),
        (0..2_usize, 0..3_usize).prop_map(|(name, text)| set("acme", &format!("s{name}"), SETS[text])),
        (0..2_usize).prop_map(|name| Change::SetGone {
            owner: "acme".into(),
            name: format!("s{name}").into()
        }),
        (0..4_usize, 0..4_usize).prop_map(|(scope, id)| {
            let policy = if id == 3 { String::new() } else { format!("p{id}") };
            attach(SCOPES[scope], &policy)
        }),
        (id.clone(), 0..3_usize)
            .prop_map(|(id, text)| token(&format!("t{id}"), &format!("text-{id}-{text}"))),
        id.clone().prop_map(|id| Change::TokenGone {
            id: format!("t{id}").into()
        }),
        (0..2_usize, 0..2_usize)
            .prop_map(|(url, aud)| issuer(&format!("https://i{url}.test"), &format!("{aud}"))),
        (0..2_usize).prop_map(|url| Change::IssuerGone {
            issuer: format!("https://i{url}.test")
        }),
        (0..3_usize, vec(0..4_usize, 0..3), vec(0..4_usize, 0..3)).prop_map(|(layer, add, remove)| {
            let texts = |all: Vec<usize>| all.into_iter().map(|one| PATTERNS[one]).collect::<Vec<_>>();
            block(BlockLayer::ALL[layer], &texts(add), &texts(remove))
        }),
        (id.clone(), 0..3_usize).prop_map(|(id, host)| lease(&format!("j{id}"), &format!("10.0.0.{host}"))),
        (id, any::<bool>()).prop_map(|(id, quarantine)| {
            let ending = if quarantine {
                Ending::Quarantine
            } else {
                Ending::Release
            };
            lease_gone(&format!("j{id}"), ending)
        }),
    ]
}

fn histories() -> impl Strategy<Value = Vec<Vec<Change>>> {
    vec(vec(changes(), 0..6), 1..8)
}

/// What was said last of everything, without any cleverness.
#[derive(Debug, Default, PartialEq)]
struct Naive {
    things: BTreeMap<String, String>,
    blocks: BTreeSet<(BlockLayer, String)>,
}

impl Naive {
    fn take(&mut self, change: &Change) {
        let text = || serde_json::to_string(change).unwrap();
        let mut put = |key: String, there: bool| {
            if there {
                self.things.insert(key, text());
            } else {
                self.things.remove(&key);
            }
        };
        match change {
            Change::Policy(record) => put(format!("policy {}", record.id), true),
            Change::PolicyGone { id } => put(format!("policy {id}"), false),
            Change::Set(record) => put(format!("set {} {}", record.owner, record.name), true),
            Change::SetGone { owner, name } => put(format!("set {owner} {name}"), false),
            Change::Attachment { scope, policy } => put(format!("attached {scope}"), policy.is_some()),
            Change::Token(token) => put(format!("token {}", token.id), true),
            Change::TokenGone { id } => put(format!("token {id}"), false),
            Change::Issuer(issuer) => put(format!("issuer {}", issuer.issuer), true),
            Change::IssuerGone { issuer } => put(format!("issuer {issuer}"), false),
            Change::Lease(lease) => put(format!("lease {}", lease.id), true),
            Change::LeaseGone { id, .. } => put(format!("lease {id}"), false),
            Change::Block(change) => {
                for pattern in &change.remove {
                    self.blocks.remove(&(change.layer, pattern.clone()));
                }
                for pattern in &change.add {
                    self.blocks.insert((change.layer, pattern.clone()));
                }
            }
        }
    }

    fn of(mirror: &Mirror) -> Self {
        let mut naive = Self::default();
        mirror.snapshot().for_each(|change| naive.take(&change));
        naive
    }
}

/// What follows from a mirror, as text: what is attached where, by version, mode and list, and what is blocked.
fn meaning(mirror: &mut Mirror) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (scope, attached) in mirror.attached() {
        for edition in attached.editions() {
            let egress = match &edition.egress {
                Slot::Vacant => "vacant".to_owned(),
                Slot::Unknown(meta) => format!("unknown {meta:?}"),
                Slot::Policy(policy) => {
                    let names = ["a.test", "b.test", "c.test"].map(|name| allows(policy, name));
                    format!("{:?} {:?} {names:?}", policy.meta, policy.mode)
                }
            };
            all.push(format!(
                "{scope} {:?} {egress} {:?}",
                edition.since, edition.lockdown
            ));
        }
    }
    let layers = layers_of(mirror);
    for name in ["evil.test", "x.bad.test"] {
        let name = DnsName::parse(name).unwrap();
        all.push(format!(
            "{:?}",
            layers.each_ref().map(|layer| layer.find_name(&name))
        ));
    }
    all.push(format!("{}", mirror.unread_patterns()));
    all.sort();
    all
}

proptest! {
    #[test]
    fn a_mirror_holds_what_was_said_last_however_often_it_was_said(
        history in histories(),
        resent in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut naive = Naive::default();
        let (mut once, mut often) = (Mirror::new(), Mirror::new());
        let batches: Vec<Batch> = history
            .into_iter()
            .enumerate()
            .map(|(at, changes)| batch(at == 0, at as u64 + 1, changes))
            .collect();
        for (at, batch) in batches.iter().enumerate() {
            batch.changes.iter().for_each(|change| naive.take(change));
            once.apply(batch.clone());
            often.apply(batch.clone());
            for again in &resent {
                let again = &batches[again.index(at + 1)];
                if !again.reset {
                    let touched = often.apply(again.clone());
                    prop_assert_eq!(touched, Touched::default());
                }
            }
        }
        prop_assert_eq!(Naive::of(&once), naive);
        prop_assert_eq!(Naive::of(&often), Naive::of(&once));
        prop_assert_eq!(meaning(&mut often), meaning(&mut once));
    }

    #[test]
    fn a_snapshot_of_a_mirror_makes_the_same_mirror(history in histories(), stale in histories()) {
        let follow = |history: Vec<Vec<Change>>| {
            let mut mirror = Mirror::new();
            for (at, changes) in history.into_iter().enumerate() {
                mirror.apply(batch(at == 0, at as u64 + 1, changes));
            }
            mirror
        };
        let mut source = follow(history);
        let snapshot = Batch {
            epoch: "one".into(),
            reset: true,
            changes: source.snapshot().collect(),
            generation: source.generation(),
            ..Batch::default()
        };
        let (mut fresh, mut late) = (Mirror::new(), follow(stale));
        fresh.apply(snapshot.clone());
        let touched = late.apply(snapshot.clone());
        for mirror in [&mut fresh, &mut late] {
            prop_assert_eq!(Naive::of(mirror), Naive::of(&source));
            prop_assert_eq!(meaning(mirror), meaning(&mut source));
            prop_assert_eq!(mirror.resume(), source.resume());
        }
        prop_assert_eq!(late.apply(snapshot), Touched::default(), "the same snapshot again");
        // Whoever followed the touches holds the leases that are there.
        let held: BTreeSet<_> = touched.leases.iter().filter_map(|touch| match touch {
            LeaseTouch::New(lease) => Some(lease.id.clone()),
            LeaseTouch::Gone { .. } => None,
        }).collect();
        prop_assert!(held.iter().all(|id| source.leases().any(|lease| lease.id == *id)));
    }
}
