//! Heads that two readers could read differently: refused, or judged by the one canonical reading.

use tidegate_e2e::event;
use tidegate_lab::Lab;

use super::rows::Wanted::{Either, Judged, Refused};
use super::rows::{DISGUISES, HEADS};
use super::{Stage, statuses};

#[tokio::test]
async fn h02_to_h43_heads_are_judged_by_one_reading_or_refused() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, 80).await;
    for (row, wanted, head) in HEADS {
        let names = if head.contains("evil") {
            &["raw.test"][..]
        } else {
            &["raw.test", "evil.test"]
        };
        for &name in names {
            let outcome = stage.ask(head.replace("{}", name), 1);
            let status = statuses(&outcome).first().copied().unwrap_or_default();
            let right: &[u16] = match (wanted, name) {
                (Judged, "raw.test") => &[200],
                (Judged, _) => &[403],
                (Refused(codes), _) => codes,
                (Either, "raw.test") => &[200, 400],
                (Either, _) => &[403, 400],
            };
            assert!(
                right.contains(&status),
                "{row} with {name}: {status}, not {right:?}: {outcome:?}"
            );
        }
        assert!(!stage.received().contains("evil"), "{row}: {}", stage.received());
    }
    for (name, reason) in [("evil.test", "not-allowed"), ("raw.test", "proxy-request")] {
        event(
            &mut stage.events,
            &[
                ("kind", "http"),
                ("name", name),
                ("reason", reason),
                ("verdict", "refuse"),
            ],
        )
        .await;
    }
    event(
        &mut stage.events,
        &[
            ("kind", "http"),
            ("reason", "malformed-http"),
            ("verdict", "refuse"),
        ],
    )
    .await;
    // One canonical Host in each head that was passed on, and nothing of the others.
    let all = stage.received();
    let heads = all.matches("HTTP/1.").count();
    assert!(
        heads
            >= HEADS
                .iter()
                .filter(|(_, wanted, _)| matches!(wanted, Judged))
                .count(),
        "{all}"
    );
    assert_eq!(
        all.to_ascii_lowercase().matches("\r\nhost: raw.test").count(),
        heads,
        "{all}"
    );
}

#[tokio::test]
async fn h43_disguised_requests_are_http_on_any_port() {
    let lab = Lab::builder().build().unwrap();
    // On this port an opaque protocol to the ticketed address would be permitted.
    let mut stage = Stage::new(&lab, 7000).await;
    assert_eq!(
        tidegate_e2e::dns::dig(&lab, &["raw.test"]).await.data(),
        ["192.0.2.80"]
    );
    for start in DISGUISES {
        let outcome = stage.ask(format!("{start} HTTP/1.1\r\nHost: evil.test\r\n\r\n"), 1);
        let status = statuses(&outcome).first().copied();
        assert!(matches!(status, Some(400 | 403)), "{start:?}: {outcome:?}");
        assert!(
            !stage.received().contains("evil"),
            "{start:?}: {}",
            stage.received()
        );
    }
    event(
        &mut stage.events,
        &[("kind", "http"), ("port", "7000"), ("verdict", "refuse")],
    )
    .await;
    // What is opaque for certain passes on this port.
    stage
        .client()
        .say(b"\x01\x02binary\r\n\r\n")
        .hear(|outcome| !statuses(outcome).is_empty());
    stage.receives("\u{1}\u{2}binary").await;
}

#[tokio::test]
async fn h24_chunk_extensions_and_odd_chunks_are_framed_anew() {
    let lab = Lab::builder().build().unwrap();
    let stage = Stage::new(&lab, 80).await;
    let chunked =
        |body: &str| format!("POST / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    for good in [
        "5;ext=\"evil.test\"\r\nhello\r\n0\r\n\r\n",
        "0005\r\nhello\r\n000\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
    ] {
        let outcome = stage.ask(chunked(good), 1);
        assert!(
            matches!(statuses(&outcome).first(), Some(200 | 400)),
            "{good:?}: {outcome:?}"
        );
    }
    for bad in [
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5\r\nhelloGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    ] {
        let mut client = stage.client();
        // The origin of this test answers the head alone, so the connection may have begun its answer.
        let outcome = client.say(chunked(bad).as_bytes()).shut().hear_all();
        assert!(statuses(outcome).len() <= 1, "{bad:?}: {outcome:?}");
    }
    let all = stage.received();
    assert!(
        !all.contains("ext=") && !all.contains("evil") && !all.contains("0x5"),
        "{all}"
    );
}

#[tokio::test]
async fn h40_an_address_as_host_follows_the_address_rules() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, 80).await;
    for host in [
        "192.0.2.66",
        "[2001:db8:200::66]",
        "169.254.169.254",
        "127.0.0.1",
        "10.77.1.1",
    ] {
        let outcome = stage.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), 1);
        assert_eq!(statuses(&outcome), [403], "{host}: {outcome:?}");
    }
    for host in [
        "0x7f000001",
        "2130706433",
        "0300.0.2.66",
        "[::ffff:192.0.2.66",
        "192.0.2",
    ] {
        let outcome = stage.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), 1);
        assert!(
            matches!(statuses(&outcome)[..], [400 | 403]),
            "{host}: {outcome:?}"
        );
    }
    event(
        &mut stage.events,
        &[("kind", "http"), ("reason", "no-name"), ("verdict", "refuse")],
    )
    .await;
    assert_eq!(stage.received(), "");
}
