//! `tidegate hook`: what the Actions runner runs before and after each job on a runner machine.
//!
//! Owns the outcome of a run: what stands in the job's log and whether it fails the job. Which policy governs, what was
//! refused and what a summary says is the gateway's. The runner token and the job's OIDC tokens appear in no output.
//! `install` writes the scripts that the runner wants, with settings that hold for every job of the machine; the runner's
//! environment holds for one.

mod api;
pub(crate) mod args;
mod completed;
mod env;
pub(crate) mod install;
mod job;
mod lines;
mod oidc;
pub(crate) mod settings;
mod started;
mod step_summary;
mod work;

use std::process::ExitCode;

use args::{Hook, HookAction, OnError, Run};
use env::Given;
use lines::{Weight, annotation};
use settings::Settings;

use crate::Usage;
use crate::out::say;

/// `tidegate hook`.
pub(crate) fn run(args: &Hook) -> anyhow::Result<ExitCode> {
    match &args.action {
        HookAction::JobStarted(run) => Ok(job_started(run)),
        HookAction::JobCompleted(run) => Ok(job_completed(run)),
        HookAction::Install(args) => install::run(args),
    }
}

fn job_started(run: &Run) -> ExitCode {
    let given = Given::of_process();
    let mut on_error = run.on_error;
    let done = given
        .on_error()
        .and_then(|said| {
            on_error = on_error.or(said);
            Settings::read(run.reach.config.as_deref())
        })
        .map_err(anyhow::Error::from)
        .and_then(|settings| {
            // A job that is not registered is judged as a stranger: by a policy that may be wider than its own.
            on_error = on_error.or(settings.on_error);
            let reach = settings.over(&run.reach).reach()?;
            block_on(started::run(&given, &reach))
        });
    match done {
        Ok(lines) => {
            print(&lines);
            ExitCode::SUCCESS
        }
        Err(error) => failed(&[error], on_error.unwrap_or(OnError::Fail)),
    }
}

fn job_completed(run: &Run) -> ExitCode {
    let given = Given::of_process();
    let said = given.on_error();
    let done = Settings::read(run.reach.config.as_deref())
        .and_then(|settings| settings.over(&run.reach).reach())
        .map_err(anyhow::Error::from)
        .and_then(|reach| block_on(completed::run(&given, &reach)));
    // The job is done, and well or not by its own doing: the gateway's absence is no reason to say otherwise.
    let (said, misspelled) = said.map_or_else(|error| (None, Some(error)), |said| (said, None));
    let on_error = run.on_error.or(said).unwrap_or(OnError::Continue);
    let mut errors: Vec<anyhow::Error> = misspelled.into_iter().map(anyhow::Error::from).collect();
    match done {
        Ok(done) => {
            print(&done.lines);
            errors.extend(done.failed.into_iter().map(anyhow::Error::msg));
        }
        Err(error) => errors.push(error),
    }
    if errors.is_empty() {
        return ExitCode::SUCCESS;
    }
    failed(&errors, on_error)
}

fn print(lines: &[String]) {
    for line in lines {
        say!("{line}");
    }
}

/// Says what went wrong as the runner shows it, and what it means for the job.
fn failed(errors: &[anyhow::Error], on_error: OnError) -> ExitCode {
    let weight = match on_error {
        OnError::Fail => Weight::Error,
        OnError::Continue => Weight::Warning,
    };
    for error in errors {
        say!("{}", annotation(weight, "Tidegate", &format!("{error:#}")));
    }
    match on_error {
        OnError::Continue => ExitCode::SUCCESS,
        OnError::Fail if errors.iter().any(anyhow::Error::is::<Usage>) => ExitCode::from(2),
        OnError::Fail => ExitCode::FAILURE,
    }
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
