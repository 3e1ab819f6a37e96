//! The wire of the Harden-Runner clients: its action, its job hooks and its agent, unmodified (harden-runner-wire.md).
//!
//! Owns the paths below `/v1/github` and what those clients need in an answer: JSON wherever they parse it, arrays that
//! are always there, the statuses that they act on. It decides nothing: which policy governs is
//! `tidegate_policy::effective`'s, whose credential is good [`crate::jobs`]', and the gateway enforces the store's policy
//! whatever a client makes of an answer. Driven by [`super::pages`].
//!
//! Nothing here waits for the control plane, but for an OIDC token that names a key which was not synced yet.

mod blocklist;
mod governed;
mod reports;
mod view;

use std::net::IpAddr;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Method, StatusCode};
use serde_json::json;
use tidegate_control_wire::oidc::workflow_file_of;
use tidegate_dns::clock::Clock;
use tidegate_policy::job::JobIdentity;
use tidegate_policy::lease::LeaseTable;
use tidegate_policy::verdict::Mode;

use self::governed::Told;
use self::reports::Reports;
use self::view::{CheckView, FlagsView, PolicyView, StatusView};
use super::pages::{Answer, Ask, Page, RunnerApi, bearer, json};
use super::problem::{Code, Problem};
use crate::jobs::{Asker, AuthError, Now, Registrar, claimed};
use crate::status::unescape;

pub(crate) use self::reports::ReportSink;

/// Longest name of a policy as it is escaped in a path, in bytes: 100 characters, each written as twelve.
const MAX_NAME: usize = 1_200;

/// The pages of these clients.
pub(super) struct HardenRunner {
    jobs: Arc<Registrar>,
    leases: Arc<LeaseTable>,
    clock: Clock,
    reports: Reports,
}

impl HardenRunner {
    pub(super) fn new(
        jobs: Arc<Registrar>,
        leases: Arc<LeaseTable>,
        clock: Clock,
        sink: Arc<dyn ReportSink>,
    ) -> Self {
        Self {
            jobs,
            leases,
            clock,
            reports: Reports::new(sink),
        }
    }

    /// Answers a request below `/v1` that is no page of our own. `api` knows what is said of the source elsewhere.
    pub(super) async fn answer(&self, api: &RunnerApi, ask: &Ask) -> Answer {
        let path: Vec<&str> = ask.path.trim_start_matches('/').split('/').collect();
        let reads = matches!(ask.method, Method::GET | Method::HEAD);
        match path.as_slice() {
            // The job hooks look whether anybody is there before they ask anything.
            ["v1"] | ["v1", ""] if reads => Ok(ok(&json!({}))),
            ["v1", "global-feature-flags"] if reads => Ok(ok(&FlagsView::default())),
            ["v1", "global-blocklist"] if reads => Ok(ok(&blocklist::of(&self.leases.policies().world))),
            ["v1", "github", owner, "actions", rest @ ..] if reads => {
                self.of_owner(api, ask, owner, rest).await
            }
            ["v1", "github", owner, repo, "actions", rest @ ..] => {
                let about = About::read(owner, repo, ask)?;
                match rest {
                    ["jobs", _, kind @ ("dns" | "networkconnection")] if ask.method == Method::POST => {
                        self.report(api, ask, &about, kind)
                    }
                    ["jobs", _, "dns" | "networkconnection"] => Err(Problem::method("POST")),
                    _ if reads => self.of_repository(api, ask, &about, rest).await,
                    _ => Err(unknown(ask)),
                }
            }
            _ => Err(unknown(ask)),
        }
    }

    async fn of_owner(&self, api: &RunnerApi, ask: &Ask, owner: &str, rest: &[&str]) -> Answer {
        match rest {
            ["policies", name] => {
                api.admit(ask.source)?;
                self.named(ask, owner, name).await
            }
            // 200 keeps the action from putting a network agent of its own beside the gateway, which judges already.
            ["tls-inspection-status"] => Ok(ok(&json!({"enforced_by": "gateway"}))),
            _ => Err(unknown(ask)),
        }
    }

