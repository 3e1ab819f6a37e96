//! UDP other than DNS: diverted datagrams become associations, each judged once, each with a socket of its
//! own towards the server and one that answers from the server's address. Owns the order of these steps;
//! never decides. Driven by [`Proxy::serve_udp`], once a core and family.
//!
//! Every datagram of a client comes in through the diverted socket, those of open associations too: only
//! there does it carry the mark that tells a spoofed source. The answering socket is therefore not
//! connected, because the kernel would hand it the client's datagrams.
//!
//! QUIC is refused in block mode; what would judge it by its hello takes the place of [`judge`].

mod receive;
mod refused;
mod sockets;
mod table;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use socket2::SockRef;
use tidegate_policy::detection::{Detection, OpaqueReason};
use tidegate_policy::endpoint::Transport;
use tidegate_policy::event::Kind;
use tidegate_policy::judge::flow::{FlowRuling, Route};
use tidegate_policy::verdict::{Judgement, Reason, Refusal};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::Proxy;
use crate::config::QuicMode;
use crate::context::{About, FlowContext, Judged, Remarks};
use crate::detect::quic::{QuicClass, classify};
use crate::record::OpenRecord;
use crate::relay::Direction;
use crate::route::Unreached;
use receive::{Arrival, receive};
use refused::Refusals;
use sockets::{Reached, reach, reply_socket};
use table::{Association, Pair, Sent, Table};

/// The longest datagram.
const LONGEST: usize = 65_535;
/// Octets of a datagram that an ICMP error may quote: an IPv6 error fits into 1 280 (RFC 4443 §2.4).
const QUOTED: usize = 1_200;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; LONGEST].into_boxed_slice());
}

/// What UDP of all cores shares.
#[derive(Debug)]
pub(crate) struct Udp {
    table: Table,
    refusals: Refusals,
}

impl Udp {
    pub(crate) fn new(most: usize, most_per_job: usize) -> Self {
        Self {
            table: Table::new(most, most_per_job),
            refusals: Refusals::default(),
        }
    }
}

/// Serves one diverted socket until the proxy is drained: what is open goes on until then.
pub(crate) async fn serve(proxy: Arc<Proxy>, socket: std::net::UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    let mut buffer = vec![0; LONGEST];
    loop {
        let received = tokio::select! {
            biased;
            () = proxy.closed.cancelled() => return Ok(()),
            received = socket.async_io(Interest::READABLE, || receive(socket.as_fd(), &mut buffer)) => received,
        };
        match received {
            Ok(Some(arrival)) => datagram(&proxy, arrival, &buffer[..arrival.length]),
            // Not diverted, so not ours to answer.
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "cannot receive a diverted datagram"),
        }
        tokio::task::coop::consume_budget().await;
    }
}

/// Takes one diverted datagram.
fn datagram(proxy: &Arc<Proxy>, arrival: Arrival, payload: &[u8]) {
    let Arrival {
        client,
        original,
        mark,
        ..
    } = arrival;
    let pair = Pair { client, original };
    let now = proxy.clock.now();
    if mark & proxy.config.spoof_mark != 0 {
        // Not answered: the owner of the address did not send it.
        if !proxy.udp.refusals.stands(&pair, now) {
            spoofed(proxy, pair);
        }
        return;
    }
    if let Some(association) = proxy.udp.table.find(&pair) {
        if let Sent::Upstream(bytes) = association.send(payload) {
            proxy.means.count(&association.traffic, Direction::Up, bytes);
        }
        return;
    }
    if proxy.udp.refusals.stands(&pair, now) {
        return unreachable(proxy, pair, payload);
    }
    if !proxy.closing.is_cancelled() {
        begin(proxy, pair, payload);
    }
}

fn spoofed(proxy: &Arc<Proxy>, pair: Pair) {
    let subject = proxy.subjects.subject(pair.client.ip(), proxy.clock.now());
    let about = About {
        proxy,
        subject: &subject,
        client: pair.client,
        original: pair.original,
    };
    let mut remarks = Remarks::kind(Kind::Udp);
    remarks.count = proxy.udp.refusals.remember(pair, proxy.clock.now());
    about.refuse(remarks, Refusal::because(Reason::SpoofedSource));
}

fn unreachable(proxy: &Proxy, pair: Pair, payload: &[u8]) {
    let quoted = payload.get(..QUOTED).unwrap_or(payload);
    proxy.icmp.refuse(pair.client, pair.original, quoted);
}

/// Begins an association with its first datagram.
fn begin(proxy: &Arc<Proxy>, pair: Pair, payload: &[u8]) {
    let remember = || proxy.udp.refusals.remember(pair, proxy.clock.now());
    let Ok(context) = FlowContext::enter(proxy, pair.client, pair.original, Transport::Udp) else {
        remember();
        return unreachable(proxy, pair, payload);
    };
    let kind = kind_of(payload);
    let Some((association, fresh)) = proxy
        .udp
        .table
        .begin(pair, context.subject().id, context.traffic())
    else {
        let judged = judge(&context, kind).refused(Refusal::because(Reason::Limit));
        let mut remarks = Remarks::kind(kind);
        remarks.count = remember();
        context.refuse(&judged.ruling, remarks);
        return unreachable(proxy, pair, payload);
    };
    association.send(payload);
    if fresh {
        let place = Place {
            context,
            pair,
            association,
        };
        tokio::spawn(async move { place.live(kind).await });
    }
}

