//! The data plane's threads: one current-thread runtime a core, each with its own set of sockets.
//!
//! The sockets are made by the caller before interception is installed, so that no diverted packet finds
//! none. A thread that can't start is an error of the start, never a silent loss of a core.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;

use tidegate_dns::front::{DnsHandler, serve_tcp, serve_udp};
use tidegate_proxy::Proxy;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use crate::intercept::{NetworkPlan, Steering};
use crate::listen::{self, Family, ListenError};

/// Port of the proxy's TCP listeners on the loopback addresses: diverted connections only, the input hook
/// drops direct ones.
pub(crate) const PROXY_TCP_PORT: u16 = 7453;
/// Port of the proxy's UDP sockets.
pub(crate) const PROXY_UDP_PORT: u16 = 7454;

/// What one core serves.
pub(crate) struct CoreSockets {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
    dns: Vec<UdpSocket>,
    dns_tcp: Vec<TcpListener>,
}

impl CoreSockets {
    /// Opens one core's sockets for these networks.
    pub(crate) fn open(networks: &[NetworkPlan]) -> Result<Self, ListenError> {
        let families = [Family::V4, Family::V6];
        let tcp = families
            .iter()
            .map(|family| listen::proxy_tcp(*family, PROXY_TCP_PORT));
        let udp = families
            .iter()
            .map(|family| listen::proxy_udp(*family, PROXY_UDP_PORT));
        let addresses: Vec<SocketAddr> = networks
            .iter()
            .flat_map(|network| [network.dns_v4.map(IpAddr::V4), network.dns_v6.map(IpAddr::V6)])
            .flatten()
            .map(|address| SocketAddr::new(address, 53))
            .collect();
        Ok(Self {
            tcp: tcp.collect::<Result<_, _>>()?,
            udp: udp.collect::<Result<_, _>>()?,
            dns: addresses
                .iter()
                .map(|address| listen::dns_udp(*address))
                .collect::<Result<_, _>>()?,
            dns_tcp: addresses
                .iter()
                .map(|address| listen::dns_tcp(*address))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// The running threads.
pub(crate) struct DataPlane {
    threads: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

/// A thread of the data plane that could not start.
#[derive(Debug, thiserror::Error)]
#[error("can't start the data plane's thread {number}")]
pub struct ThreadError {
    number: usize,
    #[source]
    source: io::Error,
}

impl DataPlane {
    /// Starts a thread for every set of sockets.
    pub(crate) fn start(
        sockets: Vec<CoreSockets>,
        proxy: &Arc<Proxy>,
        dns: &Arc<DnsHandler>,
    ) -> Result<Self, ThreadError> {
        let stop = CancellationToken::new();
        let mut threads = Vec::new();
        for (number, sockets) in sockets.into_iter().enumerate() {
            let failed = |source| ThreadError { number, source };
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(failed)?;
            let (proxy, dns, stop) = (Arc::clone(proxy), Arc::clone(dns), stop.clone());
            let thread = std::thread::Builder::new()
                .name(format!("core-{number}"))
                .spawn(move || runtime.block_on(serve(sockets, proxy, dns, stop)))
                .map_err(failed)?;
            threads.push(thread);
        }
        Ok(Self { threads, stop })
    }

    /// Stops accepting and answering, and waits for the threads; open flows were drained before.
    pub(crate) fn stop(self) {
        self.stop.cancel();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the data plane had panicked");
            }
        }
    }
}

async fn serve(sockets: CoreSockets, proxy: Arc<Proxy>, dns: Arc<DnsHandler>, stop: CancellationToken) {
    let mut tasks = tokio::task::JoinSet::new();
    for socket in sockets.tcp {
        let proxy = Arc::clone(&proxy);
        tasks.spawn(async move { report("the proxy's TCP listener", proxy.serve_tcp(socket).await) });
    }
    for socket in sockets.udp {
        let proxy = Arc::clone(&proxy);
        tasks.spawn(async move { report("the proxy's UDP socket", proxy.serve_udp(socket).await) });
    }
    for socket in sockets.dns {
        let dns = Arc::clone(&dns);
        tasks.spawn(async move {
            report(
                "a DNS UDP socket",
                serve_udp(dns, socket, Steering::default().spoof_mark).await,
            );
        });
    }
    for socket in sockets.dns_tcp {
        let dns = Arc::clone(&dns);
        tasks.spawn(async move { report("a DNS TCP listener", serve_tcp(dns, socket).await) });
    }
    stop.cancelled().await;
    tasks.shutdown().await;
}

/// A socket that ended by itself: its traffic is refused by the kernel from now on, which `status` must show.
fn report(what: &str, ended: io::Result<()>) {
    if let Err(error) = ended {
        tracing::error!(%error, "{what} ended");
        metrics::counter!("tidegate_sockets_lost_total").increment(1);
    }
}
