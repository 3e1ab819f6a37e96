//! What the gateway writes about itself: events on a disk that is full or small, and the metrics page.

use tidegate_e2e::dns::dig;
use tidegate_e2e::{PATIENCE, block, gateway, run, run_on, start, started};
use tidegate_lab::{Lab, wait_until};

use super::floods::serves;

#[tokio::test]
async fn events_that_can_not_be_written_are_counted_and_traffic_goes_on() {
    let lab = Lab::builder().build().unwrap();
    let mut gateway = started(&lab, &block(&["allowed.test:443", "allowed.test:80"])).await;
    gateway.kill().await.unwrap();
    let config = std::fs::read_to_string(gateway.path("tidegate.yaml")).unwrap();
    gateway
        .write(
            "tidegate.yaml",
            &config.replace("file: events.ndjson", "file: /dev/full"),
        )
        .unwrap();
    gateway.restart().await.unwrap();
    serves(&lab, &gateway).await;
    let counted = wait_until("dropped events to be counted", PATIENCE, async || {
        let page = gateway.metrics().await.unwrap();
        let dropped = page
            .lines()
            .find_map(|line| line.strip_prefix("tidegate_events_dropped_total "));
        if dropped.is_some_and(|count| count != "0") {
            Ok(())
        } else {
            Err(page)
        }
    });
    counted.await.unwrap();
    assert!(
        gateway.process().stderr().contains("can't write events"),
        "{}",
        gateway.process().stderr()
    );
}

#[tokio::test]
async fn the_event_log_is_rotated_by_size_and_only_so_many_are_kept() {
    let lab = Lab::builder().build().unwrap();
    let mut gateway = start(gateway(&lab, &block(&["allowed.test:443"]))).await;
    gateway.kill().await.unwrap();
    let config = std::fs::read_to_string(gateway.path("tidegate.yaml")).unwrap();
    let small = "file: events.ndjson, rotate-bytes: 6000, keep: 2";
    gateway
        .write("tidegate.yaml", &config.replace("file: events.ndjson", small))
        .unwrap();
    gateway.restart().await.unwrap();
    let mut number = 0;
    let exists = |name: &str| gateway.path(name).exists();
    while !exists("events.ndjson.2") {
        assert!(dig(&lab, &[&format!("n{number}.evil.test")]).await.is_blocked());
        number += 1;
        assert!(number < 200, "200 events don't fill two files of 6000 bytes");
    }
    for _ in 0..20 {
        assert!(dig(&lab, &["evil.test"]).await.is_blocked());
    }
    assert!(!exists("events.ndjson.3"));
    for name in ["events.ndjson", "events.ndjson.1", "events.ndjson.2"] {
        let text = std::fs::read_to_string(gateway.path(name)).unwrap();
        assert!(text.len() <= 8_192, "{name} has {} bytes", text.len());
        for line in text.lines() {
            let event: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
            assert_eq!(event["schema"], 1);
        }
    }
}

#[tokio::test]
async fn the_metrics_page_has_the_interfaces_names() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443", "allowed.test:9"])).await;
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
    run_on(
        &lab,
        1,
        &[
            "curl",
            "-sS",
            "-m",
            "2",
            "--resolve",
            "evil.test:443:192.0.2.66",
            "https://evil.test/",
        ],
    )
    .await;
    // A dial that fails, and a query that an upstream fails.
    run(&lab, &["ncat", "-w", "2", "allowed.test", "9"]).await;
    gateway
        .write("default.yaml", &block(&["cdn-a.test:443"]))
        .unwrap();
    lab.dns().set_down(true);
    dig(&lab, &["AAAA", "allowed.test"]).await;
    dig(&lab, &["-t", "TXT", "allowed.test"]).await;
    let names = [
        "dns_queries_total{",
        "dns_query_duration_seconds_bucket{",
        "dns_cache_entries ",
        "dns_cache_bytes ",
        "dns_upstream_duration_seconds_bucket{",
        "dns_upstream_failures_total{",
        "flows_total{",
        "flows_open ",
        "flow_bytes_total{",
        "flow_detect_duration_seconds_bucket{",
        "dial_failures_total{",
        "egress_ports_in_use ",
        "leases{",
        "unidentified_flows_total ",
        "tickets ",
        "interception_up 1",
        "policy_generation 2",
        "policy_swap_duration_seconds",
        "events_queued ",
        "events_shipped_total ",
        "events_dropped_total 0",
        "build_info{version=",
    ];
    let complete = wait_until("every name of the interface", PATIENCE, async || {
        let page = gateway.metrics().await.unwrap();
        let has = |name: &str| {
            page.lines()
                .any(|line| line.starts_with(&format!("tidegate_{name}")))
        };
        let mut missing: Vec<&str> = names.into_iter().filter(|name| !has(name)).collect();
        let process = [
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
        ];
        missing.extend(
            process
                .into_iter()
                .filter(|name| !page.lines().any(|line| line.starts_with(name))),
        );
        if missing.is_empty() {
            Ok(page)
        } else {
            Err(format!("{missing:?} are missing in\n{page}"))
        }
    });
    let page = complete.await.unwrap();
    // No label tells a name or an address: their number is the clients' to choose.
    let labels = page
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains("upstream="));
    let telling = labels
        .clone()
        .find(|line| line.contains(".test") || line.contains("192.0.2.") || line.contains("10.77."));
    assert!(telling.is_none(), "{telling:?}");
    for part in [
        "verdict=\"permit\"",
        "verdict=\"refuse\"",
        "transport=\"udp\"",
        "reason=\"",
        "kind=\"tls\"",
        "assurance=\"static\"",
        "direction=\"",
        "cause=\"",
    ] {
        assert!(page.contains(part), "{part} is missing in\n{page}");
    }
}
