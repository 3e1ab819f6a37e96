//! Owns what a web site is: its names, addresses, TLS habits and files.
//! No sockets. Tests describe sites with it; `Origins` opens them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};

use crate::ca::{Authority, provider};
use crate::error::LabError;

/// How a site does TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// TLS 1.3 and 1.2, all groups.
    #[default]
    Modern,
    /// Only secp384r1, for which common clients send no share: a TLS 1.3
    /// client gets a HelloRetryRequest first.
    HelloRetry,
    /// Nothing newer than TLS 1.2.
    Tls12,
    /// Takes every SNI and shows a certificate for it from an authority that
    /// nobody trusts.
    AnyName,
}

/// A web site: HTTPS on 443 (HTTP/2 and HTTP/1.1), cleartext on 80 and 8080
/// (HTTP/1.1 and HTTP/2 with prior knowledge). Its pages:
///
/// | path | answer |
/// |---|---|
/// | `/` | `hello from NAME` |
/// | `/bytes/N` | N zero bytes |
/// | `/slow/N?pace=MS` | N bytes in 100 pieces, one each MS (100) ms, at once when released |
/// | `/echo` | the request's body |
/// | `/headers` | the request's headers, one a line |
/// | `/status/CODE` | that status |
/// | `/redirect?to=URL` | 302 to URL |
/// | `/trailers` | a chunked body and the trailer `x-lab-trailer: end` |
/// | any, with `Upgrade: websocket` | 101, then an echo |
///
/// Its files, if it has a directory, come first.
#[derive(Debug, Clone)]
pub struct Site {
    pub(crate) names: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
    tls: TlsMode,
    pub(super) files: Option<PathBuf>,
    pub(super) repositories: Option<PathBuf>,
    pub(crate) in_dns: bool,
}

impl Site {
    /// A site called `name` at these addresses.
    pub fn new(name: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            names: vec![name.to_owned()],
            addresses: addresses.into_iter().collect(),
            tls: TlsMode::Modern,
            files: None,
            repositories: None,
            in_dns: true,
        }
    }

    /// Another name of the same site; `*.x.test` goes for one label.
    #[must_use]
    pub fn alias(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    /// Does TLS in another way.
    #[must_use]
    pub fn tls(mut self, mode: TlsMode) -> Self {
        self.tls = mode;
        self
    }

    /// Serves the files below this directory.
    #[must_use]
    pub fn files(mut self, directory: impl Into<PathBuf>) -> Self {
        self.files = Some(directory.into());
        self
    }

    /// Serves the git repositories below this directory, and nothing else.
    #[must_use]
    pub(crate) fn git(mut self, root: PathBuf) -> Self {
        self.repositories = Some(root);
        self
    }

    /// Leaves its names out of the name server.
    #[must_use]
    pub fn without_dns(mut self) -> Self {
        self.in_dns = false;
        self
    }
}

/// A site with its TLS configuration.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) site: Site,
    pub(super) tls: Arc<ServerConfig>,
}

impl Running {
    pub(super) fn new(site: Site, trusted: &Authority, rogue: Arc<Authority>) -> Result<Self, LabError> {
        let mut names = site.names.clone();
        names.extend(site.addresses.iter().map(ToString::to_string));
        let certificate: Arc<dyn ResolvesServerCert> = match site.tls {
            TlsMode::AnyName => Arc::new(Impostor(rogue)),
            TlsMode::Modern | TlsMode::HelloRetry | TlsMode::Tls12 => {
                Arc::new(SingleCertAndKey::from(trusted.issue(&names)?))
            }
        };
        let mut provider = CryptoProvider::clone(&provider());
        if site.tls == TlsMode::HelloRetry {
            provider.kx_groups = vec![kx_group::SECP384R1];
        }
        let versions = match site.tls {
            TlsMode::Tls12 => vec![&TLS12],
            TlsMode::Modern | TlsMode::HelloRetry | TlsMode::AnyName => vec![&TLS13, &TLS12],
        };
        let mut tls = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&versions)?
            .with_no_client_auth()
            .with_cert_resolver(certificate);
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tls = Arc::new(tls);
        Ok(Self { site, tls })
    }

    /// Its first name.
    pub(super) fn name(&self) -> &str {
        &self.site.names[0]
    }

    pub(super) fn is_called(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.');
        self.site.names.iter().any(|own| {
            own.eq_ignore_ascii_case(name)
                || own.strip_prefix("*.").is_some_and(|parent| {
                    let below = name.split_once('.');
                    below.is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent))
                })
        })
    }
}

/// Makes a certificate for whatever name a client wants.
#[derive(Debug)]
struct Impostor(Arc<Authority>);

impl ResolvesServerCert for Impostor {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or("nameless.test");
        self.0.issue(&[name.to_owned()]).ok()
    }
}
