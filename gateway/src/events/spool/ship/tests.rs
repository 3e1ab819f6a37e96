//! Shipping to a store of the tests' own, that loses answers, refuses, hangs and goes away.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;

use compact_str::CompactString;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tidegate_control_wire::batch::BatchHead;
use tidegate_policy::Moment;
use tidegate_policy::event::NetworkEvent;
use tidegate_policy::verdict::Verdict;
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::events::encode::Encoded;
use crate::events::queue::Losses;
use crate::events::spool::tests::fixture::{entries, event};

/// Longer than any wait of the shipper; under a paused clock it costs nothing.
const LONG: Duration = Duration::from_mins(2);

/// What becomes of a batch.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Stored, and answered.
    Stored,
    /// Stored; the answer is lost.
    AnswerLost,
    /// Lost on the way.
    Lost,
    /// Nothing is stored, though the answer is a good one.
    Nothing,
    /// No answer for so long.
    Hang(Duration),
}

/// A store, and the way to it.
struct Plane {
    link: watch::Sender<bool>,
    fates: Mutex<VecDeque<Fate>>,
    /// Batches of more entries are refused.
    most: Mutex<usize>,
    /// Batches with an event of this name are refused.
    poison: Mutex<Option<String>>,
    upto: Mutex<HashMap<(CompactString, Lane), u64>>,
    /// Names, as they were stored.
    stored: watch::Sender<Vec<String>>,
    /// Lane and entries of each batch that came.
    asked: Mutex<Vec<(Lane, usize)>>,
    /// What the last heads said.
    dropped: Mutex<HashMap<Lane, u64>>,
}

impl Plane {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            link: watch::Sender::new(true),
            fates: Mutex::default(),
            most: Mutex::new(usize::MAX),
            poison: Mutex::default(),
            upto: Mutex::default(),
            stored: watch::Sender::default(),
            asked: Mutex::default(),
            dropped: Mutex::default(),
        })
    }

    fn store(&self, body: &[u8]) -> Result<BatchStored, ShipError> {
        let end = body.iter().position(|byte| *byte == b'\n').unwrap();
        let head: BatchHead = serde_json::from_slice(&body[..end]).unwrap();
        let entries = entries(&body[end + 1..]);
        let name = |at: usize| entries[at].1["event"]["name"].as_str().unwrap().to_owned();
        self.asked.lock().push((head.lane, entries.len()));
        self.dropped.lock().insert(head.lane, head.dropped);
        let poison = self.poison.lock().clone();
        let poisoned = poison.is_some_and(|poison| (0..entries.len()).any(|at| name(at) == poison));
        if entries.len() > *self.most.lock() || poisoned {
            return Err(ShipError::Refused("413 too large".into()));
        }
        let fate = self.fates.lock().pop_front().unwrap_or(Fate::Stored);
        let mut upto = self.upto.lock();
        let upto = upto.entry((head.spool, head.lane)).or_default();
        if matches!(fate, Fate::Stored | Fate::AnswerLost) {
            for (at, (seq, _)) in entries.iter().enumerate() {
                if *seq > *upto {
                    *upto = *seq;
                    self.stored.send_modify(|stored| stored.push(name(at)));
                }
            }
        }
        match fate {
            Fate::Stored | Fate::Nothing => Ok(BatchStored {
                stored: *upto,
                refused: 0,
            }),
            Fate::AnswerLost | Fate::Lost | Fate::Hang(_) => Err(ShipError::Later("lost".into())),
        }
    }

    fn names(&self) -> Vec<String> {
        self.stored.borrow().clone()
    }

    async fn has(&self, count: usize) -> Vec<String> {
        let mut stored = self.stored.subscribe();
        let waited = timeout(LONG, stored.wait_for(|stored| stored.len() >= count)).await;
        assert!(
            waited.is_ok(),
            "{count} events are not stored, but {:?}",
            self.names()
        );
        self.names()
    }
}

