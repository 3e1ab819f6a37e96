//! TLS for tests: client hellos, a client, a server with a certificate of its own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A site's two sides.
pub(crate) struct Site {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) connector: TlsConnector,
    client: Arc<ClientConfig>,
}

impl Site {
    /// A site with a certificate for these names, and a client that trusts it. `change` is applied to the
    /// server's configuration.
    pub(crate) fn new(names: &[&str], provider: rustls::crypto::CryptoProvider) -> Self {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Arc::new(client);
        Self {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::clone(&client)),
            client,
        }
    }

    /// An ordinary site.
    pub(crate) fn ordinary(names: &[&str]) -> Self {
        Self::new(names, rustls::crypto::aws_lc_rs::default_provider())
    }

    /// A site that answers every first hello with a HelloRetryRequest: it wants a group for which clients
    /// send no key share unasked.
    pub(crate) fn retrying(names: &[&str]) -> Self {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::SECP384R1];
        Self::new(names, provider)
    }

    /// The bytes of a client's first hello.
    pub(crate) fn hello(&self, sni: &str) -> Vec<u8> {
        let mut connection = ClientConnection::new(Arc::clone(&self.client), server_name(sni)).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }
}

/// The name as rustls wants it.
pub(crate) fn server_name(text: &str) -> ServerName<'static> {
    ServerName::try_from(text.to_owned()).unwrap()
}
