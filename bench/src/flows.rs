//! The TLS load: a runner's clients that send a real ClientHello and read to the end, one thread and one epoll for all
//! of them. What answers is [`origins`](crate::origins)'.
//!
//! Never computes cryptography and never copies a bulk's bytes (`MSG_TRUNC`), so that the gateway is what is measured.

#![expect(
    clippy::disallowed_methods,
    reason = "a load generator goes by the real clock"
)]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, connect, recv, send, socket,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tidegate_lab::Machine;

use crate::cast::{self, Bulk};
use crate::measure::{Load, Quantiles};
use crate::origins::ANSWER_BYTES;
use crate::sys::{Happened, Interest, Poll, Waiting, finer_timers};

/// Small flows at once.
pub const CLIENTS: usize = 64;
/// Flows at once at most, whatever is due.
const MOST: usize = 8_000;
/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the last flows of a paced round may take.
const REST: Duration = Duration::from_secs(2);
const STRIDE: u64 = 17;
const CHUNK: usize = 1 << 20;

/// Who is visited, and with which first bytes.
#[derive(Debug, Clone)]
pub struct Visit {
    address: SockaddrIn,
    hello: Vec<u8>,
}

/// The hello of each name in `indices`, for its own address.
pub fn visits(indices: impl IntoIterator<Item = usize>) -> Result<Vec<Visit>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let visit = |index| {
        let mut hello = Vec::new();
        let name = ServerName::try_from(cast::name(index))?;
        ClientConnection::new(Arc::clone(&config), name)?.write_tls(&mut hello)?;
        Ok(Visit {
            address: SockaddrIn::from(v4(cast::address(index))?),
            hello,
        })
    };
    indices.into_iter().map(visit).collect()
}

fn v4(address: SocketAddr) -> Result<SocketAddrV4> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(address) => bail!("{address} is not IPv4"),
    }
}

/// One connection.
#[derive(Debug)]
struct Flow {
    socket: OwnedFd,
    /// Index of its visit.
    visit: usize,
    /// When it should have begun.
    due: Instant,
    greeted: bool,
    bytes: u64,
}

/// What became of a flow that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Goes,
    Ended,
    Broke,
}

/// Clients that share a thread.
struct Clients<'a> {
    visits: &'a [Visit],
    poll: Poll,
    flows: Vec<Option<Flow>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
    /// From due to the first byte of an answer.
    waits: Vec<Duration>,
}

impl<'a> Clients<'a> {
    fn new(visits: &'a [Visit], waiting: Waiting) -> Result<Self> {
        finer_timers();
        Ok(Self {
            visits,
            poll: Poll::new(waiting)?,
            flows: Vec::new(),
            free: Vec::new(),
            buffer: vec![0; CHUNK],
            waits: Vec::new(),
        })
    }

    fn open(&self) -> usize {
        self.flows.len() - self.free.len()
    }

    /// Begins a flow, from `source` if there is one.
    fn start(&mut self, number: u64, due: Instant, source: Option<Ipv4Addr>) -> Result<()> {
        let visit = (number * STRIDE % self.visits.len() as u64) as usize;
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        if let Some(source) = source {
            bind(
                socket.as_raw_fd(),
                &SockaddrIn::from(SocketAddrV4::new(source, 0)),
            )?;
        }
        match connect(socket.as_raw_fd(), &self.visits[visit].address) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => return Err(error).context("can't connect"),
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.flows.push(None);
            self.flows.len() - 1
        });
        self.poll.add(socket.as_raw_fd(), slot as u64, Interest::Edges)?;
        self.flows[slot] = Some(Flow {
            socket,
            visit,
            due,
            greeted: false,
            bytes: 0,
        });
        Ok(())
    }

    /// Waits, and goes on with every flow to which something happened; `over` hears of those that ended and how many
    /// bytes each got, 0 if it broke.
    fn turn(&mut self, patience: Duration, mut over: impl FnMut(u64)) -> Result<usize> {
        let mut happened: Vec<Happened> = Vec::new();
        self.poll.wait(patience, &mut happened)?;
        for one in &happened {
            let slot = one.token as usize;
            let seen = self.look(slot);
            if seen != Seen::Goes
                && let Some(flow) = self.flows[slot].take()
            {
                self.free.push(slot);
                over(if seen == Seen::Ended { flow.bytes } else { 0 });
            }
        }
        Ok(happened.len())
    }

    fn look(&mut self, slot: usize) -> Seen {
        let Some(flow) = &mut self.flows[slot] else {
            return Seen::Goes;
        };
        if !flow.greeted {
            let hello = &self.visits[flow.visit].hello;
            match send(flow.socket.as_raw_fd(), hello, MsgFlags::MSG_NOSIGNAL) {
                Ok(sent) if sent == hello.len() => flow.greeted = true,
                // Not connected yet.
                Err(Errno::EAGAIN | Errno::ENOTCONN) => {}
                _ => return Seen::Broke,
            }
            return Seen::Goes;
        }
        loop {
            // Without an answer yet the bytes matter little, and later not at all.
            match recv(flow.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
                Ok(0) => return Seen::Ended,
                Ok(bytes) => {
                    if flow.bytes == 0 {
                        self.waits.push(flow.due.elapsed());
                    }
                    flow.bytes += bytes as u64;
                }
                Err(Errno::EAGAIN) => return Seen::Goes,
                Err(_) => return Seen::Broke,
            }
        }
    }
}

