//! The origins of the TLS load, in a process of their own so that neither their descriptors nor their time are the
//! clients': they answer a hello with bytes of the right shape, and then close, send a bulk or hold the connection.
//!
//! Computes no cryptography, so that the gateway is what is measured. The benchmark starts itself again for it.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, RawFd};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::cast::{self, BULKS, Bulk, HOLD, SMALL_ORIGINS};
use crate::sys::{Interest, Poll, Waiting};

/// Bytes of an origin's first answer: hello and certificates, about.
pub const ANSWER_BYTES: usize = 3_000;
/// Bytes of one write of a bulk.
const CHUNK: usize = 256 << 10;
const TURN: Duration = Duration::from_secs(1);

/// Serves all origins of the cast until the process is killed.
pub fn serve(waiting: Waiting) -> Result<()> {
    for bulk in BULKS {
        let listener = listen(cast::address(bulk.name))?;
        listener.set_nonblocking(false)?;
        thread::spawn(move || serve_bulk(&listener, bulk));
    }
    let small = (0..SMALL_ORIGINS).map(|index| (cast::address(index), false));
    let mut origins = Origins::default();
    for (address, holds) in small.chain([(cast::address(HOLD), true)]) {
        let listener = listen(address)?;
        origins.listeners.insert(listener.as_raw_fd(), (listener, holds));
    }
    origins.serve(waiting)
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("can't listen on {address}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// One thread a download: few, and they only wait for the other end.
fn serve_bulk(listener: &TcpListener, bulk: Bulk) {
    while let Ok((stream, _)) = listener.accept() {
        // A client that left early is the client's to count.
        thread::spawn(move || send_bulk(stream, bulk));
    }
}

fn send_bulk(mut stream: TcpStream, bulk: Bulk) -> io::Result<()> {
    if stream.read(&mut [0; 4096])? == 0 {
        return Ok(());
    }
    stream.write_all(&answer())?;
    // Copied: what `sendfile` sends made receivers shrink their windows here.
    let chunk = vec![0x5a; CHUNK];
    let mut left = bulk.bytes;
    while left > 0 {
        let part = left.min(CHUNK as u64) as usize;
        stream.write_all(&chunk[..part])?;
        left -= part as u64;
    }
    Ok(())
}

/// The origins of small flows and of idle tunnels: one thread, no more system calls than needed.
#[derive(Default)]
struct Origins {
    listeners: HashMap<RawFd, (TcpListener, bool)>,
    /// By descriptor: connections that wait for a hello, or are held, and which of both.
    waiting: HashMap<RawFd, (TcpStream, bool)>,
}

impl Origins {
    fn serve(mut self, waiting: Waiting) -> Result<()> {
        let (poll, answer) = (Poll::new(waiting)?, answer());
        for fd in self.listeners.keys() {
            poll.add(*fd, *fd as u64, Interest::Read)?;
        }
        let mut happened = Vec::new();
        loop {
            poll.wait(TURN, &mut happened)?;
            for one in happened.drain(..) {
                let fd = one.token as RawFd;
                if self.listeners.contains_key(&fd) {
                    self.accept(fd, &poll, &answer)?;
                } else if let Some((stream, holds)) = self.waiting.remove(&fd)
                    && let Some(stream) = converse(stream, &answer, holds)
                {
                    self.waiting.insert(fd, (stream, holds));
                }
            }
        }
    }

    /// Takes all that wait; most have sent their hello already.
    fn accept(&mut self, listener: RawFd, poll: &Poll, answer: &[u8]) -> Result<()> {
        let Some((listener, holds)) = self.listeners.get(&listener) else {
            return Ok(());
        };
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            if let Some(stream) = converse(stream, answer, *holds) {
                poll.add(stream.as_raw_fd(), stream.as_raw_fd() as u64, Interest::Read)?;
                self.waiting.insert(stream.as_raw_fd(), (stream, *holds));
            }
        }
        Ok(())
    }
}

/// Answers a hello. The connection, if it goes on.
fn converse(mut stream: TcpStream, answer: &[u8], holds: bool) -> Option<TcpStream> {
    match stream.read(&mut [0; 4096]) {
        Ok(0) => None,
        // An answer fits a fresh socket's buffer; a client that left is the client's to count.
        Ok(_) => (stream.write_all(answer).is_ok() && holds).then_some(stream),
        Err(error) => (error.kind() == ErrorKind::WouldBlock).then_some(stream),
    }
}

/// A ServerHello record and one of application data, as a TLS 1.3 server's first flight looks from outside.
fn answer() -> Vec<u8> {
    let mut server_hello = vec![3, 3];
    server_hello.extend_from_slice(&[0xa5; 32]);
    server_hello.extend_from_slice(&[0, 0x13, 0x01, 0, 0, 6, 0, 0x2b, 0, 2, 3, 4]);
    let mut message = vec![2, 0, 0, server_hello.len() as u8];
    message.append(&mut server_hello);
    let mut answer = record(22, &message);
    let rest = ANSWER_BYTES - answer.len() - 5;
    answer.append(&mut record(23, &vec![0x5a; rest]));
    answer
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 3, 3];
    record.extend_from_slice(&(body.len() as u16).to_be_bytes());
    record.extend_from_slice(body);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_two_records_of_the_announced_length() {
        let answer = answer();
        assert_eq!(answer.len(), ANSWER_BYTES);
        let first = usize::from(u16::from_be_bytes([answer[3], answer[4]])) + 5;
        let second = usize::from(u16::from_be_bytes([answer[first + 3], answer[first + 4]])) + 5;
        assert_eq!((answer[0], answer[first], first + second), (22, 23, ANSWER_BYTES));
    }
}
