//! The DNS load: many queries outstanding ([`Flood::run`]) or one whenever it is due ([`Flood::paced`]), from as many
//! sources as wanted, every answer checked.
//!
//! Never the bottleneck by design: a query is a copied template with another id, and one system call moves up to
//! [`BATCH`] of them. The sources are those of the runner's own machine: see [`cast`](crate::cast).

#![expect(
    clippy::disallowed_methods,
    reason = "a load generator goes by the real clock"
)]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tidegate_lab::Machine;

use crate::measure::{Load, Quantiles};
use crate::sys::{BATCH, Batch, Happened, Interest, Poll, To, Waiting};

/// Queries outstanding at most.
const WINDOW: usize = 128;
/// Without an answer for this long, what is outstanding is lost.
const LOST_AFTER: Duration = Duration::from_millis(200);
/// Questions are asked in an order that is neither the sources' nor the allowlist's.
const STRIDE: u64 = 7_919;
const RESPONSE: u8 = 0x80;
const RCODE: u8 = 0x0f;
const SERVER_FAILURE: u8 = 2;

/// What an answer must be to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// No error and one record.
    Record,
    /// No record, whatever the words of refusing: `REFUSED`, `NXDOMAIN` or an empty answer; not `SERVFAIL`.
    Nothing,
    /// The query itself as a response: of the echo, which knows no names.
    Echo,
}

/// Who asks for what.
#[derive(Debug, Clone)]
pub struct Questions {
    /// The names.
    pub names: Vec<String>,
    /// Who asks.
    pub sources: Vec<Ipv4Addr>,
    /// How many of the names each source asks for; together they ask for all.
    pub each: usize,
    /// Sockets, each with a port of its own: one source alone reaches several workers only by several ports.
    pub ports: usize,
}

impl Questions {
    /// Pairs of a source and a name.
    pub fn pairs(&self) -> u64 {
        (self.sources.len() * self.each) as u64
    }

    /// The source and the name of query `number`: within [`pairs`](Self::pairs) queries every pair comes once.
    fn at(&self, number: u64) -> (usize, usize) {
        let pairs = self.pairs();
        let pair = (number % pairs * (STRIDE % pairs).max(1) % pairs) as usize;
        let (source, turn) = (pair % self.sources.len(), pair / self.sources.len());
        (source, (source * self.each + turn) % self.names.len())
    }
}

/// A socket and what it awaits.
#[derive(Debug)]
struct Lane {
    socket: UdpSocket,
    /// By id: the query's number plus one, or 0 if nobody awaits an answer.
    pending: Vec<u64>,
    next: u16,
    outstanding: usize,
}

/// A client that asks the same questions over and over.
pub struct Flood {
    questions: Questions,
    /// A query for each name; the first two bytes are its id's.
    wire: Vec<Vec<u8>>,
    server: SocketAddrV4,
    lanes: Vec<Lane>,
    poll: Poll,
    batch: Batch,
    asked: u64,
}

impl Flood {
    /// A client on `runner` that asks `server` for A records, as stub resolvers do (RD, no EDNS).
    pub fn open(
        runner: &Machine,
        server: SocketAddrV4,
        questions: Questions,
        waiting: Waiting,
    ) -> Result<Self> {
        let poll = Poll::new(waiting)?;
        let mut lanes = Vec::new();
        for lane in 0..questions.ports {
            let socket = runner.enter(|| UdpSocket::bind("0.0.0.0:0"))?;
            let socket = socket.context("can't open a client socket")?;
            poll.add(socket.as_raw_fd(), lane as u64, Interest::Read)?;
            lanes.push(Lane {
                socket,
                pending: vec![0; 1 << 16],
                next: 0,
                outstanding: 0,
            });
        }
        Ok(Self {
            wire: questions.names.iter().map(|name| query(name)).collect(),
            questions,
            server,
            lanes,
            poll,
            batch: Batch::default(),
            asked: 0,
        })
    }

