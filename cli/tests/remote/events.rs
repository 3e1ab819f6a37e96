//! `tidegate events`, `tidegate job events` and `job summary`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_control::store::Item;
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::batch::{BatchHead, Lane};
use tidegate_control_wire::event::EventRecord;

use crate::fake::Fake;
use crate::plane::{Plane, Ran, tidegate};

/// Longest wait for a line or an end.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn event(id: &str, seconds_ago: i64, more: &Value) -> Value {
    let time = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds_ago);
    let mut event = json!({
        "schema": 1, "time": time.to_string(), "id": id, "gateway": "gw-1", "source": "10.77.1.2",
        "kind": "tls", "name": "forge.test", "port": 443, "mode": "block", "verdict": "permit", "rule": "forge.test:443",
        "job": {"id": "job_1", "owner": "acme", "repo": "acme/web", "workflow": "ci.yml", "job": "build",
            "run_id": "7", "assurance": "signed"},
    });
    for (key, value) in more.as_object().unwrap() {
        event[key] = value.clone();
    }
    event
}

/// Stores events as a gateway's spool would send them.
pub(crate) fn store(plane: &Plane, events: &[Value]) {
    static SPOOLS: AtomicU64 = AtomicU64::new(1);
    let head = BatchHead {
        protocol: PROTOCOL,
        spool: format!("s{}", SPOOLS.fetch_add(1, Ordering::SeqCst)).into(),
        lane: Lane::Permits,
        dropped: 0,
    };
    let read = |event: &Value| EventRecord::read(&serde_json::to_vec(event).unwrap(), "gw-1").unwrap();
    let entries = events
        .iter()
        .map(read)
        .zip(1..)
        .map(|(event, seq)| (seq, Item::from(event)));
    plane
        .wait(plane.store.ingest("gw-1", head, entries.collect()))
        .unwrap();
}

fn filled() -> Plane {
    let plane = Plane::new();
    let refused =
        json!({"verdict": "refuse", "reason": "not-allowed", "name": "\u{1b}[2Jevil.test", "rule": null});
    store(
        &plane,
        &[
            event("first000", 7_200, &json!({})),
            event("second00", 60, &refused),
            event(
                "third000",
                5,
                &json!({"kind": "dns", "qtype": "A", "port": 53, "count": 4}),
            ),
        ],
    );
    plane
}

fn ids(text: &str) -> Vec<&str> {
    let known = ["first000", "second00", "third000"];
    text.lines()
        .filter_map(|line| known.into_iter().find(|id| line.contains(id)))
        .collect()
}

#[test]
fn the_newest_are_shown_with_the_oldest_of_them_first() {
    let plane = filled();
    let out = plane.ok(&["events"]);
    assert_eq!(ids(&out), ["first000", "second00", "third000"], "{out}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines[0].starts_with("TIME") && lines[0].contains("VERDICT"),
        "{out}"
    );
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(words[2..5], ["permit", "tls", "forge.test:443"], "{out}");
    assert!(
        lines[1].contains("acme/web build") && lines[1].ends_with("forge.test:443"),
        "{out}"
    );
    assert!(
        lines[2].contains("\\u{1b}[2Jevil.test:443") && lines[2].contains("not-allowed"),
        "{out}"
    );
    assert!(lines[3].contains("forge.test A ×4"), "{out}");
    assert!(!out.contains('\u{1b}'), "{out:?}");
    for (args, wanted) in [
        (&["--limit", "2"][..], &["second00", "third000"][..]),
        (&["--since", "1h"], &["second00", "third000"]),
        (&["--until", "1h"], &["first000"]),
        (&["--verdict", "refuse,would-refuse"], &["second00"]),
        (
            &[
                "--kind", "dns", "--org", "ACME", "--repo", "acme/web", "--run", "7",
            ],
            &["third000"],
        ),
        (
            &[
                "--id",
                "first000",
                "--gateway",
                "gw-1",
                "--job",
                "job_1",
                "--job-name",
                "build",
            ],
            &["first000"],
        ),
        (
            &["--name", "*.test", "--workflow", "ci.yml", "--all"],
            &["first000", "second00", "third000"],
        ),
    ] {
        let out = plane.ok(&[&["events"], args].concat());
        assert_eq!(ids(&out), wanted, "{args:?}: {out}");
    }
    assert_eq!(plane.ok(&["events", "--name", "nothing.test"]), "no such event\n");
    assert_eq!(
        plane.ok(&["events", "--name", "nothing.test", "--all"]),
        "no such event\n"
    );
    let out = plane.ok(&["job", "events", "job_1", "--reason", "not-allowed"]);
    assert_eq!(ids(&out), ["second00"], "{out}");
}

