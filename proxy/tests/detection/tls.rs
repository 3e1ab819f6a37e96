//! The TLS rows of the evasion table: what OpenSSL was seen to accept must be judged rightly, what no honest
//! client sends is refused.

use tidegate_policy::DnsName;
use tidegate_policy::detection::{Detection, Ech, Hello, Prefix, Sni};
use tidegate_proxy::detect::tls::{HelloReader, MAX_FLIGHT, MAX_HELLO, Progress};
use tidegate_proxy::detect::{Detector, Step};

use crate::support::{HelloSpec, detect, detect_all, ech, named, record, records, sni, sni_list};

const A: &str = "allowed.test";

fn hello(step: &Step) -> Hello {
    match step.detection() {
        Some(Detection::Tls(hello)) => hello,
        other => panic!("no hello: {other:?}"),
    }
}

fn assert_malformed(bytes: &[u8], what: &str) {
    match detect_all(bytes) {
        Step::Malformed {
            prefix: Prefix::Tls,
            what: found,
        } => assert_eq!(found, what),
        other => panic!("expected {what:?}, found {other:?}"),
    }
}

fn assert_named(bytes: &[u8], name: &str) {
    let step = detect_all(bytes);
    assert_eq!(named(&step).as_deref(), Some(name), "{step:?}");
}

#[test]
fn t02_a_hello_comes_in_any_tcp_segmentation() {
    let wire = HelloSpec::named(A).wire();
    for size in 1..wire.len() {
        let segments: Vec<Vec<u8>> = wire.chunks(size).map(<[u8]>::to_vec).collect();
        assert_eq!(
            named(&detect(&segments)).as_deref(),
            Some(A),
            "segments of {size}"
        );
    }
}

#[test]
fn t10_a_hello_comes_in_records_of_any_size() {
    let message = HelloSpec::named(A).message();
    for size in 1..message.len() {
        let wire = records(&message, size);
        assert_named(&wire, A);
        let octets: Vec<Vec<u8>> = wire.iter().map(|octet| vec![*octet]).collect();
        assert_eq!(
            named(&detect(&octets)).as_deref(),
            Some(A),
            "records of {size}, segments of 1"
        );
    }
}

#[test]
fn t21_empty_records_before_and_within_a_hello_are_skipped_up_to_32() {
    let message = HelloSpec::named(A).message();
    let empty = record(22, 0x0301, &[]);
    let around = [
        empty.clone(),
        record(22, 0x0301, &message[..50]),
        empty.clone(),
        records(&message[50..], 9),
    ];
    assert_named(&around.concat(), A);
    assert_named(&[empty.repeat(32), records(&message, 1000)].concat(), A);
    let many = [empty.repeat(33), records(&message, 1000)].concat();
    assert_malformed(&many, "more than 32 empty records");
}

#[test]
fn t16_record_and_hello_versions_are_ignored() {
    let message = HelloSpec::named(A).message();
    for version in [0x0300, 0x0301, 0x0304, 0x03ff] {
        assert_named(&record(22, version, &message), A);
    }
    for version in [0x0000, 0x0002, 0x0300, 0x0304, 0x0404, 0xffff] {
        assert_named(
            &HelloSpec {
                version,
                ..HelloSpec::named(A)
            }
            .wire(),
            A,
        );
    }
}

#[test]
fn t16_records_of_another_major_version_are_refused_where_go_would_read_them() {
    let message = HelloSpec::named(A).message();
    assert_malformed(&record(22, 0x0201, &message), "a record of no known version");
    let two = [
        record(22, 0x0301, &message[..9]),
        record(22, 0x0201, &message[9..]),
    ]
    .concat();
    assert_malformed(&two, "a record of no known version");
}

#[test]
fn t19_a_change_cipher_spec_or_an_alert_before_the_hello_is_refused() {
    let hello = HelloSpec::named(A).wire();
    let early = "another record before the hello";
    for first in [
        record(20, 0x0303, &[1]),
        record(21, 0x0301, &[1, 112]),
        record(21, 0x0301, &[2, 40]),
    ] {
        assert_malformed(&[first, hello.clone()].concat(), early);
    }
    for kind in [20, 21, 23, 24] {
        assert_malformed(&[record(kind, 0x0303, &[]), hello.clone()].concat(), early);
    }
    let message = HelloSpec::named(A).message();
    let within = [
        record(22, 0x0301, &message[..20]),
        record(21, 0x0301, &[1, 112]),
        records(&message[20..], 99),
    ];
    assert_malformed(&within.concat(), "another record before the end of the hello");
}

