//! What the gateway's configuration means to the proxy: timeouts, bounds, egress. Owns plain values and
//! their defaults; never reads files. Resolved by `gateway`, handed to [`crate::Proxy::new`].

use std::net::IpAddr;
use std::time::Duration;

/// Where dialled connections come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Egress {
    /// The gateway's own address, as its routes choose.
    #[default]
    Gateway,
    /// The runner's address, bound transparently: the network behind the gateway must route it back.
    Preserve,
    /// These addresses in turn. A family without one of them is dialled as by [`Egress::Gateway`].
    Addresses(Vec<IpAddr>),
}

/// What becomes of QUIC in block mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuicMode {
    /// Refused with ICMP at once, so that clients use TCP.
    #[default]
    Refuse,
}

/// How long the proxy waits for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the rest of a begun hello or request head (`proxy.detect-timeout`).
    pub detect: Duration,
    /// For the first byte where a protocol in which the server speaks first is not permitted.
    pub silence: Duration,
    /// Before exact names are resolved to confirm an unticketed address: clients that speak first have
    /// spoken by then, and no query is spent on them.
    pub confirm_after: Duration,
    /// For one connect.
    pub connect: Duration,
    /// Between the starts of two connects to addresses of one name (RFC 8305 §5).
    pub next_try: Duration,
    /// For a name that the gateway resolves for a flow.
    pub resolve: Duration,
    /// A connection without a byte in either direction is closed after one to 1.25 of this.
    pub idle: Duration,
    /// A UDP association without a datagram in either direction has its event written, since nothing says
    /// that it is over.
    pub udp_quiet: Duration,
    /// Such an association is closed so much later.
    pub udp_idle: Duration,
    /// For the client to read an explanation before its connection is reset.
    pub farewell: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            detect: Duration::from_secs(3),
            silence: Duration::from_millis(800),
            confirm_after: Duration::from_millis(100),
            connect: Duration::from_secs(15),
            next_try: Duration::from_millis(250),
            resolve: Duration::from_secs(5),
            idle: Duration::from_hours(1),
            udp_quiet: Duration::from_secs(5),
            udp_idle: Duration::from_mins(2),
            farewell: Duration::from_secs(2),
        }
    }
}

/// How much of everything there may be at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open TCP connections and UDP associations of all jobs.
    pub flows: usize,
    /// The same of one job.
    pub flows_per_job: usize,
    /// Bytes held by flows whose detection is not finished.
    pub detect_bytes: usize,
    /// Pipes for `splice(2)`; each holds two descriptors and, while bytes are in it, their pages.
    pub pipes: usize,
    /// Capacity of a pipe in bytes; the kernel rounds up to pages.
    pub pipe_bytes: usize,
    /// UDP associations of all jobs; each holds two sockets.
    pub associations: usize,
    /// The same of one job.
    pub associations_per_job: usize,
    /// Addresses of one name that are tried for one flow.
    pub tries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 65_536,
            flows_per_job: 8_192,
            detect_bytes: 256 << 20,
            pipes: 1_024,
            pipe_bytes: 256 << 10,
            associations: 16_384,
            associations_per_job: 1_024,
            tries: 4,
        }
    }
}

/// Everything the proxy is told once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Bounds.
    pub limits: Limits,
    /// Where dialled connections come from.
    pub egress: Egress,
    /// How long a ticket lives on after a flow that used it (`proxy.ticket-hold`).
    pub ticket_hold: Duration,
    /// What becomes of QUIC in block mode.
    pub quic: QuicMode,
    /// The gateway's own pages tell runners more (`http://tidegate.internal/why/NAME`).
    pub pages: bool,
    /// Mark bit of a datagram whose hardware address is not its source's; 0 when nothing marks.
    pub spoof_mark: u32,
}
