//! `tidegate up`: gateway and control plane in one process, from nothing to a job under its policy.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_e2e::store::{Fetched, fetch, start_of};
use tidegate_e2e::{PATIENCE, block, run_on, start, tidegate};
use tidegate_lab::{Answer, Api, ControlSection, Gateway, GatewayBuilder, Lab, plan, wait_until};

/// A gateway with its own control plane.
fn up(lab: &Lab) -> GatewayBuilder<'_> {
    GatewayBuilder::new(lab, tidegate())
        .network("cluster: prod")
        .runner_api()
}

async fn call(gateway: &Gateway<'_>, token: &str, what: (&str, &str), body: Option<&Value>) -> Answer {
    let path = format!("/api/v1{}", what.1);
    let answer = gateway.control().api(what.0, &path, Some(token), body).await;
    answer.unwrap_or_else(|error| panic!("{error}"))
}

/// The runner API, as a runner reaches it.
fn door(lab: &Lab, runner: usize) -> Api {
    let address = (plan::gateway_v4(0), 443).into();
    lab.api(lab.runner(runner), address, "tidegate.internal").unwrap()
}

/// Waits until a runner reaches exactly these of both names.
async fn comes_to_reach(lab: &Lab, runner: usize, names: &[&str]) {
    let what = format!("runner {runner} to reach {names:?}");
    let reached = wait_until(&what, PATIENCE, async || {
        let mut reached = Vec::new();
        for name in ["cdn-a.test", "cdn-b.test"] {
            if matches!(fetch(lab, runner, name).await, Fetched::Page) {
                reached.push(name);
            }
        }
        if reached == names {
            Ok(())
        } else {
            Err(format!("{reached:?}"))
        }
    });
    reached.await.unwrap_or_else(|error| panic!("{error}"));
}

/// Nobody but the file's owner reads it.
fn is_private(file: &Path) {
    let mode = std::fs::metadata(file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{} has mode {mode:o}", file.display());
}

#[tokio::test]
async fn from_the_first_start_to_a_job_under_its_policy_and_over_restarts() {
    let lab = Lab::builder().build().unwrap();
    let mut gateway = start(up(&lab).up(ControlSection::default())).await;
    let admin = gateway.control().admin_token().await.unwrap();
    assert!(admin.starts_with("tga_"), "{admin}");
    is_private(&gateway.path("admin-token"));
    is_private(&gateway.path("control.db"));
    let new = json!({"name": "web", "yaml": block(&["cdn-a.test:443"])});
    call(&gateway, &admin, ("POST", "/orgs/acme/policies"), Some(&new))
        .await
        .expect(201);
    let scope = json!({"add": ["repo:acme/web"]});
    call(
        &gateway,
        &admin,
        ("POST", "/orgs/acme/policies/web/attachments"),
        Some(&scope),
    )
    .await
    .expect(200);
    let token = json!({"role": "runner", "name": "fleet", "owners": ["acme"]});
    let runner = call(&gateway, &admin, ("POST", "/tokens"), Some(&token))
        .await
        .expect(201)
        .json();
    let runner = runner["token"].as_str().unwrap();
    let registered = wait_until("the runner token to be known", PATIENCE, async || {
        let job = start_of("acme/web", "ci.yml");
        let answer = door(&lab, 0)
            .call("POST", "/v1/jobs", Some(runner), Some(&job))
            .await;
        match answer {
            Ok(answer) if answer.status == 201 => Ok(answer.json()),
            other => Err(format!("{other:?}")),
        }
    });
    let job = registered.await.unwrap_or_else(|error| panic!("{error}"));
    comes_to_reach(&lab, 0, &["cdn-a.test"]).await;
    comes_to_reach(&lab, 1, &[]).await;
    let (code, status) = gateway.status().await.unwrap();
    assert_eq!(
        (code, &status["control"]["state"]),
        (Some(0), &"connected".into()),
        "{status}"
    );
    let listed = call(&gateway, &admin, ("GET", "/gateways"), None)
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&listed["items"][0]["name"], &listed["items"][0]["connected"]),
        (&"lab-gw".into(), &true.into())
    );
    for killed in [false, true] {
        if killed {
            gateway.kill().await.unwrap();
        } else {
            assert_eq!(gateway.stop(Duration::from_secs(20)).await.unwrap(), Some(0));
        }
        gateway.restart().await.unwrap();
        comes_to_reach(&lab, 0, &["cdn-a.test"]).await;
        assert_eq!(
            gateway.control().admin_token().await.unwrap(),
            admin,
            "there is one first token"
        );
        let current = door(&lab, 0)
            .call("GET", "/v1/jobs/current", None, None)
            .await
            .unwrap()
            .expect(200)
            .json();
        assert_eq!(current["id"], job["id"], "{current}");
        let kept = call(&gateway, &admin, ("GET", "/orgs/acme/policies/web"), None)
            .await
            .expect(200)
            .json();
        assert_eq!(
            (&kept["version"], &kept["attachments"]),
            (&1.into(), &scope["add"]),
            "{kept}"
        );
    }
    let update = json!({"yaml": block(&["cdn-b.test:443"])});
    let request = gateway
        .control()
        .request("PUT", "/api/v1/orgs/acme/policies/web")
        .token(&admin);
    request
        .header("if-match", "\"1\"")
        .json(&update)
        .send()
        .await
        .unwrap()
        .expect(200);
    comes_to_reach(&lab, 0, &["cdn-b.test"]).await;
}

