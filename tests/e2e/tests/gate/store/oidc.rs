//! OIDC tokens of jobs: only a fresh one that the configured issuer signed for this audience makes an identity, once.

use serde_json::{Value, json};
use tidegate_e2e::block;
use tidegate_e2e::store::{AUDIENCE, Fleet};
use tidegate_lab::{KeyKind, Lab, OidcIssuer, plan};

use super::{NAMES, problem};

/// A fleet that trusts `issuer.test`, with a policy for `acme/web`.
async fn fleet<'a>(lab: &'a Lab, issuer: &OidcIssuer) -> Fleet<'a> {
    let fleet = Fleet::builder(lab).issuer(issuer).start().await;
    fleet
        .synced(fleet.attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web"))
        .await;
    fleet
}

fn lab_and_issuer(runners: usize) -> (Lab, OidcIssuer) {
    let lab = Lab::builder().runners(runners).control().build().unwrap();
    let issuer = lab.oidc_issuer("issuer.test", plan::site(60)).unwrap();
    (lab, issuer)
}

fn claims(issuer: &OidcIssuer) -> Value {
    issuer.claims("acme/web", "ci.yml", AUDIENCE)
}

fn start(token: &str) -> Value {
    json!({"oidc_token": token})
}

/// Shows a token that is no good: 401, a sentence with `why`, and nothing on the wire.
async fn refused(fleet: &Fleet<'_>, runner: usize, token: &str, why: &str) {
    let answer = fleet.try_register(runner, None, &start(token)).await;
    assert_eq!(problem(&answer), (401, "unauthorized".to_owned()), "{why}");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(why), "{why}: {detail}");
    assert_eq!(fleet.current(runner).await["code"], "no-job", "{why}");
}

#[tokio::test]
async fn a_job_is_who_its_token_says_and_not_who_its_body_says() {
    let (lab, issuer) = lab_and_issuer(2);
    let fleet = fleet(&lab, &issuer).await;
    fleet
        .attached("lax", &block(&["evil.test:443"]), "repo:acme/lax")
        .await;
    let mut body = start(&issuer.sign(&claims(&issuer)).unwrap());
    for (key, value) in [
        ("owner", "acme"),
        ("repo", "acme/lax"),
        ("workflow", "lax.yml"),
        ("event", "schedule"),
        ("actor", "mallory"),
        ("job", "build"),
    ] {
        body[key] = value.into();
    }
    let job = fleet.try_register(0, None, &body).await.expect(201).json();
    assert_eq!(
        (&job["assurance"], &job["policy"]["name"]),
        (&"signed".into(), &"web".into()),
        "{job}"
    );
    let current = fleet.current(0).await;
    for (key, value) in [
        ("repo", "acme/web"),
        ("workflow", "ci.yml"),
        ("run_id", "1001"),
        ("event", "push"),
        ("actor", "alice"),
        ("job", "build"),
        ("assurance", "signed"),
    ] {
        assert_eq!(current[key], value, "{key}: {current}");
    }
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    // As a bearer it is the same.
    let token = issuer.sign(&claims(&issuer)).unwrap();
    let job = fleet
        .try_register(1, Some(&token), &json!({}))
        .await
        .expect(201)
        .json();
    assert_eq!(job["assurance"], "signed", "{job}");
}

#[tokio::test]
async fn a_token_registers_once_and_on_one_runner_also_over_restarts() {
    let (lab, issuer) = lab_and_issuer(2);
    let mut fleet = fleet(&lab, &issuer).await;
    let token = issuer.sign(&claims(&issuer)).unwrap();
    let job = fleet
        .try_register(0, None, &start(&token))
        .await
        .expect(201)
        .json();
    // The hook that asks again is the same job and is told the same.
    let again = fleet
        .try_register(0, None, &start(&token))
        .await
        .expect(200)
        .json();
    assert_eq!(again["id"], job["id"]);
    let replay = async |fleet: &Fleet<'_>| {
        let answer = fleet.try_register(1, None, &start(&token)).await;
        assert_eq!(problem(&answer), (409, "replayed".to_owned()), "{answer}");
        assert_eq!(fleet.reached(1, &NAMES).await, <[&str; 0]>::default());
    };
    replay(&fleet).await;
    // The gateway remembers while control is away, and control for a gateway that knows nothing any more.
    fleet.control.kill().await.unwrap();
    replay(&fleet).await;
    fleet.control.restart().await.unwrap();
    fleet.connected().await;
    fleet.gateways[0].kill().await.unwrap();
    fleet.gateways[0].restart().await.unwrap();
    fleet.connected().await;
    replay(&fleet).await;
    let ended = fleet
        .ask(0, ("POST", "/v1/jobs/current/end"), Some(&token), None)
        .await;
    ended.expect(200);
    replay(&fleet).await;
}