    /// How many pairs of a source and a name there are.
    pub fn pairs(&self) -> u64 {
        self.questions.pairs()
    }

    /// Asks `count` times, [`WINDOW`] at once. A count of [`pairs`](Self::pairs) asks for each once.
    pub fn run(&mut self, count: u64, wanted: Wanted) -> Result<Load> {
        let mut load = Load::default();
        let room = WINDOW / self.lanes.len();
        let mut happened: Vec<Happened> = Vec::new();
        while load.tried < count || self.outstanding() > 0 {
            let mut moved = 0;
            for lane in 0..self.lanes.len() {
                moved += self.receive(lane, wanted, |right, _| load.done += u64::from(right))?;
                let free = (room - self.lanes[lane].outstanding).min(BATCH);
                let due = free.min((count - load.tried) as usize);
                let sent = self.send(lane, due)?;
                load.tried += sent as u64;
                moved += sent;
            }
            if moved == 0 {
                happened.clear();
                self.poll.wait(LOST_AFTER, &mut happened)?;
                if happened.is_empty() {
                    self.forget();
                }
            }
        }
        Ok(load)
    }

    /// The same, again and again until `span` is over.
    pub fn run_for(&mut self, span: Duration, count: u64, wanted: Wanted) -> Result<Load> {
        let (start, mut all) = (Instant::now(), Load::default());
        loop {
            let load = self.run(count, wanted)?;
            (all.tried, all.done) = (all.tried + load.tried, all.done + load.done);
            if start.elapsed() >= span {
                return Ok(all);
            }
        }
    }

    /// Asks `rate` times a second for `span`, whether answers come or not; how long each took from when it was due.
    /// Spins, so that its own waiting is in no figure: needs a core to itself.
    pub fn paced(&mut self, rate: f64, span: Duration, wanted: Wanted) -> Result<(Load, Quantiles)> {
        let count = (rate * span.as_secs_f64()) as u64;
        let mut waits = Vec::with_capacity(count as usize);
        let (mut load, first) = (Load::default(), self.asked);
        let start = Instant::now();
        let mut last = start;
        while load.tried < count || (self.outstanding() > 0 && last.elapsed() < LOST_AFTER) {
            let due = ((start.elapsed().as_secs_f64() * rate) as u64).min(count);
            let lane = load.tried as usize % self.lanes.len();
            let late = (due.saturating_sub(load.tried) as usize).min(BATCH);
            load.tried += self.send(lane, late)? as u64;
            for lane in 0..self.lanes.len() {
                let mut now = None;
                self.receive(lane, wanted, |right, number| {
                    let now = *now.get_or_insert_with(Instant::now);
                    let due = start + Duration::from_secs_f64((number - first) as f64 / rate);
                    load.done += u64::from(right);
                    waits.push(now.saturating_duration_since(due));
                    last = now;
                })?;
            }
        }
        self.forget();
        Ok((load, Quantiles::of(waits)))
    }

    fn outstanding(&self) -> usize {
        self.lanes.iter().map(|lane| lane.outstanding).sum()
    }

    /// Gives up on what was not answered.
    fn forget(&mut self) {
        for lane in &mut self.lanes {
            lane.pending.fill(0);
            lane.outstanding = 0;
        }
    }

