//! Tests of reading packets that are neither TCP nor UDP; any bytes are survived.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use proptest::prelude::*;

use super::*;
use crate::raw::packet;

const ARRIVAL: Arrival = Arrival {
    interface: 3,
    mac: Some(Mac([2, 0, 0, 0, 0, 1])),
};

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    packet::ipv4([10, 77, 1, 2].into(), [203, 0, 113, 9].into(), protocol, payload).unwrap()
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    packet::ipv6(
        "fd77:1::2".parse().unwrap(),
        "2001:db8::9".parse().unwrap(),
        next,
        payload,
    )
    .unwrap()
}

fn seen_protocol(packet: &[u8]) -> Option<u8> {
    match classify(packet, ARRIVAL)? {
        Observed::Foreign(foreign) => Some(foreign.protocol),
        Observed::Echo(echo) => panic!("{echo:?}"),
    }
}

#[test]
fn l05_gre_esp_sctp_and_the_like_are_named() {
    for number in [4, 41, 47, 50, 51, 132, 136, 253] {
        assert_eq!(seen_protocol(&v4(number, &[0; 8])), Some(number));
        assert_eq!(seen_protocol(&v6(number, &[0; 8])), Some(number));
    }
    for number in [2, 6, 17] {
        assert_eq!(seen_protocol(&v4(number, &[0; 40])), None);
    }
}

#[test]
fn rfc8200_extension_headers_are_walked_to_the_protocol() {
    // Hop-by-hop, then destination options of 16 bytes, then GRE.
    let chain = [&[60, 0, 1, 4, 0, 0, 0, 0][..], &[47, 1], &[0; 14], &[0; 8]].concat();
    assert_eq!(seen_protocol(&v6(0, &chain)), Some(47));
    // The same before TCP is of no concern, nor is a fragment of UDP; one of GRE is.
    assert_eq!(seen_protocol(&v6(60, &[6, 0, 1, 4, 0, 0, 0, 0])), None);
    assert_eq!(seen_protocol(&v6(44, &[17, 0, 0, 1, 0, 0, 0, 9])), None);
    assert_eq!(seen_protocol(&v6(44, &[47, 0, 0, 1, 0, 0, 0, 9])), Some(47));
    // A chain without end is an event, not a loop.
    let endless: Vec<u8> = [60, 0, 1, 4, 0, 0, 0, 0].repeat(100);
    assert_eq!(seen_protocol(&v6(60, &endless)), Some(60));
}

#[test]
fn an_echo_request_gives_back_its_parts_without_the_links_padding() {
    let message = [&packet::echo_head(8, 0x1234, 9)[..], b"payload"].concat();
    let mut packet = v4(1, &message);
    packet.extend([0; 11]);
    let Some(Observed::Echo(echo)) = classify(&packet, ARRIVAL) else {
        panic!("not an echo request")
    };
    assert_eq!(
        (echo.identifier, echo.sequence, &echo.payload[..]),
        (0x1234, 9, &b"payload"[..])
    );
    assert_eq!((echo.interface, echo.mac), (3, ARRIVAL.mac));
    let message = [&packet::echo_head(128, 1, 2)[..], b"x"].concat();
    assert!(matches!(
        classify(&v6(58, &message), ARRIVAL),
        Some(Observed::Echo(_))
    ));
    assert_eq!(
        classify(&v6(58, &packet::echo_head(129, 1, 2)), ARRIVAL),
        None,
        "a reply"
    );
}

#[test]
fn d24_multicast_echo_is_not_answered() {
    let to_all = packet::ipv6(
        "fd77:1::2".parse().unwrap(),
        "ff02::1".parse().unwrap(),
        58,
        &packet::echo_head(128, 1, 2),
    );
    assert_eq!(classify(&to_all.unwrap(), ARRIVAL), None);
}

proptest! {
    /// Runners choose these bytes: no panic, and nothing longer than what came.
    #[test]
    fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0_u8..16) {
        if let Some(first) = bytes.first_mut() {
            *first = version << 4 | (*first & 0xf);
        }
        if let Some(Observed::Echo(echo)) = classify(&bytes, ARRIVAL) {
            prop_assert!(echo.payload.len() < bytes.len());
        }
    }

    #[test]
    fn a_cut_packet_is_survived(cut in 0_usize..80) {
        let whole = v6(0, &[&[58, 0, 1, 4, 0, 0, 0, 0][..], &packet::echo_head(128, 1, 2), &[7; 20]].concat());
        let _ = classify(whole.get(..cut).unwrap_or(&whole), ARRIVAL);
    }
}
