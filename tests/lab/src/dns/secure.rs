//! Owns a name server's encrypted doors: DNS over TLS on 853 and DNS over
//! HTTPS (POST and GET `/dns-query`, HTTP/2 and HTTP/1.1) on 443.
//! What is said is `DnsServer`'s. `Lab` starts it on demand.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::DnsServer;
use super::listen::serve_stream;
use super::log::{Origin, Transport};
use crate::ca::Authority;
use crate::error::LabError;
use crate::internet::Ground;

/// Serves `server` on ports 853 and 443 of `addresses`, with a certificate of
/// `authority` for `name` and the addresses.
pub(crate) fn serve_secure(
    ground: &Ground,
    server: &DnsServer,
    authority: &Authority,
    name: &str,
    addresses: &[IpAddr],
) -> Result<(), LabError> {
    let mut names = vec![name.to_owned()];
    names.extend(addresses.iter().map(ToString::to_string));
    for address in addresses {
        let tls = authority.acceptor(&names, &["dot"])?;
        let dot = ground.tcp(SocketAddr::new(*address, 853))?;
        ground.spawn(serve_tls(server.clone(), dot, tls, serve_dot));
        let tls = authority.acceptor(&names, &["h2", "http/1.1"])?;
        let doh = ground.tcp(SocketAddr::new(*address, 443))?;
        ground.spawn(serve_tls(server.clone(), doh, tls, serve_doh));
    }
    Ok(())
}

async fn serve_tls<F>(
    server: DnsServer,
    listener: TcpListener,
    tls: TlsAcceptor,
    door: fn(DnsServer, TlsStream<TcpStream>, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let Ok((stream, source)) = listener.accept().await else {
            continue;
        };
        let (server, tls) = (server.clone(), tls.clone());
        tokio::spawn(async move {
            if server.is_down() {
                return;
            }
            if let Ok(stream) = tls.accept(stream).await {
                door(server, stream, source).await;
            }
        });
    }
}

async fn serve_dot(server: DnsServer, stream: TlsStream<TcpStream>, source: SocketAddr) {
    let transport = Transport::Tls;
    serve_stream(server, stream, Origin { source, transport }).await;
}

async fn serve_doh(server: DnsServer, stream: TlsStream<TcpStream>, source: SocketAddr) {
    let service = service_fn(move |request| {
        let server = server.clone();
        async move { Ok::<_, Infallible>(doh(&server, request, source).await) }
    });
    let http = auto::Builder::new(TokioExecutor::new());
    let _client_gone = http.serve_connection(TokioIo::new(stream), service).await;
}

async fn doh(server: &DnsServer, request: Request<Incoming>, source: SocketAddr) -> Response<Full<Bytes>> {
    let status = |code| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = code;
        response
    };
    if request.uri().path() != "/dns-query" {
        return status(StatusCode::NOT_FOUND);
    }
    let query = if request.method() == Method::POST {
        let body = Limited::new(request.into_body(), usize::from(u16::MAX));
        body.collect().await.ok().map(|body| body.to_bytes().to_vec())
    } else {
        request.uri().query().and_then(query_parameter)
    };
    let Some(query) = query else {
        return status(StatusCode::BAD_REQUEST);
    };
    let transport = Transport::Https;
    let Some(reply) = server.reply(&query, Origin { source, transport }).await else {
        return status(StatusCode::SERVICE_UNAVAILABLE);
    };
    let mut response = Response::new(Full::from(reply));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/dns-message"),
    );
    response
}

/// The query in `dns=` (RFC 8484 section 4.1): base64url without padding.
fn query_parameter(query: &str) -> Option<Vec<u8>> {
    let text = query.split('&').find_map(|pair| pair.strip_prefix("dns="))?;
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::query_parameter;

    #[test]
    fn rfc8484_section_4_1_1_example_decodes() {
        let query = "dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB";
        let bytes = query_parameter(query);
        let name = b"\x03www\x07example\x03com\x00";
        assert!(bytes.is_some_and(|bytes| bytes.len() == 33 && bytes[12..].starts_with(name)));
        assert_eq!(query_parameter("dns=a+b"), None);
        assert_eq!(query_parameter("q=abcd"), None);
    }
}
