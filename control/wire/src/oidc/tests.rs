//! Shows what a good token says, and that every way of forging or bending one is refused with its own sentence.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod forged;
mod odd;
mod people;
mod refs;

use std::sync::LazyLock;

use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use serde_json::{Value, json};
use tidegate_policy::job::Assurance;

use super::*;

const ISSUER: &str = "https://token.forge.example";
const AUDIENCE: &str = "tidegate";

/// 2026-03-01T12:00:00Z.
const NOW: i64 = 1_772_366_400;

/// An issuer's keys: made once, because an RSA key takes a while.
static RSA: LazyLock<EncodingKey> = LazyLock::new(|| {
    let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap()
});
static EC: LazyLock<EncodingKey> = LazyLock::new(ec_key);

fn ec_key() -> EncodingKey {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// The public half of a key, named.
fn public(key: &EncodingKey, algorithm: Algorithm, kid: &str) -> Jwk {
    let mut jwk = Jwk::from_encoding_key(key, algorithm).unwrap();
    jwk.common.key_id = Some(kid.into());
    jwk
}

fn issuer() -> Issuer {
    Issuer {
        issuer: ISSUER.into(),
        audience: AUDIENCE.into(),
        owners: Vec::new(),
        jwks: JwkSet {
            keys: vec![
                public(&RSA, Algorithm::RS256, "rsa"),
                public(&EC, Algorithm::ES256, "ec"),
            ],
        },
    }
}

/// A token's claims as GitHub writes them.
fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "repo:Acme/Web:ref:refs/heads/main",
        "jti": "6f4d1c5e-0001", "exp": NOW + 300, "nbf": NOW - 300, "iat": NOW,
        "repository": "Acme/Web", "repository_owner": "Acme", "repository_id": "74",
        "workflow": "Continuous integration",
        "workflow_ref": "Acme/Web/.github/workflows/ci.yml@refs/heads/main",
        "job_workflow_ref": "Acme/shared/.github/workflows/called.yml@refs/heads/main",
        "run_id": "9876543210", "run_number": "12", "run_attempt": "2",
        "event_name": "push", "ref": "refs/heads/main", "ref_type": "branch",
        "actor": "octocat", "runner_environment": "self-hosted"
    })
}

/// The claims with one of them changed; `null` takes it away.
fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    let all = claims.as_object_mut().unwrap();
    if value.is_null() {
        all.remove(claim);
    } else {
        all.insert(claim.into(), value);
    }
    claims
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Signs exactly this header and these claims.
fn sign(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    sign_parts(&part(header), &part(claims), key, algorithm)
}

