//! Detections: what somebody should look at. One model for every source; later ones add types.
//!
//! Owns which refusals and which new endpoints are detections, how severe they are, and the evidence that goes with them.
//! One detection stands for one thing that one job did: repeats are counted.

use compact_str::CompactString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tidegate_control_wire::event::EventRecord;
use tidegate_policy::job::Scope;
use tidegate_policy::verdict::Reason;
use utoipa::ToSchema;

use super::sighting::{Target, Trust};

/// Detections of one job and type, so that none of them crowds out the others; the last one's evidence counts what came
/// after.
pub const MAX_OF_JOB: usize = 100;

/// What was detected. Spelled as lockdown policies and Harden-Runner's clients spell theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub enum DetectionType {
    /// A job reached an endpoint outside of a baseline that was stable once.
    #[serde(rename = "New-Outbound-Network-Call")]
    NewOutboundNetworkCall,
    /// A job was kept from reaching something.
    #[serde(rename = "Domain-Blocked")]
    DomainBlocked,
}

impl DetectionType {
    /// Every type.
    pub const ALL: [Self; 2] = [Self::NewOutboundNetworkCall, Self::DomainBlocked];

    /// The spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NewOutboundNetworkCall => "New-Outbound-Network-Call",
            Self::DomainBlocked => "Domain-Blocked",
        }
    }

    /// From that spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// How soon somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Some time.
    Low,
    /// Today.
    Medium,
    /// Now.
    High,
}

impl Severity {
    const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// The spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// From that spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// What became of a detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nobody has looked.
    New,
    /// It is expected: somebody, or a rule, said so.
    Suppressed,
    /// Somebody has dealt with it.
    Resolved,
}

impl Status {
    const ALL: [Self; 3] = [Self::New, Self::Suppressed, Self::Resolved];

    /// The spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Suppressed => "suppressed",
            Self::Resolved => "resolved",
        }
    }

    /// From that spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// How severe a refusal is; `None` for one that says nothing about where the job wanted to go: a resolver's or a
/// client's own way of trying, the network's failures, a gateway that does not know its policies.
pub fn of_refusal(event: &EventRecord) -> Option<Severity> {
    let text = event.reason.as_deref().unwrap_or_default();
    let reason = Reason::ALL.iter().find(|reason| reason.as_str() == text);
    // A newer gateway may have newer reasons.
    let Some(reason) = reason else {
        return Some(Severity::Medium);
    };
    match reason {
        Reason::SearchSuffix
        | Reason::Quic
        | Reason::RecordType
        | Reason::ResolveFailed
        | Reason::Limit
        | Reason::LeaseChanged
        | Reason::PolicyUnknown
        | Reason::NoPolicy
        | Reason::Quarantined
        | Reason::UnboundSource => None,
        Reason::GlobalBlock | Reason::Rebinding | Reason::SecondHello | Reason::SpoofedSource => {
            Some(Severity::High)
        }
        Reason::NeverDial
        | Reason::Denied
        | Reason::NotAllowed
        | Reason::Unticketed
        | Reason::NoName
        | Reason::Ech
        | Reason::ProxyRequest
        | Reason::PolicyChanged => Some(Severity::Medium),
        Reason::MalformedTls
        | Reason::MalformedHttp
        | Reason::MalformedQuic
        | Reason::MalformedDns
        | Reason::DetectTimeout
        | Reason::Silent
        | Reason::UnknownProtocol
        | Reason::Icmp
        | Reason::IpProtocol
        | Reason::DnsBudget => Some(Severity::Low),
    }
}

/// How severe it is that a job reached beyond the baselines of these scopes.
///
/// New to a workflow or a repository says more than new to an organization, where somebody always begins something. A
/// fork's pull request is expected to do odd things, unless it runs with the repository's secrets. Anybody can claim to be
/// anybody.
pub fn of_new_endpoint(event: &EventRecord, trust: Trust, outside: &[Scope]) -> Severity {
    let narrow = outside
        .iter()
        .any(|scope| matches!(scope, Scope::Workflow(_) | Scope::Repository(_)));
    let with_secrets = event
        .job
        .as_ref()
        .is_some_and(|job| job.event == "pull_request_target");
    match trust {
        Trust::Trusted if narrow => Severity::Medium,
        Trust::Fork if with_secrets => Severity::High,
        Trust::Trusted | Trust::Fork | Trust::Claimed => Severity::Low,
    }
}

/// What is known of why it was detected. Texts are printable and bounded, as events are.
pub fn evidence(event: &EventRecord, target: &Target, trust: Trust, outside: &[Scope]) -> Value {
    let mut told = Map::new();
    let mut tell = |key: &str, value: Value| {
        told.insert(key.to_owned(), value);
    };
    tell("endpoint", json!(target.endpoint));
    if target.port != 0 {
        tell("port", json!(target.port));
    }
    tell("transport", json!(target.transport));
    tell("event_id", json!(event.id));
    tell("gateway", json!(event.gateway));
    tell("kind", json!(event.kind));
    tell("verdict", json!(event.verdict));
    tell("mode", json!(event.mode));
    let texts: [(&str, &Option<CompactString>); 6] = [
        ("reason", &event.reason),
        ("rule", &event.rule),
        ("rule_source", &event.rule_source),
        ("nearest", &event.nearest),
        ("policy", &event.policy),
        ("scope", &event.scope),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            tell(key, json!(text));
        }
    }
    if let Some(version) = event.policy_version {
        tell("policy_version", json!(version));
    }
    if let Some(address) = event.address {
        tell("address", json!(address));
    }
    if let Some(process) = &event.process {
        tell("process", json!(process));
    }
    if trust == Trust::Fork {
        tell("fork", Value::Bool(true));
    }
    if !outside.is_empty() {
        let scopes: Vec<String> = outside.iter().map(Scope::to_string).collect();
        tell("outside", json!(scopes));
    }
    Value::Object(told)
}

/// A detection as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Detection {
    /// Its id; ids sort by time.
    pub id: String,
    /// What was detected.
    #[serde(rename = "type")]
    pub kind: DetectionType,
    /// How soon somebody should look.
    pub severity: Severity,
    /// What became of it.
    pub status: Status,
    /// The job, as its events carry it.
    #[schema(value_type = Object)]
    pub job: Value,
    /// When it happened first, by the gateway's clock.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// When it happened last.
    #[schema(value_type = String, format = DateTime)]
    pub last_time: Timestamp,
    /// How often: verdicts of a refusal; of a new endpoint what the first moment of each run says.
    pub count: u64,
    /// What is known: endpoint, port, transport, verdict, reason, rule, event id; for a new endpoint the baselines that
    /// it is outside of (`outside`); `further`, in the newest of a job's: how often it did what is beyond the 100
    /// detections of a type that a job has, not told apart.
    #[schema(value_type = Object)]
    pub evidence: Value,
    /// The rule that suppressed it.
    pub suppression: Option<String>,
    /// Somebody, or a rule, said that the endpoint is what the scope's jobs do: it belongs to the baseline.
    pub expected: bool,
    /// What was said with the last change of its status.
    pub note: Option<String>,
    /// Who changed its status last.
    pub changed_by: Option<String>,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub changed_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests;
