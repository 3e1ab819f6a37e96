//! DNS over TLS and over HTTPS on the gateway's own addresses: hickory-server before the same handler.
//!
//! hickory-server caps neither connections nor queries, and its requests carry no local address. So
//! connections are accepted and counted here and carried to hickory's listener on loopback; a table of
//! who stands behind which inner connection gives the handler the real client. An inner connection that
//! is not in the table is nobody's, and refused.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use hickory_resolver::net::runtime::Time;
use hickory_resolver::proto::op::{Header, HeaderCounts, Message, Metadata, ResponseCode};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server};
use hickory_server::zone_handler::MessageResponseBuilder;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::client::{Client, Transport};
use super::handler::DnsHandler;
use super::metrics::Dropped;

/// For a TLS handshake, and between two queries.
const IDLE: Duration = Duration::from_secs(10);
/// The life of a connection; clients open another one.
const LIFETIME: Duration = Duration::from_mins(5);
/// Queries of one connection.
const MAX_QUERIES: u32 = 1_000;
/// Path of the DoH endpoint (RFC 8484 §4.1: by convention).
const DOH_PATH: &str = "/dns-query";
/// Wait after an error of the listener itself.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Which encrypted transport a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encrypted {
    /// DNS over TLS (RFC 7858), port 853.
    Tls,
    /// DNS over HTTPS (RFC 8484), HTTP/2, POST to `/dns-query`.
    Https,
}

/// The TLS configuration of a listener.
pub fn server_config(
    kind: Encrypted,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = match kind {
        Encrypted::Tls => vec![b"dot".to_vec()],
        Encrypted::Https => vec![b"h2".to_vec()],
    };
    Ok(Arc::new(config))
}

/// Serves one listener until the future is dropped.
pub async fn serve_encrypted(
    handler: Arc<DnsHandler>,
    listener: std::net::TcpListener,
    kind: Encrypted,
    config: Arc<ServerConfig>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let inner = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let inside = inner.local_addr()?;
    let peers = Arc::new(Peers::default());
    let mut server = Server::new(Front {
        handler: Arc::clone(&handler),
        peers: Arc::clone(&peers),
    });
    let transport = match kind {
        Encrypted::Tls => {
            server.register_tls_listener_with_tls_config(inner, IDLE, config)?;
            Transport::Tls
        }
        Encrypted::Https => {
            server.register_https_listener_with_tls_config(inner, IDLE, config, None, DOH_PATH.into())?;
            Transport::Https
        }
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            ended = server.block_until_done() => return ended.map_err(io::Error::other),
        };
        let (stream, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept encrypted DNS connections");
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let Some(slot) = handler.connections.take(source.ip()) else {
            handler.metrics.dropped(Dropped::Limit, 1);
            continue;
        };
        let Ok(asked) = stream.local_addr() else { continue };
        let client = Client {
            source,
            asked,
            transport,
            spoofed: false,
        };
        let peers = Arc::clone(&peers);
        tokio::spawn(async move {
            let _slot = slot;
            if let Err(error) = carry(stream, inside, &peers, client).await {
                debug!(%source, %error, "an encrypted DNS connection ended");
            }
        });
    }
}

/// Carries one connection to hickory's listener, for its lifetime at most.
async fn carry(
    mut stream: TcpStream,
    inside: SocketAddr,
    peers: &Arc<Peers>,
    client: Client,
) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    // In the table before the connection exists, so that no query can come from a stranger.
    let place = peers.enter(socket.local_addr()?, client);
    let mut inner = socket.connect(inside).await?;
    tokio::select! {
        copied = timeout(LIFETIME, copy_bidirectional(&mut stream, &mut inner)) => {
            copied.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map(drop)
        }
        () = place.peer.over.notified() => Ok(()),
    }
}

/// Who stands behind which inner connection.
#[derive(Default)]
struct Peers {
    open: Mutex<HashMap<SocketAddr, Arc<Peer>>>,
}

struct Peer {
    client: Client,
    queries: AtomicU32,
    /// Told when the queries are used up.
    over: Notify,
}

/// One entry of the table; dropping it takes it out.
struct Place {
    peers: Arc<Peers>,
    address: SocketAddr,
    peer: Arc<Peer>,
}

impl Peers {
    fn enter(self: &Arc<Self>, address: SocketAddr, client: Client) -> Place {
        let peer = Arc::new(Peer {
            client,
            queries: AtomicU32::new(0),
            over: Notify::new(),
        });
        self.open.lock().insert(address, Arc::clone(&peer));
        Place {
            peers: Arc::clone(self),
            address,
            peer,
        }
    }

    fn get(&self, address: SocketAddr) -> Option<Arc<Peer>> {
        self.open.lock().get(&address).cloned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.peers.open.lock().remove(&self.address);
    }
}

/// The handler as hickory-server calls it.
struct Front {
    handler: Arc<DnsHandler>,
    peers: Arc<Peers>,
}

impl Front {
    /// The answer to a request of a known peer; `None`: none, or refused by a bound.
    async fn reply(&self, request: &Request) -> Option<Message> {
        let peer = self.peers.get(request.src())?;
        if peer.queries.fetch_add(1, Ordering::Relaxed) >= MAX_QUERIES {
            peer.over.notify_one();
            return None;
        }
        let Some(_slot) = self.handler.in_flight.take(peer.client.source.ip()) else {
            self.handler.metrics.dropped(Dropped::Limit, 1);
            return None;
        };
        let bytes = self
            .handler
            .handle_bytes(request.as_slice(), &peer.client)
            .await?;
        Message::from_vec(&bytes).ok()
    }

    async fn respond(&self, request: &Request, mut response: impl ResponseHandler) -> ResponseInfo {
        let Some(message) = self.reply(request).await else {
            let builder = MessageResponseBuilder::from_message_request(request);
            let refused = builder.error_msg(&request.metadata, ResponseCode::Refused);
            return response
                .send_response(refused)
                .await
                .unwrap_or_else(|_| nothing(&request.metadata));
        };
        let builder = MessageResponseBuilder::new(&request.queries, message.edns.as_ref());
        let reply = builder.build(
            message.metadata,
            &message.answers,
            &message.authorities,
            [],
            &message.additionals,
        );
        response
            .send_response(reply)
            .await
            .unwrap_or_else(|_| nothing(&request.metadata))
    }
}

/// What is said of a response that could not be sent.
fn nothing(request: &Metadata) -> ResponseInfo {
    let mut metadata = Metadata::response_from_request(request);
    metadata.response_code = ResponseCode::ServFail;
    Header {
        metadata,
        counts: HeaderCounts::default(),
    }
    .into()
}

impl RequestHandler for Front {
    // The signature that `async_trait` gives the trait's method.
    fn handle_request<'handler, 'request, 'future, R, T>(
        &'handler self,
        request: &'request Request,
        response_handle: R,
    ) -> Pin<Box<dyn Future<Output = ResponseInfo> + Send + 'future>>
    where
        R: ResponseHandler + 'future,
        T: Time + 'future,
        'handler: 'future,
        'request: 'future,
        Self: 'future,
    {
        Box::pin(self.respond(request, response_handle))
    }
}
