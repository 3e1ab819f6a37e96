//! Bytes after the verdict: both directions of a connection, half-close and reset preserved, bounded in
//! silence. Owns how bytes move; never what they mean (an [`Inspect`] does that, for as long as it asks to).
//! Driven by the flow's task, which ends a relay by dropping its future.

mod inspect;
pub mod pipes;
pub(crate) mod way;

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use metrics::Counter;

use crate::leg::Leg;
use crate::reactor::Alarm;
pub use inspect::{Inspect, Look};
use pipes::PipePool;
use way::{Broken, Way};

/// Pieces of the idle timeout: silence is noticed after one to `1 + 1/PIECES` of it.
const PIECES: u32 = 4;

/// A relay that lives for so long, or for a piece of the idle timeout, is a lasting one.
const LASTING: Duration = Duration::from_secs(10);

/// What passed through a flow so far. Read by the registry while the relay writes.
#[derive(Debug, Default)]
pub struct Traffic {
    up: AtomicU64,
    down: AtomicU64,
    touched: AtomicBool,
}

impl Traffic {
    /// Bytes from the runner.
    pub fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    /// Bytes to the runner.
    pub fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    /// Counts bytes that a task moved by itself.
    pub fn count(&self, direction: Direction, bytes: usize) {
        let counter = match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
        self.touched.store(true, Ordering::Relaxed);
    }

    /// Returns when nothing moved for `idle`, at most a quarter later.
    pub async fn silence(&self, idle: Duration) {
        let mut quiet = 0;
        while quiet <= PIECES {
            tokio::time::sleep(idle / PIECES).await;
            quiet = if self.touched.swap(false, Ordering::Relaxed) {
                1
            } else {
                quiet + 1
            };
        }
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the runner.
    Up,
    /// To the runner.
    Down,
}

/// How bytes were moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Inside of the kernel.
    Splice,
    /// Through a buffer.
    Copy,
}

/// What relays of one proxy share: pipes, and counters by direction and path.
#[derive(Debug)]
pub struct Means {
    pool: Arc<PipePool>,
    bytes: [Counter; 2],
    paths: [(AtomicU64, Counter); 2],
}

impl Means {
    /// Means with this pool.
    pub fn new(pool: Arc<PipePool>) -> Self {
        let bytes = |direction: &'static str| metrics::counter!("tidegate_flow_bytes_total", "direction" => direction);
        let path = |path: &'static str| metrics::counter!("tidegate_relay_bytes_total", "path" => path);
        let path = |label| (AtomicU64::new(0), path(label));
        Self {
            pool,
            bytes: [bytes("up"), bytes("down")],
            paths: [path("splice"), path("copy")],
        }
    }

    /// Bytes that went this way, of all flows.
    pub fn moved(&self, path: Path) -> u64 {
        self.paths[path as usize].0.load(Ordering::Relaxed)
    }

    /// Counts bytes that a task moved by itself.
    pub fn count(&self, traffic: &Traffic, direction: Direction, bytes: usize) {
        Meter {
            means: self,
            traffic,
            direction,
        }
        .moved(bytes, Path::Copy);
    }
}

/// Where one direction counts its bytes.
#[derive(Debug)]
pub struct Meter<'a> {
    means: &'a Means,
    traffic: &'a Traffic,
    direction: Direction,
}

impl Meter<'_> {
    fn moved(&self, bytes: usize, path: Path) {
        self.traffic.count(self.direction, bytes);
        self.means.bytes[usize::from(self.direction == Direction::Down)].increment(bytes as u64);
        let (count, counter) = &self.means.paths[path as usize];
        count.fetch_add(bytes as u64, Ordering::Relaxed);
        counter.increment(bytes as u64);
    }
}

/// How a relay came to its end.
#[derive(Debug)]
pub(crate) enum End {
    /// Both sides ended their writes.
    Finished,
    /// Nothing moved for the idle timeout.
    Idle,
    /// One side failed, usually by a reset.
    Broken(Broken),
    /// An inspector stopped it.
    Stopped,
}

