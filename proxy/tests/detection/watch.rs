//! T65: the second hello after a HelloRetryRequest, and everything honest that looks like it.

use tidegate_policy::detection::Hello;
use tidegate_proxy::detect::Step;
use tidegate_proxy::detect::tls::{ClientStep, SecondHelloWatch, ServerStep};

use crate::support::{HelloSpec, detect_all, ech, handshake, record, records, rows, segments, text};

const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

fn hello(spec: &HelloSpec) -> Hello {
    match detect_all(&spec.wire()) {
        Step::Tls(found) => found.hello,
        other => panic!("{other:?}"),
    }
}

fn server_hello(random: &[u8; 32]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend(random);
    body.extend([0, 0x13, 0x01, 0, 0, 6, 0, 0x2b, 0, 2, 3, 4]);
    handshake(2, &body)
}

fn retry() -> Vec<u8> {
    record(22, 0x0303, &server_hello(&RETRY_RANDOM))
}

fn watch() -> SecondHelloWatch {
    SecondHelloWatch::new(hello(&HelloSpec::named("allowed.test")))
}

fn forward(bytes: impl Into<Vec<u8>>) -> ClientStep {
    ClientStep::Forward(bytes.into())
}

fn assert_closed(step: ClientStep, reason: &str) {
    assert_eq!(
        step,
        ClientStep::Close {
            what: Box::leak(reason.to_owned().into_boxed_str())
        }
    );
}

const OTHER: &str = "the second hello names another server than the first";

#[test]
fn t65_a_second_hello_for_another_server_is_refused() {
    let mut watch = watch();
    assert_eq!(watch.server(&retry()), ServerStep::Watching);
    assert_closed(watch.client(&HelloSpec::named("evil.test").wire()), OTHER);
}

#[test]
fn t65_it_is_refused_even_before_the_server_asked_for_it() {
    assert_closed(watch().client(&HelloSpec::named("evil.test").wire()), OTHER);
    assert_closed(watch().client(&HelloSpec::default().wire()), OTHER);
}

#[test]
fn t65_not_one_octet_of_it_passes_in_any_segmentation() {
    let flight = [
        record(20, 0x0303, &[1]),
        records(&HelloSpec::named("evil.test").message(), 10),
    ]
    .concat();
    for size in 1..flight.len() {
        let mut watch = watch();
        watch.server(&retry());
        let mut passed = Vec::new();
        let closed = flight.chunks(size).any(|piece| match watch.client(piece) {
            ClientStep::Forward(bytes) => {
                passed.extend(bytes);
                false
            }
            ClientStep::Close { what } => what == OTHER,
        });
        assert!(closed, "segments of {size}");
        assert!(
            flight[..6].starts_with(&passed),
            "segments of {size} let {passed:x?} pass"
        );
    }
}

#[test]
fn t65_an_equal_second_hello_passes_whole_and_unchanged() {
    let second = HelloSpec {
        session: vec![],
        ..HelloSpec::named("ALLOWED.test.")
    };
    let flight = [record(20, 0x0303, &[1]), records(&second.message(), 10)].concat();
    for size in 1..flight.len() {
        let mut watch = watch();
        watch.server(&retry());
        let mut passed = Vec::new();
        for piece in flight.chunks(size) {
            let ClientStep::Forward(bytes) = watch.client(piece) else {
                panic!("segments of {size}")
            };
            passed.extend(bytes);
        }
        assert_eq!(passed, flight, "segments of {size}");
        assert_eq!(
            watch.server(&record(22, 0x0303, &server_hello(&[1; 32]))),
            ServerStep::Over(vec![])
        );
    }
}

#[test]
fn t65_ech_must_stay_what_it_was() {
    let with = |id| HelloSpec::named("allowed.test").with(0xfe0d, ech(id));
    let mut same = SecondHelloWatch::new(hello(&with(7)));
    assert_eq!(same.client(&with(7).wire()), forward(with(7).wire()));
    for second in [with(8), HelloSpec::named("allowed.test")] {
        assert_closed(
            SecondHelloWatch::new(hello(&with(7))).client(&second.wire()),
            OTHER,
        );
    }
    assert_closed(watch().client(&with(7).wire()), OTHER);
}

