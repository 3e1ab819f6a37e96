//! Segments aside, what a hello may look like: records, versions, sizes, and what is none.

use tidegate_e2e::hello::{self, Client, Hello, RECORD, record, records};
use tidegate_e2e::{PATIENCE, block, flow_event, started};
use tidegate_lab::{Lab, Process, plan, wait_until};

use super::{ACCESS_DENIED, DECODE_ERROR, Stage};

/// A real server, stricter than ours and more lenient: openssl's, as `strict.test`. Its stdout names each
/// hello's server name.
async fn openssl_server(lab: &Lab) -> Process {
    lab.name("strict.test", &plan::site(81)).unwrap();
    let files = lab
        .ca()
        .issue_files(&lab.dir(), "strict", &["strict.test"])
        .unwrap();
    let (certificate, key) = (files.certificate.to_string_lossy(), files.key.to_string_lossy());
    let certificates = [
        "-cert",
        &*certificate,
        "-key",
        &*key,
        "-cert2",
        &*certificate,
        "-key2",
        &*key,
    ];
    let server =
        lab.net()
            .command("openssl")
            .args(["s_server", "-accept", STRICT, "-servername", "strict.test"]);
    let process = server.args(certificates).spawn().unwrap();
    wait_until("openssl to listen", PATIENCE, async || match process.stdout() {
        text if text.contains("ACCEPT") => Ok(()),
        text => Err(text + &process.stderr()),
    })
    .await
    .unwrap();
    process
}

const STRICT: &str = "192.0.2.81:443";

/// Every shape that openssl takes and that this suite sends: their control is that openssl does take them.
fn strange_shapes(name: &str) -> Vec<(&'static str, Vec<u8>)> {
    let message = Hello::named(name).message();
    let empty = record(22, 0x0301, &[]);
    let split = message.len() / 2;
    let pieces = |at: usize| {
        [
            records(0x0301, &message[..at], RECORD),
            records(0x0301, &message[at..], RECORD),
        ]
    };
    vec![
        ("T10 one byte a record", records(0x0301, &message, 1)),
        ("T11 seven bytes a record", records(0x0301, &message, 7)),
        ("T12 the message's header alone", pieces(4).concat()),
        ("T13 two records", pieces(split).concat()),
        (
            "T14 an empty record in front",
            [empty.clone(), hello::plain(name)].concat(),
        ),
        ("T16 record version 0300", records(0x0300, &message, RECORD)),
        ("T17 record version 03ff", records(0x03ff, &message, RECORD)),
        ("T18 record version 0304", records(0x0304, &message, RECORD)),
        ("T50 12 KiB", Hello::named(name).padded(12 << 10).wire()),
        ("T51 16 KiB", Hello::named(name).padded((16 << 10) + 9).wire()),
        ("T52 60 KiB", Hello::named(name).padded(60 << 10).wire()),
    ]
}

#[tokio::test]
async fn t10_to_t18_t50_to_t52_strange_hellos_reach_a_real_server_and_only_for_their_name() {
    let lab = Lab::builder().direct().build().unwrap();
    let server = openssl_server(&lab).await;
    let gateway = started(&lab, &block(&["strict.test:443"])).await;
    let mut events = gateway.events();
    for (what, bytes) in strange_shapes("strict.test") {
        let control = hello::send(lab.direct(), STRICT, &bytes);
        assert!(
            control.accepted(),
            "the shape is no good without a gateway, {what}: {control:?}"
        );
        let outcome = hello::send(lab.runner(0), STRICT, &bytes);
        assert!(outcome.accepted(), "{what}: {outcome:?}");
    }
    for (what, bytes) in strange_shapes("evil.test") {
        let mut client = Client::connect(lab.runner(0), STRICT);
        let outcome = client.say(&bytes).hear_all();
        assert_eq!(outcome.alert(), Some(ACCESS_DENIED), "{what}: {outcome:?}");
        let fields = [
            ("name", "evil.test"),
            ("name_source", "sni"),
            ("reason", "not-allowed"),
        ];
        flow_event(&mut events, &client, &fields).await;
    }
    assert!(!server.stdout().contains("evil.test"), "{}", server.stdout());
}

