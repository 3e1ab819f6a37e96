//! TLS as nobody's library writes it (evasions.md, T rows): hellos in any segments, records, versions and
//! sizes are judged by what an origin would read, and what two origins could read differently is refused.
//! Each test shows what the origin saw.

use tidegate_e2e::hello::{self, Client, Hello, RECORD, SERVER_NAME, record, records, server_names};
use tidegate_e2e::{PATIENCE, block, event, flow_event, run, started};
use tidegate_lab::{EventLog, Gateway, Lab, Process, RawServer, Script, plan, wait_until};

/// `access_denied` (RFC 8446 §6.2).
const ACCESS_DENIED: u8 = 49;
/// `decode_error`.
const DECODE_ERROR: u8 = 50;
/// Where `raw.test` records what it gets and says nothing.
const RAW: &str = "192.0.2.80:443";
/// An ECHConfigList with one configuration: id 7, for raw.test.
const ECH_OF_RAW: &str = "ADv+DQA3BwAgACAJAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEAAEAAQAIcmF3LnRlc3QAAA==";
/// Another: id 9, for cdn-b.test.
const ECH_OF_CDN_B: &str =
    "AD3+DQA5CQAgACAJAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEAAEAAQAKY2RuLWIudGVzdAAA";

/// A gateway in front of a server that records.
struct Stage<'a> {
    lab: &'a Lab,
    _gateway: Gateway<'a>,
    events: EventLog,
    server: RawServer,
}

impl<'a> Stage<'a> {
    async fn new(lab: &'a Lab, endpoints: &[&str]) -> Self {
        lab.name("raw.test", &plan::site(80)).unwrap();
        let server = lab.raw(RAW.parse().unwrap(), Script::silent()).unwrap();
        let gateway = started(lab, &block(endpoints)).await;
        Self { lab, events: gateway.events(), _gateway: gateway, server }
    }

    fn client(&self) -> Client {
        Client::connect(self.lab.runner(0), RAW)
    }

    /// What the server got that no earlier look saw.
    async fn receives(&self, what: &str, sent: &[u8], seen: usize) {
        let arrived = async || {
            let connections = self.server.connections();
            let new = &connections[seen.min(connections.len())..];
            if new.iter().any(|one| one.received == sent) {
                return Ok(());
            }
            let lengths: Vec<_> = new.iter().map(|one| (one.length, one.ended)).collect();
            Err(format!("of {} bytes these arrived, and whether they ended: {lengths:?}", sent.len()))
        };
        wait_until(what, PATIENCE, arrived).await.unwrap();
    }

    /// The hello passes, and the server gets it as it was sent.
    async fn passes(&self, what: &str, bytes: &[u8]) {
        let seen = self.server.connections().len();
        let mut client = self.client();
        client.say(bytes);
        self.receives(what, bytes, seen).await;
    }

    /// The hello is refused with an alert and an event, and the server gets nothing of it.
    async fn refused(&mut self, what: &str, bytes: &[u8], alert: u8, reason: &str) {
        let seen = self.server.connections().len();
        let mut client = self.client();
        let outcome = client.say(bytes).hear_all();
        assert_eq!(outcome.alert(), Some(alert), "{what}: {outcome:?}");
        flow_event(&mut self.events, &client, &[("kind", "tls"), ("verdict", "refuse"), ("reason", reason)]).await;
        self.unseen(what, seen);
    }

    fn unseen(&self, what: &str, seen: usize) {
        // An early dial, where the opaque row permits one, brings a connection; nothing may be in it.
        let connections = self.server.connections();
        let new = &connections[seen.min(connections.len())..];
        assert!(new.iter().all(|one| one.length == 0), "{what}: the server got {new:?}");
    }
}

/// A real server, stricter than ours and more lenient: openssl's, as `strict.test`. Its stdout names each
/// hello's server name.
async fn openssl_server(lab: &Lab) -> Process {
    lab.name("strict.test", &plan::site(81)).unwrap();
    let files = lab.ca().issue_files(&lab.dir(), "strict", &["strict.test"]).unwrap();
    let (certificate, key) = (files.certificate.to_string_lossy(), files.key.to_string_lossy());
    let certificates = ["-cert", &*certificate, "-key", &*key, "-cert2", &*certificate, "-key2", &*key];
    let server = lab.net().command("openssl").args(["s_server", "-accept", STRICT, "-servername", "strict.test"]);
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
    let pieces = |at: usize| [records(0x0301, &message[..at], RECORD), records(0x0301, &message[at..], RECORD)];
    vec![
        ("T10 one byte a record", records(0x0301, &message, 1)),
        ("T11 seven bytes a record", records(0x0301, &message, 7)),
        ("T12 the message's header alone", pieces(4).concat()),
        ("T13 two records", pieces(split).concat()),
        ("T14 an empty record in front", [empty.clone(), hello::plain(name)].concat()),
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
        assert!(control.accepted(), "the shape is no good without a gateway, {what}: {control:?}");
        let outcome = hello::send(lab.runner(0), STRICT, &bytes);
        assert!(outcome.accepted(), "{what}: {outcome:?}");
    }
    for (what, bytes) in strange_shapes("evil.test") {
        let mut client = Client::connect(lab.runner(0), STRICT);
        let outcome = client.say(&bytes).hear_all();
        assert_eq!(outcome.alert(), Some(ACCESS_DENIED), "{what}: {outcome:?}");
        let fields = [("name", "evil.test"), ("name_source", "sni"), ("reason", "not-allowed")];
        flow_event(&mut events, &client, &fields).await;
    }
    assert!(!server.stdout().contains("evil.test"), "{}", server.stdout());
}