#[tokio::test]
async fn claims_that_do_not_fit_are_refused_with_what_is_wrong() {
    let (lab, issuer) = lab_and_issuer(4);
    let stranger = lab.oidc_issuer("stranger.test", plan::site(61)).unwrap();
    let fleet = fleet(&lab, &issuer).await;
    let now = claims(&issuer)["iat"].as_i64().unwrap();
    let with = |changes: &[(&str, Value)]| {
        let mut claims = claims(&issuer);
        for (key, value) in changes {
            claims[*key] = value.clone();
        }
        issuer.sign(&claims).unwrap()
    };
    let cases = [
        (with(&[("aud", "sts.example".into())]), "audience"),
        (with(&[("aud", json!([]))]), "audience"),
        (with(&[("iss", "https://issuer.test/".into())]), "issuer"),
        (with(&[("exp", (now - 90).into())]), "expired"),
        (with(&[("nbf", (now + 120).into())]), "nbf"),
        (
            with(&[("iat", (now + 120).into()), ("nbf", (now + 120).into())]),
            "skew",
        ),
        (with(&[("exp", (now + 100_000_000).into())]), "24 hours"),
        (with(&[("exp", Value::Null)]), "exp"),
        (with(&[("repository", Value::Null)]), "repository"),
        (with(&[("repository", "acme/web/../lax".into())]), "repository"),
        (with(&[("repository_owner", "other".into())]), "repository"),
    ];
    // The issuer of another deployment, however good its own keys are.
    let foreign = stranger
        .sign(&stranger.claims("acme/web", "ci.yml", AUDIENCE))
        .unwrap();
    let posing = stranger.sign(&claims(&issuer)).unwrap();
    let cases = cases
        .into_iter()
        .chain([(foreign, "stranger.test"), (posing, "signature")]);
    // Each address has ten tries before it is told to wait.
    for (index, (token, why)) in cases.enumerate() {
        refused(&fleet, index / 5, &token, why).await;
    }
    assert_eq!(
        stranger.jwks_requests(),
        0,
        "nobody asks an issuer that is not configured"
    );
    for runner in 0..3 {
        assert_eq!(fleet.reached(runner, &NAMES).await, <[&str; 0]>::default());
    }
}

#[tokio::test]
async fn signatures_that_do_not_fit_are_refused() {
    let (lab, issuer) = lab_and_issuer(3);
    let fleet = fleet(&lab, &issuer).await;
    let claims = claims(&issuer);
    let good = issuer.sign(&claims).unwrap();
    let (message, _) = good.rsplit_once('.').unwrap();
    let other = issuer
        .sign(&issuer.claims("acme/lax", "ci.yml", AUDIENCE))
        .unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    for (index, (token, why)) in [
        (issuer.token().bad_signature().sign(&claims).unwrap(), "signature"),
        (format!("{message}.{signature}"), "signature"),
        (format!("{message}."), ""),
        (issuer.token().alg("none").sign(&claims).unwrap(), "algorithm"),
        (issuer.token().alg("HS256").sign(&claims).unwrap(), "algorithm"),
        (issuer.token().alg("PS256").sign(&claims).unwrap(), "algorithm"),
        (issuer.token().kid(None).sign(&claims).unwrap(), "kid"),
        (issuer.token().kid(Some("../key-1")).sign(&claims).unwrap(), "key"),
        (
            issuer.token().header("crit", json!(["x"])).sign(&claims).unwrap(),
            "crit",
        ),
        (
            issuer
                .token()
                .header("jku", "https://stranger.test/jwks".into())
                .bad_signature()
                .sign(&claims)
                .unwrap(),
            "signature",
        ),
        ("a.b.c".to_owned(), "JWT"),
        (format!("{}.{}", "x".repeat(20_000), good), "bytes"),
    ]
    .into_iter()
    .enumerate()
    {
        refused(&fleet, index / 5, &token, why).await;
    }
}

