//! Runs the program on packets, in an interpreter that knows only the
//! instructions that it uses.

use super::*;
use crate::raw::packet;

const V4: u32 = 0x0800;
const V6: u32 = 0x86dd;

/// As the kernel would: the bytes to copy. A load past the end drops the packet.
fn run(program: &[Instruction], ethertype: u32, packet: &[u8]) -> u32 {
    let byte = |at: usize| packet.get(at).copied().map(u32::from);
    let word = |at: usize, size: usize| {
        packet
            .get(at..at + size)
            .map(|bytes| bytes.iter().fold(0_u32, |value, b| value << 8 | u32::from(*b)))
    };
    let (mut a, mut x, mut at) = (0_u32, 0_usize, 0_usize);
    loop {
        let now = program[at];
        at += 1;
        let operand = now.operand as usize;
        let loaded = match now.code {
            code::LOAD_WORD if now.operand == ETHERTYPE => Some(ethertype),
            code::LOAD_WORD => word(operand, 4),
            code::LOAD_HALF => word(operand, 2),
            code::LOAD_BYTE => byte(operand),
            code::LOAD_BYTE_INDEXED => byte(x + operand),
            code::LOAD_HALF_INDEXED => word(x + operand, 2),
            code::LOAD_X_IPV4_LENGTH => {
                let Some(first) = byte(operand) else { return 0 };
                x = 4 * (first & 0xf) as usize;
                Some(a)
            }
            code::JUMP_EQUAL | code::JUMP_BITS => {
                let holds = if now.code == code::JUMP_EQUAL {
                    a == now.operand
                } else {
                    a & now.operand != 0
                };
                at += usize::from(if holds { now.jump_true } else { now.jump_false });
                Some(a)
            }
            code::RETURN => return now.operand,
            other => panic!("unknown instruction {other:#x}"),
        };
        let Some(value) = loaded else { return 0 };
        a = value;
    }
}

fn own() -> Vec<IpAddr> {
    ["10.77.1.1", "fd77:1::1", "10.77.1.9", "fd77:1::9"]
        .iter()
        .map(|text| text.parse().expect("an address"))
        .collect()
}

fn v4(destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let destination = destination.parse().expect("an address");
    packet::ipv4([10, 77, 1, 2].into(), destination, protocol, payload).expect("short")
}

fn v6(destination: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    let source = "fd77:1::2".parse().expect("an address");
    packet::ipv6(source, destination.parse().expect("an address"), next, payload).expect("short")
}

#[test]
fn l05_other_protocols_are_seen_and_the_common_ones_are_not() {
    let program = program(&own());
    for number in 0..=u8::MAX {
        let seen = run(&program, V4, &v4("203.0.113.9", number, &[0; 40])) > 0;
        assert_eq!(seen, ![1, 2, 6, 17].contains(&number), "IPv4 protocol {number}");
        let seen = run(&program, V6, &v6("2001:db8::9", number, &[0; 40])) > 0;
        assert_eq!(seen, ![6, 17, 58].contains(&number), "IPv6 next header {number}");
    }
}

#[test]
fn echo_requests_to_others_are_copied_whole_and_those_to_the_gateway_are_not() {
    let program = program(&own());
    let echo = |kind| packet::echo_head(kind, 1, 1);
    for (to, copied) in [
        ("203.0.113.9", WHOLE),
        ("10.77.1.1", 0),
        ("10.77.1.9", 0),
        ("10.77.1.2", WHOLE),
    ] {
        assert_eq!(run(&program, V4, &v4(to, 1, &echo(8))), copied, "{to}");
    }
    for (to, copied) in [
        ("2001:db8::9", WHOLE),
        ("fd77:1::1", 0),
        ("fd77:1::9", 0),
        ("fd77:1::2", WHOLE),
        ("fd77:2::1", WHOLE),
    ] {
        assert_eq!(run(&program, V6, &v6(to, 58, &echo(128))), copied, "{to}");
    }
}

