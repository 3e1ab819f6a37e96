//! The spool against a store that keeps books: whatever comes between, each verdict is stored once, or still here, or
//! counted as dropped.

use hashbrown::HashMap;
use proptest::prelude::*;

use super::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Happens {
    /// So many events of a job, of so many names: permits or refusals.
    Events {
        job: u8,
        many: u8,
        names: u64,
        permits: bool,
    },
    /// A batch is delivered.
    Delivered { lane: Lane, most: u64 },
    /// A batch is stored, and the answer lost.
    AnswerLost { lane: Lane, most: u64 },
    /// A batch never arrives.
    BatchLost { lane: Lane, most: u64 },
    /// The connection is gone for a while.
    Away,
    /// The process is killed and comes back.
    Kill,
    /// The process ends in order, and comes back.
    Restart,
}

fn lane() -> impl Strategy<Value = Lane> {
    prop_oneof![Just(Lane::Refusals), Just(Lane::Permits)]
}

fn happens(
    names: impl Strategy<Value = u64> + 'static,
    permits: impl Strategy<Value = bool> + 'static,
) -> impl Strategy<Value = Happens> {
    let most = 1..120_u64;
    let events = (0..4_u8, 1..60_u8, names, permits);
    prop_oneof![
        12 => events.prop_map(|(job, many, names, permits)| Happens::Events { job, many, names, permits }),
        3 => (lane(), most.clone()).prop_map(|(lane, most)| Happens::Delivered { lane, most }),
        1 => (lane(), most.clone()).prop_map(|(lane, most)| Happens::AnswerLost { lane, most }),
        1 => (lane(), most).prop_map(|(lane, most)| Happens::BatchLost { lane, most }),
        1 => Just(Happens::Away),
        1 => Just(Happens::Kill),
        1 => Just(Happens::Restart),
    ]
}

/// A store: what of which spool and lane it has, and how many verdicts.
#[derive(Default)]
struct Store {
    upto: HashMap<(CompactString, Lane), u64>,
    verdicts: u64,
    /// Dropped here though the store has it: only where an answer was lost.
    lost_answers: bool,
}

impl Store {
    fn take(&mut self, read: &Read) -> u64 {
        let upto = self
            .upto
            .entry((read.head.spool.clone(), read.head.lane))
            .or_default();
        for (seq, entry) in &read.entries {
            if *seq > *upto {
                self.verdicts += entry["event"]["count"].as_u64().unwrap();
                *upto = *seq;
            }
        }
        *upto
    }
}

struct World {
    dir: tempfile::TempDir,
    spool: Arc<Spool>,
    store: Store,
    taken: u64,
    serial: u64,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            spool: opened(dir.path(), MIN_BYTES),
            dir,
            store: Store::default(),
            taken: 0,
            serial: 0,
        }
    }

    fn happen(&mut self, what: &Happens) {
        match *what {
            Happens::Events {
                job,
                many,
                names,
                permits,
            } => {
                let verdict = if permits { Verdict::Permit } else { Verdict::Refuse };
                let events: Vec<_> = (0..many)
                    .map(|_| {
                        self.serial += 1;
                        let name = format!("n{}.test", self.serial % names);
                        event(&format!("job_{job}"), &name, verdict)
                    })
                    .collect();
                self.taken += u64::from(many);
                append(&self.spool, &events);
            }
            Happens::Delivered { lane, most } => {
                if let Some(read) = next_of(&self.spool, lane, most) {
                    let upto = self.store.take(&read);
                    self.spool.stored(lane, (&read.batch, upto, 0));
                }
            }
            Happens::AnswerLost { lane, most } => {
                if let Some(read) = next_of(&self.spool, lane, most) {
                    self.store.take(&read);
                    self.store.lost_answers = true;
                    self.spool.failed(lane);
                }
            }
            Happens::BatchLost { lane, most } => {
                next_of(&self.spool, lane, most);
                self.spool.failed(lane);
            }
            Happens::Away => Lane::ALL.into_iter().for_each(|lane| self.spool.pause(lane)),
            Happens::Kill => {
                self.spool.keep();
                self.spool = opened(self.dir.path(), MIN_BYTES);
            }
            Happens::Restart => {
                self.spool.close();
                self.spool.finish();
                self.spool = opened(self.dir.path(), MIN_BYTES);
            }
        }
        assert!(self.spool.depth().bytes <= MIN_BYTES, "{:?}", self.spool.depth());
        assert_eq!(self.spool.depth().disk_error, None);
    }

    /// Everything is delivered; the books are compared.
    fn settle(&mut self) -> (u64, u64) {
        let dropped = self.spool.depth().dropped;
        for lane in Lane::ALL {
            while let Some(read) = next(&self.spool, lane) {
                let upto = self.store.take(&read);
                assert!(self.spool.stored(lane, (&read.batch, upto, 0)) < 100_000);
                assert_eq!(read.head.dropped, dropped.of(lane));
            }
        }
        assert_eq!(self.spool.depth().entries, 0);
        (self.store.verdicts, dropped.total())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn each_verdict_is_stored_once_or_counted_as_dropped(
        story in proptest::collection::vec(
            happens(prop_oneof![Just(2_u64), Just(5), Just(1_000)], any::<bool>()),
            1..60,
        ),
    ) {
        let mut world = World::new();
        for what in &story {
            world.happen(what);
        }
        let (stored, dropped) = world.settle();
        if world.store.lost_answers {
            // What was stored without our knowing may be dropped, and counted, here.
            prop_assert!(stored <= world.taken && stored + dropped >= world.taken, "{stored} + {dropped} of {}", world.taken);
        } else {
            prop_assert_eq!(stored + dropped, world.taken);
        }
    }

    /// Few things are said, again and again: merging makes the room that is needed, but for what the store may have.
    #[test]
    fn merging_doubles_nothing_that_the_store_may_have(
        story in any::<bool>().prop_flat_map(|permits| {
            proptest::collection::vec(happens(Just(1_u64), Just(permits)), 40..80)
        }),
    ) {
        let mut world = World::new();
        for what in &story {
            world.happen(what);
        }
        let (stored, dropped) = world.settle();
        if dropped == 0 {
            prop_assert_eq!(stored, world.taken);
        }
        prop_assert!(stored <= world.taken && stored + dropped >= world.taken);
    }
}
