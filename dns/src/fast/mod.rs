//! The fast path: a question that a subject asked before is answered from a memo, without lock or allocation.
//!
//! Never decides: a [`Worker`] repeats what the slow path answered ([`lesson`]), for the same subject under the same
//! rulebook, as long as everything that the slow path would look at is as it was; whatever differs, or may, goes the slow
//! way, which teaches the memo anew. Tickets are stored before an answer is written, as anywhere. Driven by
//! [`crate::front::udp`], one a socket.
//!
//! On what an answer depends, and how each is asked after:
//!
//! - the source's subject: [`Changes`], and the moment up to which a lookup lasts;
//! - the rulebook: it is the one by which the lesson was judged, or the lesson is no good ([`Subject::swaps`]);
//! - hosts, pages, ticket times, own addresses ([`HandlerConfig`](crate::HandlerConfig)): another configuration empties
//!   the memo;
//! - the cache's answer: its TTL, and [`lesson::MAX_AGE`];
//! - tickets: [`TicketTable::epoch`](tidegate_policy::ticket::TicketTable::epoch) and the moment up to which they live. Which
//!   of several names at one address was given last is noted with the first repeat of a second;
//! - tickets of *other* names, whose chains may permit what no rule does: the same epoch;
//! - the DNS budget: [`Budgets::epoch`](crate::front::budget::Budgets::epoch);
//! - what the answer would tell the ECH ledger: [`EchLedger::epoch`](tidegate_policy::ech::EchLedger::epoch).
//!
//! All of these are counters that only grow, or moments. So a repeat adds the counters up, and compares ([`pair::Hot`]); only
//! when the sum has moved or the moment passed is each looked into again ([`ground`]). What a repeat reads is one line of the
//! processor's cache for the pair, the answer's, which leases share, and the counters, which all share. With ten thousand
//! leases the pairs lie in memory: a batch is read, then looked for, then answered, so that it waits for all of them at once
//! ([`Worker::find`]).

mod ground;
pub(crate) mod lesson;
mod memo;
mod pair;
mod plain;
pub(crate) mod seat;
mod wheel;
mod window;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use tidegate_policy::Moment;
use tidegate_policy::lease::Changes;
use tidegate_policy::subject::Subject;

use self::lesson::{Draft, Lesson};
use self::memo::{Key, MAX_BYTES, Memo};
use self::pair::Gone;
use self::plain::Plain;
use self::seat::{Seat, Whose};
use crate::clock::Stopwatch;
use crate::front::client::Client;
use crate::front::config::Live;
use crate::front::handler::{Begun, DnsHandler};
use crate::front::metrics::Repeats;

/// How often a part of the memo is looked through for what is over.
const SWEEP: Duration = Duration::from_secs(1);

/// What became of a query.
pub enum Served {
    /// The answer is written: so many octets.
    Fast(usize),
    /// The slow path has it.
    Slow(Begun),
}

/// A query of a batch, as far as it was read and looked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    plain: Option<Plain>,
    hash: u64,
    /// Where its pair stood before the batch was answered.
    spot: Option<u32>,
}

/// One thread's fast path.
pub struct Worker {
    handler: Arc<DnsHandler>,
    memo: Memo,
    changes: Option<Arc<Changes>>,
    live: Arc<Live>,
    now: Moment,
    watch: Stopwatch,
    repeats: Repeats,
    swept: Moment,
    seat: Arc<Seat>,
    /// Number of the seat's last request that was served.
    closed: u64,
}

impl Worker {
    /// A worker that was taught nothing yet.
    pub fn new(handler: Arc<DnsHandler>) -> Self {
        Self::bounded(handler, MAX_BYTES)
    }

    /// The same, with a memo of at most so many bytes.
    pub fn bounded(handler: Arc<DnsHandler>, bytes: usize) -> Self {
        let (now, watch) = handler.clock.read();
        Self {
            memo: Memo::new(bytes, now),
            changes: handler.subjects.changes(),
            live: handler.live.load_full(),
            now,
            watch,
            repeats: Repeats::default(),
            swept: now,
            seat: handler.seats.add(),
            closed: 0,
            handler,
        }
    }

    /// Begins a batch: its queries are all answered as of this moment.
    pub fn begin(&mut self) {
        (self.now, self.watch) = self.handler.clock.read();
        self.close_ended();
        let live = self.handler.live.load();
        if !Arc::ptr_eq(&live, &self.live) {
            self.live = Arc::clone(&live);
            let gone = self.memo.clear();
            self.let_go(gone);
        }
    }

