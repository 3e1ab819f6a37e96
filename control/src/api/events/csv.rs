//! Events as lines of comma-separated values (RFC 4180), for spreadsheets.
//!
//! Owns the columns and the quoting. What jobs called things must not be run by who opens the file: a cell that a
//! spreadsheet would take for a formula begins with an apostrophe.

use tidegate_control_wire::event::EventRecord;

/// The first line.
pub(super) const HEAD: &str = "time,id,verdict,mode,reason,kind,name,address,port,owner,repo,workflow,job,run_id,job_id,\
     policy,policy_version,scope,rule,gateway,network,source,count,bytes_up,bytes_down,duration_ms\r\n";

/// Adds the line of an event.
pub(super) fn push(lines: &mut Vec<u8>, event: &EventRecord) {
    let some = |text: Option<&compact_str::CompactString>| text.map(ToString::to_string);
    let of_job = |text: fn(&tidegate_control_wire::event::EventJob) -> &str| {
        event.job.as_ref().map(|job| text(job).to_owned())
    };
    let cells = [
        Some(format!("{:.3}", event.time)),
        Some(event.id.to_string()),
        Some(event.verdict.as_str().to_owned()),
        Some(event.mode.as_str().to_owned()),
        some(event.reason.as_ref()),
        Some(event.kind.as_str().to_owned()),
        some(event.name.as_ref()),
        event.address.map(|address| address.to_string()),
        Some(event.port.to_string()),
        of_job(|job| &job.owner),
        of_job(|job| &job.repo),
        of_job(|job| &job.workflow),
        of_job(|job| &job.job),
        of_job(|job| &job.run_id),
        of_job(|job| &job.id),
        some(event.policy.as_ref()),
        event.policy_version.map(|version| version.to_string()),
        some(event.scope.as_ref()),
        some(event.rule.as_ref()),
        Some(event.gateway.to_string()),
        Some(event.network.to_string()),
        Some(event.source.to_string()),
        Some(event.count.to_string()),
        Some(event.bytes_up.to_string()),
        Some(event.bytes_down.to_string()),
        Some(event.duration_ms.to_string()),
    ];
    for (place, cell) in cells.into_iter().enumerate() {
        if place > 0 {
            lines.push(b',');
        }
        lines.extend_from_slice(quoted(&cell.unwrap_or_default()).as_bytes());
    }
    lines.extend_from_slice(b"\r\n");
}

/// A cell, as nobody mistakes it.
fn quoted(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let special = text.contains(['"', ',', '\r', '\n', ' ']);
    let before = if formula { "'" } else { "" };
    if formula || special {
        return format!("\"{before}{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_has_the_columns_of_the_head_whatever_is_in_it() {
        let event: EventRecord = serde_json::from_value(json!({
            "schema": 1, "time": "2026-05-01T12:00:00Z", "id": "i1", "gateway": "gw-1", "source": "10.77.1.2",
            "kind": "tls", "mode": "block", "verdict": "refuse", "name": "a,\"b\".test", "rule": "=1+1",
            "reason": "not-allowed", "port": 443,
        }))
        .unwrap();
        let mut lines = HEAD.as_bytes().to_vec();
        push(&mut lines, &event);
        let text = String::from_utf8(lines).unwrap();
        let (head, line) = text.trim_end().split_once("\r\n").unwrap();
        assert_eq!(head.split(',').count(), 26);
        assert_eq!(
            line,
            "2026-05-01T12:00:00.000Z,i1,refuse,block,not-allowed,tls,\"a,\"\"b\"\".test\",,443,,,,,,,,,,\"'=1+1\",gw-1,,\
             10.77.1.2,1,0,0,0"
        );
    }

    #[test]
    fn a_cell_is_no_formula() {
        for text in ["=cmd()", "+1", "-1", "@x", "\tx"] {
            assert!(quoted(text).starts_with("\"'"), "{text:?}");
        }
        assert_eq!(quoted("plain.test"), "plain.test");
    }
}