/// Makes `count` flows from `runner`, `at_once` of them at a time, each read to its end.
pub fn run(
    runner: &Machine,
    visits: &[Visit],
    (count, at_once): (u64, usize),
    waiting: Waiting,
) -> Result<Load> {
    let whole = ANSWER_BYTES as u64;
    runner.enter(|| {
        let mut clients = Clients::new(visits, waiting)?;
        let mut load = Load::default();
        while load.tried < count || clients.open() > 0 {
            while load.tried < count && clients.open() < at_once {
                clients.start(load.tried, Instant::now(), None)?;
                load.tried += 1;
            }
            let happened = clients.turn(PATIENCE, |bytes| load.done += u64::from(bytes == whole))?;
            ensure!(happened > 0, "nothing happened for {PATIENCE:?}: {load:?}");
        }
        Ok(load)
    })?
}

/// Begins `rate` flows a second for `span`, whether earlier ones ended or not; how long each took from when it was
/// due to its first byte of answer.
pub fn paced(runner: &Machine, visits: &[Visit], rate: f64, span: Duration) -> Result<(Load, Quantiles)> {
    let (whole, count) = (ANSWER_BYTES as u64, (rate * span.as_secs_f64()) as u64);
    runner.enter(|| {
        let mut clients = Clients::new(visits, Waiting::Awake)?;
        let (mut load, start) = (Load::default(), Instant::now());
        let due = |number: u64| start + Duration::from_secs_f64(number as f64 / rate);
        while load.tried < count || clients.open() > 0 {
            let now = Instant::now();
            while load.tried < count && due(load.tried) <= now {
                // What there is no room for counts as not answered.
                if clients.open() < MOST {
                    clients.start(load.tried, due(load.tried), None)?;
                }
                load.tried += 1;
            }
            let patience = if load.tried < count {
                due(load.tried).saturating_duration_since(Instant::now())
            } else if start.elapsed() < span + REST {
                REST
            } else {
                break;
            };
            clients.turn(patience, |bytes| load.done += u64::from(bytes == whole))?;
        }
        Ok((load, Quantiles::of(clients.waits)))
    })?
}

/// One gibibyte by the downloads of `bulk`, all at once. The load is in MiB.
pub fn download(runner: &Machine, visit: &Visit, bulk: Bulk) -> Result<Load> {
    let whole = bulk.bytes + ANSWER_BYTES as u64;
    let done = runner.enter(|| {
        let mut clients = Clients::new(std::slice::from_ref(visit), Waiting::Asleep)?;
        let mut done = 0;
        for _ in 0..bulk.flows {
            clients.start(0, Instant::now(), None)?;
        }
        while clients.open() > 0 {
            let happened = clients.turn(PATIENCE, |bytes| done += u64::from(bytes == whole))?;
            ensure!(
                happened > 0,
                "nothing happened for {PATIENCE:?}; {done} downloads done"
            );
        }
        Ok::<_, anyhow::Error>(done)
    })??;
    let mebibytes = |flows: u64| (flows * bulk.bytes) >> 20;
    Ok(Load {
        tried: mebibytes(bulk.flows as u64),
        done: mebibytes(done),
    })
}

/// Tunnels that have carried a hello and its answer; they end when this goes.
pub struct Held {
    _sockets: Vec<OwnedFd>,
}

/// Opens `count` tunnels from these sources in turn and leaves them idle.
pub fn hold(runner: &Machine, visit: &Visit, count: usize, sources: &[Ipv4Addr]) -> Result<Held> {
    runner.enter(|| {
        let mut clients = Clients::new(std::slice::from_ref(visit), Waiting::Asleep)?;
        let mut started = 0;
        while clients.waits.len() < count {
            while started < count && started - clients.waits.len() < CLIENTS {
                clients.start(0, Instant::now(), Some(sources[started % sources.len()]))?;
                started += 1;
            }
            let mut broken = 0;
            let happened = clients.turn(PATIENCE, |_| broken += 1)?;
            let answered = clients.waits.len();
            ensure!(
                happened > 0 && broken == 0,
                "{answered} of {count} tunnels answered, {broken} broke"
            );
        }
        let sockets = clients.flows.into_iter().flatten().map(|flow| flow.socket);
        Ok(Held {
            _sockets: sockets.collect(),
        })
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_names_its_host_and_fits_one_segment() {
        let visits = visits([7]).expect("hellos are made");
        let hello = &visits[0].hello;
        assert!(hello.windows(20).any(|part| part == cast::name(7).as_bytes()));
        assert!(
            hello.starts_with(&[22, 3, 1]) && hello.len() < 1_400,
            "{} bytes",
            hello.len()
        );
    }
}
