//! What is asked about events: the parameters, and the question that they make.
//!
//! Owns which values make sense. A limited token asks within its owners.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_policy::event::Kind;
use tidegate_policy::verdict::{Reason, Verdict};
use utoipa::{IntoParams, ToSchema};

use crate::api::auth::Caller;
use crate::api::problem::Refused;
use crate::store::{EventFilter, NamePattern};

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::api) enum Format {
    /// A page.
    Json,
    /// All of them, one a line.
    Ndjson,
    /// All of them as comma-separated values, one a line, with a line of names before.
    Csv,
}

/// Declares parameters that begin with what every question about events can name.
macro_rules! asked {
    ($(#[doc = $doc:literal])+ $name:ident { $($more:tt)* }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Default, Deserialize, IntoParams)]
        #[serde(deny_unknown_fields)]
        #[into_params(parameter_in = Query)]
        pub(in crate::api) struct $name {
            /// Of jobs of an organization or user.
            #[serde(default)]
            pub(super) org: Option<String>,
            /// Of jobs of a repository, `owner/name`.
            #[serde(default)]
            pub(super) repo: Option<String>,
            /// Of jobs of a workflow file.
            #[serde(default)]
            pub(super) workflow: Option<String>,
            /// Of one job, by its id (`job_…`).
            #[serde(default)]
            pub(super) job: Option<String>,
            /// Of jobs that are called so in their workflow.
            #[serde(default)]
            pub(super) job_name: Option<String>,
            /// Of a run, by the forge's number.
            #[serde(default)]
            pub(super) run: Option<String>,
            /// `permit`, `refuse`, `would-refuse`; several with commas.
            #[serde(default)]
            #[param(example = "refuse,would-refuse")]
            pub(super) verdict: Option<String>,
            /// About a name or an address, or about any name below another: `*.example.com`.
            #[serde(default)]
            pub(super) name: Option<String>,
            /// Of a kind of traffic.
            #[serde(default)]
            #[param(value_type = Option<String>)]
            pub(super) kind: Option<Kind>,
            /// For a reason, as events spell it.
            #[serde(default)]
            #[param(example = "not-allowed")]
            pub(super) reason: Option<String>,
            /// Of a gateway.
            #[serde(default)]
            pub(super) gateway: Option<String>,
            /// Of a network.
            #[serde(default)]
            pub(super) network: Option<String>,
            /// Of a source, by its address.
            #[serde(default)]
            #[param(value_type = Option<String>)]
            pub(super) source: Option<IpAddr>,
            /// Judged by a policy of this name.
            #[serde(default)]
            pub(super) policy: Option<String>,
            /// Judged by a policy that came from this scope.
            #[serde(default)]
            #[param(example = "repo:acme/web")]
            pub(super) scope: Option<String>,
            /// `true`: of sources that held no lease; `false`: of jobs.
            #[serde(default)]
            pub(super) unidentified: Option<bool>,
            /// With this short id, as a refusal shows it. That of a refusal is found at once; that of a permit is looked
            /// for among all events of the span: name the job, the repository or a short span where they are known.
            #[serde(default)]
            pub(super) id: Option<String>,
            $($more)*
        }

        impl $name {
            /// What stands in the parameters that all questions share.
            fn shared(&self, caller: &Caller) -> Result<EventFilter, Refused> {
                if let Some(owner) = &self.org {
                    caller.check_owner(owner)?;
                }
                if let Some(repo) = &self.repo
                    && !repo.contains('/')
                {
                    return Err(Refused::bad("repo", format!("repo: {repo:?} is none; write owner/name")));
                }
                if let Some(reason) = &self.reason
                    && !Reason::ALL.iter().any(|known| known.as_str() == reason)
                {
                    return Err(Refused::bad("reason", format!("reason: there is no reason {reason:?}")));
                }
                Ok(EventFilter {
                    owners: caller.owners(),
                    owner: self.org.clone(),
                    repo: self.repo.clone(),
                    workflow: self.workflow.clone(),
                    job: self.job.clone(),
                    job_name: self.job_name.clone(),
                    run: self.run.clone(),
                    verdicts: verdicts(self.verdict.as_deref())?,
                    name: self.name.as_deref().map(NamePattern::parse),
                    kind: self.kind,
                    reason: self.reason.clone(),
                    gateway: self.gateway.clone(),
                    network: self.network.clone(),
                    source: self.source.map(|source| source.to_canonical()),
                    policy: self.policy.clone(),
                    scope: self.scope.clone(),
                    unidentified: self.unidentified,
                    id: self.id.clone(),
                    since: None,
                    until: None,
                    upto: None,
                })
            }
        }
    };
}

asked! {
    /// Which events are listed.
    WhichEvents {
        /// At this time or later.
        #[serde(default)]
        #[param(value_type = Option<String>, format = DateTime)]
        pub(super) since: Option<Timestamp>,
        /// Before this time.
        #[serde(default)]
        #[param(value_type = Option<String>, format = DateTime)]
        pub(super) until: Option<Timestamp>,
        /// How they are written; `Accept` decides when nothing is said.
        #[serde(default)]
        #[param(inline)]
        pub(super) format: Option<Format>,
        /// `next` of the page before.
        #[serde(default)]
        pub(super) after: Option<String>,
        /// Events of a page at most.
        #[serde(default)]
        #[param(minimum = 1, maximum = 1000)]
        pub(super) limit: Option<u32>,
    }
}

asked! {
    /// Which events are followed.
    FollowedEvents {
        /// Events that were stored behind this number: a `tidegate-position`, or an id of an earlier stream. The header
        /// `Last-Event-ID` goes before it.
        #[serde(default)]
        pub(super) after: Option<u64>,
    }
}

/// Which of a job's events are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct JobEvents {
    /// `permit`, `refuse`, `would-refuse`; several with commas.
    #[serde(default)]
    #[param(example = "refuse,would-refuse")]
    verdict: Option<String>,
    /// About a name or an address, or about any name below another: `*.example.com`.
    #[serde(default)]
    name: Option<String>,
    /// Of a kind of traffic.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    kind: Option<Kind>,
    /// For a reason, as events spell it.
    #[serde(default)]
    reason: Option<String>,
    /// How they are written; `Accept` decides when nothing is said.
    #[serde(default)]
    #[param(inline)]
    format: Option<Format>,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Events of a page at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

impl WhichEvents {
    /// The question, within what the caller may see.
    pub(super) fn filter(&self, caller: &Caller) -> Result<EventFilter, Refused> {
        Ok(EventFilter {
            since: self.since,
            until: self.until,
            ..self.shared(caller)?
        })
    }

    /// The moment that the pages are of, taken off the cursor: the newest event's number when the first was read.
    pub(super) fn moment(&mut self) -> Result<Option<u64>, Refused> {
        let Some(after) = &self.after else {
            return Ok(None);
        };
        let wrong = || Refused::bad("after", "this is no `next` of a page of this list");
        let (place, moment) = after.rsplit_once('.').ok_or_else(wrong)?;
        let moment = moment.parse().map_err(|_| wrong())?;
        self.after = Some(place.to_owned());
        Ok(Some(moment))
    }
}

impl FollowedEvents {
    /// The question, within what the caller may see.
    pub(super) fn filter(&self, caller: &Caller) -> Result<EventFilter, Refused> {
        self.shared(caller)
    }
}

impl JobEvents {
    /// The question about all events that one about a job is.
    pub(super) fn of(self, job: String) -> WhichEvents {
        WhichEvents {
            job: Some(job),
            verdict: self.verdict,
            name: self.name,
            kind: self.kind,
            reason: self.reason,
            format: self.format,
            after: self.after,
            limit: self.limit,
            ..WhichEvents::default()
        }
    }
}

fn verdicts(text: Option<&str>) -> Result<Vec<Verdict>, Refused> {
    let known = [Verdict::Permit, Verdict::Refuse, Verdict::WouldRefuse];
    let mut verdicts = Vec::new();
    for word in text.into_iter().flat_map(|text| text.split(',')).map(str::trim) {
        let found = known.into_iter().find(|verdict| verdict.as_str() == word);
        let verdict = found.ok_or_else(|| {
            let detail =
                format!("verdict: permit, refuse or would-refuse, several with commas; not {word:?}");
            Refused::bad("verdict", detail)
        })?;
        if !verdicts.contains(&verdict) {
            verdicts.push(verdict);
        }
    }
    Ok(verdicts)
}