    /// Sends the next queries; tells how many went.
    fn send(&mut self, lane: usize, count: usize) -> Result<usize> {
        if count == 0 {
            return Ok(0);
        }
        let lane = &mut self.lanes[lane];
        let mut sources = [Ipv4Addr::UNSPECIFIED; BATCH];
        for (index, from) in sources[..count].iter_mut().enumerate() {
            let (source, name) = self.questions.at(self.asked + index as u64);
            *from = self.questions.sources[source];
            self.batch.put(index, &self.wire[name]);
            let id = lane.next.wrapping_add(index as u16);
            self.batch.get_mut(index)[..2].copy_from_slice(&id.to_be_bytes());
        }
        let sent = match self
            .batch
            .send(lane.socket.as_fd(), count, To::From(&sources, self.server))
        {
            Ok(sent) => sent,
            // A server that is not there yet, or a full buffer.
            Err(error) if is_passing(&error) => 0,
            Err(error) => return Err(error).context("can't send queries"),
        };
        for _ in 0..sent {
            let pending = &mut lane.pending[usize::from(lane.next)];
            lane.outstanding += usize::from(*pending == 0);
            self.asked += 1;
            *pending = self.asked;
            lane.next = lane.next.wrapping_add(1);
        }
        Ok(sent)
    }

    /// Takes what has come: for each awaited answer, whether it is right and the number of its query.
    fn receive(&mut self, lane: usize, wanted: Wanted, mut seen: impl FnMut(bool, u64)) -> Result<usize> {
        let lane = &mut self.lanes[lane];
        if lane.outstanding == 0 {
            return Ok(0);
        }
        let count = match self.batch.receive(lane.socket.as_fd(), false) {
            Ok(count) => count,
            Err(error) if is_passing(&error) => 0,
            Err(error) => return Err(error).context("can't receive answers"),
        };
        for index in 0..count {
            let answer = self.batch.get(index);
            let Some((id, right)) = read(answer, wanted) else {
                continue;
            };
            let number = std::mem::take(&mut lane.pending[usize::from(id)]);
            if number > 0 {
                lane.outstanding -= 1;
                seen(right, number - 1);
            }
        }
        Ok(count)
    }
}

fn is_passing(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::ConnectionRefused | ErrorKind::Interrupted
    )
}

/// An answer's id, and whether it is what was wanted; `None` if it is too short to be an answer.
fn read(answer: &[u8], wanted: Wanted) -> Option<(u16, bool)> {
    let header: &[u8; 12] = answer.first_chunk()?;
    let id = u16::from_be_bytes([header[0], header[1]]);
    let rcode = header[3] & RCODE;
    let records = u16::from_be_bytes([header[6], header[7]]);
    let right = match wanted {
        Wanted::Record => rcode == 0 && records == 1,
        Wanted::Nothing => rcode != SERVER_FAILURE && records == 0,
        Wanted::Echo => true,
    };
    Some((id, right && header[2] & RESPONSE != 0))
}

fn query(name: &str) -> Vec<u8> {
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::cast;

    #[test]
    fn every_pair_is_asked_once_and_all_names_are() {
        for (sources, each) in [(1, 1_000), (1_000, 100), (10_000, 10)] {
            let questions = Questions {
                names: cast::names(1_000),
                sources: (0..sources).map(cast::source).collect(),
                each,
                ports: 1,
            };
            let asked: HashSet<_> = (0..questions.pairs())
                .map(|number| questions.at(number))
                .collect();
            assert_eq!(asked.len() as u64, questions.pairs());
            let names: HashSet<_> = asked.iter().map(|(_, name)| name).collect();
            assert_eq!(names.len(), 1_000);
        }
    }

    #[test]
    fn an_answer_is_judged_by_its_kind() {
        let answer = |rcode: u8, records: u8| [0x12, 0x34, 0x81, rcode, 0, 1, 0, records, 0, 0, 0, 0];
        assert_eq!(read(&answer(0, 1), Wanted::Record), Some((0x1234, true)));
        assert_eq!(read(&answer(0, 0), Wanted::Record), Some((0x1234, false)));
        assert_eq!(read(&answer(5, 0), Wanted::Nothing), Some((0x1234, true)));
        assert_eq!(read(&answer(2, 0), Wanted::Nothing), Some((0x1234, false)));
        let question = query("a.test");
        assert_eq!(read(&question, Wanted::Echo), Some((0, false)), "not a response");
        assert_eq!(read(&[0; 11], Wanted::Echo), None);
    }
}
