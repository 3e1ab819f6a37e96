//! Looking at bytes while they pass: the seam between the relay and what reads hellos and requests in it.
//! Owns the hand-over from looking to splicing; never delays a byte longer than a look takes. Driven by
//! [`super::relay`].

use std::io;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::way::{self, Broken};
use super::{Direction, Meter, Path};

/// Bytes looked at in one piece.
const PIECE: usize = 16 << 10;

/// What an inspector wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Show the next bytes too.
    More,
    /// Nothing more needs to be seen in either direction.
    Enough,
    /// End the flow; what was put into `pass` is not passed on.
    Stop,
}

/// Sees the bytes of a flow before they pass.
pub trait Inspect: Send {
    /// Looks at the next bytes of one direction, in the order in which they come, and puts what may pass
    /// into the empty `pass`. What is held back is put there later, or comes from [`Inspect::release`].
    fn look(&mut self, direction: Direction, bytes: &[u8], pass: &mut Vec<u8>) -> Look;

    /// One direction's source ended.
    fn ended(&mut self, _direction: Direction) -> Look {
        Look::More
    }

    /// Bytes of one direction that were held back when enough was seen.
    fn release(&mut self, _direction: Direction) -> Vec<u8> {
        Vec::new()
    }

    /// True when nothing needs to be seen from the start.
    fn satisfied(&self) -> bool {
        false
    }
}

/// Sees nothing.
impl Inspect for () {
    fn look(&mut self, _: Direction, bytes: &[u8], pass: &mut Vec<u8>) -> Look {
        pass.extend_from_slice(bytes);
        Look::Enough
    }

    fn satisfied(&self) -> bool {
        true
    }
}

/// Why a direction ended early.
#[derive(Debug)]
pub(super) enum Halt {
    Broken(Broken),
    Stopped,
}

/// One inspector for both directions.
pub(super) struct Shared<'a, 'w> {
    watch: Mutex<&'a mut (dyn Inspect + 'w)>,
    enough: CancellationToken,
}

impl<'a, 'w> Shared<'a, 'w> {
    pub(super) fn new(watch: &'a mut (dyn Inspect + 'w)) -> Self {
        let enough = CancellationToken::new();
        if watch.satisfied() {
            enough.cancel();
        }
        Self {
            watch: Mutex::new(watch),
            enough,
        }
    }

    /// Passes looked-at bytes until enough was seen; true when the source ended before that.
    pub(super) async fn carry(
        &self,
        source: &TcpStream,
        sink: &TcpStream,
        direction: Direction,
        meter: &Meter<'_>,
    ) -> Result<bool, Halt> {
        let mut pass = Vec::new();
        loop {
            // Between two pieces only: a piece that was looked at is always written.
            tokio::select! {
                biased;
                () = self.enough.cancelled() => {
                    let held = self.watch.lock().release(direction);
                    put(sink, &held, meter).await?;
                    return Ok(false);
                }
                ready = source.readable() => ready.map_err(|error| Halt::Broken(Broken::Source(error)))?,
            }
            pass.clear();
            let look = match self.read(source, direction, &mut pass) {
                Ok(Seen::End(look)) => {
                    self.heed(look)?;
                    way::end_writes(sink);
                    return Ok(true);
                }
                Ok(Seen::Bytes(look)) => look,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(Halt::Broken(Broken::Source(error))),
            };
            if look == Look::Stop {
                return Err(Halt::Stopped);
            }
            put(sink, &pass, meter).await?;
            self.heed(look)?;
        }
    }

    fn read(&self, source: &TcpStream, direction: Direction, pass: &mut Vec<u8>) -> io::Result<Seen> {
        let mut piece = [0; PIECE];
        let read = source.try_read(&mut piece)?;
        let mut watch = self.watch.lock();
        Ok(match &piece[..read] {
            [] => Seen::End(watch.ended(direction)),
            bytes => Seen::Bytes(watch.look(direction, bytes, pass)),
        })
    }

    fn heed(&self, look: Look) -> Result<(), Halt> {
        match look {
            Look::More => Ok(()),
            Look::Enough => {
                self.enough.cancel();
                Ok(())
            }
            Look::Stop => Err(Halt::Stopped),
        }
    }
}

enum Seen {
    End(Look),
    Bytes(Look),
}

pub(super) async fn put(sink: &TcpStream, bytes: &[u8], meter: &Meter<'_>) -> Result<(), Halt> {
    if bytes.is_empty() {
        return Ok(());
    }
    way::write_all(sink, bytes)
        .await
        .map_err(|error| Halt::Broken(Broken::Sink(error)))?;
    meter.moved(bytes.len(), Path::Copy);
    Ok(())
}
