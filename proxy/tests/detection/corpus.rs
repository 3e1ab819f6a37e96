//! The detectors on other people's first bytes: captures, the vectors of other projects' tests, and requests
//! made to slip past a filter. Owns the list of rows where we differ, with the reason; reads the corpus in
//! place.

use crate::support::{bytes, detect, named, rows, segments, text};
use serde_json::Value;
use tidegate_policy::detection::Prefix;
use tidegate_proxy::detect::{Detector, Step};

/// A row's expectation and what we said of it.
struct Outcome {
    id: String,
    expected: Option<String>,
    /// The row says only what must not be found.
    not: Option<&'static str>,
    found: Step,
}

impl Outcome {
    /// A refused request agrees with "no name"; a readable one agrees by the name it asked for, refused
    /// or not (nginx serves a target that differs from Host, we answer 400 and still read the name).
    fn agrees(&self) -> bool {
        let found = named(&self.found);
        if let Some(not) = self.not {
            return found.as_deref() != Some(not);
        }
        match &self.expected {
            None => found.is_none() || matches!(self.found, Step::BadRequest(_)),
            Some(expected) => found.is_some_and(|found| {
                found == canonical(expected) || (self.id.starts_with("zapret") && is_below(&found, expected))
            }),
        }
    }
}

/// zapret's rows are named by file, which leaves a host's first label out (`online.sberbank.ru`).
fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent)
        .is_some_and(|front| front.ends_with('.'))
}

/// An expected name in our spelling: addresses bare and in their shortest form.
fn canonical(expected: &str) -> String {
    let bare = expected.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>()
        .map_or_else(|_| expected.to_ascii_lowercase(), |address| address.to_string())
}

fn first_flights() -> Vec<Outcome> {
    let rows = rows("first_flights.jsonl");
    let ours = rows.iter().filter(|row| text(row, "kind") != "quic");
    ours.map(|row| Outcome {
        id: text(row, "id").to_owned(),
        expected: row["expected"].as_str().map(str::to_owned),
        not: None,
        found: detect(&segments(row)),
    })
    .collect()
}

fn vectors() -> Vec<Outcome> {
    let rows = rows("detection_vectors.jsonl");
    let ours = rows
        .iter()
        .filter(|row| matches!(text(row, "proto"), "tls" | "http"));
    ours.map(|row| Outcome {
        id: format!("{} {}", text(row, "src"), text(row, "case")),
        expected: expectation(row),
        not: text(row, "note")
            .starts_with("must not yield localhost")
            .then_some("localhost"),
        found: detect(&chunks(row)),
    })
    .collect()
}

/// The row's expectation; the corpus' README says that OpenSSL refuses three of sniproxy's, rightly.
fn expectation(row: &Value) -> Option<String> {
    let lying = ["good_data_2", "good_data_3", "good_data_4"];
    if text(row, "src") == "sniproxy/tls_test.c" && lying.contains(&text(row, "case")) {
        return None;
    }
    row["expect"].as_str().map(str::to_owned)
}

fn chunks(row: &Value) -> Vec<Vec<u8>> {
    let chunks = row["chunks"].as_array().expect("chunks").iter();
    let mut chunks: Vec<Vec<u8>> = chunks.map(|chunk| bytes(chunk.as_str().unwrap())).collect();
    // Xray and v2ray look at a head without waiting for its end; the row's note says so.
    if text(row, "note").contains("no blank line at the end") {
        chunks.push(b"\r\n\r\n".to_vec());
    }
    chunks
}

/// Rows where we differ on purpose.
const DIFFERENT: [(&str, &str); 3] = [
    (
        "ff00885",
        "the capture lacks the segments after the 70th octet: there is no Host to read",
    ),
    (
        "nginx-tests/http_host.t IPvFuture all symbols (host header)",
        "no address that anybody could dial: 400",
    ),
    (
        "nginx-tests/http_host.t IPvFuture all symbols (absolute request)",
        "the same",
    ),
];

#[test]
fn captures_and_vectors_agree_but_for_the_listed_rows() {
    let outcomes: Vec<Outcome> = first_flights().into_iter().chain(vectors()).collect();
    let differing: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.agrees()).collect();
    let unlisted: Vec<String> = differing
        .iter()
        .filter(|outcome| DIFFERENT.iter().all(|(id, _)| *id != outcome.id))
        .map(|outcome| {
            format!(
                "{}: expected {:?}, found {:?}",
                outcome.id, outcome.expected, outcome.found
            )
        })
        .collect();
    assert!(
        unlisted.is_empty(),
        "{} rows differ:\n{}",
        unlisted.len(),
        unlisted.join("\n")
    );
    for (id, reason) in DIFFERENT {
        assert!(
            differing.iter().any(|outcome| outcome.id == id),
            "{id} agrees now, unlist it ({reason})"
        );
    }
    assert_eq!(outcomes.len(), 744, "all TLS and HTTP rows");
    let agreement = 1.0 - differing.len() as f64 / outcomes.len() as f64;
    assert!(agreement >= 0.995, "agreement is {agreement}");
}