#[tokio::test]
async fn clocks_may_differ_by_the_leeway() {
    let (lab, issuer) = lab_and_issuer(3);
    let fleet = fleet(&lab, &issuer).await;
    let now = claims(&issuer)["iat"].as_i64().unwrap();
    for (runner, early, late) in [(0, 40, 340), (1, -330, -30), (2, 0, 1)] {
        let mut claims = claims(&issuer);
        claims["iat"] = (now + early).into();
        claims["nbf"] = (now + early).into();
        claims["exp"] = (now + late).into();
        let token = issuer.sign(&claims).unwrap();
        fleet.try_register(runner, None, &start(&token)).await.expect(201);
        assert_eq!(
            fleet.reached(runner, &NAMES).await,
            ["cdn-a.test"],
            "{early} {late}"
        );
    }
}

/// An issuer rotates its keys: a key that is not known is asked for, and one that was withdrawn is no good any more.
#[tokio::test]
async fn a_key_that_was_rotated_in_is_good_and_one_that_nobody_has_is_not() {
    let (lab, issuer) = lab_and_issuer(3);
    let fleet = fleet(&lab, &issuer).await;
    issuer.rotate(KeyKind::Es256).unwrap();
    let token = issuer.sign(&claims(&issuer)).unwrap();
    fleet.try_register(0, None, &start(&token)).await.expect(201);
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    let third = issuer.rotate(KeyKind::Rs256).unwrap();
    issuer.withdraw(&third);
    let unpublished = issuer.token().key(&third).sign(&claims(&issuer)).unwrap();
    refused(&fleet, 1, &unpublished, "key-3").await;
    let asked = issuer.jwks_requests();
    // A stream of made-up keys is no way to make control ask without end.
    for _ in 0..5 {
        let made_up = issuer
            .token()
            .key(&third)
            .kid(Some("made-up"))
            .sign(&claims(&issuer))
            .unwrap();
        refused(&fleet, 1, &made_up, "made-up").await;
    }
    assert!(
        issuer.jwks_requests() <= asked + 1,
        "{asked}, then {}",
        issuer.jwks_requests()
    );
    let old = issuer.token().key("key-1").sign(&claims(&issuer)).unwrap();
    fleet.try_register(2, None, &start(&old)).await.expect(201);
}

/// A guesser is told to wait; who sits beside it is not.
#[tokio::test]
async fn wrong_credentials_are_rate_limited_by_address() {
    let (lab, issuer) = lab_and_issuer(2);
    let fleet = fleet(&lab, &issuer).await;
    let door = fleet.door(0);
    let mut last = None;
    for _ in 0..15 {
        let answer = door
            .call(
                "POST",
                "/v1/jobs",
                Some("tgr_guess"),
                Some(&json!({"repo": "acme/web"})),
            )
            .await
            .unwrap();
        last = Some(problem(&answer));
        if answer.status == 429 {
            assert!(
                answer
                    .header("retry-after")
                    .is_some_and(|wait| wait.parse::<u64>().is_ok()),
                "{answer}"
            );
            break;
        }
        assert_eq!(answer.status, 401, "{answer}");
    }
    assert_eq!(last, Some((429, "rate-limited".to_owned())));
    fleet.register(1, "acme/web", "ci.yml").await;
    assert_eq!(fleet.reached(1, &NAMES).await, ["cdn-a.test"]);
}

/// An issuer that is down does not stop jobs whose keys are known.
#[tokio::test]
async fn an_issuer_that_is_down_stops_nobody_whose_key_is_known() {
    let (lab, issuer) = lab_and_issuer(2);
    let fleet = fleet(&lab, &issuer).await;
    issuer.set_down(true);
    let token = issuer.sign(&claims(&issuer)).unwrap();
    fleet.try_register(0, None, &start(&token)).await.expect(201);
    issuer.rotate(KeyKind::Rs256).unwrap();
    let token = issuer.sign(&claims(&issuer)).unwrap();
    refused(&fleet, 1, &token, "key-2").await;
}
