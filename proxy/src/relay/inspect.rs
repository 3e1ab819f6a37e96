//! Looking at bytes while they pass: the seam between the relay and what reads hellos and requests in it.
//! Owns the hand-over from looking to carrying; never delays a byte longer than a look takes. Driven by
//! [`super::relay`].

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use parking_lot::Mutex;

use super::way::Broken;
use super::{Direction, Meter, Path};
use crate::leg::Leg;

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

/// One inspector for both directions, which are polled by one task.
pub(super) struct Shared<'a, 'w> {
    watch: Mutex<&'a mut (dyn Inspect + 'w)>,
    enough: AtomicBool,
}

impl<'a, 'w> Shared<'a, 'w> {
    pub(super) fn new(watch: &'a mut (dyn Inspect + 'w)) -> Self {
        let enough = AtomicBool::new(watch.satisfied());
        Self {
            watch: Mutex::new(watch),
            enough,
        }
    }

    /// Passes looked-at bytes until enough was seen; true when the source ended before that.
    pub(super) async fn carry(
        &self,
        source: &Leg,
        sink: &Leg,
        direction: Direction,
        meter: &Meter<'_>,
    ) -> Result<bool, Halt> {
        // Between two pieces only: a piece that was looked at is always written.
        while self.more(source).await {
            let mut pass = Vec::new();
            let seen = source.try_take(|bytes| {
                let mut watch = self.watch.lock();
                if bytes.is_empty() {
                    return Seen::End(watch.ended(direction));
                }
                Seen::Bytes(watch.look(direction, bytes, &mut pass))
            });
            let look = match seen {
                Ok(Seen::End(look)) => {
                    self.heed(look).await?;
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
            self.heed(look).await?;
        }
        let held = self.watch.lock().release(direction);
        put(sink, &held, meter).await?;
        Ok(false)
    }

    /// Waits for something to look at; false once enough was seen.
    async fn more(&self, source: &Leg) -> bool {
        tokio::task::coop::consume_budget().await;
        poll_fn(|cx| {
            if self.enough.load(Ordering::Relaxed) {
                return Poll::Ready(false);
            }
            source.poll_readable(cx).map(|()| true)
        })
        .await
    }

    async fn heed(&self, look: Look) -> Result<(), Halt> {
        match look {
            Look::More => Ok(()),
            Look::Enough => {
                if !self.enough.swap(true, Ordering::Relaxed) {
                    // The other direction has it from being polled again.
                    poll_fn(|cx| {
                        cx.waker().wake_by_ref();
                        Poll::Ready(())
                    })
                    .await;
                }
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

pub(super) async fn put(sink: &Leg, bytes: &[u8], meter: &Meter<'_>) -> Result<(), Halt> {
    if bytes.is_empty() {
        return Ok(());
    }
    sink.write_all(bytes)
        .await
        .map_err(|error| Halt::Broken(Broken::Sink(error)))?;
    meter.moved(bytes.len(), Path::Copy);
    Ok(())
}
