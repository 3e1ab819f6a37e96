//! Tokens that nobody trusted signed, or that were bent after they were.

use super::*;

fn error(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> OidcError {
    check(&sign(header, claims, key, algorithm)).unwrap_err()
}

#[test]
fn no_algorithm_and_foreign_algorithms_are_refused() {
    for alg in [
        "none", "None", "NONE", "", "HS256", "RS512", "PS256", "ES384", "EdDSA", "rs256",
    ] {
        let header = part(&json!({"alg": alg, "kid": "ec"}));
        for signature in ["", "AAAA"] {
            let token = format!("{header}.{}.{signature}", part(&claims()));
            assert_eq!(check(&token), Err(OidcError::Algorithm(alg.into())), "{alg}");
        }
    }
}

/// An RSA key's public bytes.
fn modulus(jwk: &Jwk) -> Vec<u8> {
    let jwk = serde_json::to_value(jwk).unwrap();
    URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap()
}

#[test]
fn a_public_key_is_no_secret_for_hmac() {
    // RFC 8725 §2.1: the verifier takes the RSA key's bytes, which everybody has, for an HMAC secret.
    let jwk = public(&RSA, Algorithm::RS256, "rsa");
    for secret in [serde_json::to_string(&jwk).unwrap().into_bytes(), modulus(&jwk)] {
        let key = EncodingKey::from_secret(&secret);
        let header = json!({"alg": "HS256", "kid": "rsa"});
        assert_eq!(
            error(&header, &claims(), &key, Algorithm::HS256),
            OidcError::Algorithm("HS256".into())
        );
        // The same signature under a header that claims RSA.
        let mut parts: Vec<String> = sign(&header, &claims(), &key, Algorithm::HS256)
            .split('.')
            .map(str::to_owned)
            .collect();
        parts[0] = part(&json!({"alg": "RS256", "kid": "rsa"}));
        assert_eq!(check(&parts.join(".")), Err(OidcError::Signature));
    }
}

#[test]
fn a_symmetric_key_in_the_set_verifies_nothing() {
    let secret = b"0123456789abcdef0123456789abcdef";
    let octets = json!({"kty": "oct", "kid": "k", "k": URL_SAFE_NO_PAD.encode(secret)});
    let mut own = issuer();
    own.jwks.keys = vec![serde_json::from_value(octets).unwrap()];
    let key = EncodingKey::from_secret(secret);
    for alg in ["HS256", "RS256", "ES256"] {
        let token = sign(
            &json!({"alg": alg, "kid": "k"}),
            &claims(),
            &key,
            Algorithm::HS256,
        );
        let error = verify(&token, &[own.clone()], now()).unwrap_err();
        assert!(
            matches!(error, OidcError::Algorithm(_) | OidcError::KeyMismatch { .. }),
            "{alg}: {error}"
        );
    }
    assert!(usable_keys(own.jwks).keys.is_empty());
}

#[test]
fn a_key_serves_its_own_algorithm_only() {
    for (alg, kid) in [("RS256", "ec"), ("ES256", "rsa")] {
        let header = json!({"alg": alg, "kid": kid});
        let error = error(&header, &claims(), &EC, Algorithm::ES256);
        let expected = format!("the issuer's key {kid:?} is not one for {alg} signatures");
        assert_eq!(error.to_string(), expected);
    }
    let header = json!({"alg": "ES256", "kid": "ec"});
    let token = sign(&header, &claims(), &EC, Algorithm::ES256);
    for (field, value) in [("use", "enc"), ("alg", "ES384")] {
        let mut jwk = serde_json::to_value(public(&EC, Algorithm::ES256, "ec")).unwrap();
        jwk[field] = json!(value);
        let mut own = issuer();
        own.jwks.keys = vec![serde_json::from_value(jwk).unwrap()];
        let error = verify(&token, &[own.clone()], now()).unwrap_err();
        assert!(matches!(error, OidcError::KeyMismatch { .. }), "{field}: {error}");
        assert!(usable_keys(own.jwks).keys.is_empty(), "{field}");
    }
}

#[test]
fn an_unknown_key_is_named_so_that_the_set_may_be_fetched() {
    let header = json!({"alg": "ES256", "kid": "rotated"});
    assert_eq!(
        error(&header, &claims(), &EC, Algorithm::ES256),
        OidcError::UnknownKey {
            issuer: ISSUER.into(),
            kid: "rotated".into()
        }
    );
    let header = json!({"alg": "ES256"});
    assert_eq!(
        error(&header, &claims(), &EC, Algorithm::ES256),
        OidcError::NoKeyId
    );
    // Another issuer's key with the same name is another key.
    let mut other = issuer();
    other.issuer = "https://other.example".into();
    other.jwks.keys = vec![public(&EC, Algorithm::ES256, "rotated")];
    let header = json!({"alg": "ES256", "kid": "rotated"});
    let token = sign(&header, &claims(), &EC, Algorithm::ES256);
    let error = verify(&token, &[issuer(), other], now()).unwrap_err();
    assert!(matches!(error, OidcError::UnknownKey { .. }), "{error}");
}

#[test]
fn another_ones_signature_is_refused() {
    let header = json!({"alg": "ES256", "kid": "ec"});
    assert_eq!(
        error(&header, &claims(), &ec_key(), Algorithm::ES256),
        OidcError::Signature
    );
}

#[test]
fn the_issuer_is_compared_exactly() {
    for iss in [
        "https://token.forge.example/",
        "https://TOKEN.forge.example",
        "http://token.forge.example",
        "https://token.forge.example.evil.example",
        "",
    ] {
        let error = refused("iss", json!(iss));
        assert_eq!(error, OidcError::UnknownIssuer(iss.into()));
        assert!(error.to_string().contains(&format!("{iss:?}")), "{error}");
    }
    assert_eq!(refused("iss", Value::Null), OidcError::MissingClaim("iss"));
    assert_eq!(
        verify(&signed(&claims()), &[], now()).unwrap_err(),
        OidcError::UnknownIssuer(ISSUER.into())
    );
}

#[test]
fn every_changed_byte_is_noticed() {
    let token = signed(&claims());
    let good = token.as_bytes();
    for at in 0..good.len() {
        let mut bytes = good.to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let bent = String::from_utf8(bytes).unwrap();
        assert!(check(&bent).is_err(), "byte {at}");
    }
    for end in 0..good.len() {
        assert!(check(&token[..end]).is_err(), "cut at {end}");
    }
    for more in ["A", "=", ".", ".AAAA"] {
        assert!(check(&format!("{token}{more}")).is_err(), "{more}");
    }
}

#[test]
fn claims_of_one_token_do_not_go_with_the_signature_of_another() {
    let token = signed(&claims());
    let (_, signature) = token.rsplit_once('.').unwrap();
    let header = json!({"typ": "JWT", "alg": "ES256", "kid": "ec"});
    let other = format!(
        "{}.{}.{signature}",
        part(&header),
        part(&with("repository", json!("Acme/secret")))
    );
    assert_eq!(check(&other), Err(OidcError::Signature));
}

#[test]
fn critical_extensions_are_not_understood() {
    let header = json!({"alg": "ES256", "kid": "ec", "crit": ["b64"], "b64": false});
    assert_eq!(
        error(&header, &claims(), &EC, Algorithm::ES256),
        OidcError::Critical
    );
}

#[test]
fn a_key_in_the_token_itself_is_not_looked_at() {
    let own = ec_key();
    let header = json!({
        "alg": "ES256", "kid": "ec", "jwk": public(&own, Algorithm::ES256, "ec"), "jku": "https://evil.example/keys"
    });
    assert_eq!(
        error(&header, &claims(), &own, Algorithm::ES256),
        OidcError::Signature
    );
}