#[test]
fn t25_case_is_folded() {
    assert_named(&HelloSpec::named("ALLOWED.Test").wire(), A);
}

#[test]
fn t30_no_and_empty_names_are_absent() {
    let hellos = [
        HelloSpec::default(),
        HelloSpec {
            extensions: Vec::new(),
            ..HelloSpec::default()
        },
        HelloSpec::default().with(0, sni(b"")),
        HelloSpec::default().with(0, sni_list(&[])),
        HelloSpec::default().with(0, Vec::new()),
    ];
    for spec in hellos {
        assert_eq!(hello(&detect_all(&spec.wire())).sni, Sni::Absent, "{spec:?}");
    }
    // A hello without the extensions' length at all (TLS 1.0, RFC 2246).
    let mut message = HelloSpec {
        extensions: Vec::new(),
        ..HelloSpec::default()
    }
    .message();
    message.truncate(message.len() - 2);
    message[3] -= 2;
    assert_eq!(hello(&detect_all(&records(&message, 999))).sni, Sni::Absent);
}

#[test]
fn t32_an_address_as_name_is_an_address() {
    for (written, address) in [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7.", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:DB8::7]", "2001:db8::7"),
    ] {
        let found = hello(&detect_all(&HelloSpec::named(written).wire()));
        assert_eq!(found.sni, Sni::Address(address.parse().unwrap()), "{written}");
    }
}

#[test]
fn t33_two_server_name_extensions_are_refused() {
    let twice = HelloSpec::named(A).with(0, sni(b"evil.test"));
    assert_malformed(&twice.wire(), "two extensions of one type");
    let empty_first = HelloSpec::named(A).with(0, Vec::new());
    assert_malformed(&empty_first.wire(), "two extensions of one type");
}

#[test]
fn t34_two_names_are_refused() {
    for names in [
        [(0, &b"allowed.test"[..]), (0, b"evil.test")],
        [(0, b"allowed.test"), (1, b"x")],
    ] {
        let spec = HelloSpec::default().with(0, sni_list(&names));
        assert_malformed(&spec.wire(), "more than one server name");
    }
}

#[test]
fn t37_an_unknown_name_type_is_refused() {
    let spec = HelloSpec::default().with(0, sni_list(&[(1, b"x"), (0, b"allowed.test")]));
    assert_malformed(&spec.wire(), "a server name of unknown type");
}

#[test]
fn t38_only_the_exact_name_is_the_name() {
    for odd in [
        "allowed.test\0",
        "allowed.test\0.evil.test",
        "allowed.test ",
        " allowed.test",
        "allowed.test\n",
        "allowed.test:443",
        "a..b",
        ".",
        "..",
        ".allowed.test",
        "*.test",
        "allowed.test/",
        "allowed\\.test",
    ] {
        assert_malformed(
            &HelloSpec::named(odd).wire(),
            "a server name that is no host name",
        );
    }
    for odd in [&b"allowed.test\xff"[..], "b\u{fc}cher.example".as_bytes()] {
        let step = detect_all(&HelloSpec::default().with(0, sni(odd)).wire());
        assert!(
            matches!(
                step,
                Step::Malformed {
                    prefix: Prefix::Tls,
                    ..
                }
            ),
            "{step:?}"
        );
    }
    for other in [
        "allowed.test.evil.test",
        "evilallowed.test",
        "allowed.testevil.test",
    ] {
        assert_named(&HelloSpec::named(other).wire(), other);
        assert_ne!(other, A);
    }
}

#[test]
fn t39_one_trailing_dot_is_dropped() {
    assert_named(&HelloSpec::named("allowed.test.").wire(), A);
    assert_malformed(
        &HelloSpec::named("allowed.test..").wire(),
        "a server name that is no host name",
    );
}

