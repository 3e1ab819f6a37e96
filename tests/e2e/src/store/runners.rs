//! The runners' side of a fleet: how their jobs register, and what they reach.
//!
//! Owns requests to the runner API from a runner's own address, and looks at the wire with `curl`. Judges nothing.

use std::fmt::Display;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_lab::{Answer, Api, Lab, plan, wait_until};

use super::Fleet;
use crate::{PATIENCE, run_on};

impl Fleet<'_> {
    /// The runner API of the first gateway, as a runner of the first network reaches it.
    pub fn door(&self, runner: usize) -> Api {
        self.door_of(runner, 1)
    }

    /// The runner API of gateway 1 or 2.
    pub fn door_of(&self, runner: usize, gateway: usize) -> Api {
        let address = match gateway {
            1 => plan::gateway_v4(0),
            _ => plan::second_gateway_v4(0),
        };
        let api = self.lab.api(
            self.lab.runner(runner),
            (address, 443).into(),
            "tidegate.internal",
        );
        api.expect("a client in the runner")
    }

    /// Asks the first gateway's runner API from a runner.
    pub async fn ask(
        &self,
        runner: usize,
        (method, path): (&str, &str),
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Answer {
        let answer = self.door(runner).call(method, path, token, body).await;
        answer.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Asks for a job's registration.
    pub async fn try_register(&self, runner: usize, token: Option<&str>, body: &Value) -> Answer {
        self.ask(runner, ("POST", "/v1/jobs"), token, Some(body)).await
    }

    /// Registers a job by the fleet's runner token; gives back what the gateway answered.
    pub async fn register(&self, runner: usize, repo: &str, workflow: &str) -> Value {
        let answer = self
            .try_register(runner, Some(&self.runner), &start_of(repo, workflow))
            .await;
        answer.expect(201).json()
    }

    /// Ends a runner's job by the fleet's runner token.
    pub async fn end(&self, runner: usize) -> Answer {
        self.ask(runner, ("POST", "/v1/jobs/current/end"), Some(&self.runner), None)
            .await
    }

    /// The runner's job as the gateway sees it; a problem document when there is none.
    pub async fn current(&self, runner: usize) -> Value {
        self.ask(runner, ("GET", "/v1/jobs/current"), None, None)
            .await
            .json()
    }

    /// The name of the policy that decides for a runner's job, from its own mouth.
    pub async fn policy_of(&self, runner: usize) -> Value {
        self.current(runner).await["policy"]["name"].clone()
    }

    /// Waits until a runner can fetch `https://NAME/`; says how long that took.
    pub async fn reaches(&self, runner: usize, name: &str) -> Duration {
        let what = format!("runner {runner} to reach {name}");
        within_a_second(&what, async || {
            let fetched = fetch(self.lab, runner, name).await;
            let is_there = matches!(fetched, Fetched::Page);
            if is_there {
                Ok(())
            } else {
                Err(format!("{fetched:?}"))
            }
        })
        .await
    }

    /// Waits until a runner is refused `https://NAME/`; says how long that took.
    pub async fn refused(&self, runner: usize, name: &str) -> Duration {
        let what = format!("runner {runner} to be refused {name}");
        within_a_second(&what, async || {
            let fetched = fetch(self.lab, runner, name).await;
            let is_refused = matches!(fetched, Fetched::Refused(_));
            if is_refused {
                Ok(())
            } else {
                Err(format!("{fetched:?}"))
            }
        })
        .await
    }

    /// Which of these names a runner reaches now.
    pub async fn reached<'n>(&self, runner: usize, names: &[&'n str]) -> Vec<&'n str> {
        let mut reached = Vec::new();
        for name in names {
            match fetch(self.lab, runner, name).await {
                Fetched::Page => reached.push(*name),
                Fetched::Refused(_) => {}
                Fetched::Lost(output) => panic!("neither served nor refused: {output}"),
            }
        }
        reached
    }
}

/// The body of a job's start.
pub fn start_of(repo: &str, workflow: &str) -> Value {
    json!({"repo": repo, "workflow": workflow, "job": "build", "run_id": 1001})
}

/// What came of fetching a page.
#[derive(Debug)]
pub enum Fetched {
    /// The page.
    Page,
    /// A refusal that came at once, with curl's words.
    Refused(String),
    /// Nothing in time.
    Lost(String),
}

/// Fetches `https://NAME/` on a runner of the first network.
pub async fn fetch(lab: &Lab, runner: usize, name: &str) -> Fetched {
    let url = format!("https://{name}/");
    let output = run_on(lab, runner, &["curl", "-sS", "-m", "5", "-o", "/dev/null", &url]).await;
    match output.code() {
        Some(0) => Fetched::Page,
        // CURLE_OPERATION_TIMEDOUT: silence is no refusal.
        Some(28) | None => Fetched::Lost(output.to_string()),
        Some(_) => Fetched::Refused(output.errors()),
    }
}

/// Waits for what a change shall bring about, which the specification gives a second, and says how long it took. A test
/// fails later than that: how busy the machine is must not decide. The figures are shown with `--nocapture`.
pub async fn within_a_second<S: Display>(what: &str, probe: impl AsyncFnMut() -> Result<(), S>) -> Duration {
    #[expect(clippy::disallowed_methods, reason = "a figure for people; no test judges it")]
    let begun = Instant::now();
    let seen = wait_until(what, PATIENCE, probe).await;
    seen.unwrap_or_else(|error| panic!("{error}"));
    let took = begun.elapsed();
    println!("waited {} ms for {what}", took.as_millis());
    took
}
