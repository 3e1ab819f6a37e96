//! Which events are wanted.
//!
//! Owns what each word of a question means and how it is compared; which index finds the events is [`super::query`]'s.

use std::net::IpAddr;

use jiff::Timestamp;
use tidegate_policy::DnsName;
use tidegate_policy::event::Kind;
use tidegate_policy::verdict::Verdict;

use crate::store::sql::Sql;
use crate::store::{StoreError, read};

/// Longest text of a filter, in bytes.
const MAX_TEXT: usize = 1_024;

/// Which events are wanted; what is absent limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of jobs of one of these owners; empty limits nothing. An event without a job is nobody's.
    pub owners: Vec<String>,
    /// Of an owner's jobs.
    pub owner: Option<String>,
    /// Of jobs of a repository, `owner/name`.
    pub repo: Option<String>,
    /// Of a workflow file.
    pub workflow: Option<String>,
    /// Of one job, by the id of its lease.
    pub job: Option<String>,
    /// Of jobs with this id within their workflow.
    pub job_name: Option<String>,
    /// Of a run.
    pub run: Option<String>,
    /// With one of these verdicts; empty limits nothing.
    pub verdicts: Vec<Verdict>,
    /// About a name or an address.
    pub name: Option<NamePattern>,
    /// Of a kind of traffic.
    pub kind: Option<Kind>,
    /// For a reason, as events spell it.
    pub reason: Option<String>,
    /// Of a gateway.
    pub gateway: Option<String>,
    /// Of a network.
    pub network: Option<String>,
    /// Of a source, by its address.
    pub source: Option<IpAddr>,
    /// Judged by a policy of this name.
    pub policy: Option<String>,
    /// Judged by a policy that came from this scope.
    pub scope: Option<String>,
    /// Of sources that held no lease; `Some(false)`: of jobs.
    pub unidentified: Option<bool>,
    /// With this short id.
    pub id: Option<String>,
    /// At this time or later.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// With a number up to this one: what was stored at some moment, while others go on storing.
    pub upto: Option<u64>,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// This name or address.
    Exact(String),
    /// Any name below this one, which itself is not meant.
    Below(String),
}

impl NamePattern {
    /// From `name`, `address` or `*.suffix`: in any case, with or without a final dot.
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix("*.") {
            Some(suffix) => Self::Below(canonical(suffix)),
            None => Self::Exact(
                text.parse::<IpAddr>()
                    .map_or_else(|_| canonical(text), |address| address.to_canonical().to_string()),
            ),
        }
    }
}

/// As events write it; what no host is called is looked for as it is.
fn canonical(text: &str) -> String {
    DnsName::parse(text).map_or_else(|_| text.to_lowercase(), |name| name.to_string())
}

/// One comparison with a row.
#[derive(Debug)]
pub(super) enum Condition {
    /// A column of what it has in common with others ([`crate::store::subjects`]), and its values.
    Of(&'static str, Vec<String>),
    /// The JSON of that has this in it.
    HeadHas(String),
    /// The endpoint is this.
    Endpoint(String),
    /// The endpoint lies below this name.
    Below(String),
    /// The event's own JSON has one of these in it.
    Has(Vec<String>),
    /// It is a job's.
    OfJob,
}

impl EventFilter {
    /// Everything but times, the job and the repository, which have an index.
    pub(super) fn conditions(&self) -> Vec<Condition> {
        let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_lowercase());
        let mut all = Vec::new();
        if !self.owners.is_empty() {
            let owners = self.owners.iter().map(|owner| owner.to_lowercase()).collect();
            all.push(Condition::Of("owner", owners));
        }
        for (column, value) in [
            ("owner", lower(&self.owner)),
            ("workflow", self.workflow.clone()),
            ("run_id", self.run.clone()),
            ("gateway", self.gateway.clone()),
        ] {
            all.extend(value.map(|value| Condition::Of(column, vec![value])));
        }
        all.extend(self.name.as_ref().map(|name| match name {
            NamePattern::Exact(name) => Condition::Endpoint(name.clone()),
            NamePattern::Below(name) => Condition::Below(name.clone()),
        }));
        // No columns of their own. A quoted name followed by a colon is a key, never within a text, whose quotes are
        // escaped; and of these keys each is there once, with a text.
        let said = |key: &str, value: &str| format!("\"{key}\":{}", serde_json::json!(value));
        for (key, value) in [
            ("id", lower(&self.id)),
            ("kind", self.kind.map(|kind| kind.as_str().to_owned())),
            ("reason", self.reason.clone()),
        ] {
            all.extend(value.map(|value| Condition::Has(vec![said(key, &value)])));
        }
        let source = self.source.map(|source| source.to_string());
        for (key, value) in [
            ("job", self.job_name.as_ref()),
            ("network", self.network.as_ref()),
            ("source", source.as_ref()),
            ("policy", self.policy.as_ref()),
            ("scope", self.scope.as_ref()),
        ] {
            all.extend(value.map(|value| Condition::HeadHas(said(key, value))));
        }
        all.extend((self.unidentified == Some(false)).then_some(Condition::OfJob));
        all
    }

