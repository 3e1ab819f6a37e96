//! Tokens of a trusted issuer that are large, odd or garbage.

use proptest::prelude::*;

use super::*;

#[test]
fn a_token_has_a_largest_size() {
    let padded = |size: usize| {
        let mut claims = claims();
        claims["pad"] = json!("x".repeat(size));
        signed(&claims)
    };
    let fits = padded(11_000);
    assert!(fits.len() <= MAX_TOKEN && check(&fits).is_ok(), "{}", fits.len());
    let huge = padded(12_000);
    assert_eq!(check(&huge), Err(OidcError::TooLarge(huge.len())));
    // White space around it doesn't count.
    let blank = " ".repeat(2 * MAX_TOKEN);
    assert!(check(&format!("{fits}{blank}")).is_ok());
}

#[test]
fn what_is_no_token_is_told_so() {
    for text in [
        "",
        "x",
        "a.b",
        "....",
        "a.b.c.d",
        "Bearer e30.e30.e30",
        "e30.e30.e30",
        "é.é.é",
    ] {
        let error = check(text).unwrap_err();
        assert!(matches!(error, OidcError::Malformed(_)), "{text}: {error}");
    }
    // JSON that is not an object, after a good header.
    let header = part(&json!({"alg": "ES256", "kid": "ec"}));
    for claims in [json!(null), json!([]), json!("x"), json!(7)] {
        let token = sign_parts(&header, &part(&claims), &EC, Algorithm::ES256);
        assert!(check(&token).is_err(), "{claims}");
    }
}

#[test]
fn a_claim_that_comes_twice_is_refused() {
    let header = part(&json!({"alg": "ES256", "kid": "ec"}));
    let text = claims().to_string();
    for more in [
        r#""repository":"Acme/secret""#,
        r#""iss":"https://token.forge.example""#,
        r#""exp":1"#,
    ] {
        let twice = format!("{{{more},{}", &text[1..]);
        let token = sign_parts(&header, &URL_SAFE_NO_PAD.encode(twice), &EC, Algorithm::ES256);
        let error = check(&token).unwrap_err();
        assert!(error.to_string().contains("duplicate field"), "{error}");
    }
    let twice = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"ec","alg":"ES256"}"#);
    let token = sign_parts(&twice, &part(&claims()), &EC, Algorithm::ES256);
    assert!(matches!(check(&token), Err(OidcError::Malformed(_))));
}

#[test]
fn claims_of_the_wrong_type_are_refused() {
    for (claim, value) in [
        ("repository", json!(7)),
        ("iss", json!([ISSUER])),
        ("exp", json!("1772366400")),
        ("exp", json!(true)),
        ("jti", json!({})),
        ("actor", json!(["octocat"])),
        ("run_id", json!(-1)),
        ("aud", json!({"tidegate": true})),
    ] {
        let error = refused(claim, value);
        assert!(matches!(error, OidcError::Claims(_)), "{claim}: {error}");
    }
}

#[test]
fn claims_that_can_not_be_right_are_named() {
    let far = json!(1e300);
    for (claim, value) in [
        ("repository", json!("acme")),
        ("repository", json!("acme/web/deep")),
        ("repository", json!("acme/")),
        ("repository", json!("acme/..")),
        ("repository", json!("acme/we b")),
        ("repository", json!("acmé/web")),
        ("repository_owner", json!("evil")),
        ("run_attempt", json!("first")),
        ("actor", json!("a\u{1b}[2J")),
        ("event_name", json!("x".repeat(256))),
        ("ref", json!("refs/heads/\n")),
        ("jti", json!("x".repeat(300))),
        ("runner_environment", json!("\0")),
        ("exp", far.clone()),
        ("exp", json!(u64::MAX)),
        ("nbf", far.clone()),
        ("iat", json!(-1e300)),
    ] {
        let error = refused(claim, value.clone());
        assert!(
            matches!(&error, OidcError::BadClaim { claim: named, .. } if *named == claim),
            "{claim} {value}: {error}"
        );
        assert!(error.to_string().len() < 1200, "{error}");
    }
    assert_eq!(
        refused("repository", Value::Null),
        OidcError::MissingClaim("repository")
    );
}

#[test]
fn claims_that_may_be_absent_or_written_otherwise() {
    for claim in [
        "repository_owner",
        "workflow_ref",
        "run_id",
        "run_attempt",
        "event_name",
        "ref",
        "actor",
        "sub",
    ] {
        check(&signed(&with(claim, Value::Null))).unwrap();
    }
    let job = check(&signed(&with("run_attempt", json!(3)))).unwrap();
    assert_eq!(job.identity.run_attempt, 3);
    let job = check(&signed(&with("exp", json!(NOW as f64 + 10.5)))).unwrap();
    assert_eq!(job.expires_at.as_second(), NOW + 10 + LEEWAY_SECONDS);
    let job = check(&signed(&with("actor", json!("dependabot[bot]")))).unwrap();
    assert_eq!(job.identity.actor, "dependabot[bot]");
}

#[test]
fn a_key_set_is_cut_down_to_what_can_verify() {
    let good = public(&EC, Algorithm::ES256, "ec");
    let mut nameless = good.clone();
    nameless.common.key_id = None;
    let mut bare = good.clone();
    bare.common.key_algorithm = None;
    bare.common.key_id = Some("bare".into());
    let strange: Jwk = serde_json::from_value(json!({"kty": "PQC", "kid": "new", "p": 1})).unwrap();
    let weak: Jwk =
        serde_json::from_value(json!({"kty": "RSA", "kid": "weak", "n": "A".repeat(171), "e": "AQAB"}))
            .unwrap();
    let kept = usable_keys(JwkSet {
        keys: vec![nameless, strange, weak, good.clone(), bare],
    });
    let names: Vec<_> = kept
        .keys
        .iter()
        .filter_map(|key| key.common.key_id.as_deref())
        .collect();
    assert_eq!(names, ["ec", "bare"]);
    let many = usable_keys(JwkSet {
        keys: vec![good; MAX_KEYS + 10],
    });
    assert_eq!(many.keys.len(), MAX_KEYS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn garbage_is_refused_without_a_panic(text in "\\PC{0,200}", parts in prop::collection::vec("[A-Za-z0-9_-]{0,80}", 3)) {
        prop_assert!(check(&text).is_err());
        prop_assert!(check(&parts.join(".")).is_err());
        let header = part(&json!({"alg": "ES256", "kid": "ec"}));
        let random = format!("{header}.{}.{}", parts[1], parts[2]);
        prop_assert!(check(&random).is_err());
        let any = format!("{header}.{}.{}", URL_SAFE_NO_PAD.encode(&text), parts[2]);
        prop_assert!(check(&any).is_err());
    }

    #[test]
    fn any_signed_text_is_read_or_refused(claim in "[a-z_]{2,16}", text in "\\PC{0,40}", number in any::<f64>()) {
        let _ = check(&signed(&with(&claim, json!(text))));
        for claim in ["exp", "nbf", "iat", "run_id", "run_attempt"] {
            let _ = check(&signed(&with(claim, json!(number))));
        }
        for claim in ["repository", "workflow_ref", "ref"] {
            let _ = check(&signed(&with(claim, json!(text))));
        }
    }
}
