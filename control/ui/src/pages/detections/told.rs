//! A detection as the API tells it: what it is called, and where its parts lead.

use serde::Deserialize;

use crate::pages::events::EventJob;
use crate::text::{Text, endpoint, url};
use crate::time::When;

/// Why something was detected.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    pub(super) endpoint: Text,
    pub(super) port: u16,
    pub(super) transport: Text,
    pub(super) event_id: Text,
    pub(super) gateway: Text,
    pub(super) kind: Text,
    pub(super) verdict: Text,
    pub(super) mode: Text,
    pub(super) reason: Option<Text>,
    pub(super) rule: Option<Text>,
    pub(super) nearest: Option<Text>,
    pub(super) policy: Option<Text>,
    pub(super) policy_version: Option<u32>,
    pub(super) scope: Option<Text>,
    pub(super) address: Option<Text>,
    pub(super) process: Option<Process>,
    pub(super) fork: bool,
    pub(super) outside: Vec<Text>,
    pub(super) further: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Process {
    pub(super) name: Text,
    pub(super) parent: Text,
    pub(super) sha256: Text,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Detection {
    pub(super) id: Text,
    #[serde(rename = "type")]
    pub(super) kind: Text,
    pub(super) severity: Text,
    pub(super) status: Text,
    pub(super) job: EventJob,
    pub(super) time: When,
    pub(super) last_time: When,
    pub(super) count: u64,
    pub(super) evidence: Evidence,
    #[serde(default)]
    pub(super) suppression: Option<Text>,
    #[serde(default)]
    pub(super) expected: bool,
    #[serde(default)]
    pub(super) note: Option<Text>,
    #[serde(default)]
    pub(super) changed_by: Option<Text>,
    #[serde(default)]
    pub(super) changed_at: Option<When>,
}

impl Detection {
    /// What was detected, in words.
    pub(super) fn title(&self) -> &'static str {
        match self.kind.raw() {
            "New-Outbound-Network-Call" => "Reached something new",
            "Domain-Blocked" => "Was refused",
            _ => "Detected",
        }
    }

    /// `name:port`, with its protocol where that is not the usual one.
    pub(super) fn shown(&self) -> Text {
        self.rule().into()
    }

    /// The same as a policy names it: what forms send.
    pub(super) fn rule(&self) -> String {
        let Evidence {
            endpoint: name,
            port,
            transport,
            ..
        } = &self.evidence;
        endpoint(name.raw(), *port, transport.raw())
    }

    pub(super) fn is_new(&self) -> bool {
        self.status.raw() == "new"
    }

    pub(super) fn severity_class(&self) -> &'static str {
        match self.severity.raw() {
            "high" => "high",
            "medium" => "medium",
            _ => "low",
        }
    }

    pub(super) fn status_class(&self) -> &'static str {
        match self.status.raw() {
            "new" => "new",
            "resolved" => "good",
            _ => "low",
        }
    }

    pub(super) fn href(&self) -> String {
        url(&["ui", "detections", self.id.raw()], &[])
    }

    pub(super) fn job_href(&self) -> String {
        url(&["ui", "jobs", self.job.id.raw()], &[])
    }

    /// Its events.
    pub(super) fn events_href(&self) -> String {
        let query = [("job", self.job.id.raw()), ("name", self.evidence.endpoint.raw())];
        url(&["ui", "events"], &query)
    }

    pub(super) fn event_href(&self) -> String {
        let query = [("id", self.evidence.event_id.raw()), ("job", self.job.id.raw())];
        url(&["ui", "events"], &query)
    }

    /// The form of a rule that covers it.
    pub(super) fn rule_href(&self) -> String {
        url(&["ui", "detections", "rules", "new"], &[("from", self.id.raw())])
    }

    /// The baseline of a scope.
    pub(super) fn baseline_href(scope: &Text) -> String {
        url(&["ui", "baselines", "scope"], &[("scope", scope.raw())])
    }

    /// Other detections of the endpoint.
    pub(super) fn others_href(&self) -> String {
        let query = [("search", self.evidence.endpoint.raw()), ("status", "all")];
        url(&["ui", "detections"], &query)
    }
}