#[tokio::test]
async fn its_api_is_for_the_machine_itself_and_for_no_runner() {
    let lab = Lab::builder().build().unwrap();
    let gateway = start(up(&lab).up(ControlSection::default())).await;
    gateway
        .control()
        .api("GET", "/healthz", None, None)
        .await
        .unwrap()
        .expect(200);
    let sockets = lab
        .gw()
        .command("ss")
        .args(["-Hltn", "sport = :8443"])
        .run()
        .await
        .unwrap();
    assert!(sockets.text().contains("127.0.0.1:8443"), "{sockets}");
    assert_eq!(sockets.text().lines().count(), 1, "{sockets}");
    for address in ["10.77.1.1", "[fd77:1::1]", "127.0.0.1", "198.51.100.1"] {
        let url = format!("http://{address}:8443/healthz");
        let answer = run_on(&lab, 0, &["curl", "-sS", "-m", "2", &url]).await;
        assert!(!answer.success(), "{address}: {answer}");
    }
}

/// Without a `control` section everything of it lies in the state directory.
#[tokio::test]
async fn without_a_word_about_control_it_has_one_all_the_same() {
    let lab = Lab::builder().build().unwrap();
    // Only the subcommand differs from a gateway's.
    let program = tidegate_e2e::wrapper(&lab, "shift; set -- up \"$@\"; exec");
    let builder = GatewayBuilder::new(&lab, program).network("");
    let gateway = builder.launch().unwrap();
    let token = gateway.path("state/admin-token");
    let written = wait_until("the first admin token", PATIENCE, async || {
        let text = std::fs::read_to_string(&token).unwrap_or_default();
        let url = "http://127.0.0.1:8443/api/v1/tokens";
        let bearer = format!("authorization: Bearer {}", text.trim());
        let answer = lab
            .gw()
            .command("curl")
            .args(["-sSf", "-H", &bearer, url])
            .run()
            .await
            .unwrap();
        if answer.success() {
            Ok(answer.text())
        } else {
            Err(format!("{answer}; {}", gateway.process().stderr()))
        }
    });
    let tokens: Value =
        serde_json::from_str(&written.await.unwrap_or_else(|error| panic!("{error}"))).unwrap();
    assert_eq!(tokens["items"][0]["name"], "bootstrap", "{tokens}");
    is_private(&token);
    is_private(&gateway.path("state/control.db"));
}

#[tokio::test]
async fn a_wrong_control_section_is_wrong_usage_and_says_where_and_what_to_write() {
    let lab = Lab::builder().build().unwrap();
    let mut good = start(up(&lab).up(ControlSection::default())).await;
    let text = std::fs::read_to_string(good.path("tidegate.yaml")).unwrap();
    good.stop(Duration::from_secs(20)).await.unwrap();
    let section = text.find("control:\n").unwrap();
    let (above, below) = text.split_at(section);
    let line = above.lines().count() + 2;
    for (from, to, said) in [
        (
            "listen:",
            "lissten:",
            vec![
                format!(":{line}:3"),
                "lissten".into(),
                "did you mean `listen`".into(),
            ],
        ),
        (
            "127.0.0.1:8443",
            "0.0.0.0:8443",
            vec!["control.tls".into(), "write tls: {cert".into()],
        ),
        (
            "127.0.0.1:8443",
            "localhost",
            vec!["control.listen".into(), "such as 127.0.0.1:8443".into()],
        ),
        (
            "sqlite://control.db",
            "mysql://db",
            vec!["control.store".into(), "write sqlite:///PATH".into()],
        ),
        (
            "  listen:",
            "  strict: perhaps\n  listen:",
            vec![format!(":{line}:11"), "strict".into()],
        ),
    ] {
        assert!(below.contains(from), "{from} is not in:\n{below}");
        let path = lab.dir().join("gateway/wrong.yaml");
        std::fs::write(&path, format!("{above}{}", below.replacen(from, to, 1))).unwrap();
        let refused = ended(&lab, &path).await;
        assert_eq!(refused.0, Some(2), "{to}: {}", refused.1);
        for part in said.iter().map(String::as_str).chain(["wrong.yaml"]) {
            assert!(refused.1.contains(part), "{to}: {part} is not in:\n{}", refused.1);
        }
        assert_eq!(
            refused
                .1
                .trim()
                .lines()
                .filter(|line| line.starts_with("tidegate:"))
                .count(),
            1,
            "{}",
            refused.1
        );
    }
    let twice = format!(
        "{}\n",
        above.replace(
            "gateway:\n",
            "gateway:\n  control-plane: {url: \"https://control.test\", token-file: t}\n"
        )
    );
    let path = lab.dir().join("gateway/twice.yaml");
    std::fs::write(&path, twice + below).unwrap();
    let (code, text) = ended(&lab, &path).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("gateway.control-plane") && text.contains("`tidegate gateway`"),
        "{text}"
    );
    // Nothing was begun by any of it.
    let rules = lab
        .gw()
        .command("nft")
        .args(["list", "ruleset"])
        .run()
        .await
        .unwrap();
    assert!(!rules.text().contains("tidegate"), "{rules}");
}

/// Runs `up` to its end; its exit code and what it said.
async fn ended(lab: &Lab, config: &Path) -> (Option<i32>, String) {
    let command = lab.gw().command(tidegate()).args(["up", "--config"]).arg(config);
    let output = command.timeout(Duration::from_secs(10)).run().await.unwrap();
    (output.code(), output.errors())
}
