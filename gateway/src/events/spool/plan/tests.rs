//! The order in which things go, over segments in memory.

use proptest::prelude::*;
use tidegate_policy::verdict::Verdict;

use super::*;
use crate::events::spool::edit::{self, Edited, Marks};
use crate::events::spool::tests::fixture::{counts, event, lines};

#[derive(Clone, Default)]
struct Model {
    text: Vec<u8>,
    merged: bool,
    parties: Option<Parties>,
}

impl Model {
    fn held(&self) -> Held<'_> {
        Held {
            mergeable: !self.merged,
            free: !self.text.is_empty(),
            parties: self.parties.as_ref(),
        }
    }
}

/// Both lanes, in segments of some events.
#[derive(Default)]
struct Spool {
    permits: Vec<Model>,
    refusals: Vec<Model>,
    dropped: u64,
}

const MARKS: Marks = Marks {
    stored: 0,
    pinned: 0,
    tried: 0,
};

impl Spool {
    fn bytes(&self) -> u64 {
        let all = self.permits.iter().chain(&self.refusals);
        all.map(|one| one.text.len() as u64).sum()
    }

    fn refusals(&self) -> HashMap<String, u64> {
        let text: Vec<u8> = self.refusals.iter().flat_map(|one| one.text.clone()).collect();
        counts(&text)
    }

    fn noise(&self) -> HashMap<CompactString, u64> {
        let text: Vec<u8> = self.refusals.iter().flat_map(|one| one.text.clone()).collect();
        edit::survey(&text, MARKS, usize::MAX)
    }

    fn kept(&self) -> u64 {
        let permits: Vec<u8> = self.permits.iter().flat_map(|one| one.text.clone()).collect();
        counts(&permits).values().sum::<u64>() + self.refusals().values().sum::<u64>()
    }

    fn replace(&mut self, lane: Lane, at: usize, edited: Edited) {
        self.dropped += edited.dropped;
        let of = match lane {
            Lane::Permits => &mut self.permits,
            Lane::Refusals => &mut self.refusals,
        };
        of[at].text = edited.text;
        of[at].parties = None;
    }

    /// Steps until there is room, or none to be made; what each step may do is asserted.
    fn make_room(&mut self, lane: Lane, over_bound: impl Fn(u64) -> u64) -> bool {
        for _ in 0..10_000 {
            let over = over_bound(self.bytes());
            if over == 0 {
                return true;
            }
            let (permits, refusals): (Vec<_>, Vec<_>) = (
                self.permits.iter().map(Model::held).collect(),
                self.refusals.iter().map(Model::held).collect(),
            );
            let step = decide(&Full {
                permits: &permits,
                refusals: &refusals,
                lane,
                over,
                worth: 2_000,
            });
            let before = (self.refusals(), self.kept() + self.dropped);
            match step {
                Step::Nothing => return false,
                Step::Merge(lane, at) => {
                    let of = if lane == Lane::Permits {
                        &mut self.permits
                    } else {
                        &mut self.refusals
                    };
                    of[at].merged = true;
                    let merged = edit::merge(&of[at].text.clone(), MARKS);
                    self.replace(lane, at, merged);
                    assert_eq!(self.refusals(), before.0);
                }
                Step::Clear(at) => {
                    assert!(self.permits.iter().all(|one| one.merged), "merging comes first");
                    assert!(
                        self.permits[..at].iter().all(|one| one.text.is_empty()),
                        "the oldest goes first"
                    );
                    let cleared = edit::clear(&self.permits[at].text, MARKS);
                    self.replace(Lane::Permits, at, cleared);
                    assert_eq!(self.refusals(), before.0);
                }
                Step::Survey(at) => {
                    self.refusals[at].parties = Some(edit::survey(&self.refusals[at].text, MARKS, 100));
                }
                Step::Thin { at, party, need } => {
                    assert_eq!(lane, Lane::Refusals, "a permit costs no refusal");
                    assert!(
                        self.permits.iter().all(|one| one.text.is_empty()),
                        "permits go first"
                    );
                    let noise = self.noise();
                    assert!(
                        noise.values().all(|bytes| *bytes <= noise[&party]),
                        "{party} of {noise:?}"
                    );
                    let thinned = edit::thin(&self.refusals[at].text, &party, need, MARKS);
                    assert!(thinned.dropped > 0, "every step gets on");
                    self.replace(Lane::Refusals, at, thinned);
                    self.refusals[at].parties = Some(edit::survey(&self.refusals[at].text, MARKS, 100));
                    let mut after = self.refusals();
                    if let Some(had) = before.0.get(party.as_str()) {
                        after.insert(party.to_string(), *had);
                    }
                    assert_eq!(after, before.0, "nobody else pays");
                }
            }
            assert_eq!(
                self.kept() + self.dropped,
                before.1,
                "what is not kept is counted"
            );
        }
        panic!("making room does not end");
    }
}

fn segments(of: &[Vec<(u8, u8)>], verdict: Verdict) -> Vec<Model> {
    let mut seq = 0;
    let mut segment = |entries: &Vec<(u8, u8)>| {
        let events: Vec<_> = entries
            .iter()
            .map(|(job, name)| {
                seq += 1;
                (
                    seq,
                    event(&format!("job_{job}"), &format!("n{name}.test"), verdict),
                )
            })
            .collect();
        Model {
            text: lines(&events),
            ..Model::default()
        }
    };
    of.iter().map(&mut segment).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn room_is_made_in_the_order_of_the_rules(
        permits in proptest::collection::vec(proptest::collection::vec((0..3_u8, 0..3_u8), 1..12), 0..4),
        refusals in proptest::collection::vec(proptest::collection::vec((0..4_u8, 0..6_u8), 1..12), 0..4),
        percent in 0..100_u64,
        for_refusals in any::<bool>(),
    ) {
        let mut spool = Spool {
            permits: segments(&permits, Verdict::Permit),
            refusals: segments(&refusals, Verdict::Refuse),
            dropped: 0,
        };
        let bound = spool.bytes() * percent / 100;
        let refused = spool.refusals();
        let lane = if for_refusals { Lane::Refusals } else { Lane::Permits };
        let made = spool.make_room(lane, |bytes| bytes.saturating_sub(bound));
        prop_assert!(made || (!for_refusals && spool.refusals() == refused));
    }
}

#[test]
fn a_noisy_job_pays_for_its_noise_alone() {
    let noisy = (0..400).map(|n| (9, n as u8)).collect();
    let mut spool = Spool {
        refusals: segments(
            &[vec![(1, 1), (2, 1)], noisy, vec![(1, 2), (2, 2)]],
            Verdict::Refuse,
        ),
        ..Spool::default()
    };
    let bound = spool.bytes() / 4;
    assert!(spool.make_room(Lane::Refusals, |bytes| bytes.saturating_sub(bound)));
    let left = spool.refusals();
    assert_eq!((left["job_1"], left["job_2"]), (2, 2));
    assert!(left["job_9"] < 400 && left["job_9"] > 10, "{left:?}");
}
