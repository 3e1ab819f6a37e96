//! The crate's only unsafe code: many datagrams by one system call, in memory that is made once.
//!
//! Owns the buffers that the kernel reads and writes; never keeps a descriptor, never looks at what a datagram says
//! (that is [`crate::front::udp`]'s and `envelope`'s). Driven by `front::udp`, two of these a socket.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::libc;

/// Octets of a socket address: `sockaddr_in6`, the longer of the two.
pub(crate) const NAME: usize = 28;
/// Octets of control messages: original destination (48), packet info (40) and mark (24), aligned, and one to spare.
pub(crate) const CONTROL: usize = 160;

/// A socket address, as the kernel wrote it or will read it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Name([u8; NAME]);

/// Control messages; aligned as their headers are.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Octets of a line of the processor's cache.
const LINE: usize = 64;

/// Datagrams to be received or sent together, each in a slot of its own.
pub(crate) struct Messages {
    /// Octets of each slot's buffer.
    octets: usize,
    /// Octets from one slot's buffer to the next: an odd number of lines, so that the beginnings of all of them have places in
    /// the processor's first cache.
    stride: usize,
    buffers: Box<[u8]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

// SAFETY: the raw pointers in `vectors` and `headers` are written anew from exclusive borrows before every system call
// and never followed otherwise; everything else is plain memory that the struct owns.
unsafe impl Send for Messages {}

impl Messages {
    /// `slots` datagrams of at most `octets` each.
    pub(crate) fn new(slots: usize, octets: usize) -> Self {
        // SAFETY: null pointers and zero lengths are valid values of these C structs.
        let (vector, header) = unsafe {
            (
                std::mem::zeroed::<libc::iovec>(),
                std::mem::zeroed::<libc::mmsghdr>(),
            )
        };
        let stride = (octets.div_ceil(LINE) | 1) * LINE;
        Self {
            octets,
            stride,
            buffers: vec![0; slots * stride].into_boxed_slice(),
            names: vec![Name([0; NAME]); slots].into_boxed_slice(),
            controls: vec![Control([0; CONTROL]); slots].into_boxed_slice(),
            vectors: vec![vector; slots].into_boxed_slice(),
            headers: vec![header; slots].into_boxed_slice(),
        }
    }

    /// How many slots there are.
    pub(crate) fn slots(&self) -> usize {
        self.headers.len()
    }

    /// Receives what waits, at most so many, without waiting: slots 0 to the returned number are filled.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        let most = most.min(self.slots());
        for header in self.headers.iter_mut().take(most) {
            // The kernel writes the lengths that it used into the headers.
            header.msg_len = self.octets as u32;
            header.msg_hdr.msg_namelen = NAME as u32;
            header.msg_hdr.msg_controllen = CONTROL as _;
            header.msg_hdr.msg_flags = 0;
        }
        self.aim(0, most);
        let (headers, count) = (self.headers.as_mut_ptr(), most as u32);
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: the descriptor is open for the call; `headers` are at least `count` initialized ones whose pointers and lengths
        // were just taken from buffers that `self` owns and nobody else can reach meanwhile.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers,
                count,
                flags as _,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// Sends slots `from` to `to`, without waiting; gives back how many of them went. Fails only when the first does.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>, from: usize, to: usize) -> io::Result<usize> {
        self.aim(from, to);
        let Some(headers) = self.headers.get_mut(from..to) else {
            return Ok(0);
        };
        let (headers, count) = (headers.as_mut_ptr(), headers.len() as u32);
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: as in `receive`; the kernel only reads what the headers point to, and writes `msg_len`.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers, count, flags as _) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Points the headers of these slots to their buffers.
    fn aim(&mut self, from: usize, to: usize) {
        let buffers = self.buffers.chunks_exact_mut(self.stride);
        let parts = self.names.iter_mut().zip(&mut self.controls).zip(buffers);
        let heads = self.vectors.iter_mut().zip(&mut self.headers);
        for ((vector, header), ((name, control), buffer)) in heads.zip(parts).skip(from).take(to - from) {
            vector.iov_base = buffer.as_mut_ptr().cast();
            vector.iov_len = header.msg_len as usize;
            header.msg_hdr.msg_name = name.0.as_mut_ptr().cast();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
        }
    }