    async fn of_repository(&self, api: &RunnerApi, ask: &Ask, about: &About<'_>, rest: &[&str]) -> Answer {
        match rest {
            ["policies", "workflow-policy"] => self.workflow_policy(api, ask, about).await,
            ["policies", "workflow-policy", "status"] => {
                Ok(ok(&StatusView::of(self.is_applied(ask.source, about))))
            }
            ["policies", "workflow-check"] => Ok(ok(&self.check(ask.source, about)?)),
            // 403 would be "inactive"; whoever can ask is served.
            ["subscription"] => Ok(ok(&json!({"status": "active"}))),
            // Of whatever run and correlation: a machine has one job, and time ranges can't show another one's.
            ["runs", _, "correlation", _, "job-markdown-summary"] => summary(api, ask, about).await,
            _ => Err(unknown(ask)),
        }
    }

    /// The effective policy, for who may know it: the job itself, or a token that could register the job.
    async fn workflow_policy(&self, api: &RunnerApi, ask: &Ask, about: &About<'_>) -> Answer {
        if self.held(ask.source, about).is_none() {
            api.admit(ask.source)?;
            self.may_read(ask, about).await?;
        }
        match self.told(ask.source, about) {
            Told::Policy(policy, _) => Ok(ok(&PolicyView::of(about.owner, &policy))),
            Told::Unusable(name) => Ok(ok(&PolicyView::unusable(about.owner, &name))),
            // The action then keeps its own policy or records; the hooks go on.
            Told::Nothing => Err(no_policy("no policy is attached that governs this workflow")),
            Told::NotYet => Err(AuthError::NeverSynced.into()),
        }
    }

    /// Whether there is one, without its content: the hooks ask before they have anything to show.
    fn check(&self, source: IpAddr, about: &About<'_>) -> Result<CheckView, Problem> {
        match self.told(source, about) {
            Told::Policy(policy, own) => Ok(CheckView {
                has_policy: true,
                // What is in force for everybody on the network needs no waiting for.
                should_sleep: own && policy.mode == Mode::Block,
            }),
            Told::Unusable(_) => Ok(CheckView {
                has_policy: true,
                should_sleep: true,
            }),
            Told::Nothing => Ok(CheckView::default()),
            Told::NotYet => Err(AuthError::NeverSynced.into()),
        }
    }

    /// Whether who asks could register this job: by its `vm-api-key`, which is a runner token.
    async fn may_read(&self, ask: &Ask, about: &About<'_>) -> Result<(), Problem> {
        let key = vm_api_key(&ask.headers)
            .ok_or_else(|| unauthorized("write `Authorization: vm-api-key TOKEN` with a runner token"))?;
        // The machine is not asked for: a credential's reach does not depend on it.
        let asker = Asker {
            source: ask.source,
            mac: None,
        };
        let vouched = self.jobs.vouches(asker, key, &about.job, self.now()).await;
        if vouched.map_err(unproven)? {
            Ok(())
        } else {
            let detail = "this token is not for this repository, or not for this network";
            Err(unauthorized(detail))
        }
    }

    /// A policy by its name, for a job of its owner.
    async fn named(&self, ask: &Ask, owner: &str, name: &str) -> Answer {
        // The grammar of owners is that of repositories.
        let job = claimed(owner, owner, "", b"")?;
        let token =
            bearer(&ask.headers)?.ok_or_else(|| unauthorized("show the job's OIDC token as bearer"))?;
        let signed = self.jobs.signed(token, self.now()).await.map_err(unproven)?;
        if signed.owner != job.owner {
            let detail = format!(
                "this OIDC token is of a job of {}, not of {}",
                signed.owner, job.owner
            );
            return Err(Problem::new(StatusCode::FORBIDDEN, Code::Forbidden, detail));
        }
        if name.len() > MAX_NAME {
            return Err(no_policy("no policy has so long a name"));
        }
        let name = unescape(name);
        match governed::by_name(&self.leases.policies(), &job.owner, &name) {
            Told::Policy(policy, _) => Ok(ok(&PolicyView::of(owner, &policy))),
            Told::Unusable(name) => Ok(ok(&PolicyView::unusable(owner, &name))),
            Told::Nothing => Err(no_policy(
                "the owner has no policy of this name that decides about egress",
            )),
            Told::NotYet => Err(AuthError::NeverSynced.into()),
        }
    }

