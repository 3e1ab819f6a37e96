//! The crate's only unsafe code: socket options and addresses that neither
//! `socket2` nor `nix` offers. Owns nothing; never keeps a descriptor. Driven by
//! `listen` and `raw`.

use std::{
    io,
    mem::size_of,
    os::fd::{AsRawFd, OwnedFd},
};

use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the current runtime's reactor.
pub(crate) fn async_fd(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` owns its open descriptor, always returns the same one,
    // and nobody can replace or close it while `AsyncFd` owns it.
    Ok(unsafe { AsyncFd::register(descriptor) }?)
}

/// Sets a socket option whose value is a C `int`.
pub(crate) fn set_int_option(socket: &impl AsRawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the descriptor is open for the call (`socket` is borrowed), and the
    // kernel reads `length` bytes from a live `i32`.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Binds a packet socket to an interface and an Ethernet protocol (host order):
/// from now on it hears.
pub(crate) fn bind_packet(socket: &impl AsRawFd, interface: u32, protocol: u16) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(interface).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the descriptor is open for the call (`socket` is borrowed), and the
    // kernel reads `length` bytes from a live `sockaddr_ll`.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