#[tokio::test]
async fn t02_to_t07_a_hello_in_many_segments_is_judged_whole() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, &["raw.test:443"]).await;
    let hello = hello::plain("raw.test");
    let name = hello.windows(8).position(|part| part == b"raw.test").unwrap();
    for cut in [1, 3, 5, 6, 9, 11, 44, name - 1, name + 4, hello.len() - 1] {
        let seen = stage.server.connections().len();
        let (first, rest) = hello.split_at(cut);
        let mut client = stage.client();
        client.say_apart(lab.runner(0), &[first, rest]);
        stage.receives(&format!("T02 the hello cut at {cut}"), &hello, seen).await;
    }
    let seen = stage.server.connections().len();
    let mut client = stage.client();
    for byte in &hello {
        client.say(&[*byte]);
    }
    stage.receives("T03 the hello byte by byte", &hello, seen).await;
    let hello = hello::plain("evil.test");
    let (first, rest) = hello.split_at(name + 3);
    let seen = stage.server.connections().len();
    let mut client = stage.client();
    let outcome = client.say_apart(lab.runner(0), &[first, rest]).hear_all();
    assert_eq!(outcome.alert(), Some(ACCESS_DENIED), "{outcome:?}");
    flow_event(&mut stage.events, &client, &[("name", "evil.test"), ("reason", "not-allowed")]).await;
    stage.unseen("a refused hello in two segments", seen);
}

#[tokio::test]
async fn t15_t21_t25_t39_what_servers_accept_is_judged_and_passed_as_it_came() {
    let lab = Lab::builder().build().unwrap();
    let stage = Stage::new(&lab, &["raw.test:443"]).await;
    let message = Hello::named("raw.test").message();
    let empty = record(22, 0x0303, &[]);
    let empties = [empty.repeat(31), records(0x0303, &message, RECORD)].concat();
    let odd_sizes = message.chunks(50).flat_map(|piece| [empty.clone(), record(22, 0x0301, piece)].concat());
    for (what, bytes) in [
        ("T21 31 empty records in front", empties),
        ("T15 empty records in between", odd_sizes.collect()),
        ("T18 hello version 0304", Hello::named("raw.test").version(0x0304).wire()),
        ("T18 hello version 0302", Hello::named("raw.test").version(0x0302).wire()),
        ("T25 upper case", Hello::named("RaW.tEsT").wire()),
        ("T39 a trailing dot", Hello::named("raw.test.").wire()),
        ("no session id", Hello::named("raw.test").session(&[]).wire()),
        ("unknown protocols", Hello::named("raw.test").alpn(&["x-one", "http/0.9"]).wire()),
    ] {
        stage.passes(what, &bytes).await;
    }
}

#[tokio::test]
async fn t53_a_hello_past_64_kib_is_refused() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, &["raw.test:443"]).await;
    stage.passes("just within 64 KiB", &Hello::named("raw.test").padded(64 << 10).wire()).await;
    let bytes = Hello::named("raw.test").padded(128 << 10).wire();
    stage.refused("T53 128 KiB", &bytes, ACCESS_DENIED, "detect-timeout").await;
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
        ("T19 a change of cipher spec in front", behind(record(20, 0x0303, &[1]))),
        ("T20 a warning in front", behind(record(21, 0x0301, &[1, 0]))),
        ("T21 33 empty records", behind(record(22, 0x0301, &[]).repeat(33))),
        ("T48 the session id's length lies", lying(43, 200)),
        ("T48 the suites' length lies", lying(77, 1)),
        ("T49 bytes behind the hello in its record", message_of(&trailing)),
        ("T49 bytes behind the last extension", message_of(&trailing_inside)),
        ("T47 a name of 300 octets", Hello::named([b'a'; 300]).wire()),
        ("T47 a label of 64 octets", Hello::named([&[b'a'; 64][..], b".raw.test"].concat()).wire()),
        ("T57 an SSLv2 hello", sslv2_hello()),
        ("another handshake message", message_of(&hello::handshake(2, &[3; 80]))),
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
        ("T33 two extensions, the other order", twice("evil.test", "raw.test")),
        ("T34 the same extension twice", twice("raw.test", "raw.test")),
        ("T35 two names", listing(&[(0, b"raw.test"), (0, b"evil.test")])),
        ("T36 one name twice", listing(&[(0, b"raw.test"), (0, b"raw.test")])),
        ("T37 an unknown type first", listing(&[(1, b"evil.test"), (0, b"raw.test")])),
        ("T48 the list's length lies", Hello::nameless().with(SERVER_NAME, lying).wire()),
        ("T38 a NUL", Hello::named(b"raw.test\0.evil.test").wire()),
        ("T40 a NUL at the end", Hello::named(b"raw.test\0").wire()),
        ("T43 a port", Hello::named("raw.test:443").wire()),
        ("T44 a space", Hello::named("raw.test ").wire()),
        ("T45 a line feed", Hello::named("raw.test\n").wire()),
        ("T46 another name behind a comma", Hello::named("raw.test,evil.test").wire()),
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
        stage.refused(what, &hello::plain(name), ACCESS_DENIED, "not-allowed").await;
    }
}

