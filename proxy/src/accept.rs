//! Accepting diverted connections. Owns the loop that must never die: a refused accept waits and goes on.
//! Never reads from a connection. Driven by [`Proxy::serve_tcp`], once a core.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::Proxy;
use crate::address::{ClientAddr, OriginalDst};
use crate::flow;

/// Wait after an accept that failed for want of descriptors or memory: connections stay in the backlog
/// (closed to them, not lost), and the loop does not spin.
const BACK_OFF: Duration = Duration::from_millis(50);

pub(crate) async fn serve(proxy: Arc<Proxy>, listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    loop {
        let accepted = tokio::select! {
            biased;
            () = proxy.closing.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => begin(&proxy, stream, ClientAddr::new(peer)),
            Err(error) if is_the_connections_own(&error) => {}
            Err(error) => {
                proxy.metrics.accept_failures.increment(1);
                tracing::warn!(%error, "cannot accept diverted connections");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

fn begin(proxy: &Arc<Proxy>, stream: TcpStream, client: ClientAddr) {
    // TPROXY keeps the destination as the accepted socket's own address.
    let Ok(original) = stream.local_addr().map(OriginalDst::new) else {
        return;
    };
    tokio::spawn(flow::serve(Arc::clone(proxy), stream, client, original));
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
