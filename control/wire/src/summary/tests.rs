//! The summary's promises, by events as gateways write them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;
use tidegate_policy::DnsName;
use tidegate_policy::event::{EventIds, EventSubject, NetworkEvent};
use tidegate_policy::job::Scope;
use tidegate_policy::verdict::Reason;

use super::*;
use crate::batch::ProcessReport;
use crate::event::{EventRecord, Process};

fn record(name: &str, kind: &str, verdict: &str, more: &serde_json::Value) -> EventRecord {
    let mut json = json!({
        "schema": 1, "time": "2026-01-02T03:04:05.678Z", "id": "abcd1234", "gateway": "gw-1", "source": "10.77.1.2",
        "kind": kind, "name": name, "port": 443, "mode": "block", "verdict": verdict,
        "policy": "ci", "policy_version": 3, "scope": "repo:acme/web",
    });
    if verdict != "permit" {
        json["reason"] = "not-allowed".into();
    }
    for (key, value) in more.as_object().unwrap() {
        json[key] = value.clone();
    }
    EventRecord::read(&serde_json::to_vec(&json).unwrap(), "gw-1").unwrap()
}

fn tally(events: &[EventRecord]) -> Tally {
    let mut tally = Tally::default();
    for event in events {
        tally.add(&Seen::from(event));
    }
    tally
}

fn summary(events: &[EventRecord]) -> JobSummary {
    tally(events).summary(About::default())
}

fn names(list: &[Destination]) -> Vec<&str> {
    list.iter().map(|one| one.endpoint.as_str()).collect()
}

#[test]
fn refusals_come_first_with_reason_rule_nearest_and_ids_and_the_line_that_allows_them() {
    let summary = summary(&[
        record(
            "good.test",
            "tls",
            "permit",
            &json!({"rule": "good.test:443", "rule_source": "policy", "bytes_up": 10}),
        ),
        record(
            "evil.test",
            "dns",
            "refuse",
            &json!({"id": "first000", "port": 53, "nearest": "evil.example:443"}),
        ),
        record(
            "evil.test",
            "dns",
            "refuse",
            &json!({"id": "second00", "port": 53, "time": "2026-01-02T03:04:06Z"}),
        ),
        record(
            "gist.test",
            "tls",
            "refuse",
            &json!({"reason": "denied", "rule": "gist.test", "rule_source": "policy",
            "time": "2026-01-02T03:04:07Z"}),
        ),
    ]);
    assert_eq!(names(&summary.refused), ["evil.test", "gist.test"]);
    let evil = &summary.refused[0];
    assert_eq!(
        (evil.count, evil.port, evil.allow.as_deref()),
        (2, 0, Some("evil.test:443"))
    );
    assert_eq!(evil.ids, ["first000", "second00"]);
    assert_eq!(evil.meaning.as_deref(), Some(Reason::NotAllowed.meaning().trim()));
    assert_eq!(
        summary.refused[1].allow, None,
        "a line would not help against a denial"
    );
    assert_eq!((summary.counts.refuse, summary.counts.permit), (3, 1));
    let page = summary.markdown();
    let at = |text: &str| {
        page.find(text)
            .unwrap_or_else(|| panic!("{text} is missing in\n{page}"))
    };
    assert!(at("⛔ Tidegate refused 2 destinations") < at("first000"));
    assert!(at("first000") < at("gist.test") && at("gist.test") < at("  evil.test:443\n"));
    assert!(at("  evil.test:443\n") < at("good.test"), "permits come last");
    assert!(at("evil.example&#58;443") > 0 && at("Policy <code>ci</code> version 3 (block)") > 0);
}

#[test]
fn search_suffix_refusals_are_counted_apart_and_never_listed() {
    let noise = json!({"reason": "search-suffix"});
    let summary = summary(&[
        record("good.test.corp.test", "dns", "refuse", &noise),
        record("good.test.corp.test", "dns", "would-refuse", &noise),
    ]);
    assert_eq!((summary.counts.search_suffix, summary.counts.refuse), (2, 0));
    assert!(summary.refused.is_empty() && summary.would_refuse.is_empty());
    assert!(!summary.markdown().contains("⛔"));
}

#[test]
fn a_live_event_and_its_record_are_tallied_the_same() {
    let mut event = NetworkEvent::new(EventIds::new(1).mint(), Kind::Tls, "10.77.1.2".parse().unwrap());
    event.name = Some(DnsName::from_labels([b"a\x1b[2J<b>".as_slice(), b"test"]).unwrap());
    event.port = 8443;
    event.reason = Some(Reason::NotAllowed);
    event.subject = Arc::new(EventSubject {
        policy: Some("ci".into()),
        policy_version: Some(3),
        scope: Some(Scope::Repository("acme/web".into())),
        ..EventSubject::default()
    });
    event.bytes_up = 7;
    let json = serde_json::to_vec(&event.told_by("gw-1")).unwrap();
    let read = EventRecord::read(&json, "gw-1").unwrap();
    let mut live = Tally::default();
    live.add(&Seen::from(&event));
    let (live, stored) = (live.summary(About::default()), summary(&[read]));
    assert_eq!(live, stored);
    assert_eq!(
        serde_json::from_value::<JobSummary>(serde_json::to_value(&live).unwrap()).unwrap(),
        live
    );
}

