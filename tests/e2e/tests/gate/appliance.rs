//! The life of the program: it says when it is ready, drains when it is told to end, and shares a machine with
//! others of its kind.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use tidegate_e2e::dns::{dig, dig_on};
use tidegate_e2e::{
    PATIENCE, block, bound, command, event, gateway, gateway_by, run, run_on, start, started, wrapper,
};
use tidegate_lab::{Gateway, Lab, Process, Script, Signal, wait_until};

/// A slow download on runner 0, begun and flowing.
async fn download(lab: &Lab) -> Process {
    let url = "https://allowed.test/slow/400000?pace=700";
    let process = command(lab, &["curl", "-sS", "-o", "got", url]).spawn().unwrap();
    let path = lab.runner(0).home().join("got");
    let begun = wait_until("the first bytes", PATIENCE, async || {
        match std::fs::metadata(&path) {
            Ok(meta) if meta.len() > 0 => Ok(()),
            other => Err(format!("{other:?}; {}", process.stderr())),
        }
    });
    begun.await.unwrap();
    process
}

/// Waits until the gateway's log has this.
async fn says(gateway: &Gateway<'_>, text: &str) {
    let said = wait_until(text, PATIENCE, async || {
        let log = gateway.process().stderr();
        if log.contains(text) { Ok(()) } else { Err(log) }
    });
    said.await.unwrap();
}

async fn no_rules(lab: &Lab) {
    let rules = lab
        .gw()
        .command("nft")
        .args(["list", "ruleset"])
        .run()
        .await
        .unwrap();
    assert!(!rules.text().contains("tidegate"), "{rules}");
    let rules = lab.gw().command("ip").args(["rule"]).run().await.unwrap();
    assert_eq!(
        rules.text().lines().count(),
        3,
        "only the kernel's own routing rules: {rules}"
    );
}

#[tokio::test]
async fn sigterm_lets_open_flows_finish_and_takes_no_new_ones() {
    let lab = Lab::builder().build().unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        lab.origins().hold_downloads();
        let mut gateway = started(&lab, &block(&["allowed.test:443"])).await;
        let mut process = download(&lab).await;
        gateway.process().signal(signal).unwrap();
        says(&gateway, "stopping: open flows have").await;
        let line = [
            "curl",
            "-sS",
            "-m",
            "1",
            "--resolve",
            "allowed.test:443:192.0.2.10",
            "https://allowed.test/",
        ];
        let refused = wait_until("new flows to be refused", PATIENCE, async || {
            let new = run(&lab, &line).await;
            if new.success() { Err(new) } else { Ok(()) }
        });
        refused.await.unwrap();
        let served = lab.origins().connections().len();
        run(&lab, &line).await.expect_failure();
        assert!(
            process.pid().is_some(),
            "the download goes on: {}",
            process.stderr()
        );
        assert!(gateway.process().pid().is_some(), "the gateway waits for it");
        lab.origins().release_downloads();
        let ended = process.wait(PATIENCE).await.expect("the download ends");
        assert!(ended.success(), "{}", process.stderr());
        assert_eq!(
            std::fs::metadata(lab.runner(0).home().join("got")).unwrap().len(),
            400_000
        );
        assert_eq!(
            lab.origins().connections().len(),
            served,
            "a new flow was dialled while draining"
        );
        // Then it ends by itself, long before its deadline, in order.
        let log = gateway.process().stderr();
        assert_eq!(
            gateway
                .stop(Duration::from_secs(15))
                .await
                .unwrap_or(None)
                .or(Some(0)),
            Some(0),
            "{log}"
        );
        no_rules(&lab).await;
        let whole =
            |one: &serde_json::Value| one["kind"] == "tls" && one["bytes_down"].as_u64() > Some(400_000);
        gateway
            .events()
            .wait_for("the last flow's event", PATIENCE, whole)
            .await
            .unwrap();
        assert_eq!(lab.leaks().unwrap().packets, 0);
        std::fs::remove_file(gateway.path("events.ndjson")).unwrap();
        std::fs::remove_file(lab.runner(0).home().join("got")).unwrap();
    }
}

