//! Queries in datagrams: received in batches, answered in batches, from the address that was asked.
//!
//! The socket comes from `gateway`, bound to port 53 with original destination, packet info and mark as
//! control messages. What the fast path repeats, and what the slow one answers without an upstream, leaves by one system
//! call before the next batch is read; the other queries are tasks, bounded in all and a source.
//!
//! The kernel picks the socket of a group by a hash of the addresses and ports. Picking by the receiving core
//! (`SO_INCOMING_CPU`, or cBPF) is not done: with one receive queue, as on veth, all packets would go to one core.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, SockaddrIn6, sendmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::envelope::{self, Envelope};
use super::handler::{Begun, DnsHandler, Pending};
use super::metrics::Dropped;
use crate::fast::{Seen, Served, Worker};
use crate::sys::Messages;
use crate::wire::EDNS_UDP;

/// Datagrams of one batch.
const BATCH: usize = 64;
/// Datagrams that are asked for at least; as many as came the last time, twice, when there are more.
const LEAST: usize = 8;
/// Octets of one datagram: a query with a 255-octet name and generous EDNS options. Longer ones are none.
const BUFFER: usize = 2_048;
/// Octets of an answer that leaves with its batch; longer ones leave alone.
const REPLY: usize = EDNS_UDP as usize;
/// Datagrams in a row after which the thread's other tasks have their turn.
const TURN: usize = 8 * BATCH;
/// After a batch of at least so many datagrams the socket is read again at once: while they were answered, others have most
/// likely come, and to ask the kernel whether they have costs as much as to ask for them.
const BUSY: usize = 2;
/// How often what was repeated is told, and what is over forgotten, when nobody asks any more.
const TICK: Duration = Duration::from_secs(1);
/// Wait after an error of the socket itself, so that a broken one does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Serves one socket until the future is dropped. `spoof_mark` is the bit of a packet's mark that says
/// that its hardware address is not the lease's.
pub async fn serve_udp(
    handler: Arc<DnsHandler>,
    socket: std::net::UdpSocket,
    spoof_mark: u32,
) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let bound = socket.local_addr()?;
    let socket = Arc::new(UdpSocket::from_std(socket)?);
    let mut front = Front {
        worker: Worker::new(Arc::clone(&handler)),
        queries: Messages::new(BATCH, BUFFER),
        replies: Messages::new(BATCH, REPLY),
        handler,
        socket: Arc::clone(&socket),
        bound,
        spoof_mark,
        room: LEAST,
        asked: Vec::with_capacity(BATCH),
        seen: Vec::with_capacity(BATCH),
    };
    let seat = Arc::clone(front.worker.seat());
    let mut rung = pin!(seat.rung());
    let mut tick = pin!(sleep(TICK));
    loop {
        tokio::select! {
            biased;
            ready = socket.readable() => {
                ready?;
                front.serve_all().await;
            }
            () = &mut rung => {
                rung.set(seat.rung());
                front.worker.tick();
            }
            () = &mut tick, if !front.worker.is_empty() => {
                front.worker.tick();
                tick.as_mut().reset(Instant::now() + TICK);
            }
        }
    }
}

/// One socket with its memory.
struct Front {
    handler: Arc<DnsHandler>,
    socket: Arc<UdpSocket>,
    worker: Worker,
    queries: Messages,
    replies: Messages,
    bound: SocketAddr,
    spoof_mark: u32,
    /// Datagrams that are asked for next: to have the kernel look at slots that it will not fill costs, too.
    room: usize,
    /// The slots of a batch that hold queries, and where these come from.
    asked: Vec<(usize, Envelope)>,
    /// The same queries, as the fast path sees them.
    seen: Vec<Seen>,
}

