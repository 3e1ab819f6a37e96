//! What a job is told about itself: `http://tidegate.internal/why/NAME`, and its summary.
//!
//! By name and in the clear as somebody would type it into a shell, and over TLS as the hook asks. Each job hears of
//! itself and of nobody else; what hostile text does to it is in here, too.

use serde_json::Value;
use tidegate_e2e::dns::{message, name, over_udp, query, question};
use tidegate_e2e::store::Fleet;
use tidegate_e2e::{PATIENCE, audit, block, event, gateway, run, run_on, start};
use tidegate_lab::{Answer, GatewayBuilder, Lab, plan, wait_until};

/// Runner 0 is job `build`, runner 1 is job `deploy` with another policy.
fn two_jobs(lab: &Lab) -> GatewayBuilder<'_> {
    gateway(lab, &block(&["allowed.test:443", "www.evil.test:443"]))
        .file("deploy.yaml", &block(&["evil.test:8443"]))
        .unwrap()
        .lease(1, "deploy", "deploy.yaml")
        .runner_api()
}

async fn curl(lab: &Lab, runner: usize, args: &[&str]) -> String {
    let line = [&["curl", "-sS", "-m", "10"], args].concat();
    run_on(lab, runner, &line).await.expect_success().text()
}

/// Asks the runner API over TLS.
async fn get(lab: &Lab, runner: usize, path: &str) -> Answer {
    let api = lab.api(
        lab.runner(runner),
        (plan::gateway_v4(0), 443).into(),
        "tidegate.internal",
    );
    api.unwrap().call("GET", path, None, None).await.unwrap()
}

async fn summary(lab: &Lab, runner: usize) -> Value {
    get(lab, runner, "/v1/summary.json").await.expect(200).json()
}

fn contains(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part:?} is missing in\n{page}");
    }
}