#[tokio::test]
async fn a_flow_that_does_not_end_is_closed_at_the_deadline() {
    let lab = Lab::builder().build().unwrap();
    let raw = lab
        .raw(
            "192.0.2.80:7000".parse().unwrap(),
            Script::silent().banner("hello\n"),
        )
        .unwrap();
    let mut gateway = started(&lab, &block(&["192.0.2.80:7000"])).await;
    let mut open = command(&lab, &["ncat", "192.0.2.80", "7000"])
        .timeout(Duration::from_secs(90))
        .spawn()
        .unwrap();
    let greeted = wait_until("the banner", PATIENCE, async || match open.stdout() {
        text if text.contains("hello") => Ok(()),
        text => Err(text),
    });
    greeted.await.unwrap();
    assert_eq!(
        gateway.stop(Duration::from_secs(40)).await.unwrap(),
        Some(0),
        "{}",
        gateway.process().stderr()
    );
    assert!(open.wait(PATIENCE).await.is_some(), "the flow is closed");
    assert_eq!(raw.connections().len(), 1);
    no_rules(&lab).await;
}

#[tokio::test]
async fn a_sigterm_during_the_start_leaves_nothing_behind() {
    let lab = Lab::builder().build().unwrap();
    for _ in 0..5 {
        let mut gateway = gateway(&lab, &block(&["allowed.test:443"])).launch().unwrap();
        let code = gateway.stop(PATIENCE).await.unwrap();
        // Before its handlers stand, the signal ends it as it ends any program.
        assert!(
            matches!(code, None | Some(0)),
            "{code:?}: {}",
            gateway.process().stderr()
        );
        assert!(
            gateway.process().pid().is_none(),
            "it goes on: {}",
            gateway.process().stderr()
        );
        no_rules(&lab).await;
    }
}

/// The whole appliance in one process is a gateway as any other is.
#[tokio::test]
async fn up_is_a_gateway() {
    let lab = Lab::builder().build().unwrap();
    let up = wrapper(
        &lab,
        "if [ \"$1\" = gateway ]; then shift; set -- up \"$@\"; fi\nexec",
    );
    let mut gateway = start(gateway_by(&lab, up, &block(&["allowed.test:443"]))).await;
    let arguments = std::fs::read(format!("/proc/{}/cmdline", gateway.process().pid().unwrap())).unwrap();
    assert!(
        String::from_utf8_lossy(&arguments).contains("\0up\0"),
        "{arguments:?}"
    );
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
    assert!(dig(&lab, &["evil.test"]).await.is_blocked());
    event(
        &mut gateway.events(),
        &[("name", "evil.test"), ("verdict", "refuse")],
    )
    .await;
    assert_eq!(gateway.stop(Duration::from_secs(20)).await.unwrap(), Some(0));
    no_rules(&lab).await;
}

/// What the next message to a service manager's socket says.
fn told(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).expect("a message in time");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[tokio::test]
async fn the_service_manager_is_told_when_it_is_ready_and_when_it_stops() {
    let lab = Lab::builder().build().unwrap();
    let path = lab.dir().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let managed = wrapper(&lab, &format!("NOTIFY_SOCKET={} exec", path.display()));
    let mut gateway = gateway_by(&lab, managed, &block(&["allowed.test:443"]))
        .launch()
        .unwrap();
    let ready = tokio::task::spawn_blocking(move || (told(&socket), socket));
    let (text, socket) = ready.await.unwrap();
    assert!(text.lines().any(|line| line == "READY=1"), "{text}");
    // Ready means ready: the very next packets are served.
    assert_eq!(dig(&lab, &["allowed.test"]).await.data(), ["192.0.2.10"]);
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
    let (code, status) = gateway.status().await.unwrap();
    assert_eq!(
        (code, &status["interception"]["state"]),
        (Some(0), &"up".into()),
        "{status}"
    );
    assert_eq!(gateway.stop(Duration::from_secs(20)).await.unwrap(), Some(0));
    let text = tokio::task::spawn_blocking(move || told(&socket)).await.unwrap();
    assert!(text.lines().any(|line| line == "STOPPING=1"), "{text}");
    let (code, _) = gateway.status().await.unwrap();
    assert_eq!(code, Some(1), "nobody answers any more");
}

