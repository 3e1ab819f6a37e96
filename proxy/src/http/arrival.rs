//! The next request of a client: waits for its head within the bounds of size, time and memory. Owns those
//! bounds; never judges. Driven by `session`.

use tokio::time::{Instant, sleep_until};

use super::inlet::Inlet;
use super::pool::Pool;
use crate::context::FlowContext;
use crate::http1::head::{HeadError, HeadProgress, RequestHead, RequestReader};
use crate::leg::Leg;

/// What came next.
pub(super) enum Arrival {
    /// A strict request. The inlet begins behind its head.
    Request(Box<RequestHead>),
    /// Bytes that are no such request; the inlet still holds them.
    Bad(Box<HeadError>),
    /// A head that did not end in time.
    Late,
    /// The gateway has no memory left for heads.
    NoRoom,
    /// The client's end between two requests, or the server's, or the gateway's.
    Ended,
    /// The client's connection failed.
    Broken,
}

/// Waits for the next request.
pub(super) async fn next(context: &FlowContext, client: &Leg, inlet: &mut Inlet, pool: &mut Pool) -> Arrival {
    let mut share = context.share();
    let mut reader = RequestReader::new();
    let mut deadline = None;
    // RFC 9112 §2.2: a line end that an old client sent behind its last body begins nothing.
    while inlet.held().starts_with(b"\r\n") {
        inlet.take(2);
    }
    inlet.rest();
    loop {
        if !inlet.held().is_empty() {
            deadline.get_or_insert_with(|| Instant::now() + context.proxy.config.timeouts.detect);
            // The reader keeps about as much again as it reads.
            if !share.grow_to(2 * inlet.held().len()) {
                return Arrival::NoRoom;
            }
            match reader.advance(inlet.held()) {
                HeadProgress::NeedMore => {}
                HeadProgress::Done(head) => {
                    inlet.take(head.consumed);
                    return Arrival::Request(head);
                }
                HeadProgress::Refused(error) => return Arrival::Bad(error),
            }
        }
        if inlet.ended() {
            return ended(inlet);
        }
        let late = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let idle = inlet.held().is_empty();
        tokio::select! {
            biased;
            read = inlet.fill(client) => {
                if read.is_err() {
                    return Arrival::Broken;
                }
            }
            () = late => return Arrival::Late,
            () = pool.deserted(), if idle => return Arrival::Ended,
            () = context.proxy.closing.cancelled(), if idle => return Arrival::Ended,
        }
    }
}

fn ended(inlet: &Inlet) -> Arrival {
    if inlet.held().iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
        return Arrival::Ended;
    }
    let what = "the client ended its side within a request's head";
    Arrival::Bad(Box::new(HeadError {
        status: 400,
        what,
        authority: None,
    }))
}