#[test]
fn with_json_each_event_is_a_line() {
    let plane = filled();
    for args in [
        &["events", "--json"][..],
        &["events", "--json", "--all"],
        &["job", "events", "job_1", "--json"],
    ] {
        let out = plane.ok(args);
        let events: Vec<Value> = out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let told: Vec<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!(told, ["first000", "second00", "third000"], "{args:?}");
        assert_eq!(events[0]["job"]["repo"], "acme/web");
    }
    assert_eq!(plane.ok(&["events", "--json", "--job", "nobody"]), "");
}

#[test]
fn a_job_is_summed_up() {
    let plane = filled();
    let out = plane.ok(&["job", "summary", "job_1"]);
    assert!(out.contains("evil") && out.contains("second00"), "{out}");
    assert!(!out.contains('\u{1b}'), "{out:?}");
    assert!(
        plane.json(&["job", "summary", "job_1"])["markdown"]
            .as_str()
            .unwrap()
            .contains("evil")
    );
    assert!(plane.fails(&["job", "summary", "nobody"]).contains("(HTTP 404)"));
}

#[test]
fn a_question_that_makes_no_sense_is_wrong_usage_or_refused() {
    let plane = filled();
    for args in [
        &["--since", "yesterday"][..],
        &["--verdict", "maybe"],
        &["--follow", "--until", "1h"],
        &["--all", "--limit", "3"],
        &["--limit", "0"],
    ] {
        let ran = plane.run(&[&["events"], args].concat());
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
    }
    assert!(plane.fails(&["events", "--kind", "smtp"]).contains("kind"));
    assert!(
        plane
            .fails(&["events", "--reason", "because"])
            .contains("because")
    );
    assert!(
        plane
            .fails(&["events", "--repo", "web", "--follow"])
            .contains("owner/name")
    );
}

/// A run that goes on, and its lines.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(plane: &Plane, args: &[&str]) -> Self {
        let mut child = plane
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (told, lines) = sync_channel(1_000);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line with this in it.
    fn wait(&self, what: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(what) => return line,
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("waited for {what:?}; seen: {seen:#?}")
                }
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn events_are_followed_as_they_are_stored() {
    let plane = filled();
    let table = Running::start(&plane, &["events", "--follow", "--since", "1h"]);
    table.wait("second00");
    table.wait("third000");
    let lines = Running::start(
        &plane,
        &["events", "-f", "--limit", "1", "--json", "--verdict", "refuse"],
    );
    lines.wait("second00");
    store(
        &plane,
        &[
            event("fourth00", 0, &json!({"name": "\u{9b}31m.test"})),
            event("fifth000", 0, &json!({"verdict": "refuse", "reason": "denied"})),
        ],
    );
    let line = table.wait("fourth00");
    assert!(line.contains("\\u{9b}31m.test:443"), "{line:?}");
    assert!(table.wait("fifth000").contains("denied"));
    let next: Value = serde_json::from_str(&lines.lines.recv_timeout(PATIENCE).unwrap()).unwrap();
    assert_eq!(next["id"], "fifth000", "nothing twice, and no permit");
}