#[tokio::test]
async fn t15_t21_t25_t39_what_servers_accept_is_judged_and_passed_as_it_came() {
    let lab = Lab::builder().build().unwrap();
    let stage = Stage::new(&lab, &["raw.test:443"]).await;
    let message = Hello::named("raw.test").message();
    let empty = record(22, 0x0303, &[]);
    let empties = [empty.repeat(31), records(0x0303, &message, RECORD)].concat();
    let odd_sizes = message
        .chunks(50)
        .flat_map(|piece| [empty.clone(), record(22, 0x0301, piece)].concat());
    for (what, bytes) in [
        ("T21 31 empty records in front", empties),
        ("T15 empty records in between", odd_sizes.collect()),
        (
            "T18 hello version 0304",
            Hello::named("raw.test").version(0x0304).wire(),
        ),
        (
            "T18 hello version 0302",
            Hello::named("raw.test").version(0x0302).wire(),
        ),
        ("T25 upper case", Hello::named("RaW.tEsT").wire()),
        ("T39 a trailing dot", Hello::named("raw.test.").wire()),
        ("no session id", Hello::named("raw.test").session(&[]).wire()),
        (
            "unknown protocols",
            Hello::named("raw.test").alpn(&["x-one", "http/0.9"]).wire(),
        ),
    ] {
        stage.passes(what, &bytes).await;
    }
}

#[tokio::test]
async fn t53_a_hello_past_64_kib_is_refused() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, &["raw.test:443"]).await;
    stage
        .passes(
            "just within 64 KiB",
            &Hello::named("raw.test").padded(64 << 10).wire(),
        )
        .await;
    let bytes = Hello::named("raw.test").padded(128 << 10).wire();
    stage
        .refused("T53 128 KiB", &bytes, DECODE_ERROR, "malformed-tls")
        .await;
}

#[tokio::test]
async fn t19_t20_t47_to_t49_t57_malformed_hellos_get_a_decode_error() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, &["raw.test:443"]).await;
    let honest = hello::plain("raw.test");
    let behind = |front: Vec<u8>| [front, honest.clone()].concat();
    let lying = |at: usize, by: u8| {
        let mut bytes = honest.clone();
        bytes[at] = bytes[at].wrapping_add(by);
        bytes
    };
    let mut trailing = Hello::named("raw.test").message();
    trailing.extend([0; 5]);
    let message_of = |message: &[u8]| records(0x0301, message, RECORD);
    let mut trailing_inside = trailing.clone();
    trailing_inside[3] += 5;
    for (what, bytes) in [
        (
            "T19 a change of cipher spec in front",
            behind(record(20, 0x0303, &[1])),
        ),
        ("T20 a warning in front", behind(record(21, 0x0301, &[1, 0]))),
        ("T21 33 empty records", behind(record(22, 0x0301, &[]).repeat(33))),
        ("T48 the session id's length lies", lying(43, 200)),
        ("T48 the suites' length lies", lying(77, 1)),
        ("T49 bytes behind the hello in its record", message_of(&trailing)),
        (
            "T49 bytes behind the last extension",
            message_of(&trailing_inside),
        ),
        ("T47 a name of 300 octets", Hello::named([b'a'; 300]).wire()),
        (
            "T47 a label of 64 octets",
            Hello::named([&[b'a'; 64][..], b".raw.test"].concat()).wire(),
        ),
        ("T57 an SSLv2 hello", sslv2_hello()),
        (
            "another handshake message",
            message_of(&hello::handshake(2, &[3; 80])),
        ),
    ] {
        stage.refused(what, &bytes, DECODE_ERROR, "malformed-tls").await;
    }
}

/// The hello of SSLv2 that offers TLS 1.0 (RFC 5246 appendix E.2).
fn sslv2_hello() -> Vec<u8> {
    let mut hello = vec![1, 3, 1, 0, 3, 0, 0, 0, 16, 0, 0, 0x2f];
    hello.extend([5; 16]);
    [vec![0x80, hello.len() as u8], hello].concat()
}
