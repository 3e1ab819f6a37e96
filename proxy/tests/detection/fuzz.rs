//! Arbitrary and nearly-right bytes: no reader panics, takes more than it was given, or changes its mind by
//! segmentation. The same entry functions as production.

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_policy::detection::{Detection, Sni};
use tidegate_proxy::detect::tls::{ClientStep, SecondHelloWatch, ServerStep};
use tidegate_proxy::detect::{Detector, Step, quic};
use tidegate_proxy::http1::body::BodyReader;
use tidegate_proxy::http1::head::{Asked, HeadProgress, RequestFraming, RequestReader, ResponseReader};

use crate::support::{HelloSpec, detect_all, records};

/// Bytes that get past the first look: mutated hellos and requests beside noise.
fn flights() -> impl Strategy<Value = Vec<u8>> {
    let hello = (0..3usize, 1..2000usize).prop_map(|(which, size)| {
        let names = ["allowed.test", "192.0.2.1", "evil.test."];
        records(&HelloSpec::named(names[which]).message(), size)
    });
    let request = prop_oneof![
        Just(&b"GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc"[..]),
        Just(
            &b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"[..]
        ),
        Just(&b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"[..]),
        Just(&b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"[..]),
        Just(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]),
        Just(&b"0032git-upload-pack /project.git\0host=git.test\0\0\0"[..]),
    ];
    let mutated = (
        prop_oneof![hello, request.prop_map(<[u8]>::to_vec)],
        vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    );
    let mutated = mutated.prop_map(|(mut bytes, changes)| {
        for (at, octet) in changes {
            let at = at.index(bytes.len());
            bytes[at] = octet;
        }
        bytes
    });
    prop_oneof![3 => mutated, 1 => vec(any::<u8>(), 0..300)]
}

/// A finding without what a detector keeps beside it.
fn essence(step: &Step) -> String {
    match step {
        Step::BadRequest(error) => format!("{error:?}"),
        Step::H2c => String::from("h2c"),
        Step::NeedMore(prefix) => format!("more {prefix:?}"),
        other => format!("{:?}", other.detection()),
    }
}

/// The same bytes in pieces of the given lengths, repeated.
fn in_pieces(bytes: &[u8], sizes: &[usize]) -> (Step, usize) {
    let mut detector = Detector::new();
    let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
    let mut step = detector.push(&[]);
    while let (Step::NeedMore(_), false) = (&step, rest.is_empty()) {
        let (piece, tail) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        step = detector.push(piece);
        rest = tail;
    }
    (step, detector.bytes().len())
}

proptest! {
    #[test]
    fn every_segmentation_finds_the_same(bytes in flights(), sizes in vec(1..50usize, 1..20)) {
        let whole = detect_all(&bytes);
        let (step, read) = in_pieces(&bytes, &sizes);
        prop_assert_eq!(essence(&step), essence(&whole));
        prop_assert!(read <= bytes.len());
        match step {
            Step::Tls(found) => prop_assert!(found.consumed <= read),
            Step::Http(head) => prop_assert!(head.consumed <= read),
            Step::NeedMore(_) | Step::H2c | Step::Opaque | Step::Malformed { .. } | Step::BadRequest(_) | Step::TooLarge(_) => {}
        }
    }

    /// A verdict on a hello stays, whatever comes behind it.
    #[test]
    fn what_follows_does_not_change_a_hello(tail in vec(any::<u8>(), 0..100)) {
        let wire = HelloSpec::named("allowed.test").wire();
        let Step::Tls(found) = detect_all(&[wire.clone(), tail].concat()) else { panic!("a hello") };
        prop_assert_eq!(found.consumed, wire.len());
    }

    /// A mutated hello is refused or names what some byte string of the hello says; never the wrong one.
    #[test]
    fn a_mutated_hello_never_names_a_third_server(at in any::<prop::sample::Index>(), octet in any::<u8>()) {
        let mut wire = HelloSpec::named("allowed.test").wire();
        let at = at.index(wire.len());
        wire[at] = octet;
        if let Some(Detection::Tls(hello)) = detect_all(&wire).detection()
            && let Sni::Name(name) = hello.sni
        {
            let text = name.to_string().into_bytes();
            let shown = wire.to_ascii_lowercase();
            prop_assert!(shown.windows(text.len()).any(|window| window == text), "{name}");
        }
    }

    #[test]
    fn a_watch_passes_a_prefix_of_what_it_was_given(
        client in vec(prop_oneof![flights(), vec(any::<u8>(), 0..60)], 0..4),
        server in vec(any::<u8>(), 0..80),
    ) {
        let Some(Detection::Tls(first)) = detect_all(&HelloSpec::named("allowed.test").wire()).detection() else {
            panic!("a hello")
        };
        let mut watch = SecondHelloWatch::new(first);
        let (mut given, mut passed) = (Vec::new(), Vec::new());
        for bytes in client {
            given.extend_from_slice(&bytes);
            match watch.client(&bytes) {
                ClientStep::Forward(bytes) => passed.extend(bytes),
                ClientStep::Close { .. } => break,
            }
            prop_assert!(given.starts_with(&passed));
        }
        if let ServerStep::Over(held) = watch.server(&server) {
            passed.extend(held);
            prop_assert!(given.starts_with(&passed));
        }
    }

    /// A forwarded head is a fixed point: read again, it says the same and is written the same.
    #[test]
    fn a_forwarded_head_is_read_as_it_was_judged(bytes in flights()) {
        let HeadProgress::Done(head) = RequestReader::new().advance(&bytes) else { return Ok(()) };
        let mut once = Vec::new();
        head.forward(&mut once);
        let HeadProgress::Done(again) = RequestReader::new().advance(&once) else {
            panic!("{:?}", String::from_utf8_lossy(&once))
        };
        prop_assert_eq!(again.consumed, once.len());
        prop_assert_eq!(&again.authority, &head.authority);
        prop_assert_eq!(again.framing, head.framing);
        let mut twice = Vec::new();
        again.forward(&mut twice);
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn bodies_take_no_more_than_they_are_given(bytes in vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b';'), any::<u8>()], 0..200), size in 1..40usize) {
        let mut body = BodyReader::for_request(RequestFraming::Chunked);
        let mut out = Vec::new();
        for piece in bytes.chunks(size) {
            match body.advance(piece, &mut out) {
                Ok(advance) => {
                    prop_assert!(advance.consumed <= piece.len());
                    prop_assert_eq!(advance.done, body.is_done());
                    if advance.done {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        prop_assert!(out.len() <= bytes.len() + 2, "sizes are written no longer than they were");
    }

    /// Chunks decode to the data that went in, and the rewritten form decodes to the same.
    #[test]
    fn chunked_bodies_survive_rewriting(chunks in vec(vec(any::<u8>(), 1..50), 0..6), size in 1..30usize) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            wire.extend(format!("{:04X};x=y\r\n", chunk.len()).into_bytes());
            wire.extend(chunk);
            wire.extend(b"\r\n");
        }
        wire.extend(b"0\r\n\r\n");
        let rewrite = |wire: &[u8]| {
            let mut body = BodyReader::for_request(RequestFraming::Chunked);
            let mut out = Vec::new();
            for piece in wire.chunks(size) {
                body.advance(piece, &mut out).unwrap();
            }
            assert!(body.is_done());
            out
        };
        let once = rewrite(&wire);
        let plain: Vec<u8> = chunks.iter().flat_map(|chunk| {
            [format!("{:x}\r\n", chunk.len()).into_bytes(), chunk.clone(), b"\r\n".to_vec()].concat()
        }).chain(*b"0\r\n\r\n").collect();
        prop_assert_eq!(&once, &plain);
        prop_assert_eq!(rewrite(&once), plain);
    }

    #[test]
    fn responses_and_datagrams_of_any_bytes_are_answered(bytes in vec(any::<u8>(), 0..300)) {
        let _ = quic::classify(&bytes);
        let sloppy = [&b"HTTP/1.1 200 OK\r\n"[..], &bytes, b"\r\n\r\n"].concat();
        for asked in [Asked::Head, Asked::Connect, Asked::Other] {
            if let HeadProgress::Done(head) = ResponseReader::new(asked).advance(&sloppy) {
                prop_assert!(head.consumed <= sloppy.len());
                head.forward(&mut Vec::new());
            }
        }
    }
}
