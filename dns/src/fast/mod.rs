//! The fast path: a question that a subject asked before is answered from a memo, without lock or allocation.
//!
//! Never decides: a [`Worker`] repeats what the slow path answered ([`lesson`]), for the same subject under the same
//! rulebook, as long as everything that the slow path would look at is as it was; whatever differs, or may, goes the slow
//! way, which teaches the memo anew. Tickets are stored before an answer is written, as anywhere. Driven by
//! [`crate::front::udp`], one a socket.
//!
//! On what an answer depends, and how each is asked after:
//!
//! - the source's subject: by the source's own lookup, for every batch;
//! - the rulebook: it is the one by which the lesson was judged, or the lesson is no good;
//! - hosts, pages, ticket times, own addresses ([`HandlerConfig`](crate::HandlerConfig)): another configuration empties
//!   the memo;
//! - the cache's answer: its TTL, and [`lesson::MAX_AGE`];
//! - tickets: [`TicketTable::epoch`](tidegate_policy::ticket::TicketTable::epoch) and the moment up to which they live. Which
//!   of several names at one address was given last is noted with the first repeat of a second;
//! - tickets of *other* names, whose chains may permit what no rule does: the same epoch;
//! - the DNS budget: [`Budgets::epoch`](crate::front::budget::Budgets::epoch);
//! - what the answer would tell the ECH ledger: [`EchLedger::epoch`](tidegate_policy::ech::EchLedger::epoch).

pub(crate) mod lesson;
mod memo;
mod plain;
mod window;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_policy::Moment;
use tidegate_policy::subject::Subject;
use tidegate_policy::ticket::Grant;

use self::lesson::{Draft, Lesson};
use self::memo::{Key, MAX_BYTES, Memo, Pair};
use self::plain::Plain;
use self::window::Window;
use crate::clock::Stopwatch;
use crate::front::client::Client;
use crate::front::config::Live;
use crate::front::handler::{Begun, DnsHandler};
use crate::front::metrics::Repeats;

/// How much longer than it must a ticket lives that the fast path renews, so that it is not renewed with every answer.
const MARGIN: Duration = Duration::from_secs(10);

/// What became of a query.
pub enum Served {
    /// The answer is written: so many octets.
    Fast(usize),
    /// The slow path has it.
    Slow(Begun),
}

/// One thread's fast path.
pub struct Worker {
    handler: Arc<DnsHandler>,
    memo: Memo,
    live: Arc<Live>,
    now: Moment,
    watch: Stopwatch,
    /// The source that asked last in this batch.
    last: Option<(IpAddr, Arc<Subject>)>,
    repeats: Repeats,
    swept: Moment,
}

impl Worker {
    /// A worker that was taught nothing yet.
    pub fn new(handler: Arc<DnsHandler>) -> Self {
        Self::bounded(handler, MAX_BYTES)
    }

    /// The same, with a memo of at most so many bytes.
    pub fn bounded(handler: Arc<DnsHandler>, bytes: usize) -> Self {
        let (live, now, watch) = (
            handler.live.load_full(),
            handler.clock.now(),
            handler.clock.stopwatch(),
        );
        Self {
            memo: Memo::new(bytes),
            live,
            now,
            watch,
            last: None,
            repeats: Repeats::default(),
            swept: now,
            handler,
        }
    }

    /// Begins a batch: its queries are all answered as of this moment.
    pub fn begin(&mut self) {
        self.now = self.handler.clock.now();
        self.watch = self.handler.clock.stopwatch();
        self.last = None;
        let live = self.handler.live.load();
        if !Arc::ptr_eq(&live, &self.live) {
            self.live = Arc::clone(&live);
            let gone = self.memo.clear();
            self.let_go(gone);
        }
    }

    /// Serves one query that came over UDP; an answer is written to `out` or, by the slow path, given back.
    pub fn serve(&mut self, query: &[u8], client: &Client, out: &mut [u8]) -> Served {
        let plain = if client.spoofed { None } else { plain::read(query) };
        let hit = plain.as_ref().and_then(|plain| self.repeat(plain, client, out));
        if let Some(length) = hit {
            return Served::Fast(length);
        }
        self.repeats.passed += 1;
        let Some(plain) = plain else {
            return Served::Slow(self.handler.begin(query, client));
        };
        let (begun, draft) = self.handler.begin_teaching(query, client);
        self.now = self.handler.clock.now();
        if let (Begun::Done(Some(reply)), Some(draft)) = (&begun, draft) {
            self.learn(*draft, &plain, reply, client);
        }
        Served::Slow(begun)
    }

    /// Ends a batch: what was repeated is counted, and the events of seconds that are over go out.
    pub fn end(&mut self) {
        let repeats = std::mem::take(&mut self.repeats);
        self.handler.metrics.repeated(&repeats, self.watch.elapsed());
        self.close_windows();
        if self.now.since(self.swept) >= window::SPAN {
            self.swept = self.now;
            let gone = self.memo.sweep(self.now);
            self.let_go(gone);
        }
    }

    /// Does what is due when nobody asks. To be called about once a second unless [`Self::is_empty`].
    pub fn tick(&mut self) {
        self.begin();
        self.end();
    }

