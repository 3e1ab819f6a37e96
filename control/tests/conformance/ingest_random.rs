//! The property that "once" stands on: however a spool's batches are cut, repeated, delayed and answered into the void,
//! and whenever the control plane restarts, the store holds a beginning of each lane, each event once.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tidegate_control::store::Store;
use tidegate_control_wire::batch::{BatchHead, Lane};

use crate::bench::Bench;
use crate::ingest::{entries, head, ingest, names, rollups};

/// Steps of one run.
const LENGTH: usize = 60;
/// Runs, each on a store of its own spools.
const RUNS: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The spool takes so many events in, with a gap of so many numbers before them.
    Grow { lane: usize, gap: u64, count: u64 },
    /// The spool drops so many.
    Drop { lane: usize, count: u64 },
    /// It sends up to so many of what it thinks is not stored; the answer arrives or not.
    Send {
        lane: usize,
        most: usize,
        answered: bool,
    },
    /// A batch that was sent long ago arrives again.
    Echo { at: usize },
    /// The control plane starts anew.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let lane = 0..2_usize;
    prop_oneof![
        4 => (lane.clone(), 0..3_u64, 1..9_u64).prop_map(|(lane, gap, count)| Step::Grow { lane, gap, count }),
        1 => (lane.clone(), 1..5_u64).prop_map(|(lane, count)| Step::Drop { lane, count }),
        6 => (lane, 0..12_usize, any::<bool>())
            .prop_map(|(lane, most, answered)| Step::Send { lane, most, answered }),
        3 => any::<usize>().prop_map(|at| Step::Echo { at }),
        1 => Just(Step::Reopen),
    ]
}

/// A lane as its gateway has it, and what the store must hold of it.
#[derive(Clone, Debug, Default)]
struct LaneState {
    /// Numbers in the spool, in order.
    numbers: Vec<u64>,
    last: u64,
    dropped: u64,
    /// Up to where the gateway knows that it is stored.
    acknowledged: u64,
    /// Up to where it is.
    stored: u64,
    /// What the store was told of drops.
    told: u64,
}

struct World {
    store: Store,
    spool: String,
    lanes: [LaneState; 2],
    /// Batches that were sent: lane, drops, numbers.
    sent: Vec<(usize, u64, Vec<u64>)>,
}

impl World {
    async fn walk(&mut self, step: Step, bench: &Bench) {
        match step {
            Step::Grow { lane, gap, count } => {
                let lane = &mut self.lanes[lane];
                let from = lane.last + 1 + gap;
                lane.numbers.extend(from..from + count);
                lane.last = from + count - 1;
            }
            Step::Drop { lane, count } => self.lanes[lane].dropped += count,
            Step::Send { lane, most, answered } => {
                let state = &self.lanes[lane];
                let waiting = state
                    .numbers
                    .iter()
                    .copied()
                    .filter(|seq| *seq > state.acknowledged);
                let batch = (lane, state.dropped, waiting.take(most).collect());
                let stored = self.deliver(&batch).await;
                self.sent.push(batch);
                if answered {
                    self.lanes[lane].acknowledged = stored;
                }
            }
            Step::Echo { at } => {
                if let Some(batch) = self.sent.get(at % self.sent.len().max(1)).cloned() {
                    self.deliver(&batch).await;
                }
            }
            Step::Reopen => self.store = bench.open().await,
        }
    }

    async fn deliver(&mut self, (lane, dropped, numbers): &(usize, u64, Vec<u64>)) -> u64 {
        let spool = self.spool.as_str().into();
        let head = BatchHead {
            spool,
            lane: Lane::ALL[*lane],
            dropped: *dropped,
            ..head()
        };
        let answer = ingest(&self.store, head, entries(numbers.iter().copied())).await;
        let state = &mut self.lanes[*lane];
        state.stored = numbers.last().copied().unwrap_or_default().max(state.stored);
        state.told = state.told.max(*dropped);
        assert_eq!(answer.stored, state.stored);
        answer.stored
    }

    /// What the store must hold: how often each name was reached.
    fn expected(&self) -> BTreeMap<String, i64> {
        let mut names = BTreeMap::new();
        for lane in &self.lanes {
            for seq in lane.numbers.iter().filter(|seq| **seq <= lane.stored) {
                *names.entry(format!("n{seq}.test")).or_default() += 1;
            }
        }
        names
    }
}

pub(crate) async fn however_batches_come_each_event_is_stored_once(bench: Bench) {
    let mut runner = TestRunner::default();
    let mut before = BTreeMap::<String, i64>::new();
    let mut told = 0;
    for run in 0..RUNS {
        let steps = prop::collection::vec(step(), LENGTH)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let mut world = World {
            store: bench.open().await,
            spool: format!("s{run}"),
            lanes: Default::default(),
            sent: Vec::new(),
        };
        for step in &steps {
            world.walk(*step, &bench).await;
        }
        for (name, count) in world.expected() {
            *before.entry(name).or_default() += count;
        }
        let mut raw = BTreeMap::<String, i64>::new();
        for name in names(&world.store).await {
            *raw.entry(name).or_default() += 1;
        }
        assert_eq!(raw, before, "{steps:?}");
        let mut sums = BTreeMap::<String, i64>::new();
        for (_, name, verdicts, _) in rollups(&world.store).await {
            *sums.entry(name).or_default() += verdicts;
        }
        assert_eq!(sums, before, "{steps:?}");
        told += world.lanes.iter().map(|lane| lane.told).sum::<u64>();
        let lost: i64 =
            sqlx::query_scalar("SELECT CAST(COALESCE(SUM(dropped), 0) AS BIGINT) FROM event_losses")
                .fetch_one(world.store.events_db().read())
                .await
                .unwrap();
        assert_eq!(lost.unsigned_abs(), told, "{steps:?}");
    }
}
