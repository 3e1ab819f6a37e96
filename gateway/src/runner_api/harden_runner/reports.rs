//! What agents on runners report: which process reached for what.
//!
//! Owns reading the reports, their bounds for each job, and nothing of what becomes of them: the store joins them to the
//! job's network events. Whatever stands in them was written by whoever has the runner: it is bounded, escaped, and
//! believed of nothing but the process's name. Pure but for the sink; `now` is an argument.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use compact_str::CompactString;
use hashbrown::{HashMap, HashSet};
use metrics::{Counter, counter};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tidegate_control_wire::batch::ProcessReport;
use tidegate_control_wire::event::Process;
use tidegate_policy::{DnsName, Moment};

use super::Problem;
use crate::events::EventPipeline;
use crate::jobs::Now;
use crate::runner_api::problem::Code;

/// Different reports of one job that are handed on; the further ones are dropped.
const MAX_DISTINCT: usize = 2_000;
/// Reports of one job at once, and those that follow each second.
const BURST: u32 = 200;
const PER: Duration = Duration::from_millis(20);
/// Jobs that are told apart; another one takes the place of the one that was silent longest.
const MAX_JOBS: usize = 1_024;

/// Who takes reports.
pub(crate) trait ReportSink: Send + Sync {
    /// Takes one; it waits for nothing.
    fn report(&self, report: ProcessReport);
}

impl ReportSink for EventPipeline {
    fn report(&self, report: ProcessReport) {
        Self::report(self, report);
    }
}

/// A report as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Said {
    name: CompactString,
    address: Option<IpAddr>,
    port: u16,
    process: (CompactString, CompactString, CompactString),
}

/// A process as agents write it. Other fields are theirs.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Tool {
    name: Option<String>,
    sha256: Option<String>,
    /// Another one of these, or its name.
    parent: Value,
}

/// Both kinds of reports: foreign programs write them, so what is not known is left alone.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Body {
    domain_name: Option<String>,
    ip_address: Option<String>,
    port: Value,
    tool: Option<Tool>,
}

/// Reads a report of this kind; nothing when it names no process: what is asked and dialled the gateway sees itself.
pub(super) fn read(kind: &str, body: &[u8]) -> Result<Option<Said>, Problem> {
    let wrong = |why: String| {
        let detail = format!("the body is no report as JSON: {why}");
        Problem::new(hyper::StatusCode::BAD_REQUEST, Code::Syntax, detail)
    };
    // Read as a list, its items would be taken for the fields in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(wrong("it is no object".into()));
    }
    let body: Body = serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))?;
    let address = match body.ip_address.as_deref().unwrap_or_default() {
        "" => None,
        text => {
            let address: Result<IpAddr, _> = text.parse();
            Some(
                address
                    .map_err(|_| Problem::invalid("ipAddress", "write an address"))?
                    .to_canonical(),
            )
        }
    };
    let name = match body.domain_name.as_deref().unwrap_or_default() {
        "" | "." => CompactString::default(),
        // A name that is none could be joined to nothing.
        text => DnsName::parse(text)
            .map_err(|error| Problem::invalid("domainName", &error.to_string()))?
            .to_string()
            .into(),
    };
    let port = port(&body.port).ok_or_else(|| Problem::invalid("port", "write it as \"443\""))?;
    if name.is_empty() && address.is_none() {
        return Err(Problem::invalid(
            "domainName",
            "there is neither a name nor an address",
        ));
    }
    let tool = body
        .tool
        .filter(|_| kind == "networkconnection")
        .unwrap_or_default();
    let mut process = Process {
        name: tool.name.unwrap_or_default().into(),
        sha256: tool.sha256.unwrap_or_default().into(),
        parent: parent(&tool.parent).into(),
    };
    process.tidy();
    let named = !process.name.is_empty();
    Ok(named.then_some(Said {
        name,
        address,
        port,
        process: (process.name, process.sha256, process.parent),
    }))
}

/// `"443"`, `"443(https)"`, 443; 0 when nothing is said.
fn port(said: &Value) -> Option<u16> {
    match said {
        Value::Null => Some(0),
        Value::Number(number) => number.as_u64()?.try_into().ok(),
        Value::String(text) if text.is_empty() => Some(0),
        Value::String(text) => {
            let (number, service) = text.split_once('(').unwrap_or((text, ")"));
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            (digits && service.ends_with(')')).then(|| number.parse().ok())?
        }
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn parent(said: &Value) -> &str {
    match said {
        Value::String(name) => name,
        Value::Object(tool) => tool.get("name").and_then(Value::as_str).unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => "",
    }
}

/// Reports on their way, bounded for each job.
pub(super) struct Reports {
    sink: std::sync::Arc<dyn ReportSink>,
    jobs: Mutex<HashMap<CompactString, Known>>,
    hasher: RandomState,
    dropped: Counter,
}

/// What one job's agent has reported.
#[derive(Default)]
struct Known {
    /// Hashes of the reports that were handed on.
    distinct: HashSet<u64>,
    /// When all that came is forgotten.
    forgotten: Moment,
    last: Moment,
}

impl Reports {
    pub(super) fn new(sink: std::sync::Arc<dyn ReportSink>) -> Self {
        Self {
            sink,
            jobs: Mutex::default(),
            hasher: RandomState::new(),
            dropped: counter!("tidegate_agent_reports_dropped_total"),
        }
    }

    /// Hands a report on, unless the same one was before, or too many were. The agent is told nothing of that: it would
    /// only send it again.
    pub(super) fn take(&self, job: &str, said: Said, now: Now) {
        match self.judge(job, &said, now.moment) {
            Fate::HandedOn => {
                let (name, sha256, parent) = said.process;
                self.sink.report(ProcessReport {
                    time: now.wall,
                    job_id: job.into(),
                    name: said.name,
                    address: said.address,
                    port: said.port,
                    process: Process { name, sha256, parent },
                });
            }
            Fate::Known => {}
            Fate::Dropped => self.dropped.increment(1),
        }
    }

    fn judge(&self, job: &str, said: &Said, now: Moment) -> Fate {
        let hash = self.hasher.hash_one(said);
        let mut jobs = self.jobs.lock();
        if jobs.len() >= MAX_JOBS && !jobs.contains_key(job) {
            let silent = jobs.iter().min_by_key(|(_, known)| known.last);
            if let Some(silent) = silent.map(|(job, _)| job.clone()) {
                jobs.remove(&silent);
            }
        }
        let known = jobs.entry(job.into()).or_default();
        known.last = now;
        let forgotten = known.forgotten.max(now);
        if forgotten.since(now) > PER * (BURST - 1) {
            return Fate::Dropped;
        }
        known.forgotten = forgotten.plus(PER);
        if known.distinct.contains(&hash) {
            return Fate::Known;
        }
        if known.distinct.len() >= MAX_DISTINCT {
            return Fate::Dropped;
        }
        known.distinct.insert(hash);
        Fate::HandedOn
    }
}

/// What becomes of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    HandedOn,
    /// The same was handed on before.
    Known,
    Dropped,
}

#[cfg(test)]
mod tests;
