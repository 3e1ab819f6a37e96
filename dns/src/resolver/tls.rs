//! Trust for encrypted upstreams, and for the gateway's control plane: the system's roots and those of the
//! configuration.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tracing::warn;

/// The client configuration for TLS and HTTPS upstreams, without ALPN. Roots that can't be read are logged and left
/// out: fewer roots only ever refuse more.
pub fn client_config(extra: &[CertificateDer<'static>]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in native.errors {
        warn!(%error, "a system root certificate can't be read");
    }
    roots.add_parsable_certificates(native.certs);
    let (_, ignored) = roots.add_parsable_certificates(extra.iter().cloned());
    if ignored > 0 {
        warn!(ignored, "configured root certificates can't be read");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}
