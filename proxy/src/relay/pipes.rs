//! Pipes for `splice(2)`: a bounded pool of them, lent to a direction of a flow while bytes pass and
//! returned when it falls silent, so that an idle flow holds none. Never moves bytes itself. Driven by the
//! relay.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use parking_lot::Mutex;

/// A bounded pool of pipes.
#[derive(Debug)]
pub struct PipePool {
    free: Mutex<Vec<Pipe>>,
    made: AtomicUsize,
    limit: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
}

impl PipePool {
    /// A pool of at most `limit` pipes of `bytes` each. Pipes are made when first needed.
    pub fn new(limit: usize, bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::new(Vec::new()),
            made: AtomicUsize::new(0),
            limit,
            bytes,
        })
    }

    /// Lends an empty pipe; `None` when all are in use, or no more can be made (EMFILE, ENFILE): the
    /// caller then copies.
    pub fn take(self: &Arc<Self>) -> Option<Lent> {
        let pipe = self.free.lock().pop();
        let pipe = pipe.or_else(|| self.make())?;
        Some(Lent {
            pool: Arc::clone(self),
            pipe: Some(pipe),
            held: 0,
        })
    }

    /// Pipes that exist, lent or free.
    pub fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    fn make(&self) -> Option<Pipe> {
        let room = |made: usize| (made < self.limit).then_some(made + 1);
        self.made
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .ok()?;
        let made = Pipe::open(self.bytes);
        if made.is_err() {
            self.made.fetch_sub(1, Ordering::Relaxed);
        }
        made.ok()
    }
}

impl Pipe {
    fn open(bytes: usize) -> nix::Result<Self> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // A user without CAP_SYS_RESOURCE whose pipes hold 64 MiB in all gets EPERM here, and pipes of
        // two pages from then on: slower, and still no copy.
        let grown = fcntl(
            &write,
            FcntlArg::F_SETPIPE_SZ(i32::try_from(bytes).unwrap_or(i32::MAX)),
        );
        let capacity = match grown {
            Ok(capacity) => capacity,
            Err(Errno::EPERM | Errno::ENOMEM | Errno::EBUSY) => fcntl(&write, FcntlArg::F_GETPIPE_SZ)?,
            Err(other) => return Err(other),
        };
        Ok(Self {
            read,
            write,
            capacity: usize::try_from(capacity).unwrap_or_default(),
        })
    }
}

/// A pipe in use by one direction of one flow. Goes back to the pool when dropped empty; with bytes in it
/// (the flow broke), it is closed instead, since the next flow would send them.
#[derive(Debug)]
pub struct Lent {
    pool: Arc<PipePool>,
    pipe: Option<Pipe>,
    held: usize,
}

impl Lent {
    /// Bytes in the pipe.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Bytes that fit into the empty pipe.
    pub fn capacity(&self) -> usize {
        self.pipe.as_ref().map_or(0, |pipe| pipe.capacity)
    }

    /// Moves what `source` has into the empty pipe; 0 is its end.
    ///
    /// Call it only while nothing is held: then `WouldBlock` means that the source has nothing, never that
    /// the pipe is full, and an end can't overtake bytes in the pipe.
    pub fn fill(&mut self, source: impl AsFd) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0, "a pipe is filled only when it is empty");
        let moved = self.splice(|pipe| (source.as_fd(), pipe.write.as_fd()), self.capacity())?;
        self.held = moved;
        Ok(moved)
    }

    /// Moves held bytes into `sink`, as many as it takes.
    pub fn drain(&mut self, sink: impl AsFd) -> io::Result<usize> {
        let moved = self.splice(|pipe| (pipe.read.as_fd(), sink.as_fd()), self.held)?;
        if moved == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.held -= moved;
        Ok(moved)
    }

    fn splice<'a>(
        &'a self,
        ends: impl FnOnce(&'a Pipe) -> (BorrowedFd<'a>, BorrowedFd<'a>),
        bytes: usize,
    ) -> io::Result<usize> {
        use nix::fcntl::{SpliceFFlags, splice};
        let Some(pipe) = &self.pipe else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let (from, to) = ends(pipe);
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        Ok(splice(from, None, to, None, bytes, flags)?)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(pipe) = self.pipe.take() else { return };
        if self.held == 0 {
            self.pool.free.lock().push(pipe);
        } else {
            self.pool.made.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (one, two) = UnixStream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        (one, two)
    }

    #[test]
    fn at_the_bound_none_is_lent_until_one_comes_back() {
        let pool = PipePool::new(2, 65_536);
        let (one, _two) = (pool.take().unwrap(), pool.take().unwrap());
        assert!(pool.take().is_none());
        drop(one);
        assert!(pool.take().is_some());
        assert_eq!(pool.made(), 2, "the returned one was lent again");
    }

    #[test]
    fn a_pipe_with_bytes_in_it_is_never_lent_again() {
        let pool = PipePool::new(1, 65_536);
        let (source, mut writer) = pair();
        writer.write_all(b"secret of another flow").unwrap();
        let mut lent = pool.take().unwrap();
        assert_eq!(lent.fill(&source).unwrap(), 22);
        drop(lent);
        assert_eq!(pool.made(), 0);
        let mut fresh = pool.take().unwrap();
        let (sink, mut reader) = pair();
        drop(writer);
        assert_eq!(fresh.fill(&source).unwrap(), 0, "the end of the source");
        drop((fresh, sink));
        assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn bytes_pass_through_and_blocking_is_told() {
        let pool = PipePool::new(1, 65_536);
        let (source, mut writer) = pair();
        let (sink, mut reader) = pair();
        let mut lent = pool.take().unwrap();
        assert_eq!(lent.fill(&source).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        writer.write_all(b"hello").unwrap();
        assert_eq!(lent.fill(&source).unwrap(), 5);
        assert_eq!(lent.drain(&sink).unwrap(), 5);
        let mut got = [0; 5];
        reader.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
    }
}
