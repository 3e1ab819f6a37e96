//! `tidegate doctor` in a lab that is broken piece by piece: each piece is named with its command, and the command mends
//! it.

use std::path::Path;

use serde_json::Value;
use tidegate_e2e::store::Fleet;
use tidegate_e2e::{PATIENCE, run_on, tidegate};
use tidegate_lab::{Lab, Machine, Signal, plan, wait_until};

use super::hooks::{Hooked, hooked};

/// What the doctor said.
struct Examined {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Examined {
    /// Those of which something has to be said. How busy this machine is must not decide.
    fn bad(&self) -> Vec<&Value> {
        let bad = self.findings.iter().filter(|one| one["severity"] != "note");
        bad.filter(|one| one["check"] != "round-trip").collect()
    }

    #[track_caller]
    fn sound(&self) {
        assert!(
            self.code == Some(0) && self.bad().is_empty(),
            "{:#?}",
            self.findings
        );
    }

    /// The command that mends the one thing that is wrong, by its check.
    #[track_caller]
    fn mend(&self, check: &str, part: &str) -> String {
        assert_eq!(self.code, Some(1), "{:#?}", self.findings);
        let bad = self.bad();
        let found = bad.iter().find(|one| {
            one["check"] == check && one["what"].as_str().is_some_and(|what| what.contains(part))
        });
        let found = found.unwrap_or_else(|| panic!("{check} is not named by {part:?}: {bad:#?}"));
        found["mend"].as_str().expect("what mends it").to_owned()
    }
}

/// Runs the doctor on a machine.
async fn examine(machine: &Machine, args: &[&str]) -> Examined {
    let output = machine
        .command(tidegate())
        .args(["doctor", "--json"])
        .args(args)
        .run()
        .await
        .unwrap();
    let report: Value = serde_json::from_str(&output.text()).unwrap_or_else(|_| panic!("{output}"));
    assert_eq!(report["sound"], output.code() == Some(0), "{output}");
    Examined {
        code: output.code(),
        findings: report["findings"].as_array().unwrap().clone(),
    }
}

/// Runs a command that the doctor gave, as a person pastes it.
async fn paste(machine: &Machine, command: &str) {
    let bin = tidegate();
    let path = format!(
        "{}:/usr/sbin:/usr/bin:/sbin:/bin",
        bin.parent().map_or(Path::new("/"), |dir| dir).display()
    );
    let shell = machine.command("sh").env("PATH", path).args(["-c", command]);
    shell.run().await.unwrap().expect_success();
}

fn lab() -> Lab {
    Lab::builder().control().build().unwrap()
}

/// A runner whose state is looked at.
struct Patient<'a> {
    machine: &'a Machine,
    hooks: Hooked<'a>,
}

impl<'a> Patient<'a> {
    async fn of(fleet: &Fleet<'a>) -> Self {
        Self {
            machine: fleet.lab.runner(0),
            hooks: hooked(fleet, 0).await,
        }
    }

    async fn examine(&self) -> Examined {
        let (config, dir) = (self.hooks.path("hook.yaml"), self.hooks.path(""));
        let args = ["--from-runner", "--config", &config, "--runner-dir", &dir];
        examine(self.machine, &args).await
    }

    /// One thing is wrong: it is named, and what is said mends it.
    async fn mended(&self, check: &str, part: &str) {
        let command = self.examine().await.mend(check, part);
        println!("{check}: {command}");
        paste(self.machine, &command).await;
        self.examine().await.sound();
    }
}

#[tokio::test]
async fn a_sound_runner_is_sound_and_its_ways_out_are_mended_one_by_one() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    let patient = Patient::of(&fleet).await;
    let runner = patient.machine;
    patient.examine().await.sound();

    let other = plan::runner_v4(0, 1);
    runner
        .ip(&format!("route add default via {other} metric 100"))
        .unwrap();
    patient.mended("route", "other way out").await;
    runner.ip(&format!("route replace default via {other}")).unwrap();
    patient
        .mended("route", "IPv4 does not leave by the gateway")
        .await;
    runner.ip("route del default via 10.77.1.1").unwrap();
    patient.mended("route", "no default route").await;
    let other = plan::runner_v6(0, 1);
    runner.ip(&format!("route replace default via {other}")).unwrap();
    patient
        .mended("route", "IPv6 does not leave by the gateway")
        .await;
    // A piece of a default route is one, too: VPNs cut it so.
    runner
        .ip("link add wg0 type veth peer name wg1\nlink set wg0 up\nlink set wg1 up\nroute add 0.0.0.0/1 dev wg0")
        .unwrap();
    let command = patient.examine().await.mend("route", "other way out");
    assert_eq!(command, "ip route del 0.0.0.0/1 dev wg0");
    paste(runner, &command).await;
    patient.examine().await.sound();
}

#[tokio::test]
async fn a_resolver_that_is_not_the_gateway_is_named_and_replaced() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    let patient = Patient::of(&fleet).await;
    for servers in [
        vec![plan::FOREIGN_DNS_V4.to_string()],
        vec![plan::gateway_v4(0).to_string(), plan::FOREIGN_DNS_V6.to_string()],
        vec![plan::runner_v4(0, 1).to_string()],
        Vec::new(),
    ] {
        patient.machine.set_resolvers(&servers).unwrap();
        patient.mended("resolver", "").await;
    }
    // Its IPv6 address is the gateway as well.
    patient
        .machine
        .set_resolvers(&[plan::gateway_v6(0).to_string()])
        .unwrap();
    patient.examine().await.sound();
}