    /// What an agent saw on the runner. The clients take exactly 200 for success, and send again what got anything else.
    fn report(&self, api: &RunnerApi, ask: &Ask, about: &About<'_>, kind: &str) -> Answer {
        let now = self.now();
        let job = self.leases.lookup(ask.source, now.moment).job();
        let shown = ask
            .headers
            .get("x-one-time-key")
            .and_then(|key| key.to_str().ok());
        let job = job.filter(|job| {
            job.identity.repo == about.job.repo && shown == Some(&*api.one_time_key(&job.id, ask.source))
        });
        let Some(job) = job else {
            // Not counted as a guess: an agent that outlived its gateway's restart must not keep its job from ending.
            let detail = "x-one-time-key is not the one of the job on this machine; monitor gives it out";
            return Err(Problem::new(StatusCode::FORBIDDEN, Code::Forbidden, detail));
        };
        let said = reports::read(kind, &ask.body)?;
        if let Some(said) = said {
            self.reports.take(&job.id, said, now);
        }
        Ok(ok(&json!({})))
    }

    fn now(&self) -> Now {
        Now {
            moment: self.clock.now(),
            wall: jiff::Timestamp::now(),
        }
    }
}

/// The summary of the job on the calling machine, when it is this repository's. The clients append it as it is.
async fn summary(api: &RunnerApi, ask: &Ask, about: &About<'_>) -> Answer {
    let summary = api.summary(ask.source).await?;
    if summary.job.as_ref().is_none_or(|job| job.repo != about.job.repo) {
        return Err(Problem::no_job(ask.source));
    }
    Ok(Page {
        status: StatusCode::OK,
        content_type: "text/markdown; charset=utf-8",
        body: summary.markdown(),
    })
}

/// The repository, and perhaps the workflow, that a request is about.
struct About<'a> {
    /// As it is spelled in the path, for the answer.
    owner: &'a str,
    /// Owner, repository and workflow, folded; nothing of it is known.
    job: JobIdentity,
}

impl<'a> About<'a> {
    fn read(owner: &'a str, repo: &str, ask: &Ask) -> Result<Self, Problem> {
        let mut job = claimed(owner, repo, "", b"")?;
        let named = ask
            .query
            .split('&')
            .find_map(|part| part.strip_prefix("workflow="));
        // A workflow without a file of the repository (`dynamic/…`) has none that a policy is attached to.
        let text = named.map(unescape).unwrap_or_default();
        job.workflow = workflow_file_of(&job.repo, &text).unwrap_or_default().into();
        Ok(Self { owner, job })
    }
}

fn ok(view: &impl serde::Serialize) -> Page {
    json(StatusCode::OK, view)
}

fn unknown(ask: &Ask) -> Problem {
    let detail = format!("the Harden-Runner clients have no {} of this path", ask.method);
    Problem::new(StatusCode::NOT_FOUND, Code::NotFound, detail)
}

fn no_policy(detail: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, Code::NotFound, detail)
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, detail)
}

/// A credential that can't be checked here is no credential to these clients: they know 401, and then record.
fn unproven(error: AuthError) -> Problem {
    match error {
        AuthError::NoControl => unauthorized(&error.to_string()),
        AuthError::Proof(_) | AuthError::NeverSynced => error.into(),
    }
}

/// The text behind `vm-api-key`, which the clients write where others write `Bearer`.
fn vm_api_key(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("vm-api-key") && !key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests;
