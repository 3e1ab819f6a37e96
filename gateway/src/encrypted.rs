//! DNS over TLS and over HTTPS for runners: listeners on the gateway's runner-facing addresses.
//!
//! Only where the configuration names a certificate (`dns.tls`). The listeners live on the control runtime:
//! a runner that encrypts towards its own gateway is the exception, plain DNS the fast path.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tidegate_dns::front::{DnsHandler, Encrypted, serve_encrypted, server_config};
use tokio::task::JoinSet;

use crate::config::DnsConfig;
use crate::intercept::NetworkPlan;
use crate::listen::{self, ListenError};
use crate::parts::{PartsError, certificates};

/// What is served where: port by port (RFC 7858 §3.1, RFC 8484 by HTTPS's own port).
const SERVED: [(Encrypted, u16); 2] = [(Encrypted::Tls, 853), (Encrypted::Https, 443)];

/// Open listeners with the certificate that they serve with.
pub(crate) struct EncryptedDns {
    listeners: Vec<(Encrypted, TcpListener)>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Encrypted DNS that can't be served as configured.
#[derive(Debug, thiserror::Error)]
pub enum EncryptedError {
    /// Certificate or key can't be read.
    #[error(transparent)]
    Pem(#[from] PartsError),
    /// A listener can't be opened.
    #[error("can't serve DNS over TLS and HTTPS")]
    Listen(#[from] ListenError),
    /// Certificate and key don't go together.
    #[error("gateway.dns.tls: certificate and key can't be used")]
    Identity(#[from] rustls::Error),
}

/// Where encrypted DNS listens, for the input hook; nothing without a certificate.
pub(crate) fn addresses(dns: &DnsConfig, networks: &[NetworkPlan]) -> Vec<SocketAddr> {
    if dns.tls.is_none() {
        return Vec::new();
    }
    let addresses = networks
        .iter()
        .flat_map(|network| [network.dns_v4.map(IpAddr::V4), network.dns_v6.map(IpAddr::V6)])
        .flatten();
    addresses
        .flat_map(|address| SERVED.map(|(_, port)| SocketAddr::new(address, port)))
        .collect()
}

impl EncryptedDns {
    /// Opens every listener and checks the certificate; `None` where none is configured.
    pub(crate) fn open(dns: &DnsConfig, networks: &[NetworkPlan]) -> Result<Option<Self>, EncryptedError> {
        let Some((chain, key)) = &dns.tls else {
            return Ok(None);
        };
        let pem = |source| PartsError::Pem {
            file: key.clone(),
            source,
        };
        let (chain, key) = (
            certificates(chain)?,
            PrivateKeyDer::from_pem_file(key).map_err(pem)?,
        );
        let mut listeners = Vec::new();
        for address in addresses(dns, networks) {
            let kind = SERVED.iter().find(|(_, port)| *port == address.port());
            if let Some((kind, _)) = kind {
                server_config(*kind, chain.clone(), key.clone_key())?;
                listeners.push((*kind, listen::dns_tcp(address)?));
            }
        }
        Ok(Some(Self {
            listeners,
            chain,
            key,
        }))
    }

    /// Serves every listener on the present runtime.
    pub(crate) fn serve(
        self,
        handler: &Arc<DnsHandler>,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), EncryptedError> {
        for (kind, listener) in self.listeners {
            let config = server_config(kind, self.chain.clone(), self.key.clone_key())?;
            let handler = Arc::clone(handler);
            tasks.spawn(async move {
                if let Err(error) = serve_encrypted(handler, listener, kind, config).await {
                    tracing::error!(%error, ?kind, "encrypted DNS ended");
                }
            });
        }
        Ok(())
    }
}
