//! What the end-to-end suites share: where the program is, a lab with a gateway, and short words for what
//! tests ask of events.
//!
//! Owns no test and no expectation. Every suite under `tests/` builds its own lab, so any two run at once.

pub mod dns;
pub mod hello;
pub mod store;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tidegate_lab::{Command, EventLog, Gateway, GatewayBuilder, Lab, Output, wait_until};

/// A bound on every wait for an event.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The program under test: built into the same target directory as the tests.
pub fn tidegate() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let program = test
        .ancestors()
        .nth(2)
        .map(|folder| folder.join("tidegate"))
        .expect("target/PROFILE/deps/TEST");
    assert!(
        program.exists(),
        "{} is missing: build it with `cargo build -p tidegate`",
        program.display()
    );
    program
}

/// A gateway for `lab`: network `runners0` with deny-all for sources without a lease, runner 0 as job `build`
/// with `policy`.
pub fn gateway<'a>(lab: &'a Lab, policy: &str) -> GatewayBuilder<'a> {
    gateway_by(lab, tidegate(), policy)
}

/// The same, started by another program: a script that ends in the program under test, say.
pub fn gateway_by<'a>(lab: &'a Lab, program: PathBuf, policy: &str) -> GatewayBuilder<'a> {
    GatewayBuilder::new(lab, program)
        .file("default.yaml", "egress-policy: block\nplatform: none\n")
        .and_then(|builder| builder.file("build.yaml", policy))
        .expect("files of the gateway")
        .network("default-policy: default.yaml")
        .lease(0, "build", "build.yaml")
}

/// A script beside the lab's files that prepares something and then becomes the program under test.
/// `prepare` stands before the program on its last line, after any lines of its own.
pub fn wrapper(lab: &Lab, prepare: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = lab.dir().join("wrapper");
    let text = format!("#!/bin/sh\n{prepare} {} \"$@\"\n", tidegate().display());
    std::fs::write(&path, text).expect("a script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    path
}

/// A running [`gateway`].
pub async fn started<'a>(lab: &'a Lab, policy: &str) -> Gateway<'a> {
    start(gateway(lab, policy)).await
}

/// Starts a gateway; fails the test with the gateway's own log when it does not come up.
pub async fn start(builder: GatewayBuilder<'_>) -> Gateway<'_> {
    builder.start().await.unwrap_or_else(|error| panic!("{error}"))
}

/// A block policy without the platform pack that allows these endpoints.
pub fn block(endpoints: &[&str]) -> String {
    policy("block", endpoints)
}

/// The same in audit mode.
pub fn audit(endpoints: &[&str]) -> String {
    policy("audit", endpoints)
}

fn policy(mode: &str, endpoints: &[&str]) -> String {
    let list: String = endpoints
        .iter()
        .flat_map(|endpoint| ["  - \"", endpoint, "\"\n"])
        .collect();
    let allowed = if list.is_empty() {
        String::new()
    } else {
        format!("allowed-endpoints:\n{list}")
    };
    format!("egress-policy: {mode}\nplatform: none\n{allowed}")
}

/// A command line on runner 0, bounded in time.
pub fn command(lab: &Lab, line: &[&str]) -> Command {
    command_on(lab, 0, line)
}

/// A command line on a runner of the first network.
pub fn command_on(lab: &Lab, runner: usize, line: &[&str]) -> Command {
    let (program, args) = line.split_first().expect("a program");
    lab.runner(runner)
        .command(program)
        .args(args)
        .timeout(Duration::from_secs(20))
}

/// Runs a command line on runner 0.
pub async fn run(lab: &Lab, line: &[&str]) -> Output {
    command(lab, line).run().await.expect("the command starts")
}

/// Runs a command line on a runner of the first network.
pub async fn run_on(lab: &Lab, runner: usize, line: &[&str]) -> Output {
    command_on(lab, runner, line)
        .run()
        .await
        .expect("the command starts")
}

/// Waits until the kernel knows which machine may use a runner's IPv4 address. The gateway reads its neighbours at
/// most every 100 ms, so an address that just spoke may not be bound yet.
pub async fn bound(lab: &Lab, runner: usize) {
    let runner = lab.runner(runner);
    let pair = format!("{} . {}", runner.v4(), runner.mac().expect("the runner's MAC"));
    let known = wait_until("the address to be bound to its machine", PATIENCE, async || {
        let list = ["list", "set", "inet", "tidegate", "bound4"];
        let set = lab
            .gw()
            .command("nft")
            .args(list)
            .run()
            .await
            .expect("nft starts");
        if set.text().contains(&pair) {
            Ok(())
        } else {
            Err(set)
        }
    });
    known.await.unwrap_or_else(|error| panic!("{error}"));
}

/// Waits for the event in which each of these fields has this value.
pub async fn event(events: &mut EventLog, fields: &[(&str, &str)]) -> Value {
    let fits = |event: &Value| has(event, fields);
    events
        .wait_for(&format!("an event with {fields:?}"), PATIENCE, fits)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Waits for the event of one flow, known by its source port, in which each of these fields has this value.
pub async fn flow_event(events: &mut EventLog, client: &hello::Client, fields: &[(&str, &str)]) -> Value {
    let port = client.port().to_string();
    let mut all = vec![("source_port", port.as_str())];
    all.extend(fields);
    event(events, &all).await
}

/// True when each of these fields has this value. `job.job` looks into the job.
pub fn has(event: &Value, fields: &[(&str, &str)]) -> bool {
    fields.iter().all(|(path, wanted)| {
        let value = path.split('.').fold(event, |value, key| &value[key]);
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text == *wanted
    })
}