/// QUIC by its long headers; a short one may be anything.
fn kind_of(payload: &[u8]) -> Kind {
    match classify(payload) {
        QuicClass::Initial { .. } | QuicClass::OtherLongHeader => Kind::Quic,
        QuicClass::Short | QuicClass::NotQuic => Kind::Udp,
    }
}

/// Judges an association. QUIC that only the lack of a rule refuses is refused as what it is.
fn judge(context: &FlowContext, kind: Kind) -> Judged {
    let mut judged = context.judge(&DETECTION);
    let refused_as_such = match context.proxy.config.quic {
        QuicMode::Refuse => kind == Kind::Quic,
    };
    if refused_as_such {
        refuse_as_quic(&mut judged.ruling);
    }
    judged
}

/// The ruling for an address that no name proves to have is a refusal of QUIC too.
fn refuse_as_quic(ruling: &mut FlowRuling) {
    if let Route::Confirm { otherwise, .. } = &mut ruling.route {
        refuse_as_quic(otherwise);
    }
    if let Judgement::Refuse(refusal) | Judgement::WouldRefuse(refusal) = &mut ruling.judgement
        && matches!(refusal.reason, Reason::NotAllowed | Reason::NoName)
    {
        refusal.reason = Reason::Quic;
    }
}

/// Nothing is read out of a datagram.
const DETECTION: Detection = Detection::Opaque(OpaqueReason::UnknownProtocol);

/// An association's place in the table, for as long as its task lives.
struct Place {
    context: FlowContext,
    pair: Pair,
    association: Arc<Association>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.association.close();
        self.context.proxy.udp.table.end(&self.pair);
    }
}

impl Place {
    async fn live(&self, kind: Kind) {
        let context = &self.context;
        tokio::select! {
            biased;
            closing = context.closed() => context.terminated(closing),
            () = self.run(kind) => {}
        }
    }

    async fn run(&self, kind: Kind) {
        let context = &self.context;
        let mut remarks = Remarks::kind(kind);
        match reach(context, judge(context, kind)).await {
            Ok(Reached {
                socket,
                judged,
                address,
                proven,
            }) => {
                remarks.dialled = Some(address);
                let reply = match reply_socket(self.pair.original) {
                    Ok(reply) => reply,
                    Err(error) => {
                        tracing::warn!(%error, original = %self.pair.original, "cannot answer for a server");
                        return self.refuse(judged.refused(Refusal::because(Reason::Limit)), remarks);
                    }
                };
                context.admit(&judged, &DETECTION, address, proven);
                context.stands().await;
                let mut record = context.permit(&judged.ruling, remarks);
                let ended = self.relay(&Arc::new(socket), &reply, &mut record).await;
                record.note(ended);
            }
            Err(Unreached::Refused(judged)) => self.refuse(judged, remarks),
            Err(Unreached::Failed(judged, error)) => {
                remarks.dialled = Some(error.address);
                let note = format!("dial failed: {}", error.cause.as_str());
                drop(context.permit(&judged.ruling, remarks.noting(note)));
                self.tell_kept();
            }
        }
    }

    fn refuse(&self, judged: Judged, mut remarks: Remarks) {
        let proxy = &self.context.proxy;
        remarks.count = proxy.udp.refusals.remember(self.pair, proxy.clock.now());
        self.context.refuse(&judged.ruling, remarks);
        self.tell_kept();
    }

    fn tell_kept(&self) {
        for payload in self.association.close() {
            unreachable(&self.context.proxy, self.pair, &payload);
        }
    }

    /// Relays until nothing passed for the idle timeout, or the server's host says that nobody is there.
    /// Returns why.
    async fn relay(
        &self,
        socket: &Arc<UdpSocket>,
        reply: &UdpSocket,
        record: &mut OpenRecord,
    ) -> &'static str {
        let (proxy, traffic) = (&self.context.proxy, self.context.traffic());
        proxy
            .means
            .count(traffic, Direction::Up, self.association.open(socket));
        let answers = async {
            loop {
                // Waiting holds no buffer.
                let answered = match socket.readable().await {
                    Ok(()) => BUFFER.with_borrow_mut(|buffer| self.answer(socket, reply, buffer)),
                    Err(error) => Err(error),
                };
                match answered {
                    Ok(length) => proxy.means.count(traffic, Direction::Down, length),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        unreachable(proxy, self.pair, &[]);
                        return "the server's host answered with port unreachable";
                    }
                    Err(error) => tracing::debug!(%error, "cannot receive an answer"),
                }
                tokio::task::coop::consume_budget().await;
            }
        };
        let quiet = async {
            traffic.silence(proxy.config.timeouts.udp_quiet).await;
            record.flush();
            traffic.silence(proxy.config.timeouts.udp_idle).await;
        };
        tokio::select! {
            ended = answers => ended,
            () = quiet => "closed after the idle timeout",
        }
    }
    /// Passes one datagram of the server on; returns its length.
    fn answer(&self, socket: &UdpSocket, reply: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
        let length = socket.try_recv(buffer)?;
        // A full queue loses datagrams, as it does everywhere.
        let _ = SockRef::from(reply).send_to(&buffer[..length], &self.pair.client.socket().into());
        Ok(length)
    }
}
