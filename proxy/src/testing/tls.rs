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
        let client =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
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

/// Adds an ECH extension (outer, RFC 9849 §5) with this config id to a hello in one record.
pub(crate) fn with_ech(hello: &[u8], config_id: u8) -> Vec<u8> {
    let mut extension = vec![0xfe, 0x0d, 0, 0, 0, 0, 1, 0, 1, config_id, 0, 32];
    extension.extend([9; 32]);
    extension.extend([0, 64]);
    extension.extend([8; 64]);
    let body = u16::try_from(extension.len() - 4).unwrap();
    extension[2..4].copy_from_slice(&body.to_be_bytes());
    let mut grown = hello.to_vec();
    let added = extension.len();
    let mut grow = |at: usize| {
        let length = usize::from(u16::from_be_bytes([grown[at], grown[at + 1]])) + added;
        grown[at..at + 2].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    };
    // The record, the message (its low 16 bits), the extension block.
    let session = 5 + 4 + 2 + 32;
    let suites = session + 1 + usize::from(hello[session]);
    let methods = suites + 2 + usize::from(u16::from_be_bytes([hello[suites], hello[suites + 1]]));
    let block = methods + 1 + usize::from(hello[methods]);
    [3, 7, block].into_iter().for_each(&mut grow);
    grown.splice(block + 2..block + 2, extension);
    grown
}