    /// The comparison with the verdicts.
    pub(super) fn verdict(&self) -> Option<Condition> {
        let said = |one: &Verdict| format!("\"verdict\":\"{}\"", one.as_str());
        let verdicts: Vec<_> = self.verdicts.iter().map(said).collect();
        (!verdicts.is_empty()).then_some(Condition::Has(verdicts))
    }

    /// Permits are not wanted.
    pub(super) fn is_of_refusals(&self) -> bool {
        !self.verdicts.is_empty() && !self.verdicts.contains(&Verdict::Permit)
    }

    /// All that are none are.
    pub(super) fn is_of_all_refusals(&self) -> bool {
        self.is_of_refusals()
            && [Verdict::Refuse, Verdict::WouldRefuse]
                .iter()
                .all(|one| self.verdicts.contains(one))
    }

    /// The job's id (none is a job's, too) and the repository, as they are stored.
    pub(super) fn indexed(&self) -> (Option<String>, Option<String>) {
        let nobody = (self.unidentified == Some(true)).then(String::new);
        (
            self.job.clone().or(nobody),
            self.repo.as_ref().map(|repo| repo.to_lowercase()),
        )
    }

    /// Refuses what no database compares.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let name = self.name.as_ref().map(|name| match name {
            NamePattern::Exact(text) | NamePattern::Below(text) => text,
        });
        let texts = [
            ("org", self.owner.as_ref()),
            ("repo", self.repo.as_ref()),
            ("workflow", self.workflow.as_ref()),
            ("job", self.job.as_ref()),
            ("job_name", self.job_name.as_ref()),
            ("run", self.run.as_ref()),
            ("name", name),
            ("reason", self.reason.as_ref()),
            ("gateway", self.gateway.as_ref()),
            ("network", self.network.as_ref()),
            ("policy", self.policy.as_ref()),
            ("scope", self.scope.as_ref()),
            ("id", self.id.as_ref()),
        ];
        for (field, text) in texts {
            let Some(text) = text else { continue };
            if text.len() > MAX_TEXT {
                return Err(StoreError::invalid(field, format!("at most {MAX_TEXT} bytes")));
            }
            read::storable(text).ok_or_else(|| StoreError::invalid(field, "no text has a NUL"))?;
        }
        if self.owners.iter().any(|owner| read::storable(owner).is_none()) {
            return Err(StoreError::invalid("owner", "no text has a NUL"));
        }
        if self.unidentified == Some(true) && self.job.is_some() {
            let reason = "what is of a job is not unidentified";
            return Err(StoreError::invalid("unidentified", reason));
        }
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since > until
        {
            return Err(StoreError::invalid(
                "since",
                format!("{since} is after until, {until}"),
            ));
        }
        Ok(())
    }
}

impl Condition {
    /// `AND …`.
    pub(super) fn push(&self, sql: &mut Sql) {
        const OF: &str = " AND EXISTS (SELECT 1 FROM event_subjects AS s WHERE s.number = subject AND ";
        match self {
            Self::Of(column, values) => {
                sql.push(OF).push("s.").push(column).push(" IN ");
                sql.texts(values.iter().map(String::as_str)).push(")");
            }
            // `LIKE` folds case in one database and not in the other.
            Self::HeadHas(text) => {
                sql.push(OF)
                    .push("replace(s.head, ")
                    .text(text)
                    .push(", '') <> s.head)");
            }
            Self::Endpoint(value) => {
                sql.push(" AND endpoint = ").text(value);
            }
            Self::Below(name) => {
                sql.push(" AND endpoint LIKE ")
                    .text(&ends_with(name))
                    .push(" ESCAPE '!'");
            }
            Self::OfJob => {
                sql.push(" AND job + 0 <> 0");
            }
            Self::Has(texts) => {
                sql.push(" AND (1 = 0");
                for text in texts {
                    sql.push(" OR replace(body, ").text(text).push(", '') <> body");
                }
                sql.push(")");
            }
        }
    }
}

/// A pattern of `LIKE` for what is below a name, nothing in it but the first sign being special.
fn ends_with(name: &str) -> String {
    let mut pattern = "%.".to_owned();
    for c in name.chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_as_events_write_it() {
        let exact = |text: &str| NamePattern::Exact(text.to_owned());
        for (text, wanted) in [
            ("GitHub.com.", exact("github.com")),
            ("192.0.2.1", exact("192.0.2.1")),
            ("2001:DB8:0::1", exact("2001:db8::1")),
            ("::ffff:192.0.2.1", exact("192.0.2.1")),
            ("*.Example.com", NamePattern::Below("example.com".into())),
            ("*", exact("*")),
            ("\\027[31M.test", exact("\\027[31m.test")),
        ] {
            assert_eq!(NamePattern::parse(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_suffix_is_no_pattern() {
        assert_eq!(ends_with("a_b%c!.test"), "%.a!_b!%c!!.test");
    }
}
