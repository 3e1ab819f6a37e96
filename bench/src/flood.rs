//! The DNS load: one UDP socket of a runner, many queries outstanding, every answer checked.
//!
//! Never the bottleneck by design: a query is a copied template with another id, sent by one system call.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tidegate_lab::Machine;

use crate::measure::Load;

/// Queries outstanding at most.
const WINDOW: u64 = 64;
/// Without an answer for this long, what is outstanding is lost.
const LOST_AFTER: Duration = Duration::from_millis(200);
/// Names are asked for in an order that is not the allowlist's.
const STRIDE: u64 = 17;
const RESPONSE: u8 = 0x80;
const RCODE: u8 = 0x0f;

/// A client that asks for the same names over and over.
#[derive(Debug)]
pub struct Flood {
    socket: UdpSocket,
    /// A query for each name; the first two bytes are its id's.
    queries: Vec<Vec<u8>>,
    /// By id: whether its answer is awaited.
    pending: Vec<bool>,
}

impl Flood {
    /// A client on `runner` that asks `server` for the A records of `names`, as stub resolvers do (RD, no EDNS).
    pub fn open(runner: &Machine, server: SocketAddr, names: &[String]) -> Result<Self> {
        let socket = runner.enter(|| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(server)?;
            socket.set_read_timeout(Some(LOST_AFTER))?;
            Ok::<_, std::io::Error>(socket)
        })?;
        Ok(Self {
            socket: socket.context("can't open a client socket")?,
            queries: names.iter().map(|name| query(name)).collect(),
            pending: vec![false; 1 << 16],
        })
    }

    /// How many names there are.
    pub fn names(&self) -> u64 {
        self.queries.len() as u64
    }

    /// Asks `count` times. A count of [`names`](Self::names) asks for each once.
    pub fn run(&mut self, count: u64) -> Result<Load> {
        let (mut load, mut outstanding) = (Load::default(), 0);
        let mut buffer = [0; 512];
        while load.tried < count || outstanding > 0 {
            while outstanding < WINDOW && load.tried < count {
                self.ask(load.tried)?;
                load.tried += 1;
                outstanding += 1;
            }
            let mut flags = MsgFlags::empty();
            loop {
                match recv(self.socket.as_raw_fd(), &mut buffer, flags) {
                    Ok(length) => {
                        if let Some(right) = self.accept(&buffer[..length]) {
                            outstanding -= 1;
                            load.done += u64::from(right);
                        }
                    }
                    Err(Errno::EAGAIN) if flags.is_empty() => {
                        self.pending.fill(false);
                        outstanding = 0;
                        break;
                    }
                    Err(Errno::EAGAIN) => break,
                    // A server that is not there yet.
                    Err(Errno::ECONNREFUSED) => {}
                    Err(error) => return Err(error).context("can't receive answers"),
                }
                flags = MsgFlags::MSG_DONTWAIT;
            }
        }
        Ok(load)
    }

    fn ask(&mut self, number: u64) -> Result<()> {
        let id = number as u16;
        let name = (number * STRIDE % self.names()) as usize;
        self.queries[name][..2].copy_from_slice(&id.to_be_bytes());
        self.pending[usize::from(id)] = true;
        match self.socket.send(&self.queries[name]) {
            Err(error) if error.kind() != ErrorKind::ConnectionRefused => {
                Err(error).context("can't send a query")
            }
            _sent_or_told_of_an_earlier_one => Ok(()),
        }
    }

    /// Whether an awaited answer is right (one record, no error); `None` if nobody awaits it.
    fn accept(&mut self, answer: &[u8]) -> Option<bool> {
        let &[
            id_high,
            id_low,
            flags_high,
            flags_low,
            _,
            _,
            answers_high,
            answers_low,
            ..,
        ] = answer
        else {
            return None;
        };
        let awaited = &mut self.pending[usize::from(u16::from_be_bytes([id_high, id_low]))];
        if !std::mem::take(awaited) {
            return None;
        }
        let records = u16::from_be_bytes([answers_high, answers_low]);
        Some(flags_high & RESPONSE != 0 && flags_low & RCODE == 0 && records == 1)
    }
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
