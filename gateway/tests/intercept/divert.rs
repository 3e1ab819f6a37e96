//! What is diverted, and what the gateway's sockets see of it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use tidegate_gateway::{intercept, listen};

use crate::lab::{Lab, PATIENCE, PROXY_PORT, addr, plan};

/// Connects from a runner; the answer is what the "proxy" wrote.
pub(crate) fn ask_tcp(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Accepts for ever and tells each client whom it believes to speak to.
pub(crate) async fn serve_tcp(family: listen::Family) {
    let listener = listen::proxy_tcp(family, PROXY_PORT).expect("a listener");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let (stream, peer) = listener.accept().await.expect("a connection");
        let mut stream = stream.into_std().expect("a socket");
        stream.set_nonblocking(false).expect("a socket");
        let local = stream.local_addr().expect("an address");
        let _ = write!(stream, "{} asked for {local}", peer.ip());
    }
}

#[test]
fn tcp_on_any_port_arrives_with_its_original_destination() {
    let lab = Lab::new();
    let namespace = lab.ns("a");
    lab.gateway(move || async move {
        let guard = intercept::install(plan()).await.expect("installs");
        tokio::spawn(serve_tcp(listen::Family::V4));
        tokio::spawn(serve_tcp(listen::Family::V6));
        for to in [
            "203.0.113.9:443",
            "203.0.113.9:53",
            "198.51.100.1:1",
            "10.88.0.2:65535",
            "169.254.169.254:80",
        ] {
            let answer = crate::lab::from(&namespace, move || ask_tcp(addr(to))).await;
            assert_eq!(
                answer.expect("diverted"),
                format!("10.77.1.2 asked for {to}")
            );
        }
        for to in [
            "[2001:db8::9]:443",
            "[2001:db8::9]:53",
            "[fd88::2]:9",
            "[64:ff9b::a9fe:a9fe]:80",
        ] {
            let answer = crate::lab::from(&namespace, move || ask_tcp(addr(to))).await;
            assert_eq!(
                answer.expect("diverted"),
                format!("fd77:1::2 asked for {to}")
            );
        }
        guard.remove().await.expect("removes");
    });
}
