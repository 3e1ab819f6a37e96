//! The first bytes of a flow in block mode: waits for them as the verdict allows. Owns the timers of
//! detection; never guesses by time alone. Driven by [`super::enforce`].
//!
//! Where a protocol in which the server speaks first is permitted, the gateway dials at once and waits
//! without a limit of its own: what the client says is judged whenever it comes, and only a server that
//! speaks before it makes the flow opaque (evasion T66). Where it is not permitted, silence is refused.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use tidegate_policy::DnsName;
use tidegate_policy::detection::{Detection, OpaqueReason, Prefix};
use tidegate_policy::judge::flow::Route;
use tidegate_policy::judge::permit::DialPermit;

use crate::budget::Share;
use crate::context::{FlowContext, Judged};
use crate::detect::{Detector, Step};
use crate::dial::DialError;
use crate::early::Early;
use crate::leg::Leg;
use crate::reactor::Alarm;

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
    /// A connection that was begun meanwhile.
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
        share: context.share(),
        early: None,
        prefix: Prefix::Nothing,
        patience: Alarm::after(context.proxy.config.timeouts.idle),
        hurried: false,
    };
    let what = waiting.run().await;
    // The answer to a whole hello acknowledges it; of anything else there may be more.
    if !matches!(what, What::Said(Step::Tls(_))) {
        client.acknowledge();
    }
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
    patience: Alarm,
    /// It is not for the idle timeout.
    hurried: bool,
}

/// What came of the early connection.
enum Progress {
    Connected,
    Failed(DialError),
    /// The server has said something, or has closed.
    Spoken,
}

impl Waiting<'_> {
    async fn run(&mut self) -> What {
        let timeouts = &self.context.proxy.config.timeouts;
        let permission = early_permission(self.context);
        tokio::pin!(permission);
        let mut asking = true;
        loop {
            tokio::select! {
                biased;
                () = self.client.readable() => {
                    if let Some(what) = self.read(timeouts.detect) {
                        return what;
                    }
                }
                permitted = &mut permission, if asking => {
                    asking = false;
                    match permitted {
                        Some((permit, confirmed)) => {
                            self.early = Some(Early::begin(self.context, permit, confirmed));
                        }
                        None if self.hurried => {}
                        None => {
                            let waited = self.context.proxy.clock.now().since(self.context.opened);
                            self.hurry(timeouts.silence.saturating_sub(waited));
                        }
                    }
                }
                progress = progress(&mut self.early, self.prefix == Prefix::Nothing) => match progress {
                    Progress::Connected => {}
                    Progress::Spoken => return What::Known(SERVER_FIRST),
                    Progress::Failed(error) if self.prefix == Prefix::Nothing => {
                        return What::Unanswered(self.context.judge(&SERVER_FIRST), error);
                    }
                    // Said something already: then that is judged, and dialled anew if permitted.
                    Progress::Failed(_) => self.early = None,
                },
                () = poll_fn(|cx| self.patience.poll(cx)) => return What::Known(Detection::Undecided { prefix: self.prefix }),
            }
        }
    }

    /// Reads what is there; `None` while that does not say what the flow is.
    fn read(&mut self, detect: Duration) -> Option<What> {
        let client = self.client;
        match client.try_take(|bytes| (!bytes.is_empty()).then(|| self.heard(bytes, detect))) {
            Ok(Some(what)) => what,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Ok(None) | Err(_) => Some(self.ended()),
        }
    }

    fn heard(&mut self, bytes: &[u8], detect: Duration) -> Option<What> {
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
            self.client.acknowledge();
            self.hurry(detect);
        }
        self.prefix = prefix;
        None
    }

    /// Waits only so long from now on.
    fn hurry(&mut self, patience: Duration) {
        (self.patience, self.hurried) = (Alarm::after(patience), true);
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

/// What may be dialled before anything was said, with the exact name that was confirmed for it.
async fn early_permission(context: &FlowContext) -> Option<(DialPermit, Option<DnsName>)> {
    // What the client has sent already counts first: nothing needs to be dialled for what is refused.
    tokio::task::yield_now().await;
    match context.judge(&SERVER_FIRST).ruling.route {
        Route::Dial(permit) => Some((permit, None)),
        Route::Confirm { permit, .. } => {
            let confirmed = async {
                tokio::time::sleep(context.proxy.config.timeouts.confirm_after).await;
                context.confirm(&permit).await
            };
            let (dial, name) = Box::pin(confirmed).await?;
            Some((dial, Some(name)))
        }
        Route::Closed | Route::Resolve(_) => None,
    }
}

/// Waits for the next thing to happen to the early connection. Its server is listened to while the client is
/// silent; may be dropped and called again.
async fn progress(early: &mut Option<Early>, listening: bool) -> Progress {
    let Some(early) = early else {
        return std::future::pending().await;
    };
    match early.upstream() {
        Some(upstream) if listening => {
            // An error is for the relay to find.
            drop(upstream.leg.peek(&mut [0]).await);
            Progress::Spoken
        }
        Some(_) => std::future::pending().await,
        None => match early.connected().await {
            Ok(()) => Progress::Connected,
            Err(error) => Progress::Failed(error),
        },
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