#[test]
fn t65_a_malformed_second_hello_is_refused() {
    let finished = handshake(20, &[0; 12]);
    assert_closed(
        watch().client(&records(&finished, 999)),
        "a handshake message that is not a ClientHello",
    );
    let message = HelloSpec::named("allowed.test").message();
    let mixed = [record(22, 0x0303, &message[..20]), record(23, 0x0303, b"x")].concat();
    assert_closed(
        watch().client(&mixed),
        "another record inside of the second hello",
    );
    assert_closed(
        watch().client(b"GET / HTTP/1.1\r\n"),
        "the client's bytes after its hello are not TLS",
    );
}

#[test]
fn t65_a_real_second_hello_passes() {
    let rows = rows("first_flights.jsonl");
    let row = rows.iter().find(|row| text(row, "id") == "ff00990").unwrap();
    let flight = segments(row);
    let Step::Tls(first) = detect_all(&flight[0]) else {
        panic!("a hello")
    };
    let mut watch = SecondHelloWatch::new(first.hello);
    assert_eq!(watch.server(&retry()), ServerStep::Watching);
    assert_eq!(watch.client(&flight[1]), forward(flight[1].clone()));
}

#[test]
fn early_data_alerts_and_change_cipher_specs_pass_at_once() {
    let mut watch = watch();
    for honest in [
        record(20, 0x0303, &[1]),
        record(23, 0x0303, &[7; 600]),
        record(21, 0x0303, &[2, 40]),
    ] {
        assert_eq!(watch.client(&honest), forward(honest));
    }
    // Data needn't wait for the end of its record.
    let data = record(23, 0x0303, &[7; 600]);
    assert_eq!(watch.client(&data[..100]), forward(&data[..100]));
    assert_eq!(watch.client(&data[100..]), forward(&data[100..]));
}

#[test]
fn any_server_hello_of_tls_12_or_13_ends_the_watch() {
    let answer = record(
        22,
        0x0303,
        &[server_hello(&[1; 32]), handshake(11, &[0; 99])].concat(),
    );
    for size in 1..answer.len() {
        let mut watch = watch();
        let over = answer
            .chunks(size)
            .any(|piece| watch.server(piece) == ServerStep::Over(vec![]));
        assert!(over, "segments of {size}");
    }
}

#[test]
fn a_retry_request_is_known_in_any_segmentation_and_any_records() {
    for size in 1..60 {
        let mut watch = watch();
        for piece in records(&server_hello(&RETRY_RANDOM), size).chunks(size) {
            assert_eq!(watch.server(piece), ServerStep::Watching, "{size}");
        }
        let over = records(&server_hello(&[2; 32]), size);
        assert_eq!(watch.server(&over), ServerStep::Over(vec![]), "{size}");
    }
}

#[test]
fn a_retry_request_of_an_old_draft_is_one() {
    let mut watch = watch();
    let old = handshake(6, &[0x7f, 0x13, 0, 2, 0, 0x2c]);
    assert_eq!(watch.server(&record(22, 0x0303, &old)), ServerStep::Watching);
    let both = [old, server_hello(&[2; 32])].concat();
    assert_eq!(watch.server(&record(22, 0x0303, &both)), ServerStep::Over(vec![]));
}

#[test]
fn what_was_held_is_released_when_the_hello_is_final() {
    let mut watch = watch();
    let begun = &HelloSpec::named("evil.test").wire()[..40];
    assert_eq!(watch.client(begun), forward(vec![]));
    assert_eq!(
        watch.server(&record(22, 0x0303, &server_hello(&[1; 32]))),
        ServerStep::Over(begun.to_vec())
    );
}

#[test]
fn a_warning_before_the_answer_keeps_the_watch() {
    let mut watch = watch();
    assert_eq!(watch.server(&record(21, 0x0303, &[1, 112])), ServerStep::Watching);
    assert_eq!(watch.server(&record(20, 0x0303, &[1])), ServerStep::Watching);
    assert_closed(watch.client(&HelloSpec::named("evil.test").wire()), OTHER);
}

#[test]
fn a_server_that_does_not_speak_tls_gets_nothing_more() {
    let mut watch = watch();
    assert_eq!(
        watch.server(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ServerStep::NotTls
    );
    assert_closed(
        watch.client(b"GET / HTTP/1.1\r\n"),
        "the server's answer to the hello is not TLS",
    );
}

#[test]
fn a_second_hello_over_the_bound_is_refused() {
    let large = HelloSpec::named("allowed.test")
        .with(21, vec![0; 60_000])
        .with(22, vec![0; 5_600]);
    let mut message = large.message();
    message[1..4].copy_from_slice(&[2, 0, 0]);
    assert_closed(
        watch().client(&records(&message, 16384)),
        "the second hello is too large",
    );
}