#[test]
fn a_count_of_zero_adds_bytes_and_neither_a_verdict_nor_an_id() {
    let summary = summary(&[
        record("good.test", "tls", "permit", &json!({"bytes_down": 5})),
        record(
            "good.test",
            "tls",
            "permit",
            &json!({"bytes_down": 6, "count": 0, "id": "later000"}),
        ),
    ]);
    let good = &summary.permitted[0];
    assert_eq!((good.count, good.bytes_down, good.ids.len()), (1, 11, 1));
    assert_eq!((summary.counts.permit, summary.counts.bytes_down), (1, 11));
}

#[test]
fn a_policy_that_changed_is_told_with_the_one_before() {
    let newer = json!({"policy_version": 4, "mode": "audit"});
    let summary = summary(&[
        record("a.test", "tls", "permit", &json!({})),
        record("a.test", "tls", "permit", &newer),
        record("a.test", "tls", "permit", &newer),
    ]);
    let versions: Vec<_> = summary.policies.iter().map(|p| (p.version, p.mode)).collect();
    assert_eq!(versions, [(3, Mode::Block), (4, Mode::Audit)]);
}

#[test]
fn at_the_bound_destinations_are_counted_and_not_listed_and_a_flood_of_one_kind_leaves_room_for_the_other() {
    let mut events: Vec<_> = (0..MAX_DESTINATIONS + 7)
        .map(|n| record(&format!("n{n}.test"), "dns", "refuse", &json!({})))
        .collect();
    events.push(record("good.test", "tls", "permit", &json!({})));
    let summary = summary(&events);
    assert_eq!(summary.refused.len(), MAX_DESTINATIONS);
    assert_eq!((summary.unlisted.refused, summary.unlisted.permitted), (7, 0));
    assert_eq!(summary.counts.refuse, (MAX_DESTINATIONS + 7) as u64);
    assert_eq!(names(&summary.permitted), ["good.test"]);
    let page = summary.markdown();
    assert!(page.contains("… and 7 more times"), "{page}");
}

#[test]
fn long_hostile_names_keep_the_tally_and_the_page_within_their_bounds() {
    let hostile = |n: usize| format!("{n:04}{}", "<script>|`*_[x](y)@team ".repeat(40));
    let events: Vec<_> = (0..MAX_DESTINATIONS)
        .flat_map(|n| {
            ["refuse", "would-refuse", "permit"].map(|verdict| {
                record(
                    &hostile(n),
                    "tls",
                    verdict,
                    &json!({"rule": hostile(n), "nearest": hostile(n)}),
                )
            })
        })
        .collect();
    let tally = tally(&events);
    assert!(
        tally.size() < MAX_TEXT + 3 * MAX_DESTINATIONS * 512 + (8 << 10),
        "{}",
        tally.size()
    );
    let summary = tally.summary(About::default());
    assert!(
        summary.unlisted.permitted > 0,
        "text was bounded before the number was"
    );
    let page = summary.markdown();
    assert!(page.len() <= MAX_MARKDOWN, "{}", page.len());
    assert!(
        page.contains("… and ") && page.contains("</details>"),
        "what is left out is said"
    );
    assert!(!page.contains("<script") && !page.contains("@team"));
}

#[test]
fn a_lookup_is_left_out_where_a_flow_to_the_name_tells_the_same() {
    let summary = summary(&[
        record("a.test", "dns", "would-refuse", &json!({"port": 53})),
        record("a.test", "tls", "would-refuse", &json!({})),
        record("b.test", "dns", "refuse", &json!({"reason": "dns-budget"})),
        record("b.test", "tls", "refuse", &json!({})),
    ]);
    assert_eq!(summary.would_refuse.len(), 2, "the data has both");
    assert!(!summary.markdown().contains("<code>a.test</code> lookup"));
    assert_eq!(
        summary.refusals().count(),
        2,
        "another reason is another thing to tell"
    );
}

