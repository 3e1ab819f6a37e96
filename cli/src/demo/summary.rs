//! The job summary in Markdown, from a job's network events: refused first, then what was reached.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// Rows of one table at most; the rest is counted.
const MAX_ROWS: usize = 50;

/// The summary of one job.
pub(super) fn markdown(events: &[Value], job: &str) -> String {
    let mine: Vec<&Value> = events.iter().filter(|event| event["job"]["job"] == job).collect();
    let count = |verdict: &str| -> u64 {
        mine.iter()
            .filter(|event| event["verdict"] == verdict)
            .map(|event| event["count"].as_u64().unwrap_or(1))
            .sum()
    };
    let mut out = String::new();
    let _ = writeln!(
        out,
        "**{} permitted, {} refused, {} would be refused in block mode**\n",
        count("permit"),
        count("refuse"),
        count("would-refuse")
    );
    table(&mut out, &mine, "refuse", "Refused");
    table(&mut out, &mine, "would-refuse", "Would be refused");
    table(&mut out, &mine, "permit", "Permitted");
    out
}

/// A verdict's destinations, most frequent first. Search-suffix noise is left out of the refused ones.
fn table(out: &mut String, events: &[&Value], verdict: &str, title: &str) {
    let mut rows: BTreeMap<[String; 4], (u64, String)> = BTreeMap::new();
    for event in events
        .iter()
        .filter(|event| event["verdict"] == verdict && event["reason"] != "search-suffix")
    {
        let field = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let name = Some(field("name"))
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| field("address"));
        let port = event["port"].as_u64().filter(|_| event["kind"] != "dns");
        let destination = port.map_or_else(|| name.clone(), |port| format!("{name}:{port}"));
        let key = [destination, field("kind"), field("reason"), field("rule")];
        let row = rows.entry(key).or_insert_with(|| (0, field("id")));
        row.0 += event["count"].as_u64().unwrap_or(1);
    }
    if rows.is_empty() {
        return;
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    let _ = writeln!(
        out,
        "### {title}\n\n| destination | kind | times | reason | rule | event |\n|---|---|---|---|---|---|"
    );
    for ([destination, kind, reason, rule], (count, id)) in rows.iter().take(MAX_ROWS) {
        let _ = writeln!(
            out,
            "| `{destination}` | {kind} | {count} | {reason} | {rule} | {id} |"
        );
    }
    if rows.len() > MAX_ROWS {
        let _ = writeln!(out, "\n… and {} more.", rows.len() - MAX_ROWS);
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_come_first_and_repeats_are_counted() {
        let event = |verdict: &str, name: &str| serde_json::json!({"job": {"job": "build"}, "verdict": verdict, "name": name, "kind": "dns", "count": 2, "id": "x"});
        let events = [
            event("permit", "a.test"),
            event("refuse", "b.test"),
            event("refuse", "b.test"),
        ];
        let text = markdown(&events, "build");
        assert!(text.starts_with("**2 permitted, 4 refused, 0 would"), "{text}");
        assert!(
            text.find("`b.test` | dns | 4").expect("refused") < text.find("`a.test`").expect("permitted"),
            "{text}"
        );
        assert!(markdown(&events, "other").starts_with("**0 permitted"));
    }

    /// DNS row "refusals caused by search suffixes".
    #[test]
    fn search_suffixes_are_not_in_refused_first() {
        let event = |reason: &str, name: &str| serde_json::json!({"job": {"job": "build"}, "verdict": "refuse", "reason": reason, "name": name, "kind": "dns", "count": 1, "id": "x"});
        let events = [
            event("search-suffix", "a.test.corp.test"),
            event("not-allowed", "b.test"),
        ];
        let text = markdown(&events, "build");
        assert!(text.contains("`b.test`") && !text.contains("corp.test"), "{text}");
    }
}
