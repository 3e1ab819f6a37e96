//! The proxy as a whole: what every flow shares, and what `gateway` drives: serving sockets, re-judging,
//! draining. Owns no policy and makes no sockets to listen on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate_dns::{Clock, Subjects};
use tidegate_policy::event::EventSink;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::config::ProxyConfig;
use crate::dial::Dialer;
use crate::metrics::FlowMetrics;
use crate::registry::{Bounds, FlowRegistry};
use crate::relay::Means;
use crate::relay::pipes::PipePool;
use crate::seams::{Lookup, StreamDns, Unreachable};
use crate::udp::Udp;

/// How long flows may take to end after they were told to.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The proxy's neighbours.
#[derive(Clone)]
pub struct ProxyParts {
    /// Who is asking.
    pub subjects: Arc<dyn Subjects>,
    /// Resolves names for flows.
    pub lookup: Arc<dyn Lookup>,
    /// Serves DNS over TCP to foreign addresses.
    pub dns: Arc<dyn StreamDns>,
    /// Where verdicts go.
    pub sink: Arc<dyn EventSink>,
    /// The data plane's clock.
    pub clock: Clock,
    /// Sends ICMP errors.
    pub icmp: Arc<dyn Unreachable>,
}

/// The proxy of all networks and all cores.
pub struct Proxy {
    pub(crate) config: ProxyConfig,
    pub(crate) subjects: Arc<dyn Subjects>,
    pub(crate) lookup: Arc<dyn Lookup>,
    pub(crate) dns: Arc<dyn StreamDns>,
    pub(crate) sink: Arc<dyn EventSink>,
    pub(crate) clock: Clock,
    pub(crate) icmp: Arc<dyn Unreachable>,
    pub(crate) registry: Arc<FlowRegistry>,
    pub(crate) dialer: Dialer,
    pub(crate) means: Means,
    pub(crate) budget: Arc<Budget>,
    pub(crate) metrics: Arc<FlowMetrics>,
    pub(crate) udp: Udp,
    /// Cancelled when no new flow is to be taken.
    pub(crate) closing: CancellationToken,
    /// Cancelled when no flow is left.
    pub(crate) closed: CancellationToken,
    ipv6: AtomicBool,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Proxy")
            .field("config", &self.config)
            .field("flows", &self.registry)
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// A proxy without sockets. Make it after the metrics recorder is installed: handles are kept.
    pub fn new(config: ProxyConfig, parts: ProxyParts) -> Arc<Self> {
        let metrics = Arc::new(FlowMetrics::new());
        let bounds = Bounds {
            flows: config.limits.flows,
            per_job: config.limits.flows_per_job,
            ticket_hold: config.ticket_hold,
        };
        let pool = PipePool::new(config.limits.pipes, config.limits.pipe_bytes);
        Arc::new(Self {
            registry: FlowRegistry::new(Arc::clone(&parts.subjects), parts.clock.clone(), bounds),
            dialer: Dialer::new(
                config.egress.clone(),
                config.timeouts.connect,
                Arc::clone(&metrics),
            ),
            means: Means::new(pool),
            udp: Udp::new(config.limits.associations, config.limits.associations_per_job),
            budget: Budget::new(config.limits.detect_bytes),
            metrics,
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
            ipv6: AtomicBool::new(true),
            config,
            subjects: parts.subjects,
            lookup: parts.lookup,
            dns: parts.dns,
            sink: parts.sink,
            clock: parts.clock,
            icmp: parts.icmp,
        })
    }

    /// Open flows, and their re-judging after a change of policy or lease.
    pub fn registry(&self) -> &Arc<FlowRegistry> {
        &self.registry
    }

    /// Tells whether the gateway has a usable IPv6 upstream. Without one, IPv6 flows are reset at once, so
    /// that clients fall back, and names are resolved to IPv4 alone.
    pub fn set_ipv6_usable(&self, usable: bool) {
        self.ipv6.store(usable, Ordering::Relaxed);
    }

    pub(crate) fn ipv6_usable(&self) -> bool {
        self.ipv6.load(Ordering::Relaxed)
    }

    /// Serves diverted TCP connections until [`Proxy::drain`]: once a core, on its current-thread runtime.
    /// An accepted connection's local address is the destination that the runner asked for.
    pub async fn serve_tcp(self: Arc<Self>, listener: std::net::TcpListener) -> io::Result<()> {
        crate::accept::serve(self, listener).await
    }

    /// Serves diverted datagrams until [`Proxy::drain`] is over (open associations go on during it): once a
    /// core and family. The socket must give original destination and mark as control messages.
    pub async fn serve_udp(self: Arc<Self>, socket: std::net::UdpSocket) -> io::Result<()> {
        crate::udp::serve(self, socket).await
    }

    /// Takes no new flow, gives open ones until `patience` is over, then ends them. Returns how many had
    /// to be ended. The runtimes that serve sockets must live until this returns: flows are their tasks.
    pub async fn drain(&self, patience: Duration) -> usize {
        self.closing.cancel();
        let emptied = tokio::time::timeout(patience, self.registry.emptied()).await;
        let cut = if emptied.is_ok() { 0 } else { self.registry.len() };
        self.registry.close_all();
        let _ = tokio::time::timeout(LAST_WORDS, self.registry.emptied()).await;
        self.closed.cancel();
        cut
    }
}
