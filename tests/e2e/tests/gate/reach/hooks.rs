//! The Actions runner's job hooks on a runner of the lab, against a real gateway that follows a real control plane.
//!
//! The scripts are installed by `tidegate hook install` and run as the runner runs them: by `bash -e`, with its own
//! variables and nothing else.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_e2e::store::{Fetched, Fleet, fetch};
use tidegate_e2e::{PATIENCE, block, run_on, tidegate};
use tidegate_lab::{Lab, Output, Signal, wait_until};

/// Runs of a hook of which the median is told.
const RUNS: usize = 60;

/// A runner with hooks.
pub(super) struct Hooked<'a> {
    lab: &'a Lab,
    runner: usize,
    /// Where its settings, scripts and files are.
    pub(super) dir: PathBuf,
    /// What the job is told to be, besides the usual.
    given: Vec<(&'static str, String)>,
}

/// Installs the hooks on a runner, with the fleet's runner token.
pub(super) async fn hooked<'a>(fleet: &Fleet<'a>, runner: usize) -> Hooked<'a> {
    let dir = fleet.lab.dir().join(format!("hooks-{runner}"));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("token"), &fleet.runner).unwrap();
    fs::write(dir.join(".env"), "LANG=C.UTF-8\n").unwrap();
    let hooked = Hooked {
        lab: fleet.lab,
        runner,
        dir,
        given: Vec::new(),
    };
    let ca = fleet.lab.ca_pem_path().display().to_string();
    hooked.install(&["--ca", &ca]).await.expect_success();
    hooked
}

impl Hooked<'_> {
    pub(super) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// `tidegate hook install` for this runner.
    pub(super) async fn install(&self, more: &[&str]) -> Output {
        let program = tidegate().display().to_string();
        let [config, scripts, token, dir] = ["hook.yaml", "scripts", "token", ""].map(|name| self.path(name));
        let line = [
            &program,
            "hook",
            "install",
            "--config",
            &config,
            "--dir",
            &scripts,
            "--token-file",
            &token,
            "--runner-dir",
            &dir,
        ];
        run_on(self.lab, self.runner, &[&line, more].concat()).await
    }

    async fn run(&self, variable: &str) -> Output {
        let env = fs::read_to_string(self.dir.join(".env")).unwrap();
        let script = env
            .lines()
            .find_map(|line| line.strip_prefix(variable)?.strip_prefix('='));
        let summary = self.path("summary.md");
        fs::write(&summary, "").unwrap();
        let event = self.path("event.json");
        let usual = [
            ("GITHUB_REPOSITORY", "acme/web"),
            ("GITHUB_REPOSITORY_OWNER", "acme"),
            (
                "GITHUB_WORKFLOW_REF",
                "acme/web/.github/workflows/ci.yml@refs/heads/main",
            ),
            ("GITHUB_JOB", "build"),
            ("GITHUB_RUN_ID", "1001"),
            ("GITHUB_RUN_ATTEMPT", "1"),
            ("GITHUB_EVENT_NAME", "push"),
            ("GITHUB_EVENT_PATH", &event),
            ("GITHUB_REF", "refs/heads/main"),
            ("GITHUB_ACTOR", "dev"),
            ("GITHUB_STEP_SUMMARY", &summary),
            ("RUNNER_NAME", "vm-17"),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ];
        let mut line = vec!["env".to_owned(), "-i".to_owned()];
        line.extend(usual.iter().map(|(name, value)| format!("{name}={value}")));
        line.extend(self.given.iter().map(|(name, value)| format!("{name}={value}")));
        let shell = [
            "bash",
            "--noprofile",
            "--norc",
            "-e",
            "-o",
            "pipefail",
            script.unwrap(),
        ];
        line.extend(shell.map(str::to_owned));
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        run_on(self.lab, self.runner, &line).await
    }

    pub(super) async fn started(&self) -> Output {
        self.run("ACTIONS_RUNNER_HOOK_JOB_STARTED").await
    }

    pub(super) async fn completed(&self) -> Output {
        self.run("ACTIONS_RUNNER_HOOK_JOB_COMPLETED").await
    }

    fn summary(&self) -> String {
        fs::read_to_string(self.dir.join("summary.md")).unwrap()
    }
}

fn lab() -> Lab {
    Lab::builder().control().build().unwrap()
}

/// A fleet whose jobs of `acme/web` may reach one site.
async fn fleet(lab: &Lab) -> Fleet<'_> {
    let fleet = Fleet::start(lab).await;
    fleet
        .attached("ci", &block(&["allowed.test:443"]), "repo:acme/web")
        .await;
    fleet
}

