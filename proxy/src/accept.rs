//! Accepting diverted connections. Owns the loop that must never die: a refused accept waits and goes on.
//! Never reads from a connection. Driven by [`Proxy::serve_tcp`], once a core.

use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use crate::Proxy;
use crate::address::{ClientAddr, OriginalDst};
use crate::flow;
use crate::reactor::{Ready, Side, Source};
use crate::stream::{self, Stream};
use crate::sys;

/// Wait after an accept that failed for want of descriptors or memory: connections stay in the backlog
/// (closed to them, not lost), and the loop does not spin.
const BACK_OFF: Duration = Duration::from_millis(50);

pub(crate) async fn serve(proxy: Arc<Proxy>, listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    stream::set_up(&listener)?;
    let source = Source::register(&listener, Ready::default())?;
    loop {
        tokio::select! {
            biased;
            () = proxy.closing.cancelled() => return Ok(()),
            () = poll_fn(|cx| source.poll(cx, Side::Read)) => {}
        }
        source.spend(Ready::READ);
        match accept_all(&proxy, &listener).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(()) => source.note(Ready::READ),
            Err(error) => {
                source.note(Ready::READ);
                proxy.metrics.accept_failures.increment(1);
                tracing::warn!(%error, "cannot accept diverted connections");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Takes every connection that waits, until the gateway stops.
async fn accept_all(proxy: &Arc<Proxy>, listener: &TcpListener) -> io::Result<()> {
    while !proxy.closing.is_cancelled() {
        match sys::accept(listener) {
            Ok((connection, peer)) => begin(proxy, connection, ClientAddr::new(peer)),
            Err(error) if is_the_connections_own(&error) => {}
            Err(error) => return Err(error),
        }
        tokio::task::coop::consume_budget().await;
    }
    Ok(())
}

fn begin(proxy: &Arc<Proxy>, connection: std::net::TcpStream, client: ClientAddr) {
    // TPROXY keeps the destination as the accepted socket's own address.
    let begun = connection
        .local_addr()
        .and_then(|original| Ok((OriginalDst::new(original), Stream::accepted(connection)?)));
    match begun {
        Ok((original, stream)) => {
            tokio::spawn(flow::serve(Arc::clone(proxy), stream, client, original));
        }
        // Dropped, it is closed: there is nothing to answer it with.
        Err(error) => tracing::debug!(%error, %client, "a connection was lost as it came"),
    }
}

/// Errors of one connection that `accept(2)` passes on; the next one is fine.
fn is_the_connections_own(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    ) || matches!(
        error.raw_os_error(),
        Some(libc::EPROTO | libc::EPERM | libc::ENETDOWN | libc::EHOSTUNREACH)
    )
}
