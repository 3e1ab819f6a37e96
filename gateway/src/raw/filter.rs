//! Which packets of a runner interface are copied to user space: owns the classic
//! BPF program; never attaches it (`observer` does).
//!
//! TCP and UDP, nearly all traffic, must cost nothing: the program drops them in
//! the kernel. What remains is bounded by the socket's buffer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use socket2::SockFilter;

use super::packet::{kind, protocol};

/// Most own addresses that the program tells apart; echo requests to more are
/// copied as well, and end as "never dialled".
const MAX_OWN: usize = 32;

/// Bytes copied of a packet whose headers are all that matters.
const HEADERS: u32 = 256;

/// Bytes copied of an echo request: all.
const WHOLE: u32 = 0xffff;

/// One instruction of classic BPF, as `struct sock_filter` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) jump_true: u8,
    pub(super) jump_false: u8,
    pub(super) operand: u32,
}

/// Instruction codes of `linux/bpf_common.h` that are used here.
pub(super) mod code {
    pub(crate) const LOAD_WORD: u16 = 0x20;
    pub(crate) const LOAD_HALF: u16 = 0x28;
    pub(crate) const LOAD_BYTE: u16 = 0x30;
    pub(crate) const LOAD_HALF_INDEXED: u16 = 0x48;
    pub(crate) const LOAD_BYTE_INDEXED: u16 = 0x50;
    /// X = four times the low nibble: an IPv4 header's length.
    pub(crate) const LOAD_X_IPV4_LENGTH: u16 = 0xb1;
    pub(crate) const JUMP_EQUAL: u16 = 0x15;
    pub(crate) const JUMP_BITS: u16 = 0x45;
    pub(crate) const RETURN: u16 = 0x06;
}

impl From<Instruction> for SockFilter {
    fn from(from: Instruction) -> Self {
        Self::new(from.code, from.jump_true, from.jump_false, from.operand)
    }
}

/// Where the kernel answers with the packet's Ethernet protocol, host order
/// (`SKF_AD_OFF + SKF_AD_PROTOCOL`).
pub(super) const ETHERTYPE: u32 = -0x1000_i32 as u32;

/// The program. `own`: the gateway's addresses on this interface, whose echo
/// requests the kernel answers itself.
///
/// Copied are: IPv4 of other protocols than TCP, UDP, ICMP and IGMP; IPv6 of
/// other protocols than TCP and UDP, extension headers included (user space
/// walks those); echo requests to foreign addresses that are not fragments.
pub(super) fn program(own: &[IpAddr]) -> Vec<Instruction> {
    let v4 = ipv4(own);
    let v6 = ipv6(own);
    let mut all = vec![
        load(code::LOAD_WORD, ETHERTYPE),
        // To the IPv4 part, else past the next.
        jump_equal(libc::ETH_P_IP as u32, 2, 0),
        jump_equal(libc::ETH_P_IPV6 as u32, v4.len() as u8 + 1, 0),
        give(0),
    ];
    all.extend(v4);
    all.extend(v6);
    all
}

/// Passes nothing: for sockets that only send.
pub(super) fn nothing() -> Vec<Instruction> {
    vec![give(0)]
}

/// Echo replies with our identifier, as an IPv4 raw socket sees them (from the IP header on).
pub(super) fn echo_replies_v4(identifier: u16) -> Vec<Instruction> {
    vec![
        load(code::LOAD_X_IPV4_LENGTH, 0),
        load(code::LOAD_BYTE_INDEXED, 0),
        jump_equal(kind::V4_ECHO_REPLY.into(), 0, 3),
        load(code::LOAD_HALF_INDEXED, 4),
        jump_equal(identifier.into(), 0, 1),
        give(WHOLE),
        give(0),
    ]
}

/// As [`echo_replies_v4`], for an ICMPv6 raw socket (from the ICMP header on).
pub(super) fn echo_replies_v6(identifier: u16) -> Vec<Instruction> {
    vec![
        load(code::LOAD_BYTE, 0),
        jump_equal(kind::V6_ECHO_REPLY.into(), 0, 3),
        load(code::LOAD_HALF, 4),
        jump_equal(identifier.into(), 0, 1),
        give(WHOLE),
        give(0),
    ]
}

/// Every path of both parts ends within its part.
fn ipv4(own: &[IpAddr]) -> Vec<Instruction> {
    let own: Vec<Ipv4Addr> = own
        .iter()
        .filter_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        })
        .take(MAX_OWN)
        .collect();
    let mut part = vec![
        load(code::LOAD_BYTE, 9),
        jump_equal(protocol::ICMP.into(), 5, 0),
        jump_equal(protocol::TCP.into(), 3, 0),
        jump_equal(protocol::UDP.into(), 2, 0),
        jump_equal(protocol::IGMP.into(), 1, 0),
        give(HEADERS),
        give(0),
        // More fragments, or an offset: neither can be answered alone.
        load(code::LOAD_HALF, 6),
        Instruction {
            code: code::JUMP_BITS,
            jump_true: 3,
            jump_false: 0,
            operand: 0x3fff,
        },
        load(code::LOAD_X_IPV4_LENGTH, 0),
        load(code::LOAD_BYTE_INDEXED, 0),
        jump_equal(kind::V4_ECHO_REQUEST.into(), 1, 0),
        give(0),
        load(code::LOAD_WORD, 16),
    ];
    for (position, address) in own.iter().enumerate() {
        let left = own.len() - 1 - position;
        part.push(jump_equal(u32::from(*address), left as u8 + 1, 0));
    }
    part.push(give(WHOLE));
    part.push(give(0));
    part
}

fn ipv6(own: &[IpAddr]) -> Vec<Instruction> {
    let own: Vec<Ipv6Addr> = own
        .iter()
        .filter_map(|address| match address {
            IpAddr::V6(v6) => Some(*v6),
            IpAddr::V4(_) => None,
        })
        .take(MAX_OWN)
        .collect();
    let mut part = vec![
        load(code::LOAD_BYTE, 6),
        jump_equal(protocol::ICMPV6.into(), 4, 0),
        jump_equal(protocol::TCP.into(), 2, 0),
        jump_equal(protocol::UDP.into(), 1, 0),
        give(HEADERS),
        give(0),
        load(code::LOAD_BYTE, 40),
        jump_equal(kind::V6_ECHO_REQUEST.into(), 1, 0),
        give(0),
    ];
    for address in own {
        part.extend(not_to(address));
    }
    part.push(give(WHOLE));
    part
}

/// Drops a packet to this address, falls through for any other.
fn not_to(address: Ipv6Addr) -> Vec<Instruction> {
    let octets = address.octets();
    let (words, _) = octets.as_chunks::<4>();
    let mut part = Vec::with_capacity(9);
    for (position, word) in words.iter().enumerate() {
        part.push(load(code::LOAD_WORD, 24 + 4 * position as u32));
        // A word that differs jumps over what is left of this comparison.
        let left = 2 * (3 - position as u8) + 1;
        part.push(jump_equal(u32::from_be_bytes(*word), 0, left));
    }
    part.push(give(0));
    part
}

fn load(code: u16, operand: u32) -> Instruction {
    Instruction {
        code,
        jump_true: 0,
        jump_false: 0,
        operand,
    }
}

fn jump_equal(operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction {
        code: code::JUMP_EQUAL,
        jump_true,
        jump_false,
        operand,
    }
}

fn give(bytes: u32) -> Instruction {
    load(code::RETURN, bytes)
}

#[cfg(test)]
mod tests;