    /// True while repeats are counted of which no event was made yet.
    pub fn has_open(&self) -> bool {
        !self.memo.open.is_empty()
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
    fn repeat(&mut self, plain: &Plain<'_>, client: &Client, out: &mut [u8]) -> Option<usize> {
        let source = client.source.ip();
        let Self {
            handler,
            memo,
            live,
            now,
            last,
            repeats,
            ..
        } = self;
        let (handler, now) = (&**handler, *now);
        if last.as_ref().is_none_or(|(known, _)| *known != source) {
            *last = Some((source, handler.subjects.subject(source, now)));
        }
        let (_, subject) = last.as_ref()?;
        let at = memo.find(&Key::new(subject, source, client.asked, plain))?;
        let pair = memo.get(at)?;
        let is_taught = now < pair.lesson.until && subject.is_judged_by(&pair.lesson.book);
        if !is_taught || pair.lesson.reply.len() > plain.limit.min(out.len()) {
            return None;
        }
        let opens = pair.window.as_ref().is_none_or(|window| window.is_over(now));
        if !holds(pair, handler, (live.config.ticket_hold, opens), now) {
            return None;
        }
        if opens {
            window::close(pair, &*handler.sink);
            pair.window = Some(Window::open(handler.sink.mint(), client.source.port(), now));
        }
        pair.used = true;
        let window = pair.window.as_mut()?;
        let length = pair.lesson.write(plain, now, window.text, out)?;
        window.count += 1;
        repeats.count(pair.lesson.judgement.verdict(), pair.lesson.source);
        if opens {
            memo.open.push_back((at, now));
        }
        Some(length)
    }

    fn learn(&mut self, draft: Draft, plain: &Plain<'_>, reply: &[u8], client: &Client) {
        let (subject, epochs) = (Arc::clone(&draft.subject), draft.ground.epochs);
        let Some(lesson) = Lesson::new(draft, plain, reply, self.now) else {
            return;
        };
        let key = Key::new(&subject, client.source.ip(), client.asked, plain);
        let mut pair = Pair::new(&key, Arc::clone(&subject), Arc::new(lesson), epochs);
        // Now rather than with the first repeat, which may have to be quick.
        if !has_tickets(&mut pair, (self.live.config.ticket_hold, false), self.now) {
            return;
        }
        let gone = self.memo.put(&key, pair);
        self.let_go(gone);
    }

    fn close_windows(&mut self) {
        while let Some((at, opened)) = self.memo.open.front().copied() {
            if self.now.since(opened) < window::SPAN {
                break;
            }
            self.memo.open.pop_front();
            if let Some(pair) = self.memo.get(at)
                && pair.window.as_ref().is_some_and(|window| window.opened == opened)
            {
                window::close(pair, &*self.handler.sink);
            }
        }
    }

    /// Pairs that left the memo tell what they have counted.
    fn let_go(&self, gone: Vec<Pair>) {
        for mut pair in gone {
            window::close(&mut pair, &*self.handler.sink);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let gone = self.memo.clear();
        self.let_go(gone);
    }
}

/// True when all that an answer depends on beside subject and rulebook is as it was; its tickets are stored then.
/// `opens`: a second of repeats begins.
fn holds(pair: &mut Pair, handler: &DnsHandler, (hold, opens): (Duration, bool), now: Moment) -> bool {
    is_within_budget(pair, handler) && has_noted_ech(pair) && has_tickets(pair, (hold, opens), now)
}

fn is_within_budget(pair: &mut Pair, handler: &DnsHandler) -> bool {
    let Some(rule) = &pair.lesson.charged else {
        return true;
    };
    let epoch = handler.budgets.epoch();
    if epoch != pair.epochs.budget {
        if !handler.charge(pair.subject.id, &pair.lesson.name, rule) {
            return false;
        }
        pair.epochs.budget = epoch;
    }
    true
}

fn has_noted_ech(pair: &mut Pair) -> bool {
    let lesson = &pair.lesson;
    if lesson.is_refusal() {
        return true;
    }
    let ledger = &lesson.book.world.ech;
    let epoch = ledger.epoch();
    if epoch != pair.epochs.ech {
        let mut names = std::iter::once(&lesson.name).chain(&lesson.chain);
        if names.any(|name| ledger.knows(name)) {
            return false;
        }
        pair.epochs.ech = epoch;
    }
    true
}

fn has_tickets(pair: &mut Pair, (hold, opens): (Duration, bool), now: Moment) -> bool {
    let lesson = &pair.lesson;
    if !(lesson.chained || lesson.gives_tickets()) {
        return true;
    }
    let tickets = pair.subject.tickets();
    let least = now.plus(hold).max(lesson.ends);
    let is_known = pair
        .tickets
        .is_some_and(|(epoch, until)| epoch == tickets.epoch() && least <= until);
    if is_known {
        if opens && pair.shared {
            tickets.touch(&lesson.name, &lesson.addresses);
        }
        return true;
    }
    let epoch = if lesson.gives_tickets() {
        let grant = Grant {
            asked: &lesson.name,
            chain: &lesson.chain,
            addresses: &lesson.addresses,
            ttl: Duration::ZERO,
        };
        let renewed = tickets.renew(&grant, least.plus(MARGIN), now);
        pair.shared = renewed.shared;
        renewed.epoch
    } else {
        tickets.epoch()
    };
    if lesson.chained && tickets.chain_owner(&lesson.name, now).is_some() {
        return false;
    }
    let until = if lesson.gives_tickets() {
        least.plus(MARGIN)
    } else {
        Moment::from_millis(u64::MAX)
    };
    pair.tickets = Some((epoch, until));
    true
}
