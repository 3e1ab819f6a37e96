//! Shows that the issuer's tokens are what a relying party takes for good or
//! bad, judged by another implementation, and that it can be reached.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};
use tidegate_lab::{KeyKind, Lab, OidcIssuer, plan};

/// A page of an issuer on loopback.
fn get(issuer: &OidcIssuer, path: &str) -> (u16, Value) {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, issuer.ca_pem().unwrap_or_default()).unwrap();
    let mut curl = Command::new("curl");
    curl.env_clear()
        .args(["-sS", "-w", "\n%{http_code}", "--noproxy", "*"]);
    if issuer.ca_pem().is_some() {
        curl.arg("--cacert").arg(ca);
    }
    let output = curl.arg(format!("{}{path}", issuer.url())).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (
        status.parse().unwrap(),
        serde_json::from_str(body).unwrap_or_else(|_| json!(body)),
    )
}

fn keys(issuer: &OidcIssuer) -> JwkSet {
    serde_json::from_value(get(issuer, "/jwks").1).unwrap()
}

/// As a relying party does it: the key by the `kid`, the algorithm by the key.
fn verify(keys: &JwkSet, token: &str) -> Result<Value, Error> {
    let header = decode_header(token)?;
    let unknown = || Error::from(ErrorKind::InvalidToken);
    let jwk = keys.find(&header.kid.ok_or_else(unknown)?).ok_or_else(unknown)?;
    let alg = jwk.common.key_algorithm.unwrap().to_string().parse()?;
    let mut validation = Validation::new(alg);
    validation.set_audience(&["tidegate"]);
    validation.leeway = 0;
    decode::<Value>(token, &DecodingKey::from_jwk(jwk)?, &validation).map(|token| token.claims)
}

#[test]
fn both_kinds_of_key_sign_what_the_published_key_verifies() {
    for issuer in [
        OidcIssuer::loopback().unwrap(),
        OidcIssuer::loopback_tls().unwrap(),
    ] {
        let claims = issuer.claims("acme/web", "ci.yml", "tidegate");
        let by_rsa = issuer.sign(&claims).unwrap();
        let ec = issuer.rotate(KeyKind::Es256).unwrap();
        let by_ec = issuer.sign(&claims).unwrap();
        assert_eq!(decode_header(&by_ec).unwrap().kid, Some(ec));
        let keys = keys(&issuer);
        assert_eq!(keys.keys.len(), 2);
        for token in [by_rsa, by_ec] {
            let verified = verify(&keys, &token).unwrap();
            assert_eq!(verified, claims);
        }
        assert_eq!(claims["iss"], issuer.url());
        let reference = "acme/web/.github/workflows/ci.yml@refs/heads/main";
        assert_eq!(claims["workflow_ref"], reference);
        assert_ne!(
            claims["jti"],
            issuer.claims("acme/web", "ci.yml", "tidegate")["jti"]
        );
    }
}

#[test]
fn every_bad_token_is_bad_in_its_own_way() {
    let issuer = OidcIssuer::loopback().unwrap();
    let claims = issuer.claims("acme/web", "ci.yml", "tidegate");
    let keys = keys(&issuer);
    let why = |token: Result<String, _>| verify(&keys, &token.unwrap()).unwrap_err().into_kind();
    let token = || issuer.token();
    assert_eq!(
        why(token().bad_signature().sign(&claims)),
        ErrorKind::InvalidSignature
    );
    assert_eq!(why(token().kid(None).sign(&claims)), ErrorKind::InvalidToken);
    assert_eq!(
        why(token().kid(Some("other")).sign(&claims)),
        ErrorKind::InvalidToken
    );
    for alg in ["HS256", "RS512", "PS256"] {
        let kind = why(token().alg(alg).sign(&claims));
        assert_eq!(kind, ErrorKind::InvalidAlgorithm, "{alg}");
    }
    let none = token().alg("none").sign(&claims).unwrap();
    assert!(none.ends_with('.') && verify(&keys, &none).is_err(), "{none}");
    let mut old = claims.clone();
    old["exp"] = json!(claims["iat"].as_u64().unwrap() - 1);
    assert_eq!(why(issuer.sign(&old)), ErrorKind::ExpiredSignature);
    // A key of the same name, but of another issuer.
    let stranger = OidcIssuer::loopback().unwrap();
    assert_eq!(why(stranger.sign(&claims)), ErrorKind::InvalidSignature);
    assert!(token().key("no-such").sign(&claims).is_err());
}

#[test]
fn an_rsa_key_signs_by_the_algorithm_that_the_header_says() {
    let issuer = OidcIssuer::loopback().unwrap();
    let claims = issuer.claims("acme/web", "ci.yml", "tidegate");
    let jwk = keys(&issuer).keys.remove(0);
    for alg in ["RS256", "RS384", "RS512", "PS256"] {
        let token = issuer.token().alg(alg).sign(&claims).unwrap();
        let mut validation = Validation::new(alg.parse().unwrap());
        validation.set_audience(&["tidegate"]);
        let verified = decode::<Value>(&token, &DecodingKey::from_jwk(&jwk).unwrap(), &validation);
        assert!(verified.is_ok(), "{alg}: {verified:?}");
    }
}

#[test]
fn keys_rotate_and_are_withdrawn_and_requests_are_counted() {
    let issuer = OidcIssuer::loopback().unwrap();
    let discovery = "/.well-known/openid-configuration";
    let (status, document) = get(&issuer, discovery);
    assert_eq!((status, &document["issuer"]), (200, &json!(issuer.url())));
    assert_eq!(document["jwks_uri"], format!("{}/jwks", issuer.url()));
    let claims = issuer.claims("acme/web", "ci.yml", "tidegate");
    let early = keys(&issuer);
    let second = issuer.rotate(KeyKind::Rs256).unwrap();
    let token = issuer.sign(&claims).unwrap();
    assert!(
        verify(&early, &token).is_err(),
        "the new key was not published yet"
    );
    assert!(verify(&keys(&issuer), &token).is_ok());
    issuer.withdraw(&second);
    let late = issuer.token().key(&second).sign(&claims).unwrap();
    assert!(verify(&keys(&issuer), &late).is_err());
    assert_eq!((issuer.discovery_requests(), issuer.jwks_requests()), (1, 3));
    issuer.set_down(true);
    assert_eq!(get(&issuer, "/jwks").0, 503);
    issuer.set_down(false);
    issuer.replace("/jwks", Some("{\"keys\": 7}"));
    assert_eq!(get(&issuer, "/jwks"), (200, json!({"keys": 7})));
    issuer.replace("/jwks", None);
    assert_eq!(keys(&issuer).keys.len(), 1);
    assert_eq!(get(&issuer, "/other").0, 404);
    assert_eq!(issuer.jwks_requests(), 6);
}

#[tokio::test]
async fn an_issuer_stands_in_the_labs_internet() {
    let lab = Lab::builder().runners(0).direct().build().unwrap();
    let issuer = lab.oidc_issuer("issuer.test", plan::site(60)).unwrap();
    assert_eq!(issuer.url(), "https://issuer.test");
    for family in ["-4", "-6"] {
        let curl = lab.direct().command("curl");
        let page = curl.args(["-sS", family, "https://issuer.test/jwks"]).run().await;
        let page = page.unwrap().expect_success();
        let keys = serde_json::from_slice(&page.stdout).unwrap();
        let token = issuer.sign(&issuer.claims("acme/web", "ci.yml", "tidegate"));
        verify(&keys, &token.unwrap()).unwrap();
    }
    assert_eq!(issuer.jwks_requests(), 2);
}
