//! Open flows and changes: of policy, of lease, and the gateway's own end (L15, invariant 8).

use std::time::Duration;

use tidegate_policy::verdict::{Reason, Verdict};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::POLICY;
use crate::testing::tls::Site;
use crate::testing::{Bench, RUNNER, accept, in_net, is_reset, origin, read_all, read_exactly, until};

const WITHOUT_SSH: &str = "egress-policy: block\nplatform: none\nallowed-endpoints: a.test:443\n";

/// Two open flows of the runner: one by a ticket for `s.test`, one by an address endpoint.
async fn two_flows(bench: &Bench) -> [(TcpStream, TcpStream); 2] {
    bench.ticket("s.test", "192.0.2.22");
    let mut flows = Vec::new();
    for address in ["192.0.2.22:22", "198.51.100.7:7000"] {
        let listener = origin(address).await;
        let mut runner = bench.connect(address).await;
        let mut server = accept(&listener).await;
        server.write_all(b"hello").await.unwrap();
        assert_eq!(read_exactly(&mut runner, 5).await, b"hello");
        flows.push((runner, server));
    }
    flows
        .try_into()
        .unwrap_or_else(|_| unreachable!("two addresses, two flows"))
}

async fn lives((runner, server): &mut (TcpStream, TcpStream)) {
    runner.write_all(b"ping").await.unwrap();
    assert_eq!(read_exactly(server, 4).await, b"ping");
}

#[test]
fn l15_a_new_policy_closes_what_it_refuses_and_leaves_the_rest_alone() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        let [mut ssh, mut custom] = two_flows(&bench).await;
        bench.change_policy(&WITHOUT_SSH.replace("a.test:443", "198.51.100.7:7000"));
        assert_eq!(bench.proxy.registry().rejudge_subject(bench.subject().id), 1);
        assert!(is_reset(&mut ssh.0).await && is_reset(&mut ssh.1).await);
        lives(&mut custom).await;
        let (permit, refusal) = (bench.events.nth(1).await, bench.events.nth(2).await);
        assert_eq!((permit.verdict, permit.bytes_down), (Verdict::Permit, 5));
        assert_eq!(
            (refusal.verdict, refusal.reason),
            (Verdict::Refuse, Some(Reason::PolicyChanged))
        );
        assert_eq!(refusal.note.as_deref(), Some("terminated by policy: not-allowed"));
        bench.open_flows(1).await;
    });
}

#[test]
fn a_policy_that_still_allows_closes_nothing_even_when_the_ticket_has_gone() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        let mut flows = two_flows(&bench).await;
        bench.subject().tickets().clear();
        bench.change_policy(&POLICY.replace("a.test:443 ", ""));
        assert_eq!(bench.proxy.registry().rejudge_all(), 0);
        for flow in &mut flows {
            lives(flow).await;
        }
    });
}

#[test]
fn the_end_of_a_lease_closes_what_its_successor_may_not() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        let [mut ssh, mut custom] = two_flows(&bench).await;
        bench.change_lease(&POLICY.replace("s.test:22 ", ""));
        assert_eq!(bench.proxy.registry().rejudge_source(RUNNER.parse().unwrap()), 1);
        assert!(is_reset(&mut ssh.0).await);
        lives(&mut custom).await;
        assert_eq!(bench.events.nth(2).await.reason, Some(Reason::LeaseChanged));
        // Now it is the new subject's flow.
        bench.change_policy(WITHOUT_SSH);
        assert_eq!(bench.proxy.registry().rejudge_subject(bench.subject().id), 1);
        assert!(is_reset(&mut custom.0).await);
    });
}

#[test]
fn a_change_between_verdict_and_admission_is_not_missed() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        bench.ticket("s.test", "192.0.2.22");
        let listener = origin("192.0.2.22:22").await;
        let mut runner = bench.connect("192.0.2.22:22").await;
        let mut server = accept(&listener).await;
        // Dialled early, judged by nobody's bytes yet.
        bench.change_policy(WITHOUT_SSH);
        bench.proxy.registry().rejudge_all();
        server.write_all(b"hello").await.unwrap();
        assert!(is_reset(&mut runner).await);
        assert_eq!(bench.events.nth(1).await.verdict, Verdict::Refuse);
    });
}

#[test]
fn from_audit_to_block_closes_what_was_only_recorded() {
    in_net(|| async {
        let bench = Bench::new(&POLICY.replace("block", "audit"));
        let listener = origin("192.0.2.66:443").await;
        let mut runner = bench.connect("192.0.2.66:443").await;
        let mut server = accept(&listener).await;
        runner.write_all(b"\x01\x02\x03").await.unwrap();
        assert_eq!(read_exactly(&mut server, 3).await, b"\x01\x02\x03");
        bench.change_policy(POLICY);
        assert_eq!(bench.proxy.registry().rejudge_all(), 1);
        assert!(is_reset(&mut runner).await);
        let verdicts: Vec<_> = [bench.events.nth(1).await, bench.events.nth(2).await]
            .map(|event| event.verdict)
            .into();
        assert_eq!(verdicts, [Verdict::WouldRefuse, Verdict::Refuse]);
    });
}

