//! T58–T64, T66, H38, H41, H43: which protocol first bytes are, and that honest ones are not mistaken.

use tidegate_policy::detection::Prefix;
use tidegate_proxy::detect::quic::{QuicClass, classify};
use tidegate_proxy::detect::sniff::MAX_SNIFF;
use tidegate_proxy::detect::{Detector, Step, h2c};

use crate::support::{HelloSpec, bytes, detect_all, named, rows, text};

fn assert_opaque(bytes: &[u8]) {
    let step = detect_all(bytes);
    assert!(
        matches!(step, Step::Opaque),
        "{:?}: {step:?}",
        String::from_utf8_lossy(bytes)
    );
    // The same octet by octet: a binary protocol's first message may come in pieces.
    let mut detector = Detector::new();
    let steps = bytes.iter().map(|octet| detector.push(&[*octet]));
    let decided = steps.into_iter().find(|step| !matches!(step, Step::NeedMore(_)));
    assert!(
        matches!(decided, Some(Step::Opaque)),
        "{:?}: {decided:?}",
        String::from_utf8_lossy(bytes)
    );
}

fn assert_bad_request(bytes: &[u8]) {
    let step = detect_all(bytes);
    assert!(
        matches!(step, Step::BadRequest(_)),
        "{:?}: {step:?}",
        String::from_utf8_lossy(bytes)
    );
}