fn sign_parts(header: &str, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let signed = format!("{header}.{claims}");
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

fn signed(claims: &Value) -> String {
    let header = json!({"typ": "JWT", "alg": "ES256", "kid": "ec"});
    sign(&header, claims, &EC, Algorithm::ES256)
}

fn check(token: &str) -> Result<VerifiedJob, OidcError> {
    verify(token, &[issuer()], now())
}

/// The error of a well signed token with one claim changed.
fn refused(claim: &str, value: Value) -> OidcError {
    check(&signed(&with(claim, value))).unwrap_err()
}

#[test]
fn a_good_token_names_its_job_in_both_algorithms() {
    let header = json!({"typ": "JWT", "alg": "RS256", "x5t": "x", "kid": "rsa"});
    for token in [
        signed(&claims()),
        sign(&header, &claims(), &RSA, Algorithm::RS256),
    ] {
        let job = check(&format!("{token}\n")).unwrap();
        let who = &job.identity;
        assert_eq!((&*who.owner, &*who.repo), ("acme", "acme/web"));
        assert_eq!(who.workflow, "ci.yml");
        assert_eq!((&*who.run_id, who.run_attempt), ("9876543210", 2));
        assert_eq!((&*who.event, &*who.git_ref), ("push", "refs/heads/main"));
        assert_eq!((&*who.actor, who.assurance), ("octocat", Assurance::Signed));
        assert_eq!((&*who.job, &*who.runner_name, &*who.cluster), ("", "", ""));
        assert_eq!(
            (job.issuer.as_str(), job.jti.as_deref()),
            (ISSUER, Some("6f4d1c5e-0001"))
        );
        assert_eq!(job.expires_at.as_second(), NOW + 300 + LEEWAY_SECONDS);
        assert_eq!(job.runner_environment, "self-hosted");
    }
}

#[test]
fn the_audience_may_be_one_of_a_list_and_one_of_several_configured() {
    assert!(check(&signed(&with("aud", json!(["other", AUDIENCE])))).is_ok());
    let mut second = issuer();
    second.audience = "tidegate-2".into();
    let token = signed(&with("aud", json!("tidegate-2")));
    assert!(verify(&token, &[issuer(), second], now()).is_ok());
    let error = refused("aud", json!(["https://forge.example/acme", "sts"]));
    assert_eq!(
        error.to_string(),
        "the token is meant for \"https://forge.example/acme, sts\", expected the audience \"tidegate\""
    );
    // A part of the audience is not the audience.
    assert!(matches!(
        refused("aud", json!("tidegate-")),
        OidcError::Audience { .. }
    ));
    assert_eq!(refused("aud", Value::Null), OidcError::MissingClaim("aud"));
    assert!(matches!(refused("aud", json!([])), OidcError::Audience { .. }));
    assert!(matches!(
        refused("aud", json!(vec!["x"; 17])),
        OidcError::BadClaim { claim: "aud", .. }
    ));
}

#[test]
fn times_are_judged_with_a_minute_of_skew() {
    for (claim, inside, outside) in [
        ("exp", NOW - LEEWAY_SECONDS + 1, NOW - LEEWAY_SECONDS),
        ("nbf", NOW + LEEWAY_SECONDS, NOW + LEEWAY_SECONDS + 1),
        ("iat", NOW + LEEWAY_SECONDS, NOW + LEEWAY_SECONDS + 1),
        ("exp", NOW + MAX_LIFE_SECONDS, NOW + MAX_LIFE_SECONDS + 1),
    ] {
        check(&signed(&with(claim, json!(inside)))).unwrap();
        let at = Timestamp::from_second(outside).unwrap();
        let error = refused(claim, json!(outside));
        assert!(error.to_string().contains(&at.to_string()), "{claim}: {error}");
    }
    assert_eq!(
        refused("exp", json!(NOW - 3600)).to_string(),
        "the token expired at 2026-03-01T11:00:00Z, and it is 2026-03-01T12:00:00Z (60 s of skew are tolerated)"
    );
    assert!(matches!(
        refused("iat", json!(NOW + 3600)),
        OidcError::NotYetValid { claim: "iat", .. }
    ));
    assert!(matches!(
        refused("exp", json!(NOW + 90_000)),
        OidcError::TooLong { .. }
    ));
    assert_eq!(refused("exp", Value::Null), OidcError::MissingClaim("exp"));
    for optional in ["nbf", "iat"] {
        assert!(check(&signed(&with(optional, Value::Null))).is_ok(), "{optional}");
    }
}

#[test]
fn a_replayed_token_is_known_by_its_jti_or_by_what_was_signed() {
    let first = check(&signed(&claims())).unwrap();
    // ECDSA signs with fresh randomness: another text, the same token.
    let again = check(&signed(&claims())).unwrap();
    assert_eq!(first.replay_key, again.replay_key);
    let other = check(&signed(&with("jti", json!("6f4d1c5e-0002")))).unwrap();
    assert_ne!(first.replay_key, other.replay_key);

    let without = with("jti", Value::Null);
    let (one, two) = (signed(&without), signed(&without));
    assert_ne!(one, two);
    let (one, two) = (check(&one).unwrap(), check(&two).unwrap());
    assert_eq!(one.jti, None);
    assert_eq!(one.replay_key, two.replay_key);
    assert_ne!(one.replay_key, first.replay_key);
    assert_eq!(one.replay_key.len(), 64);
    // An empty id would make all tokens that have one the same token.
    assert_eq!(check(&signed(&with("jti", json!("")))).unwrap().jti, None);
}

#[test]
fn an_issuer_survives_its_record() {
    let text = serde_json::to_string(&issuer()).unwrap();
    let read: Issuer = serde_json::from_str(&text).unwrap();
    assert_eq!(read, issuer());
    verify(&signed(&claims()), &[read], now()).unwrap();
}

/// A forge that many share signs for whoever asks, for the audience that they ask for: a stranger's own repository is
/// nobody here.
#[test]
fn an_issuer_that_is_limited_to_owners_speaks_for_no_other() {
    let limited = |owners: &[&str]| Issuer {
        owners: owners.iter().map(|owner| CompactString::from(*owner)).collect(),
        ..issuer()
    };
    let token = signed(&claims());
    for owners in [&[][..], &["acme"], &["other", "ACME"]] {
        let job = verify(&token, &[limited(owners)], now()).unwrap();
        assert_eq!(job.identity.owner, "acme", "{owners:?}");
    }
    for owners in [&["other"][..], &["acm", "acme2"], &["acme/web"]] {
        let error = verify(&token, &[limited(owners)], now()).unwrap_err();
        let want = OidcError::Owner {
            owner: "acme".into(),
            issuer: ISSUER.into(),
        };
        assert_eq!(error, want, "{owners:?}");
    }
    // For another audience the same issuer may speak for others; that audience is not this token's.
    let elsewhere = Issuer {
        audience: "elsewhere".into(),
        ..limited(&["acme"])
    };
    assert!(verify(&token, &[limited(&["other"]), elsewhere], now()).is_err());
    let text = serde_json::to_string(&issuer()).unwrap();
    assert!(!text.contains("owners"), "older programs read it as ever");
    let read: Issuer = serde_json::from_str(&text).unwrap();
    assert_eq!(read, issuer());
}
