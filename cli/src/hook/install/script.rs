//! The two scripts that the Actions runner runs: text only.
//!
//! Owns their words and their quoting. The runner takes a hook only by a path that ends in `.sh`, and runs it with `bash
//! --noprofile --norc -e -o pipefail`, or `sh -e` where there is no bash; a chained hook is run the same way. The path
//! goes into that command line unquoted, so a script whose path has spaces can't be run.

use std::path::{Path, PathBuf};

use crate::Usage;

/// How our scripts are told from others'.
const MARK: &str =
    "# Written by `tidegate hook install`, and written anew by it: change the settings, not this.";
/// How many bytes of a script are looked at for the mark.
pub(super) const LOOKED_AT: u64 = 256;

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Started,
    Completed,
}

impl Role {
    /// Both.
    pub(crate) const BOTH: [Self; 2] = [Self::Started, Self::Completed];

    /// The word for it in commands and options.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Completed => "completed",
        }
    }

    /// The script's file.
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::Started => "job-started.sh",
            Self::Completed => "job-completed.sh",
        }
    }

    /// The variable by which the runner finds it.
    pub(crate) const fn variable(self) -> &'static str {
        match self {
            Self::Started => "ACTIONS_RUNNER_HOOK_JOB_STARTED",
            Self::Completed => "ACTIONS_RUNNER_HOOK_JOB_COMPLETED",
        }
    }
}

/// What a script runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs<'a> {
    /// This program.
    pub(super) program: &'a str,
    /// The settings.
    pub(super) config: &'a str,
    /// The hook that was there before.
    pub(super) chain: Option<&'a str>,
}

/// A script's text.
pub(super) fn text(role: Role, runs: Runs<'_>) -> String {
    let ours = format!(
        "{} hook job-{} --config {}",
        quoted(runs.program),
        role.word(),
        quoted(runs.config)
    );
    let body = match (role, runs.chain.map(quoted)) {
        (_, None) => format!("exec {ours}\n"),
        // The other hook decides nothing about a job that is not registered.
        (Role::Started, Some(chain)) => format!(
            "{ours} || exit $?\nif command -v bash >/dev/null 2>&1; then\n  exec bash --noprofile --norc -e -o pipefail {chain}\nfi\n\
             exec sh -e {chain}\n"
        ),
        (Role::Completed, Some(chain)) => format!(
            "existing=0\nif command -v bash >/dev/null 2>&1; then\n  bash --noprofile --norc -e -o pipefail {chain} || existing=$?\n\
             else\n  sh -e {chain} || existing=$?\nfi\nours=0\n{ours} || ours=$?\n\
             [ \"$existing\" -eq 0 ] || exit \"$existing\"\nexit \"$ours\"\n"
        ),
    };
    format!("#!/bin/sh\n{MARK}\n{body}")
}

/// True for the text of one of our scripts, though it may be an older one's.
pub(super) fn is_ours(text: &str) -> bool {
    text.lines().nth(1) == Some(MARK)
}

/// As one word of the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A directory that the runner can run scripts from, as a path.
pub(super) fn directory(dir: &Path) -> Result<PathBuf, Usage> {
    let dir = std::path::absolute(dir).map_err(|error| Usage(format!("{}: {error}", dir.display())))?;
    let text = dir
        .to_str()
        .ok_or_else(|| Usage(format!("{}: the path is not in UTF-8", dir.display())))?;
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\' | '\'')) {
        return Err(Usage(format!(
            "{text:?}: the Actions runner can't run hooks whose path has spaces, quotes or backslashes; choose another --dir"
        )));
    }
    Ok(dir)
}

/// A hook that can be chained: there, and of the kind that the runner takes on Linux.
pub(super) fn chainable(path: &Path) -> Result<PathBuf, Usage> {
    let wrong = |why: &str| Usage(format!("{} can't be chained: {why}", path.display()));
    if path.extension().is_none_or(|ending| ending != "sh") {
        return Err(wrong("the runner takes a hook only when its name ends in .sh"));
    }
    let path = std::path::absolute(path).map_err(|error| wrong(&error.to_string()))?;
    match std::fs::metadata(&path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Err(wrong("it is no file")),
        Err(error) => return Err(wrong(&error.to_string())),
    }
    if path.to_str().is_none_or(|text| text.contains(char::is_control)) {
        return Err(wrong("its path is no plain text"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn every_path_is_one_word() {
        let runs = Runs {
            program: "/opt/it's here/tidegate",
            config: "/etc/a $(b)/hook.yaml",
            chain: Some("/opt/old hooks/`x`.sh"),
        };
        let script = text(Role::Started, runs);
        assert!(
            script.contains(
                r"'/opt/it'\''s here/tidegate' hook job-started --config '/etc/a $(b)/hook.yaml' ||"
            )
        );
        assert!(script.contains("pipefail '/opt/old hooks/`x`.sh'"), "{script}");
        assert!(is_ours(&script) && !is_ours("#!/bin/sh\necho\n"));
    }

    #[test]
    fn scripts_are_where_the_runner_can_run_them() {
        for wrong in [
            "/opt/my hooks",
            "/opt/a\"b",
            "/opt/a\\b",
            "/opt/a\nb",
            "/opt/it's",
        ] {
            let said = directory(Path::new(wrong)).unwrap_err().0;
            assert!(said.contains("--dir"), "{said}");
        }
        assert_eq!(
            directory(Path::new("/opt/hooks")).unwrap(),
            Path::new("/opt/hooks")
        );
        for wrong in ["/opt/hook.ps1", "/opt/hook", "/nonexistent/hook.sh"] {
            chainable(Path::new(wrong)).unwrap_err();
        }
    }
}
