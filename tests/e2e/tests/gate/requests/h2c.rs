//! HTTP/2 in the clear: with prior knowledge, and the upgrade to it that is taken out.

use tidegate_e2e::hello::{Client, Outcome};
use tidegate_e2e::{audit, block, event, run, started};
use tidegate_lab::Lab;

use super::unharmed;

/// The client's preface and an empty SETTINGS frame (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A GET of `/` on a stream: HEADERS with END_STREAM and END_HEADERS. The fields are written as RFC 7541 §6
/// lets them be: three from the static table, `:authority` and, where given, `host` without Huffman coding.
fn get(stream: u32, authority: &str, host: Option<&str>) -> Vec<u8> {
    let mut block = vec![0x82, 0x84, 0x86, 0x01, authority.len() as u8];
    block.extend(authority.as_bytes());
    if let Some(host) = host {
        block.extend([0x0f, 0x17, host.len() as u8]);
        block.extend(host.as_bytes());
    }
    let length = (block.len() as u32).to_be_bytes();
    [&length[1..], &[1, 5], &stream.to_be_bytes(), &block].concat()
}

#[tokio::test]
async fn h28_each_stream_of_an_h2c_connection_is_judged_by_its_authority() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:80", "cdn-a.test:80"])).await;
    let mut client = Client::connect(lab.runner(0), "192.0.2.10:80");
    let streams = [
        get(1, "allowed.test", None),
        get(3, "evil.test", None),
        get(5, "cdn-a.test", None),
        get(7, "ALLOWED.test.", None),
    ];
    client.say(&[PREFACE, &streams.concat()].concat());
    let answered = |outcome: &Outcome| {
        let text = outcome.text();
        text.matches("hello from ").count() == 3 && text.contains("allowed-endpoints")
    };
    let outcome = client.hear(answered).clone();
    assert!(answered(&outcome), "{}", outcome.text());
    let text = outcome.text();
    assert!(
        text.contains("hello from cdn-a.test") && text.contains("hello from allowed.test"),
        "{text}"
    );
    assert!(
        text.contains("evil.test:80") && text.contains("not-allowed"),
        "the page explains itself: {text}"
    );
    let fields = [
        ("kind", "http"),
        ("name", "evil.test"),
        ("reason", "not-allowed"),
        ("verdict", "refuse"),
    ];
    event(&mut gateway.events(), &fields).await;
    drop(client);
    event(
        &mut gateway.events(),
        &[("kind", "http"), ("name", "cdn-a.test"), ("verdict", "permit")],
    )
    .await;
    assert_eq!(lab.origins().requests_of("cdn-a.test").len(), 1);
    assert!(
        lab.origins()
            .requests()
            .iter()
            .all(|request| request.version == "HTTP/2.0")
    );
    unharmed(&lab);
}

#[tokio::test]
async fn h12_a_host_field_beside_another_authority_is_refused() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:80"])).await;
    let mixed = [("allowed.test", "evil.test"), ("evil.test", "allowed.test")];
    for (authority, host) in mixed {
        let mut client = Client::connect(lab.runner(0), "192.0.2.10:80");
        client.say(
            &[
                PREFACE,
                &get(1, authority, Some(host)),
                &get(3, "allowed.test", Some("allowed.test")),
            ]
            .concat(),
        );
        let outcome = client.hear(|outcome| outcome.text().contains("hello from allowed.test"));
        assert_eq!(
            outcome.text().matches("hello from").count(),
            1,
            "{}",
            outcome.text()
        );
    }
    let seen = lab.origins().requests();
    assert!(
        seen.iter().all(|one| !format!("{one:?}").contains("evil")),
        "{seen:?}"
    );
    event(&mut gateway.events(), &[("kind", "http"), ("verdict", "refuse")]).await;
    unharmed(&lab);
}

#[tokio::test]
async fn h28_large_bodies_pass_both_ways() {
    let lab = Lab::builder().build().unwrap();
    let _gateway = started(&lab, &block(&["allowed.test:8080"])).await;
    std::fs::write(lab.runner(0).home().join("body"), "x".repeat(400_000)).unwrap();
    let http2 = [
        "curl",
        "-sS",
        "--http2-prior-knowledge",
        "-w",
        "%{size_download} %{http_version}",
        "-o",
        "/dev/null",
    ];
    let down = run(
        &lab,
        &[&http2[..], &["http://allowed.test:8080/bytes/3000000"]].concat(),
    )
    .await
    .expect_success();
    assert_eq!(down.text(), "3000000 2");
    let up = run(
        &lab,
        &[
            &http2[..],
            &["--data-binary", "@body", "http://allowed.test:8080/echo"],
        ]
        .concat(),
    )
    .await;
    assert_eq!(up.expect_success().text(), "400000 2");
}

#[tokio::test]
async fn h27_the_upgrade_to_h2c_is_taken_out_in_block_and_left_in_audit() {
    let lab = Lab::builder().build().unwrap();
    let line = [
        "curl",
        "-sS",
        "-m",
        "5",
        "--http2",
        "-w",
        " %{http_version} %{http_code}",
        "http://allowed.test/",
    ];
    {
        let _gateway = started(&lab, &block(&["allowed.test:80"])).await;
        let page = run(&lab, &line).await.expect_success();
        assert!(
            page.text().contains("hello from allowed.test") && page.text().ends_with(" 1.1 200"),
            "{page}"
        );
    }
    let sent = lab.origins().requests();
    let names: Vec<_> = sent
        .iter()
        .flat_map(|one| one.headers.iter().map(|(name, _)| name.as_str()))
        .collect();
    assert!(
        !names.contains(&"upgrade") && !names.contains(&"http2-settings"),
        "{names:?}"
    );
    let _gateway = started(&lab, &audit(&[])).await;
    run(&lab, &line).await.expect_success();
    let seen = lab.origins().requests();
    let last = &seen.last().unwrap().headers;
    assert!(
        last.iter()
            .any(|(name, value)| name == "upgrade" && value == "h2c"),
        "{last:?}"
    );
}
