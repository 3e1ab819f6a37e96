//! A double of the Actions runner, as far as hooks see it: its `.env`, the command line by which it runs a hook, the
//! environment it gives, what it reads from the output, and what becomes of the step's summary.
//!
//! After the runner's own sources (actions/runner: `JobHookProvider`, `ScriptHandler`, `ScriptHandlerHelpers`,
//! `ActionCommand`, `FileCommandManager`): a hook's path ends in `.sh` and is put unquoted into `--noprofile --norc -e -o
//! pipefail {0}`; lines of stdout and stderr are read for commands; every exit code but 0 fails the job; a summary file
//! that is too large is thrown away.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// The runner's limit for a step's summary.
const MAX_SUMMARY: u64 = 1 << 20;

/// A runner's directory.
pub(crate) struct Runner {
    dir: TempDir,
    /// What the runner gives its hooks.
    pub(crate) environment: BTreeMap<String, String>,
}

/// A command that the runner read from a hook's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Annotation {
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) text: String,
}

/// What came of a hook.
#[derive(Debug)]
pub(crate) struct HookRun {
    pub(crate) code: i32,
    /// Lines of the log that are no commands.
    pub(crate) log: Vec<String>,
    pub(crate) annotations: Vec<Annotation>,
    /// What the runner takes for the step's summary.
    pub(crate) summary: String,
    /// Everything that was written.
    pub(crate) raw: String,
}

impl Runner {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("_work/web/web")).unwrap();
        fs::write(dir.path().join(".env"), "LANG=C.UTF-8\n").unwrap();
        let given = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_ACTOR", "dev"),
            ("GITHUB_EVENT_NAME", "push"),
            ("GITHUB_JOB", "build"),
            ("GITHUB_REF", "refs/heads/main"),
            ("GITHUB_REPOSITORY", "acme/web"),
            ("GITHUB_REPOSITORY_OWNER", "acme"),
            ("GITHUB_RUN_ATTEMPT", "1"),
            ("GITHUB_RUN_ID", "1001"),
            ("GITHUB_SERVER_URL", "https://github.test"),
            ("GITHUB_WORKFLOW", "CI"),
            (
                "GITHUB_WORKFLOW_REF",
                "acme/web/.github/workflows/ci.yml@refs/heads/main",
            ),
            ("RUNNER_NAME", "vm-17"),
            ("RUNNER_OS", "Linux"),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ];
        let mut runner = Self {
            environment: given
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            dir,
        };
        runner.event(r#"{"ref": "refs/heads/main"}"#);
        runner
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A file below the runner's directory, with its folders.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// Sets the event's payload.
    pub(crate) fn event(&mut self, payload: &str) {
        let file = self.file("_work/_temp/event.json", payload);
        self.give("GITHUB_EVENT_PATH", file.to_str().unwrap());
    }

    pub(crate) fn give(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// `tidegate hook install` for this runner, with settings of its own.
    pub(crate) fn install(&self, args: &[&str]) -> crate::Ran {
        let dir = self.dir.path().join("hooks");
        let config = self.dir.path().join("settings/hook.yaml");
        let mut command = crate::tidegate(&["hook", "install"]);
        command.arg("--dir").arg(dir).arg("--config").arg(config);
        command.arg("--runner-dir").arg(self.dir.path()).args(args);
        crate::Ran::of(command.output().unwrap())
    }

    pub(crate) fn job_started(&self) -> HookRun {
        self.hook("ACTIONS_RUNNER_HOOK_JOB_STARTED")
    }

    pub(crate) fn job_completed(&self) -> HookRun {
        self.hook("ACTIONS_RUNNER_HOOK_JOB_COMPLETED")
    }

    fn hook(&self, variable: &str) -> HookRun {
        let env: BTreeMap<String, String> = self
            .read(".env")
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let path = env
            .get(variable)
            .unwrap_or_else(|| panic!("{variable} is not in .env"));
        assert!(Path::new(path).is_file(), "File doesn't exist: {path}");
        let ending = Path::new(path).extension();
        assert!(
            ending.is_some_and(|ending| ending == "sh"),
            "{path} is not a valid path to a script"
        );
        let line = format!("--noprofile --norc -e -o pipefail {path}");
        let summary = self.file("_work/_temp/_runner_file_commands/step_summary_1", "");
        let output = Command::new("bash")
            .args(line.split_whitespace())
            .env_clear()
            .envs(&env)
            .envs(&self.environment)
            .env("GITHUB_STEP_SUMMARY", &summary)
            .current_dir(self.dir.path().join("_work/web/web"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let raw = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        let mut log = Vec::new();
        let mut annotations = Vec::new();
        for line in raw.lines() {
            match command(line) {
                Some(found) => annotations.push(found),
                None => log.push(line.to_owned()),
            }
        }
        let taken = fs::metadata(&summary).unwrap().len() <= MAX_SUMMARY;
        HookRun {
            code: output.status.code().unwrap(),
            log,
            annotations,
            summary: if taken {
                fs::read_to_string(summary).unwrap()
            } else {
                String::new()
            },
            raw,
        }
    }
}

/// What the runner takes for a command: in its newer form, else in its older one.
fn command(line: &str) -> Option<Annotation> {
    if let Some((head, text)) = line
        .trim_start()
        .strip_prefix("::")
        .and_then(|rest| rest.split_once("::"))
    {
        let (kind, properties) = head.split_once(' ').unwrap_or((head, ""));
        let title = properties.split(',').find_map(|one| one.strip_prefix("title="));
        return Some(Annotation {
            kind: kind.to_owned(),
            title: unescaped(
                title.unwrap_or_default(),
                &["%0D\r", "%0A\n", "%3A:", "%2C,", "%25%"],
            ),
            text: unescaped(text, &["%0D\r", "%0A\n", "%25%"]),
        });
    }
    let (head, text) = line.split_once("##[")?.1.split_once(']')?;
    Some(Annotation {
        kind: head.to_owned(),
        title: "an older command".to_owned(),
        text: text.to_owned(),
    })
}

fn unescaped(text: &str, map: &[&str]) -> String {
    map.iter()
        .fold(text.to_owned(), |text, one| text.replace(&one[..3], &one[3..]))
}