#[tokio::test]
async fn a_job_is_registered_judged_told_what_it_reached_and_ended() {
    let lab = lab();
    let fleet = fleet(&lab).await;
    let mut hooks = hooked(&fleet, 0).await;
    hooks.given.push(("GITHUB_EVENT_NAME", "pull_request".into()));
    let payload = r#"{"pull_request": {"head": {"repo": {"full_name": "Mallory/Web"}}}}"#;
    fs::write(hooks.dir.join("event.json"), payload).unwrap();
    let log = hooks.started().await.expect_success().text();
    assert!(
        log.starts_with("tidegate: policy ci (version 1, block) of repo:acme/web governs job job_"),
        "{log}"
    );
    let job = fleet.current(0).await;
    assert_eq!(
        (&job["head_repo"], &job["workflow"], &job["assurance"]),
        (
            &Value::from("mallory/web"),
            &Value::from("ci.yml"),
            &Value::from("declared")
        ),
        "{job}"
    );
    assert!(log.contains(job["id"].as_str().unwrap()), "{log}");
    fleet.reaches(0, "allowed.test").await;
    fleet.refused(0, "evil.test").await;
    fleet.refused(0, "a.evil.test").await;
    // The same job once more is the same lease.
    hooks.started().await.expect_success();
    assert_eq!(fleet.current(0).await["id"], job["id"]);

    let output = hooks.completed().await.expect_success();
    let log = output.text();
    let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("::error ")).collect();
    assert!(
        errors.iter().any(|line| line.contains("Refused%3A evil.test")),
        "{log}"
    );
    assert!(errors.iter().all(|line| line.contains("Event ")), "{log}");
    assert!(
        !log.contains(&fleet.runner) && !output.errors().contains(&fleet.runner),
        "{output}"
    );
    let page = hooks.summary();
    let (refused, allowed) = (page.find("evil.test"), page.find("allowed.test"));
    assert!(refused.is_some() && refused < allowed, "{page}");
    assert!(page.contains("not-allowed"), "{page}");
    // The lease has ended, and its address is nobody's until another machine has it.
    assert_eq!(fleet.current(0).await["code"], "no-job");
    assert!(matches!(
        fetch(&lab, 0, "allowed.test").await,
        Fetched::Refused(_)
    ));
    let again = hooks.started().await;
    assert_eq!(again.code(), Some(1), "{again}");
    let log = again.text();
    assert!(
        log.starts_with("::error title=Tidegate::") && log.contains("persistent"),
        "{log}"
    );
}

#[tokio::test]
async fn a_gateway_that_is_gone_fails_a_job_at_its_start_and_not_at_its_end() {
    let lab = lab();
    let fleet = fleet(&lab).await;
    let mut hooks = hooked(&fleet, 0).await;
    hooks.install(&["--timeout", "500ms"]).await.expect_success();
    hooks.started().await.expect_success();
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
    let output = hooks.completed().await.expect_success();
    assert!(
        output
            .text()
            .contains("::warning title=Tidegate::the job is not ended"),
        "{output}"
    );
    let output = hooks.started().await;
    assert_eq!(output.code(), Some(1), "{output}");
    assert!(output.text().contains("doctor --from-runner"), "{output}");
    hooks.given.push(("TIDEGATE_HOOK_ON_ERROR", "continue".into()));
    hooks.started().await.expect_success();
}

#[tokio::test]
async fn the_same_job_sixty_times_is_one_job_and_the_median_is_told() {
    let lab = lab();
    let fleet = fleet(&lab).await;
    let hooks = hooked(&fleet, 0).await;
    hooks.started().await.expect_success();
    let job = fleet.current(0).await["id"].clone();
    let mut took = Vec::new();
    for _ in 0..RUNS {
        #[expect(clippy::disallowed_methods, reason = "a figure for people; no test judges it")]
        let begun = Instant::now();
        hooks.started().await.expect_success();
        took.push(begun.elapsed());
    }
    assert_eq!(fleet.current(0).await["id"], job);
    took.sort_unstable();
    let figure = |at: usize| took.get(at).map_or(0, Duration::as_millis);
    println!(
        "job-started: median {} ms, least {} ms, most {} ms of {RUNS} runs, `ip netns exec`, env and bash included",
        figure(RUNS / 2),
        figure(0),
        figure(RUNS - 1)
    );
}
