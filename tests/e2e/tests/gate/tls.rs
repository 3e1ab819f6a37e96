//! TLS as nobody's library writes it (evasions.md, T rows): hellos in any segments, records, versions and
//! sizes are judged by what an origin would read, and what two origins could read differently is refused.
//! Each test shows what the origin saw.

mod audit;
mod ech;
mod names;
mod shapes;

use tidegate_e2e::hello::{self, Client};
use tidegate_e2e::{PATIENCE, block, flow_event, run, started};
use tidegate_lab::{EventLog, Gateway, Lab, RawServer, Script, plan, wait_until};

/// `access_denied` (RFC 8446 §6.2).
const ACCESS_DENIED: u8 = 49;
/// `decode_error`.
const DECODE_ERROR: u8 = 50;
/// Where `raw.test` records what it gets and says nothing.
const RAW: &str = "192.0.2.80:443";

/// A gateway in front of a server that records.
struct Stage<'a> {
    lab: &'a Lab,
    _gateway: Gateway<'a>,
    events: EventLog,
    server: RawServer,
}

impl<'a> Stage<'a> {
    /// One that blocks all but these endpoints.
    async fn new(lab: &'a Lab, endpoints: &[&str]) -> Self {
        Self::with(lab, &block(endpoints)).await
    }

    async fn with(lab: &'a Lab, policy: &str) -> Self {
        lab.name("raw.test", &plan::site(80)).unwrap();
        let server = lab.raw(RAW.parse().unwrap(), Script::silent()).unwrap();
        let gateway = started(lab, policy).await;
        Self {
            lab,
            events: gateway.events(),
            _gateway: gateway,
            server,
        }
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
            Err(format!(
                "of {} bytes these arrived, and whether they ended: {lengths:?}",
                sent.len()
            ))
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
        flow_event(
            &mut self.events,
            &client,
            &[("kind", "tls"), ("verdict", "refuse"), ("reason", reason)],
        )
        .await;
        self.unseen(what, seen);
    }

    fn unseen(&self, what: &str, seen: usize) {
        // An early dial, where the opaque row permits one, brings a connection; nothing may be in it.
        let connections = self.server.connections();
        let new = &connections[seen.min(connections.len())..];
        assert!(
            new.iter().all(|one| one.length == 0),
            "{what}: the server got {new:?}"
        );
    }
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
        stage
            .receives(&format!("T02 the hello cut at {cut}"), &hello, seen)
            .await;
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
    flow_event(
        &mut stage.events,
        &client,
        &[("name", "evil.test"), ("reason", "not-allowed")],
    )
    .await;
    stage.unseen("a refused hello in two segments", seen);
}

#[tokio::test]
async fn t22_t23_an_urgent_byte_is_judged_as_the_origin_gets_it() {
    let lab = Lab::builder().build().unwrap();
    let stage = Stage::new(&lab, &["raw.test:443"]).await;
    // Read in line, the urgent byte makes the hello malformed; read out of band, the hello is honest.
    let hello = hello::plain("raw.test");
    let hex = hello
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
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
    let received: Vec<_> = stage
        .server
        .connections()
        .into_iter()
        .map(|one| one.received)
        .collect();
    let in_line = [&hello[..60], b"!", &hello[60..]].concat();
    assert!(
        !received.contains(&in_line),
        "the origin got another hello than the one judged: {client}"
    );
    let refused = client.text().starts_with("1503") && received.iter().all(Vec::is_empty);
    assert!(
        received.contains(&hello) || refused,
        "neither judged nor refused: {client}, {received:?}"
    );
}
