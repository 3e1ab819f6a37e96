//! Events of made-up jobs, and lines of them.

use std::sync::Arc;

use hashbrown::HashMap;
use serde_json::Value;
use tidegate_policy::DnsName;
use tidegate_policy::event::{EventIds, JobRecord, Kind, NetworkEvent};
use tidegate_policy::job::{Assurance, JobIdentity};
use tidegate_policy::verdict::{Reason, Verdict};

use crate::events::spool::line::{self, Look, What};

/// A job that is not told apart by anything but its id.
pub(crate) fn job(id: &str) -> Arc<JobRecord> {
    Arc::new(JobRecord {
        id: id.into(),
        identity: JobIdentity {
            owner: "acme".into(),
            repo: "acme/web".into(),
            workflow: "ci.yml".into(),
            job: "build".into(),
            run_id: "1".into(),
            run_attempt: 1,
            runner_name: "".into(),
            cluster: "".into(),
            event: "push".into(),
            git_ref: "".into(),
            actor: "".into(),
            head_repo: "".into(),
            assurance: Assurance::Signed,
        },
    })
}

/// A verdict on `name` for the job called `id`.
pub(crate) fn event(id: &str, name: &str, verdict: Verdict) -> NetworkEvent {
    let mut event = NetworkEvent::new(EventIds::new(1).mint(), Kind::Tls, [10, 77, 1, 2].into());
    event.time = "2026-01-01T00:00:00Z".parse().expect("a time");
    Arc::make_mut(&mut event.subject).job = Some(job(id));
    event.name = Some(DnsName::parse(name).expect("a name"));
    event.port = 443;
    event.verdict = verdict;
    event.reason = (verdict != Verdict::Permit).then_some(Reason::NotAllowed);
    event.bytes_up = 10;
    event.bytes_down = 100;
    event
}

/// The lines of these events, with these numbers.
pub(crate) fn lines(events: &[(u64, NetworkEvent)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (seq, event) in events {
        let json = serde_json::to_vec(&event.told_by("gw-1")).expect("JSON");
        line::write(&mut text, *seq, What::Event, &json);
    }
    text
}

/// Numbers and entries of lines, read by another reader than the spool's own.
pub(crate) fn entries(text: &[u8]) -> Vec<(u64, Value)> {
    let entry = |line: &[u8]| {
        let value: Value = serde_json::from_slice(line).expect("a line is JSON");
        (value["seq"].as_u64().expect("a number"), value)
    };
    text.split_inclusive(|byte| *byte == b'\n').map(entry).collect()
}

/// Verdicts by job.
pub(crate) fn counts(text: &[u8]) -> HashMap<String, u64> {
    assert_eq!(line::lines(text, Look::Close).damaged, 0);
    let mut counts = HashMap::new();
    for (_, entry) in entries(text) {
        let job = entry["event"]["job"]["id"].as_str().expect("a job").to_owned();
        *counts.entry(job).or_default() += entry["event"]["count"].as_u64().expect("a count");
    }
    counts
}