    /// The octets of a received datagram; `None` when it was longer than the slot.
    pub(crate) fn payload(&self, slot: usize) -> Option<&[u8]> {
        let header = self.headers.get(slot)?;
        let at = slot * self.stride;
        let whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
        self.buffers
            .get(at..at + header.msg_len as usize)
            .filter(|_| whole)
    }

    /// Who sent it, as a `sockaddr`.
    pub(crate) fn name(&self, slot: usize) -> &[u8] {
        let length = self
            .headers
            .get(slot)
            .map_or(0, |header| header.msg_hdr.msg_namelen);
        let name = self
            .names
            .get(slot)
            .and_then(|name| name.0.get(..length as usize));
        name.unwrap_or_default()
    }

    /// Its control messages.
    pub(crate) fn control(&self, slot: usize) -> &[u8] {
        let length = self
            .headers
            .get(slot)
            .map_or(0, |header| header.msg_hdr.msg_controllen);
        let control = self.controls.get(slot).and_then(|one| one.0.get(..length));
        control.unwrap_or_default()
    }

    /// Where the octets of a datagram to be sent are to be written.
    pub(crate) fn place(&mut self, slot: usize) -> &mut [u8] {
        let at = slot * self.stride;
        self.buffers.get_mut(at..at + self.octets).unwrap_or_default()
    }

    /// Addresses the first `length` octets of a slot.
    pub(crate) fn address(&mut self, slot: usize, length: usize, name: &[u8], control: &[u8]) {
        let (Some(header), Some(to), Some(with)) = (
            self.headers.get_mut(slot),
            self.names.get_mut(slot),
            self.controls.get_mut(slot),
        ) else {
            return;
        };
        let (name, _) = name.split_at(name.len().min(NAME));
        let (control, _) = control.split_at(control.len().min(CONTROL));
        to.0[..name.len()].copy_from_slice(name);
        with.0[..control.len()].copy_from_slice(control);
        header.msg_len = length.min(self.octets) as u32;
        header.msg_hdr.msg_namelen = name.len() as u32;
        header.msg_hdr.msg_controllen = control.len() as _;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn what_is_sent_together_is_received_together_and_slots_are_used_again() {
        let (here, there) = (
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        there.connect(here.local_addr().unwrap()).unwrap();
        let (mut received, mut sent) = (Messages::new(4, 16), Messages::new(4, 16));
        for round in 1..=3_u8 {
            // Lengths differ from round to round: none of an earlier one may be left.
            for slot in 0..3_u8 {
                there.send(&vec![slot; usize::from(round + slot)]).unwrap();
            }
            there.send(&[9; 17]).unwrap();
            assert_eq!(received.receive(here.as_fd(), 9).unwrap(), 4);
            for slot in 0..3_usize {
                let payload = received.payload(slot).unwrap();
                assert_eq!(payload, vec![slot as u8; usize::from(round) + slot]);
                let payload = payload.to_vec();
                sent.place(slot)[..payload.len()].copy_from_slice(&payload);
                sent.address(slot, payload.len(), received.name(slot), &[]);
            }
            assert!(received.payload(3).is_none(), "longer than a slot");
            assert_eq!(sent.send(here.as_fd(), 1, 3).unwrap(), 2);
            let mut buffer = [0; 32];
            for slot in 1..3_usize {
                let length = there.recv(&mut buffer).unwrap();
                assert_eq!(buffer[..length], vec![slot as u8; usize::from(round) + slot]);
            }
        }
        for most in [2, 1] {
            there.send(&[most as u8; 3]).unwrap();
            there.send(&[7; 5]).unwrap();
            assert_eq!(
                received.receive(here.as_fd(), most).unwrap(),
                most,
                "not more than wanted"
            );
            assert_eq!(received.payload(0).unwrap(), [most as u8; 3]);
        }
        assert_eq!(
            received.receive(here.as_fd(), 4).unwrap(),
            1,
            "the rest is still there"
        );
        assert_eq!(received.payload(0).unwrap(), [7; 5]);
        let nothing = received.receive(here.as_fd(), 4).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }
}
