//! Hot swap (invariant 8): a changed policy reaches every job without touching the flows that it still allows.

use tidegate_e2e::{PATIENCE, block, command, event, run, started};
use tidegate_lab::{Gateway, Lab, Process, wait_until};

/// A download of a minute's length, begun and flowing.
async fn download(lab: &Lab, name: &str) -> Process {
    let url = format!("https://{name}/slow/1000000?pace=600");
    let process = command(lab, &["curl", "-sS", "-o", "got", &url]).spawn().unwrap();
    let path = lab.runner(0).home().join("got");
    wait_until(
        "the download's first bytes",
        PATIENCE,
        async || match std::fs::metadata(&path) {
            Ok(meta) if meta.len() > 0 => Ok(()),
            other => Err(format!("{other:?}; {}", process.stderr())),
        },
    )
    .await
    .unwrap();
    process
}

async fn swapped(gateway: &Gateway<'_>, policy: &str) {
    gateway.write("build.yaml", policy).unwrap();
    gateway
        .wait_status("the new policy", |status| status["policy_generation"] == 2)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_download_that_the_new_policy_allows_survives() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let mut process = download(&lab, "allowed.test").await;
    swapped(&gateway, &block(&["allowed.test:443", "cdn-a.test:443"])).await;
    run(&lab, &["curl", "-sS", "https://cdn-a.test/"])
        .await
        .expect_success();
    assert!(
        process.pid().is_some(),
        "the download goes on: {}",
        process.stderr()
    );
    lab.origins().release_downloads();
    let status = process.wait(PATIENCE).await.expect("the download ends");
    assert!(status.success(), "{}", process.stderr());
    assert_eq!(
        std::fs::metadata(lab.runner(0).home().join("got")).unwrap().len(),
        1_000_000
    );
}

#[tokio::test]
async fn l15_a_download_that_the_new_policy_refuses_is_closed() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let mut process = download(&lab, "allowed.test").await;
    swapped(&gateway, &block(&["cdn-a.test:443"])).await;
    let status = process.wait(PATIENCE).await.expect("the download is cut off");
    assert!(!status.success());
    event(
        &mut gateway.events(),
        &[("name", "allowed.test"), ("reason", "policy-changed")],
    )
    .await;
}

#[tokio::test]
async fn a_broken_policy_file_is_refused_and_the_old_one_stays() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    gateway
        .write(
            "build.yaml",
            "egress-policy: block\nallowed-endpoints: allowed.test:99999\n",
        )
        .unwrap();
    let status = gateway
        .wait_status("the broken file to be noticed", |status| {
            !status["degraded"].as_array().unwrap().is_empty()
        })
        .await
        .unwrap();
    assert!(status.to_string().contains("99999"), "{status}");
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
    gateway.write("build.yaml", &block(&["cdn-a.test:443"])).unwrap();
    gateway
        .wait_status("the mended file", |status| {
            status["degraded"] == serde_json::json!([])
        })
        .await
        .unwrap();
    run(&lab, &["curl", "-sS", "-m", "2", "https://allowed.test/"])
        .await
        .expect_failure();
    run(&lab, &["curl", "-sS", "https://cdn-a.test/"])
        .await
        .expect_success();
}
