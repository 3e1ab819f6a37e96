//! Precedence by facet, checked against a reference that knows nothing but a list of attachments.

use proptest::prelude::*;

use super::*;
use crate::document::Lockdown;
use crate::verdict::Mode;

/// What a document decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decides {
    Egress(Mode),
    Lockdown,
    Both(Mode),
    /// Egress, by a document that can't be compiled.
    Unusable,
}

impl Decides {
    const ALL: [Self; 6] = [
        Self::Egress(Mode::Block),
        Self::Egress(Mode::Audit),
        Self::Lockdown,
        Self::Both(Mode::Block),
        Self::Both(Mode::Audit),
        Self::Unusable,
    ];

    fn egress(self) -> bool {
        self != Self::Lockdown
    }

    fn lockdown(self) -> bool {
        matches!(self, Self::Lockdown | Self::Both(_))
    }

    fn mode(self) -> Option<Mode> {
        match self {
            Self::Egress(mode) | Self::Both(mode) => Some(mode),
            Self::Lockdown | Self::Unusable => None,
        }
    }

    /// The edition of a document of this kind; its policy's name says where it stands and since when.
    fn edition(self, scope: &str, since: u64) -> Edition {
        let name = called(scope, since);
        let policy = |mode: Mode| {
            Slot::Policy(policy_with(
                &name,
                &format!("egress-policy: {}", mode.as_str()),
                &[],
            ))
        };
        let meta = PolicyMeta {
            id: name.as_str().into(),
            name: name.as_str().into(),
            version: 1,
        };
        let lockdown = LockdownPolicy {
            meta: meta.clone(),
            lockdown: Lockdown {
                enabled: true,
                detections: Vec::new(),
            },
        };
        Edition {
            since: Generation(since),
            egress: match self {
                Self::Egress(mode) | Self::Both(mode) => policy(mode),
                Self::Lockdown => Slot::Vacant,
                Self::Unusable => Slot::Unknown(meta),
            },
            lockdown: self.lockdown().then(|| Arc::new(lockdown)),
        }
    }
}

fn called(scope: &str, since: u64) -> String {
    format!("{scope} since {since}")
}

/// One attachment: the scope, and its versions by the generation that each was published at.
type Attachment = (&'static str, Vec<(u64, Decides)>);

/// The four scopes of the job, and others that must not count.
const PLACES: [&str; 9] = [
    "workflow:acme/web/ci.yml",
    "repo:acme/web",
    "org:acme",
    "cluster:prod",
    "workflow:acme/web/other.yml",
    "workflow:acme/api/ci.yml",
    "repo:acme/api",
    "org:other",
    "cluster:edge",
];

fn attachments() -> impl Strategy<Value = Vec<Attachment>> {
    let versions = prop::collection::btree_map(0..8_u64, prop::sample::select(&Decides::ALL[..]), 1..4);
    let versions = versions.prop_map(|versions| versions.into_iter().collect::<Vec<_>>());
    let places = prop::sample::subsequence(&PLACES[..], 0..=PLACES.len());
    places.prop_flat_map(move |places| {
        let count = places.len();
        (Just(places), prop::collection::vec(versions.clone(), count))
            .prop_map(|(places, versions)| places.into_iter().zip(versions).collect())
    })
}

/// A job of acme/web, of which a part may not be known.
fn somebody(unknown: usize) -> JobIdentity {
    let job = declared("acme/web");
    match unknown {
        1 => JobIdentity {
            workflow: "".into(),
            ..job
        },
        2 => JobIdentity {
            cluster: "".into(),
            ..job
        },
        _ => job,
    }
}

/// The scopes of [`somebody`], and what stands there for a lease that began then: by the rule's own words.
fn reference(
    attachments: &[Attachment],
    unknown: usize,
    began: u64,
) -> Vec<(&'static str, Option<(u64, Decides)>)> {
    let mut places = SCOPES.to_vec();
    places.retain(|scope| {
        !(unknown == 1 && scope.starts_with("workflow") || unknown == 2 && scope.starts_with("cluster"))
    });
    let stands = |scope: &'static str| {
        let (_, versions) = attachments.iter().find(|(at, _)| *at == scope)?;
        let there = versions.iter().filter(|(since, _)| *since <= began);
        there
            .max_by_key(|(since, _)| *since)
            .or(versions.iter().min_by_key(|(since, _)| *since))
            .copied()
    };
    places.into_iter().map(|scope| (scope, stands(scope))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Workflow, else repository, else organization, else cluster, each facet by itself, whatever is attached
    /// elsewhere, and by the edition that the lease began with.
    #[test]
    fn effective_row_precedence_is_by_facet(attachments in attachments(), unknown in 0..3_usize, began in 0..9_u64) {
        let attached = attachments.iter().map(|(scope, versions)| {
            // Published in any order.
            let editions = versions.iter().rev().map(|(since, decides)| decides.edition(scope, *since));
            (scope.parse().unwrap(), Attached::new(editions.collect()))
        });
        let (set, job, network) = (set(attached), somebody(unknown), runners());
        let places = reference(&attachments, unknown, began);
        let first = |facet: fn(Decides) -> bool| {
            places.iter().find_map(|(scope, stands)| stands.filter(|(_, decides)| facet(*decides)).map(|stands| (*scope, stands)))
        };
        let (egress, lockdown) = (first(Decides::egress), first(Decides::lockdown));

        let effective = set.effective(&Asked::leased(&job, Generation(began), &network));
        let wanted = match egress {
            Some((_, (_, Decides::Unusable))) => "policy-unknown".to_owned(),
            Some((scope, (since, _))) => format!("{}@{scope}", called(scope, since)),
            None => "network@network:runners".to_owned(),
        };
        prop_assert_eq!(decided(&effective), wanted);
        let shown = effective.lockdown.map(|(policy, scope)| (scope.to_string(), policy.meta.name.to_string()));
        prop_assert_eq!(shown, lockdown.map(|(scope, (since, _))| (scope.to_owned(), called(scope, since))));
        let until = egress.map_or(places.len() + 1, |(scope, _)| 1 + places.iter().position(|(at, _)| *at == scope).unwrap());
        prop_assert_eq!(effective.considered.len(), until);

        let facets = set.facets(&job, Generation(began));
        let show = |(scope, policy): (&Scope, &Named)| (scope.to_string(), policy.meta.name.to_string(), policy.mode);
        let want = |(scope, (since, decides)): (&str, (u64, Decides))| (scope.to_owned(), called(scope, since), decides.mode());
        let decider = |decider: Option<Decider>| decider.map(|one| show((&one.scope, &one.policy)));
        prop_assert_eq!(decider(facets.egress), egress.map(want));
        prop_assert_eq!(decider(facets.lockdown), lockdown.map(want));
        let considered: Vec<_> = facets.considered.iter().map(|(scope, policy)| {
            (scope.to_string(), policy.as_ref().map(|policy| show((scope, policy))))
        }).collect();
        let all: Vec<_> = places.iter().map(|(scope, stands)| {
            ((*scope).to_owned(), stands.map(|stands| want((scope, stands))))
        }).collect();
        prop_assert_eq!(considered, all);
    }
}