#[test]
fn l15_from_audit_to_block_closes_a_flow_that_has_not_said_what_it_is() {
    in_net(|| async {
        let bench = Bench::new(&POLICY.replace("block", "audit"));
        for said in [&b""[..], b"\x16\x03\x01", b"GET /secret"] {
            bench.change_policy(&POLICY.replace("block", "audit"));
            let listener = origin("192.0.2.66:443").await;
            let mut runner = bench.connect("192.0.2.66:443").await;
            let mut server = accept(&listener).await;
            runner.write_all(said).await.unwrap();
            assert_eq!(read_exactly(&mut server, said.len()).await, said);
            bench.change_policy(POLICY);
            bench.proxy.registry().rejudge_all();
            assert!(is_reset(&mut runner).await && is_reset(&mut server).await);
            bench.open_flows(0).await;
        }
        let refusals = || {
            bench
                .events
                .all()
                .iter()
                .filter(|event| event.reason == Some(Reason::PolicyChanged))
                .count()
        };
        until(|| refusals() == 3, || format!("{:?}", bench.events.all())).await;
    });
}

#[test]
fn l15_from_audit_to_block_closes_a_stream_to_a_foreign_resolver() {
    in_net(|| async {
        let bench = Bench::new(&POLICY.replace("block", "audit"));
        let mut runner = bench.connect("192.0.2.53:53").await;
        assert_eq!(read_exactly(&mut runner, 7).await, b"relayed");
        bench.change_policy(POLICY);
        assert_eq!(bench.proxy.registry().rejudge_all(), 1);
        bench.open_flows(0).await;
        let event = bench.events.nth(1).await;
        assert_eq!(
            (event.verdict, event.reason),
            (Verdict::Refuse, Some(Reason::PolicyChanged)),
            "{event:?}"
        );
        assert!(matches!(read_all(&mut runner).await.as_deref(), Ok([]) | Err(_)));
    });
}

#[test]
fn l15_what_a_policy_permitted_that_is_gone_by_the_time_of_the_connection_is_not_sent() {
    in_net(|| async {
        let (bench, site) = (Bench::new(POLICY), Site::ordinary(&["a.test"]));
        bench.resolves("a.test", &["192.0.2.10"]);
        let listener = origin("192.0.2.10:443").await;
        let held = bench.names.held.clone().lock_owned().await;
        let mut runner = bench.connect("192.0.2.66:443").await;
        runner.write_all(&site.hello("a.test")).await.unwrap();
        let asked = || bench.names.asked.lock().clone();
        until(|| !asked().is_empty(), || format!("{:?}", asked())).await;
        bench.change_policy(&POLICY.replace("a.test:443 ", ""));
        bench.proxy.registry().rejudge_all();
        drop(held);
        assert!(is_reset(&mut runner).await);
        if let Ok(Ok((mut server, _))) =
            tokio::time::timeout(Duration::from_millis(1), listener.accept()).await
        {
            let got = read_all(&mut server).await;
            assert!(!got.as_ref().is_ok_and(|got| !got.is_empty()), "{got:?}");
        }
        let event = bench.events.nth(1).await;
        assert_eq!(
            (event.verdict, event.reason, event.bytes_up),
            (Verdict::Refuse, Some(Reason::PolicyChanged), 0)
        );
    });
}

#[test]
fn l15_a_request_that_a_change_overtook_is_not_sent() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        bench.resolves("a.test", &["192.0.2.10"]);
        let _listener = origin("192.0.2.10:80").await;
        let held = bench.names.held.clone().lock_owned().await;
        let mut runner = bench.connect("192.0.2.66:80").await;
        runner
            .write_all(b"GET /secret HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .unwrap();
        let asked = || bench.names.asked.lock().clone();
        until(|| !asked().is_empty(), || format!("{:?}", asked())).await;
        bench.change_policy(&POLICY.replace("a.test:80 ", ""));
        bench.proxy.registry().rejudge_all();
        drop(held);
        assert!(is_reset(&mut runner).await);
        let event = bench.events.nth(1).await;
        assert_eq!(event.bytes_up, 0, "{event:?}");
    });
}

#[test]
fn a_lease_that_changes_while_a_flow_enters_is_not_missed() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        let before = bench.subject();
        bench.change_lease(POLICY);
        let client = crate::address::ClientAddr::new((RUNNER.parse::<std::net::IpAddr>().unwrap(), 1).into());
        let handle = bench.proxy.registry().enter(before, client).unwrap();
        assert_eq!(handle.subject().id, bench.subject().id);
        assert_eq!(bench.proxy.registry().rejudge_subject(bench.subject().id), 0);
    });
}

#[test]
fn draining_waits_for_flows_and_then_ends_them_with_their_events() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        let flows = two_flows(&bench).await;
        let patience = Duration::from_millis(400);
        let drain = tokio::spawn({
            let proxy = bench.proxy.clone();
            async move { proxy.drain(patience).await }
        });
        drop(flows);
        assert_eq!(drain.await.unwrap(), 0, "both ended by themselves");
        let bench = Bench::new(POLICY);
        let [(mut runner, _server), _custom] = two_flows(&bench).await;
        assert_eq!(bench.proxy.drain(patience).await, 2);
        assert!(is_reset(&mut runner).await);
        until(
            || bench.events.all().len() == 2,
            || format!("{:?}", bench.events.all()),
        )
        .await;
        assert!(
            bench
                .events
                .all()
                .iter()
                .all(|event| event.verdict == Verdict::Permit)
        );
    });
}
