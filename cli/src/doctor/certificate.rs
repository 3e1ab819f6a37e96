//! A server's certificate: who signed it, for which names, until when.
//!
//! Pure: `now` is an argument. It judges by the same code that clients do (webpki).

use std::time::Duration;

use jiff::Timestamp;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};

/// From here on a certificate has to be renewed.
const SOON: Duration = Duration::from_hours(14 * 24);

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not one that can be read.
    Broken(String),
    /// None of the CAs signed it.
    Unknown,
    /// Its time is over, since then.
    Expired(Option<Timestamp>),
    /// Its time will be over, then.
    Expires(Option<Timestamp>),
    /// Its time has not come.
    NotYet,
    /// It is for these names.
    Names(Vec<String>),
}

/// What is wrong with a chain, for a client that asks for `name`. Without `roots` nobody asks who signed it.
pub(super) fn judge(
    chain: &[CertificateDer<'_>],
    roots: Option<&RootCertStore>,
    name: Option<&ServerName<'_>>,
    now: Timestamp,
) -> Vec<Fault> {
    let Some((leaf, between)) = chain.split_first() else {
        return vec![Fault::Broken("there is none".into())];
    };
    let leaf = match ParsedCertificate::try_from(leaf) {
        Ok(leaf) => leaf,
        Err(error) => return vec![Fault::Broken(error.to_string())],
    };
    let none = RootCertStore::empty();
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let at = |time: UnixTime| {
        let roots = roots.unwrap_or(&none);
        verify_server_cert_signed_by_trust_anchor(&leaf, roots, between, time, algorithms.all).err()
    };
    let unix = Duration::from_secs(now.as_second().max(0) as u64);
    let mut faults = Vec::new();
    // Times are judged before signatures.
    match at(UnixTime::since_unix_epoch(unix)).map(time_of) {
        Some(Some(fault)) => faults.push(fault),
        Some(None) if roots.is_some() => faults.push(Fault::Unknown),
        Some(None) | None => {
            if let Some(Some(Fault::Expired(then))) = at(UnixTime::since_unix_epoch(unix + SOON)).map(time_of)
            {
                faults.push(Fault::Expires(then));
            }
        }
    }
    if let Some(error) = name.and_then(|name| verify_server_name(&leaf, name).err()) {
        let mut names = Vec::new();
        if let Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) = error {
            names.extend(presented.iter().map(|name| plain_name(name)));
        }
        faults.push(Fault::Names(names));
    }
    faults
}

/// What an error says of times; `None` for one that does not.
fn time_of(error: Error) -> Option<Fault> {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let Error::InvalidCertificate(error) = error else {
        return None;
    };
    if let ExpiredContext { not_after, .. } = error {
        let second = i64::try_from(not_after.as_secs()).ok();
        return Some(Fault::Expired(
            second.and_then(|at| Timestamp::from_second(at).ok()),
        ));
    }
    if matches!(error, NotValidYet | NotValidYetContext { .. }) {
        return Some(Fault::NotYet);
    }
    (error == Expired).then_some(Fault::Expired(None))
}

/// webpki shows names as `DnsName("a.test")`.
fn plain_name(shown: &str) -> String {
    let inner = shown.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.map_or(shown, |inner| inner.trim_matches('"')).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;

    struct Made {
        roots: RootCertStore,
        leaf: CertificateDer<'static>,
    }

    /// A certificate for `tidegate.internal`, good in 2030, by a CA of its own.
    fn made() -> Made {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca, ca_key);
        let mut params = CertificateParams::new(vec!["tidegate.internal".into()]).unwrap();
        params.not_before = date_time_ymd(2030, 1, 1);
        params.not_after = date_time_ymd(2030, 12, 31);
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        Made {
            roots,
            leaf: params.signed_by(&key, &issuer).unwrap().der().clone(),
        }
    }

    fn faults(made: &Made, roots: Option<&RootCertStore>, name: &'static str, now: &str) -> Vec<Fault> {
        let name = ServerName::try_from(name).unwrap();
        judge(
            std::slice::from_ref(&made.leaf),
            roots,
            Some(&name),
            now.parse().unwrap(),
        )
    }

    #[test]
    fn every_fault_is_told_from_the_others() {
        let (one, other) = (made(), made());
        let own = "tidegate.internal";
        let end: Timestamp = "2030-12-31T00:00:00Z".parse().unwrap();
        for roots in [Some(&one.roots), None] {
            assert_eq!(faults(&one, roots, own, "2030-06-01T00:00:00Z"), []);
            assert_eq!(
                faults(&one, roots, own, "2030-12-24T00:00:00Z"),
                [Fault::Expires(Some(end))]
            );
            assert_eq!(
                faults(&one, roots, own, "2031-01-01T00:00:00Z"),
                [Fault::Expired(Some(end))]
            );
            assert_eq!(faults(&one, roots, own, "2029-01-01T00:00:00Z"), [Fault::NotYet]);
        }
        let unknown = faults(&one, Some(&other.roots), own, "2030-06-01T00:00:00Z");
        assert_eq!(unknown, [Fault::Unknown]);
        let named = faults(&one, Some(&one.roots), "gw.test", "2030-06-01T00:00:00Z");
        assert_eq!(named, [Fault::Names(vec![own.into()])]);
        let broken = judge(&[CertificateDer::from(vec![1, 2, 3])], None, None, end);
        assert!(matches!(broken[..], [Fault::Broken(_)]), "{broken:?}");
        assert!(matches!(judge(&[], None, None, end)[..], [Fault::Broken(_)]));
    }
}
