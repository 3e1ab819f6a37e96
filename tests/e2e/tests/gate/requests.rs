//! Cleartext HTTP as nobody's library writes it (evasions.md, H rows): each request is judged by its own
//! authority, whatever connection, framing or proxy it comes by. What was refused never reached an origin,
//! in any reading.

mod audit;
mod corpus;
mod h2c;
mod heads;
mod keepalive;
mod proxies;
mod rows;

use tidegate_e2e::hello::{Client, Outcome};
use tidegate_e2e::{PATIENCE, block, gateway, start};
use tidegate_lab::{EventLog, Gateway, Lab, RawServer, Script, plan, wait_until};

/// What `raw.test` answers to every blank line.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A gateway in front of `raw.test`, which records every byte and answers 200.
struct Stage<'a> {
    lab: &'a Lab,
    _gateway: Gateway<'a>,
    events: EventLog,
    server: RawServer,
    address: String,
}

impl<'a> Stage<'a> {
    async fn new(lab: &'a Lab, port: u16) -> Self {
        lab.name("raw.test", &plan::site(80)).unwrap();
        let address = format!("192.0.2.80:{port}");
        let server = lab
            .raw(address.parse().unwrap(), Script::reply_to("\r\n\r\n", OK))
            .unwrap();
        // Byte by byte takes longer than a real client on a busy machine; no test here is about the timeout.
        let policy = block(&[&format!("raw.test:{port}")]);
        let gateway = start(gateway(lab, &policy).section("proxy: {detect-timeout: 20s}")).await;
        Self {
            lab,
            events: gateway.events(),
            _gateway: gateway,
            server,
            address,
        }
    }

    fn client(&self) -> Client {
        Client::connect(self.lab.runner(0), &self.address)
    }

    /// Says a request and hears until `answers` final answers or the end.
    fn ask(&self, request: impl AsRef<[u8]>, answers: usize) -> Outcome {
        self.client()
            .say(request.as_ref())
            .hear(|outcome| statuses(outcome).len() >= answers)
            .clone()
    }

    /// Everything that the server got so far, on all connections.
    fn received(&self) -> String {
        let bytes: Vec<u8> = self
            .server
            .connections()
            .into_iter()
            .flat_map(|one| one.received)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the server got `part`.
    async fn receives(&self, part: &str) {
        let what = format!("{part:?} at the server");
        let got = wait_until(&what, PATIENCE, async || {
            let all = self.received();
            if all.contains(part) { Ok(()) } else { Err(all) }
        });
        got.await.unwrap();
    }
}

/// The status codes of the answers heard so far.
fn statuses(outcome: &Outcome) -> Vec<u16> {
    let text = outcome.text();
    let starts = text
        .match_indices("HTTP/1.1 ")
        .filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok());
    starts.collect()
}

/// No site got a request for evil.test, and nobody connected to its address.
fn unharmed(lab: &Lab) {
    let requests = lab.origins().requests();
    let evil = requests
        .iter()
        .find(|one| one.authority.as_ref().is_some_and(|name| name.contains("evil")));
    assert!(evil.is_none(), "{evil:?}");
    for site in plan::site(66) {
        assert!(lab.origins().connections_to(site).is_empty());
    }
}
