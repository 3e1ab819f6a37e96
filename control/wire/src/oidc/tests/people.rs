//! Shows who an ID token is taken for, and that one of another issuer, client or login, or of a job, is not taken.

use super::*;
use crate::oidc::person::{Expected, MAX_GROUPS, MAX_ID_TOKEN, VerifiedPerson, verify_person};

const CLIENT: &str = "tidegate-ui";
const NONCE: &str = "n-0S6_WzA2Mj";

fn expected() -> Expected<'static> {
    Expected {
        issuer: ISSUER,
        client_id: CLIENT,
        nonce: NONCE,
        name_claim: None,
        groups_claim: "groups",
    }
}

fn person() -> Value {
    json!({
        "iss": ISSUER, "aud": CLIENT, "sub": "248289761001", "nonce": NONCE,
        "exp": NOW + 300, "iat": NOW, "auth_time": NOW - 5, "email": "ada@acme.example", "email_verified": true,
        "preferred_username": "ada", "groups": ["security", "acme-devs"]
    })
}

fn but(claim: &str, value: Value) -> Value {
    let mut claims = person();
    let all = claims.as_object_mut().unwrap();
    if value.is_null() {
        all.remove(claim);
    } else {
        all.insert(claim.into(), value);
    }
    claims
}

fn read(claims: &Value) -> Result<VerifiedPerson, OidcError> {
    verify_person(&signed(claims), &issuer().jwks, &expected(), now())
}

fn wrong(claim: &str, value: Value) -> OidcError {
    read(&but(claim, value)).unwrap_err()
}

#[test]
fn a_good_one_names_the_person_and_the_groups_in_both_algorithms() {
    let header = json!({"typ": "JWT", "alg": "RS256", "kid": "rsa"});
    for token in [
        signed(&person()),
        sign(&header, &person(), &RSA, Algorithm::RS256),
    ] {
        let person = verify_person(&format!("{token}\n"), &issuer().jwks, &expected(), now()).unwrap();
        assert_eq!(
            (person.subject.as_str(), person.name.as_str()),
            ("248289761001", "ada@acme.example")
        );
        assert_eq!(person.groups, ["security", "acme-devs"]);
    }
}

#[test]
fn it_is_for_this_client_of_this_issuer_and_this_login() {
    let other = wrong("iss", json!("https://token.forge.example/"));
    assert!(matches!(other, OidcError::OtherIssuer { .. }), "{other}");
    assert_eq!(wrong("iss", Value::Null), OidcError::MissingClaim("iss"));
    for aud in [json!("tidegate"), json!([]), json!(["other"]), json!([7])] {
        let error = wrong("aud", aud);
        assert!(matches!(error, OidcError::Audience { .. }), "{error}");
    }
    assert_eq!(wrong("aud", Value::Null), OidcError::MissingClaim("aud"));
    assert!(matches!(wrong("aud", json!({})), OidcError::Claims(_)));
    assert!(matches!(
        wrong("aud", json!(vec![CLIENT; 17])),
        OidcError::Claims(_)
    ));
    let several = wrong("aud", json!([CLIENT, "other"]));
    assert!(matches!(several, OidcError::AuthorizedParty { .. }), "{several}");
    let mut both = but("aud", json!([CLIENT, "other"]));
    both["azp"] = json!(CLIENT);
    read(&both).unwrap();
    read(&but("azp", json!(CLIENT))).unwrap();
    for azp in [json!("other"), json!(7)] {
        assert!(matches!(wrong("azp", azp), OidcError::AuthorizedParty { .. }));
    }
    for nonce in [json!("n-0S6_WzA2Mk"), json!(""), json!("n-0S6_WzA2Mj ")] {
        assert_eq!(wrong("nonce", nonce), OidcError::Nonce);
    }
    assert_eq!(wrong("nonce", Value::Null), OidcError::MissingClaim("nonce"));
    assert_eq!(wrong("nonce", json!([NONCE])), OidcError::MissingClaim("nonce"));
}

#[test]
fn its_times_are_there_and_now() {
    for claim in ["exp", "iat"] {
        assert_eq!(wrong(claim, Value::Null), OidcError::MissingClaim(claim));
        assert!(matches!(wrong(claim, json!("soon")), OidcError::Claims(_)));
    }
    assert!(matches!(
        wrong("exp", json!(NOW - LEEWAY_SECONDS)),
        OidcError::Expired { .. }
    ));
    read(&but("exp", json!(NOW - LEEWAY_SECONDS + 1))).unwrap();
    assert!(matches!(
        wrong("iat", json!(NOW + 61)),
        OidcError::NotYetValid { claim: "iat", .. }
    ));
    assert!(matches!(
        wrong("nbf", json!(NOW + 61)),
        OidcError::NotYetValid { claim: "nbf", .. }
    ));
}

