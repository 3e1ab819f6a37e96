//! Events read back: what a job did is found, followed and shown, over restarts and whatever it asked for.

use std::collections::BTreeSet;

use serde_json::Value;
use tidegate_e2e::dns::dig;
use tidegate_e2e::store::{Fleet, OWNER, fetch, start_of, within_a_second};
use tidegate_e2e::{PATIENCE, block, tidegate};
use tidegate_lab::{Command, Lab, Process, plan, wait_until};

/// A fleet whose runner 0 has a job of acme/web, which may reach allowed.test; and that job's id.
async fn fleet(lab: &Lab) -> (Fleet<'_>, String) {
    let fleet = Box::pin(Fleet::start(lab)).await;
    fleet
        .attached("web", &block(&["allowed.test:443"]), "repo:acme/web")
        .await;
    let job = fleet.register(0, "acme/web", "ci.yml").await;
    let id = job["id"].as_str().expect("the job's id").to_owned();
    fleet.reaches(0, "allowed.test").await;
    (fleet, id)
}

fn lab() -> Lab {
    Lab::builder().control().build().unwrap()
}

/// Events that answer a question, the newest first.
async fn found(fleet: &Fleet<'_>, query: &str) -> Vec<Value> {
    let list = fleet
        .api("GET", &format!("/events?limit=1000&{query}"), None)
        .await;
    let list = list.expect(200).json();
    assert_eq!(list["next"], Value::Null, "{list}");
    list["items"].as_array().expect("items").clone()
}

/// Ids of a job's events, as the gateway's own log has them.
fn logged(fleet: &Fleet<'_>, job: &str) -> BTreeSet<String> {
    let mut log = fleet.gateway().events();
    let own = log.matching(|event| event["job"]["id"] == job);
    own.iter().map(id_of).collect()
}

fn id_of(event: &Value) -> String {
    event["id"].as_str().expect("an event's id").to_owned()
}

/// The program on control's machine, asking the control plane as the admin.
fn shell(fleet: &Fleet<'_>, args: &[&str]) -> Command {
    let server = format!("https://127.0.0.1:{}", plan::CONTROL_PORT);
    fleet
        .lab
        .ctl()
        .command(tidegate())
        .args(args)
        .args(["--server", &server, "--ca"])
        .arg(fleet.lab.ca_pem_path())
        .env("TIDEGATE_TOKEN", &fleet.admin)
}

/// A stream of events, behind an id.
fn stream(fleet: &Fleet<'_>, behind: u64) -> Process {
    let url = format!("https://127.0.0.1:{}/api/v1/events/stream", plan::CONTROL_PORT);
    let curl = fleet.lab.ctl().command("curl").args(["-sN", "--cacert"]);
    curl.arg(fleet.lab.ca_pem_path())
        .args(["-H", &format!("Authorization: Bearer {}", fleet.admin)])
        .args(["-H", &format!("Last-Event-ID: {behind}"), &url])
        .spawn()
        .expect("curl starts")
}

/// What a stream said in whole blocks: the last id, and the events.
fn told(stream: &Process) -> (u64, Vec<Value>) {
    let text = stream.stdout();
    let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
    let field = |name: &'static str| whole.lines().filter_map(move |line| line.strip_prefix(name));
    let last = field("id: ")
        .next_back()
        .map_or(0, |id| id.parse().expect("a number"));
    let events = field("data: ").map(|data| serde_json::from_str(data).expect("an event"));
    (last, events.collect())
}

