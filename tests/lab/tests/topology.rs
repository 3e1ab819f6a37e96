//! Shows that labs come up, stand beside each other and go without a trace,
//! and that the counter of leaks counts.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use tidegate_lab::{Lab, Signal, plan, wait_until};

const SOON: Duration = Duration::from_secs(10);

/// Everything on the machine that carries the id.
fn traces(id: &str) -> Vec<String> {
    let mark = format!("tg-{id}-");
    let mut traces = Vec::new();
    for dir in ["/run/netns", "/etc/netns"] {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        traces.extend(names.filter(|name| name.starts_with(&mark)));
    }
    let home = Path::new("/run/tidegate-lab").join(id);
    traces.extend(home.exists().then(|| home.display().to_string()));
    traces
}

/// The host's links that are called like one of the lab's.
fn links_on_the_host() -> Vec<String> {
    let ours = [
        "up0", "eth0", "direct0", "runners0", "runners1", "port0-0", "port1-0",
    ];
    let entries = std::fs::read_dir("/sys/class/net").unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| ours.contains(&name.as_str())).collect()
}

#[test]
fn two_labs_stand_at_once_and_leave_no_trace() {
    let before = links_on_the_host();
    let build = || Lab::builder().network(1).direct().build().unwrap();
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(build);
        let two = build();
        (one.join().unwrap(), two)
    });
    assert_ne!(one.id(), two.id());
    assert_eq!(links_on_the_host(), before, "a lab must not show on the host");
    let ids = [one.id().to_owned(), two.id().to_owned()];
    assert!(!traces(&ids[0]).is_empty() && !traces(&ids[1]).is_empty());
    drop(one);
    assert_eq!(traces(&ids[0]), [""; 0]);
    assert_eq!(two.leaks().unwrap().packets, 0, "the other lab still works");
    two.close().unwrap();
    assert_eq!(traces(&ids[1]), [""; 0]);
}

