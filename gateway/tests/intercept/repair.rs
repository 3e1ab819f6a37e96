//! What the watcher mends (L20).

use std::sync::Arc;

use tidegate_gateway::{
    intercept::{self, Condition, Guard, InterceptState},
    listen::Family,
};
use tokio::{sync::watch, time::timeout};

use crate::{
    divert::{ask_tcp, serve_tcp},
    lab::{Lab, PATIENCE, addr, from, plan, sh},
};

struct Watched {
    guard: Arc<Guard>,
    states: watch::Receiver<InterceptState>,
}

impl Watched {
    async fn start() -> Self {
        let guard = Arc::new(intercept::install(plan()).await.expect("installs"));
        let (sender, states) = watch::channel(InterceptState::Down {
            error: "not looked yet".to_owned(),
        });
        tokio::spawn(intercept::watch(Arc::clone(&guard), sender));
        let mut watched = Self { guard, states };
        watched.wait(|state| *state == InterceptState::Up).await;
        watched
    }

    async fn wait(&mut self, right: impl Fn(&InterceptState) -> bool) -> InterceptState {
        let last = self.states.clone();
        let waited = timeout(PATIENCE, self.states.wait_for(|state| right(state))).await;
        let Ok(state) = waited else {
            panic!("last seen: {:?}", *last.borrow());
        };
        state.expect("the watcher lives").clone()
    }

    async fn repaired(&mut self, times: u64) -> String {
        let state = self
            .wait(|state| matches!(state, InterceptState::Restored { count, .. } if *count >= times))
            .await;
        assert_eq!(self.guard.verify().await.expect("readable"), Condition::Intact);
        match state {
            InterceptState::Restored { what, .. } => what,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn l20_what_an_operator_undoes_is_put_back() {
    let lab = Lab::new();
    let (runner, gateway) = (lab.ns("a"), lab.ns("gw"));
    lab.gateway(move || async move {
        let mut watched = Watched::start().await;
        tokio::spawn(serve_tcp(Family::V4));
        let damage = [
            ("nft flush ruleset", "table is gone"),
            (
                "nft insert rule inet tidegate from_runner accept",
                "table was changed",
            ),
            ("nft flush chain inet tidegate to_gateway", "table was changed"),
            ("ip -6 rule del priority 7453 iif runners1", "rule missing"),
            ("ip rule del priority 7454 iif runners0", "rule missing"),
            ("ip route flush table 7453", "route missing"),
            ("ip -6 route flush table 7453", "route missing"),
            (
                "sysctl -qw net.ipv4.conf.runners0.forwarding=1",
                "runners0/forwarding is 1",
            ),
            ("sysctl -qw net.ipv6.conf.all.forwarding=1", "all/forwarding is 1"),
        ];
        for (times, (command, what)) in (1..).zip(damage) {
            sh(&format!("ip netns exec {gateway} {command}"));
            let said = watched.repaired(times).await;
            assert!(said.contains(what), "{command}: {said}");
            let answer = from(&runner, || ask_tcp(addr("203.0.113.9:443"))).await;
            assert_eq!(
                answer.expect("diverted"),
                "10.77.1.2 asked for 203.0.113.9:443",
                "after {command}"
            );
        }
    });
}

/// A binding that finds the table gone puts it back before the watcher looks; the operator hears of it all the same.
#[test]
fn l20_a_flush_that_a_binding_mends_is_counted_too() {
    let lab = Lab::new();
    let gateway = lab.ns("gw");
    lab.gateway(move || async move {
        let mut watched = Watched::start().await;
        for times in 1..=5 {
            sh(&format!("ip netns exec {gateway} nft flush ruleset"));
            let mac = tidegate_gateway::link::Mac([2, 0, 0, 0, 0, times]);
            watched
                .guard
                .bind([10, 77, 1, times].into(), Some(mac))
                .await
                .expect("binds");
            watched.repaired(times.into()).await;
        }
        assert_eq!(watched.guard.bound(), 5);
    });
}

#[test]
fn an_interface_that_goes_and_comes_back_is_closed_again() {
    let lab = Lab::new();
    let (runner, gateway) = (lab.ns("a"), lab.ns("gw"));
    lab.gateway(move || async move {
        let mut watched = Watched::start().await;
        tokio::spawn(serve_tcp(Family::V4));
        sh(&format!("ip -n {gateway} link del runners0"));
        let state = watched
            .wait(|state| matches!(state, InterceptState::Down { .. }))
            .await;
        assert_eq!(
            state,
            InterceptState::Down {
                error: "there is no interface runners0".to_owned()
            }
        );

        sh(&format!(
            "ip netns exec {gateway} sysctl -qw net.ipv4.conf.default.forwarding=1; \
             ip -n {gateway} link add runners0 type veth peer name eth0 netns {runner}; \
             ip -n {gateway} addr add 10.77.1.1/24 dev runners0; ip -n {gateway} link set runners0 up; \
             ip -n {runner} addr add 10.77.1.2/24 dev eth0; ip -n {runner} link set eth0 up; \
             ip -n {runner} route add default via 10.77.1.1"
        ));
        watched
            .wait(|state| matches!(state, InterceptState::Restored { .. }))
            .await;
        let forwarding =
            std::fs::read_to_string("/proc/sys/net/ipv4/conf/runners0/forwarding").expect("readable");
        assert_eq!(forwarding.trim(), "0");
        let answer = from(&runner, || ask_tcp(addr("203.0.113.9:443"))).await;
        assert_eq!(answer.expect("diverted"), "10.77.1.2 asked for 203.0.113.9:443");
    });
}

#[test]
fn our_own_bindings_are_not_damage() {
    let lab = Lab::new();
    lab.gateway(move || async move {
        let watched = Watched::start().await;
        for host in 1..=20 {
            let mac = tidegate_gateway::link::Mac([2, 0, 0, 0, 0, host]);
            watched
                .guard
                .bind([10, 77, 1, host].into(), Some(mac))
                .await
                .expect("binds");
        }
        assert_eq!(watched.guard.verify().await.expect("readable"), Condition::Intact);
        assert_eq!(*watched.states.borrow(), InterceptState::Up);
        assert_eq!(watched.guard.bound(), 20);
    });
}
