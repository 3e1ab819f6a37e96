//! Looking at bytes while they pass: the seam between the relay and what reads hellos and requests in it.
//! Owns the hand-over from looking to carrying; never delays a byte longer than a look takes. Driven by
//! [`super::relay`].

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use parking_lot::Mutex;

use super::{Direction, Halt};
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

/// One inspector for both directions, which are polled by one task.
pub(super) struct Shared<'a, 'w> {
    watch: Mutex<&'a mut (dyn Inspect + 'w)>,
    enough: AtomicBool,
}

/// What one read brought.
pub(super) enum Seen {
    /// The end of the source.
    End(Look),
    /// Bytes, and what of them may pass.
    Bytes(Look, Vec<u8>),
}

impl<'a, 'w> Shared<'a, 'w> {
    pub(super) fn new(watch: &'a mut (dyn Inspect + 'w)) -> Self {
        let enough = AtomicBool::new(watch.satisfied());
        Self {
            watch: Mutex::new(watch),
            enough,
        }
    }

    /// True once nothing more needs to be seen.
    pub(super) fn has_enough(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    /// What was held back of a direction, once enough was seen.
    pub(super) fn release(&self, direction: Direction) -> Vec<u8> {
        self.watch.lock().release(direction)
    }

    /// Shows what the source has to the inspector.
    pub(super) fn see(&self, source: &Leg, direction: Direction) -> io::Result<Seen> {
        source.try_take(|bytes| {
            let (mut watch, mut pass) = (self.watch.lock(), Vec::new());
            if bytes.is_empty() {
                return Seen::End(watch.ended(direction));
            }
            let look = watch.look(direction, bytes, &mut pass);
            Seen::Bytes(look, pass)
        })
    }

    /// Does as the inspector wants.
    pub(super) fn heed(&self, look: Look, cx: &Context<'_>) -> Result<(), Halt> {
        match look {
            Look::More => Ok(()),
            Look::Enough => {
                if !self.enough.swap(true, Ordering::Relaxed) {
                    // The other direction learns it when it is polled again.
                    cx.waker().wake_by_ref();
                }
                Ok(())
            }
            Look::Stop => Err(Halt::Stopped),
        }
    }
}