#[tokio::test]
async fn t30_to_t32_no_name_an_empty_one_or_an_address_need_the_only_ticketed_name() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, &["raw.test:443"]).await;
    let shapes = [
        ("T30 no name", Hello::nameless().wire()),
        ("T31 an empty extension", Hello::nameless().with(SERVER_NAME, vec![]).wire()),
        ("T31 an empty list", Hello::nameless().with(SERVER_NAME, vec![0, 0]).wire()),
        ("T31 an empty name", Hello::named("").wire()),
        ("T32 the flow's address", Hello::named("192.0.2.80").wire()),
    ];
    let foreign = [
        ("T32 another address", Hello::named("192.0.2.66").wire()),
        ("T32 another address of the other family", Hello::named("[2001:db8:200::66]").wire()),
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
async fn t54_grease_is_judged_by_its_outer_name() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, &["raw.test:443"]).await;
    let mut client = stage.client();
    let bytes = Hello::named("raw.test").ech(7).wire();
    client.say(&bytes);
    stage.receives("GREASE under an allowed name", &bytes, 0).await;
    client.shut();
    let fields = [("verdict", "permit"), ("name", "raw.test"), ("ech_present", "true")];
    flow_event(&mut stage.events, &client, &fields).await;
    let bytes = Hello::named("evil.test").ech(7).wire();
    stage.refused("GREASE under a refused name", &bytes, ACCESS_DENIED, "not-allowed").await;
}

#[tokio::test]
async fn t55_t56_a_published_config_id_and_esni_are_refused() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, &["raw.test:443"]).await;
    let records = ["A 192.0.2.80", &format!("HTTPS 1 . alpn=h2 ech={ECH_OF_RAW}")];
    lab.dns().set("raw.test", &records).unwrap();
    // Without any query of the job: it may know the configuration from elsewhere.
    stage.refused("T55 id 7", &Hello::named("raw.test").ech(7).wire(), ACCESS_DENIED, "ech").await;
    stage.passes("T54 another id is GREASE", &Hello::named("raw.test").ech(8).wire()).await;
    stage.refused("T56 ESNI", &Hello::named("raw.test").esni().wire(), ACCESS_DENIED, "ech").await;
    // D25: the answer does not show the configuration.
    let answer = run(&lab, &["dig", "+short", "HTTPS", "raw.test"]).await.expect_success();
    assert!(answer.text().contains("alpn") && !answer.text().contains("ech"), "{answer}");
    stage.refused("T55 after the answer", &Hello::named("raw.test").ech(7).wire(), ACCESS_DENIED, "ech").await;
}

#[tokio::test]
async fn t55_the_config_id_of_any_name_at_the_address_is_refused() {
    let lab = Lab::builder().build().unwrap();
    let records = ["A 192.0.2.20", &format!("HTTPS 1 . ech={ECH_OF_CDN_B}")];
    lab.dns().set("cdn-b.test", &records).unwrap();
    // cdn-b is allowed on another port: its records may be asked for, its site on 443 may not be reached.
    let gateway = started(&lab, &block(&["cdn-a.test:443", "cdn-b.test:80"])).await;
    let hello = Hello::named("cdn-a.test").ech(9).wire();
    let grease = hello::send(lab.runner(0), "192.0.2.20:443", &hello);
    assert!(grease.accepted(), "nobody published id 9 yet: {grease:?}");
    run(&lab, &["dig", "+short", "HTTPS", "cdn-b.test"]).await.expect_success();
    run(&lab, &["dig", "+short", "cdn-b.test"]).await.expect_success();
    let before = lab.origins().connections().len();
    let mut client = Client::connect(lab.runner(0), "192.0.2.20:443");
    let outcome = client.say(&hello).hear_all();
    assert_eq!(outcome.alert(), Some(ACCESS_DENIED), "{outcome:?}");
    flow_event(&mut gateway.events(), &client, &[("name", "cdn-a.test"), ("reason", "ech")]).await;
    let new = lab.origins().connections().split_off(before);
    assert!(new.iter().all(|one| one.sni.is_none()), "{new:?}");
}

