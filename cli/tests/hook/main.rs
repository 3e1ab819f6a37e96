//! The hooks as an Actions runner runs them: the installed scripts under a double of its contract ([`runner`]), against a
//! runner API that answers what it is told to ([`gateway`]).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod completed;
mod gateway;
mod install;
mod oidc;
mod runner;
mod started;

use std::process::{Command, Output, Stdio};

use gateway::Gateway;
use runner::Runner;

/// The runner token of these tests.
const TOKEN: &str = "tgr_0123456789abcdef";

/// What came of running the binary.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn done(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self
    }
}

/// The binary, with nothing of this process's environment.
fn tidegate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env_clear().args(args).stdin(Stdio::null());
    command
}

/// A runner whose hooks ask this gateway with [`TOKEN`].
fn installed(gateway: &Gateway, more: &[&str]) -> Runner {
    let runner = Runner::new();
    let token = runner.file("settings/token", &format!("{TOKEN}\n"));
    let ca = gateway.ca();
    let args = [
        "--runner-api",
        &gateway.url,
        "--ca",
        ca.to_str().unwrap(),
        "--token-file",
        token.to_str().unwrap(),
        "--timeout",
        "3s",
    ];
    runner.install(&args).done();
    if !more.is_empty() {
        runner.install(more).done();
    }
    runner
}
