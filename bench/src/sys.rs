//! The system calls that no safe crate offers in the shape needed here: batches of datagrams with a source each,
//! waiting with a finer clock than milliseconds, and another process's sockets.
//!
//! Owns every unsafe line of the crate. Knows neither DNS nor TLS; load generators and floors drive it.

#![allow(
    unsafe_code,
    reason = "system calls without a safe wrapper; each block says why it is sound"
)]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use libc::{c_int, c_long, c_void};

/// Datagrams that one call takes at most.
pub const BATCH: usize = 64;
/// Bytes of a datagram at most.
pub const DATAGRAM: usize = 512;
/// Room for one `IP_PKTINFO`: header (16) and body (12), padded to 32.
const CONTROL: usize = 32;

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Datagrams to send or as received, and whom they came from.
pub struct Batch {
    bytes: Vec<[u8; DATAGRAM]>,
    lengths: [usize; BATCH],
    peers: [libc::sockaddr_in; BATCH],
    controls: [Control; BATCH],
}

/// Where the datagrams of a batch go.
#[derive(Debug, Clone, Copy)]
pub enum To<'a> {
    /// To one server, from these sources: as many as there are datagrams. The socket must not be connected, or it
    /// would take no answers but to its own address.
    From(&'a [Ipv4Addr], SocketAddrV4),
    /// Back to whom they came from.
    Sender,
}

impl Default for Batch {
    fn default() -> Self {
        // SAFETY: a `sockaddr_in` is plain data; all zeros is the unspecified address.
        let nobody = unsafe { mem::zeroed() };
        Self {
            bytes: vec![[0; DATAGRAM]; BATCH],
            lengths: [0; BATCH],
            peers: [nobody; BATCH],
            controls: [Control([0; CONTROL]); BATCH],
        }
    }
}

impl Batch {
    /// Datagram `index`.
    pub fn get(&self, index: usize) -> &[u8] {
        &self.bytes[index][..self.lengths[index]]
    }

    /// Datagram `index`, to change in place.
    pub fn get_mut(&mut self, index: usize) -> &mut [u8] {
        &mut self.bytes[index][..self.lengths[index]]
    }

    /// Puts a datagram of at most [`DATAGRAM`] bytes at `index`.
    pub fn put(&mut self, index: usize, datagram: &[u8]) {
        self.bytes[index][..datagram.len()].copy_from_slice(datagram);
        self.lengths[index] = datagram.len();
    }

    /// Receives up to [`BATCH`] datagrams; with `wait` at least one, else `WouldBlock` if there is none.
    pub fn receive(&mut self, socket: BorrowedFd, wait: bool) -> io::Result<usize> {
        self.call(BATCH, To::Sender, false, |messages, count| {
            let flags = if wait {
                libc::MSG_WAITFORONE
            } else {
                libc::MSG_DONTWAIT
            };
            // SAFETY: `call` gives as many headers as it says, whose buffers outlive the call.
            unsafe { libc::recvmmsg(socket.as_raw_fd(), messages, count, flags as _, ptr::null_mut()) }
        })
    }

    /// Sends the first `count` datagrams; tells how many went.
    pub fn send(&mut self, socket: BorrowedFd, count: usize, to: To) -> io::Result<usize> {
        self.call(count.min(BATCH), to, true, |messages, count| {
            // SAFETY: as in `receive`.
            unsafe { libc::sendmmsg(socket.as_raw_fd(), messages, count, 0) }
        })
    }

    /// Makes the headers, calls, and keeps the lengths that a receiving call wrote.
    fn call(
        &mut self,
        count: usize,
        to: To,
        sending: bool,
        work: impl FnOnce(*mut libc::mmsghdr, u32) -> c_int,
    ) -> io::Result<usize> {
        // SAFETY: both are plain data; null pointers with zero lengths are valid in them.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let mut vectors: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
        for index in 0..count {
            let length = if sending { self.lengths[index] } else { DATAGRAM };
            vectors[index] = libc::iovec {
                iov_base: self.bytes[index].as_mut_ptr().cast(),
                iov_len: length,
            };
            let header = &mut messages[index].msg_hdr;
            header.msg_iov = &raw mut vectors[index];
            header.msg_iovlen = 1;
            match to {
                To::From(sources, server) => {
                    self.peers[index] = address(server);
                    header.msg_name = (&raw mut self.peers[index]).cast();
                    header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
                    self.controls[index] = packet_info(sources[index]);
                    header.msg_control = (&raw mut self.controls[index]).cast();
                    header.msg_controllen = CONTROL;
                }
                To::Sender => {
                    header.msg_name = (&raw mut self.peers[index]).cast();
                    header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
                }
            }
        }
        let done = work(messages.as_mut_ptr(), count as u32);
        let done = usize::try_from(done).map_err(|_negative| io::Error::last_os_error())?;
        if !sending {
            for (length, message) in self.lengths.iter_mut().zip(&messages[..done]) {
                *length = (message.msg_len as usize).min(DATAGRAM);
            }
        }
        Ok(done)
    }
}

