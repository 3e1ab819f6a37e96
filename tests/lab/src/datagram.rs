//! Owns scripted UDP servers: record every datagram, answer by script.
//! Never interprets what it reads.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::UdpSocket;

use crate::error::LabError;
use crate::internet::Ground;

/// Datagrams remembered; later ones are served but not recorded.
const DATAGRAMS: usize = 65_536;

/// How a UDP server answers each datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UdpReply {
    /// With the same bytes.
    Echo,
    /// With these bytes.
    Fixed(Vec<u8>),
    /// Not at all.
    Silence,
}

/// A datagram and its source.
type Received = (SocketAddr, Vec<u8>);

/// A UDP server, running as long as the lab. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct UdpServer {
    received: Arc<Mutex<Vec<Received>>>,
}

impl UdpServer {
    pub(crate) fn start(ground: &Ground, address: SocketAddr, reply: UdpReply) -> Result<Self, LabError> {
        let server = Self::default();
        let socket = ground.udp(address)?;
        ground.spawn(server.clone().serve(socket, reply));
        Ok(server)
    }

    /// Every datagram so far with its source, oldest first.
    pub fn received(&self) -> Vec<(SocketAddr, Vec<u8>)> {
        self.received.lock().clone()
    }

    async fn serve(self, socket: UdpSocket, reply: UdpReply) {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            // An error here is an ICMP answer to an earlier reply.
            let Ok((length, source)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let bytes = &buffer[..length];
            self.record(source, bytes);
            let answer = match &reply {
                UdpReply::Echo => bytes,
                UdpReply::Fixed(text) => text,
                UdpReply::Silence => continue,
            };
            let _asker_gone = socket.send_to(answer, source).await;
        }
    }

    fn record(&self, source: SocketAddr, bytes: &[u8]) {
        let mut received = self.received.lock();
        if received.len() < DATAGRAMS {
            received.push((source, bytes.to_vec()));
        }
    }
}
