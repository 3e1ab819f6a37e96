//! What changes a lease: a job that begins, ends, or is claimed.
//!
//! Owns how many changes are in progress, and that one which has begun is carried through. Whose word counts for what is
//! [`crate::jobs`]'.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::StatusCode;

use super::{Answer, Ask, RunnerApi, bearer, json, whole_second};
use crate::jobs::{Asker, JobStart, Shown, claimed};
use crate::runner_api::machines::Seen;
use crate::runner_api::problem::{Code, Problem};
use crate::runner_api::view::{GovernedView, MonitorView, StartedView};

/// Changes of leases in progress; more than these are told to try again. Each waits for the control plane for two
/// seconds at most.
pub(super) const MAX_CHANGES: usize = 256;
/// Changes in progress for one address: they wait for each other, and must not keep others from theirs.
pub(super) const MAX_CHANGES_A_SOURCE: usize = 4;
/// What becomes of a lease.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Start,
    End,
    Monitor,
}

impl RunnerApi {
    /// Changes a lease. Once begun it is carried through, though the client may have gone: the control plane and the
    /// lease table must not part.
    pub(super) async fn change(self: &Arc<Self>, ask: Ask, change: Change) -> Answer {
        let Some(slot) = self.changes.take(ask.source) else {
            return Err(Problem::busy("too many jobs begin or end at once; try again"));
        };
        let api = Arc::clone(self);
        let carried = tokio::spawn(async move {
            let _slot = slot;
            match change {
                Change::Start => api.start(&ask).await,
                Change::End => api.end(&ask).await,
                Change::Monitor => api.monitor(&ask).await,
            }
        });
        carried.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request to the runner API failed");
            let detail = "the gateway failed; its log says why";
            Err(Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::Internal,
                detail,
            ))
        })
    }

    async fn start(&self, ask: &Ask) -> Answer {
        self.admit(ask.source)?;
        let start = JobStart::read(&ask.body)?;
        let bearer = bearer(&ask.headers)?;
        let asker = self.asker(ask.source).await?;
        let now = self.now();
        let started = self.jobs.start(asker, &start, bearer, now).await?;
        let lease = &started.lease;
        if let Some(job) = lease.subject.job() {
            self.tallies.machine(&job, asker.source, asker.mac, now.wall);
        }
        let status = if started.fresh {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        let view = StartedView {
            id: lease.id.to_string(),
            sources: self.sources(lease),
            assurance: lease.assurance().as_str(),
            governed: GovernedView::of(&lease.subject.rulebook()),
            expires_at: lease.expires.map(|at| whole_second(now.wall_of(at))),
            members: started.members,
        };
        Ok(json(status, &view))
    }

    async fn end(&self, ask: &Ask) -> Answer {
        self.admit(ask.source)?;
        let start = JobStart::read(&ask.body)?;
        let shown = Shown {
            bearer: bearer(&ask.headers)?,
            oidc: start.oidc_token.as_deref(),
        };
        let asker = self.asker(ask.source).await?;
        let now = self.now();
        // Its summary is asked for behind its end, by the same machine.
        if let Some(job) = self.leases.lookup(asker.source, now.moment).job() {
            self.tallies.machine(&job, asker.source, asker.mac, now.wall);
        }
        let id = self.jobs.end(asker, shown, now).await?;
        Ok(json(
            StatusCode::OK,
            &serde_json::json!({"id": id, "ended": true}),
        ))
    }

    async fn monitor(&self, ask: &Ask) -> Answer {
        let path: Vec<&str> = ask.path.trim_start_matches('/').split('/').collect();
        let [_, _, owner, repo, _, _, run, _] = path.as_slice() else {
            return Err(Problem::not_found());
        };
        let claimed = claimed(owner, repo, run, &ask.body)?;
        match self.claims.wait(ask.source, self.clock.now()) {
            0 => {}
            wait => return Err(Problem::too_many_claims(wait)),
        }
        let asker = self.asker(ask.source).await?;
        let before = self.leases.lease_at(ask.source);
        let lease = self.jobs.monitor(asker, claimed, self.now()).await?;
        if before.is_none_or(|before| before.id != lease) {
            self.claims.failed(ask.source, self.clock.now());
        }
        let view = MonitorView {
            runner_ip_address: ask.source,
            one_time_key: self.one_time_key(&lease, ask.source),
            monitoring_started: true,
        };
        Ok(json(StatusCode::OK, &view))
    }

    async fn asker(&self, source: IpAddr) -> Result<Asker, Problem> {
        let mac = match self.machines.behind(source).await {
            Seen::Machine(mac) => Some(mac),
            Seen::OffLink => None,
            Seen::Nobody => {
                let detail = format!("the machine behind {source} is not known yet; try again");
                return Err(Problem::busy(detail));
            }
        };
        Ok(Asker { source, mac })
    }
}
