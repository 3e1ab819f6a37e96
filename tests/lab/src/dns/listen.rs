//! Owns a name server's plain UDP and TCP sockets. Frames go in and out; what
//! they say is `DnsServer`'s. `Lab` starts it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use super::DnsServer;
use super::log::{Origin, Transport};
use crate::error::LabError;
use crate::internet::Ground;

/// Serves `server` on port 53 of `address`, UDP and TCP.
pub(crate) fn serve(ground: &Ground, server: &DnsServer, address: IpAddr) -> Result<(), LabError> {
    let address = SocketAddr::new(address, 53);
    let udp = ground.udp(address)?;
    let tcp = ground.tcp(address)?;
    ground.spawn(serve_udp(server.clone(), udp));
    ground.spawn(serve_tcp(server.clone(), tcp));
    Ok(())
}

async fn serve_udp(server: DnsServer, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        // An error here is an ICMP answer to an earlier reply.
        let Ok((length, source)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let (server, socket, query) = (server.clone(), Arc::clone(&socket), buffer[..length].to_vec());
        let transport = Transport::Udp;
        // A task each: one name's gate must not hold the others back.
        tokio::spawn(async move {
            if let Some(reply) = server.reply(&query, Origin { source, transport }).await {
                let _asker_gone = socket.send_to(&reply, source).await;
            }
        });
    }
}

async fn serve_tcp(server: DnsServer, listener: TcpListener) {
    loop {
        let Ok((stream, source)) = listener.accept().await else {
            continue;
        };
        let origin = Origin {
            source,
            transport: Transport::Tcp,
        };
        tokio::spawn(serve_stream(server.clone(), stream, origin));
    }
}

/// Length-prefixed queries on a stream (RFC 1035 section 4.2.2), one after
/// another, until the asker ends or something goes wrong.
pub(super) async fn serve_stream(
    server: DnsServer,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    origin: Origin,
) {
    if server.is_down() {
        return;
    }
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; length.into()];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        let Some(reply) = server.reply(&query, origin).await else {
            continue;
        };
        let mut frame = (reply.len() as u16).to_be_bytes().to_vec();
        frame.extend(reply);
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
}
