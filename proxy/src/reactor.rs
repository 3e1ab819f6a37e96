//! Which sockets of a thread are ready: one `epoll(7)` instance a thread, nested in the runtime's own. Owns
//! the table of sources and who waits for them; never reads or writes a socket. Driven by a task of the
//! thread's runtime, used by `stream` and `accept`.
//!
//! The runtime's own registrations would do the same for two system calls a flow more (it deregisters what
//! is closed anyway), would tell nobody that a socket has urgent bytes, and would not say that an end has
//! come along with the last bytes before it.

mod alarm;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use crate::sys;
pub(crate) use alarm::Alarm;
use alarm::Alarms;

/// Events fetched at once.
const EVENTS: usize = 256;

/// While there are events, the thread's timer is due this often. The runtime wakes itself by a system call for
/// every timer that is due before all others, as one of a new flow is; none of a flow's is due before this. Alarms are
/// late by so much at most.
const TICK: Duration = Duration::from_millis(40);

/// What is known of a source. Bits of one octet, because there are two sources a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ready(u8);

impl Ready {
    /// A read may find something.
    pub(crate) const READ: Self = Self(1);
    /// A write may find room.
    pub(crate) const WRITE: Self = Self(2);
    /// The peer has ended its side: behind what can be read by now, nothing comes.
    pub(crate) const CLOSED: Self = Self(4);
    /// There were urgent bytes: a read stops in front of one, though there is more.
    pub(crate) const URGENT: Self = Self(8);
    /// The connection failed.
    pub(crate) const FAILED: Self = Self(16);
    /// The end was reached; no read needs to say so.
    pub(crate) const ENDED: Self = Self(32);

    /// True when anything of `other` is in it.
    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn of(events: EpollFlags) -> Self {
        let mut ready = 0;
        let mut add = |mask: EpollFlags, bits: &[Self]| {
            if events.intersects(mask) {
                ready |= bits.iter().fold(0, |all, one| all | one.0);
            }
        };
        add(EpollFlags::EPOLLIN, &[Self::READ]);
        add(EpollFlags::EPOLLOUT, &[Self::WRITE]);
        add(EpollFlags::EPOLLRDHUP, &[Self::READ, Self::CLOSED]);
        add(EpollFlags::EPOLLPRI, &[Self::READ, Self::URGENT]);
        let failed = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        add(failed, &[Self::READ, Self::WRITE]);
        add(EpollFlags::EPOLLERR, &[Self::FAILED]);
        Self(ready)
    }
}

impl std::ops::BitOr for Ready {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One thread's sources.
struct Reactor {
    epoll: Epoll,
    table: Mutex<Table>,
    alarms: Mutex<Alarms>,
    /// False once the task that fetches events is gone, with its runtime.
    alive: AtomicBool,
}

#[derive(Default)]
struct Table {
    /// As many as there ever were sources at once: bounded by the descriptors of the process.
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    /// Tells late events of a source that is gone from those of the one in its place.
    generation: u32,
    ready: Ready,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

thread_local! {
    static CURRENT: RefCell<Weak<Reactor>> = const { RefCell::new(Weak::new()) };
}

impl Reactor {
    /// The calling thread's, made where there is none. Needs a runtime.
    fn current() -> io::Result<Arc<Self>> {
        CURRENT.with_borrow_mut(|current| {
            if let Some(reactor) = current.upgrade().filter(|one| one.alive.load(Ordering::Relaxed)) {
                return Ok(reactor);
            }
            let reactor = Arc::new(Self {
                epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
                table: Mutex::default(),
                alarms: Mutex::default(),
                alive: AtomicBool::new(true),
            });
            let ready = sys::async_fd(reactor.epoll.0.try_clone()?)?;
            tokio::spawn(Driver(Arc::clone(&reactor)).run(ready));
            *current = Arc::downgrade(&reactor);
            Ok(reactor)
        })
    }

    /// Notes what happened, and collects who waits for it.
    fn note(&self, events: &[EpollEvent], wakers: &mut Vec<Waker>) {
        let mut table = self.table.lock();
        for event in events {
            let (index, generation) = (event.data() as u32, (event.data() >> 32) as u32);
            let Some(slot) = table.slots.get_mut(index as usize) else {
                continue;
            };
            if slot.generation != generation {
                continue;
            }
            let ready = Ready::of(event.events());
            slot.ready = slot.ready | ready;
            if ready.has(Ready::READ) {
                wakers.extend(slot.reader.take());
            }
            if ready.has(Ready::WRITE) {
                wakers.extend(slot.writer.take());
            }
        }
    }
}

/// Fetches events for as long as the runtime lives.
struct Driver(Arc<Reactor>);

impl Driver {
    async fn run(self, ready: tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>) {
        let mut events = vec![EpollEvent::empty(); EVENTS];
        let mut wakers = Vec::with_capacity(EVENTS);
        let mut tick = pin!(tokio::time::sleep(TICK));
        self.0.alarms.lock().looks(Some(tick.deadline()));
        // There were events since the last tick; the next one is within `TICK`.
        let (mut busy, mut soon) = (false, true);
        loop {
            let guard = tokio::select! {
                biased;
                () = &mut tick, if self.0.alarms.lock().is_to_be_looked_at() => {
                    soon = std::mem::take(&mut busy);
                    self.look(tick.as_mut(), soon, &mut wakers);
                    continue;
                }
                next = poll_fn(|cx| self.0.alarms.lock().poll_earlier(cx.waker())) => {
                    self.look_at(tick.as_mut(), Some(next));
                    continue;
                }
                guard = ready.readable() => guard,
            };
            let Ok(mut guard) = guard else { return };
            if !soon {
                self.look_at(tick.as_mut(), Some(Instant::now() + TICK));
            }
            (soon, busy) = (true, true);
            let fetched = match self.0.epoll.wait(&mut events, EpollTimeout::ZERO) {
                Ok(fetched) => fetched,
                Err(Errno::EINTR) => continue,
                Err(error) => return tracing::error!(%error, "cannot wait for sockets"),
            };
            // An event since then makes the instance ready anew.
            if fetched < events.len() {
                guard.clear_ready();
            }
            self.0
                .note(events.get(..fetched).unwrap_or_default(), &mut wakers);
            wakers.drain(..).for_each(Waker::wake);
        }
    }

