//! Nonsense at the runner API, over the wire: each is a problem document, nothing is stored, and the gateway lives.

use serde_json::{Value, json};
use tidegate_e2e::block;
use tidegate_e2e::store::{Fleet, start_of};
use tidegate_lab::Lab;

use super::{NAMES, problem};

async fn fleet(lab: &Lab) -> Fleet<'_> {
    let fleet = Fleet::start(lab).await;
    fleet
        .synced(fleet.attached("org", &block(&["cdn-a.test:443"]), "org:acme"))
        .await;
    fleet
}

fn lab() -> Lab {
    super::lab()
}

/// The runner can still register, and control knows of this one job and no other.
async fn lives(fleet: &Fleet<'_>) {
    let job = fleet.register(0, "acme/web", "ci.yml").await;
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    let jobs = fleet.api("GET", "/jobs", None).await.expect(200).json();
    let ids: Vec<&Value> = jobs["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["id"])
        .collect();
    assert_eq!(ids, [&job["id"]], "{jobs}");
}

#[tokio::test]
async fn names_that_are_no_names_are_told_by_field_and_nothing_is_stored() {
    let lab = lab();
    let fleet = fleet(&lab).await;
    let door = fleet.door(0);
    for (field, value) in [
        ("repo", json!("acme/'; DROP TABLE jobs; --")),
        ("repo", json!("acme/\" OR 1=1 --")),
        ("repo", json!("acme/web/../../other")),
        ("repo", json!("acme/..")),
        ("repo", json!("acme/%2e%2e%2f")),
        ("repo", json!("acme/we\u{0}b")),
        ("repo", json!("acme/\u{202e}bew")),
        ("repo", json!(format!("acme/{}", "x".repeat(10_000)))),
        ("workflow", json!("../../etc/passwd")),
        ("workflow", json!("ci.yml\u{0}")),
        ("workflow", json!("'); DELETE FROM leases; --")),
        ("job", json!("a\nb")),
        ("actor", json!("x".repeat(1_000))),
        ("run_id", json!("1; DROP TABLE jobs")),
        ("ref", json!("x".repeat(5_000))),
        ("runner_name", json!("\u{1b}[2J")),
        ("cluster", json!("\u{7f}")),
        ("sources", json!(["10.77.1.3"])),
    ] {
        let mut start = start_of("acme/web", "ci.yml");
        start[field] = value.clone();
        let refused = door
            .call("POST", "/v1/jobs", Some(&fleet.runner), Some(&start))
            .await
            .unwrap();
        assert_eq!(problem(&refused), (400, "invalid".to_owned()), "{field}: {value}");
        assert_eq!(refused.json()["field"], field, "{refused}");
        assert!(
            refused.body.len() < 1_000,
            "it repeats no more than needed: {refused}"
        );
    }
    lives(&fleet).await;
}

#[tokio::test]
async fn bodies_that_are_no_jobs_are_refused_and_the_gateway_lives() {
    let lab = lab();
    let fleet = fleet(&lab).await;
    let door = fleet.door(0);
    let deep = "[".repeat(100_000);
    let wide = format!("{{\"repo\": \"acme/web\", \"job\": \"{}\"}}", "x".repeat(2 << 20));
    for (what, body, codes) in [
        ("no JSON", "repo=acme/web".to_owned(), &[400][..]),
        ("half of it", "{\"repo\": \"acme/web\"".to_owned(), &[400]),
        ("a list", "[\"acme\", \"acme/web\"]".to_owned(), &[400]),
        ("deep", deep, &[400, 413]),
        (
            "two of one field",
            "{\"repo\": \"acme/web\", \"repo\": \"acme/lax\"}".to_owned(),
            &[400],
        ),
        (
            "an unknown field",
            "{\"repo\": \"acme/web\", \"policy\": \"lax\"}".to_owned(),
            &[400],
        ),
        ("a wrong type", "{\"repo\": [\"acme/web\"]}".to_owned(), &[400]),
        (
            "a huge number",
            "{\"repo\": \"acme/web\", \"run_id\": 1e400}".to_owned(),
            &[400],
        ),
        ("nothing", String::new(), &[400]),
        (
            "invalid UTF-16",
            "{\"repo\": \"acme/\\ud800\"}".to_owned(),
            &[400],
        ),
        ("two megabytes", wide, &[413]),
    ] {
        let request = door.request("POST", "/v1/jobs").token(&fleet.runner);
        let refused = request.body("application/json", body).send().await.unwrap();
        let (status, _) = problem(&refused);
        assert!(codes.contains(&status), "{what}: {refused}");
    }
    let bytes = door.request("POST", "/v1/jobs").token(&fleet.runner);
    let refused = bytes
        .body("application/json", vec![0xff, 0xfe, 0x00])
        .send()
        .await
        .unwrap();
    assert_eq!(problem(&refused).0, 400, "{refused}");
    lives(&fleet).await;
}

#[tokio::test]
async fn paths_methods_and_credentials_that_are_none() {
    let lab = lab();
    let fleet = fleet(&lab).await;
    let door = fleet.door(0);
    for (method, path, status) in [
        ("GET", "/v1/jobs", 405),
        ("DELETE", "/v1/jobs/current", 405),
        ("PUT", "/v1/jobs/current/end", 405),
        ("GET", "/nothing", 404),
        ("GET", "/v1/jobs/../../etc/passwd", 404),
        ("GET", "/v1/jobs/%2e%2e/", 404),
        ("GET", "/api/v1/policies", 404),
        ("GET", "/v1/why", 400),
        ("GET", "/v1/why?name=", 400),
        ("GET", "/v1/why?name=%00", 400),
        ("GET", "/v1/why?name=a..b", 400),
        ("GET", "/v1/why?name=cdn-a.test:0", 400),
        ("GET", "/v1/why?name=https://cdn-a.test/", 400),
        ("TRACE", "/v1/jobs/current", 405),
    ] {
        let answer = door.call(method, path, Some(&fleet.runner), None).await.unwrap();
        assert_eq!(problem(&answer).0, status, "{method} {path}: {answer}");
    }
    let long = format!("/v1/why?name={}", "a".repeat(5_000));
    let answer = door.call("GET", &long, None, None).await.unwrap();
    assert!(matches!(answer.status, 400 | 414 | 431), "{answer}");
    let start = start_of("acme/web", "ci.yml");
    for header in ["Basic YWNtZTp4", "Bearer", "Bearer ", "tgr_x", "Bearer a b"] {
        let request = door.request("POST", "/v1/jobs").header("authorization", header);
        let refused = request.json(&start).send().await.unwrap();
        assert_eq!(problem(&refused).0, 401, "{header:?}: {refused}");
    }
    let two = door
        .request("POST", "/v1/jobs")
        .token(&fleet.runner)
        .token(&fleet.runner);
    assert_eq!(problem(&two.json(&start).send().await.unwrap()).0, 401);
    lives(&fleet).await;
}

/// Slow and broken clients take nothing from the next one.
#[tokio::test]
async fn connections_that_say_nothing_or_nonsense_keep_nobody_out() {
    let lab = lab();
    let fleet = fleet(&lab).await;
    let idle = lab.runner(1).enter(|| {
        let open = (0..300).filter_map(|_| std::net::TcpStream::connect("10.77.1.1:443").ok());
        open.collect::<Vec<_>>()
    });
    let idle = idle.unwrap();
    assert!(!idle.is_empty());
    let noise = lab.runner(1).enter(|| {
        use std::io::Write as _;
        for garbage in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0; 4096],
            &[0x16, 3, 1, 0xff, 0xff],
        ] {
            if let Ok(mut stream) = std::net::TcpStream::connect("10.77.1.1:443") {
                let _closed = stream.write_all(garbage);
            }
        }
    });
    noise.unwrap();
    lives(&fleet).await;
    drop(idle);
}
