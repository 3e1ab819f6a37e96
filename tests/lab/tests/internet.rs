//! Shows that the fake internet works for a machine without a gateway: names,
//! web sites, and the records of what reached them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use tidegate_lab::{Behaviour, Command, Lab, Output, Site, TlsMode, Transport, plan, wait_until};

const SOON: Duration = Duration::from_secs(10);

fn lab() -> Lab {
    Lab::builder().runners(0).direct().build().unwrap()
}

fn curl(lab: &Lab, args: &[&str]) -> Command {
    lab.direct().command("curl").arg("-sS").args(args)
}

async fn get(lab: &Lab, args: &[&str]) -> Output {
    curl(lab, args).run().await.unwrap().expect_success()
}

async fn dig(lab: &Lab, args: &[&str]) -> String {
    let dig = lab.direct().command("dig").args(["+tries=1", "+time=10"]);
    dig.args(args).run().await.unwrap().text()
}

#[tokio::test]
async fn https_over_both_families_and_versions_is_served_and_logged() {
    let lab = lab();
    for (family, version, name) in [("-4", "--http1.1", "HTTP/1.1"), ("-6", "--http2", "HTTP/2.0")] {
        let page = get(&lab, &[family, version, "https://allowed.test/?q=1"]).await;
        assert_eq!(page.text(), "hello from allowed.test\n");
        let requests = lab.origins().requests_of("allowed.test");
        let last = requests.last().unwrap();
        assert_eq!(last.version, name);
        assert_eq!(last.sni.as_deref(), Some("allowed.test"));
        assert_eq!(last.authority.as_deref(), Some("allowed.test"));
        assert_eq!((last.method.as_str(), last.path.as_str()), ("GET", "/?q=1"));
        assert_eq!(last.local.ip().is_ipv6(), family == "-6");
        assert!([plan::DIRECT_V4.into(), plan::DIRECT_V6.into()].contains(&last.peer.ip()));
    }
    assert!(lab.origins().requests_of("evil.test").is_empty());
    assert_eq!(lab.origins().connections_to(plan::site(66)[0]).len(), 0);
}

#[tokio::test]
async fn cleartext_speaks_http1_and_h2_with_prior_knowledge() {
    let lab = lab();
    for url in ["http://allowed.test/", "http://allowed.test:8080/"] {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let page = get(&lab, &[version, url]).await;
            assert_eq!(page.text(), "hello from allowed.test\n", "{version} {url}");
        }
    }
    let versions = lab
        .origins()
        .requests()
        .into_iter()
        .map(|request| request.version);
    let versions: Vec<_> = versions.collect();
    assert_eq!(versions, ["HTTP/1.1", "HTTP/2.0", "HTTP/1.1", "HTTP/2.0"]);
}

#[tokio::test]
async fn two_sites_share_an_address_like_a_cdn() {
    let lab = lab();
    for name in ["cdn-a.test", "cdn-b.test"] {
        let page = get(&lab, &[&format!("https://{name}/")]).await;
        assert_eq!(page.text(), format!("hello from {name}\n"));
    }
    // Domain fronting: the SNI names one, the Host the other.
    let fronted = get(&lab, &["-HHost: cdn-b.test", "https://cdn-a.test/"]).await;
    assert_eq!(fronted.text(), "hello from cdn-b.test\n");
    let request = lab.origins().requests_of("cdn-b.test").pop().unwrap();
    assert_eq!(request.sni.as_deref(), Some("cdn-a.test"));
}

#[tokio::test]
async fn the_attacker_takes_any_sni_and_nobody_trusts_it() {
    let lab = lab();
    let spoof = [
        "--resolve",
        "allowed.test:443:203.0.113.66",
        "https://allowed.test/",
    ];
    let refused = curl(&lab, &spoof).run().await.unwrap().expect_failure();
    assert_eq!(refused.code(), Some(60), "{refused}");
    let page = get(&lab, &[&["-k"], &spoof[..]].concat()).await;
    assert_eq!(page.text(), "hello from attacker.test\n");
    let request = lab.origins().requests_of("attacker.test").pop().unwrap();
    assert_eq!(request.sni.as_deref(), Some("allowed.test"));
}

