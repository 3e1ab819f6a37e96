//! What the calling job is told about itself: its summary, and why a destination is judged as it is.
//!
//! Owns whose summary a source may read: that of the job that holds it or, for a while after its end, that of the job
//! whose machine it still is. Counting is [`crate::tally`]'s, words are [`super::super::why`]'s.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::{HeaderMap, StatusCode};
use tidegate_control_wire::summary::JobSummary;
use tidegate_policy::explain::{Target, explain};
use tidegate_policy::lease::Neighbour;
use tidegate_policy::subject::{RunnerKind, Standing, Subject};

use super::{Answer, MAX_TARGET, Page, RunnerApi, json};
use crate::runner_api::machines::Seen;
use crate::runner_api::problem::Problem;
use crate::runner_api::why::{self, Caller, Format, Told};
use crate::status::unescape;

impl RunnerApi {
    /// The summary of the job that holds the source; of the one that held it last, for ten minutes, as long as its
    /// machine is there. Everything that was judged before the question is in it.
    pub(crate) async fn summary(&self, source: IpAddr) -> Result<JobSummary, Problem> {
        self.settled(source).await;
        let now = self.clock.now();
        let subject = self.subject(source).await;
        if let Some(job) = subject.job() {
            return Ok(self.tallies.of(&job, source, &subject.rulebook()));
        }
        if !may_be_left(&subject) {
            return Err(Problem::no_job(source));
        }
        let machine = match self.machines.behind(source).await {
            Seen::Machine(mac) => Some(mac),
            Seen::OffLink => None,
            Seen::Nobody => return Err(Problem::no_job(source)),
        };
        let left = self.tallies.left_at(source, machine, now);
        left.ok_or_else(|| Problem::no_job(source))
    }

    /// The same as a page of Markdown.
    pub(super) async fn summary_page(&self, source: IpAddr) -> Answer {
        let summary = self.summary(source).await?;
        Ok(Page {
            status: StatusCode::OK,
            content_type: "text/markdown; charset=utf-8",
            body: summary.markdown(),
        })
    }

    /// The same for programs.
    pub(super) async fn summary_data(&self, source: IpAddr) -> Answer {
        Ok(json(StatusCode::OK, &self.summary(source).await?))
    }

    /// The pages for people: `/`, and `/why/NAME[:PORT][/PROTO]`. `None` for any other path.
    pub(crate) async fn told(&self, source: IpAddr, path: &str, headers: &HeaderMap) -> Option<Page> {
        let format = Format::wanted(headers);
        let subject = self.subject(source).await;
        let caller = Caller {
            source,
            job: subject.job(),
            standing: subject.standing,
            network: subject.network.name.to_string(),
        };
        let (status, told) = match path.strip_prefix("/why/") {
            Some(text) => match target(text) {
                Ok(target) => (StatusCode::OK, self.explained(&subject, &target, &caller).await),
                Err(problem) => (StatusCode::BAD_REQUEST, Told::unclear(&problem)),
            },
            None if path == "/" => (StatusCode::OK, Told::welcome(&caller)),
            None => return None,
        };
        Some(Page {
            status,
            content_type: format.content_type(),
            body: told.page(format),
        })
    }

    /// Who a source is judged as, at this moment: one at which no machine was seen yet may be a fresh address of a job's
    /// machine. That it speaks to us is why the kernel knows by now.
    pub(super) async fn subject(&self, source: IpAddr) -> Arc<Subject> {
        let subject = self.leases.lookup(source, self.clock.now());
        let is_unseen = subject.standing == Standing::Unbound && self.leases.is_unseen(source);
        if is_unseen && let Seen::Machine(mac) = self.machines.behind(source).await {
            self.leases.observe_neighbour(&Neighbour {
                network: subject.network.name.clone(),
                address: source,
                mac,
            });
            return self.leases.lookup(source, self.clock.now());
        }
        subject
    }

    /// Everything that the job at a source did until now is counted, whichever of its sources it did it from.
    async fn settled(&self, source: IpAddr) {
        let view = self
            .leases
            .lease_at(source)
            .and_then(|lease| self.leases.view(&lease.id));
        let mut sources = vec![source];
        if let Some(view) = view {
            let others = view.sources.iter().map(|one| one.address);
            sources.extend(others.filter(|one| *one != source));
        }
        self.events.settled(&sources).await;
    }

    async fn explained(&self, subject: &Subject, target: &Target, caller: &Caller) -> Told {
        let explanation = explain(&subject.rulebook(), target);
        let seen = match &caller.job {
            Some(job) => {
                self.settled(caller.source).await;
                self.tallies.seen_of(job, caller.source, &why::host(target))
            }
            None => Vec::new(),
        };
        Told::of(&explanation, target, caller, &seen)
    }
}

/// Whether the last job's machine may still be there: on a network of ephemeral runners the address is quarantined until
/// it is not.
fn may_be_left(subject: &Subject) -> bool {
    match (subject.standing, subject.network.runners) {
        (Standing::Quarantined, _) | (Standing::Unleased, RunnerKind::Persistent) => true,
        (Standing::Leased | Standing::Unbound | Standing::Foreign, _)
        | (Standing::Unleased, RunnerKind::Ephemeral) => false,
    }
}

/// The question behind `/why/`, still escaped.
fn target(text: &str) -> Result<Target, String> {
    let text = unescape(text);
    if text.len() > MAX_TARGET {
        return Err("it is longer than a name can be".into());
    }
    Target::parse(&text).map_err(|error| error.to_string())
}
