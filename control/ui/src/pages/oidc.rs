//! Signing in at an issuer: the way there and the way back.
//!
//! Owns the cookie that ties the two together. Whether who comes back may come in is the API's to say.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::header::SET_COOKIE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Problem};
use crate::pages::login::{refused, signed_in};
use crate::text::{local, url};
use crate::{Ui, cookies, session};

/// Between the attempt, its state and where its person wants to go, in the cookie. None has it: two are base64url, the
/// last is percent-encoded by [`url`].
const BETWEEN: char = '|';
/// Characters of a cookie that every browser keeps: 4096 with its name and attributes (RFC 6265 §6.1).
const MOST_KEPT: usize = 3_500;

/// What an issuer says instead of a code (RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6), in our words. Whoever makes a
/// link may write anything there, so nothing else of it is shown.
const ERRORS: &[(&str, &str)] = &[
    (
        "access_denied",
        "the issuer says that the login was declined (access_denied)",
    ),
    (
        "account_selection_required",
        "the issuer wants an account to be chosen first (account_selection_required)",
    ),
    (
        "consent_required",
        "the issuer wants a consent first (consent_required)",
    ),
    (
        "interaction_required",
        "the issuer has a question first (interaction_required)",
    ),
    (
        "login_required",
        "the issuer wants a login there first (login_required)",
    ),
    (
        "invalid_request",
        "the issuer does not understand how Tidegate asks (invalid_request); an admin looks at its log",
    ),
    (
        "invalid_scope",
        "the issuer does not give what `control.login.scopes` names (invalid_scope); an admin mends it",
    ),
    (
        "unauthorized_client",
        "the issuer does not let this client sign people in (unauthorized_client); an admin registers it there",
    ),
    (
        "unsupported_response_type",
        "the issuer gives this client no codes (unsupported_response_type); an admin registers it there",
    ),
    (
        "server_error",
        "something failed at the issuer (server_error); try again in a moment",
    ),
    (
        "temporarily_unavailable",
        "the issuer is busy (temporarily_unavailable); try again in a moment",
    ),
];

pub(crate) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/oidc/start", get(start))
        .route("/ui/oidc/callback", get(callback))
}

#[derive(Debug, Default, Deserialize)]
struct Asked {
    #[serde(default)]
    next: String,
}

#[derive(Debug, Deserialize)]
struct Begun {
    url: String,
    attempt: String,
}

impl Begun {
    /// What the issuer has to send back: base64url, so it stands in the address as it is. The API puts its parameters
    /// behind those that the issuer's address has.
    fn state(&self) -> &str {
        let mut pairs = self.url.rsplit(['?', '&']);
        pairs
            .find_map(|pair| pair.strip_prefix("state="))
            .unwrap_or_default()
    }
}

/// Sends the browser to the issuer. A link and no form: the answer leads to another site.
async fn start(State(ui): State<Ui>, Query(asked): Query<Asked>, parts: Parts) -> Result<Response, Failure> {
    let api = session::anonymous(&ui, &parts);
    let next = local(&asked.next).into_owned();
    let begun: Begun = match api.post(&url(&["login-attempts"], &[]), &()).await {
        Ok(reply) => reply.json()?,
        Err(problem) => return refused(&ui, &parts, next, problem).await,
    };
    let kept = kept(&begun, &next);
    let cookie = cookies::attempt(ui.settings.secure, &kept)
        .ok_or_else(|| Problem::own("the login can't be kept in a cookie"))?;
    let mut response = Redirect::to(&begun.url).into_response();
    response.headers_mut().append(SET_COOKIE, cookie);
    Ok(response)
}

/// What the cookie holds. An address that it can't carry, or would be too long with, is forgotten.
fn kept(begun: &Begun, next: &str) -> String {
    let tie = format!("{}{BETWEEN}{}", begun.attempt, begun.state());
    let whole = format!("{tie}{BETWEEN}{next}");
    if whole.len() > MOST_KEPT || cookies::attempt(true, &whole).is_none() {
        return tie;
    }
    whole
}

/// What the issuer sends back (OpenID Connect Core §3.1.2.5 and 6). Further parameters are the issuer's own.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Returned {
    code: String,
    state: String,
    error: String,
}

#[derive(Debug, Serialize)]
struct Login<'a> {
    attempt: &'a str,
    code: &'a str,
    state: &'a str,
}

/// Takes who comes back, and goes where they wanted.
async fn callback(
    State(ui): State<Ui>,
    Query(returned): Query<Returned>,
    parts: Parts,
) -> Result<Response, Failure> {
    let secure = ui.settings.secure;
    let begun = Attempt::of(&parts.headers, secure);
    let is_its_end = begun.is_of(&returned.state);
    let next = begun.next;
    let mut response = if returned.error.is_empty() {
        let login = Login {
            attempt: &begun.text,
            code: &returned.code,
            state: &returned.state,
        };
        let api = session::anonymous(&ui, &parts);
        match session::open_by(&api, &login).await {
            Ok(token) => signed_in(&ui, &token, &next)?,
            Err(problem) => refused(&ui, &parts, next, problem).await?,
        }
    } else {
        refused(&ui, &parts, next, declined(&returned.error, is_its_end)).await?
    };
    // An attempt is for one way back; a link that somebody else made ends none.
    if is_its_end && let Some(gone) = cookies::gone(secure, cookies::attempt_name(secure)) {
        response.headers_mut().append(SET_COOKIE, gone);
    }
    Ok(response)
}

/// What this browser began.
struct Attempt {
    /// For the API; empty when it began nothing.
    text: String,
    /// What its issuer sends back.
    state: String,
    /// Where it wants to go.
    next: String,
}

impl Attempt {
    fn of(headers: &HeaderMap, secure: bool) -> Self {
        let kept = cookies::read(headers, cookies::attempt_name(secure)).unwrap_or_default();
        let mut pieces = kept.splitn(3, BETWEEN).map(str::to_owned);
        let mut piece = || pieces.next().unwrap_or_default();
        let (text, state, next) = (piece(), piece(), piece());
        Self {
            text,
            state,
            next: local(&next).into_owned(),
        }
    }

    /// True when this way back is the one that it waits for.
    fn is_of(&self, state: &str) -> bool {
        !self.state.is_empty() && self.state == state
    }
}

/// The issuer sends somebody back without a code, or somebody made a link that looks so.
fn declined(error: &str, is_its_end: bool) -> Problem {
    let known = ERRORS.iter().find(|(code, _)| *code == error);
    let detail = match known {
        _ if !is_its_end => "this is no answer to a login that was begun in this browser; begin one here",
        Some((_, words)) => words,
        None => "the issuer did not sign you in, for a reason of its own; its log says more",
    };
    Problem::new(StatusCode::FORBIDDEN, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_makes_the_cookie_too_long_is_forgotten() {
        let begun = Begun {
            url: "https://idp.test/auth?state=old&client_id=x&state=s1&nonce=n".into(),
            attempt: "a1".into(),
        };
        assert_eq!(kept(&begun, "/ui/runs?search=x"), "a1|s1|/ui/runs?search=x");
        let room = MOST_KEPT - "a1|s1|".len();
        assert_eq!(kept(&begun, &"x".repeat(room)).len(), MOST_KEPT);
        assert_eq!(kept(&begun, &"x".repeat(room + 1)), "a1|s1");
        assert_eq!(kept(&begun, "/ui/;"), "a1|s1");
    }
}
