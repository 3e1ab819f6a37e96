//! The hooks on a runner machine: settings, scripts, the program they run, the token they show, the runner that names them.
//!
//! Reads files and writes none.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::finding::{Finding, Severity, word};
use crate::hook::install::script::Role;
use crate::hook::install::{DEFAULT_DIR, dotenv};
use crate::hook::settings::{DEFAULT_CONFIG, Settings};

/// The command that installs them again, as they are.
pub(super) fn install(settings: &Settings, config: &Path) -> String {
    let mut command = "tidegate hook install".to_owned();
    let dir = settings.hooks.as_deref().unwrap_or(Path::new(DEFAULT_DIR));
    for (option, path, usual) in [("--config", config, DEFAULT_CONFIG), ("--dir", dir, DEFAULT_DIR)] {
        if path != Path::new(usual) {
            command.extend([" ", option, " ", &word(&path.display().to_string())]);
        }
    }
    command
}

/// What is wrong with the hooks that these settings describe.
pub(super) fn judge(settings: &Settings, config: &Path, runner: Option<&Path>) -> Vec<Finding> {
    let again = install(settings, config);
    let Some(dir) = &settings.hooks else {
        let what = "no hooks are installed here: jobs are registered by a provisioner, or not at all";
        let finding = Finding::new(Severity::Note, "hooks", config.display().to_string(), what);
        return vec![finding.mend(format!("{again} --token-file FILE --runner-dir DIR"))];
    };
    let mut findings = Vec::new();
    for role in Role::BOTH {
        let path = dir.join(role.file());
        if let Some(what) = script(&path) {
            let place = path.display().to_string();
            findings.push(Finding::new(Severity::Problem, "hooks", place, what).mend(&again));
        }
        if let Some(runner) = runner {
            findings.extend(named(runner, role, &path, &again));
        }
    }
    findings.extend(chained(settings, &again));
    findings.extend(token(settings, &again));
    findings
}

/// What is wrong with a script.
fn script(path: &Path) -> Option<String> {
    let text = match fs::metadata(path) {
        Ok(meta) if !meta.is_file() => return Some("it is no file".into()),
        Ok(meta) if meta.mode() & 0o111 != 0o111 || meta.mode() & 0o444 != 0o444 => {
            return Some("the runner's user can't run it".into());
        }
        Ok(_) => fs::read_to_string(path),
        Err(error) => Err(error),
    };
    match text {
        Err(error) => Some(format!("the job hook can't be read, so every job fails: {error}")),
        Ok(text) => {
            let program = program(&text)?;
            let there = fs::metadata(&program).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0);
            (!there).then(|| format!("it runs {program}, which is not there"))
        }
    }
}

/// The program that a script runs: what is quoted before its command.
fn program(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.contains("' hook job-"))?;
    let quoted = line.split("' hook job-").next()?;
    let (_, program) = quoted.split_once('\'')?;
    Some(program.replace(r"'\''", "'"))
}

/// Whether a runner names our script.
fn named(runner: &Path, role: Role, script: &Path, again: &str) -> Option<Finding> {
    let file = runner.join(".env");
    let place = file.display().to_string();
    let mend = format!("{again} --runner-dir {}", word(&runner.display().to_string()));
    let problem = |what: String| Some(Finding::new(Severity::Problem, "hooks", &place, what).mend(&mend));
    let text = match crate::remote::document::read_bounded(&file, 1 << 20) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return problem(format!("it can't be read: {error}")),
    };
    match dotenv::value(&text, role.variable()) {
        Some(path) if Path::new(path) == script => None,
        Some(path) => problem(format!("{} is {path}, not the installed script", role.variable())),
        None => problem(format!(
            "it does not name {}, so the runner runs no such hook",
            role.variable()
        )),
    }
}

/// Hooks of others that ours run.
fn chained(settings: &Settings, again: &str) -> Option<Finding> {
    let chained = [&settings.chain_started, &settings.chain_completed];
    let gone = chained.into_iter().flatten().find(|path| !path.is_file())?;
    let what = "the hook that was chained is not there any more, so every job fails";
    let finding = Finding::new(Severity::Problem, "hooks", gone.display().to_string(), what);
    Some(finding.mend(format!("{again} --chain none")))
}

