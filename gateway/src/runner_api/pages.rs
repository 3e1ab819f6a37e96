//! The pages of the runner API: from a request to an answer, without sockets.
//!
//! Owns paths, methods and who is throttled. Every request is about the source that it came from, and no other:
//! [`super::listener`] stamps it from the connection.

mod change;
mod told;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Method, StatusCode};
use jiff::{Timestamp, Unit};
use metrics::{Counter, counter};
use serde::Serialize;
use tidegate_control_wire::secret::{Role, Secret, digest};
use tidegate_dns::clock::Clock;
use tidegate_dns::front::Limit;
use tidegate_policy::explain::{Target, explain};
use tidegate_policy::lease::{Lease, LeaseTable};

use self::change::{Change, MAX_CHANGES, MAX_CHANGES_A_SOURCE};
use super::harden_runner::{HardenRunner, ReportSink};
use super::machines::Machines;
use super::problem::{Code, Problem};
use super::throttle::Throttle;
use super::view::{CurrentView, GovernedView, WhyView};
use crate::events::EventPipeline;
use crate::jobs::{Now, Registrar};
use crate::status::unescape;
use crate::tally::Tallies;

/// Longest question in a query string, in bytes: the longest name, with port and protocol.
const MAX_TARGET: usize = 300;

/// A request, as far as pages look at it.
#[derive(Debug)]
pub(crate) struct Ask {
    /// Where it came from, IPv4 in IPv4's own form.
    pub(crate) source: IpAddr,
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Behind the `?`, still escaped.
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What is answered when nothing is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    /// Of the body.
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

/// An answer: a page, or a problem document.
pub(crate) type Answer = Result<Page, Problem>;

/// What was asked since the start, for `status`.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Requests.
    pub(crate) requests: AtomicU64,
    /// Those that were refused.
    pub(crate) refused: AtomicU64,
    /// Those of them with a credential that was not good.
    pub(crate) failed_proofs: AtomicU64,
}

/// What the pages are made of.
pub(crate) struct Parts {
    pub(crate) jobs: Arc<Registrar>,
    pub(crate) leases: Arc<LeaseTable>,
    pub(crate) machines: Arc<dyn Machines>,
    pub(crate) clock: Clock,
    pub(crate) counts: Arc<Counts>,
    /// Takes what agents on runners report.
    pub(crate) reports: Arc<dyn ReportSink>,
    pub(crate) tallies: Arc<Tallies>,
    pub(crate) events: Arc<EventPipeline>,
}

/// The pages, with what they need.
pub(crate) struct RunnerApi {
    jobs: Arc<Registrar>,
    leases: Arc<LeaseTable>,
    machines: Arc<dyn Machines>,
    clock: Clock,
    throttle: Throttle,
    /// Jobs that were claimed without a credential.
    claims: Throttle,
    changes: Arc<Limit>,
    /// One-time keys of agents are made from it; another one with each start.
    secret: Secret,
    counts: Arc<Counts>,
    failed_proofs: Counter,
    /// The pages of the Harden-Runner clients.
    wire: HardenRunner,
    tallies: Arc<Tallies>,
    events: Arc<EventPipeline>,
}