#[test]
fn t59_ssh_is_opaque_with_and_without_a_comment() {
    assert_opaque(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n");
    assert_opaque(b"SSH-2.0-Go\r\n");
    assert_opaque(b"SSH-2.0-libssh2_1.10.0\n");
    assert_opaque(b"SSH-1.99-x y\n");
    assert!(matches!(
        detect_all(b"SSH-2.0-OpenSSH_9.2p1 Deb"),
        Step::NeedMore(Prefix::Http)
    ));
}

#[test]
fn h43_a_request_dressed_as_ssh_is_a_request() {
    let dressed = b"SSH-2.0-x / HTTP/1.1\r\nHost: evil.test\r\n\r\n";
    assert_eq!(named(&detect_all(dressed)).as_deref(), Some("evil.test"));
    let mut long = b"SSH-2.0-x ".to_vec();
    long.resize(255, b'x');
    assert!(
        matches!(detect_all(&long), Step::NeedMore(Prefix::Http)),
        "past 255 octets it is no banner"
    );
    long.extend(b" HTTP/1.1\r\nHost: evil.test\r\n\r\n");
    assert_bad_request(&long);
    assert_bad_request(b"\r\nSSH-2.0-x y\r\nHost: evil.test\r\n\r\n");
}

#[test]
fn git_daemon_requests_are_opaque() {
    let path = b"git-upload-pack /project.git\0host=git.test\0";
    let request = [format!("{:04x}", path.len() + 4).as_bytes(), path].concat();
    assert_opaque(&request);
    assert!(matches!(detect_all(&request[..30]), Step::NeedMore(Prefix::Http)));
    let dressed = b"0020git-upload-pack /x HTTP/1.1\r\nHost: evil.test\r\n\r\nxxxx";
    assert_eq!(named(&detect_all(dressed)).as_deref(), Some("evil.test"));
}

#[test]
fn ldap_is_opaque_even_when_its_length_is_a_blank() {
    assert_opaque(b"0\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00");
    assert_opaque(b"0 \x02\x01\x01\x60\x1b\x02\x01\x03\x04\x14cn=admin,dc=test\x80\x02pw");
    assert_bad_request(b"0 / HTTP/9\r\nHost: evil.test\r\n\r\n");
}

#[test]
fn t60_other_protocols_are_opaque() {
    let postgres_ssl = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
    let postgres = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    let mongo_788 = b"\x14\x03\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0";
    let mongo_278 = b"\x16\x01\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0";
    let kafka = b"\0\0\0\x20\0\x12\0\x03\0\0\0\0\0\x05kafka";
    let all: [&[u8]; 15] = [
        &postgres_ssl,
        postgres,
        mongo_788,
        mongo_278,
        kafka,
        b"*1\r\n$4\r\nPING\r\n",
        b"PING\r\n",
        b"AMQP\0\0\x09\x01",
        b"\x10\x20\0\x04MQTT",
        b"{\"id\": 1}\n",
        b"<?xml version='1.0'?>",
        b"\x13BitTorrent protocol",
        b"CONNECT\naccept-version:1.2\n\n\0",
        b"\x80\0\0\0\x10",
        b"\x16\xfe\xff\0\0\0\0\0\0",
    ];
    for first in all {
        assert_opaque(first);
    }
}

#[test]
fn t62_a_proxy_protocol_header_is_refused() {
    assert_bad_request(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n\r\n");
    let step = detect_all(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
    assert!(
        matches!(
            step,
            Step::Malformed {
                prefix: Prefix::Http,
                what: "a PROXY protocol header"
            }
        ),
        "{step:?}"
    );
}

#[test]
fn h28_the_http2_preface_is_http_in_any_segmentation() {
    for at in 1..h2c::PREFACE.len() {
        assert!(
            matches!(detect_all(&h2c::PREFACE[..at]), Step::NeedMore(Prefix::Http)),
            "{at}"
        );
    }
    assert!(matches!(detect_all(h2c::PREFACE), Step::H2c));
    assert!(matches!(
        detect_all(&[h2c::PREFACE, &b"\0\0\0\x04"[..]].concat()),
        Step::H2c
    ));
    assert_bad_request(b"PRI * HTTP/2.0\r\nHost: evil.test\r\n\r\n");
    assert_bad_request(b"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}

#[test]
fn h43_blanks_and_odd_delimiters_do_not_hide_a_request() {
    for front in [&b""[..], b"\n", b"\r\n", b" ", b"\t", b"\0", b"\r\n \0\t"] {
        for request in [
            "GET /",
            "GET\t/",
            "GET\x0b/",
            "GET\x0c/",
            "G /",
            "GET\r/",
            "get\r\r /",
            "GET\0/",
            "x:/ /",
        ] {
            let bytes = [front, request.as_bytes(), b" HTTP/1.1\r\nHost: evil.test\r\n\r\n"].concat();
            let step = detect_all(&bytes);
            let http = matches!(step, Step::Http(_) | Step::BadRequest(_));
            assert!(http, "{:?}: {step:?}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn t66_late_bytes_are_judged_like_first_ones() {
    let mut detector = Detector::new();
    assert!(matches!(detector.push(b""), Step::NeedMore(Prefix::Nothing)));
    let wire = HelloSpec::named("evil.test").wire();
    assert!(matches!(detector.push(&wire[..1]), Step::NeedMore(Prefix::Tls)));
    assert_eq!(named(&detector.push(&wire[1..])).as_deref(), Some("evil.test"));
}

#[test]
fn blanks_and_words_without_end_are_bounded() {
    for octet in [b'\n', 0, b'x'] {
        assert!(matches!(
            detect_all(&vec![octet; MAX_SNIFF]),
            Step::NeedMore(Prefix::Http)
        ));
        assert!(matches!(
            detect_all(&vec![octet; MAX_SNIFF + 1]),
            Step::TooLarge(Prefix::Http)
        ));
    }
}

/// Q05: what the datagrams of the corpus look like from outside.
#[test]
fn quic_is_classified_from_outside() {
    let rows = rows("first_flights.jsonl");
    for row in rows.iter().filter(|row| text(row, "kind") == "quic") {
        let first = bytes(row["datagrams"][0].as_str().unwrap());
        let class = classify(&first);
        assert!(
            matches!(class, QuicClass::Initial { .. }),
            "{}: {class:?}",
            text(row, "id")
        );
    }
    let long = |first: u8, version: u32| {
        let mut packet = vec![first];
        packet.extend(version.to_be_bytes());
        packet.extend([8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0]);
        classify(&packet)
    };
    assert_eq!(long(0xc0, 1), QuicClass::Initial { version: 1 });
    assert_eq!(
        long(0xd0, 0x6b33_43cf),
        QuicClass::Initial { version: 0x6b33_43cf }
    );
    for (first, version) in [
        (0xd0, 1),
        (0xe0, 1),
        (0xc0, 0x6b33_43cf),
        (0x80, 0),
        (0xc0, 0x1a2a_3a4a),
    ] {
        assert_eq!(
            long(first, version),
            QuicClass::OtherLongHeader,
            "{first:x} {version:x}"
        );
    }
    assert_eq!(long(0x80, 1), QuicClass::NotQuic);
    assert_eq!(classify(&[0xc0, 0, 0, 0, 1, 21]), QuicClass::NotQuic);
    assert_eq!(classify(&[0x40; 21]), QuicClass::Short);
    assert_eq!(classify(&[0x40; 20]), QuicClass::NotQuic);
    assert_eq!(classify(&[]), QuicClass::NotQuic);
    assert_eq!(classify(&[0x16, 0xfe, 0xfd, 0]), QuicClass::NotQuic);
}
