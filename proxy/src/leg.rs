//! One side of a flow: a connection that is reset when it is dropped, unless its end was orderly. Owns that
//! rule alone, so that no path out of a flow (an error, a verdict, a cancelled task) makes cut-off bytes
//! look complete. Used for the runner's side and the dialled one.

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::stream::Stream;

/// Bytes that a client may still send after an explanation; the rest is answered by a reset.
const MOST_DRAINED: usize = 256 << 10;

/// One connection of a flow.
#[derive(Debug)]
pub(crate) struct Leg {
    stream: Stream,
    orderly: AtomicBool,
    guarded: AtomicBool,
}

impl Leg {
    /// Wraps a connection; dropping it resets it.
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            orderly: AtomicBool::new(false),
            guarded: AtomicBool::new(false),
        }
    }

    /// From here on, dropping it closes it in order.
    pub(crate) fn orderly(&self) {
        self.orderly.store(true, Ordering::Relaxed);
        if self.guarded.swap(false, Ordering::Relaxed) {
            self.set_linger(None);
        }
    }

    /// From here on, the end of the process resets it too. Costs two system calls, so it is for connections
    /// whose bytes don't show by themselves that some are missing (TLS does), and for those that last.
    pub(crate) fn guard(&self) {
        if !self.orderly.load(Ordering::Relaxed) && !self.guarded.swap(true, Ordering::Relaxed) {
            self.set_linger(Some(Duration::ZERO));
        }
    }

    /// From here on, the connection is one that lasts: guarded, and asked when it is silent.
    pub(crate) fn last(&self) {
        self.guard();
        self.keep_alive();
    }

    /// Gives the connection away, with its ordinary close.
    pub(crate) fn into_stream(self) -> io::Result<TcpStream> {
        self.acknowledge();
        let given = self.twin()?;
        self.retire()?;
        self.orderly();
        Ok(given)
    }

    /// Says `words`, then closes in order: ends the write side and reads on for at most `patience`,
    /// because bytes that nobody reads turn the close into a reset that overtakes the words.
    pub(crate) async fn farewell(&self, words: &[u8], patience: Duration) {
        let said = async {
            self.write_all(words).await?;
            self.end_writes();
            // Unread words are still delivered after the close; only a flood is cut off.
            self.orderly();
            self.drained().await
        };
        if matches!(tokio::time::timeout(patience, said).await, Ok(Err(_))) {
            self.orderly.store(false, Ordering::Relaxed);
        }
    }

    async fn drained(&self) -> io::Result<()> {
        let mut left = MOST_DRAINED;
        loop {
            self.readable().await;
            match self.try_take(<[u8]>::len) {
                Ok(0) => return Ok(()),
                Ok(read) => left = left.checked_sub(read).ok_or(io::ErrorKind::FileTooLarge)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A linger of zero makes the close a reset (socket(7)).
    fn set_linger(&self, linger: Option<Duration>) {
        let _ = SockRef::from(&self.stream).set_linger(linger);
    }
}

impl Deref for Leg {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        if !self.orderly.load(Ordering::Relaxed) && !self.guarded.load(Ordering::Relaxed) {
            self.set_linger(Some(Duration::ZERO));
        }
    }
}
