//! Owns the calls of system tools while a lab is set up: `ip` and `nft` in
//! batch mode, and any other short command. Blocking; bounded by the tools,
//! which wait for nothing. `Lab`, `Machine` and the optional servers drive it.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::error::{During, LabError};

/// Runs `ip -batch` with `script`, within a namespace if one is named.
pub(crate) fn ip(namespace: Option<&str>, script: &str) -> Result<(), LabError> {
    let mut command = Command::new("ip");
    if let Some(name) = namespace {
        command.args(["-netns", name]);
    }
    command.args(["-batch", "-"]);
    feed(&mut command, script.as_bytes()).map(drop)
}

/// Gives `ruleset` to `nft -f -` within a namespace.
pub(crate) fn nft(namespace: &str, ruleset: &str) -> Result<(), LabError> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, "nft", "-f", "-"]);
    feed(&mut command, ruleset.as_bytes()).map(drop)
}

/// Runs a command to its end with `input` on its stdin and returns its stdout.
pub(crate) fn feed(command: &mut Command, input: &[u8]) -> Result<Vec<u8>, LabError> {
    let line = line_of(command);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().during(format!("start `{line}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that refused early closes its stdin; its status tells more.
        let _refused = stdin.write_all(input);
    }
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().during(format!("wait for `{line}`"))?;
    if status.success() {
        return Ok(stdout);
    }
    Err(LabError::Command {
        command: line,
        status,
        stderr: String::from_utf8_lossy(&stderr).trim().to_owned(),
    })
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