#[tokio::test]
async fn two_labs_with_their_gateways_run_side_by_side() {
    let (one, two) = (Lab::builder().build().unwrap(), Lab::builder().build().unwrap());
    let first = started(&one, &block(&["allowed.test:443"])).await;
    let second = started(&two, &block(&["cdn-a.test:443"])).await;
    for (lab, gateway, allowed, refused) in [
        (&one, &first, "allowed.test", "cdn-a.test"),
        (&two, &second, "cdn-a.test", "allowed.test"),
    ] {
        run(lab, &["curl", "-sS", &format!("https://{allowed}/")])
            .await
            .expect_success();
        assert!(dig(lab, &[refused]).await.is_blocked());
        event(&mut gateway.events(), &[("name", refused), ("verdict", "refuse")]).await;
        assert_eq!(lab.origins().requests_of(refused).len(), 0);
    }
    drop(first);
    run(&two, &["curl", "-sS", "https://cdn-a.test/"])
        .await
        .expect_success();
}

#[tokio::test]
async fn a_second_gateway_beside_a_running_one_refuses_to_start_and_harms_nothing() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let second = lab
        .gw()
        .command(tidegate_e2e::tidegate())
        .args(["gateway", "--config"]);
    let second = second.arg(gateway.path("tidegate.yaml")).run().await.unwrap();
    assert_eq!(second.code(), Some(1), "{second}");
    assert!(second.errors().contains("another gateway runs"), "{second}");
    let (code, status) = gateway.status().await.unwrap();
    assert_eq!(
        (code, &status["interception"]["restored"]),
        (Some(0), &0.into()),
        "{status}"
    );
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
}

#[tokio::test]
async fn explain_and_status_ask_the_running_gateway() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443", "*.npm.test:8443"])).await;
    let ask = async |args: &[&str]| {
        let command = lab
            .gw()
            .command(tidegate_e2e::tidegate())
            .args(["explain", "--config"]);
        command
            .arg(gateway.path("tidegate.yaml"))
            .args(args)
            .run()
            .await
            .unwrap()
    };
    for job in ["static-10.77.1.2", "10.77.1.2", "fd77:1::2"] {
        let permitted = ask(&["--job", job, "allowed.test", "x.npm.test:8443"]).await;
        assert_eq!(permitted.code(), Some(0), "{permitted}");
        assert!(
            permitted.text().contains("policy   build.yaml version 1, block"),
            "{permitted}"
        );
        let refused = ask(&[
            "--json",
            "--job",
            job,
            "allowed.test",
            "evil.test:80",
            "192.0.2.66",
        ])
        .await;
        assert_eq!(refused.code(), Some(4), "{refused}");
        let all: serde_json::Value = serde_json::from_str(&refused.text()).unwrap();
        assert_eq!(
            (&all[1]["verdict"], &all[1]["reason"]),
            (&"refuse".into(), &"not-allowed".into()),
            "{refused}"
        );
        assert_eq!(all[2]["reason"], "no-name", "{refused}");
    }
    // Whose machine nobody has seen may be anybody's; one that spoke is its network's.
    let unseen = ask(&["--job", "10.77.1.9", "allowed.test"]).await;
    assert!(unseen.text().contains("unbound-source"), "{unseen}");
    dig_on(&lab, 1, &["localhost"]).await;
    let unleased = ask(&["--job", "10.77.1.3", "allowed.test"]).await;
    assert_eq!(unleased.code(), Some(4), "{unleased}");
    assert!(unleased.text().contains("default.yaml"), "{unleased}");
    let unknown = ask(&["--job", "no-such-job", "allowed.test"]).await;
    assert_eq!(unknown.code(), Some(1), "{unknown}");
    assert!(
        unknown.errors().contains("no lease has the id or the source"),
        "{unknown}"
    );
    // Asking resolves nothing and opens nothing.
    assert!(lab.dns().log().is_empty() && lab.origins().connections().is_empty());
    let config = gateway.path("tidegate.yaml");
    let status = lab
        .gw()
        .command(tidegate_e2e::tidegate())
        .args(["status", "--config"])
        .arg(&config)
        .run()
        .await
        .unwrap();
    for part in [
        "gateway lab-gw",
        "interception up",
        "198.51.100.53",
        "healthy",
        "acme/web",
        "build.yaml",
    ] {
        assert!(status.text().contains(part), "{part}: {status}");
    }
    only_the_owner_may_ask(&lab, &config).await;
}

