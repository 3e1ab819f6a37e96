//! Cleartext HTTP in block mode: every request is judged by itself, sent to its own server, and answered or
//! explained. Owns what happens to a flow whose first bytes are a request or the HTTP/2 preface; never sees
//! TLS, never decides policy. Driven by `flow::enforce`.
//!
//! Read in this order: `session` (the life of an HTTP/1 connection), `decide` (whom a request asks for, and
//! by which row it is judged), `servers` and `pool` (where it goes), `exchange` (the bytes of one request and
//! its response), `refuse` and `answer` (what is said otherwise), `ledger` (events), `tunnel` (what follows
//! HTTP on the same connection), `h2c` (HTTP/2).
//! `observe` and `onlook` look at requests where nothing may be touched: in audit mode.

mod answer;
mod arrival;
mod decide;
mod exchange;
mod frames;
mod h2c;
mod hpack;
mod inlet;
mod ledger;
mod observe;
mod onlook;
mod pool;
mod refuse;
mod servers;
mod session;
mod tally;
mod tunnel;

#[cfg(test)]
mod tests;

use tidegate_policy::event::Kind;

pub(crate) use onlook::Onlooker;

use crate::budget::Share;
use crate::context::FlowContext;
use crate::detect::{Detector, Step};
use crate::leg::Leg;
use crate::relay::End;
use crate::route::Early;
use decide::Via;
use inlet::Inlet;
use ledger::Ledger;
use pool::Pool;
use session::{Over, Session};
use tunnel::Pair;

/// A flow that begins as cleartext HTTP, before any verdict.
pub(crate) struct Cleartext {
    /// The first request's head ([`Step::Http`]), or the preface ([`Step::H2c`]).
    pub(crate) first: Step,
    /// Every byte read so far.
    pub(crate) detector: Detector,
    /// What they hold of the budget.
    pub(crate) share: Share,
    /// A connection to the flow's own address that was dialled meanwhile.
    pub(crate) early: Option<Early>,
}

/// Serves the flow to its end.
pub(crate) async fn serve(context: &FlowContext, client: &Leg, cleartext: Cleartext) {
    let Cleartext {
        first,
        detector,
        share,
        early,
    } = cleartext;
    let took = context.proxy.clock.now().since(context.opened);
    context.proxy.metrics.detected(Kind::Http, took);
    // The share was for bytes before a verdict; from here on, bounds are a connection's own.
    drop(share);
    // A cut-off response may look complete.
    client.guard();
    let Step::Http(head) = first else {
        return h2c::serve(context, client, detector.into_bytes(), early).await;
    };
    let mut inlet = Inlet::new(detector.into_bytes());
    inlet.take(head.consumed);
    let (pool, ledger) = (Pool::default(), Ledger::new(context));
    let mut session = Session {
        context,
        client,
        inlet,
        via: Via::Flow,
        pool,
        ledger,
        early,
    };
    let over = tokio::select! {
        over = session.run(Some(head)) => over,
        () = context.traffic().silence(context.proxy.config.timeouts.idle) => return,
    };
    let inlet = std::mem::take(&mut session.inlet);
    let pair = |server| Pair {
        context,
        client,
        inlet,
        server,
    };
    match over {
        Over::Done => {}
        Over::Opaque(server, event) => {
            let end = pair(*server).relay(&event, &mut ()).await;
            if !matches!(end, End::Finished) {
                session.ledger.note(&event, "reset");
            }
        }
        Over::Tunnel(server, target) => pair(*server).inside(target).await,
    }
}