#[test]
fn t47_an_over_long_name_is_refused() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    assert_named(&HelloSpec::named(&longest).wire(), &longest);
    assert_malformed(
        &HelloSpec::named(&format!("{longest}a")).wire(),
        "a server name that is no host name",
    );
    assert_malformed(
        &HelloSpec::named(&"a".repeat(64)).wire(),
        "a server name that is no host name",
    );
    let long = format!("{longest}aaa");
    assert_malformed(
        &HelloSpec::named(&long).wire(),
        "a server name longer than 255 octets",
    );
}

/// Every length of the hello, one too large and one too small.
#[test]
fn t48_lying_lengths_are_refused() {
    let spec = HelloSpec {
        extensions: vec![(0, sni(b"allowed.test"))],
        ..HelloSpec::default()
    };
    let message = spec.message();
    // Offsets: session id at 38, suites at 71, compression at 77, extensions at 79, extension at 83,
    // list at 85, name at 88.
    for low_octet in [38, 72, 77, 80, 84, 86, 89] {
        for delta in [1, u8::MAX] {
            let mut lying = message.clone();
            lying[low_octet] = lying[low_octet].wrapping_add(delta);
            let step = detect_all(&records(&lying, 16384));
            assert!(
                matches!(step, Step::Malformed { .. }),
                "octet {low_octet}{delta:+}: {step:?}"
            );
        }
    }
    let mut short = message.clone();
    short[3] -= 1;
    let step = detect_all(&records(&short, 16384));
    assert!(matches!(step, Step::Malformed { .. }), "{step:?}");
    let mut long = message;
    long[3] += 1;
    assert!(matches!(
        detect_all(&records(&long, 16384)),
        Step::NeedMore(Prefix::Tls)
    ));
}

#[test]
fn t49_trailing_bytes_are_refused() {
    let message = HelloSpec::named(A).message();
    assert_malformed(
        &record(22, 0x0301, &[message.clone(), vec![0]].concat()),
        "bytes after the hello in its record",
    );
    let twice = [message.clone(), HelloSpec::named("evil.test").message()].concat();
    assert_malformed(&record(22, 0x0301, &twice), "bytes after the hello in its record");
    // The same when the rest of the record hasn't come yet.
    let mut promised = record(22, 0x0301, &message);
    promised[4] += 1;
    assert_malformed(&promised, "bytes after the hello in its record");
    let mut inside = message;
    inside.push(0);
    inside[3] += 1;
    assert_malformed(&records(&inside, 16384), "bytes after the last extension");
}

#[test]
fn t50_hellos_up_to_64_kib_are_judged_in_any_records() {
    for size in [12_000, 16_384, 40_000, 60_000] {
        let padded = HelloSpec::named(A).with(21, vec![0; size]);
        for record_size in [1, 100, 16384] {
            assert_named(&records(&padded.message(), record_size), A);
        }
    }
}

#[test]
fn t53_larger_hellos_are_refused_by_their_header_alone() {
    let begin = |length: usize| {
        let mut message = (length as u32).to_be_bytes();
        message[0] = 1;
        detect_all(&record(22, 0x0301, &message))
    };
    assert!(matches!(begin(128 * 1024), Step::TooLarge(Prefix::Tls)));
    assert!(matches!(begin(MAX_HELLO + 1), Step::TooLarge(Prefix::Tls)));
}

#[test]
fn t53_the_raw_bytes_of_a_flight_are_bounded() {
    let mut message = HelloSpec::named(A).with(21, vec![0; 60_000]).message();
    message.truncate(60_000);
    let mut reader = HelloReader::new();
    let mut pushed = 0;
    for octet in message {
        let record = record(22, 0x0301, &[octet]);
        pushed += record.len();
        assert_eq!(
            reader.push(&record),
            Progress::NeedMore,
            "a begun hello under the bound"
        );
    }
    assert!(pushed < MAX_FLIGHT);
}

