//! Hears what the kernel drops on a runner interface: owns the packet socket of
//! one interface; never answers (whoever reads the queue does). The appliance
//! runs one per interface.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    sys::socket::{LinkAddr, recvfrom},
};
use socket2::{Domain, SockFilter, Socket, Type};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc::{Sender, error::TrySendError},
    time::sleep,
};

use super::{
    filter,
    observed::{Arrival, Observed, classify},
};
use crate::{intercept::InterfaceName, link::Mac, sys};

/// A fitting length for the queue that observers share: at most 64 MiB if every
/// entry were the largest echo request.
pub const OBSERVED_QUEUE: usize = 1_024;

/// Bytes of packets that may wait in the kernel (it doubles this).
const RECEIVE_BUFFER: usize = 512 << 10;

/// Longest packet that is read.
const PACKET: usize = 65_535;

/// Between attempts to hear an interface that is gone.
const RETRY: Duration = Duration::from_secs(1);

/// `linux/if_packet.h`; `libc` doesn't name it.
const PACKET_IGNORE_OUTGOING: i32 = 23;

/// An interface can't be observed.
#[derive(Debug, thiserror::Error)]
#[error("cannot observe the interface {interface}")]
pub struct ObserverError {
    interface: InterfaceName,
    #[source]
    source: io::Error,
}

/// How many observations found the queue full.
#[derive(Debug, Clone, Default)]
pub struct Drops(Arc<AtomicU64>);

impl Drops {
    /// Their number since the start.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The ear at one runner interface.
#[derive(Debug)]
pub struct Observer {
    interface: InterfaceName,
    own: Vec<IpAddr>,
    socket: AsyncFd<OwnedFd>,
    index: u32,
}

impl Observer {
    /// Starts to hear. `own`: the gateway's addresses on this interface. Needs
    /// `CAP_NET_RAW`, as does every time that the interface comes back.
    pub fn open(interface: InterfaceName, own: Vec<IpAddr>) -> Result<Self, ObserverError> {
        match packet_socket(&interface, &own) {
            Ok((socket, index)) => Ok(Self {
                interface,
                own,
                socket,
                index,
            }),
            Err(source) => Err(ObserverError { interface, source }),
        }
    }

    /// Hears until the queue's receiver is gone. What finds the queue full is
    /// counted and lost: a runner that floods loses its own events first.
    pub async fn run(mut self, queue: Sender<Observed>, drops: Drops) {
        let mut buffer = vec![0; PACKET];
        let mut deaf = false;
        while !queue.is_closed() {
            let heard = tokio::select! {
                heard = self.hear(&mut buffer) => heard,
                () = queue.closed() => return,
            };
            match heard {
                Ok(observed) => {
                    deaf = false;
                    if let Some(Err(TrySendError::Full(_))) = observed.map(|seen| queue.try_send(seen)) {
                        drops.0.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Err(error) => {
                    if !deaf {
                        tracing::warn!(interface = %self.interface, %error, "runner interface can't be heard");
                    }
                    deaf = true;
                    self.reopen(&queue).await;
                }
            }
        }
    }

    /// The next packet, if it is of concern.
    async fn hear(&self, buffer: &mut [u8]) -> io::Result<Option<Observed>> {
        loop {
            // A link that goes away is an error, not something to read.
            let mut ready = self.socket.ready(Interest::READABLE | Interest::ERROR).await?;
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), buffer) {
                Ok((length, sender)) => {
                    let arrival = Arrival {
                        interface: self.index,
                        mac: sender.and_then(ethernet),
                    };
                    return Ok(classify(&buffer[..length.min(buffer.len())], arrival));
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A link that was deleted comes back under another index, which needs another
    /// socket. One that is merely down lets itself be bound and fails again at
    /// once: hence the pause first.
    async fn reopen(&mut self, queue: &Sender<Observed>) {
        while !queue.is_closed() {
            sleep(RETRY).await;
            if let Ok((socket, index)) = packet_socket(&self.interface, &self.own) {
                self.socket = socket;
                self.index = index;
                return;
            }
        }
    }
}

/// The sender's hardware address, if the link has such.
fn ethernet(sender: LinkAddr) -> Option<Mac> {
    (sender.halen() == 6).then(|| sender.addr().map(Mac)).flatten()
}

/// Filtered before it is bound: a packet socket hears from its binding on.
fn packet_socket(interface: &InterfaceName, own: &[IpAddr]) -> io::Result<(AsyncFd<OwnedFd>, u32)> {
    let index = if_nametoindex(interface.as_str())?;
    let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), None)?;
    let program: Vec<SockFilter> = filter::program(own).into_iter().map(SockFilter::from).collect();
    socket.attach_filter(&program)?;
    // Without this every packet that the gateway sends would be copied, to be dropped.
    sys::set_int_option(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    sys::bind_packet(&socket, index, libc::ETH_P_ALL as u16)?;
    Ok((sys::async_fd(socket.into())?, index))
}
