//! The floors: what the sockets themselves cost, by servers that decide nothing. A UDP echo in batches, and a relay
//! that copies bytes to where the client wanted to go.
//!
//! Never parses what it carries. The benchmark starts itself again for them, in the gateway's namespace.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::thread;

use anyhow::{Context as _, Result};
use nix::sys::socket::sockopt::{IpTransparent, ReuseAddr, ReusePort};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket,
};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::sys::{Batch, To};

/// What the plain relay reads at most at once.
const COPY: usize = 64 << 10;
const BACKLOG: i32 = 4_096;
/// The byte of a DNS header with the bit for "response", and that bit.
const FLAGS: usize = 2;
const RESPONSE: u8 = 0x80;

/// Answers every datagram with itself as a response, on as many threads, until the process is killed.
pub fn echo(address: SocketAddrV4, threads: usize) -> Result<()> {
    each(threads, move || {
        let socket = transparent(address, SockType::Datagram, SockFlag::SOCK_CLOEXEC)?;
        let mut batch = Batch::default();
        loop {
            let count = batch.receive(socket.as_fd(), true)?;
            for index in 0..count {
                if let Some(flags) = batch.get_mut(index).get_mut(FLAGS) {
                    *flags |= RESPONSE;
                }
            }
            // What does not fit is lost, as it would be on the way.
            let _sent = batch.send(socket.as_fd(), count, To::Sender);
        }
    })
}

/// Connects every connection to its original destination and copies both ways, on as many threads, until the process
/// is killed.
pub fn relay(address: SocketAddrV4, threads: usize) -> Result<()> {
    each(threads, move || {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = transparent(address, SockType::Stream, flags)?;
        listen(&socket, Backlog::new(BACKLOG)?)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        LocalSet::new().block_on(&runtime, async {
            let listener = tokio::net::TcpListener::from_std(TcpListener::from(socket))?;
            loop {
                let (client, _) = listener.accept().await?;
                tokio::task::spawn_local(async move {
                    // Whatever breaks one flow ends that flow.
                    let _ended = carry(client).await;
                });
            }
        })
    })
}

async fn carry(mut client: TcpStream) -> io::Result<()> {
    // TPROXY leaves the address: where the client wanted to go is where it was accepted.
    let target: SocketAddr = client.local_addr()?;
    client.set_nodelay(true)?;
    let mut origin = TcpStream::connect(target).await?;
    origin.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut client, &mut origin, COPY, COPY).await?;
    Ok(())
}

/// A bound socket to which interception hands packets, one of several at that address.
fn transparent(address: SocketAddrV4, kind: SockType, flags: SockFlag) -> Result<OwnedFd> {
    let socket = socket(AddressFamily::Inet, kind, flags, None)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    setsockopt(&socket, ReusePort, &true)?;
    setsockopt(&socket, IpTransparent, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(address)).with_context(|| format!("can't bind {address}"))?;
    Ok(socket)
}

/// Runs the same on several threads; ends with the first that ends.
fn each(threads: usize, work: impl Fn() -> Result<()> + Clone + Send + 'static) -> Result<()> {
    let (ended, end) = std::sync::mpsc::sync_channel(threads);
    for _ in 0..threads {
        let (ended, work) = (ended.clone(), work.clone());
        // Nobody listens any more when another thread has ended.
        thread::spawn(move || drop(ended.send(work())));
    }
    end.recv()?
}