    /// Reads a query of a batch that came over UDP.
    pub fn read(&self, query: &[u8], client: &Client) -> Seen {
        let plain = if client.spoofed { None } else { plain::read(query) };
        let key = plain.as_ref().and_then(|plain| Key::new(client, plain, query));
        let hash = key.map(|key| self.memo.hash(&key));
        Seen {
            plain: plain.filter(|_| hash.is_some()),
            hash: hash.unwrap_or_default(),
            spot: None,
        }
    }

    /// Looks for the pairs of a whole batch. No step of a query waits for one of another, so that the processor waits for the
    /// memory of all of them at once. Leaving it out changes no answer.
    pub fn find(&self, batch: &mut [Seen]) {
        for seen in batch.iter_mut().filter(|seen| seen.plain.is_some()) {
            seen.spot = self.memo.spot(seen.hash);
        }
        let pairs = batch.iter().filter_map(|seen| self.memo.peek(seen.spot?));
        black_box(pairs.clone().map(|hot| hot.count).sum::<u64>());
        black_box(pairs.map(|hot| hot.lesson.said.touch()).sum::<u64>());
    }

    /// Answers a query that was [read](Self::read); an answer is written to `out` or, by the slow path, given back.
    pub fn answer(&mut self, seen: &Seen, query: &[u8], client: &Client, out: &mut [u8]) -> Served {
        let Some(plain) = &seen.plain else {
            self.repeats.passed += 1;
            return Served::Slow(self.handler.begin(query, client));
        };
        let key = Key::new(client, plain, query);
        if let Some(length) = key.as_ref().and_then(|key| self.repeat(seen, key, out)) {
            return Served::Fast(length);
        }
        self.repeats.passed += 1;
        let (begun, draft) = self.handler.begin_teaching(query, client);
        self.now = self.handler.clock.now();
        if let (Begun::Done(Some(reply)), Some(draft), Some(key)) = (&begun, draft, key) {
            self.learn(*draft, &key, seen.hash, reply);
        }
        Served::Slow(begun)
    }

    /// Serves one query as a whole.
    pub fn serve(&mut self, query: &[u8], client: &Client, out: &mut [u8]) -> Served {
        let seen = self.read(query, client);
        self.answer(&seen, query, client, out)
    }

    /// Ends a batch: what was repeated is counted, and the events of windows that are over go out.
    pub fn end(&mut self) {
        let repeats = std::mem::take(&mut self.repeats);
        self.handler.metrics.repeated(&repeats, self.watch.elapsed());
        self.close_ended();
        self.close_asked();
        if self.now.since(self.swept) >= SWEEP {
            self.swept = self.now;
            let gone = self.memo.sweep(self.now);
            self.let_go(gone);
        }
    }

    /// Does what is due when nobody asks. To be called about once a second unless [`Self::is_empty`], and when the
    /// [seat](Self::seat) is rung.
    pub fn tick(&mut self) {
        self.begin();
        self.end();
    }

    /// Where others ask it to close windows.
    pub(crate) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// True while repeats are counted of which no event was made yet.
    pub fn has_open(&self) -> bool {
        self.memo.wheel.len() > 0
    }

