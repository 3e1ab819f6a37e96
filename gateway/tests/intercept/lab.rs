//! A gateway, two runner networks and an outside, in namespaces of their own:
//! owns their making and removal; never touches the machine's own network.

use std::{
    fs::File,
    net::SocketAddr,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};
use tidegate_gateway::intercept::{InterceptPlan, InterfaceName, NetworkPlan, Steering};

/// No wait in these tests is longer; what was seen last is printed then.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The ports of the test's "proxy".
pub(crate) const PROXY_PORT: u16 = 15_001;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Gateway `gw` with `runners0` (10.77.1.1, fd77:1::1) towards `a` (.2),
/// `runners1` (10.77.2.1, fd77:2::1) towards `b` (.2) and `uplink`
/// (10.88.0.1, fd88::1) towards `out` (.2).
pub(crate) struct Lab {
    prefix: String,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let lab = Self {
            prefix: format!("tgi-{}-{number}", std::process::id()),
        };
        for role in ["gw", "a", "b", "out"] {
            sh(&format!("ip netns add {}", lab.ns(role)));
            lab.exec(role, "ip link set lo up");
            // Addresses are usable at once instead of after duplicate detection.
            lab.exec(
                role,
                "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0",
            );
        }
        lab.link("runners0", "a", "10.77.1", "fd77:1");
        lab.link("runners1", "b", "10.77.2", "fd77:2");
        lab.link("uplink", "out", "10.88.0", "fd88");
        // A machine on which forwarding was on: installation must close it.
        lab.exec(
            "gw",
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
        );
        lab
    }

    fn link(&self, gateway_side: &str, role: &str, v4: &str, v6: &str) {
        let (gw, peer) = (self.ns("gw"), self.ns(role));
        sh(&format!(
            "ip -n {gw} link add {gateway_side} type veth peer name eth0 netns {peer}"
        ));
        for (ns, device, host) in [(&gw, gateway_side, 1), (&peer, "eth0", 2)] {
            sh(&format!("ip -n {ns} addr add {v4}.{host}/24 dev {device}"));
            sh(&format!("ip -n {ns} addr add {v6}::{host}/64 dev {device} nodad"));
            sh(&format!("ip -n {ns} link set {device} up"));
        }
        sh(&format!("ip -n {peer} route add default via {v4}.1"));
        sh(&format!("ip -n {peer} -6 route add default via {v6}::1"));
    }

    pub(crate) fn ns(&self, role: &str) -> String {
        format!("{}-{role}", self.prefix)
    }

    /// Runs a command line in a namespace; fails the test if it fails.
    pub(crate) fn exec(&self, role: &str, command: &str) -> String {
        sh(&format!("ip netns exec {} {command}", self.ns(role)))
    }

    /// Runs blocking work in a namespace, on a thread of its own.
    pub(crate) fn run<T: Send + 'static>(&self, role: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
        spawn(&self.ns(role), work)
            .join()
            .expect("the work does not panic")
    }

    /// Runs asynchronous work in the gateway's namespace.
    pub(crate) fn gateway<F, T>(&self, work: impl FnOnce() -> F + Send + 'static) -> T
    where
        F: Future<Output = T>,
        T: Send + 'static,
    {
        self.run("gw", || block_on(work()))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for role in ["gw", "a", "b", "out"] {
            let _ = Command::new("ip").args(["netns", "del", &self.ns(role)]).status();
        }
    }
}

/// Starts blocking work on a thread that has entered a namespace.
pub(crate) fn spawn<T: Send + 'static>(
    namespace: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let namespace = File::open(format!("/run/netns/{namespace}")).expect("namespace exists");
    thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("enter namespace");
        work()
    })
}

/// [`spawn`], awaited by a test that runs in the gateway.
pub(crate) async fn from<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = tokio::sync::oneshot::channel();
    spawn(namespace, move || done.send(work()).ok());
    result.await.expect("the work does not panic")
}

fn block_on<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

/// The plan for both runner networks of a [`Lab`].
pub(crate) fn plan() -> InterceptPlan {
    let network = |name: &str, interface: &str, addresses: [&str; 2]| {
        let addresses = addresses.iter().map(|a| a.parse().expect("an address")).collect();
        NetworkPlan::new(name, InterfaceName::parse(interface).expect("a name"), addresses)
    };
    InterceptPlan {
        networks: vec![
            network("a", "runners0", ["10.77.1.1", "fd77:1::1"]),
            network("b", "runners1", ["10.77.2.1", "fd77:2::1"]),
        ],
        tcp_port: PROXY_PORT,
        udp_port: PROXY_PORT,
        runner_api: vec![addr("10.77.1.1:443"), addr("[fd77:1::1]:443")],
        refuse_v6_tcp: false,
        preserve_source: false,
        steering: Steering::default(),
    }
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Asks again until the answer is right; fails with the last one.
pub(crate) fn until<T: std::fmt::Debug>(mut ask: impl FnMut() -> T, right: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if right(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "last seen: {answer:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("a shell");
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// [`until`] for questions that are asked asynchronously.
pub(crate) async fn until_async<T: std::fmt::Debug>(
    mut ask: impl AsyncFnMut() -> T,
    right: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask().await;
        if right(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "last seen: {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
