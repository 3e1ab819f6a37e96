//! Owns the sites' sockets: accepting, TLS with the site that the SNI names,
//! HTTP on top, and logging each step before the next one. What is answered
//! is `pages`'. `Origins` drives it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{Request, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;

use super::log::LoggedRequest;
use super::{CLEAR_PORTS, Front, Running, Shared, TLS_PORT, pages};
use crate::error::LabError;
use crate::internet::Ground;

/// One accepted connection, as its requests see it.
#[derive(Clone)]
struct Visit {
    shared: Arc<Shared>,
    front: Arc<Front>,
    id: u64,
    local: SocketAddr,
    peer: SocketAddr,
    sni: Option<String>,
    /// The site that the SNI chose.
    greeted: Arc<Running>,
}

/// Opens the ports of one address.
pub(super) fn listen(
    ground: &Ground,
    shared: &Arc<Shared>,
    front: &Arc<Front>,
    address: IpAddr,
) -> Result<(), LabError> {
    for port in std::iter::once(TLS_PORT).chain(CLEAR_PORTS) {
        let listener = ground.tcp(SocketAddr::new(address, port))?;
        ground.spawn(accept(Arc::clone(shared), Arc::clone(front), listener));
    }
    Ok(())
}

async fn accept(shared: Arc<Shared>, front: Arc<Front>, listener: TcpListener) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            continue;
        };
        let Ok(local) = stream.local_addr() else {
            continue;
        };
        let visit = Visit {
            id: shared.log.lock().connected(local, peer),
            shared: Arc::clone(&shared),
            front: Arc::clone(&front),
            local,
            peer,
            sni: None,
            greeted: front.default_site(),
        };
        if local.port() == TLS_PORT {
            tokio::spawn(greet(visit, stream));
        } else {
            tokio::spawn(converse(visit, stream));
        }
    }
}

/// TLS: the hello decides which site's certificate and habits it gets.
async fn greet(mut visit: Visit, stream: TcpStream) {
    let start = match LazyConfigAcceptor::new(Acceptor::default(), stream).await {
        Ok(start) => start,
        Err(error) => return visit.tls_failed(&error),
    };
    visit.sni = start.client_hello().server_name().map(str::to_owned);
    let named = visit.sni.as_deref().and_then(|sni| visit.front.named(sni));
    visit.greeted = named.unwrap_or_else(|| visit.front.default_site());
    let sni = visit.sni.clone();
    visit.amend(|connection| connection.sni = sni);
    match start.into_stream(Arc::clone(&visit.greeted.tls)).await {
        Ok(stream) => {
            visit.amend(|connection| connection.handshaken = true);
            converse(visit, stream).await;
        }
        Err(error) => visit.tls_failed(&error),
    }
}

/// HTTP/1 or HTTP/2, by the first bytes.
async fn converse(visit: Visit, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = service_fn(move |request| {
        let visit = visit.clone();
        async move {
            let site = visit.log(&request);
            let released = visit.shared.released.subscribe();
            Ok::<_, Infallible>(pages::answer(&site, request, released).await)
        }
    });
    let http = auto::Builder::new(TokioExecutor::new());
    let connection = http.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let _visitor_gone = connection.await;
}

impl Visit {
    fn amend(&self, change: impl FnOnce(&mut super::LoggedConnection)) {
        self.shared.log.lock().amend(self.id, change);
    }

    fn tls_failed(&self, error: &std::io::Error) {
        self.amend(|connection| connection.tls_error = Some(error.to_string()));
    }

    /// Logs a request and says which site answers it.
    fn log(&self, request: &Request<Incoming>) -> Arc<Running> {
        let host = request.headers().get(header::HOST);
        let host = host.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        let target = request.uri().authority().map(ToString::to_string);
        let authority = target.or(host);
        let named = authority.as_deref().map(without_port);
        let named = named.and_then(|name| self.front.named(name));
        let site = named.unwrap_or_else(|| Arc::clone(&self.greeted));
        let path = request.uri().path_and_query();
        self.shared.log.lock().requested(LoggedRequest {
            connection: self.id,
            site: site.name().to_owned(),
            local: self.local,
            peer: self.peer,
            sni: self.sni.clone(),
            version: format!("{:?}", request.version()),
            method: request.method().to_string(),
            authority,
            path: path.map_or_else(String::new, ToString::to_string),
            headers: pages::header_lines(request.headers()),
        });
        site
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}
