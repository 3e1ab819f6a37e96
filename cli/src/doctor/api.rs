//! What is wrong with a runner API, as one that asked it sees it. Pure, but for reading the CAs.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

use super::certificate::{self, Fault};
use super::exchange::{Exchange, Seen};
use super::finding::{Finding, Severity, word};
use crate::hook::settings::Settings;

const CHECK: &str = "runner-api";

/// An address that does not answer.
pub(super) fn silent(address: SocketAddr, error: io::Error) -> Finding {
    let reason = if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) {
        "nothing came in time".to_owned()
    } else if error.kind() == io::ErrorKind::ConnectionRefused {
        "nobody listens there".to_owned()
    } else {
        error.to_string()
    };
    let what = format!("it does not answer: {reason}");
    Finding::new(Severity::Problem, CHECK, address.to_string(), what)
        .mend("tidegate doctor   # on the gateway; its configuration says gateway.runner-api.listen")
}

/// What an answer shows, but for the certificate.
pub(super) fn judge(
    address: SocketAddr,
    answer: &Exchange,
    install: &str,
    is_own: impl Fn(IpAddr) -> bool,
) -> Option<Finding> {
    let Some(seen) = &answer.seen else {
        let what = format!(
            "it answers HTTP {}, and not as a Tidegate gateway's runner API of this version does",
            answer.status
        );
        let finding = Finding::new(Severity::Problem, CHECK, address.to_string(), what);
        return Some(finding.mend(format!("{install} --runner-api https://tidegate.internal")));
    };
    let (source, local) = (seen.source.to_canonical(), answer.local.to_canonical());
    if source == local || is_own(source) {
        return None;
    }
    let what = format!(
        "the gateway sees {local} as {source}: something in between translates addresses, so all machines behind it are \
         one job, and their policies each other's"
    );
    let finding = Finding::new(Severity::Problem, "nat", local.to_string(), what);
    Some(finding.mend(format!(
        "nft list ruleset   # on {source}: delete its masquerade or snat rule for {local}"
    )))
}

/// Which job is here.
pub(super) fn who(seen: &Seen) -> Finding {
    let of = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".into());
    let what = match &seen.job {
        Some(job) => format!(
            "job {job} is registered here, governed by policy {}",
            of(&seen.policy)
        ),
        None => format!(
            "no job is registered here; the default policy governs: {} ({})",
            of(&seen.policy),
            of(&seen.mode)
        ),
    };
    Finding::new(Severity::Note, "job", seen.source.to_string(), what)
}

/// What is wrong with the certificate, for hooks with these settings. `install` is what writes them.
pub(super) fn certificate(
    chain: &[CertificateDer<'_>],
    host: &str,
    settings: &Settings,
    install: &str,
    now: Timestamp,
) -> Vec<Finding> {
    let (roots, whose) = roots(settings.ca.as_deref());
    let name = ServerName::try_from(host.to_owned());
    let faults = certificate::judge(chain, Some(&roots), name.as_ref().ok(), now);
    faults
        .iter()
        .map(|fault| told(fault, host, &whose, install))
        .collect()
}

fn told(fault: &Fault, host: &str, whose: &str, install: &str) -> Finding {
    let renew = "systemctl reload tidegate-gateway   # on the gateway, with a new certificate in gateway.runner-api.tls";
    let on = |time: &Option<Timestamp>| time.map_or_else(String::new, |time| format!(", {time}"));
    let (severity, what, mend) = match fault {
        Fault::Unknown => (
            Severity::Problem,
            format!("its certificate is not signed by {whose}, so hooks don't trust it"),
            format!("{install} --ca FILE   # the CA of gateway.runner-api.tls"),
        ),
        Fault::Expired(then) => (
            Severity::Problem,
            format!("its certificate has expired{}", on(then)),
            renew.to_owned(),
        ),
        Fault::Expires(then) => (
            Severity::Warning,
            format!("its certificate expires within two weeks{}", on(then)),
            renew.to_owned(),
        ),
        Fault::NotYet => (
            Severity::Problem,
            "its certificate is not valid yet, by this machine's clock".to_owned(),
            "timedatectl set-ntp true".to_owned(),
        ),
        Fault::Names(names) => (
            Severity::Problem,
            format!("its certificate is for {}, not for {host}", names.join(", ")),
            match names.iter().find(|name| !name.contains('*')) {
                Some(name) => format!("{install} --runner-api {}", word(&format!("https://{name}"))),
                None => renew.to_owned(),
            },
        ),
        Fault::Broken(why) => (
            Severity::Problem,
            format!("its certificate can't be read: {why}"),
            renew.to_owned(),
        ),
    };
    Finding::new(severity, "ca", host, what).mend(mend)
}

/// The CAs that hooks trust, and what they are called.
fn roots(ca: Option<&Path>) -> (RootCertStore, String) {
    let mut roots = RootCertStore::empty();
    let Some(file) = ca else {
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        return (roots, "a CA of this machine".into());
    };
    // One that can't be read trusts nobody, and is told so.
    if let Ok(found) = CertificateDer::pem_file_iter(file) {
        roots.add_parsable_certificates(found.flatten());
    }
    (roots, format!("the CA in {}", file.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use super::*;

    fn answer(local: &str, source: Option<&str>) -> Exchange {
        Exchange {
            chain: Vec::new(),
            local: local.parse().unwrap(),
            status: 200,
            date: None,
            took: Duration::ZERO,
            seen: source.map(|source| Seen {
                source: source.parse().unwrap(),
                job: None,
                policy: None,
                mode: None,
            }),
        }
    }

    fn judged(local: &str, source: Option<&str>) -> Option<Finding> {
        let is_own = |address: IpAddr| address == "10.77.1.20".parse::<IpAddr>().unwrap();
        judge(
            "10.77.1.1:443".parse().unwrap(),
            &answer(local, source),
            "install",
            is_own,
        )
    }

    #[test]
    fn a_source_that_is_somebody_elses_is_named() {
        assert_eq!(judged("10.77.1.2", Some("10.77.1.2")), None);
        // Another address of the same machine.
        assert_eq!(judged("10.77.1.2", Some("10.77.1.20")), None);
        assert_eq!(judged("::ffff:10.77.1.2", Some("10.77.1.2")), None);
        let found = judged("192.168.0.7", Some("10.77.1.3")).unwrap();
        assert!(found.what.contains("192.168.0.7 as 10.77.1.3"), "{found:?}");
        assert!(found.mend.unwrap().contains("on 10.77.1.3"));
        assert_eq!(judged("10.77.1.2", None).unwrap().check, "runner-api");
    }

    #[test]
    fn a_ca_that_is_none_trusts_nobody_and_is_named() {
        let mut settings = Settings::default();
        settings.ca = Some("/nonexistent/ca.pem".into());
        let found = certificate(
            &[],
            "tidegate.internal",
            &settings,
            "install",
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(found.len(), 1);
        let (_, whose) = roots(Some(Path::new("/nonexistent/ca.pem")));
        let told = told(&Fault::Unknown, "tidegate.internal", &whose, "install");
        assert!(told.what.contains("/nonexistent/ca.pem"), "{told:?}");
        assert!(told.mend.unwrap().starts_with("install --ca FILE"));
    }
}