#[tokio::test]
async fn why_tells_each_job_its_own_verdict_by_name_and_over_both_families() {
    let lab = Lab::builder().runners(3).build().unwrap();
    let gateway = start(two_jobs(&lab)).await;
    run(&lab, &["curl", "-sS", "-m", "5", "https://evil.test/"])
        .await
        .expect_failure();
    let mut events = gateway.events();
    let refused = event(
        &mut events,
        &[("kind", "dns"), ("name", "evil.test"), ("verdict", "refuse")],
    )
    .await;
    for family in ["-4", "-6"] {
        let page = curl(&lab, 0, &[family, "http://tidegate.internal/why/evil.test"]).await;
        contains(
            &page,
            &[
                "Tidegate refuses evil.test:443\n",
                "not-allowed - No allowed endpoint of the policy covers it.",
                "Nearest: www.evil.test:443\n",
                "(block)",
                "acme/web / ci.yml / build",
                refused["id"].as_str().unwrap(),
                "\n  evil.test:443\n",
            ],
        );
        let page = curl(&lab, 1, &[family, "http://tidegate.internal/why/evil.test:8443"]).await;
        contains(
            &page,
            &[
                "Tidegate permits evil.test:8443\n",
                "Rule:    evil.test:8443 (policy, line",
                "/ deploy",
            ],
        );
    }
    // Who holds no job is told what its network's default says; here that is deny-all.
    let page = curl(&lab, 2, &["http://tidegate.internal/why/allowed.test"]).await;
    contains(
        &page,
        &[
            "Tidegate refuses allowed.test:443\n",
            "none registered: what network net0 does by default",
        ],
    );
    // A browser, and TLS.
    let page = curl(
        &lab,
        0,
        &[
            "-i",
            "-H",
            "Accept: text/html",
            "http://tidegate.internal/why/evil.test",
        ],
    )
    .await;
    contains(
        &page,
        &[
            "text/html",
            "content-security-policy: default-src 'none'",
            "cache-control: no-store",
            "<h1>Tidegate refuses evil.test:443</h1>",
        ],
    );
    contains(
        &get(&lab, 0, "/why/evil.test").await.expect(200).text(),
        &["Tidegate refuses evil.test:443\n"],
    );
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

#[tokio::test]
async fn what_refuses_says_where_more_is_told() {
    let lab = Lab::builder().build().unwrap();
    let _gateway = start(two_jobs(&lab)).await;
    let dig = run(&lab, &["dig", "+noall", "+comments", "evil.test"])
        .await
        .text();
    contains(&dig, &["http://tidegate.internal/why/evil.test"]);
    let [site, _] = plan::site(10);
    let page = curl(&lab, 0, &["-H", "Host: evil.test", &format!("http://{site}/")]).await;
    contains(&page, &["More:     http://tidegate.internal/why/evil.test:80\n"]);
}

#[tokio::test]
async fn port_80_of_the_gateway_serves_nothing_else_and_leads_nowhere() {
    let lab = Lab::builder().build().unwrap();
    let _gateway = start(two_jobs(&lab)).await;
    let own = [
        plan::gateway_v4(0).to_string(),
        format!("[{}]", plan::gateway_v6(0)),
    ];
    let code = async |args: &[&str]| {
        let format = ["-o", "/dev/null", "-w", "%{http_code}"];
        curl(&lab, 0, &[&format[..], args].concat()).await
    };
    for address in &own {
        let base = format!("http://{address}:80");
        assert_eq!(code(&[&format!("{base}/why/evil.test")]).await, "200");
        for path in [
            "/v1/jobs/current",
            "/v1/summary.md",
            "/v1/why?name=evil.test",
            "/metrics",
            "/why",
        ] {
            assert_eq!(code(&[&format!("{base}{path}")]).await, "404", "{path}");
        }
        for path in ["/v1/jobs", "/v1/jobs/current/end", "/why/evil.test"] {
            let url = format!("{base}{path}");
            assert_eq!(
                code(&["-H", "Authorization: Bearer x", "-d", "{}", &url]).await,
                "404",
                "{path}"
            );
        }
        // Neither a forward proxy for what the job may reach, nor for what it may not.
        for url in [
            "http://allowed.test/",
            "http://evil.test/",
            "http://control.test/",
        ] {
            assert_eq!(code(&["-x", &base, url]).await, "404", "{url}");
        }
        let tunnel = run(
            &lab,
            &[
                "curl",
                "-sS",
                "-m",
                "5",
                "-p",
                "-x",
                &base,
                "https://allowed.test/",
            ],
        )
        .await;
        contains(&tunnel.expect_failure().errors(), &["404"]);
    }
    assert!(lab.dns().asked_below("evil.test").is_empty());
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

#[tokio::test]
async fn without_a_runner_api_port_80_of_the_gateway_and_its_name_are_closed() {
    let lab = Lab::builder().build().unwrap();
    let _gateway = start(gateway(&lab, &block(&["allowed.test:443"]))).await;
    let url = format!("http://{}/why/evil.test", plan::gateway_v4(0));
    run(&lab, &["curl", "-sS", "-m", "2", &url])
        .await
        .expect_failure();
    run(&lab, &["curl", "-sS", "-m", "2", "http://tidegate.internal/"])
        .await
        .expect_failure();
}

#[tokio::test]
async fn a_summary_right_after_the_last_refusal_has_it_first_with_ids_of_the_log() {
    let lab = Lab::builder().build().unwrap();
    let gateway = start(two_jobs(&lab)).await;
    run(&lab, &["curl", "-sS", "-m", "5", "https://allowed.test/"])
        .await
        .expect_success();
    run(&lab, &["curl", "-sS", "-m", "5", "https://evil.test/"])
        .await
        .expect_failure();
    let told = summary(&lab, 0).await;
    assert_eq!(told["job"]["job"], "build", "{told}");
    assert_eq!(told["policies"][0]["mode"], "block", "{told}");
    let refused = &told["refused"][0];
    assert_eq!(
        (&refused["endpoint"], &refused["allow"]),
        (&"evil.test".into(), &"evil.test:443".into()),
        "{told}"
    );
    let id = refused["ids"][0].as_str().unwrap();
    let logged = event(&mut gateway.events(), &[("id", id)]).await;
    assert_eq!(
        (&logged["name"], &logged["verdict"]),
        (&"evil.test".into(), &"refuse".into())
    );
    let permitted: Vec<_> = told["permitted"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["kind"])
        .collect();
    assert!(
        permitted.contains(&&"tls".into()) && permitted.contains(&&"dns".into()),
        "{told}"
    );

    let page = get(&lab, 0, "/v1/summary.md").await.expect(200);
    assert_eq!(page.header("content-type"), Some("text/markdown; charset=utf-8"));
    let page = page.text();
    let at = |part: &str| {
        page.find(part)
            .unwrap_or_else(|| panic!("{part} is missing in\n{page}"))
    };
    assert!(at("⛔ Tidegate refused 1 destination") < at("evil.test"));
    assert!(
        at("evil.test") < at(id)
            && at(id) < at("  evil.test:443\n")
            && at("  evil.test:443\n") < at("allowed.test")
    );
    // The other job has seen none of it.
    let other = summary(&lab, 1).await;
    assert_eq!(
        (&other["job"]["job"], &other["counts"]["refuse"]),
        (&"deploy".into(), &0.into()),
        "{other}"
    );
}

#[tokio::test]
async fn a_summary_right_after_repeated_questions_counts_each_of_them() {
    let lab = Lab::builder().runners(2).build().unwrap();
    let _gateway = start(two_jobs(&lab)).await;
    let server = format!("{}:53", plan::gateway_v4(0));
    run(&lab, &["dig", "+short", "allowed.test"])
        .await
        .expect_success();
    let before = summary(&lab, 0).await;
    let counted = |told: &Value, verdict: &str| told["counts"][verdict].as_u64().unwrap();
    // The first of each goes the slow way; repeats are told seconds later, unless somebody wants to know.
    let mut turns = 0;
    for more in [40, 1, 25] {
        for _ in 0..more {
            let asked = [query(7, "allowed.test", 1), query(8, "evil.test", 1)];
            let replies = over_udp(lab.runner(0), &server, &asked);
            assert_eq!(replies.len(), 2, "cached or refused: answered at once");
            turns += 1;
        }
        let told = summary(&lab, 0).await;
        assert_eq!(counted(&told, "refuse"), turns, "{told}");
        // With the query by which `over_udp` knows that there are no more answers.
        let permits = counted(&told, "permit") - counted(&before, "permit");
        assert_eq!(permits, 2 * turns, "{told}");
    }
    assert_eq!(counted(&summary(&lab, 1).await, "refuse"), 0, "another job's");
}

#[tokio::test]
async fn an_audited_job_is_told_what_block_mode_would_refuse() {
    let lab = Lab::builder().build().unwrap();
    let _gateway = start(gateway(&lab, &audit(&["allowed.test:443"])).runner_api()).await;
    run(&lab, &["curl", "-sS", "-m", "5", "https://evil.test/"])
        .await
        .expect_success();
    let told = summary(&lab, 0).await;
    assert_eq!(told["counts"]["refuse"], 0, "{told}");
    assert_eq!(told["would_refuse"][0]["endpoint"], "evil.test", "{told}");
    let page = curl(&lab, 0, &["http://tidegate.internal/why/evil.test"]).await;
    contains(&page, &["would refuse evil.test:443 in block mode"]);
}

#[tokio::test]
async fn hostile_names_are_inert_in_the_summary_and_on_the_page() {
    let lab = Lab::builder().build().unwrap();
    let _gateway = start(two_jobs(&lab)).await;
    let labels: [&[&[u8]]; 5] = [
        &[b"<script>alert(1)</script>", b"test"],
        &[b"\x1b[2J\x1b]0;x\x07", b"test"],
        &[b"a|b`c*_[x](http://y)\n::error::z", b"test"],
        &[b"www", b"bad", b"test"],
        &[&[b'x'; 63], &[b'<'; 63], &[0xff; 63], &[b'"'; 61]],
    ];
    let queries: Vec<Vec<u8>> = labels
        .iter()
        .enumerate()
        .map(|(at, labels)| message(at as u16 + 1, 0x0100, [1, 0, 0, 0], &question(&name(labels), 1)))
        .collect();
    let server = format!("{}:53", plan::gateway_v4(0));
    over_udp(lab.runner(0), &server, &queries);
    let told = summary(&lab, 0).await;
    assert_eq!(told["refused"].as_array().unwrap().len(), labels.len(), "{told}");
    let json = told.to_string();
    let page = get(&lab, 0, "/v1/summary.md").await.expect(200).text();
    for text in [&json, &page] {
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{9b}']), "{text}");
    }
    assert!(!page.contains("<script") && !page.contains("\n::error"), "{page}");
    // Text is a link where it begins with `www.`, but not in the fence of what could be allowed.
    assert_eq!(page.matches("www.bad").count(), 1, "{page}");
    let (refused, _) = page.split_once("### To allow").unwrap();
    let rows: Vec<_> = refused
        .lines()
        .filter(|line| line.contains(" lookup |"))
        .collect();
    assert_eq!(rows.len(), labels.len(), "{page}");
    assert!(rows.iter().all(|row| row.matches('|').count() == 6), "{page}");

    for hostile in [
        "%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "%1b%5b2Jx.test",
        &"a".repeat(255),
        "a%0d%0aSet-Cookie:x.test",
    ] {
        for accept in ["Accept: */*", "Accept: text/html"] {
            let url = format!("http://tidegate.internal/why/{hostile}");
            let page = curl(&lab, 0, &["-i", "-H", accept, &url]).await;
            contains(&page, &["HTTP/1.1 400 ", "x-content-type-options: nosniff"]);
            assert!(
                !page.contains('\u{1b}') && !page.to_lowercase().contains("\nset-cookie"),
                "{page}"
            );
            assert!(accept.ends_with("*/*") || !page.contains("<script"), "{page}");
        }
    }
}

#[tokio::test]
async fn after_a_restart_a_summary_says_since_when_it_counts() {
    let lab = Lab::builder().control().build().unwrap();
    let mut fleet = Fleet::start(&lab).await;
    fleet
        .attached("web", &block(&["allowed.test:443"]), "repo:acme/web")
        .await;
    fleet.register(0, "acme/web", "ci.yml").await;
    fleet.refused(0, "evil.test").await;
    let told = summary(&lab, 0).await;
    assert!(
        told.get("since").is_none() && told["refused"][0]["endpoint"] == "evil.test",
        "{told}"
    );
    fleet.gateways[0].restart().await.unwrap();
    fleet.refused(0, "cdn-a.test").await;
    let told = summary(&lab, 0).await;
    assert!(
        told["since"].is_string() && told["refused"][0]["endpoint"] == "cdn-a.test",
        "{told}"
    );
    contains(
        &get(&lab, 0, "/v1/summary.md").await.text(),
        &["Not the whole job"],
    );
}

#[tokio::test]
async fn with_control_away_a_job_is_told_and_after_its_end_until_its_machine_changes() {
    let lab = Lab::builder().control().build().unwrap();
    let mut fleet = Fleet::start(&lab).await;
    fleet
        .attached("web", &block(&["allowed.test:443"]), "repo:acme/web")
        .await;
    let job = fleet.register(0, "acme/web", "ci.yml").await;
    fleet.control.kill().await.unwrap();
    fleet.refused(0, "evil.test").await;
    assert_eq!(summary(&lab, 0).await["refused"][0]["endpoint"], "evil.test");
    contains(
        &curl(&lab, 0, &["http://tidegate.internal/why/evil.test"]).await,
        &["from repo:acme/web"],
    );

    fleet.end(0).await.expect(200);
    let told = summary(&lab, 0).await;
    assert_eq!(
        (&told["job"]["id"], &told["refused"][0]["endpoint"]),
        (&job["id"], &"evil.test".into())
    );
    get(&lab, 1, "/v1/summary.json").await.expect(404);
    // The address's next machine.
    lab.runner(0).set_mac("02:00:00:00:00:99").unwrap();
    let gone = wait_until("the summary to be gone with its machine", PATIENCE, async || {
        let answer = get(&lab, 0, "/v1/summary.json").await;
        if answer.status == 404 { Ok(()) } else { Err(answer) }
    });
    gone.await.unwrap_or_else(|error| panic!("{error}"));
}