#[test]
fn who_reads_no_more_ends_the_following() {
    let plane = filled();
    let mut command = plane.command(&["events", "--follow", "--since", "3h"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert!(first.starts_with("TIME"), "{first}");
    let end = Duration::from_millis(50);
    for round in 0_i64.. {
        // What is written to nobody ends it, as soon as there is something to write.
        store(&plane, &[event("noise000", 0, &json!({}))]);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return;
        }
        assert!(round < 400, "it goes on");
        std::thread::sleep(end);
    }
}

/// A block of a stream.
fn block(number: u64, event: &Value) -> String {
    format!("id: {number}\nevent: network-event\ndata: {event}\n\n")
}

#[test]
fn a_stream_that_breaks_off_is_taken_up_behind_the_last_event() {
    let one = event("one00000", 0, &json!({"name": "a\u{1b}]0;title\u{7}.test"}));
    let two = event("two00000", 0, &json!({"name": "\u{202e}b.test"}));
    let half = "id: 6\nevent: network-event\ndata: {\"half\":".to_owned();
    let busy = json!({"detail": "too much at once"}).to_string();
    let gone = json!({"detail": "the token is not known"}).to_string();
    let answers = || {
        vec![
            (
                "200 OK",
                "",
                format!("retry: 1\nid: 4\n\n: alive\n{}{half}", block(5, &one)),
            ),
            ("503 Service Unavailable", "retry-after: 1\r\n", busy.clone()),
            ("200 OK", "", format!("{}: alive\nid: 9\n\n", block(7, &two))),
            ("401 Unauthorized", "", gone.clone()),
        ]
    };
    for json in [false, true] {
        let fake = Fake::new(answers());
        let ran = fake.run(if json {
            &["events", "-f", "--json"]
        } else {
            &["events", "--follow"]
        });
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert_eq!(ran.out.matches("one00000").count(), 1, "{}", ran.out);
        assert_eq!(ran.out.matches("two00000").count(), 1, "{}", ran.out);
        assert!(!ran.out.contains("half"), "{}", ran.out);
        assert!(
            ran.out
                .chars()
                .all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'),
            "{:?}",
            ran.out
        );
        assert_eq!(
            ran.err.matches("reconnecting").count(),
            2,
            "once for each time: {}",
            ran.err
        );
        assert_eq!(ran.err.matches("connected again").count(), 1, "{}", ran.err);
        assert!(ran.err.contains("the token is not known"), "{}", ran.err);
        let asked = fake.asked.lock().unwrap();
        let last = |nth: usize| {
            let line = asked[nth]
                .lines()
                .find_map(|line| line.strip_prefix("last-event-id: "));
            line.map(str::to_owned)
        };
        assert_eq!(
            (last(0), last(1), last(2), last(3)),
            (None, Some("5".into()), Some("5".into()), Some("9".into()))
        );
    }
}

#[test]
fn a_server_that_lies_moves_no_cursor_and_takes_no_memory() {
    let raw = event(
        "one00000",
        0,
        &json!({"reason": "\u{1b}[31m", "job": null, "kind": "\u{1b}new"}),
    );
    let list = json!({"items": [raw], "next": null, "losses": [
        {"day": "\u{1b}[2J", "gateway": "\u{1b}[2J", "lane": "\u{9b}", "dropped": 5}]});
    for more in [&[][..], &["--json"]] {
        let ran = Fake::new(vec![("200 OK", "", list.to_string())]).run(&[&["events"], more].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        let told = format!("{}{}", ran.out, ran.err);
        assert!(told.contains("one00000") && told.contains("dropped 5"), "{told}");
        assert!(told.chars().all(|c| c == '\n' || !c.is_control()), "{told:?}");
    }
    let long = format!("data: {}", "x".repeat(3 << 20));
    let answers = vec![("200 OK", "", long.clone()), ("404 Not Found", "", String::new())];
    let ran = Fake::new(answers).run(&["events", "--follow"]);
    assert!(ran.err.contains("longer than any event"), "{}", ran.err);
    let ran = Fake::new(vec![("200 OK", "", long)]).run(&["events", "--all"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("longer than any event"), "{}", ran.err);
    let ran = Fake::new(vec![("200 OK", "", "\u{1b}[2Jsum\u{9b}".into())]).run(&["job", "summary", "job_1"]);
    assert!(
        ran.out.contains("[2Jsum") && !ran.out.contains(['\u{1b}', '\u{9b}']),
        "{:?}",
        ran.out
    );
}

#[test]
fn a_control_plane_that_goes_between_the_page_and_the_stream_is_waited_for() {
    let one = event("one00000", 0, &json!({}));
    let two = event("two00000", 0, &json!({}));
    let fake = Fake::new(vec![
        ("200 OK", "tidegate-position: 4\r\n", format!("{one}\n")),
        ("503 Service Unavailable", "", String::new()),
        ("200 OK", "", block(5, &two)),
        ("401 Unauthorized", "", String::new()),
    ]);
    let ran = fake.run(&["events", "--follow", "--since", "1h"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.out.contains("one00000") && ran.out.contains("two00000"),
        "{}{}",
        ran.out,
        ran.err
    );
    let asked = fake.asked.lock().unwrap();
    assert!(asked[2].contains("last-event-id: 4"), "{}", asked[2]);
}

#[test]
fn nobody_there_is_said_at_once_when_following_begins() {
    let mut command = tidegate(&["events", "--follow"]);
    command
        .env("TIDEGATE_SERVER", "http://127.0.0.1:1")
        .env("TIDEGATE_TOKEN", "tga_fake");
    let ran = Ran::of(command.output().unwrap());
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("can't reach"), "{}", ran.err);
}
