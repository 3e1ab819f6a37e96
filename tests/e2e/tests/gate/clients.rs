//! Real clients: what is allowed works, what is not is refused at once, with an explanation that the tool shows.

use tidegate_e2e::{block, event, gateway, run, start, started};
use tidegate_lab::{Lab, Script};

#[tokio::test]
async fn curl_over_https_in_both_families_and_versions() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let mut events = gateway.events();
    for family in ["-4", "-6"] {
        for version in ["--http1.1", "--http2"] {
            let page = run(&lab, &["curl", "-sS", family, version, "https://allowed.test/"])
                .await
                .expect_success();
            assert!(page.text().contains("allowed.test"), "{page}");
        }
    }
    event(
        &mut events,
        &[("kind", "tls"), ("name", "allowed.test"), ("verdict", "permit")],
    )
    .await;
    let refused = run(&lab, &["curl", "-sS", "-m", "5", "https://evil.test/"]).await;
    assert!(
        !refused.success() && refused.errors().contains("Could not resolve"),
        "{refused}"
    );
    let record = event(
        &mut events,
        &[("kind", "dns"), ("name", "evil.test"), ("verdict", "refuse")],
    )
    .await;
    assert_eq!(record["reason"], "not-allowed", "{record}");
    assert_eq!(record["policy"], "build.yaml", "{record}");
    assert!(
        lab.dns().asked("evil.test").is_empty(),
        "a refused name went upstream"
    );
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

#[tokio::test]
async fn curl_shows_the_403_page_of_a_refused_host() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:80"])).await;
    let page = run(
        &lab,
        &[
            "curl",
            "-sS",
            "-m",
            "5",
            "-i",
            "-H",
            "Host: evil.test",
            "http://allowed.test/",
        ],
    )
    .await;
    let record = event(
        &mut gateway.events(),
        &[("kind", "http"), ("name", "evil.test"), ("verdict", "refuse")],
    )
    .await;
    let text = page.text();
    assert!(text.starts_with("HTTP/1.1 403"), "{page}");
    for part in [
        "evil.test",
        "build.yaml",
        "not-allowed",
        "evil.test:80",
        record["id"].as_str().unwrap(),
    ] {
        assert!(text.contains(part), "{part} is missing: {page}");
    }
    run(&lab, &["curl", "-sS", "-6", "http://allowed.test/"])
        .await
        .expect_success();
    assert!(
        lab.origins()
            .requests()
            .iter()
            .all(|request| request.authority.as_deref() != Some("evil.test"))
    );
}

#[tokio::test]
async fn the_tls_alert_is_visible_in_curl_and_openssl() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["cdn-a.test:443"])).await;
    let resolve = "cdn-b.test:443:192.0.2.20";
    let curl = run(
        &lab,
        &[
            "curl",
            "-sS",
            "-m",
            "5",
            "--resolve",
            resolve,
            "https://cdn-b.test/",
        ],
    )
    .await;
    assert!(
        !curl.success() && curl.errors().contains("access denied"),
        "{curl}"
    );
    for target in ["192.0.2.20:443", "[2001:db8:200::20]:443"] {
        let line = [
            "openssl",
            "s_client",
            "-connect",
            target,
            "-servername",
            "cdn-b.test",
        ];
        let openssl = run(&lab, &line).await;
        assert!(openssl.errors().contains("alert access denied"), "{openssl}");
    }
    event(
        &mut gateway.events(),
        &[("kind", "tls"), ("name", "cdn-b.test"), ("reason", "not-allowed")],
    )
    .await;
    assert!(
        lab.origins().connections().is_empty(),
        "a refused flow was dialled"
    );
}

#[tokio::test]
async fn openssl_with_and_without_sni() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let mut events = gateway.events();
    // Without SNI, towards an address that was never given: nothing names the destination.
    let line = [
        "openssl",
        "s_client",
        "-connect",
        "192.0.2.10:443",
        "-noservername",
    ];
    let refused = run(&lab, &line).await;
    assert!(refused.errors().contains("alert access denied"), "{refused}");
    event(
        &mut events,
        &[("kind", "tls"), ("address", "192.0.2.10"), ("reason", "no-name")],
    )
    .await;
    // With the address ticketed for one allowed name, the same hello is permitted.
    run(&lab, &["dig", "+short", "allowed.test"])
        .await
        .expect_success();
    let ticketed = run(&lab, &line).await;
    assert!(ticketed.text().contains("BEGIN CERTIFICATE"), "{ticketed}");
    let with = run(
        &lab,
        &[
            "openssl",
            "s_client",
            "-connect",
            "allowed.test:443",
            "-servername",
            "allowed.test",
        ],
    )
    .await;
    assert!(with.text().contains("BEGIN CERTIFICATE"), "{with}");
}

