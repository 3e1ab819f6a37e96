//! Which hooks were there before ours, from the many ways to say so.
//!
//! Owns the meaning of `--chain`: a script, a directory of hooks, a runner's `.env`, or `none`. Our own scripts are never
//! chained: they would run themselves.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::script::{LOOKED_AT, Role, chainable, is_ours};
use super::{dotenv, read_env};
use crate::Usage;

/// The hooks that go on running.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) started: Option<PathBuf>,
    pub(super) completed: Option<PathBuf>,
}

impl Chain {
    pub(super) fn of(&self, role: Role) -> Option<&Path> {
        match role {
            Role::Started => self.started.as_deref(),
            Role::Completed => self.completed.as_deref(),
        }
    }

    fn set(&mut self, role: Role, path: &Path) -> Result<(), Usage> {
        let path = chainable(path)?;
        if is_our_script(&path) {
            let text = format!(
                "{} can't be chained: it is the one that `tidegate hook install` wrote",
                path.display()
            );
            return Err(Usage(text));
        }
        match role {
            Role::Started => self.started = Some(path),
            Role::Completed => self.completed = Some(path),
        }
        Ok(())
    }

    /// What there is already, with what the command line says.
    pub(super) fn with(mut self, said: &[String]) -> Result<Self, Usage> {
        for one in said {
            self.add(one)?;
        }
        Ok(self)
    }

    fn add(&mut self, said: &str) -> Result<(), Usage> {
        if said == "none" {
            *self = Self::default();
            return Ok(());
        }
        for role in Role::BOTH {
            if let Some(path) = said
                .strip_prefix(role.word())
                .and_then(|rest| rest.strip_prefix('='))
            {
                return match path {
                    "none" => {
                        match role {
                            Role::Started => self.started = None,
                            Role::Completed => self.completed = None,
                        }
                        Ok(())
                    }
                    path => self.set(role, Path::new(path)),
                };
            }
        }
        let path = Path::new(said);
        if path.is_dir() {
            return self.add_directory(path);
        }
        if path.file_name().is_some_and(|name| name == ".env") {
            return self.add_env(path);
        }
        self.set(role_of(path)?, path)
    }

    fn add_directory(&mut self, dir: &Path) -> Result<(), Usage> {
        let mut found = false;
        for role in Role::BOTH {
            let path = dir.join(role.file());
            if path.exists() {
                self.set(role, &path)?;
                found = true;
            }
        }
        if found {
            return Ok(());
        }
        Err(Usage(format!(
            "{} has neither job-started.sh nor job-completed.sh; name the scripts themselves: --chain started=PATH",
            dir.display()
        )))
    }

    /// Those that a runner names. What it names of ours is what was installed before, and no news.
    fn add_env(&mut self, env: &Path) -> Result<(), Usage> {
        let text = read_env(env)?;
        for role in Role::BOTH {
            if let Some(path) = dotenv::value(&text, role.variable())
                && !is_our_script(Path::new(path))
            {
                self.set(role, Path::new(path))?;
            }
        }
        Ok(())
    }
}

/// By the script's name, where it says so.
fn role_of(path: &Path) -> Result<Role, Usage> {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase());
    let name = name.unwrap_or_default();
    match (name.contains("started"), name.contains("completed")) {
        (true, false) => Ok(Role::Started),
        (false, true) => Ok(Role::Completed),
        (true, true) | (false, false) => Err(Usage(format!(
            "{} does not say when it runs; write --chain started={} or --chain completed={}",
            path.display(),
            path.display(),
            path.display()
        ))),
    }
}

/// True for a script that `install` wrote, wherever it lies.
pub(super) fn is_our_script(path: &Path) -> bool {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| {
        if !fs::metadata(path)?.is_file() {
            return Ok(0);
        }
        let mut bytes = Vec::new();
        let read = file.take(LOOKED_AT).read_to_end(&mut bytes)?;
        text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(read)
    });
    read.is_ok() && is_ours(&text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::script::{Runs, text};
    use super::*;

    #[test]
    fn every_way_to_name_the_hooks_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (start, end) = (at("job-started.sh"), at("job-completed.sh"));
        for path in [&start, &end, &at("cleanup.sh")] {
            fs::write(path, "true\n").unwrap();
        }
        let env = at(".env");
        fs::write(
            &env,
            format!(
                "A=b\nACTIONS_RUNNER_HOOK_JOB_COMPLETED={}\n",
                at("cleanup.sh").display()
            ),
        )
        .unwrap();
        let path = |path: &Path| path.display().to_string();
        let chain = |said: &[String]| Chain::default().with(said);
        let whole = chain(&[path(dir.path())]).unwrap();
        assert_eq!(
            (whole.started.as_ref(), whole.completed.as_ref()),
            (Some(&start), Some(&end))
        );
        assert_eq!(chain(&[path(&end)]).unwrap().completed, Some(end.clone()));
        let named = chain(&[format!("started={}", path(&at("cleanup.sh")))]).unwrap();
        assert_eq!((named.started, named.completed), (Some(at("cleanup.sh")), None));
        assert_eq!(chain(&[path(&env)]).unwrap().completed, Some(at("cleanup.sh")));
        assert_eq!(whole.clone().with(&["none".into()]).unwrap(), Chain::default());
        assert_eq!(whole.with(&["completed=none".into()]).unwrap().completed, None);
        for (wrong, said) in [
            (path(&at("cleanup.sh")), "started="),
            (path(&at("gone-started.sh")), "No such file"),
            ("started=/bin/sh".into(), ".sh"),
        ] {
            let told = chain(&[wrong]).unwrap_err().0;
            assert!(told.contains(said), "{told}");
        }
        let empty = tempfile::tempdir().unwrap();
        assert!(chain(&[path(empty.path())]).unwrap_err().0.contains("neither"));
    }

    #[test]
    fn our_own_scripts_are_not_chained() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("job-started.sh");
        let runs = Runs {
            program: "/usr/bin/tidegate",
            config: "/etc/tidegate/hook.yaml",
            chain: None,
        };
        fs::write(&ours, text(Role::Started, runs)).unwrap();
        let said = Chain::default()
            .with(&[ours.display().to_string()])
            .unwrap_err()
            .0;
        assert!(said.contains("tidegate hook install"), "{said}");
        let env = dir.path().join(".env");
        fs::write(
            &env,
            format!("ACTIONS_RUNNER_HOOK_JOB_STARTED={}\n", ours.display()),
        )
        .unwrap();
        let kept = Chain {
            started: Some("/opt/old.sh".into()),
            completed: None,
        };
        assert_eq!(kept.clone().with(&[env.display().to_string()]).unwrap(), kept);
    }
}