#[tokio::test]
async fn pages_do_what_their_table_says() {
    let lab = lab();
    let url = |page: &str| format!("https://allowed.test/{page}");
    let bytes = get(&lab, &[&url("bytes/1000000")]).await;
    assert_eq!(bytes.stdout.len(), 1_000_000);
    let echoed = get(&lab, &["--data-binary", "a body", &url("echo")]).await;
    assert_eq!(echoed.text(), "a body");
    let headers = get(&lab, &["-HX-Mine: 1", &url("headers")]).await;
    assert!(headers.text().contains("x-mine: 1\n"), "{headers}");
    let status = get(&lab, &["-w%{http_code}", "-o/dev/null", &url("status/418")]).await;
    assert_eq!(status.text(), "418");
    let to = url("redirect?to=https://cdn-a.test/%3Fx");
    let redirected = get(&lab, &["-L", &to]).await;
    assert_eq!(redirected.text(), "hello from cdn-a.test\n");
    let trailers = get(&lab, &["--http1.1", "-i", &url("trailers")]).await;
    assert!(trailers.text().contains("one\ntwo\n"), "{trailers}");
    let empty = get(&lab, &[&url("bytes/0")]).await;
    assert!(empty.stdout.is_empty());
}

#[tokio::test]
async fn an_upgrade_is_taken_and_echoed() {
    let lab = lab();
    let request = "GET / HTTP/1.1\r\nHost: allowed.test\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\n\r\n";
    let mut client = lab
        .direct()
        .command("ncat")
        .args(["allowed.test", "80"])
        .spawn()
        .unwrap();
    let mut stdin = client.stdin().unwrap();
    let mut send = async |bytes: &[u8]| {
        tokio::io::AsyncWriteExt::write_all(&mut stdin, bytes)
            .await
            .unwrap();
    };
    let sees = async |wanted: &str| {
        wait_until(wanted, SOON, async || {
            let seen = client.stdout();
            if seen.contains(wanted) { Ok(()) } else { Err(seen) }
        })
        .await
        .unwrap();
    };
    send(request.as_bytes()).await;
    sees("HTTP/1.1 101").await;
    send(b"ping-pong").await;
    sees("ping-pong").await;
}

#[tokio::test]
async fn a_slow_download_lasts_until_it_is_released() {
    let lab = lab();
    let url = "https://allowed.test/slow/1000?pace=60000";
    let mut download = curl(&lab, &["-N", url]).spawn().unwrap();
    let begun = wait_until("the first piece", SOON, async || {
        let length = download.stdout().len();
        if length == 10 { Ok(()) } else { Err(length) }
    });
    begun.await.unwrap();
    assert!(download.wait(Duration::ZERO).await.is_none());
    lab.origins().release_downloads();
    assert!(download.wait(SOON).await.is_some_and(|status| status.success()));
    assert_eq!(download.kill().await.stdout.len(), 1000);
}

#[tokio::test]
async fn sites_can_insist_on_a_retry_or_on_tls12() {
    let lab = lab();
    let [retry, ..] = plan::site(70);
    let [old, ..] = plan::site(71);
    lab.add_site(Site::new("retry.test", [retry]).tls(TlsMode::HelloRetry))
        .unwrap();
    lab.add_site(Site::new("old.test", [old]).tls(TlsMode::Tls12))
        .unwrap();
    let trace = lab
        .direct()
        .command("openssl")
        .args(["s_client", "-msg", "-connect"]);
    let trace = trace.args(["retry.test:443", "-servername", "retry.test"]);
    let trace = trace.run().await.unwrap().expect_success().text();
    assert_eq!(trace.matches(", ClientHello").count(), 2, "{trace}");
    let page = get(&lab, &["-v", "https://old.test/"]).await;
    assert!(page.errors().contains("TLSv1.2"), "{page}");
    assert_eq!(lab.origins().requests_of("old.test").len(), 1);
}