impl Carrier for Plane {
    fn reachable(&self) -> Pending<'_, ()> {
        Box::pin(async {
            drop(self.link.subscribe().wait_for(|up| *up).await);
        })
    }

    fn ship(&self, batch: Bytes) -> Pending<'_, Result<BatchStored, ShipError>> {
        Box::pin(async move {
            if !*self.link.borrow() {
                return Err(ShipError::Later("away".into()));
            }
            let hang = match self.fates.lock().front() {
                Some(Fate::Hang(long)) => *long,
                _ => Duration::ZERO,
            };
            sleep(hang).await;
            self.store(&batch)
        })
    }
}

/// A spool, and what ships it to a plane.
struct Scene {
    dir: tempfile::TempDir,
    plane: Arc<Plane>,
    spool: Arc<Spool>,
    shipper: Shipper,
    tasks: JoinSet<()>,
}

impl Scene {
    fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap(), Plane::new())
    }

    fn over(dir: tempfile::TempDir, plane: Arc<Plane>) -> Self {
        let spool = Spool::new(dir.path(), 16 << 20);
        spool.open(Moment::from_millis(0));
        let shipper = Shipper::new(Arc::clone(&spool), Arc::clone(&plane) as Arc<dyn Carrier>);
        Self {
            dir,
            plane,
            spool,
            shipper,
            tasks: JoinSet::new(),
        }
    }

    fn start(mut self) -> Self {
        self.shipper.start(&mut self.tasks);
        self
    }

    fn fates(&self, fates: impl IntoIterator<Item = Fate>) {
        self.plane.fates.lock().extend(fates);
    }

    fn append(&self, events: &[NetworkEvent]) {
        let events = Encoded::of(events);
        self.spool
            .append(&events, &[], Losses::default(), Moment::from_millis(0));
    }

    fn refusals(&self, numbers: std::ops::Range<u32>) {
        let events: Vec<_> = numbers
            .map(|n| event("job_1", &format!("n{n}.test"), Verdict::Refuse))
            .collect();
        self.append(&events);
    }

    /// Waits until the spool holds nothing.
    async fn drained(&self) {
        let empty = async {
            while self.spool.depth().entries > 0 {
                sleep(GATHER).await;
            }
        };
        let waited = timeout(LONG, empty).await;
        assert!(waited.is_ok(), "it is not empty: {:?}", self.spool.depth());
    }

    /// The next process, after a kill.
    async fn killed(mut self) -> Self {
        self.tasks.shutdown().await;
        Self::over(self.dir, self.plane).start()
    }
}

fn named(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|n| format!("n{n}.test")).collect()
}