/// The file with the runner token.
fn token(settings: &Settings, again: &str) -> Option<Finding> {
    let Some(file) = &settings.token_file else {
        if settings.oidc.is_some() {
            return None;
        }
        let what = "no credential: jobs are registered by a runner token, or by OIDC";
        let finding = Finding::new(Severity::Problem, "hooks", "token-file", what);
        return Some(finding.mend(format!("{again} --token-file FILE")));
    };
    let place = file.display().to_string();
    let problem = |what: String| {
        let finding = Finding::new(Severity::Problem, "hooks", &place, what);
        let make = "tidegate token create --role runner --owner OWNER NAME";
        Some(finding.mend(format!(
            "{make}   # at the control plane; its text into {}",
            word(&place)
        )))
    };
    match fs::read_to_string(file) {
        Err(error) => problem(format!("the runner token can't be read: {error}")),
        Ok(text) if text.trim().is_empty() => problem("the file of the runner token is empty".into()),
        Ok(text) if !text.trim().bytes().all(|byte| byte.is_ascii_graphic()) => {
            problem("the file holds no token: a token is one word".into())
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_program_of_a_script_is_found_however_it_is_quoted() {
        for (line, found) in [
            (
                "exec '/usr/bin/tidegate' hook job-started --config '/x'",
                "/usr/bin/tidegate",
            ),
            (
                r"'/opt/it'\''s/tidegate' hook job-completed --config '/x' || ours=$?",
                "/opt/it's/tidegate",
            ),
        ] {
            assert_eq!(
                program(&format!("#!/bin/sh\n# x\n{line}\n")).as_deref(),
                Some(found)
            );
        }
        assert_eq!(program("#!/bin/sh\necho\n"), None);
    }

    #[test]
    fn each_thing_that_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let config = at("hook.yaml");
        let write = |name: &str, text: &str, mode: u32| {
            fs::write(at(name), text).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        write("token", "tgr_x\n", 0o600);
        for script in ["job-started.sh", "job-completed.sh"] {
            write(
                script,
                "#!/bin/sh\n# x\nexec '/bin/sh' hook job-x --config 'y'\n",
                0o755,
            );
        }
        let env = format!(
            "ACTIONS_RUNNER_HOOK_JOB_STARTED={0}/job-started.sh\nACTIONS_RUNNER_HOOK_JOB_COMPLETED={0}/job-completed.sh\n",
            dir.path().display()
        );
        write(".env", &env, 0o644);
        let mut settings = Settings::default();
        settings.hooks = Some(dir.path().to_owned());
        settings.token_file = Some(at("token"));
        let said = || judge(&settings, &config, Some(dir.path()));
        assert_eq!(said(), []);
        let is = |part: &str| {
            let found = said();
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].what.contains(part), "{found:?}");
            assert!(
                found[0]
                    .mend
                    .as_ref()
                    .is_some_and(|mend| mend.contains("tidegate ")),
                "{found:?}"
            );
        };
        write("token", "", 0o600);
        is("empty");
        fs::remove_file(at("token")).unwrap();
        is("can't be read");
        write("token", "tgr_x", 0o600);
        write(
            "job-started.sh",
            "#!/bin/sh\n# x\nexec '/bin/sh' hook job-x\n",
            0o644,
        );
        is("can't run it");
        write(
            "job-started.sh",
            "#!/bin/sh\n# x\nexec '/gone/tidegate' hook job-x\n",
            0o755,
        );
        is("/gone/tidegate");
        fs::remove_file(at("job-started.sh")).unwrap();
        is("every job fails");
        write(
            "job-started.sh",
            "#!/bin/sh\n# x\nexec '/bin/sh' hook job-x\n",
            0o755,
        );
        write(".env", &env.replace("/job-started.sh", "/other.sh"), 0o644);
        is("other.sh");
        write(".env", env.lines().next().unwrap(), 0o644);
        is("ACTIONS_RUNNER_HOOK_JOB_COMPLETED");
        let none = judge(&Settings::default(), &config, None);
        assert_eq!((none.len(), none[0].severity), (1, Severity::Note));
    }
}
