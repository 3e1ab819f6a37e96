//! Owns how people log in at an issuer: its page with a link for each of them,
//! and the exchange of a code for an ID token (OpenID Connect Core 1.0 section
//! 3.1, RFC 7636 with `S256`). A code is good once. No sockets.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};

use super::key::base64;

/// Where browsers log in.
pub(super) const AUTHORIZE: &str = "/authorize";
/// Where a code becomes a token.
pub(super) const TOKEN: &str = "/token";
/// How long an ID token is good, in seconds.
const LIFE: u64 = 300;

/// Who can log in, and the codes that were given and not yet taken.
#[derive(Debug, Default)]
pub(super) struct Logins {
    /// By name, in the order of their links: what the issuer says of each.
    people: Vec<(String, Value)>,
    codes: HashMap<String, Code>,
    given: usize,
}

/// What a code stands for.
#[derive(Debug)]
struct Code {
    person: usize,
    client: String,
    redirect: String,
    nonce: String,
    challenge: String,
}

/// The fields of a query or a form.
type Fields = HashMap<String, String>;

impl Logins {
    /// Another one who can log in, or the same with other claims.
    pub(super) fn admit(&mut self, name: &str, claims: Value) {
        self.people.retain(|(known, _)| known != name);
        self.people.push((name.to_owned(), claims));
    }

    /// The page of [`AUTHORIZE`]: a link for each person, which leads back with a code.
    pub(super) fn page(&mut self, query: &str) -> (StatusCode, String) {
        let asked = fields(query);
        let of = |name: &str| asked.get(name).cloned().unwrap_or_default();
        let is_good = of("response_type") == "code"
            && of("code_challenge_method") == "S256"
            && of("scope").split(' ').any(|scope| scope == "openid");
        if !is_good
            || ["client_id", "redirect_uri", "state", "nonce", "code_challenge"]
                .iter()
                .any(|name| of(name).is_empty())
        {
            return (
                StatusCode::BAD_REQUEST,
                format!("this is no request to log in: {asked:?}"),
            );
        }
        let mut links = String::new();
        for person in 0..self.people.len() {
            self.given += 1;
            // Nobody guesses it who is not in the lab.
            let code = base64(digest(&SHA256, format!("{} {}", self.given, of("state")).as_bytes()).as_ref());
            let known = Code {
                person,
                client: of("client_id"),
                redirect: of("redirect_uri"),
                nonce: of("nonce"),
                challenge: of("code_challenge"),
            };
            let state = utf8_percent_encode(&of("state"), NON_ALPHANUMERIC).to_string();
            let address = format!("{}?code={code}&amp;state={state}", known.redirect);
            let name = &self.people[person].0;
            links.extend(["<li><a href=\"", &address, "\">", name, "</a></li>\n"]);
            self.codes.insert(code, known);
        }
        let head = "<!doctype html><html lang=\"en\"><title>Who are you?</title><h1>Who are you?</h1>";
        (StatusCode::OK, format!("{head}<ul>\n{links}</ul></html>\n"))
    }

    /// What [`TOKEN`] is asked for: the claims of the ID token, to be signed; or the refusal (RFC 6749 section 5.2).
    pub(super) fn take(&mut self, issuer: &str, form: &str) -> Result<Value, Value> {
        let asked = fields(form);
        let of = |name: &str| asked.get(name).map(String::as_str).unwrap_or_default();
        let refused = |why: &str| json!({"error": "invalid_grant", "error_description": why});
        let code = self
            .codes
            .remove(of("code"))
            .ok_or_else(|| refused("no such code"))?;
        let verifier = base64(digest(&SHA256, of("code_verifier").as_bytes()).as_ref());
        if of("grant_type") != "authorization_code"
            || of("redirect_uri") != code.redirect
            || verifier != code.challenge
        {
            return Err(refused("the code was given to somebody else"));
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let (name, more) = &self.people[code.person];
        let mut claims = json!({
            "iss": issuer, "aud": code.client, "sub": name, "nonce": code.nonce, "iat": now, "exp": now + LIFE,
        });
        for (claim, value) in more.as_object().into_iter().flatten() {
            claims[claim] = value.clone();
        }
        Ok(claims)
    }
}

/// Reads `application/x-www-form-urlencoded`.
fn fields(text: &str) -> Fields {
    let decoded = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const ISSUER: &str = "https://login.test";
    // RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const QUERY: &str = "response_type=code&client_id=tidegate&redirect_uri=https%3A%2F%2Fa.test%2Fcb&scope=openid+email\
        &state=s%20%3Cs&nonce=n&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";

    fn code(page: &str) -> String {
        let (_, rest) = page.split_once("?code=").unwrap();
        rest.split('&').next().unwrap().to_owned()
    }

    fn form(code: &str, verifier: &str) -> String {
        format!(
            "grant_type=authorization_code&code={code}&redirect_uri=https%3A%2F%2Fa.test%2Fcb&code_verifier={verifier}"
        )
    }

    #[test]
    fn a_code_is_good_once_for_who_asked_for_it() {
        let mut logins = Logins::default();
        logins.admit("alice", json!({"groups": ["sec"]}));
        let (status, page) = logins.page(QUERY);
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("&amp;state=s%20%3Cs\">alice</a>"), "{page}");
        let claims = logins.take(ISSUER, &form(&code(&page), VERIFIER)).unwrap();
        assert_eq!(
            (&claims["sub"], &claims["aud"], &claims["nonce"]),
            (&json!("alice"), &json!("tidegate"), &json!("n"))
        );
        assert_eq!(claims["groups"], json!(["sec"]));
        logins.take(ISSUER, &form(&code(&page), VERIFIER)).unwrap_err();
        let (_, page) = logins.page(QUERY);
        let other = logins.take(ISSUER, &form(&code(&page), "another")).unwrap_err();
        assert_eq!(other["error"], "invalid_grant");
    }

    #[test]
    fn what_asks_for_no_code_with_a_challenge_gets_no_page() {
        let mut logins = Logins::default();
        for (from, to) in [
            ("=code&", "=token&"),
            ("=S256", "=plain"),
            ("scope=openid", "scope=x"),
            ("nonce=n", "nonce="),
        ] {
            assert_eq!(
                logins.page(&QUERY.replace(from, to)).0,
                StatusCode::BAD_REQUEST,
                "{from}"
            );
        }
    }
}
