//! Fails closed (invariant 1): stopped, killed, flushed, out of descriptors, nothing crosses.

use std::time::Duration;

use tidegate_e2e::{block, run, started};
use tidegate_lab::Lab;

/// Everything that a runner could send while nobody decides.
async fn try_everything(lab: &Lab) {
    for line in [
        &[
            "curl",
            "-sS",
            "-m",
            "1",
            "--resolve",
            "allowed.test:443:192.0.2.10",
            "https://allowed.test/",
        ][..],
        &["curl", "-sS", "-m", "1", "-g", "http://[2001:db8:200::10]/"],
        &["dig", "+tries=1", "+time=1", "@203.0.113.53", "evil.test"],
        &["ping", "-c", "1", "-W", "1", "192.0.2.10"],
        &["ping", "-6", "-c", "1", "-W", "1", "2001:db8:200::10"],
    ] {
        run(lab, line).await;
    }
}

#[tokio::test]
async fn l17_nothing_crosses_after_kill_and_service_returns_on_restart() {
    let lab = Lab::builder().build().unwrap();
    let mut gateway = started(&lab, &block(&["allowed.test:443"])).await;
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
    let before = lab.origins().connections().len();
    gateway.kill().await.unwrap();
    try_everything(&lab).await;
    assert_eq!(lab.leaks().unwrap().packets, 0);
    assert_eq!(lab.origins().connections().len(), before);
    gateway.restart().await.unwrap();
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
}

#[tokio::test]
async fn nothing_crosses_before_the_start_and_after_a_stop() {
    let lab = Lab::builder().build().unwrap();
    let mut gateway = started(&lab, &block(&["allowed.test:443"])).await;
    assert_eq!(
        gateway.stop(Duration::from_secs(40)).await.unwrap(),
        Some(0),
        "{}",
        gateway.process().stderr()
    );
    let rules = lab
        .gw()
        .command("nft")
        .args(["list", "tables"])
        .run()
        .await
        .unwrap();
    assert!(
        !rules.text().contains("tidegate"),
        "the rules are removed: {rules}"
    );
    try_everything(&lab).await;
    assert_eq!(lab.leaks().unwrap().packets, 0);
    assert!(lab.origins().connections().is_empty());
}

#[tokio::test]
async fn l20_an_operators_flush_is_closed_and_mended() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    for count in 1..=3 {
        lab.gw()
            .command("nft")
            .args(["flush", "ruleset"])
            .run()
            .await
            .unwrap()
            .expect_success();
        gateway
            .wait_status("the rules to be restored", |status| {
                status["interception"]["restored"].as_u64() >= Some(count)
            })
            .await
            .unwrap();
        run(&lab, &["curl", "-sS", "https://allowed.test/"])
            .await
            .expect_success();
        run(&lab, &["curl", "-sS", "-m", "1", "https://evil.test/"])
            .await
            .expect_failure();
    }
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

#[tokio::test]
async fn cleanup_removes_the_rules_and_leaves_the_runners_closed() {
    let lab = Lab::builder().build().unwrap();
    let mut gateway = started(&lab, &block(&["allowed.test:443"])).await;
    gateway.kill().await.unwrap();
    let cleaned = lab
        .gw()
        .command(tidegate_e2e::tidegate())
        .args(["gateway", "--cleanup"])
        .run()
        .await
        .unwrap();
    cleaned.expect_success();
    let rules = lab
        .gw()
        .command("nft")
        .args(["list", "ruleset"])
        .run()
        .await
        .unwrap();
    assert!(!rules.text().contains("tidegate"), "{rules}");
    let rules = lab.gw().command("ip").args(["rule"]).run().await.unwrap();
    assert!(!rules.text().contains("7453"), "{rules}");
    try_everything(&lab).await;
    assert_eq!(lab.leaks().unwrap().packets, 0);
}