#[test]
fn t54_an_outer_ech_shows_its_config_id() {
    let found = hello(&detect_all(&HelloSpec::named(A).with(0xfe0d, ech(0x2a)).wire()));
    assert_eq!(found.ech, Ech::Outer { config_id: 0x2a });
    assert_eq!(found.sni, Sni::Name(DnsName::parse(A).unwrap()));
    assert_eq!(hello(&detect_all(&HelloSpec::named(A).wire())).ech, Ech::Absent);
}

#[test]
fn t55_a_wrong_ech_is_refused() {
    let inner = HelloSpec::named(A).with(0xfe0d, vec![1]);
    assert_malformed(&inner.wire(), "an inner encrypted_client_hello in an outer hello");
    let unknown = HelloSpec::named(A).with(0xfe0d, vec![2]);
    assert_malformed(&unknown.wire(), "an encrypted_client_hello of unknown type");
    let mut lying = ech(1);
    lying.push(0);
    assert_malformed(
        &HelloSpec::named(A).with(0xfe0d, lying).wire(),
        "a lying length in encrypted_client_hello",
    );
    let two = HelloSpec::named(A).with(0xfe0d, ech(1)).with(0xfe0d, ech(2));
    assert_malformed(&two.wire(), "two extensions of one type");
}

#[test]
fn t56_esni_is_seen_even_beside_ech() {
    let found = hello(&detect_all(
        &HelloSpec::named(A)
            .with(0xffce, vec![0; 9])
            .with(0xfe0d, ech(1))
            .wire(),
    ));
    assert_eq!(found.ech, Ech::Esni);
}

#[test]
fn t57_an_sslv2_hello_is_refused() {
    let v2 = [0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10];
    assert_malformed(&v2, "an SSLv2 hello");
    assert_malformed(&[0x80, 0x2e, 1, 0, 2, 0, 0x15], "an SSLv2 hello");
    for at in 1..5 {
        assert!(
            matches!(detect_all(&v2[..at]), Step::NeedMore(Prefix::Tls)),
            "after {at} octets"
        );
    }
}

#[test]
fn what_follows_the_hello_is_left_to_the_watch() {
    let mut flight = HelloSpec::named(A).wire();
    let hello = flight.len();
    flight.extend(record(23, 0x0303, b"early data"));
    let Step::Tls(found) = detect_all(&flight) else {
        panic!("a hello")
    };
    assert_eq!(found.consumed, hello);
}

#[test]
fn another_handshake_message_first_is_refused() {
    let finished = crate::support::handshake(20, &[0; 12]);
    assert_malformed(
        &records(&finished, 999),
        "a handshake message that is not a ClientHello",
    );
}

#[test]
fn alpn_is_listed_in_the_clients_order() {
    let spec = HelloSpec::named(A).with(16, b"\0\x0c\x02h2\x08http/1.1".to_vec());
    let Step::Tls(found) = detect_all(&spec.wire()) else {
        panic!("a hello")
    };
    assert_eq!(found.alpn().collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
}

/// JA4.md: no SNI is `i`; no ALPN is `00`; GREASE counts nowhere; odd ALPN octets are written in hex.
#[test]
fn ja4_follows_its_specification_at_the_edges() {
    let ja4 = |spec: HelloSpec| match detect_all(&spec.wire()) {
        Step::Tls(found) => found.ja4(),
        other => panic!("{other:?}"),
    };
    assert!(ja4(HelloSpec::default()).starts_with("t13i020400_"));
    let greased = HelloSpec {
        suites: vec![0x1a1a, 0x1301, 0xc02f],
        ..HelloSpec::default()
    };
    assert_eq!(ja4(greased.with(0x3a3a, vec![])), ja4(HelloSpec::default()));
    assert!(ja4(HelloSpec::named(A).with(16, b"\0\x03\x02\xab\xcd".to_vec())).starts_with("t13d0206ad_"));
    let bare = HelloSpec {
        suites: vec![],
        extensions: vec![],
        ..HelloSpec::default()
    };
    assert_eq!(ja4(bare), "t12i000000_000000000000_000000000000");
}

#[test]
fn the_detector_replays_what_it_was_given() {
    let wire = HelloSpec::named(A).wire();
    let mut detector = Detector::new();
    for piece in wire.chunks(7) {
        detector.push(piece);
    }
    assert_eq!(detector.into_bytes(), wire);
}
