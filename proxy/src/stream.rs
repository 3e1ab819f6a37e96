//! A TCP connection of the data plane. Owns the socket, its readiness, and the thread's buffer that reads go
//! through; never decides how the connection ends (`leg` does). Used by everything that moves bytes.
//!
//! No system call is made for what is known: a read that leaves room in its buffer has emptied the socket, an
//! end that was announced together with the last bytes needs no read of its own, and small writes are set to
//! pass at once when there is a second one.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::reactor::{Ready, Side, Source};

/// Bytes read at once, a thread. Small, because what a slow sink did not take is kept for it.
pub(crate) const PIECE: usize = 16 << 10;

/// Silence after which a peer is asked whether it is there, on both sides of a flow.
const KEEPALIVE_AFTER: Duration = Duration::from_mins(2);
/// Between two such questions; the kernel gives up after nine.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into_boxed_slice());
}

/// Writes so far: the first one never waits for an acknowledgement, so it needs no `TCP_NODELAY`.
const NONE: u8 = 0;
const ONE: u8 = 1;
/// `TCP_NODELAY` is set.
const EAGER: u8 = 2;

/// A connection, readable and writable through a shared reference.
#[derive(Debug)]
pub(crate) struct Stream {
    source: Source,
    socket: std::net::TcpStream,
    writes: AtomicU8,
}

impl Stream {
    /// A connection that a listener gave, which [`set_up`] was applied to.
    pub(crate) fn accepted(socket: std::net::TcpStream) -> io::Result<Self> {
        Self::new(socket, Ready::WRITE, EAGER)
    }

    /// A non-blocking socket whose connection is being made.
    pub(crate) fn connecting(socket: std::net::TcpStream) -> io::Result<Self> {
        Self::new(socket, Ready::default(), NONE)
    }

    fn new(socket: std::net::TcpStream, known: Ready, writes: u8) -> io::Result<Self> {
        Ok(Self {
            source: Source::register(&socket, known)?,
            socket,
            writes: AtomicU8::new(writes),
        })
    }

    /// Returns when the connection is made, or has failed.
    pub(crate) async fn connected(&self) -> io::Result<()> {
        self.writable().await;
        if self.source.known().has(Ready::FAILED) {
            self.socket.take_error()?.map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    /// Returns when a read may find something. May return too early, never too late.
    pub(crate) async fn readable(&self) {
        tokio::task::coop::consume_budget().await;
        poll_fn(|cx| self.poll_readable(cx)).await;
    }

    /// The same, for who waits for more than that.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.source.poll(cx, Side::Read)
    }

    /// Returns when a write may find room.
    pub(crate) async fn writable(&self) {
        poll_fn(|cx| self.poll_writable(cx)).await;
    }

    /// The same, for who waits for more than that.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.source.poll(cx, Side::Write)
    }

    /// Reads what is there; 0 is the end.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        self.attempt(|mut socket| socket.read(buffer), |read| read < room)
    }

    /// Reads what is there through the thread's buffer and shows it to `take`; nothing is the end.
    pub(crate) fn try_take<T>(&self, take: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        BUFFER.with_borrow_mut(|buffer| {
            let read = self.try_read(buffer)?;
            Ok(take(&buffer[..read]))
        })
    }

    /// Moves what is there by `fill`, of which nobody knows how much it leaves; 0 is the end.
    pub(crate) fn try_fill(
        &self,
        fill: impl FnOnce(&std::net::TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.attempt(fill, |_| false)
    }

    fn attempt(
        &self,
        read: impl FnOnce(&std::net::TcpStream) -> io::Result<usize>,
        empties: impl FnOnce(usize) -> bool,
    ) -> io::Result<usize> {
        let known = self.source.spend(Ready::READ);
        if known.has(Ready::ENDED) {
            self.source.note(Ready::READ);
            return Ok(0);
        }
        let read = read(&self.socket);
        match &read {
            Ok(bytes @ 1..) if empties(*bytes) && !known.has(Ready::URGENT) => {
                // What was the end when the bytes came is the end now. A failure is for a read to tell.
                if known.has(Ready::CLOSED) && !known.has(Ready::FAILED) {
                    self.source.note(Ready::READ | Ready::ENDED);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => self.source.note(Ready::READ),
        }
        read
    }

    /// Waits for something to read without taking it; 0 is the end.
    pub(crate) async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.readable().await;
            self.source.spend(Ready::READ);
            match self.socket.peek(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                peeked => {
                    self.source.note(Ready::READ);
                    return peeked;
                }
            }
        }
    }

    /// Writes what there is room for.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes.len(), |mut socket| socket.write(bytes))
    }

    /// Writes by `drain`, which has `held` bytes.
    pub(crate) fn try_drain(
        &self,
        held: usize,
        drain: impl FnOnce(&std::net::TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.put(held, drain)
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.writable().await;
            match self.try_write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn put(
        &self,
        bytes: usize,
        write: impl FnOnce(&std::net::TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match self.writes.load(Ordering::Relaxed) {
            NONE => self.writes.store(ONE, Ordering::Relaxed),
            ONE => {
                self.writes.store(EAGER, Ordering::Relaxed);
                let _ = self.socket.set_nodelay(true);
            }
            _ => {}
        }
        self.source.spend(Ready::WRITE);
        let written = write(&self.socket);
        match &written {
            // Short of room: the kernel tells when there is some again.
            Ok(written) if *written < bytes => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => self.source.note(Ready::WRITE),
        }
        written
    }

    /// Half-closes. A peer that is gone already has nothing to be told.
    pub(crate) fn end_writes(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Acknowledges what has come, and what comes, at once: a peer that has more to say may be waiting for that
    /// (Nagle's algorithm).
    pub(crate) fn acknowledge(&self) {
        let _ = SockRef::from(&self.socket).set_tcp_quickack(true);
    }

    /// Asks a silent peer whether it is there from now on.
    pub(crate) fn keep_alive(&self) {
        let _ = SockRef::from(&self.socket).set_tcp_keepalive(&keepalive());
    }

    /// Another handle of the connection, for a library that wants to own one.
    pub(crate) fn twin(&self) -> io::Result<tokio::net::TcpStream> {
        if self.writes.swap(EAGER, Ordering::Relaxed) != EAGER {
            let _ = self.socket.set_nodelay(true);
        }
        tokio::net::TcpStream::from_std(self.socket.try_clone()?)
    }

    /// Leaves the connection to its twin: nothing of it is told here any more.
    pub(crate) fn retire(&self) -> io::Result<()> {
        self.source.deregister(&self.socket)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Options that connections inherit from the listener that they come from: small writes pass at once, dead
/// peers are noticed, and what is said first is not acknowledged before there is an answer that carries that
/// (or the kernel's 40 ms are over): a packet less for a hello. Anything else wants [`Stream::acknowledge`].
pub(crate) fn set_up(listener: &std::net::TcpListener) -> io::Result<()> {
    let listener = SockRef::from(listener);
    listener.set_tcp_nodelay(true)?;
    listener.set_tcp_quickack(false)?;
    listener.set_tcp_keepalive(&keepalive())
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
}
