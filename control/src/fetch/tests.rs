//! Shows the bounds of what is fetched: places, redirects, bytes, time, roots.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::server::{Server, answer, moved};
use super::*;

const SMALL: Bounds = Bounds {
    bytes: 1000,
    time: Duration::from_secs(10),
};

async fn get(url: &str) -> Result<Vec<u8>, FetchError> {
    let fetcher = Fetcher::new(None).unwrap();
    match fetcher.get(&Url::parse(url).unwrap(), None, SMALL).await? {
        Fetched::Document { body, .. } => Ok(body),
        Fetched::Unchanged => panic!("nothing was asked for by its tag"),
    }
}

async fn error(url: &str) -> String {
    in_full(&get(url).await.unwrap_err())
}

#[test]
fn only_https_is_fetched_and_http_from_this_machine() {
    for good in [
        "https://token.forge.example",
        "http://127.0.0.1:8080/x",
        "http://127.9.9.9",
        "http://[::1]:80/",
        "http://localhost:1",
    ] {
        assert!(allowed_url(good).is_ok(), "{good}");
    }
    for bad in [
        "http://token.forge.example",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://10.0.0.1",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "token.forge.example",
        "",
    ] {
        let error = allowed_url(bad).unwrap_err().to_string();
        assert!(error.contains(&format!("{bad:?}")), "{error}");
    }
}

#[tokio::test]
async fn a_body_has_a_largest_size_announced_or_not() {
    let server = Server::new(|asked| match asked.target.as_str() {
        "/fits" => answer(200, vec![b'x'; 1000]),
        "/large" => answer(200, vec![b'x'; 1001]),
        _ => {
            let pieces = std::iter::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[0; 300])));
            answer(200, Body::from_stream(futures_util::stream::iter(pieces)))
        }
    })
    .await;
    assert_eq!(get(&format!("{}/fits", server.url)).await.unwrap().len(), 1000);
    for endless in ["/large", "/endless"] {
        let error = error(&format!("{}{endless}", server.url)).await;
        assert!(error.ends_with("has more than 1000 bytes"), "{error}");
    }
}

#[tokio::test]
async fn redirects_stay_within_their_scheme_and_are_few() {
    let server = Server::new(|asked| match asked.target.as_str() {
        "/one" => moved("/here"),
        "/here" => answer(200, "found"),
        "/plain" => moved("http://token.forge.example/"),
        "/file" => moved("file:///etc/passwd"),
        "/tls" => moved("https://localhost:1/"),
        _ => moved("/round"),
    })
    .await;
    assert_eq!(get(&format!("{}/one", server.url)).await.unwrap(), b"found");
    for (path, reason) in [
        ("/plain", "another scheme"),
        ("/tls", "another scheme"),
        ("/round", "too many redirects"),
    ] {
        let error = error(&format!("{}{path}", server.url)).await;
        assert!(error.contains(reason), "{path}: {error}");
    }
    // The client has no idea of files; whatever it says, it hands nothing over.
    assert!(get(&format!("{}/file", server.url)).await.is_err());
    let rounds = server.targets().iter().filter(|one| *one == "/round").count();
    assert_eq!(rounds, 1 + MAX_REDIRECTS);
}

#[tokio::test]
async fn other_answers_and_silence_are_errors() {
    let server = Server::new(|asked| match asked.target.as_str() {
        "/gone" => answer(404, "no"),
        // Nobody asked whether it changed.
        "/same" => answer(304, Body::empty()),
        _ => answer(
            200,
            Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>()),
        ),
    })
    .await;
    assert!(
        error(&format!("{}/gone", server.url))
            .await
            .ends_with("answered 404 Not Found")
    );
    assert!(error(&format!("{}/same", server.url)).await.contains("304"));
    let fetcher = Fetcher::new(None).unwrap();
    let url = Url::parse(&format!("{}/silent", server.url)).unwrap();
    let short = Bounds {
        bytes: 10,
        time: Duration::from_millis(50),
    };
    let Err(error) = fetcher.get(&url, None, short).await else {
        panic!("an answer that never ended was taken");
    };
    assert!(in_full(&error).contains("no answer from"), "{error}");
    // A port that nobody listens at.
    drop(server);
}

#[tokio::test]
async fn a_further_root_is_trusted_and_no_other() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_key = KeyPair::generate().unwrap();
    let root = params.self_signed(&root_key).unwrap();
    let issuer = Issuer::new(params, root_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".into()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let server = Server::tls(TlsAcceptor::from(Arc::new(config)), |_| answer(200, "secret")).await;
    let url = Url::parse(&server.url).unwrap();

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(root.pem().as_bytes()).unwrap();
    let trusting = Fetcher::new(Some(file.path())).unwrap();
    assert!(matches!(
        trusting.get(&url, None, SMALL).await,
        Ok(Fetched::Document { .. })
    ));
    let plain = Fetcher::new(None).unwrap();
    assert!(plain.get(&url, None, SMALL).await.is_err());
}

#[test]
fn a_wrong_certificate_file_is_named() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let Err(error) = Fetcher::new(Some(empty.path())) else {
        panic!("a file without certificates was taken");
    };
    assert!(
        error.to_string().ends_with("has no certificate in PEM"),
        "{error}"
    );
    let Err(error) = Fetcher::new(Some(Path::new("/nonexistent/ca.pem"))) else {
        panic!("a file that isn't there was taken");
    };
    assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
}