    /// Wakes who waits for what is due, and says when to do so again: `soon`, or when something is due.
    fn look(&self, tick: Pin<&mut Sleep>, soon: bool, wakers: &mut Vec<Waker>) {
        let now = Instant::now();
        let next = self.0.alarms.lock().due(now, wakers);
        wakers.drain(..).for_each(Waker::wake);
        self.look_at(tick, if soon { Some(now + TICK) } else { next });
    }

    fn look_at(&self, tick: Pin<&mut Sleep>, at: Option<Instant>) {
        if let Some(at) = at {
            tick.reset(at);
        }
        self.0.alarms.lock().looks(at);
    }
}

/// Who waits for a source of a reactor without a driver would wait for ever.
impl Drop for Driver {
    fn drop(&mut self) {
        self.0.alive.store(false, Ordering::Relaxed);
        let mut wakers = Vec::new();
        for slot in &mut self.0.table.lock().slots {
            slot.ready = slot.ready | Ready::READ | Ready::WRITE;
            wakers.extend(slot.reader.take().into_iter().chain(slot.writer.take()));
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Which way somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// For something to read.
    Read,
    /// For room to write.
    Write,
}

/// A descriptor's place in the reactor of the thread that registered it, for both ways, edge-triggered. Closing the
/// descriptor deregisters it from the kernel.
pub(crate) struct Source {
    reactor: Arc<Reactor>,
    index: u32,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Source")
            .field("ready", &self.known())
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Registers a descriptor of which `known` is known.
    pub(crate) fn register(descriptor: impl AsFd, known: Ready) -> io::Result<Self> {
        let reactor = Reactor::current()?;
        let (index, generation) = {
            let mut table = reactor.table.lock();
            let index = if let Some(index) = table.free.pop() {
                index
            } else {
                table.slots.push(Slot::default());
                table.slots.len() as u32 - 1
            };
            let slot = &mut table.slots[index as usize];
            slot.ready = known;
            (index, slot.generation)
        };
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLPRI
            | EpollFlags::EPOLLET;
        let key = u64::from(generation) << 32 | u64::from(index);
        // Its drop gives the place back.
        let source = Self { reactor, index };
        source
            .reactor
            .epoll
            .add(descriptor, EpollEvent::new(flags, key))?;
        Ok(source)
    }

    /// Ready once something on `side` may be done; the waker of the last call is woken then.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, side: Side) -> Poll<()> {
        let mut table = self.reactor.table.lock();
        let slot = &mut table.slots[self.index as usize];
        let (ready, waiting) = match side {
            Side::Read => (Ready::READ, &mut slot.reader),
            Side::Write => (Ready::WRITE, &mut slot.writer),
        };
        if slot.ready.has(ready) {
            return Poll::Ready(());
        }
        let before = match waiting {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            Some(_) | None => waiting.replace(cx.waker().clone()),
        };
        drop(table);
        // Whoever waited with another waker looks again.
        if let Some(before) = before {
            before.wake();
        }
        Poll::Pending
    }

    /// What is known.
    pub(crate) fn known(&self) -> Ready {
        self.reactor.table.lock().slots[self.index as usize].ready
    }

    /// What is known, of which `ready` is no longer: called before it is tried, so that what happens
    /// meanwhile is not forgotten.
    pub(crate) fn spend(&self, ready: Ready) -> Ready {
        let mut table = self.reactor.table.lock();
        let slot = &mut table.slots[self.index as usize];
        let before = slot.ready;
        slot.ready = Ready(before.0 & !ready.0);
        before
    }

    /// Notes that this is so (still).
    pub(crate) fn note(&self, ready: Ready) {
        let mut table = self.reactor.table.lock();
        let slot = &mut table.slots[self.index as usize];
        slot.ready = slot.ready | ready;
    }

    /// Takes a descriptor out that lives on elsewhere.
    pub(crate) fn deregister(&self, descriptor: impl AsFd) -> io::Result<()> {
        Ok(self.reactor.epoll.delete(descriptor)?)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut table = self.reactor.table.lock();
        let slot = &mut table.slots[self.index as usize];
        let waiting = (slot.reader.take(), slot.writer.take());
        slot.generation = slot.generation.wrapping_add(1);
        table.free.push(self.index);
        drop(table);
        drop(waiting);
    }
}