#[test]
fn what_is_neither_tls_nor_http_is_opaque() {
    for row in rows("detection_vectors.jsonl")
        .iter()
        .filter(|row| matches!(text(row, "proto"), "other" | "dtls"))
    {
        let case = text(row, "case");
        let found = detect(&chunks(row));
        match case {
            "http_iana_org.bin" => assert_eq!(named(&found).as_deref(), Some("www.iana.org")),
            // Nothing but NULs may still become a request (H43).
            _ if case.starts_with("zero_") => {
                assert!(matches!(found, Step::NeedMore(Prefix::Http)), "{case}");
            }
            _ => assert!(matches!(found, Step::Opaque), "{case}: {found:?}"),
        }
    }
}

/// H50: none of the requests reaches `evil.test`: each is refused, or judged as a name that a policy for
/// `allowed.test` refuses. None is opaque: an opaque flow is permitted by its ticket.
#[test]
fn h50_no_evasion_is_taken_for_an_allowed_request() {
    let rows = rows("http_evasion.jsonl");
    assert_eq!(rows.len(), 545);
    for row in &rows {
        let request = bytes(text(row, "hex"));
        let title = format!("{} {:?}", text(row, "src"), text(row, "title"));
        match detect(std::slice::from_ref(&request)) {
            Step::Http(head) => {
                let mut forwarded = Vec::new();
                head.forward(&mut forwarded);
                let asked = named(&Step::Http(head));
                assert_ne!(asked.as_deref(), Some("allowed.test"), "{title}");
                assert!(asked.is_some(), "{title} carries no name");
                assert_eq!(asked, hosts_by_httparse(&forwarded), "{title}");
            }
            Step::BadRequest(_) | Step::TooLarge(_) => {}
            // Not a request to anybody yet: waiting ends in a refusal.
            Step::NeedMore(Prefix::Http) => {}
            other => panic!("{title}: {other:?}"),
        }
    }
}

/// The one Host of a forwarded head, as another parser reads it.
fn hosts_by_httparse(head: &[u8]) -> Option<String> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    assert!(request.parse(head).unwrap().is_complete());
    let mut hosts = request
        .headers
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("host"));
    let host = String::from_utf8(hosts.next()?.value.to_vec())
        .unwrap()
        .to_ascii_lowercase();
    assert!(hosts.next().is_none());
    Some(host)
}

/// Every prefix of every captured hello: a beginning, never a verdict, never a panic.
#[test]
fn no_prefix_of_a_captured_hello_is_a_verdict() {
    let rows = rows("first_flights.jsonl");
    for row in rows.iter().filter(|row| text(row, "kind") == "tls") {
        let flight = segments(row).concat();
        let Step::Tls(found) = detect(std::slice::from_ref(&flight)) else {
            panic!("{} is a hello", text(row, "id"));
        };
        let mut detector = Detector::new();
        for (at, octet) in flight.iter().take(found.consumed).enumerate() {
            let step = detector.push(&[*octet]);
            if at + 1 < found.consumed {
                let begun = matches!(step, Step::NeedMore(Prefix::Tls));
                assert!(begun, "{} after {} octets: {step:?}", text(row, "id"), at + 1);
            } else {
                let Step::Tls(slow) = step else {
                    panic!("{}: {step:?}", text(row, "id"))
                };
                assert_eq!(slow, found);
            }
        }
        assert_eq!(detector.bytes(), &flight[..found.consumed]);
    }
}

/// H36: a request byte by byte is the same request.
#[test]
fn h36_captured_requests_come_byte_by_byte() {
    let rows = rows("first_flights.jsonl");
    for row in rows
        .iter()
        .filter(|row| text(row, "kind") == "http" && text(row, "id") != "ff00885")
    {
        let flight = segments(row).concat();
        let Step::Http(whole) = detect(std::slice::from_ref(&flight)) else {
            panic!("{} is a request", text(row, "id"));
        };
        let octets: Vec<Vec<u8>> = flight
            .iter()
            .take(whole.consumed)
            .map(|octet| vec![*octet])
            .collect();
        let Step::Http(slow) = detect(&octets) else {
            panic!("{}", text(row, "id"))
        };
        assert_eq!((slow.authority, slow.consumed), (whole.authority, whole.consumed));
    }
}

/// JA4 of captured hellos, as FoxIO's own test data has it.
#[test]
fn ja4_agrees_with_foxio() {
    let known = [
        ("ff00056", "t13d1516h2_8daaf6152771_e5627efa2ab1"),
        ("ff00057", "t12d190800_d83cc789557e_7af1ed941c26"),
        ("ff00058", "t13d1516h2_8daaf6152771_9b887d9acb53"),
        ("ff00060", "t13d1516h2_8daaf6152771_e5627efa2ab1"),
        ("ff00003", "t13d1516h2_8daaf6152771_e5627efa2ab1"),
        ("ff00005", "t13d1516h2_8daaf6152771_e5627efa2ab1"),
        ("ff00073", "t12d190800_d83cc789557e_7af1ed941c26"),
        ("ff00074", "t12d1909h2_d83cc789557e_7af1ed941c26"),
        ("ff00075", "t12d190800_d83cc789557e_7af1ed941c26"),
        ("ff00077", "t12d1909h2_d83cc789557e_7af1ed941c26"),
    ];
    let rows = rows("first_flights.jsonl");
    for (id, ja4) in known {
        let row = rows.iter().find(|row| text(row, "id") == id).unwrap();
        let Step::Tls(found) = detect(&segments(row)) else {
            panic!("{id}")
        };
        assert_eq!(found.ja4(), ja4, "{id}");
    }
}
