//! The way to a control plane in another process: TLS, plain loopback, tokens from files.

use std::net::SocketAddr;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tidegate_control_wire::secret::{Role, Secret};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::connect::{Remote, RemoteError};
use super::*;
use crate::config::ControlPlaneConfig;

/// Certificates of a lab: a root in a file, and a server of this name.
struct Lab {
    folder: tempfile::TempDir,
    acceptor: TlsAcceptor,
}

fn lab(server: &str) -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(folder.path().join("ca.pem"), root.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![server.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Lab { folder, acceptor }
}

fn write_token(folder: &Path) -> String {
    let secret = Secret::new(Role::Gateway);
    std::fs::write(folder.join("token"), format!("{}\n", secret.expose())).unwrap();
    format!("Bearer {}", secret.expose())
}

fn config(folder: &Path, address: SocketAddr, tls: bool) -> ControlPlaneConfig {
    ControlPlaneConfig {
        tls,
        host: address.ip().to_string(),
        port: address.port(),
        token_file: folder.join("token"),
        ca: tls.then(|| folder.join("ca.pem")),
    }
}

/// A listener on loopback that serves `plane`, with TLS where there is an acceptor.
async fn listen(plane: Arc<Plane>, acceptor: Option<TlsAcceptor>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            match &acceptor {
                None => drop(tokio::spawn(Arc::clone(&plane).serve(tcp))),
                Some(acceptor) => {
                    let (acceptor, plane) = (acceptor.clone(), Arc::clone(&plane));
                    tokio::spawn(async move {
                        if let Ok(tls) = acceptor.accept(tcp).await {
                            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                            plane.serve(tls).await;
                        }
                    });
                }
            }
        }
    });
    (address, serving)
}

#[tokio::test]
async fn it_speaks_tls_with_the_configured_roots_and_reads_the_token_anew_each_time() {
    let lab = lab("127.0.0.1");
    let (plane, asked) = plane();
    let (address, serving) = listen(Arc::clone(&plane), Some(lab.acceptor.clone())).await;
    let (first, one) = line();
    let (second, two) = line();
    plane.answers.lock().extend([one, two]);
    let token = write_token(lab.folder.path());
    let remote = Remote::new(config(lab.folder.path(), address, true)).unwrap();
    assert_eq!(remote.origin(), format!("https://{address}"));
    let mut scene = Scene::over(plane, asked, Arc::new(remote));
    assert_eq!(scene.asked().await.authorization.as_deref(), Some(token.as_str()));
    first.begin("one", true).await;
    first.commit(1).await;
    scene.batch().await;
    assert_eq!(*scene.control.addresses(), [address.ip()]);
    let token = write_token(lab.folder.path());
    drop(first);
    assert_eq!(scene.asked().await.authorization.as_deref(), Some(token.as_str()));
    second.begin("one", true).await;
    scene.connected().await;
    serving.abort();
}

#[tokio::test]
async fn a_certificate_of_somebody_else_gets_no_token() {
    let (good, other) = (lab("127.0.0.1"), lab("127.0.0.1"));
    let wrong_name = lab("control.test");
    for (server, trusted) in [(&good, &other), (&wrong_name, &wrong_name)] {
        let (plane, asked) = plane();
        let (address, serving) = listen(Arc::clone(&plane), Some(server.acceptor.clone())).await;
        write_token(trusted.folder.path());
        let remote = Remote::new(config(trusted.folder.path(), address, true)).unwrap();
        let mut scene = Scene::over(plane, asked, Arc::new(remote));
        let error = scene.away().await;
        assert!(
            error.contains("can't agree on TLS with 127.0.0.1") && error.contains("certificate"),
            "{error}"
        );
        assert!(scene.asked.try_recv().is_err(), "nothing was said");
        serving.abort();
    }
}

#[tokio::test]
async fn it_speaks_plainly_on_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let (plane, asked) = plane();
    let (address, serving) = listen(Arc::clone(&plane), None).await;
    let (line, answer) = line();
    plane.answers.lock().push_back(answer);
    write_token(folder.path());
    let remote = Remote::new(config(folder.path(), address, false)).unwrap();
    let scene = Scene::over(plane, asked, Arc::new(remote));
    line.begin("one", true).await;
    scene.connected().await;
    serving.abort();
}

#[tokio::test]
async fn a_missing_or_mangled_token_is_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let (plane, asked) = plane();
    let (address, serving) = listen(Arc::clone(&plane), None).await;
    let remote = Remote::new(config(folder.path(), address, false)).unwrap();
    let mut scene = Scene::over(plane, asked, Arc::new(remote));
    assert!(scene.refused().await.contains("can't read the token file"));
    std::fs::write(folder.path().join("token"), "hunter2").unwrap();
    let said = scene
        .link_is(
            "no token",
            |state| matches!(state, LinkState::Refused { error } if error.contains("holds no token")),
        )
        .await;
    assert!(
        !said.contains("hunter2"),
        "what is in the file is not for the log"
    );
    assert!(scene.asked.try_recv().is_err());
    serving.abort();
}

#[tokio::test]
async fn nobody_there_is_away() {
    let folder = tempfile::tempdir().unwrap();
    write_token(folder.path());
    let (plane, asked) = plane();
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let remote = Remote::new(config(folder.path(), address, false)).unwrap();
    let scene = Scene::over(plane, asked, Arc::new(remote));
    assert!(scene.away().await.contains("can't connect to 127.0.0.1"));
    assert_eq!(
        *scene.control.addresses(),
        [address.ip()],
        "never dialled, though nobody answers there"
    );
}

#[test]
fn roots_that_can_not_be_read_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let made = Remote::new(config(folder.path(), "127.0.0.1:1".parse().unwrap(), true));
    assert!(matches!(made, Err(RemoteError::Roots(_))));
    let v6 = config(folder.path(), "[::1]:8443".parse().unwrap(), false);
    assert_eq!(Remote::new(v6).unwrap().origin(), "http://[::1]:8443");
}