#[test]
fn lines_that_allow_are_such_as_a_policy_accepts() {
    for (endpoint, port, kind, line) in [
        ("evil.test", 0, Kind::Dns, Some("evil.test:443")),
        ("_mongodb._tcp.db.test", 0, Kind::Dns, Some("db.test:443")),
        ("db.test", 5432, Kind::Tcp, Some("db.test:5432")),
        ("ntp.test", 123, Kind::Udp, Some("ntp.test:123/udp")),
        ("2001:db8::1", 8443, Kind::Tls, Some("[2001:db8::1]:8443")),
        ("", 0, Kind::Ip, None),
        ("169.254.169.254", 80, Kind::Http, None),
        ("a\\032b.test", 443, Kind::Tls, None),
        ("x`\n.test", 443, Kind::Tls, None),
    ] {
        let advised = advice::allow_line(Reason::NotAllowed, endpoint, port, kind);
        assert_eq!(advised.as_deref(), line, "{endpoint}");
    }
    assert_eq!(
        advice::allow_line(Reason::GlobalBlock, "a.test", 443, Kind::Tls),
        None
    );
}

#[test]
fn an_agents_report_names_the_process_behind_a_destination() {
    let mut tally = tally(&[record("evil.test", "tls", "refuse", &json!({}))]);
    let mut report = ProcessReport {
        time: "2026-01-02T03:04:05Z".parse().unwrap(),
        job_id: "job_1".into(),
        name: "Evil.test.".into(),
        address: None,
        port: 443,
        process: Process {
            name: "curl\u{1b}[2J".into(),
            ..Process::default()
        },
    };
    tally.add_report(&report);
    tally.add_report(&report);
    report.port = 80;
    report.process.name = "wget".into();
    tally.add_report(&report);
    let summary = tally.summary(About::default());
    assert_eq!(summary.refused[0].processes, ["curl\\u{1b}[2J"]);
    assert!(
        summary
            .markdown()
            .contains(" by <code>curl&#92;u&#123;1b&#125;&#91;2J</code>")
    );
}

#[test]
fn a_partial_summary_says_so_and_a_link_that_is_none_is_left_out() {
    let about = |link: &str| About {
        since: Some("2026-01-02T03:04:05.6Z".parse().unwrap()),
        dropped: 4,
        link: Some(link.to_owned()),
        ..About::default()
    };
    let page = Tally::default()
        .summary(about("https://control.test/jobs/1"))
        .markdown();
    assert!(
        page.contains("since 2026-01-02T03:04:05Z is counted") && page.contains("4 events were dropped"),
        "{page}"
    );
    assert!(page.contains("(https://control.test/jobs/1)"));
    for wrong in [
        "javascript:alert(1)",
        "https://x.test/)[a](b",
        "https://x.test/\n# y",
    ] {
        assert!(
            !Tally::default()
                .summary(about(wrong))
                .markdown()
                .contains("All events"),
            "{wrong}"
        );
    }
}

#[test]
fn one_line_tells_a_refusal_and_stays_one_line() {
    let summary = summary(&[record(
        "evil.test\n::error::x",
        "tls",
        "refuse",
        &json!({"nearest": "good.test:443"}),
    )]);
    let line = summary.refused[0].told();
    assert!(
        line.starts_with("evil.test\\u{a}::error::x:443: refuse (not-allowed). No allowed endpoint"),
        "{line}"
    );
    assert!(
        line.contains("Nearest allowed: good.test:443. ") && line.ends_with("Event abcd1234"),
        "{line}"
    );
}

proptest! {
    #[test]
    fn no_text_of_a_stranger_reaches_the_page_raw(name in any::<String>(), rule in any::<String>()) {
        let event = record(&name, "tls", "refuse", &json!({"rule": rule, "policy": rule, "note": name}));
        let page = summary(&[event]).markdown();
        prop_assert!(!page.contains(|c: char| c != '\n' && crate::text::is_unprintable(c)));
        let html = page.replace("<code>", "").replace("</code>", "");
        prop_assert!(!html.contains('<'), "{}", html);
        // Every row of the table has its five cells.
        let row = page.lines().find(|line| line.contains("**not&#45;allowed**") || line.contains("**not-allowed**"));
        prop_assert_eq!(row.unwrap().matches('|').count(), 6);
    }
}

#[test]
fn long_names_of_processes_keep_the_tally_within_its_bound() {
    let events: Vec<EventRecord> = (0..MAX_DESTINATIONS)
        .map(|n| record(&format!("n{n}.test"), "tls", "refuse", &json!({})))
        .collect();
    let mut tally = tally(&events);
    let before = tally.size();
    for n in 0..MAX_DESTINATIONS {
        for process in ["a", "b", "c"] {
            tally.add_report(&ProcessReport {
                time: "2026-01-02T03:04:05Z".parse().unwrap(),
                job_id: "job_1".into(),
                name: format!("n{n}.test").into(),
                address: None,
                port: 0,
                process: Process {
                    name: process.repeat(300).into(),
                    ..Process::default()
                },
            });
        }
    }
    let summary = tally.summary(About::default());
    let named = summary.refused.iter().flat_map(|one| &one.processes);
    let bytes: usize = named.map(CompactString::len).sum();
    assert_eq!(tally.size() - before, bytes);
    assert!((MAX_TEXT / 2..MAX_TEXT + 300).contains(&bytes), "{bytes}");
}