#[test]
fn other_icmp_and_fragments_are_left_alone() {
    let program = program(&own());
    for kind in [0, 3, 5, 11, 13] {
        assert_eq!(
            run(&program, V4, &v4("203.0.113.9", 1, &[kind, 0, 0, 0, 0, 0, 0, 0])),
            0
        );
    }
    for kind in [1, 2, 129, 133, 135, 136, 143] {
        assert_eq!(
            run(&program, V6, &v6("2001:db8::9", 58, &[kind, 0, 0, 0, 0, 0, 0, 0])),
            0
        );
    }
    let mut fragment = v4("203.0.113.9", 1, &packet::echo_head(8, 1, 1));
    fragment[6..8].copy_from_slice(&[0x20, 0]);
    assert_eq!(run(&program, V4, &fragment), 0, "the first fragment");
    fragment[6..8].copy_from_slice(&[0, 3]);
    assert_eq!(run(&program, V4, &fragment), 0, "the last fragment");
}

#[test]
fn ipv4_options_are_stepped_over() {
    let mut packet = v4(
        "203.0.113.9",
        1,
        &[&[0x94, 4, 0, 0][..], &packet::echo_head(8, 1, 1)].concat(),
    );
    packet[0] = 0x46;
    assert_eq!(run(&program(&own()), V4, &packet), WHOLE);
}

#[test]
fn other_ethertypes_and_cut_packets_are_dropped() {
    let program = program(&own());
    for ethertype in [0x0806, 0x8100, 0x88cc] {
        assert_eq!(run(&program, ethertype, &[0; 60]), 0);
    }
    let whole = v6("2001:db8::9", 58, &packet::echo_head(128, 1, 1));
    for length in 0..40 {
        assert_eq!(run(&program, V6, &whole[..length]), 0, "{length} bytes");
    }
}

#[test]
fn more_addresses_than_fit_still_make_a_program_whose_jumps_fit() {
    let many: Vec<IpAddr> = (0..400_u32)
        .flat_map(|n| [IpAddr::V4(n.into()), IpAddr::V6(u128::from(n).into())])
        .collect();
    let program = program(&many);
    assert!(program.len() < 4_096, "the kernel's limit (BPF_MAXINSNS)");
    assert_eq!(
        run(&program, V4, &v4("203.0.113.9", 1, &packet::echo_head(8, 1, 1))),
        WHOLE
    );
    assert_eq!(run(&program, V6, &v6("2001:db8::9", 47, &[0; 8])), HEADERS);
    assert_eq!(
        run(&program, V4, &v4("0.0.0.31", 1, &packet::echo_head(8, 1, 1))),
        0
    );
}

#[test]
fn without_addresses_every_echo_request_is_copied() {
    let program = program(&[]);
    assert_eq!(
        run(&program, V4, &v4("10.77.1.1", 1, &packet::echo_head(8, 1, 1))),
        WHOLE
    );
    assert_eq!(
        run(&program, V6, &v6("fd77:1::1", 58, &packet::echo_head(128, 1, 1))),
        WHOLE
    );
}

#[test]
fn an_echo_socket_hears_only_replies_with_its_identifier() {
    let reply = |kind, identifier| packet::echo_head(kind, identifier, 1);
    for (kind, identifier, heard) in [(0, 7, true), (0, 8, false), (8, 7, false)] {
        let packet = v4("10.0.0.1", 1, &reply(kind, identifier));
        assert_eq!(
            run(&echo_replies_v4(7), V4, &packet) > 0,
            heard,
            "{kind} {identifier}"
        );
    }
    for (kind, identifier, heard) in [(129, 7, true), (129, 8, false), (128, 7, false)] {
        assert_eq!(
            run(&echo_replies_v6(7), V6, &reply(kind, identifier)) > 0,
            heard,
            "{kind} {identifier}"
        );
    }
    assert_eq!(run(&nothing(), V4, &[0; 60]), 0);
}
