//! The life of a TCP connection: arrival, first bytes, verdict, dial, relay, farewell. Owns the order of
//! these steps; never decides (`policy` does) and never parses (`detect` does). One task a flow, driven by
//! `accept`.
//!
//! Block mode ([`enforce`]) lets nothing pass before the verdict. Audit mode ([`observe`]) dials at once and
//! looks on.

mod enforce;
mod first;
mod observe;
mod passing;
mod tls;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tidegate_policy::endpoint::Transport;
use tidegate_policy::verdict::Mode;

use crate::Proxy;
use crate::address::{ClientAddr, OriginalDst, UpstreamAddr};
use crate::context::FlowContext;
use crate::leg::Leg;
use crate::route::own_permit;
use crate::stream::Stream;

use first::SERVER_FIRST;

pub(crate) use first::at_end;
pub(crate) use tls::TlsWatch;

/// The port on which foreign resolvers are asked over TCP.
const DNS_PORT: u16 = 53;

/// Serves one diverted connection until it is closed.
pub(crate) async fn serve(proxy: Arc<Proxy>, stream: Stream, client: ClientAddr, original: OriginalDst) {
    if original.port() == DNS_PORT {
        return Box::pin(foreign_dns(&proxy, stream, client, original)).await;
    }
    // Dropped without more ado, it is reset: the explanation of protocols that have none.
    let leg = Leg::new(stream);
    if original.ip().is_ipv6() && !proxy.ipv6_usable() {
        return;
    }
    let Ok(context) = FlowContext::enter(&proxy, client, original, Transport::Tcp) else {
        return;
    };
    tokio::select! {
        biased;
        closing = context.closed() => context.terminated(closing),
        // Written here, because a future that is moved is held twice.
        () = async {
            match context.mode() {
                Mode::Block => enforce::run(&context, &leg).await,
                Mode::Audit => Box::pin(observe::run(&context, &leg)).await,
            }
        } => {}
    }
}

/// DNS over TCP to an address that is not ours. In block the address doesn't matter, since it is us who
/// answer; in audit it is dialled, so it is judged like any other.
async fn foreign_dns(proxy: &Arc<Proxy>, stream: Stream, client: ClientAddr, original: OriginalDst) {
    let leg = Leg::new(stream);
    let subject = proxy.subjects.subject(client.ip(), proxy.clock.now());
    let mode = subject.rulebook().mode();
    if mode == Mode::Audit {
        let Ok(context) = FlowContext::enter(proxy, client, original, Transport::Tcp) else {
            return;
        };
        // Re-judged as the flow that it is: whatever passes in audit ends with it.
        let judged = context.judge(&SERVER_FIRST);
        if own_permit(&judged.ruling.route).is_some() {
            let dialled = UpstreamAddr::new(original.socket());
            context.admit(&judged, &SERVER_FIRST, dialled, context.ticketed(&judged.ruling));
        }
        let Ok(stream) = leg.into_stream() else { return };
        let relay = proxy.dns.relay(stream, client, original);
        tokio::select! {
            biased;
            closing = context.closed() => context.terminated(closing),
            () = relay => {}
        }
    } else {
        let Ok(handle) = proxy.registry.enter(subject, client) else {
            return;
        };
        let Ok(stream) = leg.into_stream() else { return };
        let serve = proxy.dns.serve(stream, client, original);
        tokio::select! {
            _ = handle.closed() => {}
            () = serve => {}
        }
    }
}
