//! "Something changed" from the kernel, by netlink multicast: owns the sockets and
//! the few bytes of each message that tell whether it matters; never learns *what*
//! changed. Who is woken reads the whole state anew, so that a lost message costs
//! nothing and no queue of changes can grow.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::sys;

/// Enough for the messages of one transaction; what is cut off counts as a change.
const BUFFER: usize = 16 * 1024;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// A netlink multicast subscription.
#[derive(Debug)]
pub(crate) struct Wake {
    socket: AsyncFd<OwnedFd>,
    matters: fn(kind: u16, body: &[u8]) -> bool,
}

impl Wake {
    /// Changes of links and addresses.
    pub(crate) fn addresses() -> io::Result<Self> {
        let groups = [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR];
        Self::open(SockProtocol::NetlinkRoute, &groups, |_, _| true)
    }

    /// Changes of neighbours.
    pub(crate) fn neighbours() -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkRoute, &[RTNLGRP_NEIGH], |_, _| true)
    }

    /// Subscribes to multicast groups (numbers below 32). `matters` gets the type
    /// and the body of each message.
    pub(crate) fn open(
        protocol: SockProtocol,
        groups: &[u32],
        matters: fn(u16, &[u8]) -> bool,
    ) -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        let mask = groups.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, mask))?;
        Ok(Self {
            socket: sys::async_fd(socket)?,
            matters,
        })
    }

    /// Waits for a change that matters, and swallows all that are waiting. Safe to
    /// cancel: what was not reported stays to be read.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let mut ready = self.socket.ready(Interest::READABLE | Interest::ERROR).await?;
            if self.drain(&mut buffer)? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    /// Reads until nothing is left; whether anything mattered.
    fn drain(&self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut mattered = false;
        loop {
            match recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
                Ok(length) if length > buffer.len() => mattered = true,
                Ok(length) => mattered |= any_message(&buffer[..length], self.matters),
                // The kernel dropped messages: they may have mattered.
                Err(Errno::ENOBUFS) => mattered = true,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(mattered),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

pub(crate) const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_NEIGH: u32 = 3;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV6_IFADDR: u32 = 9;

/// Walks the netlink messages of one datagram. A malformed one matters: better
/// one needless look than one missed.
fn any_message(mut datagram: &[u8], matters: fn(u16, &[u8]) -> bool) -> bool {
    while let Some((header, rest)) = datagram.split_first_chunk::<HEADER>() {
        // `nlmsg_len`, `nlmsg_type`, then flags, sequence and port, which don't matter.
        let (&[length, ref others @ ..], _) = header.as_chunks::<4>() else {
            return true;
        };
        let length = u32::from_ne_bytes(length) as usize;
        let kind = others
            .first()
            .map_or(0, |[low, high, ..]| u16::from_ne_bytes([*low, *high]));
        let Some(body) = length.checked_sub(HEADER).and_then(|n| rest.get(..n)) else {
            return true;
        };
        if matters(kind, body) {
            return true;
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    !datagram.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = (HEADER + body.len()) as u32;
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], body].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn even(kind: u16, _body: &[u8]) -> bool {
        kind.is_multiple_of(2)
    }

    #[test]
    fn one_message_of_many_that_matters_is_enough() {
        let odd = [message(1, &[1, 2, 3]), message(3, &[])].concat();
        assert!(!any_message(&odd, even));
        assert!(any_message(&[odd, message(4, &[])].concat(), even));
        assert!(!any_message(&[], even));
    }

    #[test]
    fn what_cannot_be_read_matters() {
        for bytes in [&[0; 3][..], &[0; HEADER], &message(1, &[0; 8])[..20]] {
            assert!(any_message(bytes, even), "{bytes:?}");
        }
    }
}
