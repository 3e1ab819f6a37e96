//! HTTP in audit: observed, not re-framed. Malformed requests pass as they came, and are recorded.

use tidegate_e2e::hello::Client;
use tidegate_e2e::{PATIENCE, audit, event, started};
use tidegate_lab::{Lab, Script, plan, wait_until};

use super::{OK, statuses};

#[tokio::test]
async fn every_byte_passes_as_it_came_and_would_refuse_is_recorded() {
    let lab = Lab::builder().build().unwrap();
    lab.name("raw.test", &plan::site(80)).unwrap();
    let server = lab
        .raw("192.0.2.80:80".parse().unwrap(), Script::reply_to("\r\n\r\n", OK))
        .unwrap();
    let gateway = started(&lab, &audit(&["raw.test:80"])).await;
    for (request, name, reason) in [
        (
            "GET / HTTP/1.1\r\nhOsT:evil.test\r\n\r\n",
            Some("evil.test"),
            "not-allowed",
        ),
        (
            "GET / HTTP/1.1\r\nHost: raw.test\r\nHost: evil.test\r\n\r\n",
            None,
            "malformed-http",
        ),
        (
            "GET / HTTP/1.1\nHost: raw.test\r\n folded\r\n\r\n",
            None,
            "malformed-http",
        ),
        (
            "POST / HTTP/1.1\r\nHost: raw.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            None,
            "malformed-http",
        ),
        (
            "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n",
            Some("evil.test"),
            "proxy-request",
        ),
    ] {
        let seen = server.connections().len();
        let mut client = Client::connect(lab.runner(0), "192.0.2.80:80");
        let outcome = client
            .say(request.as_bytes())
            .hear(|outcome| !statuses(outcome).is_empty());
        assert_eq!(statuses(outcome).first(), Some(&200), "{request:?}: {outcome:?}");
        let arrived = wait_until("the bytes", PATIENCE, async || {
            let new = server.connections()[seen..]
                .iter()
                .map(|one| one.received.clone())
                .collect::<Vec<_>>()
                .concat();
            if new == request.as_bytes() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&new).into_owned())
            }
        });
        arrived.await.unwrap();
        // What passed is recorded once, when it ends.
        drop(client);
        let mut fields = vec![("kind", "http"), ("reason", reason), ("verdict", "would-refuse")];
        fields.extend(name.map(|name| ("name", name)));
        event(&mut gateway.events(), &fields).await;
    }
}

#[tokio::test]
async fn each_request_of_a_kept_connection_is_recorded_by_its_own_name() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &audit(&["allowed.test:80"])).await;
    let mut client = Client::connect(lab.runner(0), "192.0.2.10:80");
    for (answers, name) in ["allowed.test", "cdn-a.test", "evil.test"].iter().enumerate() {
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
        let outcome = client
            .say(request.as_bytes())
            .hear(|outcome| statuses(outcome).len() > answers);
        assert_eq!(statuses(outcome).get(answers), Some(&200), "{name}: {outcome:?}");
    }
    client.shut().hear_all();
    // All of them went where the client had connected.
    assert_eq!(
        lab.origins().connections().len(),
        1,
        "{:?}",
        lab.origins().connections()
    );
    let mut events = gateway.events();
    for name in ["cdn-a.test", "evil.test"] {
        let fields = [
            ("kind", "http"),
            ("name", name),
            ("reason", "not-allowed"),
            ("verdict", "would-refuse"),
        ];
        event(&mut events, &fields).await;
    }
}
