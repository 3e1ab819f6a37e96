//! The server name of a hello: one plain name, none at all, or something that only looks like one; and flows on
//! 443 that have no hello.

use tidegate_e2e::hello::{self, Client, Hello, SERVER_NAME, server_names};
use tidegate_e2e::{event, flow_event, run};
use tidegate_lab::{Lab, Script};

use super::{ACCESS_DENIED, DECODE_ERROR, Stage};

#[tokio::test]
async fn t33_to_t38_t40_to_t46_only_one_plain_server_name_is_one() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, &["raw.test:443"]).await;
    let listing = |names: &[(u8, &[u8])]| Hello::nameless().with(SERVER_NAME, server_names(names)).wire();
    let twice = |first: &str, second: &str| {
        let second = server_names(&[(0, second.as_bytes())]);
        Hello::named(first).with(SERVER_NAME, second).wire()
    };
    let mut lying = server_names(&[(0, b"raw.test")]);
    lying[1] += 1;
    for (what, bytes) in [
        ("T33 two extensions", twice("raw.test", "evil.test")),
        (
            "T33 two extensions, the other order",
            twice("evil.test", "raw.test"),
        ),
        ("T34 the same extension twice", twice("raw.test", "raw.test")),
        ("T35 two names", listing(&[(0, b"raw.test"), (0, b"evil.test")])),
        (
            "T36 one name twice",
            listing(&[(0, b"raw.test"), (0, b"raw.test")]),
        ),
        (
            "T37 an unknown type first",
            listing(&[(1, b"evil.test"), (0, b"raw.test")]),
        ),
        (
            "T48 the list's length lies",
            Hello::nameless().with(SERVER_NAME, lying).wire(),
        ),
        ("T38 a NUL", Hello::named(b"raw.test\0.evil.test").wire()),
        ("T40 a NUL at the end", Hello::named(b"raw.test\0").wire()),
        ("T43 a port", Hello::named("raw.test:443").wire()),
        ("T44 a space", Hello::named("raw.test ").wire()),
        ("T45 a line feed", Hello::named("raw.test\n").wire()),
        (
            "T46 another name behind a comma",
            Hello::named("raw.test,evil.test").wire(),
        ),
        ("T46 two trailing dots", Hello::named("raw.test..").wire()),
        ("a leading dot", Hello::named(".raw.test").wire()),
    ] {
        stage.refused(what, &bytes, DECODE_ERROR, "malformed-tls").await;
    }
    for (what, name) in [
        ("T41 A.E", "raw.test.evil.test"),
        ("T42 EA", "evilraw.test"),
        ("below A", "www.raw.test"),
        ("T26 E in mixed case", "EviL.test"),
        ("A without its end", "raw.tes"),
    ] {
        stage
            .refused(what, &hello::plain(name), ACCESS_DENIED, "not-allowed")
            .await;
    }
}

#[tokio::test]
async fn t30_to_t32_no_name_an_empty_one_or_an_address_need_the_only_ticketed_name() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, &["raw.test:443"]).await;
    let shapes = [
        ("T30 no name", Hello::nameless().wire()),
        (
            "T31 an empty extension",
            Hello::nameless().with(SERVER_NAME, vec![]).wire(),
        ),
        (
            "T31 an empty list",
            Hello::nameless().with(SERVER_NAME, vec![0, 0]).wire(),
        ),
        ("T31 an empty name", Hello::named("").wire()),
        ("T32 the flow's address", Hello::named("192.0.2.80").wire()),
    ];
    let foreign = [
        ("T32 another address", Hello::named("192.0.2.66").wire()),
        (
            "T32 another address of the other family",
            Hello::named("[2001:db8:200::66]").wire(),
        ),
    ];
    for (what, bytes) in shapes.iter().chain(&foreign) {
        stage.refused(what, bytes, ACCESS_DENIED, "no-name").await;
    }
    run(&lab, &["dig", "+short", "raw.test"]).await.expect_success();
    for (what, bytes) in &shapes {
        stage.passes(what, bytes).await;
    }
    for (what, bytes) in &foreign {
        stage.refused(what, bytes, ACCESS_DENIED, "no-name").await;
    }
}

#[tokio::test]
async fn t58_to_t62_other_protocols_on_443_are_judged_by_content_and_ticket() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, &["raw.test:443"]).await;
    let request = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    // T58: HTTP on 443 is HTTP: its Host is judged.
    let mut client = stage.client();
    let outcome = client.say(&request("evil.test")).hear_words("evil.test:443");
    assert!(outcome.text().starts_with("HTTP/1.1 403 "), "{outcome:?}");
    flow_event(
        &mut stage.events,
        &client,
        &[("kind", "http"), ("name", "evil.test"), ("reason", "not-allowed")],
    )
    .await;
    // T62: a PROXY line is no way to bring another hello behind it.
    let proxy_line = [
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 443\r\n",
        &hello::plain("raw.test")[..],
    ]
    .concat();
    let mut client = stage.client();
    client.say(&proxy_line).hear_all();
    flow_event(
        &mut stage.events,
        &client,
        &[("verdict", "refuse"), ("reason", "malformed-http")],
    )
    .await;
    // T61: HTTP/2 with prior knowledge.
    stage.events.forget();
    let h2 = [
        "curl",
        "-sS",
        "-m",
        "5",
        "--http2-prior-knowledge",
        "--resolve",
        "evil.test:443:192.0.2.80",
    ];
    run(&lab, &[&h2[..], &["http://evil.test:443/"]].concat()).await;
    event(
        &mut stage.events,
        &[("kind", "http"), ("name", "evil.test"), ("reason", "not-allowed")],
    )
    .await;
    stage.unseen("refused HTTP on 443", 0);
    // T59, T60: SSH and random bytes: towards an address without a name they are refused.
    let elsewhere = lab
        .raw("192.0.2.66:8443".parse().unwrap(), Script::silent())
        .unwrap();
    for bytes in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        &[0xf5, 0x91, 0x02, 0xa7, 0x00, 0x5c, 0xee, 0x13],
    ] {
        let mut client = Client::connect(lab.runner(0), "192.0.2.66:8443");
        let outcome = client.say(bytes).hear_all();
        assert!(outcome.closed() && outcome.received.is_empty(), "{outcome:?}");
        flow_event(
            &mut stage.events,
            &client,
            &[("kind", "tcp"), ("reason", "no-name")],
        )
        .await;
    }
    assert!(elsewhere.connections().is_empty());
    // The ticket for an allowed name permits the same bytes on the same port.
    run(&lab, &["dig", "+short", "raw.test"]).await.expect_success();
    stage
        .passes("T59 SSH where the ticket allows it", b"SSH-2.0-OpenSSH_9.2\r\n")
        .await;
    stage
        .passes(
            "T60 random bytes",
            &[0xf5, 0x91, 0x02, 0xa7, 0x00, 0x5c, 0xee, 0x13],
        )
        .await;
    // Tickets are for protocols without a name: HTTP still is judged by its Host.
    let seen = stage.server.connections().len();
    let outcome = stage
        .client()
        .say(&request("evil.test"))
        .hear_words("evil.test:443")
        .clone();
    assert!(outcome.text().starts_with("HTTP/1.1 403 "), "{outcome:?}");
    stage.unseen("a refused Host at a ticketed address", seen);
}
