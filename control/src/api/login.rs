//! Ways to log in, and the way to the issuer where one is configured.
//!
//! Owns what [`crate::login`]'s outcomes mean for who asks. Everybody may ask; work at the issuer has its turns, and what
//! comes back wrong is counted as a wrong token is.

use axum::extract::State;
use axum::http::{Extensions, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Code, Refused};
use super::state::ApiState;
use super::turns::Bounds;
use crate::login::{Login, LoginError, Person, Returned};
use crate::model::Proven;

/// Logins that ask the issuer.
pub(super) const LOGINS: Bounds = Bounds {
    what: "logins",
    at_once: 16,
    waiting: 64,
    again: 2,
};

/// How people log in here.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LoginMethods {
    /// By showing a token; always true.
    token: bool,
    /// At an issuer, where one is configured.
    oidc: Option<LoginIssuer>,
}

/// An issuer where people log in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LoginIssuer {
    /// Its URL.
    issuer: String,
    /// Its host, for people.
    name: String,
    /// Where it sends browsers back to; to be registered there.
    callback: String,
}

/// A login that was begun.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LoginAttempt {
    /// Where the browser goes.
    url: String,
    /// What has to be shown together with the code: kept by who began, and by nobody else.
    attempt: String,
    /// Until when.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// How people can log in here.
#[utoipa::path(get, path = "/login-methods", tag = "sessions", responses((status = 200, body = LoginMethods)))]
pub(super) async fn login_methods(State(state): State<ApiState>) -> Response {
    let oidc = state.login.as_ref().map(|login| LoginIssuer {
        issuer: login.issuer().to_owned(),
        name: login.host().to_owned(),
        callback: login.callback(),
    });
    axum::Json(LoginMethods { token: true, oidc }).into_response()
}

/// Begins a login at the issuer: where to send the browser, and what to keep until it comes back.
///
/// The issuer sends it to `/ui/oidc/callback` with `code` and `state`; with the attempt they make a session
/// (`POST /sessions`) within ten minutes.
#[utoipa::path(post, path = "/login-attempts", tag = "sessions", responses((status = 201, body = LoginAttempt)))]
pub(super) async fn begin_login(State(state): State<ApiState>) -> Result<Response, Refused> {
    let login = configured(&state)?;
    let _turn = state.logins.take().await?;
    let begun = login.begin(state.now()).await.map_err(refused)?;
    let begun = LoginAttempt {
        url: begun.url,
        attempt: begun.attempt,
        expires_at: begun.expires_at,
    };
    Ok((StatusCode::CREATED, axum::Json(begun)).into_response())
}

/// Who came back from the issuer.
pub(super) async fn returned(
    state: &ApiState,
    returned: Returned<'_>,
    extensions: &Extensions,
) -> Result<Person, Refused> {
    let login = configured(state)?;
    let crowded = state.authenticator.crowded_login(extensions).await?;
    let _turn = state.logins.take().await?;
    login.finish(returned, state.now()).await.map_err(|error| {
        let refused = refused(error);
        match refused.status() {
            401 => state.authenticator.wrong(extensions, crowded, refused),
            _ => refused,
        }
    })
}

impl From<Person> for Proven {
    fn from(person: Person) -> Self {
        Self::Person {
            person: person.person,
            name: person.name,
            role: person.role,
            owners: person.owners,
        }
    }
}

fn configured(state: &ApiState) -> Result<&Login, Refused> {
    state.login.as_deref().ok_or_else(|| {
        let detail = "nobody logs in at an issuer here: none is configured (`control.login`); show a token";
        Refused::not_found(detail)
    })
}

fn refused(error: LoginError) -> Refused {
    let detail = error.to_string();
    match error {
        LoginError::Attempt(_) | LoginError::Code(_) | LoginError::Token(_) => {
            Refused::unauthorized(Some("invalid_token"), detail)
        }
        LoginError::NoGroup { .. } => Refused::forbidden(detail),
        LoginError::Issuer { .. } => {
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, detail).retry_after(5)
        }
    }
}
