//! One request to a runner API, looked at from all sides: the connection's addresses, the certificate, the clock, what the
//! gateway says of us.
//!
//! Owns its socket and its bounds. It accepts any certificate, because it is here to say what is wrong with it: so it sends
//! nothing that is a secret, and what is answered is believed by nobody.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};
use serde::Deserialize;
use tokio::time::Instant;

use super::clock;
use super::probe::OWN_NAME;

/// For the connection, and for each read and write.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest answer, in bytes.
const MAX_ANSWER: u64 = 64 << 10;
/// Headers of an answer.
const MAX_HEADERS: usize = 32;

/// What came of a request.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The server's certificates, its own first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Our end of the connection, as this machine sees it.
    pub(super) local: IpAddr,
    pub(super) status: u16,
    /// The server's clock.
    pub(super) date: Option<Timestamp>,
    /// From the first packet to the answer.
    pub(super) took: Duration,
    /// What the gateway says of us; nothing when it is none.
    pub(super) seen: Option<Seen>,
}

/// What is read of `GET /v1/why`.
#[derive(Debug, Deserialize)]
pub(super) struct Seen {
    /// Our end of the connection, as the gateway sees it.
    pub(super) source: IpAddr,
    /// The job that it holds.
    pub(super) job: Option<String>,
    #[serde(default)]
    pub(super) policy: Option<String>,
    #[serde(default)]
    pub(super) mode: Option<String>,
}

/// Asks the server at an address, as `host`.
pub(super) fn ask(address: SocketAddr, host: &str) -> io::Result<Exchange> {
    let begun = Instant::now();
    let tcp = TcpStream::connect_timeout(&address, PATIENCE)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    tcp.set_nodelay(true)?;
    let local = tcp.local_addr()?.ip();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(config()?, name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, tcp);
    let request = format!(
        "GET /v1/why?name={OWN_NAME} HTTP/1.1\r\nhost: {host}\r\naccept: application/json\r\nuser-agent: tidegate-doctor\r\n\
         connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let read = (&mut stream).take(MAX_ANSWER).read_to_end(&mut answer);
    let chain = stream.conn.peer_certificates().unwrap_or_default().to_vec();
    match read {
        // Many close without saying so; the answer's own length tells whether it is whole.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof || answer.is_empty() => return Err(error),
        _ => {}
    }
    let took = begun.elapsed();
    let (status, date, body) = parse(&answer)?;
    Ok(Exchange {
        chain,
        local,
        status,
        date,
        took,
        seen: serde_json::from_slice(body).ok(),
    })
}

/// Status, clock and body of an answer.
fn parse(answer: &[u8]) -> io::Result<(u16, Option<Timestamp>, &[u8])> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "its answer is no HTTP");
    let httparse::Status::Complete(end) = response.parse(answer).map_err(|_| odd())? else {
        return Err(odd());
    };
    let status = response.code.ok_or_else(odd)?;
    let mut headers = response.headers.iter();
    let date = headers.find(|header| header.name.eq_ignore_ascii_case("date"));
    let date = date.and_then(|header| clock::date(std::str::from_utf8(header.value).ok()?));
    Ok((status, date, answer.get(end..).unwrap_or_default()))
}

fn config() -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Anybody(Arc::clone(&provider)));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Accepts every certificate whose key the server has.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn an_answer_is_read_and_anything_else_is_none() {
        let answer = b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n{\"source\":\"10.77.1.2\",\"job\":null}";
        let (status, date, body) = parse(answer).unwrap();
        assert_eq!(status, 200);
        assert_eq!(date.unwrap().to_string(), "1994-11-06T08:49:37Z");
        let seen: Seen = serde_json::from_slice(body).unwrap();
        assert_eq!((seen.source.to_string().as_str(), seen.job), ("10.77.1.2", None));
        for odd in [&b"SSH-2.0-OpenSSH\r\n"[..], b"", b"HTTP/1.1 200 OK\r\n"] {
            parse(odd).unwrap_err();
        }
    }
}