/// Waits until a stream has told of a refusal of this name.
async fn tells(stream: &Process, name: &str) {
    let seen = wait_until("the stream to tell of a refusal", PATIENCE, async || {
        let refused = |event: &Value| event["name"] == name && event["verdict"] == "refuse";
        if told(stream).1.iter().any(refused) {
            Ok(())
        } else {
            Err(stream.stdout())
        }
    });
    seen.await.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn what_a_job_does_is_found_in_the_api_within_a_second_each_once() {
    let lab = lab();
    let (mut fleet, job) = fleet(&lab).await;
    fleet.refused(0, "evil.test").await;
    let query = format!("job={job}&name=evil.test&verdict=refuse");
    within_a_second("the refusal to be found", async || {
        match found(&fleet, &query).await.len() {
            0 => Err("nothing yet"),
            _ => Ok(()),
        }
    })
    .await;
    let permits = found(&fleet, "name=allowed.test&kind=tls&verdict=permit&repo=acme/web").await;
    assert!(
        permits.iter().all(|event| event["rule"] == "allowed.test:443"),
        "{permits:?}"
    );
    // Neither side's restart loses or doubles anything.
    fleet.control.kill().await.unwrap();
    fetch(&lab, 0, "cdn-a.test").await;
    fleet.gateways[0].kill().await.unwrap();
    fleet.control.restart().await.unwrap();
    fleet.gateways[0].restart().await.unwrap();
    fetch(&lab, 0, "cdn-b.test").await;
    let of_job = format!("job={job}");
    let all = wait_until("every event of the log to be stored", PATIENCE, async || {
        let stored = found(&fleet, &of_job).await;
        let ids: BTreeSet<String> = stored.iter().map(id_of).collect();
        let missing: Vec<String> = logged(&fleet, &job).difference(&ids).cloned().collect();
        let names: BTreeSet<&str> = stored.iter().filter_map(|event| event["name"].as_str()).collect();
        if missing.is_empty() && names.contains("cdn-a.test") && names.contains("cdn-b.test") {
            Ok(stored)
        } else {
            Err(format!("missing: {missing:?}; {names:?}"))
        }
    });
    let all = all.await.unwrap_or_else(|error| panic!("{error}"));
    let ids: BTreeSet<String> = all.iter().map(id_of).collect();
    assert_eq!(ids.len(), all.len(), "each once");
    let page = fleet
        .api("GET", &format!("/jobs/{job}/summary.md"), None)
        .await
        .expect(200);
    let page = String::from_utf8_lossy(&page.body).into_owned();
    assert!(page.contains("evil.test") && page.contains("acme/web"), "{page}");
}

#[tokio::test]
async fn a_stream_goes_on_behind_the_last_event_over_a_restart_of_control() {
    let lab = lab();
    let (mut fleet, _) = fleet(&lab).await;
    let mut first = stream(&fleet, 0);
    fleet.refused(0, "evil.test").await;
    tells(&first, "evil.test").await;
    fleet.control.kill().await.unwrap();
    first.wait(PATIENCE).await.expect("the stream's end");
    let (last, mut seen) = told(&first);
    // The gateway keeps what happens meanwhile.
    fetch(&lab, 0, "cdn-a.test").await;
    fleet.control.restart().await.unwrap();
    let mut second = stream(&fleet, last);
    tells(&second, "cdn-a.test").await;
    fetch(&lab, 0, "cdn-b.test").await;
    tells(&second, "cdn-b.test").await;
    let ended = fleet.control.stop(PATIENCE).await.unwrap();
    assert_eq!(ended, Some(0), "an open stream holds nothing up");
    second.wait(PATIENCE).await.expect("the stream's end");
    seen.extend(told(&second).1);
    fleet.control.restart().await.unwrap();
    let (last, _) = told(&second);
    let third = stream(&fleet, last);
    fetch(&lab, 0, "mirror.test").await;
    tells(&third, "mirror.test").await;
    let all = wait_until("the rest to be told", PATIENCE, async || {
        let mut told_of: Vec<String> = seen.iter().chain(&told(&third).1).map(id_of).collect();
        let count = told_of.len();
        told_of.sort_unstable();
        told_of.dedup();
        assert_eq!(told_of.len(), count, "none twice");
        let mut stored: Vec<String> = found(&fleet, "").await.iter().map(id_of).collect();
        stored.sort_unstable();
        if told_of == stored {
            Ok(count)
        } else {
            Err(format!("{} told, {} stored", told_of.len(), stored.len()))
        }
    });
    assert!(all.await.unwrap_or_else(|error| panic!("{error}")) > 4);
}

#[tokio::test]
async fn refusals_are_followed_from_a_shell_over_a_restart_of_control() {
    let lab = lab();
    let (mut fleet, _) = fleet(&lab).await;
    let follow = [
        "events",
        "--follow",
        "--since",
        "1h",
        "--verdict",
        "refuse",
        "--org",
        OWNER,
    ];
    let following = shell(&fleet, &follow).spawn().expect("the program starts");
    let shows = async |name: &str| {
        let line = wait_until("the refusal to be shown", PATIENCE * 2, async || {
            let text = following.stdout();
            let line = text.lines().find(|line| line.contains(name)).map(str::to_owned);
            line.ok_or_else(|| format!("{text}\n{}", following.stderr()))
        });
        line.await.unwrap_or_else(|error| panic!("{error}"))
    };
    fleet.refused(0, "evil.test").await;
    let line = shows("evil.test").await;
    for part in ["refuse", "not-allowed", "acme/web build"] {
        assert!(line.contains(part), "{line}");
    }
    fleet.control.kill().await.unwrap();
    fetch(&lab, 0, "cdn-a.test").await;
    fleet.control.restart().await.unwrap();
    shows("cdn-a.test").await;
    let told = following.stdout();
    let stored = found(&fleet, "verdict=refuse&org=acme").await;
    for id in stored.iter().map(id_of) {
        assert_eq!(told.matches(&id).count(), 1, "{id} is shown once: {told}");
    }
    assert!(!told.contains("permit"), "{told}");
    let said = following.stderr();
    assert_eq!(said.matches("reconnecting").count(), 1, "{said}");
    assert_eq!(said.matches("connected again").count(), 1, "{said}");
    following.kill().await;
}

/// Bad input: names and jobs that would act on a terminal.
#[tokio::test]
async fn what_a_hostile_job_calls_itself_and_asks_for_reaches_no_terminal_raw() {
    let lab = lab();
    let (fleet, _) = fleet(&lab).await;
    let mut start = start_of("acme/web", "ci.yml");
    start["job"] = "b\u{202e}dliu|<img>".into();
    fleet
        .try_register(1, Some(&fleet.runner), &start)
        .await
        .expect(201);
    // ESC, CSI of C1, line feed, DEL; markup; a label of 63 octets.
    let long = "\\255".repeat(63);
    for name in [
        "\\027[2J\\155\\010\\127evil.test",
        "<img\\032src=x>|`.test",
        &long,
    ] {
        for runner in [0, 1] {
            tidegate_e2e::run_on(&lab, runner, &["dig", "+tries=1", "+time=3", name]).await;
        }
    }
    dig(&lab, &["evil.test"]).await;
    let quiet = |text: &str| {
        text.chars()
            .all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}'))
    };
    let shown = wait_until("every refusal to be shown", PATIENCE, async || {
        let output = shell(&fleet, &["events", "--verdict", "refuse", "--kind", "dns"])
            .run()
            .await;
        let text = output.expect("the program starts").expect_success().text();
        let wanted = [
            "\\027[2j",
            "<img\\032src=x>|`.test",
            "evil.test",
            "\\255\\255",
            "b\\u{202e}dliu",
        ];
        if wanted.iter().all(|part| text.contains(part)) {
            Ok(text)
        } else {
            Err(text)
        }
    });
    let shown = shown.await.unwrap_or_else(|error| panic!("{error}"));
    assert!(quiet(&shown), "{shown:?}");
    let lines = shell(&fleet, &["events", "--all", "--json"])
        .run()
        .await
        .unwrap()
        .expect_success();
    assert!(quiet(&lines.text()), "{:?}", lines.text());
    let listed = fleet.api("GET", "/events?limit=1000", None).await.expect(200);
    assert!(
        quiet(&String::from_utf8_lossy(&listed.body)),
        "the record holds nothing raw"
    );
    let job = fleet.current(1).await["id"].as_str().expect("an id").to_owned();
    let page = fleet
        .api("GET", &format!("/jobs/{job}/summary.md"), None)
        .await
        .expect(200);
    let page = String::from_utf8_lossy(&page.body).into_owned();
    assert!(quiet(&page) && !page.contains("<img"), "{page}");
    let summary = shell(&fleet, &["job", "summary", &job])
        .run()
        .await
        .unwrap()
        .expect_success();
    assert!(quiet(&summary.text()), "{:?}", summary.text());
}