#[tokio::test]
async fn a_dead_owners_lab_is_swept_with_its_processes() {
    // A second process of this test binary builds a lab and is killed.
    if std::env::var_os("LAB_TO_LEAVE").is_some() {
        let lab = Lab::builder().build().unwrap();
        let sleeper = lab.runner(0).command("sleep").arg("1000").spawn().unwrap();
        println!("lab {} {}.", lab.id(), sleeper.pid().unwrap());
        tokio::time::sleep(Duration::from_mins(10)).await;
    }
    let mut owner = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_dead_owners_lab_is_swept_with_its_processes"])
        .args(["--nocapture", "--test-threads=1"])
        .env("LAB_TO_LEAVE", "1")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = owner.stdout.take().unwrap();
    let mut text = String::new();
    let id = wait_until("the other process's lab", SOON, async || {
        use tokio::io::AsyncReadExt as _;
        let mut chunk = [0; 4096];
        let read = output.read(&mut chunk).await.unwrap();
        text += &String::from_utf8_lossy(&chunk[..read]);
        let id = text.split_once("lab ").and_then(|(_, rest)| rest.split_once('.'));
        id.map(|(id, _)| id.to_owned()).ok_or_else(|| text.clone())
    });
    let id = id.await.unwrap();
    let (id, sleeper) = id.split_once(' ').unwrap();
    let sleeper = format!("/proc/{sleeper}/ns/net");
    assert!(std::fs::metadata(&sleeper).is_ok());
    tidegate_lab::sweep().unwrap();
    assert!(!traces(id).is_empty(), "a living owner's lab must stay");
    owner.kill().await.unwrap();
    // Another test's build may sweep it before we do.
    tidegate_lab::sweep().unwrap();
    assert_eq!(traces(id), [""; 0]);
    // Whoever sweeps first has sent the signal; the end comes a moment later.
    let ended = wait_until("the end of what ran in it", SOON, async || {
        std::fs::metadata(&sleeper).map_or(Ok(()), |_| Err(sleeper.clone()))
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn who_is_still_on_the_way_into_a_lab_ends_with_it() {
    let lab = Lab::builder().build().unwrap();
    // Stopped between the start of `ip` and its entry, as a busy machine can
    // leave it for seconds: its words say where it goes, its network is ours.
    let mut comer = std::process::Command::new("sh")
        .args(["-c", "kill -STOP $$; sleep 1000", "ip", "netns", "exec"])
        .arg(format!("tg-{}-runner0-0", lab.id()))
        .spawn()
        .unwrap();
    let stat = format!("/proc/{}/stat", comer.id());
    let stopped = wait_until("its stop", SOON, async || {
        let stat = std::fs::read_to_string(&stat).unwrap();
        if stat.contains(") T ") { Ok(()) } else { Err(stat) }
    });
    stopped.await.unwrap();
    lab.close().unwrap();
    let ended = wait_until("its end", SOON, async || {
        comer.try_wait().unwrap().ok_or("it still runs")
    });
    assert!(!ended.await.unwrap().success());
}

#[tokio::test]
async fn packets_with_a_runners_source_are_leaks() {
    let lab = Lab::builder().build().unwrap();
    // Else the kernel first asks for the next hop's MAC, by ARP from the same
    // source, which is a leak too.
    let ping = lab.gw().command("ping").args(["-c1", "192.0.2.66"]);
    ping.run().await.unwrap().expect_success();
    assert_eq!(lab.leaks().unwrap().packets, 0);
    // The gateway's own address on the runner network is in the runner range.
    for (source, target) in [
        (plan::gateway_v4(0).into(), plan::site(66)[0]),
        (IpAddr::from(plan::gateway_v6(0)), plan::site(66)[1]),
    ] {
        lab.gw()
            .enter(|| {
                let socket = UdpSocket::bind(SocketAddr::new(source, 0)).unwrap();
                socket.send_to(b"leak", SocketAddr::new(target, 9)).unwrap();
            })
            .unwrap();
    }
    let leaks = lab.leaks().unwrap();
    assert_eq!(leaks.packets, 2, "{leaks:?}");
    assert_eq!(
        leaks.seen,
        ["10.77.1.1 192.0.2.66 udp", "fd77:1::1 2001:db8:200::66 ipv6-udp"]
            .map(|line| line.replace("ipv6-", ""))
    );
}

#[tokio::test]
async fn runners_reach_the_gateways_machine_but_nothing_behind_it() {
    let lab = Lab::builder().build().unwrap();
    for runner in [lab.runner(0), lab.runner(1)] {
        for gateway in ["10.77.1.1", "fd77:1::1"] {
            let ping = runner.command("ping").args(["-c1", "-W10", gateway]);
            ping.run().await.unwrap().expect_success();
        }
    }
    for beyond in ["192.0.2.10", "2001:db8:200::10"] {
        let ping = lab.runner(0).command("ping").args(["-c1", "-W1", beyond]);
        ping.run().await.unwrap().expect_failure();
        let ping = lab.gw().command("ping").args(["-c1", "-W10", beyond]);
        ping.run().await.unwrap().expect_success();
    }
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

#[tokio::test]
async fn a_runner_can_have_more_addresses_and_another_mac() {
    let lab = Lab::builder().build().unwrap();
    let runner = lab.runner(0);
    for address in ["10.77.1.200/24", "fd77:1::200/64"] {
        runner.add_address(address).unwrap();
        let source = address.split_once('/').unwrap().0;
        let gateway = if source.contains(':') {
            "fd77:1::1"
        } else {
            "10.77.1.1"
        };
        let ping = runner
            .command("ping")
            .args(["-c1", "-W10", "-I", source, gateway]);
        ping.run().await.unwrap().expect_success();
    }
    runner.set_mac("02:77:00:00:00:99").unwrap();
    assert_eq!(runner.mac().unwrap(), "02:77:00:00:00:99");
    let ping = runner.command("ping").args(["-c1", "-W10", "10.77.1.1"]);
    ping.run().await.unwrap().expect_success();
}

#[tokio::test]
async fn commands_have_a_clean_environment_their_own_etc_and_a_time_limit() {
    let lab = Lab::builder().runners(1).build().unwrap();
    let runner = lab.runner(0);
    let shell = |script: &str| runner.command("sh").args(["-c", script]);
    let env = shell("env").run().await.unwrap().expect_success().text();
    assert!(env.contains("CURL_CA_BUNDLE=/run/tidegate-lab/") && !env.contains("CARGO"));
    let resolv = shell("cat /etc/resolv.conf").run().await.unwrap().text();
    assert_eq!(resolv, "nameserver 10.77.1.1\n");
    runner.set_hosts("192.0.2.66 allowed.test\n").unwrap();
    let hosts = shell("getent hosts allowed.test").run().await.unwrap().text();
    assert!(hosts.starts_with("192.0.2.66"), "{hosts}");
    let fed = shell("cat; echo oops >&2; exit 3")
        .input("in")
        .run()
        .await
        .unwrap();
    assert_eq!(
        (fed.text(), fed.errors(), fed.code()),
        ("in".into(), "oops\n".into(), Some(3))
    );
    let stuck = shell("echo begun; sleep 1000").timeout(Duration::from_millis(300));
    let stuck = stuck.run().await.unwrap();
    assert_eq!((stuck.status, stuck.text()), (None, "begun\n".into()));
}

#[tokio::test]
async fn a_spawned_process_can_be_fed_watched_signalled_and_dies_with_its_handle() {
    let lab = Lab::builder().runners(1).build().unwrap();
    let mut cat = lab.runner(0).command("cat").spawn().unwrap();
    let mut stdin = cat.stdin().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"hello")
        .await
        .unwrap();
    let echoed = wait_until("the echo", SOON, async || match cat.stdout() {
        text if text == "hello" => Ok(()),
        text => Err(text),
    });
    echoed.await.unwrap();
    assert!(cat.wait(Duration::ZERO).await.is_none());
    cat.signal(Signal::SIGTERM).unwrap();
    assert_eq!(cat.wait(SOON).await.unwrap().code(), None);

    let sleeper = lab.runner(0).command("sleep").arg("1000").spawn().unwrap();
    let proc = format!("/proc/{}/stat", sleeper.pid().unwrap());
    drop(sleeper);
    let gone = wait_until("its end", SOON, async || match std::fs::read_to_string(&proc) {
        Err(_) => Ok(()),
        Ok(stat) if stat.contains(") Z ") => Ok(()),
        Ok(stat) => Err(stat),
    });
    gone.await.unwrap();
}

#[tokio::test]
async fn code_runs_inside_a_machine() {
    let lab = Lab::builder().runners(1).build().unwrap();
    let (v4, wanted) = (lab.runner(0).v4(), plan::runner_v4(0, 0));
    assert_eq!(v4, wanted);
    let bound = lab.runner(0).enter(|| UdpSocket::bind((wanted, 0)).is_ok());
    assert!(bound.unwrap());
    assert!(UdpSocket::bind((wanted, 0)).is_err(), "the caller stays outside");
    let bound = lab
        .runner(0)
        .enter_async(move || async move { tokio::net::UdpSocket::bind((wanted, 0)).await.is_ok() });
    assert!(bound.await.unwrap());
}