impl Front {
    /// Serves what waits; every now and then the thread's other tasks have their turn.
    async fn serve_all(&mut self) {
        let mut served = 0;
        loop {
            match self.batch() {
                Ok(count) if count < BUSY => return,
                Ok(count) => served += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    warn!(bound = %self.bound, %error, "cannot receive DNS queries");
                    return sleep(ERROR_PAUSE).await;
                }
            }
            if served >= TURN {
                served = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Serves what waits, at most a batch; gives back how many datagrams that were.
    fn batch(&mut self) -> io::Result<usize> {
        let mut received = Ok(0);
        let (queries, room) = (&mut self.queries, self.room);
        let socket = &self.socket;
        let tried = socket.try_io(Interest::READABLE, || {
            received = queries.receive(socket.as_fd(), room);
            match &received {
                // There is nothing left, and it is not tried again: whatever comes from now on wakes the task.
                Ok(count) if *count < BUSY => Err(io::ErrorKind::WouldBlock.into()),
                Ok(_) => Ok(()),
                Err(error) => Err(error.kind().into()),
            }
        });
        let count = received?;
        if count == 0 {
            // Not even tried, or interrupted.
            return tried.map(|()| 0);
        }
        self.room = (2 * count).clamp(LEAST, BATCH);
        self.worker.begin();
        self.read(count);
        self.worker.find(&mut self.seen);
        let mut filled = 0;
        for number in 0..self.asked.len() {
            filled += usize::from(self.serve(number, filled));
        }
        self.send(filled);
        self.worker.end();
        Ok(count)
    }

    /// Reads the queries of a batch.
    fn read(&mut self, count: usize) {
        self.asked.clear();
        self.seen.clear();
        for slot in 0..count {
            let (name, control) = (self.queries.name(slot), self.queries.control(slot));
            let envelope = envelope::read(name, control, self.bound, self.spoof_mark);
            if let (Some(envelope), Some(query)) = (envelope, self.queries.payload(slot)) {
                self.seen.push(self.worker.read(query, &envelope.client));
                self.asked.push((slot, envelope));
            }
        }
    }

    /// Serves a query of the batch; true when its answer stands in slot `to` of the answers.
    fn serve(&mut self, number: usize, to: usize) -> bool {
        let (Some((slot, envelope)), Some(seen)) = (self.asked.get(number), self.seen.get(number)) else {
            return false;
        };
        let (slot, envelope) = (*slot, *envelope);
        let (name, Some(query)) = (self.queries.name(slot), self.queries.payload(slot)) else {
            return false;
        };
        let place = self.replies.place(to);
        let length = match self.worker.answer(seen, query, &envelope.client, place) {
            Served::Fast(length) => length,
            Served::Slow(Begun::Done(None)) => return false,
            Served::Slow(Begun::Done(Some(reply))) => {
                let Some(place) = place.get_mut(..reply.len()) else {
                    respond(&self.handler, &self.socket, &reply, &envelope);
                    return false;
                };
                place.copy_from_slice(&reply);
                reply.len()
            }
            Served::Slow(Begun::Later(pending)) => {
                self.wait(pending, envelope);
                return false;
            }
        };
        if envelope.client.asked == self.bound && self.bound.is_ipv4() {
            // It leaves from there anyway.
            self.replies.address(to, length, name, &[]);
            return true;
        }
        let Some((control, octets)) = envelope::reply(&envelope) else {
            self.handler.metrics.dropped(Dropped::Send, 1);
            return false;
        };
        let control = control.get(..octets).unwrap_or_default();
        self.replies.address(to, length, name, control);
        true
    }

    /// Sends the answers of a batch; when the socket's buffer is full the clients ask again.
    fn send(&mut self, filled: usize) {
        let mut from = 0;
        while from < filled {
            match self.replies.send(self.socket.as_fd(), from, filled) {
                Ok(0) => break,
                Ok(sent) => from += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // This one can't be sent: the others may.
                Err(_) => {
                    self.handler.metrics.dropped(Dropped::Send, 1);
                    from += 1;
                }
            }
        }
        if from < filled {
            self.handler.metrics.dropped(Dropped::Send, filled - from);
        }
    }

    /// Leaves a query that must wait to a task of its own.
    fn wait(&self, pending: Box<Pending>, envelope: Envelope) {
        let Some(slot) = self.handler.in_flight.take(envelope.client.source.ip()) else {
            self.handler.metrics.dropped(Dropped::Limit, 1);
            return;
        };
        let (handler, socket) = (Arc::clone(&self.handler), Arc::clone(&self.socket));
        tokio::spawn(async move {
            let _slot = slot;
            if let Some(reply) = pending.finish().await {
                respond(&handler, &socket, &reply, &envelope);
            }
        });
    }
}

/// Sends one answer alone.
fn respond(handler: &DnsHandler, socket: &UdpSocket, reply: &[u8], envelope: &Envelope) {
    let sent = socket.try_io(Interest::WRITABLE, || Ok(send(socket, reply, envelope)?));
    if sent.is_err() {
        handler.metrics.dropped(Dropped::Send, 1);
    }
}

fn send(socket: &UdpSocket, reply: &[u8], envelope: &Envelope) -> nix::Result<usize> {
    let (fd, iov, flags) = (socket.as_raw_fd(), [IoSlice::new(reply)], MsgFlags::empty());
    match (envelope.client.asked.ip(), envelope.client.source) {
        (IpAddr::V4(from), SocketAddr::V4(to)) => {
            let from = libc::in_addr {
                s_addr: u32::from_ne_bytes(from.octets()),
            };
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: from,
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            sendmsg(
                fd,
                &iov,
                &[ControlMessage::Ipv4PacketInfo(&info)],
                flags,
                Some(&SockaddrIn::from(to)),
            )
        }
        (IpAddr::V6(from), SocketAddr::V6(to)) => {
            let interface = if from.is_unicast_link_local() {
                envelope.interface
            } else {
                0
            };
            let from = libc::in6_addr {
                s6_addr: from.octets(),
            };
            let info = libc::in6_pktinfo {
                ipi6_addr: from,
                ipi6_ifindex: interface,
            };
            sendmsg(
                fd,
                &iov,
                &[ControlMessage::Ipv6PacketInfo(&info)],
                flags,
                Some(&SockaddrIn6::from(to)),
            )
        }
        (IpAddr::V4(_), SocketAddr::V6(_)) | (IpAddr::V6(_), SocketAddr::V4(_)) => Err(Errno::EAFNOSUPPORT),
    }
}