#[tokio::test(start_paused = true)]
async fn events_arrive_as_they_come() {
    let scene = Scene::new().start();
    for n in 0..5 {
        let begun = Instant::now();
        scene.refusals(n..n + 1);
        assert_eq!(scene.plane.has(n as usize + 1).await, named(0..n + 1));
        assert!(
            begun.elapsed() < Duration::from_millis(100),
            "{:?}",
            begun.elapsed()
        );
    }
    scene.drained().await;
    assert_eq!(scene.spool.depth().ship_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_batch_without_an_answer_is_sent_again_and_stored_once() {
    let scene = Scene::new();
    scene.refusals(0..100);
    scene.fates([
        Fate::Nothing,
        Fate::AnswerLost,
        Fate::Lost,
        Fate::AnswerLost,
        Fate::Hang(Duration::from_secs(15)),
    ]);
    let scene = scene.start();
    scene.drained().await;
    assert_eq!(scene.plane.names(), named(0..100));
    assert_eq!(scene.plane.asked.lock().len(), 6);
    assert_eq!(scene.spool.depth().dropped, Losses::default());
}

#[tokio::test(start_paused = true)]
async fn kills_with_batches_on_their_way_cost_nothing_and_double_nothing() {
    let mut scene = Scene::new();
    for round in 0..6 {
        scene.refusals(round * 10..round * 10 + 10);
        scene.fates([Fate::AnswerLost, Fate::Lost]);
        scene = scene.killed().await;
        scene.plane.has(1).await;
    }
    scene.drained().await;
    assert_eq!(scene.plane.names(), named(0..60));
}

#[tokio::test(start_paused = true)]
async fn refusals_go_first_and_a_flood_of_them_does_not_hold_permits_for_ever() {
    let scene = Scene::new();
    scene.append(&[event("job_1", "permit.test", Verdict::Permit)]);
    scene.refusals(0..100);
    // A store that takes one refusal in 30 ms.
    *scene.plane.most.lock() = 1;
    let scene = scene.start();
    let names = scene.plane.has(101).await;
    let at = names.iter().position(|name| name == "permit.test").unwrap();
    assert!(at > 0, "{names:?}");

    let scene = Scene::new();
    scene.append(&[event("job_1", "permit.test", Verdict::Permit)]);
    scene.refusals(0..1);
    // Refusals that the store does not get to see.
    scene.fates(std::iter::repeat_n(Fate::Nothing, 3));
    let scene = scene.start();
    scene.drained().await;
    assert_eq!(scene.plane.names().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_less_gets_smaller_batches_and_larger_ones_again() {
    let scene = Scene::new();
    scene.refusals(0..1_000);
    *scene.plane.most.lock() = 100;
    let scene = scene.start();
    assert_eq!(scene.plane.has(1_000).await, named(0..1_000));
    scene.drained().await;
    *scene.plane.most.lock() = usize::MAX;
    scene.refusals(1_000..1_001);
    scene.drained().await;
    scene.refusals(1_001..1_150);
    scene.drained().await;
    scene.refusals(1_150..1_450);
    scene.drained().await;
    assert_eq!(scene.plane.asked.lock().last(), Some(&(Lane::Refusals, 300)));
    assert_eq!(scene.spool.depth().dropped, Losses::default());
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_refused_by_itself_is_dropped_told_and_blocks_nobody() {
    let scene = Scene::new();
    scene.refusals(0..50);
    *scene.plane.poison.lock() = Some("n17.test".into());
    let scene = scene.start();
    let mut want = named(0..50);
    want.remove(17);
    assert_eq!(scene.plane.has(49).await, want);
    scene.drained().await;
    assert_eq!(scene.spool.depth().dropped.refusals, 1);
    scene.refusals(50..51);
    scene.plane.has(50).await;
    assert_eq!(scene.plane.dropped.lock()[&Lane::Refusals], 1);
}

/// A proxy in between that refuses whatever comes must not empty the spool at the speed of the network.
#[tokio::test(start_paused = true)]
async fn where_everything_is_refused_little_is_lost() {
    let scene = Scene::new();
    scene.refusals(0..100);
    *scene.plane.most.lock() = 0;
    let scene = scene.start();
    sleep(Duration::from_mins(1)).await;
    let lost = scene.spool.depth().dropped.refusals;
    assert!((1..=25).contains(&lost), "{lost}");
    *scene.plane.most.lock() = usize::MAX;
    let rest = scene.plane.has(100 - 25).await;
    scene.drained().await;
    assert!(rest.iter().any(|name| name == "n99.test"));
}

#[tokio::test(start_paused = true)]
async fn while_control_is_away_nothing_is_tried_and_all_goes_when_it_is_back() {
    let scene = Scene::new().start();
    scene.plane.link.send_replace(false);
    scene.refusals(0..10);
    sleep(Duration::from_hours(1)).await;
    let tries = scene.plane.asked.lock().len();
    assert_eq!((tries, scene.plane.names().len()), (0, 0));
    assert_eq!(scene.spool.depth().entries, 10);
    scene.plane.link.send_replace(true);
    assert_eq!(scene.plane.has(10).await, named(0..10));
    scene.drained().await;
}

#[tokio::test(start_paused = true)]
async fn at_the_end_what_waits_is_tried_once_more_for_a_second_and_else_kept() {
    let mut scene = Scene::new().start();
    scene.refusals(0..10);
    scene.plane.has(10).await;
    scene.tasks.shutdown().await;
    scene.refusals(10..20);
    scene.spool.close();
    scene.shipper.finish().await;
    assert_eq!(scene.plane.names(), named(0..20));

    scene.refusals(20..30);
    scene.fates([Fate::Hang(LONG)]);
    let begun = Instant::now();
    scene.shipper.finish().await;
    assert!(begun.elapsed() <= LAST, "{:?}", begun.elapsed());
    scene.plane.fates.lock().clear();
    let scene = Scene::over(scene.dir, scene.plane).start();
    assert_eq!(scene.plane.has(30).await, named(0..30));
}