/// One connection pair to be relayed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relay<'a> {
    /// The runner's connection.
    pub(crate) client: &'a Leg,
    /// The dialled one.
    pub(crate) upstream: &'a Leg,
    /// What all relays share.
    pub(crate) means: &'a Means,
    /// Where this flow counts its bytes.
    pub(crate) traffic: &'a Traffic,
    /// How long nothing may move.
    pub(crate) idle: Duration,
}

/// Why a direction ended early.
#[derive(Debug)]
enum Halt {
    Broken(Broken),
    Stopped,
}

/// What a relay's timer is for: what a short relay is spared, then the idle timeout.
struct Lasting {
    begun: bool,
    quiet: u32,
    next: Duration,
}

impl Lasting {
    fn new(relay: &Relay<'_>) -> Self {
        Self {
            begun: false,
            quiet: 0,
            next: LASTING.min(relay.idle / PIECES),
        }
    }

    /// False when nothing moved for too long.
    fn tick(&mut self, relay: &Relay<'_>) -> bool {
        let piece = relay.idle / PIECES;
        if !self.begun {
            self.begun = true;
            relay.client.guard();
            relay.upstream.last();
            self.next = piece.saturating_sub(self.next);
            return true;
        }
        self.next = piece;
        self.quiet = if relay.traffic.touched.swap(false, Ordering::Relaxed) {
            1
        } else {
            self.quiet + 1
        };
        self.quiet <= PIECES
    }
}

impl Relay<'_> {
    /// Sends `first` (what the client said before the verdict) upstream, then relays until both sides are
    /// done. `watch` sees the bytes of both directions before they pass, until it has seen enough; from
    /// then on what is bulky isn't copied to user space.
    ///
    /// After [`End::Finished`] one end has still to be told that the other's bytes are over, which closing it in
    /// order does; after any other both ends are to be reset, which dropping their `Leg`s does.
    pub(crate) async fn run(self, first: Vec<u8>, watch: &mut (dyn Inspect + '_)) -> End {
        let shared = inspect::Shared::new(watch);
        let (mut up, mut down) = (
            Way::new(Direction::Up, first),
            Way::new(Direction::Down, Vec::new()),
        );
        let mut ended = [false; 2];
        let mut lasting = Lasting::new(&self);
        let mut timer = Alarm::after(lasting.next);
        poll_fn(|cx| {
            for way in [&mut up, &mut down] {
                let [this, other] = match way.direction() {
                    Direction::Up => [0, 1],
                    Direction::Down => [1, 0],
                };
                if ended[this] {
                    continue;
                }
                match way.poll(cx, &self, &shared) {
                    Poll::Ready(Ok(())) => ended[this] = true,
                    Poll::Ready(Err(Halt::Broken(broken))) => return Poll::Ready(End::Broken(broken)),
                    Poll::Ready(Err(Halt::Stopped)) => return Poll::Ready(End::Stopped),
                    Poll::Pending => continue,
                }
                if ended[other] {
                    // The close that follows tells this end.
                    return Poll::Ready(End::Finished);
                }
                self.sink(way.direction()).end_writes();
            }
            while timer.poll(cx).is_ready() {
                if !lasting.tick(&self) {
                    return Poll::Ready(End::Idle);
                }
                timer = Alarm::after(lasting.next);
            }
            Poll::Pending
        })
        .await
    }

    fn source(&self, direction: Direction) -> &Leg {
        match direction {
            Direction::Up => self.client,
            Direction::Down => self.upstream,
        }
    }

    fn sink(&self, direction: Direction) -> &Leg {
        match direction {
            Direction::Up => self.upstream,
            Direction::Down => self.client,
        }
    }

    fn meter(&self, direction: Direction) -> Meter<'_> {
        Meter {
            means: self.means,
            traffic: self.traffic,
            direction,
        }
    }
}
