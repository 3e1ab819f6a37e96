//! Further addresses of a job's machine: the job's own while it runs, nobody's when it has ended.

use tidegate_e2e::dns::dig_on;
use tidegate_e2e::store::start_of;
use tidegate_e2e::{PATIENCE, bound, event, run_on};
use tidegate_lab::{Lab, wait_until};

use super::super::{NAMES, lab};
use super::{NOTHING, fleet, issuer, post_from, signed};

/// Which names a runner reaches from one of its addresses.
async fn reached_from(lab: &Lab, runner: usize, from: &str) -> Vec<&'static str> {
    let mut reached = Vec::new();
    for name in NAMES {
        let url = format!("https://{name}/");
        let line = [
            "curl",
            "-sS",
            "-m",
            "3",
            "--interface",
            from,
            "-o",
            "/dev/null",
            &url,
        ];
        if run_on(lab, runner, &line).await.success() {
            reached.push(name);
        }
    }
    reached
}

#[tokio::test]
async fn a_fresh_address_of_an_ended_jobs_machine_gets_nothing_and_registers_nobody() {
    let lab = lab();
    let issuer = issuer(&lab);
    let fleet = fleet(&lab, &issuer, "").await;
    fleet.register(0, "acme/web", "ci.yml").await;
    fleet.end(0).await.expect(200);
    for (fresh, prefix, gateway) in [("10.77.1.200", 24, "10.77.1.1"), ("fd77:1::200", 64, "fd77:1::1")] {
        lab.runner(0).add_address(&format!("{fresh}/{prefix}")).unwrap();
        for name in NAMES {
            let answer = dig_on(&lab, 0, &["-b", fresh, &format!("@{gateway}"), name]).await;
            assert!(answer.data().is_empty(), "{fresh}: {answer}");
        }
        for (token, start) in [
            (Some(&fleet.runner), start_of("acme/lax", "ci.yml")),
            (None, signed(&issuer, "acme/lax")),
        ] {
            let answer = post_from(&lab, 0, (fresh, gateway), token.map(String::as_str), start).await;
            assert_eq!(answer.0, 409, "{fresh}: {answer:?}");
        }
        assert_eq!(reached_from(&lab, 0, fresh).await, NOTHING, "{fresh}");
    }
}

/// While its lease lives, every further address of the machine is the same job: never the default, never another's.
#[tokio::test]
async fn an_unused_address_and_a_fresh_ipv6_of_a_leased_machine_are_the_same_job() {
    let lab = lab();
    let issuer = issuer(&lab);
    let fleet = fleet(&lab, &issuer, "").await;
    let job = fleet.register(0, "acme/web", "ci.yml").await;
    bound(&lab, 0).await;
    for (fresh, prefix, gateway) in [("10.77.1.200", 24, "10.77.1.1"), ("fd77:1::200", 64, "fd77:1::1")] {
        lab.runner(0).add_address(&format!("{fresh}/{prefix}")).unwrap();
        let server = format!("@{gateway}");
        // Until the address is seen at its machine it may be refused; it is never more than the job's own.
        let same = wait_until("the address to be the job's", PATIENCE, async || {
            for name in ["allowed.test", "evil.test"] {
                let answer = dig_on(&lab, 0, &["-b", fresh, &server, name]).await;
                assert!(answer.data().is_empty(), "{fresh}: {answer}");
            }
            let own = dig_on(&lab, 0, &["-b", fresh, &server, "cdn-a.test"]).await;
            if own.data().is_empty() { Err(own) } else { Ok(()) }
        });
        same.await.unwrap();
        let fields = [
            ("source", fresh),
            ("verdict", "permit"),
            ("job.id", job["id"].as_str().unwrap()),
        ];
        event(&mut fleet.gateway().events(), &fields).await;
        for (token, start) in [
            (Some(&fleet.runner), start_of("acme/lax", "ci.yml")),
            (Some(&fleet.runner), start_of("acme/web", "other.yml")),
        ] {
            let answer = post_from(&lab, 0, (fresh, gateway), token.map(String::as_str), start).await;
            assert_eq!(answer.0, 409, "{fresh}: {answer:?}");
        }
        assert_eq!(reached_from(&lab, 0, fresh).await, ["cdn-a.test"], "{fresh}");
    }
}