#[tokio::test]
async fn dns_answers_over_udp_and_tcp_and_remembers_who_asked_what() {
    let lab = lab();
    for (server, name) in [
        ("198.51.100.53", "allowed.test"),
        ("2001:db8:100::53", "ALLOWED.test"),
    ] {
        for transport in ["+notcp", "+tcp"] {
            let answer = dig(&lab, &["+short", transport, &format!("@{server}"), name]).await;
            assert_eq!(answer, "192.0.2.10\n");
        }
    }
    let log = lab.dns().asked("allowed.test");
    assert_eq!(log.len(), 4);
    assert_eq!(log[2].spelled, "ALLOWED.test.");
    assert_eq!(
        (log[0].transport, log[1].transport),
        (Transport::Udp, Transport::Tcp)
    );
    assert_eq!(log[0].source.ip(), plan::DIRECT_V4);
    let edns = log[0].edns.as_ref().unwrap();
    assert_eq!(
        (edns.payload, &edns.options[..]),
        (1232, &[10][..]),
        "dig sends a cookie"
    );
    assert!(lab.dns().asked_below("evil.test").is_empty());
    let foreign = dig(&lab, &["@203.0.113.53", "allowed.test"]).await;
    assert!(foreign.contains("NXDOMAIN"), "{foreign}");
    assert_eq!(lab.foreign_dns().asked("allowed.test").len(), 1);
}

#[tokio::test]
async fn dns_behaviours_show_on_the_wire() {
    let lab = lab();
    lab.dns().set("x.test", &["A 192.0.2.99"]).unwrap();
    lab.dns().behave("x.test", Behaviour::ServFail);
    assert!(dig(&lab, &["x.test"]).await.contains("SERVFAIL"));
    lab.dns().behave("x.test", Behaviour::TruncateUdp);
    lab.dns().clear_log();
    assert_eq!(dig(&lab, &["+short", "x.test"]).await, "192.0.2.99\n");
    let transports = lab.dns().log().into_iter().map(|query| query.transport);
    assert_eq!(transports.collect::<Vec<_>>(), [Transport::Udp, Transport::Tcp]);
    lab.dns().behave("x.test", Behaviour::Silence);
    assert!(dig(&lab, &["+time=1", "x.test"]).await.contains("timed out"));
    lab.dns().set("signed.test", &["A 192.0.2.98"]).unwrap();
    lab.dns().sign("signed.test");
    assert!(dig(&lab, &["+dnssec", "signed.test"]).await.contains("RRSIG"));
    lab.dns().set_down(true);
    assert!(dig(&lab, &["+time=1", "signed.test"]).await.contains("timed out"));
}

#[tokio::test]
async fn a_gate_holds_one_names_answers_only() {
    let lab = lab();
    lab.dns().set("held.test", &["A 192.0.2.97"]).unwrap();
    let gate = lab.dns().gate("held.test");
    let dig_held = lab
        .direct()
        .command("dig")
        .args(["+short", "+time=15", "held.test"]);
    let mut held = dig_held.spawn().unwrap();
    let asked = wait_until("the query", SOON, async || {
        let asked = lab.dns().asked("held.test").len();
        if asked == 1 { Ok(()) } else { Err(asked) }
    });
    asked.await.unwrap();
    assert_eq!(dig(&lab, &["+short", "allowed.test"]).await, "192.0.2.10\n");
    assert!(held.wait(Duration::ZERO).await.is_none());
    gate.open();
    assert!(held.wait(SOON).await.is_some());
    assert_eq!(held.stdout(), "192.0.2.97\n");
}

#[tokio::test]
async fn the_resolver_has_encrypted_doors_on_demand() {
    let lab = Lab::builder().runners(0).direct().secure_dns().build().unwrap();
    let doh = [
        "--doh-url",
        "https://dns.lab.test/dns-query",
        "https://allowed.test/",
    ];
    assert_eq!(get(&lab, &doh).await.text(), "hello from allowed.test\n");
    let transports = lab.dns().asked("allowed.test").into_iter();
    assert!(
        transports
            .map(|query| query.transport)
            .all(|t| t == Transport::Https)
    );
    let probe = lab
        .direct()
        .command("openssl")
        .args(["s_client", "-connect", "dns.lab.test:853"]);
    let probe = probe.args(["-servername", "dns.lab.test", "-verify_return_error"]);
    probe.run().await.unwrap().expect_success();
}
