//! Owns the lab's certificate authorities: one that clients trust, one that
//! nobody trusts (for attackers). Keys live for one lab only.
//! Never decides who gets which certificate; the servers ask.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::TlsAcceptor;

use crate::error::{During, LabError};

/// A certificate authority made for one lab.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A certificate and its key as files, for tools that want files.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// PEM: the certificate, then the authority's.
    pub certificate: PathBuf,
    /// PEM: the key, PKCS #8.
    pub key: PathBuf,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Result<Self, LabError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Its certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate, for a client's root store.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// A server certificate for names and addresses, ready for rustls.
    pub(crate) fn issue(&self, names: &[String]) -> Result<Arc<CertifiedKey>, LabError> {
        let (certificate, key) = self.sign(names)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![certificate.der().clone(), self.certificate()];
        let provider = provider();
        Ok(Arc::new(CertifiedKey::from_der(chain, key, &provider)?))
    }

    /// A TLS server's configuration with a certificate for names and addresses
    /// and these ALPN protocols.
    pub(crate) fn acceptor(&self, names: &[String], protocols: &[&str]) -> Result<TlsAcceptor, LabError> {
        let resolver = SingleCertAndKey::from(self.issue(names)?);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
        config.alpn_protocols = protocols.collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// A server certificate for names and addresses, written to `STEM.pem` and
    /// `STEM.key` in `dir`.
    pub fn issue_files(&self, dir: &Path, stem: &str, names: &[&str]) -> Result<CertificateFiles, LabError> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let (certificate, key) = self.sign(&names)?;
        let files = CertificateFiles {
            certificate: dir.join(format!("{stem}.pem")),
            key: dir.join(format!("{stem}.key")),
        };
        let chain = certificate.pem() + &self.pem;
        fs::write(&files.certificate, chain).during(format!("write certificate {stem}"))?;
        fs::write(&files.key, key.serialize_pem()).during(format!("write key {stem}"))?;
        Ok(files)
    }

    fn sign(&self, names: &[String]) -> Result<(rcgen::Certificate, KeyPair), LabError> {
        let mut params = CertificateParams::new(names)?;
        // Not the name: a common name ends at 64 characters, an SNI at 255.
        params
            .distinguished_name
            .push(DnType::CommonName, "tidegate lab server");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Strict OpenSSL clients want the link to the authority's key.
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?, key))
    }
}

/// The one crypto provider.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