/// The status socket shows policies and sources: not to everybody on the machine.
async fn only_the_owner_may_ask(lab: &Lab, config: &Path) {
    let nobody = [
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--no-new-privs",
        "--",
    ];
    let command = lab
        .gw()
        .command("setpriv")
        .args(nobody)
        .arg(tidegate_e2e::tidegate());
    let asked = command
        .args(["status", "--config"])
        .arg(config)
        .run()
        .await
        .unwrap();
    assert!(!asked.success() && !asked.text().contains("acme"), "{asked}");
}

/// A runner that is switched off and on, or moved, is served again; its neighbour notices nothing.
#[tokio::test]
async fn a_link_that_goes_down_and_up_is_served_again() {
    let lab = Lab::builder().build().unwrap();
    let gateway = start(gateway(&lab, &block(&["allowed.test:443"])).lease(1, "other", "build.yaml")).await;
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
    lab.gw().ip("link set port0-0 down").unwrap();
    run_on(&lab, 1, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
    lab.gw().ip("link set port0-0 up").unwrap();
    let back = wait_until("the runner to be served", PATIENCE, async || {
        let answer = dig_on(&lab, 0, &["+time=1", "allowed.test"]).await;
        if answer.data() == ["192.0.2.10"] {
            Ok(())
        } else {
            Err(answer)
        }
    });
    back.await.unwrap();
    let (code, status) = gateway.status().await.unwrap();
    assert_eq!(code, Some(0), "{status}");
}

/// A machine that was made anew under a leased address is, until the gateway is told, a stranger there: its
/// queries are answered by TCP, which proves the way back, and so it works.
#[tokio::test]
async fn a_new_machine_under_a_leased_address_is_served_by_tcp() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    run(&lab, &["curl", "-sS", "-4", "https://allowed.test/"])
        .await
        .expect_success();
    bound(&lab, 0).await;
    lab.runner(0).set_mac("02:77:01:00:00:99").unwrap();
    lab.runner(0)
        .ip("route replace default via 10.77.1.1\nroute replace default via fd77:1::1")
        .unwrap();
    let served = wait_until("the new machine to be served", PATIENCE, async || {
        let answer = dig(&lab, &["+time=1", "allowed.test"]).await;
        if answer.data() == ["192.0.2.10"] {
            Ok(answer)
        } else {
            Err(answer)
        }
    });
    served.await.unwrap();
    run(&lab, &["curl", "-sS", "-4", "https://allowed.test/"])
        .await
        .expect_success();
    let fields = [
        ("kind", "dns"),
        ("source", "10.77.1.2"),
        ("reason", "spoofed-source"),
        ("verdict", "refuse"),
    ];
    event(&mut gateway.events(), &fields).await;
}