fn address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as _,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(address.ip().octets()),
        },
        sin_zero: [0; 8],
    }
}

/// An `IP_PKTINFO` that sends from `source` (ip(7)).
fn packet_info(source: Ipv4Addr) -> Control {
    let mut control = Control([0; CONTROL]);
    let header = size_of::<usize>();
    let length = 16 + size_of::<libc::in_pktinfo>();
    control.0[..header].copy_from_slice(&length.to_ne_bytes());
    control.0[8..12].copy_from_slice(&libc::IPPROTO_IP.to_ne_bytes());
    control.0[12..16].copy_from_slice(&libc::IP_PKTINFO.to_ne_bytes());
    // `ipi_ifindex` stays 0: the route chooses. `ipi_spec_dst` is the source when sending.
    control.0[20..24].copy_from_slice(&source.octets());
    control
}

/// What a socket is waited for.
#[derive(Debug, Clone, Copy)]
pub enum Interest {
    /// Something to read, for as long as it is there.
    Read,
    /// Each change: connected, more to read, closed.
    Edges,
}

/// One thing that happened.
#[derive(Debug, Clone, Copy)]
pub struct Happened {
    /// What the socket was registered with.
    pub token: u64,
    /// It broke or was reset.
    pub broken: bool,
}

/// What a load does while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// It sleeps. Whoever sends to it wakes it, at the sender's cost: on a virtual machine with one more exit to
    /// the host, and the more often the faster the load is.
    Asleep,
    /// It looks again and again, letting others of its core run in between, and sleeps only after [`SPUN`] of
    /// silence: nobody pays for waking it. Needs a core that the subject does not have.
    Awake,
}

/// How long a load that is awake looks on in vain.
const SPUN: Duration = Duration::from_millis(50);

/// An epoll instance.
#[derive(Debug)]
pub struct Poll {
    fd: OwnedFd,
    waiting: Waiting,
}

impl Poll {
    /// A new one, which knows no socket.
    pub fn new(waiting: Waiting) -> io::Result<Self> {
        // SAFETY: takes no pointer; the descriptor is nobody else's.
        let fd = unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC).into())? };
        Ok(Self { fd, waiting })
    }

    /// Registers a socket; closing it takes it out.
    pub fn add(&self, socket: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        let events = match interest {
            Interest::Read => libc::EPOLLIN,
            Interest::Edges => libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET,
        };
        let mut event = libc::epoll_event {
            events: events.cast_unsigned(),
            u64: token,
        };
        // SAFETY: the event outlives the call.
        let done =
            unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, socket, &raw mut event) };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Waits for at most `patience`, to the kernel's timer precision, and appends what happened.
    #[expect(
        clippy::disallowed_methods,
        reason = "a load generator goes by the real clock"
    )]
    pub fn wait(&self, patience: Duration, happened: &mut Vec<Happened>) -> io::Result<()> {
        let (before, start) = (happened.len(), Instant::now());
        while self.waiting == Waiting::Awake && start.elapsed() < SPUN {
            self.sleep(Duration::ZERO, happened)?;
            if happened.len() > before || start.elapsed() >= patience {
                return Ok(());
            }
            thread::yield_now();
        }
        self.sleep(patience.saturating_sub(start.elapsed()), happened)
    }

    fn sleep(&self, patience: Duration, happened: &mut Vec<Happened>) -> io::Result<()> {
        let timeout = libc::timespec {
            tv_sec: patience.as_secs().cast_signed(),
            tv_nsec: patience.subsec_nanos().into(),
        };
        // SAFETY: plain data.
        let mut events: [libc::epoll_event; 256] = unsafe { mem::zeroed() };
        // SAFETY: room for as many events as announced; the timeout outlives the call; no signal mask.
        let count = unsafe {
            let fd = self.fd.as_raw_fd();
            libc::epoll_pwait2(fd, events.as_mut_ptr(), 256, &raw const timeout, ptr::null())
        };
        let count = match usize::try_from(count) {
            Ok(count) => count,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => 0,
                error => return Err(error),
            },
        };
        let broken = (libc::EPOLLERR | libc::EPOLLHUP).cast_unsigned();
        happened.extend(events[..count].iter().map(|event| Happened {
            token: event.u64,
            broken: event.events & broken == broken,
        }));
        Ok(())
    }
}