#[tokio::test]
async fn git_over_https_and_ssh() {
    let lab = Lab::builder().git().ssh().build().unwrap();
    let gateway = started(&lab, &block(&["git.test:443"])).await;
    let (https, ssh) = (lab.git_https_url(), lab.git_ssh_url());
    run(&lab, &["git", "clone", "-q", &https, "by-https"])
        .await
        .expect_success();
    let refused = run(&lab, &["git", "clone", "-q", &ssh, "by-ssh"])
        .await
        .expect_failure();
    assert!(!refused.success());
    event(
        &mut gateway.events(),
        &[("kind", "tcp"), ("port", "22"), ("verdict", "refuse")],
    )
    .await;
    gateway.write("build.yaml", &block(&["git.test:22"])).unwrap();
    gateway
        .wait_status("the new policy", |status| status["policy_generation"] == 2)
        .await
        .unwrap();
    run(&lab, &["git", "clone", "-q", &ssh, "by-ssh"])
        .await
        .expect_success();
    event(
        &mut gateway.events(),
        &[
            ("kind", "tcp"),
            ("name", "git.test"),
            ("port", "22"),
            ("verdict", "permit"),
        ],
    )
    .await;
    run(&lab, &["git", "clone", "-q", &https, "again"])
        .await
        .expect_failure();
}

#[tokio::test]
async fn pythons_urllib_and_pip() {
    let lab = Lab::builder().index().build().unwrap();
    let gateway = started(&lab, &block(&["index.test:443", "allowed.test:443"])).await;
    let fetch = |url: &str| {
        format!("import urllib.request; print(urllib.request.urlopen('{url}', timeout=5).read())")
    };
    let page = run(&lab, &["python3", "-c", &fetch("https://allowed.test/")])
        .await
        .expect_success();
    assert!(page.text().contains("allowed.test"), "{page}");
    let refused = run(&lab, &["python3", "-c", &fetch("https://evil.test/")])
        .await
        .expect_failure();
    assert!(
        refused.errors().contains("not known") || refused.errors().contains("resolution"),
        "{refused}"
    );
    let index = lab.index_url();
    let ca = lab.ca_pem_path().display().to_string();
    let pip = [
        "python3",
        "-m",
        "pip",
        "--cert",
        &ca,
        "download",
        "-q",
        "--no-deps",
        "--index-url",
        &index,
    ];
    let pip = [&pip[..], &["-d", "wheels", "tidegate-lab-demo"]].concat();
    run(&lab, &pip).await.expect_success();
    gateway
        .write("build.yaml", &block(&["allowed.test:443"]))
        .unwrap();
    gateway
        .wait_status("the new policy", |status| status["policy_generation"] == 2)
        .await
        .unwrap();
    run(&lab, &[&pip[..], &["--retries", "0", "--no-cache-dir"]].concat())
        .await
        .expect_failure();
    event(
        &mut gateway.events(),
        &[("kind", "dns"), ("name", "index.test"), ("verdict", "refuse")],
    )
    .await;
}

#[tokio::test]
async fn dig_by_udp_and_tcp_to_the_gateway_and_to_a_foreign_resolver() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    for server in ["10.77.1.1", "fd77:1::1", "203.0.113.53", "2001:db8:300::53"] {
        for transport in ["+notcp", "+tcp"] {
            let at = format!("@{server}");
            let ask =
                |name: &'static str| ["dig", "+tries=1", "+time=1", transport, &at, name].map(str::to_owned);
            let answer = run(&lab, &ask("allowed.test").each_ref().map(String::as_str))
                .await
                .expect_success();
            assert!(answer.text().contains("192.0.2.10"), "{answer}");
            let refused = run(&lab, &ask("evil.test").each_ref().map(String::as_str))
                .await
                .expect_success();
            let text = refused.text();
            assert!(
                text.contains("NXDOMAIN") && text.contains("EDE: 15 (Blocked)"),
                "{refused}"
            );
            assert!(
                text.contains("build.yaml"),
                "the extended error names the policy: {refused}"
            );
        }
    }
    assert!(lab.dns().asked("evil.test").is_empty() && lab.foreign_dns().log().is_empty());
    let record = event(
        &mut gateway.events(),
        &[
            ("kind", "dns"),
            ("address", "203.0.113.53"),
            ("verdict", "refuse"),
        ],
    )
    .await;
    assert_eq!(record["rcode"], "NXDOMAIN", "{record}");
}

