//! The first bytes of a flow in block mode: waits for them as the verdict allows. Owns the timers of
//! detection; never guesses by time alone. Driven by [`super::enforce`].
//!
//! Where a protocol in which the server speaks first is permitted, the gateway dials at once and waits
//! without a limit of its own: what the client says is judged whenever it comes, and only a server that
//! speaks before it makes the flow opaque (evasion T66). Where it is not permitted, silence is refused.

use std::io;
use std::time::Duration;

use tidegate_policy::detection::{Detection, OpaqueReason, Prefix};
use tidegate_policy::judge::flow::Route;
use tokio::time::{Instant, sleep_until};

use crate::budget::Share;
use crate::context::{FlowContext, Judged};
use crate::detect::{Detector, Step};
use crate::dial::DialError;
use crate::leg::Leg;
use crate::route::Early;

/// Bytes read at once.
const PIECE: usize = 16 << 10;

/// The server speaks first: what is judged before anybody has spoken.
pub(super) const SERVER_FIRST: Detection = Detection::Opaque(OpaqueReason::ServerFirst);

/// How waiting for the first bytes ended.
pub(super) enum What {
    /// The client's bytes say what the flow is.
    Said(Step),
    /// Nobody's bytes do, and this is known all the same.
    Known(Detection),
    /// The early dial failed before the client had said anything.
    Unanswered(Judged, DialError),
    /// The gateway has no memory left for bytes without a verdict.
    NoMemory,
}

/// A flow at the moment of its verdict.
pub(super) struct Opening {
    pub(super) what: What,
    /// The detector with everything that the client said.
    pub(super) detector: Detector,
    /// A connection that was dialled meanwhile.
    pub(super) early: Option<Early>,
    /// What the bytes hold of the budget.
    pub(super) share: Share,
}

/// Waits for the first bytes of a flow.
pub(super) async fn wait(context: &FlowContext, client: &Leg) -> Opening {
    let mut waiting = Waiting {
        context,
        client,
        detector: Detector::new(),
        share: context.proxy.budget.share(),
        early: None,
        prefix: Prefix::Nothing,
        deadline: None,
    };
    let what = waiting.run().await;
    let Waiting {
        detector,
        share,
        early,
        ..
    } = waiting;
    Opening {
        what,
        detector,
        early,
        share,
    }
}

struct Waiting<'a> {
    context: &'a FlowContext,
    client: &'a Leg,
    detector: Detector,
    share: Share,
    early: Option<Early>,
    prefix: Prefix,
    /// When silence, or a begun hello, is given up.
    deadline: Option<Instant>,
}

/// How the early dial ended.
enum Dialled {
    Connected(Early),
    NotPermitted,
    Failed(Judged, DialError),
}

impl Waiting<'_> {
    async fn run(&mut self) -> What {
        let timeouts = &self.context.proxy.config.timeouts;
        let silence = Instant::now() + timeouts.silence;
        let idle = Instant::now() + timeouts.idle;
        let dial = early_dial(self.context);
        tokio::pin!(dial);
        let mut dialling = true;
        loop {
            let until = self.deadline.unwrap_or(idle);
            tokio::select! {
                biased;
                ready = self.client.readable() => {
                    let what = if ready.is_ok() { self.read(timeouts.detect) } else { Some(self.ended()) };
                    if let Some(what) = what {
                        return what;
                    }
                }
                ended = &mut dial, if dialling => {
                    dialling = false;
                    match ended {
                        Dialled::Connected(early) => self.early = Some(early),
                        Dialled::NotPermitted => {
                            self.deadline.get_or_insert(silence);
                        }
                        // Said something already: then that is judged, and dialled anew if permitted.
                        Dialled::Failed(..) if self.prefix != Prefix::Nothing => {}
                        Dialled::Failed(judged, error) => return What::Unanswered(judged, error),
                    }
                }
                () = server_speaks(self.early.as_ref()), if self.prefix == Prefix::Nothing => {
                    return What::Known(SERVER_FIRST);
                }
                () = sleep_until(until) => return What::Known(Detection::Undecided { prefix: self.prefix }),
            }
        }
    }

    /// Reads what is there; `None` while that does not say what the flow is.
    fn read(&mut self, detect: Duration) -> Option<What> {
        let mut piece = [0; PIECE];
        let bytes = match self.client.try_read(&mut piece) {
            Ok(read @ 1..) => &piece[..read],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Ok(_) | Err(_) => return Some(self.ended()),
        };
        // The detector keeps the bytes, and readers within it about as much again.
        if !self
            .share
            .grow_to(2 * (self.detector.bytes().len() + bytes.len()))
        {
            return Some(What::NoMemory);
        }
        let step = self.detector.push(bytes);
        let Step::NeedMore(prefix) = step else {
            return Some(What::Said(step));
        };
        if self.prefix == Prefix::Nothing {
            self.deadline = Some(Instant::now() + detect);
        }
        self.prefix = prefix;
        None
    }

    /// The client ended its side, or reset the connection.
    fn ended(&self) -> What {
        What::Known(at_end(self.detector.bytes(), self.prefix))
    }
}

/// What a flow is whose client ended its side before its bytes said so.
pub(crate) fn at_end(bytes: &[u8], prefix: Prefix) -> Detection {
    let word = |bytes: &[u8]| !bytes.iter().any(|byte| matches!(byte, b' ' | b'\t'));
    match prefix {
        Prefix::Nothing => Detection::Opaque(OpaqueReason::Closed),
        // One word and nothing after it is no request.
        Prefix::Http if word(bytes) => Detection::Opaque(OpaqueReason::UnknownProtocol),
        Prefix::Tls | Prefix::Http | Prefix::Quic => Detection::Malformed {
            prefix,
            what: "the client ended its side within it",
        },
    }
}

/// Dials before anything was said, where that is permitted.
async fn early_dial(context: &FlowContext) -> Dialled {
    let judged = context.judge(&SERVER_FIRST);
    let (permit, confirmed) = match &judged.ruling.route {
        Route::Dial(permit) => (permit.clone(), None),
        Route::Confirm { permit, .. } => {
            tokio::time::sleep(context.proxy.config.timeouts.confirm_after).await;
            match context.confirm(permit).await {
                Some((dial, name)) => (dial, Some(name)),
                None => return Dialled::NotPermitted,
            }
        }
        Route::Closed | Route::Resolve(_) => return Dialled::NotPermitted,
    };
    match context.proxy.dialer.dial(&permit, context.client).await {
        Ok(upstream) => Dialled::Connected(Early { upstream, confirmed }),
        Err(error) => Dialled::Failed(judged, error),
    }
}

/// Returns when the server has said something, or has closed.
async fn server_speaks(early: Option<&Early>) {
    match early {
        // An error is for the relay to find.
        Some(early) => drop(early.upstream.leg.peek(&mut [0]).await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_without_a_blank_is_no_request_when_the_client_has_ended() {
        assert_eq!(
            at_end(b"", Prefix::Nothing),
            Detection::Opaque(OpaqueReason::Closed)
        );
        assert_eq!(
            at_end(b"PING", Prefix::Http),
            Detection::Opaque(OpaqueReason::UnknownProtocol)
        );
        for (bytes, prefix) in [
            (&b"GET / HTTP/1.1\r\n"[..], Prefix::Http),
            (&b"\x16\x03"[..], Prefix::Tls),
        ] {
            assert!(
                matches!(at_end(bytes, prefix), Detection::Malformed { .. }),
                "{bytes:?}"
            );
        }
    }
}
