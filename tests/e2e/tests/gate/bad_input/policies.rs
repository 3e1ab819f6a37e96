//! Policy files, endpoint sets and block lists that are broken or missing, at the first start and later.

use tidegate_e2e::dns::{dig, dig_on};
use tidegate_e2e::{block, event, gateway, run, run_on, start, started};
use tidegate_lab::{Gateway, Lab};

async fn mended(gateway: &Gateway<'_>) {
    gateway
        .wait_status("nothing degraded", |status| {
            status["degraded"] == serde_json::json!([])
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_policy_that_is_broken_at_the_first_start_is_deny_all_and_others_work() {
    let lab = Lab::builder().build().unwrap();
    for broken in [
        Some("egress-policy: block\nallowed-endpoints: allowed.test:99999\n"),
        Some("{"),
        None,
    ] {
        let builder = gateway(&lab, &block(&["allowed.test:443"]))
            .file("other.yaml", &block(&["cdn-a.test:443"]))
            .unwrap();
        let builder = if let Some(text) = broken {
            builder.file("build.yaml", text).unwrap()
        } else {
            std::fs::remove_file(lab.dir().join("gateway/build.yaml")).unwrap();
            builder
        };
        let gateway = start(builder.lease(1, "other", "other.yaml")).await;
        let (code, status) = gateway.status().await.unwrap();
        assert_eq!(code, Some(1), "degraded: {status}");
        assert!(status["degraded"].to_string().contains("build.yaml"), "{status}");
        let refused = dig(&lab, &["allowed.test"]).await;
        assert!(
            refused.is_blocked() && refused.text.contains("policy-unknown"),
            "{broken:?}: {refused}"
        );
        let direct = [
            "curl",
            "-sS",
            "-m",
            "2",
            "--resolve",
            "allowed.test:443:192.0.2.10",
            "https://allowed.test/",
        ];
        run(&lab, &direct).await.expect_failure();
        for kind in ["dns", "tls"] {
            event(
                &mut gateway.events(),
                &[
                    ("kind", kind),
                    ("name", "allowed.test"),
                    ("reason", "policy-unknown"),
                ],
            )
            .await;
        }
        assert!(lab.dns().asked("allowed.test").is_empty() && lab.origins().connections().is_empty());
        run_on(&lab, 1, &["curl", "-sS", "https://cdn-a.test/"])
            .await
            .expect_success();
        gateway
            .write("build.yaml", &block(&["allowed.test:443"]))
            .unwrap();
        mended(&gateway).await;
        run(&lab, &["curl", "-sS", "https://allowed.test/"])
            .await
            .expect_success();
        lab.dns().clear_log();
        lab.origins().clear_log();
    }
}

#[tokio::test]
async fn a_broken_default_policy_is_deny_all_for_those_without_a_lease() {
    let lab = Lab::builder().build().unwrap();
    let builder = gateway(&lab, &block(&["allowed.test:443"]))
        .file("default.yaml", "egress-policy: open\n")
        .unwrap();
    let gateway = start(builder).await;
    let refused = dig_on(&lab, 1, &["allowed.test"]).await;
    assert!(
        refused.is_blocked() && refused.text.contains("policy-unknown"),
        "{refused}"
    );
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
    event(
        &mut gateway.events(),
        &[("source", "10.77.1.3"), ("reason", "policy-unknown")],
    )
    .await;
}

#[tokio::test]
async fn a_removed_policy_keeps_its_last_good_version() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    std::fs::remove_file(gateway.path("build.yaml")).unwrap();
    let removed = |status: &serde_json::Value| status["degraded"].to_string().contains("build.yaml");
    gateway
        .wait_status("the loss to be noticed", removed)
        .await
        .unwrap();
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
    assert!(dig(&lab, &["evil.test"]).await.is_blocked());
    gateway.write("build.yaml", &block(&["cdn-a.test:443"])).unwrap();
    mended(&gateway).await;
    assert!(dig(&lab, &["allowed.test"]).await.is_blocked());
}

#[tokio::test]
async fn a_set_that_is_missing_or_broken_is_said_and_a_changed_one_is_taken_over() {
    let lab = Lab::builder().build().unwrap();
    let policy = block(&["allowed.test:443"]) + "use: [corp]\n";
    let builder = gateway(&lab, &policy).section("endpoint-sets: {corp: corp.yaml}");
    let gateway = start(
        builder
            .file("corp.yaml", "endpoints: [\"cdn-a.test:443\"]\n")
            .unwrap(),
    )
    .await;
    assert_eq!(dig(&lab, &["cdn-a.test"]).await.data(), ["192.0.2.20"]);
    gateway
        .write("corp.yaml", "endpoints: [\"cdn-a.test:99999\"]\n")
        .unwrap();
    let noticed = |status: &serde_json::Value| status["degraded"].to_string().contains("corp.yaml");
    gateway
        .wait_status("the broken set to be noticed", noticed)
        .await
        .unwrap();
    assert_eq!(
        dig(&lab, &["cdn-a.test"]).await.data(),
        ["192.0.2.20"],
        "its last good version holds"
    );
    gateway
        .write("corp.yaml", "endpoints: [\"cdn-b.test:443\"]\n")
        .unwrap();
    mended(&gateway).await;
    let record = {
        assert_eq!(dig(&lab, &["cdn-b.test"]).await.data(), ["192.0.2.20"]);
        event(
            &mut gateway.events(),
            &[("name", "cdn-b.test"), ("verdict", "permit")],
        )
        .await
    };
    assert_eq!(record["rule_source"], "set", "{record}");
    assert!(dig(&lab, &["cdn-a.test"]).await.is_blocked());
    gateway
        .write("build.yaml", &(block(&["allowed.test:443"]) + "use: [nowhere]\n"))
        .unwrap();
    let unknown = |status: &serde_json::Value| status["degraded"].to_string().contains("nowhere");
    gateway
        .wait_status("the unknown set to be noticed", unknown)
        .await
        .unwrap();
    assert_eq!(
        dig(&lab, &["cdn-b.test"]).await.data(),
        ["192.0.2.20"],
        "the last good policy holds"
    );
}

#[tokio::test]
async fn a_broken_line_of_a_block_list_leaves_the_others_in_force() {
    let lab = Lab::builder().build().unwrap();
    let list = "# ours\nevil.test\nhttps://not a name/\n*.bad.test\n\u{1}\u{2}\n192.0.2.20/31\n";
    let policy = block(&[
        "evil.test:443",
        "x.bad.test:443",
        "cdn-a.test:443",
        "allowed.test:443",
    ]);
    let builder = gateway(&lab, &policy).section("global-block: [block.txt]");
    let gateway = start(builder.file("block.txt", list).unwrap()).await;
    for name in ["evil.test", "x.bad.test"] {
        let refused = dig(&lab, &[name]).await;
        assert!(
            refused.is_blocked() && refused.text.contains("global-block"),
            "{refused}"
        );
        event(
            &mut gateway.events(),
            &[("name", name), ("reason", "global-block")],
        )
        .await;
    }
    assert!(
        dig(&lab, &["cdn-a.test"]).await.is_no_data(),
        "its only address is listed"
    );
    assert_eq!(dig(&lab, &["allowed.test"]).await.data(), ["192.0.2.10"]);
    let log = gateway.process().stderr();
    assert!(
        log.contains("block.txt:3") && log.contains("block.txt:5"),
        "the lines are named: {log}"
    );
}

#[tokio::test]
async fn a_block_list_that_goes_missing_stays_in_force_as_it_was() {
    let lab = Lab::builder().build().unwrap();
    let builder = gateway(&lab, &block(&["evil.test:443"])).section("global-block: [block.txt]");
    let gateway = start(builder.file("block.txt", "evil.test\n").unwrap()).await;
    std::fs::remove_file(gateway.path("block.txt")).unwrap();
    let noticed = |status: &serde_json::Value| status["degraded"].to_string().contains("block.txt");
    gateway
        .wait_status("the loss to be noticed", noticed)
        .await
        .unwrap();
    assert!(dig(&lab, &["evil.test"]).await.text.contains("global-block"));
    gateway.write("block.txt", "other.test\n").unwrap();
    mended(&gateway).await;
    assert_eq!(dig(&lab, &["evil.test"]).await.data(), ["192.0.2.66"]);
}

/// A policy may be changed in any way that editors and deployment tools know.
#[tokio::test]
async fn a_changed_policy_is_seen_however_it_is_written() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let path = gateway.path("build.yaml");
    let only = async |name: &str| {
        let other = if name == "allowed.test" {
            "cdn-a.test"
        } else {
            "allowed.test"
        };
        let seen = tidegate_lab::wait_until("the other policy", tidegate_e2e::PATIENCE, async || {
            let (wanted, unwanted) = (dig(&lab, &[name]).await, dig(&lab, &[other]).await);
            if wanted.answer.is_empty() || !unwanted.answer.is_empty() {
                Err(wanted)
            } else {
                Ok(())
            }
        });
        seen.await.unwrap();
    };
    // In place, by a rename, by a link to another file, and by the target of that link.
    std::fs::write(&path, block(&["cdn-a.test:443"])).unwrap();
    only("cdn-a.test").await;
    gateway
        .write("build.yaml", &block(&["allowed.test:443"]))
        .unwrap();
    only("allowed.test").await;
    let elsewhere = lab.dir().join("elsewhere.yaml");
    std::fs::write(&elsewhere, block(&["cdn-a.test:443"])).unwrap();
    let link = lab.dir().join("link");
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    std::fs::rename(&link, &path).unwrap();
    only("cdn-a.test").await;
}
