//! Suppression rules: what is expected, so that nobody is told again.
//!
//! A rule's pattern is one of the policy grammar (`*.corp.example`, `10.0.0.0/8:5432`); without ports it means every port.
//! A rule with a process only covers what a host agent reported that process for: what is not known is not covered.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_policy::DnsName;
use tidegate_policy::endpoint::parse::{Role, parse_endpoint};
use tidegate_policy::endpoint::problem::EndpointError;
use tidegate_policy::endpoint::{Endpoint, Host};
use utoipa::ToSchema;

use super::detection::DetectionType;
use super::sighting::{Target, address};

/// A rule as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Suppression {
    /// Its id.
    pub id: String,
    /// Detections of this type only.
    #[serde(rename = "type")]
    pub kind: Option<DetectionType>,
    /// Of this owner's jobs only.
    pub owner: Option<String>,
    /// Of this repository's (`owner/name`) only.
    pub repo: Option<String>,
    /// Of this workflow file's only.
    pub workflow: Option<String>,
    /// An endpoint pattern; without a port, every port and protocol.
    pub endpoint: String,
    /// Reached by this process only: its path, or the last part of it.
    pub process: Option<String>,
    /// Why.
    pub reason: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ends by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// What a rule is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The type.
    pub kind: DetectionType,
    /// The job's owner.
    pub owner: &'a str,
    /// Its repository.
    pub repo: &'a str,
    /// Its workflow file.
    pub workflow: &'a str,
    /// What was reached for.
    pub target: &'a Target,
    /// By which process, when that is known.
    pub process: Option<&'a str>,
}

/// A rule that can be asked.
#[derive(Clone, Debug)]
pub struct Rule {
    text: Suppression,
    pattern: Endpoint,
}

impl Rule {
    /// Reads the pattern of a rule.
    pub fn new(text: Suppression) -> Result<Self, EndpointError> {
        let pattern = pattern(&text.endpoint)?;
        Ok(Self { text, pattern })
    }

    /// As it is shown.
    pub fn text(&self) -> &Suppression {
        &self.text
    }

    /// Whether it covers a detection at a time.
    pub fn covers(&self, subject: &Subject<'_>, now: Timestamp) -> bool {
        let rule = &self.text;
        let is = |wanted: Option<&str>, have: &str| wanted.is_none_or(|wanted| wanted == have);
        rule.expires_at.is_none_or(|end| end > now)
            && rule.kind.is_none_or(|kind| kind == subject.kind)
            && is(rule.owner.as_deref(), subject.owner)
            && is(rule.repo.as_deref(), subject.repo)
            && is(rule.workflow.as_deref(), subject.workflow)
            && matches(&self.pattern, subject.target)
            && rule
                .process
                .as_deref()
                .is_none_or(|wanted| subject.process.is_some_and(|have| is_process(wanted, have)))
    }
}

/// Reads a pattern: as an endpoint that is denied, so that no port means every port.
pub fn pattern(text: &str) -> Result<Endpoint, EndpointError> {
    parse_endpoint(text, Role::Denied).map(|(endpoint, _)| endpoint)
}

/// A name that was only asked for has no port yet: every pattern of its host covers it.
fn matches(pattern: &Endpoint, target: &Target) -> bool {
    let host = match (&pattern.host, address(&target.endpoint)) {
        (Host::Net(net), Some(address)) => net.contains(&address),
        (Host::Name(name), None) => {
            DnsName::parse(&target.endpoint).is_ok_and(|target| name.matches(&target))
        }
        (Host::Net(_), None) | (Host::Name(_), Some(_)) => false,
    };
    let port = target
        .transport
        .of_flow()
        .is_none_or(|transport| pattern.covers(target.port, transport));
    host && port
}

fn is_process(wanted: &str, have: &str) -> bool {
    have == wanted || have.rsplit(['/', '\\']).next() == Some(wanted)
}

#[cfg(test)]
mod tests;