#[tokio::test]
async fn packets_that_get_lost_for_their_size_are_found() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    let patient = Patient::of(&fleet).await;
    lab.gw().ip("link set port0-0 mtu 1400").unwrap();
    patient.mended("mtu", "get lost on the way").await;
    lab.gw().ip("link set port0-0 mtu 1500").unwrap();
    patient.machine.ip("link set eth0 mtu 1000").unwrap();
    let command = patient.examine().await.mend("mtu", "IPv6 needs 1280");
    assert_eq!(command, "ip link set dev eth0 mtu 1500");
}

#[tokio::test]
async fn what_hooks_need_is_named_and_mended() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    let patient = Patient::of(&fleet).await;
    let hooks = &patient.hooks;
    let script = hooks.dir.join("scripts/job-started.sh");
    std::fs::remove_file(&script).unwrap();
    patient.mended("hooks", "every job fails").await;
    std::fs::write(hooks.dir.join(".env"), "LANG=C.UTF-8\n").unwrap();
    let command = patient.examine().await.mend("hooks", "HOOK_JOB_STARTED");
    paste(patient.machine, &command).await;
    patient.examine().await.sound();
    // Another CA than the one that signed the gateway's certificate.
    lab.ca()
        .issue_files(&hooks.dir, "other", &["other.test"])
        .unwrap();
    let chain = std::fs::read_to_string(hooks.dir.join("other.pem")).unwrap();
    let end = "-----END CERTIFICATE-----\n";
    let other = hooks.path("other-ca.pem");
    std::fs::write(&other, format!("{}{end}", chain.split_once(end).unwrap().0)).unwrap();
    hooks.install(&["--ca", &other]).await.expect_success();
    let command = patient.examine().await.mend("ca", "not signed by the CA in");
    let ca = lab.ca_pem_path().display().to_string();
    paste(patient.machine, &command.replace("FILE", &ca)).await;
    patient.examine().await.sound();
    // Any address and name that the certificate has will do; one that nobody answers for does not.
    let address = format!("https://{}", plan::gateway_v4(0));
    hooks.install(&["--runner-api", &address]).await.expect_success();
    patient.examine().await.sound();
    hooks
        .install(&["--runner-api", "https://gw.evil.test"])
        .await
        .expect_success();
    patient.mended("runner-api", "has no address").await;
    std::fs::write(hooks.dir.join("token"), "").unwrap();
    let command = patient.examine().await.mend("hooks", "is empty");
    assert!(
        command.starts_with("tidegate token create --role runner"),
        "{command}"
    );
}

#[tokio::test]
async fn a_machine_behind_somebody_elses_address_is_told_whose() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    let patient = Patient::of(&fleet).await;
    let (runner, other) = (lab.runner(0), lab.runner(1));
    other.sysctl("net/ipv4/ip_forward", "1").unwrap();
    let rules = "table ip nat { chain out { type nat hook postrouting priority 100; ip saddr 10.77.1.2 masquerade; }; }";
    run_on(&lab, 1, &["nft", rules]).await.expect_success();
    runner
        .ip(&format!("route add 10.77.1.1/32 via {}", other.v4()))
        .unwrap();
    let command = patient.examine().await.mend("nat", "10.77.1.2 as 10.77.1.3");
    assert!(command.contains("on 10.77.1.3"), "{command}");
}

#[tokio::test]
async fn a_gateway_is_sound_and_what_breaks_it_is_named() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    let machine = fleet.gateway().machine();
    let config = fleet.gateway().path("tidegate.yaml").display().to_string();
    let doctor = async || examine(machine, &["--config", &config]).await;
    doctor().await.sound();
    machine.sysctl("net/ipv4/conf/all/rp_filter", "2").unwrap();
    let command = doctor().await.mend("rp_filter", "loose");
    paste(machine, &command).await;
    doctor().await.sound();
    machine
        .ip("link set port0-1 mtu 1300\nlink set runners0 mtu 1500")
        .unwrap();
    let command = doctor().await.mend("mtu", "this port");
    paste(machine, &command).await;
    doctor().await.sound();
    machine.ip("route del default").unwrap();
    let command = doctor().await.mend("route", "reaches nothing");
    paste(
        machine,
        &command.replace("NEXT-HOP", &plan::NEXT_HOP_V4.to_string()),
    )
    .await;
    doctor().await.sound();

    fleet.gateway().process().signal(Signal::SIGKILL).unwrap();
    wait_until("the gateway to be gone", PATIENCE, async || {
        if fleet.gateway().process().has_ended() {
            Ok(())
        } else {
            Err("it runs")
        }
    })
    .await
    .unwrap();
    let command = doctor().await.mend("gateway", "no gateway answers");
    assert_eq!(command, "systemctl start tidegate-gateway");
    let runner = examine(lab.runner(0), &["--from-runner"]).await;
    let command = runner.mend("gateway", "nobody answers tidegate.internal");
    assert!(command.contains("--gateway"), "{command}");
}

#[tokio::test]
async fn wrong_usage_is_none_of_the_machines_faults() {
    let lab = Lab::builder().build().unwrap();
    for args in [
        &["doctor", "--config", "/nonexistent.yaml"][..],
        &["doctor", "--from-runner", "--config", "/nonexistent.yaml"],
        &["doctor", "--gateway", "10.77.1.1"],
    ] {
        let program = tidegate().display().to_string();
        let output = run_on(&lab, 0, &[&[program.as_str()], args].concat()).await;
        assert_eq!(output.code(), Some(2), "{output}");
    }
}
