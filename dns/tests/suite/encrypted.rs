//! DoT and DoH, both ends: one gateway's fronts are another gateway's upstreams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidegate_dns::ResolverConfig;
use tidegate_dns::front::{Encrypted, serve_encrypted, server_config};
use tidegate_dns::resolver::Timing;
use tidegate_policy::verdict::Verdict;

use crate::support::{Bench, Setup, block, data, quick};

struct Authority {
    root: CertificateDer<'static>,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self {
            root: issuer.der().clone(),
            issuer,
        }
    }

    fn leaf(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (
            vec![leaf.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
    }
}

/// A gateway that serves one encrypted transport.
async fn server(kind: Encrypted, authority: &Authority, name: &str) -> (Bench, SocketAddr) {
    let bench = Setup::new(block("*.test:443")).start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    bench.upstream.set("b.test", &["A 192.0.2.2"]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (chain, key) = authority.leaf(name);
    let config = server_config(kind, chain, key).unwrap();
    tokio::spawn(serve_encrypted(
        Arc::clone(&bench.handler),
        listener,
        kind,
        config,
    ));
    (bench, address)
}

/// A gateway before that upstream alone, which may resolve names below `zone`.
async fn asking(upstream: &str, root: &CertificateDer<'static>, zone: &str) -> Bench {
    let bench = Setup::new(block(&format!("*.{zone}:443"))).start().await;
    let (per_try, total) = (Duration::from_secs(5), Duration::from_secs(10));
    let config = ResolverConfig {
        upstreams: vec![upstream.parse().unwrap()],
        roots: vec![root.clone()],
        timing: Timing {
            per_try,
            total,
            ..quick()
        },
        ..ResolverConfig::default()
    };
    bench.resolver.reconfigure(&config);
    bench
}

fn spelled(kind: Encrypted, address: SocketAddr, name: Option<&str>) -> String {
    let fragment = name.map(|name| format!("#{name}")).unwrap_or_default();
    match kind {
        Encrypted::Tls => format!("tls://{address}{fragment}"),
        Encrypted::Https => format!("https://{address}/dns-query{fragment}"),
    }
}

#[tokio::test]
async fn rfc7858_rfc8484_names_are_resolved_over_tls_and_https_at_both_ends() {
    let authority = Authority::new();
    for kind in [Encrypted::Tls, Encrypted::Https] {
        for (certified, named) in [("dns.test", Some("dns.test")), ("127.0.0.1", None)] {
            let (server, address) = server(kind, &authority, certified).await;
            let bench = asking(&spelled(kind, address, named), &authority.root, "test").await;
            assert_eq!(
                data(&bench.assert_answered("a.test.").await),
                ["192.0.2.1"],
                "{kind:?} {certified}"
            );
            assert_eq!(data(&bench.assert_answered("b.test.").await), ["192.0.2.2"]);
            let events = server.events();
            assert_eq!(events.len(), 2);
            let transport_seen = events.iter().all(|event| {
                event.verdict == Verdict::Permit
                    && (event.address, event.port) == (Some(address.ip()), address.port())
            });
            assert!(transport_seen, "{events:#?}");
            let ports: std::collections::HashSet<u16> =
                events.iter().map(|event| event.source_port).collect();
            assert_eq!(ports.len(), 1, "one connection for both");
        }
    }
}

#[tokio::test]
async fn an_encrypted_upstream_with_a_wrong_certificate_is_never_believed() {
    let authority = Authority::new();
    for kind in [Encrypted::Tls, Encrypted::Https] {
        let (server, address) = server(kind, &authority, "dns.test").await;
        let stranger = Authority::new();
        for (name, root) in [("other.test", &authority.root), ("dns.test", &stranger.root)] {
            let bench = asking(&spelled(kind, address, Some(name)), root, "test").await;
            let answer = bench.ask("a.test.", RecordType::A).await;
            assert_eq!(
                answer.metadata.response_code,
                ResponseCode::ServFail,
                "{kind:?} {name}"
            );
        }
        assert!(server.events().is_empty());
    }
}

#[tokio::test]
async fn a_refusal_is_one_over_tls_too() {
    let authority = Authority::new();
    let (server, address) = server(Encrypted::Tls, &authority, "dns.test").await;
    // The serving gateway refuses what lies outside of `*.test`; the asking one allows it.
    let bench = asking(
        &spelled(Encrypted::Tls, address, Some("dns.test")),
        &authority.root,
        "example",
    )
    .await;
    let answer = bench.ask("evil.example.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(server.event().verdict, Verdict::Refuse);
}