#[tokio::test]
async fn raw_tcp_with_ncat_and_socat() {
    let lab = Lab::builder().build().unwrap();
    lab.name("echo.test", &["192.0.2.80".parse().unwrap()]).unwrap();
    let server = lab
        .raw(
            "192.0.2.80:7000".parse().unwrap(),
            Script::silent().banner("hello\n"),
        )
        .unwrap();
    let gateway = started(&lab, &block(&["echo.test:7000"])).await;
    let mut events = gateway.events();
    for line in [
        &["ncat", "--recv-only", "-w", "2", "echo.test", "7000"][..],
        &["socat", "-u", "TCP:echo.test:7000", "STDOUT"],
    ] {
        let open = tidegate_e2e::command(&lab, line).spawn().unwrap();
        let greeted = tidegate_lab::wait_until("the banner", tidegate_e2e::PATIENCE, async || {
            match open.stdout() {
                text if text.contains("hello") => Ok(()),
                text => Err(text),
            }
        });
        greeted.await.unwrap();
        open.kill().await;
    }
    assert_eq!(server.connections().len(), 2);
    event(
        &mut events,
        &[("kind", "tcp"), ("name", "echo.test"), ("verdict", "permit")],
    )
    .await;
    run(&lab, &["ncat", "-w", "1", "192.0.2.80", "7001"]).await;
    event(
        &mut events,
        &[("kind", "tcp"), ("port", "7001"), ("verdict", "refuse")],
    )
    .await;
    assert_eq!(server.connections().len(), 2);
}

#[tokio::test]
async fn a_postgresql_client() {
    let lab = Lab::builder().postgres().build().unwrap();
    let gateway = started(&lab, &block(&["db.test:5432"])).await;
    let select = ["psql", "-h", "db.test", "-U", "postgres", "-tAc", "select 6 * 7"];
    let answer = run(&lab, &select).await.expect_success();
    assert_eq!(answer.text().trim(), "42");
    event(
        &mut gateway.events(),
        &[("port", "5432"), ("name", "db.test"), ("verdict", "permit")],
    )
    .await;
    gateway.write("build.yaml", &block(&["db.test:443"])).unwrap();
    gateway
        .wait_status("the new policy", |status| status["policy_generation"] == 2)
        .await
        .unwrap();
    run(&lab, &select).await.expect_failure();
    event(
        &mut gateway.events(),
        &[("port", "5432"), ("name", "db.test"), ("verdict", "refuse")],
    )
    .await;
}

#[tokio::test]
async fn two_jobs_with_different_policies_at_once() {
    let lab = Lab::builder().runners(2).build().unwrap();
    let builder = gateway(&lab, &block(&["allowed.test:443"]))
        .file("other.yaml", &block(&["cdn-a.test:443"]))
        .unwrap();
    let gateway = start(builder.lease(1, "other", "other.yaml")).await;
    for (runner, allowed, refused) in [
        (0, "allowed.test", "cdn-a.test"),
        (1, "cdn-a.test", "allowed.test"),
    ] {
        let get = |name: &str| {
            vec![
                "curl".to_owned(),
                "-sS".into(),
                "-m".into(),
                "3".into(),
                format!("https://{name}/"),
            ]
        };
        let ask = async |name: &str| {
            let line = get(name);
            tidegate_e2e::run_on(&lab, runner, &line.iter().map(String::as_str).collect::<Vec<_>>()).await
        };
        ask(allowed).await.expect_success();
        ask(refused).await.expect_failure();
    }
    let mut events = gateway.events();
    event(
        &mut events,
        &[
            ("job.job", "build"),
            ("name", "cdn-a.test"),
            ("verdict", "refuse"),
        ],
    )
    .await;
    event(
        &mut events,
        &[
            ("job.job", "other"),
            ("name", "allowed.test"),
            ("verdict", "refuse"),
        ],
    )
    .await;
}