#[tokio::test]
async fn t22_t23_an_urgent_byte_is_judged_as_the_origin_gets_it() {
    let lab = Lab::builder().build().unwrap();
    let stage = Stage::new(&lab, &["raw.test:443"]).await;
    // Read in line, the urgent byte makes the hello malformed; read out of band, the hello is honest.
    let hello = hello::plain("raw.test");
    let hex = hello.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let script = "import socket, sys\n\
                  hello = bytes.fromhex(sys.argv[1])\n\
                  peer = socket.create_connection(('192.0.2.80', 443), 10)\n\
                  peer.send(hello[:60])\n\
                  peer.send(b'!', socket.MSG_OOB)\n\
                  peer.send(hello[60:])\n\
                  peer.settimeout(10)\n\
                  peer.shutdown(socket.SHUT_WR)\n\
                  print(peer.recv(100).hex())\n";
    let client = run(&lab, &["python3", "-c", script, &hex]).await;
    let received: Vec<_> = stage.server.connections().into_iter().map(|one| one.received).collect();
    let in_line = [&hello[..60], b"!", &hello[60..]].concat();
    assert!(!received.contains(&in_line), "the origin got another hello than the one judged: {client}");
    let refused = client.text().starts_with("1503") && received.iter().all(Vec::is_empty);
    assert!(received.contains(&hello) || refused, "neither judged nor refused: {client}, {received:?}");
}

#[tokio::test]
async fn t58_to_t62_other_protocols_on_443_are_judged_by_content_and_ticket() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, &["raw.test:443"]).await;
    let request = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    // T58: HTTP on 443 is HTTP: its Host is judged.
    let mut client = stage.client();
    let outcome = client.say(&request("evil.test")).hear_all();
    assert!(outcome.text().starts_with("HTTP/1.1 403 "), "{outcome:?}");
    flow_event(&mut stage.events, &client, &[("kind", "http"), ("name", "evil.test"), ("reason", "not-allowed")]).await;
    // T62: a PROXY line is no way to bring another hello behind it.
    let proxy_line = [b"PROXY TCP4 10.0.0.1 10.0.0.2 1 443\r\n", &hello::plain("raw.test")[..]].concat();
    let mut client = stage.client();
    client.say(&proxy_line).hear_all();
    flow_event(&mut stage.events, &client, &[("verdict", "refuse"), ("reason", "malformed-http")]).await;
    // T61: HTTP/2 with prior knowledge.
    stage.events.forget();
    let h2 = ["curl", "-sS", "-m", "5", "--http2-prior-knowledge", "--resolve", "evil.test:443:192.0.2.80"];
    run(&lab, &[&h2[..], &["http://evil.test:443/"]].concat()).await;
    event(&mut stage.events, &[("kind", "http"), ("name", "evil.test"), ("reason", "not-allowed")]).await;
    stage.unseen("refused HTTP on 443", 0);
    // T59, T60: SSH and random bytes: towards an address without a name they are refused.
    let elsewhere = lab.raw("192.0.2.66:8443".parse().unwrap(), Script::silent()).unwrap();
    for bytes in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], &[0xf5, 0x91, 0x02, 0xa7, 0x00, 0x5c, 0xee, 0x13]] {
        let mut client = Client::connect(lab.runner(0), "192.0.2.66:8443");
        let outcome = client.say(bytes).hear_all();
        assert!(outcome.closed() && outcome.received.is_empty(), "{outcome:?}");
        flow_event(&mut stage.events, &client, &[("kind", "tcp"), ("reason", "no-name")]).await;
    }
    assert!(elsewhere.connections().is_empty());
    // The ticket for an allowed name permits the same bytes on the same port.
    run(&lab, &["dig", "+short", "raw.test"]).await.expect_success();
    stage.passes("T59 SSH where the ticket allows it", b"SSH-2.0-OpenSSH_9.2\r\n").await;
    stage.passes("T60 random bytes", &[0xf5, 0x91, 0x02, 0xa7, 0x00, 0x5c, 0xee, 0x13]).await;
    // Tickets are for protocols without a name: HTTP still is judged by its Host.
    let seen = stage.server.connections().len();
    let outcome = stage.client().say(&request("evil.test")).hear_all().clone();
    assert!(outcome.text().starts_with("HTTP/1.1 403 "), "{outcome:?}");
    stage.unseen("a refused Host at a ticketed address", seen);
}
