//! Forward proxies: the proxy must be permitted, the target must be allowed, and what goes through the tunnel
//! is judged anew.

use tidegate_e2e::hello::{self, Client, Outcome};
use tidegate_e2e::{PATIENCE, block, event, gateway, start};
use tidegate_lab::{EventLog, Gateway, Lab, RawServer, Script, wait_until};

use super::statuses;

const GRANTED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// A proxy that the policy permits at 192.0.2.80:3128, and one that it does not at 192.0.2.81:3128.
struct Proxies<'a> {
    lab: &'a Lab,
    _gateway: Gateway<'a>,
    events: EventLog,
    permitted: RawServer,
    other: RawServer,
}

impl<'a> Proxies<'a> {
    async fn new(lab: &'a Lab) -> Self {
        let proxy = |at: &str| {
            lab.raw(at.parse().unwrap(), Script::reply_to("\r\n\r\n", GRANTED))
                .unwrap()
        };
        let (permitted, other) = (proxy("192.0.2.80:3128"), proxy("192.0.2.81:3128"));
        let policy = block(&[
            "192.0.2.80:3128",
            "allowed.test:443",
            "allowed.test:80",
            "192.0.2.10:8443",
        ]);
        let gateway = start(gateway(lab, &policy)).await;
        Self {
            lab,
            events: gateway.events(),
            _gateway: gateway,
            permitted,
            other,
        }
    }

    fn ask(&self, proxy: &str, request: &str) -> (Client, Outcome) {
        let mut client = Client::connect(self.lab.runner(0), proxy);
        let outcome = client
            .say(request.as_bytes())
            .hear(|outcome| !statuses(outcome).is_empty())
            .clone();
        (client, outcome)
    }

    fn connect(&self, target: &str) -> (Client, Outcome) {
        self.ask(
            "192.0.2.80:3128",
            &format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"),
        )
    }

    fn received(&self) -> Vec<u8> {
        self.permitted
            .connections()
            .into_iter()
            .flat_map(|one| one.received)
            .collect()
    }

    async fn receives(&self, part: &[u8]) {
        let got = wait_until("bytes at the proxy", PATIENCE, async || {
            let all = self.received();
            let found = all.windows(part.len()).any(|window| window == part);
            if found {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&all).into_owned())
            }
        });
        got.await.unwrap();
    }
}

#[tokio::test]
async fn h25_connect_through_a_permitted_proxy_needs_an_allowed_target() {
    let lab = Lab::builder().build().unwrap();
    let mut proxies = Proxies::new(&lab).await;
    for target in ["allowed.test:443", "ALLOWED.test.:443", "192.0.2.10:8443"] {
        let (_, granted) = proxies.connect(target);
        assert_eq!(statuses(&granted), [200], "{target}: {granted:?}");
    }
    proxies.receives(b"CONNECT allowed.test:443 HTTP/1.1\r\n").await;
    let before = proxies.received();
    for (target, reason) in [
        ("evil.test:443", "not-allowed"),
        ("allowed.test:22", "not-allowed"),
        ("192.0.2.66:443", "no-name"),
        ("169.254.169.254:80", "never-dial"),
        ("10.77.1.1:9464", "never-dial"),
    ] {
        let (_, refused) = proxies.connect(target);
        assert_eq!(statuses(&refused), [405], "{target}: {refused:?}");
        event(
            &mut proxies.events,
            &[("kind", "http"), ("reason", reason), ("verdict", "refuse")],
        )
        .await;
    }
    event(
        &mut proxies.events,
        &[("kind", "http"), ("name", "evil.test"), ("reason", "not-allowed")],
    )
    .await;
    assert_eq!(proxies.received(), before, "a refused target was passed on");
}

#[tokio::test]
async fn n04_the_stream_in_a_tunnel_is_judged_anew() {
    let lab = Lab::builder().build().unwrap();
    let mut proxies = Proxies::new(&lab).await;
    let (mut client, granted) = proxies.connect("allowed.test:443");
    assert_eq!(statuses(&granted), [200]);
    let inner = hello::plain("allowed.test");
    client.say(&inner);
    proxies.receives(&inner).await;
    let (mut client, granted) = proxies.connect("allowed.test:443");
    assert_eq!(statuses(&granted), [200]);
    let evil = hello::plain("evil.test");
    client.say(&evil).hear_all();
    event(
        &mut proxies.events,
        &[("kind", "tls"), ("name", "evil.test"), ("reason", "not-allowed")],
    )
    .await;
    let (mut client, _) = proxies.connect("allowed.test:80");
    client
        .say(b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        .hear(|outcome| statuses(outcome).len() > 1);
    event(
        &mut proxies.events,
        &[("kind", "http"), ("name", "evil.test"), ("reason", "not-allowed")],
    )
    .await;
    let all = proxies.received();
    assert!(
        !all.windows(4).any(|window| window == b"evil"),
        "{}",
        String::from_utf8_lossy(&all)
    );
}

#[tokio::test]
async fn h11_an_absolute_form_request_needs_a_permitted_proxy_and_an_allowed_target() {
    let lab = Lab::builder().build().unwrap();
    let mut proxies = Proxies::new(&lab).await;
    let get = |host: &str| format!("GET http://{host}/page HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let (_, granted) = proxies.ask("192.0.2.80:3128", &get("allowed.test"));
    assert_eq!(statuses(&granted), [200], "{granted:?}");
    proxies
        .receives(b"GET http://allowed.test/page HTTP/1.1\r\n")
        .await;
    for host in ["evil.test", "allowed.test:8080"] {
        let (_, refused) = proxies.ask("192.0.2.80:3128", &get(host));
        assert_eq!(statuses(&refused), [405], "{host}: {refused:?}");
    }
    event(
        &mut proxies.events,
        &[("kind", "http"), ("name", "evil.test"), ("reason", "not-allowed")],
    )
    .await;
    let all = String::from_utf8_lossy(&proxies.received()).into_owned();
    assert!(!all.contains("evil") && !all.contains("8080"), "{all}");
}

#[tokio::test]
async fn a_proxy_that_is_not_permitted_is_not_reached() {
    let lab = Lab::builder().build().unwrap();
    let mut proxies = Proxies::new(&lab).await;
    let connect = "CONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test:443\r\n\r\n";
    let (_, refused) = proxies.ask("192.0.2.81:3128", connect);
    assert_eq!(statuses(&refused), [405], "{refused:?}");
    let record = event(
        &mut proxies.events,
        &[
            ("kind", "http"),
            ("reason", "proxy-request"),
            ("verdict", "refuse"),
        ],
    )
    .await;
    assert_eq!(record["name"], "allowed.test", "{record}");
    assert!(proxies.other.connections().is_empty());
    // A name's own ticket permits a proxy too: allowed.test:80 is one when it is asked like one.
    assert_eq!(
        tidegate_e2e::dns::dig(&lab, &["allowed.test"]).await.data(),
        ["192.0.2.10"]
    );
    let (_, through) = proxies.ask(
        "192.0.2.10:80",
        "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n",
    );
    assert_eq!(statuses(&through), [405], "{through:?}");
    assert!(
        lab.origins().requests().is_empty(),
        "{:?}",
        lab.origins().requests()
    );
}