#[test]
fn its_signature_is_by_a_key_of_the_issuer() {
    let header = json!({"alg": "ES256", "kid": "ec"});
    let stranger = ec_key();
    let forged = sign(&header, &person(), &stranger, Algorithm::ES256);
    let check = |token: &str| verify_person(token, &issuer().jwks, &expected(), now()).unwrap_err();
    assert_eq!(check(&forged), OidcError::Signature);
    let good = signed(&person());
    let (head, _) = good.rsplit_once('.').unwrap();
    assert_eq!(check(&format!("{head}.")), OidcError::Signature);
    let unknown = sign(
        &json!({"alg": "ES256", "kid": "new"}),
        &person(),
        &EC,
        Algorithm::ES256,
    );
    assert!(matches!(check(&unknown), OidcError::UnknownKey { .. }));
    let none = format!("{}.{}.", part(&json!({"alg": "none"})), part(&person()));
    assert_eq!(check(&none), OidcError::Algorithm("none".into()));
    let nameless = sign(&json!({"alg": "ES256"}), &person(), &EC, Algorithm::ES256);
    assert_eq!(check(&nameless), OidcError::NoKeyId);
    assert!(matches!(
        check(&"x".repeat(MAX_ID_TOKEN + 1)),
        OidcError::Malformed(_)
    ));
    let twice = person()
        .to_string()
        .replace("\"sub\":", "\"nonce\":\"x\",\"sub\":");
    let twice = sign_parts(
        &part(&header),
        &URL_SAFE_NO_PAD.encode(twice),
        &EC,
        Algorithm::ES256,
    );
    let error = check(&twice);
    assert!(error.to_string().contains("`nonce` comes twice"), "{error}");
}

#[test]
fn a_job_is_no_person_and_a_person_no_job() {
    let mut job = claims();
    job["aud"] = json!(CLIENT);
    assert_eq!(read(&job).unwrap_err(), OidcError::MissingClaim("nonce"));
    let mut jobs = issuer();
    jobs.audience = CLIENT.into();
    let outcome = verify(&signed(&person()), &[jobs], now());
    assert_eq!(outcome.unwrap_err(), OidcError::MissingClaim("repository"));
}

#[test]
fn people_are_called_as_configured_and_never_by_nothing() {
    let name = |claims: &Value, claim: Option<&'static str>| {
        let expected = Expected {
            name_claim: claim,
            ..expected()
        };
        verify_person(&signed(claims), &issuer().jwks, &expected, now()).map(|person| person.name)
    };
    for unverified in [json!(false), json!("false"), json!("False")] {
        assert_eq!(
            name(&but("email_verified", unverified), None).unwrap(),
            "ada",
            "an address that anybody may type is no name"
        );
    }
    let told = but("email_verified", json!("true"));
    assert_eq!(name(&told, None).unwrap(), "ada@acme.example");
    assert_eq!(name(&person(), Some("preferred_username")).unwrap(), "ada");
    assert_eq!(name(&person(), Some("nickname")).unwrap(), "248289761001");
    assert_eq!(name(&but("email", json!("  ")), None).unwrap(), "248289761001");
    assert!(matches!(
        wrong("email", json!("a\nb")),
        OidcError::BadClaim { .. }
    ));
    assert!(matches!(wrong("sub", json!("a\nb")), OidcError::BadClaim { .. }));
    assert_eq!(wrong("sub", Value::Null), OidcError::MissingClaim("sub"));
    assert_eq!(wrong("sub", json!("")), OidcError::MissingClaim("sub"));
    assert!(matches!(
        wrong("sub", json!("x".repeat(256))),
        OidcError::BadClaim { .. }
    ));
}

#[test]
fn groups_are_a_short_list_of_texts() {
    let groups = |value: Value| read(&but("groups", value)).map(|person| person.groups);
    assert_eq!(groups(Value::Null).unwrap(), [""; 0]);
    assert_eq!(groups(json!("one")).unwrap(), ["one"]);
    assert_eq!(groups(json!([])).unwrap(), [""; 0]);
    let most: Vec<String> = (0..MAX_GROUPS).map(|number| format!("g{number}")).collect();
    assert_eq!(groups(json!(most)).unwrap().len(), MAX_GROUPS);
    for odd in [
        json!(7),
        json!({"a": 1}),
        json!([1]),
        json!(["x".repeat(513)]),
        json!(vec!["x"; MAX_GROUPS + 1]),
    ] {
        assert!(matches!(groups(odd), Err(OidcError::Claims(_))));
    }
}
