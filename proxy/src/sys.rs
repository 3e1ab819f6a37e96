//! The crate's only unsafe code: what neither `std`, `socket2` nor `nix` offers safely. Owns nothing. Driven
//! by `accept` and `reactor`.

#![allow(unsafe_code, reason = "the one place for it")]

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use socket2::SockAddr;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the current runtime, for reading.
pub(crate) fn async_fd(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` owns its open descriptor, always returns the same one, and nobody can replace or
    // close it while `AsyncFd` owns it.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

/// Takes the next connection, already non-blocking: one system call, which `std` and `socket2` make two.
pub(crate) fn accept(listener: &impl AsRawFd) -> io::Result<(TcpStream, SocketAddr)> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the descriptor is open for the call (`listener` is borrowed); the kernel writes an address and
    // its length into memory of that size, or fails; a descriptor that it returns is open and ours alone.
    let (connection, peer) = unsafe {
        SockAddr::try_init(|address, length| {
            match libc::accept4(listener.as_raw_fd(), address.cast(), length, flags) {
                ..0 => Err(io::Error::last_os_error()),
                connection => Ok(OwnedFd::from_raw_fd(connection)),
            }
        })
    }?;
    let peer = peer.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    Ok((connection.into(), peer))
}
