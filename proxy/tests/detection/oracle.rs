//! The detectors beside other parsers: rustls and tls-parser on hellos, httparse on heads. Where they accept, we
//! must have read the same name; where we accept, they must not have read another.

use std::io::Cursor;

use rustls::server::Acceptor;
use tidegate_policy::detection::Sni;
use tidegate_proxy::detect::Step;
use tls_parser::{TlsExtension, TlsMessage, TlsMessageHandshake};

use crate::support::{HelloSpec, bytes, detect_all, ech, records, rows, segments, text};

/// What rustls reads: `Err` for refused, the name as it shows it.
fn rustls_name(wire: &[u8]) -> Result<Option<String>, ()> {
    let mut acceptor = Acceptor::default();
    let mut input = Cursor::new(wire);
    loop {
        let read = acceptor.read_tls(&mut input).map_err(|_| ())?;
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted.client_hello().server_name().map(str::to_owned)),
            Ok(None) if read == 0 => return Err(()),
            Ok(None) => {}
            Err(_) => return Err(()),
        }
    }
}

/// The first name that tls-parser reads from one unfragmented record.
fn tls_parser_name(wire: &[u8]) -> Option<Vec<u8>> {
    let (_, record) = tls_parser::parse_tls_plaintext(wire).ok()?;
    let hello = record.msg.iter().find_map(|message| match message {
        TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello)) => Some(hello),
        _ => None,
    })?;
    let (_, extensions) = tls_parser::parse_tls_client_hello_extensions(hello.ext?).ok()?;
    extensions.iter().find_map(|extension| match extension {
        TlsExtension::SNI(names) => names.first().map(|(_, name)| name.to_vec()),
        _ => None,
    })
}

fn our_name(wire: &[u8]) -> Option<Sni> {
    match detect_all(wire) {
        Step::Tls(found) => Some(found.hello.sni),
        _ => None,
    }
}

/// rustls shows names lower-cased, keeps a trailing dot, and hides addresses.
fn as_rustls(sni: &Sni) -> Option<String> {
    match sni {
        Sni::Name(name) => Some(name.to_string()),
        Sni::Address(_) | Sni::Absent => None,
    }
}

#[test]
fn rustls_and_tls_parser_read_the_same_names_in_captures() {
    let (mut by_rustls, mut by_parser) = (0, 0);
    for row in rows("first_flights.jsonl")
        .iter()
        .filter(|row| text(row, "kind") == "tls")
    {
        let wire = segments(row).concat();
        let ours = our_name(&wire).unwrap();
        if let Ok(theirs) = rustls_name(&wire) {
            assert_eq!(theirs, as_rustls(&ours), "{}", text(row, "id"));
            by_rustls += 1;
        }
        if let (Some(theirs), Sni::Name(ours)) = (tls_parser_name(&wire), ours) {
            assert_eq!(
                theirs.to_ascii_lowercase(),
                ours.to_string().into_bytes(),
                "{}",
                text(row, "id")
            );
            by_parser += 1;
        }
    }
    // rustls refuses hellos without TLS 1.2 suites or signature algorithms.
    assert!(
        by_rustls > 100 && by_parser > 100,
        "the oracles ran: {by_rustls}, {by_parser}"
    );
}

/// Whatever rustls accepts of the T rows, we accept with the same name, or refuse for a stated reason.
#[test]
fn rustls_accepts_nothing_that_we_read_differently() {
    let name = |name: &str| HelloSpec::named(name);
    let specs = [
        name("allowed.test"),
        name("ALLOWED.TEST"),
        name("allowed.test."),
        name("192.0.2.1"),
        name("under_score.test"),
        name("xn--bcher-kva.test"),
        HelloSpec::default(),
        name("allowed.test").with(0xfe0d, ech(9)),
        name("allowed.test").with(21, vec![0; 8_000]),
        name("allowed.test").with(0x0a0a, vec![]),
    ];
    for spec in specs {
        for size in [1, 7, 16384] {
            let wire = records(&spec.message(), size);
            let ours = our_name(&wire).unwrap_or_else(|| panic!("{spec:?} is a hello"));
            let theirs = rustls_name(&wire).unwrap_or_else(|()| panic!("rustls takes {spec:?}"));
            let theirs = theirs.map(|name| name.trim_end_matches('.').to_owned());
            assert_eq!(theirs, as_rustls(&ours), "{spec:?}");
        }
    }
}

/// Captured requests: httparse reads the Host that we judged.
#[test]
fn httparse_reads_the_same_host_in_captures() {
    let mut compared = 0;
    for row in rows("first_flights.jsonl")
        .iter()
        .filter(|row| text(row, "kind") == "http")
    {
        let flight = bytes(text(row, "hex"));
        let Step::Http(head) = detect_all(&flight) else {
            continue;
        };
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut theirs = httparse::Request::new(&mut fields);
        assert!(theirs.parse(&flight).unwrap().is_complete());
        assert_eq!(theirs.method.unwrap().as_bytes(), head.method());
        assert_eq!(theirs.path.unwrap().as_bytes(), head.target());
        let host = theirs
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case("host"));
        assert_eq!(host.map(|field| field.value), head.values("host").next());
        compared += 1;
    }
    assert!(compared > 500, "only {compared} were compared");
}
