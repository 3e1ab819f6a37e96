//! A job that is root on its runner tries to be somebody else: it ends its lease, takes addresses, names others. It gets
//! nothing by any of it, least of all another repository's policy.

mod addresses;
mod assurance;
mod tokens;

use serde_json::{Value, json};
use tidegate_e2e::store::{AUDIENCE, Fleet, FleetBuilder, start_of};
use tidegate_e2e::{PATIENCE, block, event};
use tidegate_lab::{Lab, OidcIssuer, plan};

use super::{NAMES, download, lab, problem};

/// What the network's default policy allows: no job of these tests may ever get it.
const DEFAULT: &str = "default.yaml";

/// Policies of a narrow repository `acme/web` and a wide one, `acme/lax`, and a lenient default for unknown sources.
async fn fleet<'a>(lab: &'a Lab, issuer: &OidcIssuer, network: &str) -> Fleet<'a> {
    let fleet = builder(lab, network).issuer(issuer).start().await;
    fleet
        .attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web")
        .await;
    fleet
        .synced(fleet.attached("lax", &everything(), "repo:acme/lax"))
        .await;
    fleet
}

fn builder<'a>(lab: &'a Lab, network: &str) -> FleetBuilder<'a> {
    Fleet::builder(lab)
        .network(&format!("cluster: prod, default-policy: {DEFAULT}{network}"))
        .file(DEFAULT, &block(&["allowed.test:443"]))
}

fn everything() -> String {
    block(
        &NAMES
            .map(|name| format!("{name}:443"))
            .each_ref()
            .map(String::as_str),
    )
}

fn issuer(lab: &Lab) -> OidcIssuer {
    lab.oidc_issuer("issuer.test", plan::site(60)).unwrap()
}

/// A start by a fresh OIDC token of a repository.
fn signed(issuer: &OidcIssuer, repo: &str) -> Value {
    json!({"oidc_token": issuer.sign(&issuer.claims(repo, "ci.yml", AUDIENCE)).unwrap()})
}

const NOTHING: [&str; 0] = [];

#[tokio::test]
async fn who_ends_its_own_lease_is_nobody_until_its_machine_changes() {
    let lab = lab();
    let issuer = issuer(&lab);
    let fleet = fleet(&lab, &issuer, "").await;
    assert_eq!(
        fleet.reached(0, &NAMES).await,
        ["allowed.test"],
        "before any job, the default"
    );
    fleet.register(0, "acme/web", "ci.yml").await;
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    let mut open = download(&lab, 0, "cdn-a.test").await;
    fleet.end(0).await.expect(200);
    assert!(
        !open
            .wait(PATIENCE)
            .await
            .expect("its flows end with it")
            .success()
    );
    for (what, token, start) in [
        (
            "another repository by the runner token",
            Some(&fleet.runner),
            start_of("acme/lax", "ci.yml"),
        ),
        (
            "the same one again",
            Some(&fleet.runner),
            start_of("acme/web", "ci.yml"),
        ),
        (
            "another repository by a fresh OIDC token",
            None,
            signed(&issuer, "acme/lax"),
        ),
        ("both", Some(&fleet.runner), signed(&issuer, "acme/lax")),
    ] {
        let refused = fleet.try_register(0, token.map(String::as_str), &start).await;
        assert_eq!(problem(&refused), (409, "quarantined".to_owned()), "{what}");
        assert_eq!(fleet.reached(0, &NAMES).await, NOTHING, "{what}");
    }
    assert_eq!(fleet.current(0).await["code"], "no-job");
    event(
        &mut fleet.gateway().events(),
        &[
            ("source", "10.77.1.2"),
            ("reason", "quarantined"),
            ("name", "evil.test"),
        ],
    )
    .await;
    let (_, status) = fleet.gateway().status().await.unwrap();
    assert_eq!(
        status["quarantined_sources"][0]["source"], "10.77.1.2",
        "{status}"
    );
    // The neighbour is not touched by any of it.
    fleet.register(1, "acme/lax", "ci.yml").await;
    assert_eq!(fleet.reached(1, &NAMES).await, NAMES);
}

/// Posts a start from one of a runner's addresses; gives back status and body.
async fn post_from(
    lab: &Lab,
    runner: usize,
    (from, gateway): (&str, &str),
    token: Option<&str>,
    start: Value,
) -> (u16, String) {
    let gateway = if gateway.contains(':') {
        format!("[{gateway}]")
    } else {
        gateway.to_owned()
    };
    let url = format!("https://{gateway}/v1/jobs");
    let body = start.to_string();
    let header = format!("Authorization: Bearer {}", token.unwrap_or_default());
    let mut line = vec![
        "curl",
        "-sS",
        "-m",
        "5",
        "-w",
        "\n%{http_code}",
        "--interface",
        from,
        "-d",
        &body,
    ];
    line.extend(["-H", "Content-Type: application/json", &url]);
    if token.is_some() {
        line.extend(["-H", &header]);
    }
    let text = tidegate_e2e::run_on(lab, runner, &line)
        .await
        .expect_success()
        .text();
    let (body, code) = text.rsplit_once('\n').unwrap();
    (code.parse().unwrap(), body.to_owned())
}

/// The registration is for the address that asks and for no other, whatever body and headers say.
#[tokio::test]
async fn a_job_registers_and_ends_for_its_own_address_only() {
    let lab = lab();
    let issuer = issuer(&lab);
    let fleet = fleet(&lab, &issuer, "").await;
    let victim = fleet.register(1, "acme/web", "ci.yml").await;
    let victim = victim["id"].as_str().unwrap();
    let mut start = start_of("acme/lax", "ci.yml");
    start["sources"] = json!(["10.77.1.3"]);
    let refused = fleet.try_register(0, Some(&fleet.runner), &start).await;
    assert_eq!(problem(&refused), (400, "invalid".to_owned()));
    assert_eq!(refused.json()["field"], "sources", "{refused}");
    let door = fleet.door(0);
    let end = ("POST", "/v1/jobs/current/end");
    for (method, path, body) in [
        ("POST", format!("/v1/jobs/{victim}/end"), None),
        ("DELETE", "/v1/leases?source=10.77.1.3".to_owned(), None),
        ("DELETE", "/api/v1/leases?source=10.77.1.3".to_owned(), None),
        (end.0, end.1.to_owned(), Some(json!({"id": victim}))),
        (end.0, end.1.to_owned(), Some(json!({"sources": ["10.77.1.3"]}))),
        (end.0, format!("{}?source=10.77.1.3", end.1), None),
    ] {
        let mut request = door.request(method, &path).token(&fleet.runner);
        for header in ["x-forwarded-for", "forwarded", "x-real-ip", "source"] {
            let value = if header == "forwarded" {
                "for=10.77.1.3"
            } else {
                "10.77.1.3"
            };
            request = request.header(header, value);
        }
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        assert!(matches!(answer.status, 400 | 404), "{answer}");
        problem(&answer);
    }
    assert_eq!(fleet.current(1).await["id"], victim);
    assert_eq!(fleet.reached(1, &NAMES).await, ["cdn-a.test"]);
    // The headers make nobody another source either.
    let request = door
        .request("POST", "/v1/jobs")
        .token(&fleet.runner)
        .header("x-forwarded-for", "10.77.1.3");
    let own = request
        .json(&start_of("acme/web", "ci.yml"))
        .send()
        .await
        .unwrap()
        .expect(201);
    assert_eq!(own.json()["sources"], json!(["10.77.1.2"]), "{own}");
}
