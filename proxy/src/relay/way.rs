//! One direction of a relayed connection: from one side to the other until the end. What is small is copied
//! through the thread's buffer; once a read fills that buffer, `splice(2)` moves the bytes for as long as they come in
//! such amounts and the pool has pipes. Owns no socket; never looks at bytes (`inspect` does, at first). Driven by
//! `relay::Relay`, two of them a connection, by hand: an idle one holds a few words.

use std::io;
use std::task::{Context, Poll, ready};

use super::inspect::{Seen, Shared};
use super::pipes::Lent;
use super::{Direction, Halt, Look, Meter, Path, Relay};
use crate::leg::Leg;
use crate::stream::PIECE;

/// Pieces moved before another flow has its turn.
const TURNS: usize = 64;

/// Which end of a direction failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The end that bytes come from: usually a reset.
    #[error("the sending side failed")]
    Source(#[source] io::Error),
    /// The end that bytes go to.
    #[error("the receiving side failed")]
    Sink(#[source] io::Error),
}

/// What is done with the next bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// They are shown to the inspector.
    Looking,
    /// They are carried.
    Carrying,
    /// There are none.
    Ended,
}

/// The state of one direction.
#[derive(Debug)]
pub(super) struct Way {
    direction: Direction,
    stage: Stage,
    /// What the inspector said of bytes that are on their way, to be heeded behind them.
    then: Option<Look>,
    /// The last wake brought as much as a buffer holds.
    bulky: bool,
    /// What the sink has not taken yet.
    rest: Vec<u8>,
    written: usize,
    /// The rest is counted when it is written.
    uncounted: bool,
    /// Held while bytes pass, never while waiting for some.
    pipe: Option<Lent>,
    spliced: usize,
}

/// The two sides of a direction, and where it counts.
struct Ends<'a> {
    source: &'a Leg,
    sink: &'a Leg,
    meter: Meter<'a>,
}

impl Way {
    /// A direction that begins with these bytes.
    pub(super) fn new(direction: Direction, first: Vec<u8>) -> Self {
        Self {
            direction,
            stage: Stage::Looking,
            then: None,
            bulky: false,
            rest: first,
            written: 0,
            uncounted: true,
            pipe: None,
            spliced: 0,
        }
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// Carries bytes while there are some; ready at the end of the source, when all before it is written.
    /// That end is for the caller to pass on.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        relay: &Relay<'_>,
        shared: &Shared<'_, '_>,
    ) -> Poll<Result<(), Halt>> {
        let ends = Ends {
            source: relay.source(self.direction),
            sink: relay.sink(self.direction),
            meter: relay.meter(self.direction),
        };
        for _ in 0..TURNS {
            ready!(self.poll_flush(cx, &ends)).map_err(|error| Halt::Broken(Broken::Sink(error)))?;
            if let Some(look) = self.then.take() {
                shared.heed(look, cx)?;
            }
            match self.stage {
                Stage::Ended => return Poll::Ready(Ok(())),
                Stage::Looking if shared.has_enough() => {
                    self.put(shared.release(self.direction));
                    self.stage = Stage::Carrying;
                }
                Stage::Looking => {
                    ready!(ends.source.poll_readable(cx));
                    self.look(ends.source, shared)?;
                }
                Stage::Carrying => {
                    if self.pipe.is_none() {
                        ready!(ends.source.poll_readable(cx));
                        self.pipe = if self.bulky { relay.means.pool.take() } else { None };
                    }
                    self.carry(&ends).map_err(Halt::Broken)?;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what is to be written before anything else is read.
    fn poll_flush(&mut self, cx: &mut Context<'_>, ends: &Ends<'_>) -> Poll<io::Result<()>> {
        while let Some(left @ [_, ..]) = self.rest.get(self.written..) {
            ready!(ends.sink.poll_writable(cx));
            match ends.sink.try_write(left) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if self.written > 0 {
            if self.uncounted {
                ends.meter.moved(self.rest.len(), Path::Copy);
            }
            (self.rest, self.written) = (Vec::new(), 0);
        }
        // Emptied wholly before it is filled again: see `Lent::fill`.
        while let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.held() > 0) {
            ready!(ends.sink.poll_writable(cx));
            match ends.sink.try_drain(pipe.held(), |sink| pipe.drain(sink)) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                Ok(_) | Err(_) => {}
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Has these bytes written, and counted then.
    fn put(&mut self, bytes: Vec<u8>) {
        (self.rest, self.uncounted) = (bytes, true);
    }

    /// Shows the next bytes to the inspector. A piece that was looked at is always written.
    fn look(&mut self, source: &Leg, shared: &Shared<'_, '_>) -> Result<(), Halt> {
        match shared.see(source, self.direction) {
            Ok(Seen::Bytes(Look::Stop, _)) => return Err(Halt::Stopped),
            Ok(Seen::Bytes(look, pass)) => {
                self.put(pass);
                self.then = Some(look);
            }
            Ok(Seen::End(look)) => {
                self.then = Some(look);
                self.stage = Stage::Ended;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(Halt::Broken(Broken::Source(error))),
        }
        Ok(())
    }

    /// Moves what the source has at this moment.
    fn carry(&mut self, ends: &Ends<'_>) -> Result<(), Broken> {
        let moved = match &mut self.pipe {
            Some(pipe) => ends.source.try_fill(|source| pipe.fill(source)).inspect(|moved| {
                ends.meter.moved(*moved, Path::Splice);
                self.spliced += moved;
            }),
            None => self.copy(ends)?,
        };
        match moved {
            Ok(0) => {
                self.pipe = None;
                self.stage = Stage::Ended;
            }
            Ok(bytes) if self.pipe.is_none() => {
                self.bulky = bytes >= PIECE;
                if self.bulky {
                    // What is cut off from here on is much.
                    ends.source.guard();
                    ends.sink.guard();
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.pipe.take().is_some() {
                    self.bulky = std::mem::take(&mut self.spliced) >= PIECE;
                }
            }
            Err(error) => return Err(Broken::Source(error)),
        }
        Ok(())
    }

    fn copy(&mut self, ends: &Ends<'_>) -> Result<io::Result<usize>, Broken> {
        let copied = ends.source.try_take(|bytes| {
            if bytes.is_empty() {
                return Ok(0);
            }
            ends.meter.moved(bytes.len(), Path::Copy);
            let written = match ends.sink.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                written => written?,
            };
            (self.rest, self.uncounted) = (bytes[written..].to_vec(), false);
            Ok(bytes.len())
        });
        match copied {
            Ok(Err(error)) => Err(Broken::Sink(error)),
            Ok(Ok(bytes)) => Ok(Ok(bytes)),
            Err(error) => Ok(Err(error)),
        }
    }
}
