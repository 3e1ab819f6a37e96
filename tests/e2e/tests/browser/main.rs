//! The browser tier: a real `tidegate up` in a lab, with runners whose jobs are refused things, and Chromium in the gateway's
//! machine, where the web UI is. What is done and expected in the browser is in `tests/browser`, in JavaScript.
//!
//! Owns the lab, its tokens and the process of the scenarios; does for a scenario what only the lab can (`hands`). Judges
//! nothing but how that process ends. A test program without a harness: it prints a line a scenario as it ends.

mod hands;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tidegate_lab::{Lab, Process, plan};

use self::world::World;

/// The scenarios together take a fraction of this on two busy cores.
const LIMIT: Duration = Duration::from_mins(10);

/// Where the repository begins.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    here.expect("tests/e2e is two folders deep").to_owned()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let modules = root().join("target/browser/modules");
    if !modules.join("node_modules/playwright-core").is_dir() {
        eprintln!("the browser tier needs its modules: run `make browser`");
        return ExitCode::FAILURE;
    }
    let wanted: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let lab = Lab::builder().runners(4).build().expect("a lab");
    let people = lab
        .oidc_issuer("login.test", plan::site(61))
        .expect("an issuer of people");
    let world = Box::pin(World::start(&lab, &people)).await;
    let hands = hands::Hands::open(&world).expect("a socket for the scenarios");
    let mut scenarios = spawn(&world, &modules, &wanted);
    let status = tokio::select! {
        status = scenarios.wait(LIMIT) => status,
        error = hands.serve() => panic!("the lab's hands: {error}"),
    };
    if status.is_some_and(|status| status.success()) {
        return ExitCode::SUCCESS;
    }
    let output = scenarios.kill().await;
    eprintln!("{output}");
    eprintln!(
        "the program's last words:\n{}",
        tail(&world.gateway.process().stderr())
    );
    ExitCode::FAILURE
}

/// Starts the scenarios in the gateway's machine, with nothing of this program's environment.
fn spawn(world: &World<'_>, modules: &Path, wanted: &[String]) -> Process {
    let machine = world.gateway.machine();
    let command = machine
        .command("node")
        .arg(root().join("tests/browser/run.mjs"))
        .args(wanted)
        .env("TMPDIR", machine.home())
        .env("BROWSER_WORLD", world.told().to_string())
        .env("BROWSER_HANDS", hands::socket(world.lab))
        .env("BROWSER_MODULES", modules)
        .env("BROWSER_OUT", root().join("target/browser"));
    command.spawn().expect("node starts")
}

/// The end of a log.
fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