impl RunnerApi {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            jobs,
            leases,
            machines,
            clock,
            counts,
            reports,
            tallies,
            events,
        } = parts;
        let wire = HardenRunner::new(Arc::clone(&jobs), Arc::clone(&leases), clock.clone(), reports);
        Self {
            wire,
            jobs,
            leases,
            machines,
            clock,
            throttle: Throttle::default(),
            claims: Throttle::default(),
            changes: Limit::new(MAX_CHANGES, MAX_CHANGES_A_SOURCE),
            secret: Secret::new(Role::Runner),
            counts,
            failed_proofs: counter!("tidegate_runner_api_failed_proofs_total"),
            tallies,
            events,
        }
    }

    /// True when somebody at this address may ask anything at all.
    pub(crate) fn serves(&self, source: IpAddr) -> bool {
        self.machines.serves(source)
    }

    /// Answers a request.
    pub(crate) async fn answer(self: &Arc<Self>, ask: Ask) -> Answer {
        let source = ask.source;
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        let answer = if self.serves(source) {
            self.page(ask).await
        } else {
            let detail = format!("{source} lies in no runner network of this gateway");
            Err(Problem::new(StatusCode::FORBIDDEN, Code::Forbidden, detail))
        };
        if let Err(problem) = &answer {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            if problem.is_failed_proof() {
                self.throttle.failed(source, self.clock.now());
                self.counts.failed_proofs.fetch_add(1, Ordering::Relaxed);
                self.failed_proofs.increment(1);
                tracing::info!(%source, detail = problem.detail, "a credential is not good");
            }
        }
        answer
    }

    async fn page(self: &Arc<Self>, ask: Ask) -> Answer {
        let path: Vec<&str> = ask.path.trim_start_matches('/').split('/').collect();
        match (path.as_slice(), &ask.method) {
            (["v1", "jobs"], &Method::POST) => self.change(ask, Change::Start).await,
            (["v1", "jobs"], _) => Err(Problem::method("POST")),
            (["v1", "jobs", "current"], &Method::GET) => self.current(ask.source).await,
            (["v1", "jobs", "current"], _) => Err(Problem::method("GET")),
            (["v1", "jobs", "current", "end"], &Method::POST) => self.change(ask, Change::End).await,
            (["v1", "jobs", "current", "end"], _) => Err(Problem::method("POST")),
            (["v1", "why"], &Method::GET) => self.why(ask.source, &ask.query).await,
            (["v1", "why"], _) => Err(Problem::method("GET")),
            (["v1", "summary.md"], &Method::GET) => self.summary_page(ask.source).await,
            (["v1", "summary.json"], &Method::GET) => self.summary_data(ask.source).await,
            (["v1", "summary.md" | "summary.json"], _) => Err(Problem::method("GET")),
            ([""] | ["why", ..], &Method::GET) => {
                let page = self.told(ask.source, &ask.path, &ask.headers).await;
                page.ok_or_else(Problem::not_found)
            }
            (["why", _, ..], _) => Err(Problem::method("GET")),
            (["v1", "github", _, _, "actions", "runs", _, "monitor"], &Method::POST) => {
                self.change(ask, Change::Monitor).await
            }
            (["v1", "github", _, _, "actions", "runs", _, "monitor"], _) => Err(Problem::method("POST")),
            (
                ["v1"]
                | [
                    "v1",
                    "" | "github" | "global-feature-flags" | "global-blocklist",
                    ..,
                ],
                _,
            ) => self.wire.answer(self, &ask).await,
            _ => Err(Problem::not_found()),
        }
    }

    async fn current(&self, source: IpAddr) -> Answer {
        let now = self.now();
        let subject = self.subject(source).await;
        let Some(job) = subject.job() else {
            return Err(Problem::no_job(source));
        };
        let lease = self.leases.lease_at(source);
        let view = CurrentView {
            id: job.id.to_string(),
            identity: job.identity.clone(),
            network: subject.network.name.to_string(),
            sources: lease.as_ref().map_or(vec![source], |lease| self.sources(lease)),
            governed: GovernedView::of(&subject.rulebook()),
            expires_at: lease
                .and_then(|lease| lease.expires)
                .map(|at| whole_second(now.wall_of(at))),
        };
        Ok(json(StatusCode::OK, &view))
    }

    async fn why(&self, source: IpAddr, query: &str) -> Answer {
        let named = query.split('&').find_map(|part| part.strip_prefix("name="));
        let Some(text) = named.map(unescape).filter(|text| !text.is_empty()) else {
            return Err(Problem::invalid("name", "write ?name=NAME[:PORT][/PROTO]"));
        };
        if text.len() > MAX_TARGET {
            return Err(Problem::invalid("name", "it is longer than a name can be"));
        }
        let target = Target::parse(&text).map_err(|error| Problem::invalid("name", &error.to_string()))?;
        let subject = self.subject(source).await;
        let view = WhyView {
            source,
            job: subject.job().map(|job| job.id.to_string()),
            explanation: explain(&subject.rulebook(), &target),
        };
        Ok(json(StatusCode::OK, &view))
    }

    /// Refuses who showed too many wrong credentials.
    pub(super) fn admit(&self, source: IpAddr) -> Result<(), Problem> {
        match self.throttle.wait(source, self.clock.now()) {
            0 => Ok(()),
            wait => Err(Problem::rate_limited(wait)),
        }
    }

    fn now(&self) -> Now {
        Now {
            moment: self.clock.now(),
            wall: Timestamp::now(),
        }
    }

    fn sources(&self, lease: &Lease) -> Vec<IpAddr> {
        let view = self.leases.view(&lease.id);
        view.into_iter()
            .flat_map(|view| view.sources)
            .map(|source| source.address)
            .collect()
    }

    /// The key by which an agent's reports are known to be this job's: nobody else can make it, and nothing has to be
    /// remembered.
    pub(super) fn one_time_key(&self, lease: &str, source: IpAddr) -> String {
        digest(&format!("{}\n{lease}\n{source}", self.secret.expose())).to_string()
    }
}

/// The two clocks are read one after the other, so a moment's time differs in its last digits from look to look.
fn whole_second(at: Timestamp) -> Timestamp {
    at.round(Unit::Second).unwrap_or(at)
}

pub(super) fn json(status: StatusCode, view: &impl Serialize) -> Page {
    Page {
        status,
        content_type: "application/json",
        // Plain data with text keys always serializes.
        body: serde_json::to_string(view).unwrap_or_default(),
    }
}

/// The bearer token of a request, if it shows one.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let wrong = |detail| Problem::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, detail);
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = shown.next() else {
        return Ok(None);
    };
    if shown.next().is_some() {
        return Err(wrong("there are two Authorization headers; send one"));
    }
    let text = value.to_str().unwrap_or_default();
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        Some(_) | None => Err(wrong("write `Authorization: Bearer TOKEN`")),
    }
}

#[cfg(test)]
mod tests;
