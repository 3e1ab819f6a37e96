//! Connections to servers that the streams of one HTTP/2 client share, at most [`MOST_SERVERS`], each for one
//! authority at one address. Owns their making, their sharing and their end; never judges (each stream
//! brings its own ruling). Driven by the handler of streams.

use std::net::{IpAddr, Shutdown};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use socket2::SockRef;
use tidegate_policy::DnsName;
use tidegate_policy::judge::flow::Route;
use tokio::sync::OnceCell;

use super::super::answer::Failure;
use super::super::decide::Decision;
use super::super::pool::Purpose;
use super::super::servers::Unserved;
use super::tasks::Spawner;
use super::wire::{Counted, twin};
use super::{FRAME_BUFFER, WINDOW, WINDOWS};
use crate::address::UpstreamAddr;
use crate::context::{FlowContext, Judged};
use crate::dial::{Greeting, Upstream};
use crate::route::{Early, Reached, Unreached};

/// Servers that one client connection talks to at once. Past it, one without a stream gives way; where all
/// have some, the request is answered 503.
pub(super) const MOST_SERVERS: usize = 8;

/// A connection to a server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) sender: SendRequest<Counted>,
    link: Arc<Link>,
}

/// What is known of a connection.
struct Link {
    /// Its own place in the registry: it is re-judged by what is asked over it, not by its neighbours.
    context: FlowContext,
    address: UpstreamAddr,
    proven: Option<DnsName>,
    streams: AtomicUsize,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Link")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// One stream's use of a connection.
#[derive(Debug)]
pub(super) struct Held(Arc<Link>);

impl Drop for Held {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.context.rest();
        }
    }
}

impl Server {
    pub(super) fn address(&self) -> UpstreamAddr {
        self.link.address
    }

    /// Begins a stream that was judged; none when a change of policy overtook the verdict, so that not a byte
    /// of it is sent.
    pub(super) fn hold(&self, decision: &Decision) -> Option<Arc<Held>> {
        self.link.streams.fetch_add(1, Ordering::Relaxed);
        let held = Arc::new(Held(Arc::clone(&self.link)));
        let proven = self.link.proven.clone();
        self.link
            .context
            .admit(&decision.judged, &decision.detection, self.link.address, proven);
        self.link.context.is_standing().then_some(held)
    }
}

struct Slot {
    purpose: Purpose,
    server: OnceCell<Server>,
}

impl Slot {
    /// Whether the connection, if there is one by now, can be used at a permitted address.
    fn serves(&self, permitted: &impl Fn(IpAddr) -> bool) -> bool {
        let usable = |server: &Server| permitted(server.link.address.ip()) && !server.sender.is_closed();
        self.server.get().is_none_or(usable)
    }

    fn is_idle(&self) -> bool {
        self.server
            .get()
            .is_some_and(|server| server.link.streams.load(Ordering::Relaxed) == 0)
    }
}

/// The connections of one client.
pub(super) struct Servers {
    /// The last used one last.
    slots: Mutex<Vec<Arc<Slot>>>,
    early: Mutex<Option<Early>>,
}

impl Servers {
    pub(super) fn new(early: Option<Early>) -> Self {
        Self {
            slots: Mutex::default(),
            early: Mutex::new(early),
        }
    }

    /// A connection for a judged request; streams that ask for the same one wait for one dial. The decision
    /// is completed by what resolving led to.
    pub(super) async fn get(
        &self,
        context: &FlowContext,
        spawner: &Spawner<'_>,
        decision: &mut Decision,
    ) -> Result<Server, Unserved> {
        let book = Arc::clone(&decision.judged.book);
        let slot = match decision.judged.ruling.route.clone() {
            Route::Closed => return Err(Unserved::Refused),
            Route::Dial(permit) => self.slot(&decision.purpose, |address| address == permit.address()),
            Route::Resolve(permit) => {
                self.slot(&decision.purpose, |address| permit.dial(&book, address).is_ok())
            }
            Route::Confirm { .. } => self.slot(&decision.purpose, |_| false),
        };
        let Some(slot) = slot else {
            return Err(Unserved::Failed(Failure::full()));
        };
        let judged = decision.judged.clone();
        let dialled = slot
            .server
            .get_or_try_init(|| self.dial(context, spawner, judged))
            .await;
        match dialled {
            Ok(server) => Ok(server.clone()),
            Err(failed) => {
                self.slots.lock().retain(|one| !Arc::ptr_eq(one, &slot));
                Err(failed.explain(decision))
            }
        }
    }

    /// The place of a connection, made or to be made; `None` when there are too many in use.
    fn slot(&self, purpose: &Purpose, permitted: impl Fn(IpAddr) -> bool) -> Option<Arc<Slot>> {
        let mut slots = self.slots.lock();
        slots.retain(|slot| slot.purpose != *purpose || slot.serves(&permitted));
        let slot = if let Some(at) = slots.iter().position(|slot| slot.purpose == *purpose) {
            slots.remove(at)
        } else {
            if slots.len() >= MOST_SERVERS {
                let at = slots.iter().position(|slot| slot.is_idle())?;
                slots.remove(at);
            }
            Arc::new(Slot {
                purpose: purpose.clone(),
                server: OnceCell::new(),
            })
        };
        slots.push(Arc::clone(&slot));
        Some(slot)
    }

    async fn dial(
        &self,
        context: &FlowContext,
        spawner: &Spawner<'_>,
        judged: Judged,
    ) -> Result<Server, Undialled> {
        let early = self.early.lock().take();
        let Reached { upstream, proven, .. } = context
            .reach(judged, early, Greeting::Held)
            .await
            .map_err(Undialled::Unreached)?;
        upstream.leg.last();
        let unusable = |_| Undialled::Failed(Failure::answer("the connection could not be set up"));
        let io = TokioIo::new(twin(&upstream.leg).map_err(unusable)?);
        let mut builder = http2::Builder::new(spawner.clone());
        builder
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOWS)
            .max_send_buf_size(FRAME_BUFFER);
        let unusable = |_| Undialled::Failed(Failure::answer("no HTTP/2"));
        let (sender, connection) = builder.handshake::<_, Counted>(io).await.map_err(unusable)?;
        let beside = context.beside().map_err(|_| Undialled::Failed(Failure::full()))?;
        let link = Arc::new(Link {
            context: beside,
            address: upstream.address,
            proven,
            streams: AtomicUsize::new(0),
        });
        spawner.execute(drive(connection, upstream, Arc::clone(&link)));
        Ok(Server { sender, link })
    }
}

/// Runs a connection to its end, which a change of policy may bring.
async fn drive(connection: impl Future<Output = hyper::Result<()>>, upstream: Upstream, link: Arc<Link>) {
    tokio::select! {
        biased;
        closing = link.context.closed() => {
            link.context.terminated(closing);
            // Frames on their way are dropped with it: their streams end without their last frame.
            let _ = SockRef::from(&*upstream.leg).shutdown(Shutdown::Both);
        }
        ended = connection => {
            if ended.is_ok() {
                upstream.leg.orderly();
            }
        }
    }
}

/// Why there is no connection.
enum Undialled {
    Unreached(Unreached),
    Failed(Failure),
}

impl Undialled {
    fn explain(self, decision: &mut Decision) -> Unserved {
        match self {
            Self::Unreached(unreached) => decision.unreached(unreached),
            Self::Failed(failure) => Unserved::Failed(failure),
        }
    }
}