/// What the calling thread has had of a core so far: what others take meanwhile is not in it.
pub fn thread_cpu() -> Duration {
    let mut spent = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `spent` is a timespec of ours to write to, and every thread has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut spent) };
    Duration::new(spent.tv_sec.cast_unsigned(), spent.tv_nsec as u32)
}

/// Lets this thread's waits end within a microsecond of their time, not within fifty.
pub fn finer_timers() {
    // SAFETY: sets a number of this thread; it can't fail for this option.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as c_long) };
}

/// Makes every IPv4 socket of process `pid` transparent (`IP_TRANSPARENT`), for servers that have no such option
/// of their own: interception hands packets to transparent sockets only. Tells how many there are.
pub fn make_transparent(pid: i32) -> io::Result<usize> {
    // SAFETY: numbers only; the descriptor is nobody else's.
    let process = unsafe { owned(libc::syscall(libc::SYS_pidfd_open, pid, 0))? };
    let mut made = 0;
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Some(number) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<RawFd>().ok())
        else {
            continue;
        };
        // SAFETY: numbers only; the descriptor is a copy that is ours to close.
        let socket = unsafe {
            owned(libc::syscall(
                libc::SYS_pidfd_getfd,
                process.as_raw_fd(),
                number,
                0,
            ))
        };
        // Closed meanwhile.
        let Ok(socket) = socket else { continue };
        let on: c_int = 1;
        // SAFETY: the value outlives the call and has the announced size.
        let set = unsafe {
            let value = (&raw const on).cast::<c_void>();
            let (level, option) = (libc::SOL_IP, libc::IP_TRANSPARENT);
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                option,
                value,
                size_of::<c_int>() as u32,
            )
        };
        made += usize::from(set == 0);
    }
    Ok(made)
}

/// The descriptor that a call returned, or its error.
///
/// # Safety
/// A descriptor must be new: nobody else may close it.
unsafe fn owned(returned: c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(returned) {
        // SAFETY: as promised by the caller.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end by panic")]

    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_batch_arrives_with_its_sources_and_goes_back() {
        let (server, client) = (
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("0.0.0.0:0").unwrap(),
        );
        let SocketAddr::V4(to) = server.local_addr().unwrap() else {
            unreachable!("bound to IPv4")
        };
        let (mut asked, mut answers) = (Batch::default(), Batch::default());
        asked.put(0, b"one");
        asked.put(1, b"two!");
        let sources = [Ipv4Addr::new(127, 0, 0, 5), Ipv4Addr::new(127, 0, 0, 6)];
        assert_eq!(asked.send(client.as_fd(), 2, To::From(&sources, to)).unwrap(), 2);
        let mut from = Vec::new();
        for _ in 0..2 {
            let mut bytes = [0; 16];
            let (length, sender) = server.recv_from(&mut bytes).unwrap();
            from.push((bytes[..length].to_vec(), sender.ip()));
        }
        let wanted = [
            (b"one".to_vec(), sources[0].into()),
            (b"two!".to_vec(), sources[1].into()),
        ];
        assert_eq!(from, wanted);

        asked.send(client.as_fd(), 2, To::From(&sources, to)).unwrap();
        let mut received = 0;
        while received < 2 {
            let count = answers.receive(server.as_fd(), true).unwrap();
            assert_eq!(answers.send(server.as_fd(), count, To::Sender).unwrap(), count);
            received += count;
        }
        let count = asked.receive(client.as_fd(), true).unwrap();
        assert_eq!(asked.get(0), b"one");
        assert!(count >= 1);
    }

    #[test]
    fn nothing_there_is_said() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = Batch::default().receive(socket.as_fd(), false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_happens_is_seen_asleep_and_awake() {
        for waiting in [Waiting::Asleep, Waiting::Awake] {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let (poll, mut happened) = (Poll::new(waiting).unwrap(), Vec::new());
            poll.add(socket.as_raw_fd(), 7, Interest::Read).unwrap();
            for patience in [Duration::ZERO, 2 * SPUN] {
                poll.wait(patience, &mut happened).unwrap();
                assert!(happened.is_empty());
            }
            socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            poll.wait(Duration::from_secs(5), &mut happened).unwrap();
            assert_eq!(happened[0].token, 7);
        }
    }
}