    /// Questions of subjects that are remembered.
    pub fn len(&self) -> usize {
        self.memo.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that they take; never more than the bound.
    pub fn bytes(&self) -> usize {
        self.memo.bytes()
    }

    /// Repeats an answer, when everything is as it was.
    fn repeat(&mut self, seen: &Seen, key: &Key<'_>, out: &mut [u8]) -> Option<usize> {
        let Self {
            handler,
            memo,
            changes,
            now,
            ..
        } = self;
        // What was answered in between may have moved it, or taught it.
        let known = seen
            .spot
            .filter(|at| memo.peek(*at).is_some_and(|hot| hot.is(key)));
        let at = known.or_else(|| memo.find(key, seen.hash))?;
        let hot = memo.hot(at)?;
        if hot.lesson.said.len() > key.plain.limit().min(out.len()) {
            return None;
        }
        let stamp = hot.stamp_now(handler, changes.as_deref());
        if stamp != hot.stamp || *now >= hot.until {
            self.look_again(at, stamp, key.client)?;
        }
        let hot = self.memo.hot(at)?;
        hot.used = true;
        hot.count += 1;
        let said = &hot.lesson.said;
        self.repeats.count(said.verdict, said.source);
        said.write(key, self.now, hot.text, out)
    }

    /// Does what is due before a pair's answer is repeated, because a counter moved or a moment passed; `None` when it can't be
    /// repeated. `stamp` is from before.
    fn look_again(&mut self, at: u32, stamp: u64, client: &Client) -> Option<()> {
        let now = self.now;
        let (pair, _) = self.memo.get(at)?;
        if stamp != pair.hot.stamp || now >= pair.cold.sound {
            self.verify(at, stamp, client)?;
        }
        let (mut pair, wheel) = self.memo.get(at)?;
        let touched = ground::touch(&mut pair, now);
        let open = pair.cold.window.as_ref().map(|window| window.ends);
        let ends = if let Some(ends) = open.filter(|ends| now < *ends) {
            ends
        } else {
            window::close(&mut pair, (wheel, at), &*self.handler.sink);
            let id = self.handler.sink.mint();
            window::open(&mut pair, (wheel, at), (id, client.source.port()), now)
        };
        let until = pair.cold.sound.min(ends);
        pair.hot.until = touched.map_or(until, |touched| until.min(touched));
        Some(())
    }

    /// Looks into everything on which a pair's answer depends; `None` when it is not as it was.
    fn verify(&mut self, at: u32, stamp: u64, client: &Client) -> Option<()> {
        let (hold, now) = (self.live.config.ticket_hold, self.now);
        let (subject, lasting) = self.handler.subjects.lasting(client.source.ip(), now);
        let (mut pair, _) = self.memo.get(at)?;
        if pair.cold.subject.id != subject.id {
            self.forget_others(client, &subject);
            return None;
        }
        let is_taught = now < pair.hot.lesson.until && subject.is_judged_by(&pair.hot.lesson.book);
        if !is_taught || !ground::holds(&mut pair, &self.handler, hold, now) {
            return None;
        }
        let until = ground::holds_until(&pair, hold);
        pair.cold.sound = match lasting {
            // Whoever gave the subject can't say when it has changed: it is looked up for every query.
            None => now,
            Some(lasting) => lasting.until.map_or(until, |last| until.min(last)),
        };
        pair.hot.stamp = stamp;
        Some(())
    }

    /// Forgets what a source's earlier subjects asked; what they have counted is told.
    fn forget_others(&mut self, client: &Client, subject: &Subject) {
        for at in self.memo.of_source(client.source.ip()) {
            let is_other = self
                .memo
                .get(at)
                .is_some_and(|(pair, _)| pair.cold.subject.id != subject.id);
            if is_other {
                let gone = self.memo.remove(at);
                self.let_go(gone);
            }
        }
    }

    fn learn(&mut self, draft: Draft, key: &Key<'_>, hash: u64, reply: &[u8]) {
        let (subject, epochs) = (Arc::clone(&draft.subject), draft.ground.epochs);
        let Some(lesson) = Lesson::new(draft, key, reply, self.now) else {
            return;
        };
        let lesson = (subject, Arc::new(lesson));
        let pair = Gone::new(key, lesson, epochs, self.changes.as_deref());
        let (at, gone) = self.memo.put(key, hash, pair);
        self.let_go(gone);
        let Some((at, (mut pair, _))) = at.and_then(|at| Some((at, self.memo.get(at)?))) else {
            return;
        };
        // Now rather than with the first repeat, which may have to be quick.
        if !ground::has_tickets(&mut pair, self.live.config.ticket_hold, self.now) {
            self.memo.remove(at);
        }
    }

    /// Closes the windows that have ended by now.
    fn close_ended(&mut self) {
        while let Some(ended) = self.memo.wheel.turn(self.now) {
            for at in ended {
                if let Some((mut pair, _)) = self.memo.get(at) {
                    window::tell(&mut pair, &*self.handler.sink);
                }
            }
        }
    }

    /// Closes the windows that others asked to have closed.
    fn close_asked(&mut self) {
        let Some((whose, serial)) = self.seat.take(self.closed) else {
            return;
        };
        match whose {
            Whose::All => {
                for at in 0..self.memo.slots() {
                    self.close_one(at);
                }
            }
            Whose::These(sources) => {
                for source in sources {
                    for at in self.memo.of_source(source) {
                        self.close_one(at);
                    }
                }
            }
        }
        self.closed = serial;
        self.seat.done(serial);
    }

    fn close_one(&mut self, at: u32) {
        if let Some((mut pair, wheel)) = self.memo.get(at) {
            window::close(&mut pair, (wheel, at), &*self.handler.sink);
        }
    }

    /// Pairs that left the memo tell what they have counted.
    fn let_go(&self, gone: impl IntoIterator<Item = Gone>) {
        for mut pair in gone {
            window::tell(&mut pair.pair(), &*self.handler.sink);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let gone = self.memo.clear();
        self.let_go(gone);
        self.handler.seats.remove(&self.seat);
    }
}
