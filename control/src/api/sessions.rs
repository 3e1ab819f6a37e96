//! Sessions: what a browser is logged in by. Made by showing a token, ended by leaving, listed for admins.
//!
//! A session is a bearer like the token that was shown for it, with the same role and owners, but for these: it ends by
//! itself within [`LIFE`] and never outlives its token; it ends at once when its token is taken back; it makes no other
//! session and no admin token. What is done by it stands in histories with its own id beside the name, and the entry
//! `session.created` says which token or which person it came of.

use axum::extract::State;
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tidegate_control_wire::secret::Secret;
use utoipa::{IntoParams, ToSchema};

use super::auth::{Caller, via, wrong_token};
use super::errors;
use super::extract::{Names, Params, SmallJson};
use super::jobs::ById;
use super::lists::{Paging, page_request, searched};
use super::login;
use super::problem::{Code, Refused};
use super::state::ApiState;
use crate::login::Returned;
use crate::model::{NewSession, Page, Proven, Role, Token, TokenFilter, TokenKind};
use crate::store::StoreError;

/// How long a session lives at most.
pub(super) const LIFE: SignedDuration = SignedDuration::from_hours(12);

/// By what somebody logs in: a token, or what came back from the issuer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// A token's text, of the role admin, editor or viewer.
    #[serde(default)]
    token: Option<String>,
    /// The attempt that was begun (`POST /login-attempts`).
    #[serde(default)]
    attempt: Option<String>,
    /// What the issuer sent back with it.
    #[serde(default)]
    code: Option<String>,
    /// What the issuer sent back with the code.
    #[serde(default)]
    state: Option<String>,
}

/// A session that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewSessionText {
    /// Its id, named in histories.
    id: String,
    /// Its text, shown this once: a bearer.
    token: String,
    /// Who it is, in histories.
    name: String,
    /// What it may do.
    #[schema(value_type = String)]
    role: Role,
    /// Owners that it is limited to; empty limits nothing.
    owners: Vec<String>,
    /// When it ends by itself.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Who is asking.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WhoAmI {
    /// Id of the token or session that was shown.
    id: String,
    /// Which of the two.
    kind: TokenKind,
    /// Who it is, in histories.
    name: String,
    /// What it may do.
    #[schema(value_type = String)]
    role: Role,
    /// Owners that it is limited to; empty limits nothing.
    owners: Vec<String>,
    /// The token that a session was made by; absent after a login at an issuer.
    parent: Option<String>,
    /// Who logged in at the issuer, as `ISSUER|SUBJECT`; absent when a token was shown.
    person: Option<String>,
    /// When it ends by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// A session without its text.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionView {
    /// Its id, named in histories.
    id: String,
    /// Who it is, in histories.
    name: String,
    /// What it may do.
    #[schema(value_type = String)]
    role: Role,
    /// Owners that it is limited to; empty limits nothing.
    owners: Vec<String>,
    /// The token that was shown for it.
    parent: Option<String>,
    /// Who logged in at the issuer, as `ISSUER|SUBJECT`.
    person: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it ends, or ended, by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// When somebody ended it.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// When it was last shown, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    /// It is the one that this was asked by.
    current: bool,
}

/// Which sessions are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichSessions {
    /// Good now (`true`), or ended (`false`); both when nothing is said.
    #[serde(default)]
    living: Option<bool>,
    /// Part of the name, in any case, or a whole id.
    #[serde(default)]
    search: Option<String>,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Items at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Logs in: makes a session that lives for 12 hours at most, and never longer than the token that was shown for it.
///
/// By a token, or by `attempt`, `code` and `state` of a login at the issuer, whose groups say which role it has. Its text is shown in this answer and never again.
#[utoipa::path(post, path = "/sessions", tag = "sessions", request_body = Login,
    responses((status = 201, body = NewSessionText)))]
pub(super) async fn create_session(
    State(state): State<ApiState>,
    headers: HeaderMap,
    extensions: Extensions,
    SmallJson(login): SmallJson<Login>,
) -> Result<Response, Refused> {
    let (proven, role) = match (&login.token, &login.attempt, &login.code, &login.state) {
        (Some(token), None, None, None) => {
            let token = state.authenticator.shown(token, &extensions).await?;
            check_may_log_in(&token)?;
            (Proven::Token(token.id.clone()), token.role)
        }
        (None, Some(attempt), Some(code), Some(back)) => {
            let returned = Returned {
                attempt,
                code,
                state: back,
            };
            let person = login::returned(&state, returned, &extensions).await?;
            let role = person.role;
            (Proven::from(person), role)
        }
        _ => {
            let detail = "say `token`, or `attempt`, `code` and `state` of a login at the issuer";
            return Err(Refused::invalid("token", detail));
        }
    };
    begin(&state, proven, role, via(&headers)).await
}

/// Makes the session.
async fn begin(state: &ApiState, proven: Proven, role: Role, via: &str) -> Result<Response, Refused> {
    let secret = Secret::session(role);
    let wanted = NewSession {
        proven,
        expires_at: state.now().checked_add(LIFE).unwrap_or(Timestamp::MAX),
    };
    let made = state.store.create_session(&wanted, &secret.digest(), via).await;
    let (session, displaced) = match made {
        Ok(made) => made,
        // Taken back by somebody, after it was looked up.
        Err(StoreError::NotFound { .. }) => return Err(wrong_token()),
        Err(error) => return Err(errors::of_body(error)),
    };
    if displaced > 0 {
        state.authenticator.forget();
    }
    let made = NewSessionText {
        id: session.id,
        token: secret.expose().to_owned(),
        name: session.name,
        role: session.role,
        owners: session.owners,
        expires_at: session.expires_at.unwrap_or(wanted.expires_at),
    };
    Ok((StatusCode::CREATED, axum::Json(made)).into_response())
}

/// 403 for what is no person's token.
fn check_may_log_in(token: &Token) -> Result<(), Refused> {
    if token.kind == TokenKind::Session {
        let detail =
            "this is a session already, and a session makes no other; show the token, or log in again";
        return Err(Refused::forbidden(detail).field("token"));
    }
    match token.role {
        Role::Admin | Role::Editor | Role::Viewer => Ok(()),
        Role::Gateway | Role::Provisioner | Role::Runner => {
            let detail = format!(
                "this is a token of role {}; people log in with a token of role admin, editor or viewer",
                token.role
            );
            Err(Refused::forbidden(detail).field("token"))
        }
    }
}

/// Who is asking, and until when.
#[utoipa::path(get, path = "/session", tag = "sessions", responses((status = 200, body = WhoAmI)))]
pub(super) async fn who_am_i(caller: Caller) -> Response {
    let token = caller.token.as_ref().clone();
    axum::Json(WhoAmI {
        id: token.id,
        kind: token.kind,
        name: token.name,
        role: token.role,
        owners: token.owners,
        parent: token.parent,
        person: token.person,
        expires_at: token.expires_at,
    })
    .into_response()
}

/// Sessions, newest first. Those that ended stay listed for a day.
#[utoipa::path(get, path = "/sessions", tag = "sessions", params(WhichSessions),
    responses((status = 200, body = Page<SessionView>)))]
pub(super) async fn list_sessions(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichSessions>,
) -> Result<Response, Refused> {
    let page = page_request(Paging {
        after: which.after,
        limit: which.limit,
    })?;
    let filter = TokenFilter {
        kind: TokenKind::Session,
        living: which.living,
        search: searched(which.search)?,
        newest_first: true,
        ..TokenFilter::default()
    };
    let visible = |session: &Token| caller.covers(&session.owners, &session.repos);
    let found = state
        .store
        .tokens(&filter, &page, visible)
        .await
        .map_err(errors::of_query)?;
    let shown = Page {
        items: found
            .items
            .into_iter()
            .map(|one| SessionView::of(one, &caller))
            .collect(),
        next: found.next,
    };
    Ok(axum::Json(shown).into_response())
}

/// Ends a session. It is good nowhere from then on.
#[utoipa::path(delete, path = "/sessions/{id}", tag = "sessions", params(ById),
    responses((status = 200, body = SessionView)))]
pub(super) async fn end_session(
    State(state): State<ApiState>,
    caller: Caller,
    Names(ById { id }): Names<ById>,
) -> Result<Response, Refused> {
    let seen = match state.store.token(&id).await {
        Ok(one) => one.kind == TokenKind::Session && caller.covers(&one.owners, &one.repos),
        Err(StoreError::NotFound { .. }) => false,
        Err(error) => return Err(errors::of_query(error)),
    };
    if !seen {
        return Err(Refused::not_found(format!("there is no session {id:?}")));
    }
    let ended = state
        .store
        .end_session(&id, &caller.actor)
        .await
        .map_err(errors::of_query)?;
    state.authenticator.forget();
    Ok(axum::Json(SessionView::of(ended, &caller)).into_response())
}

/// Logs out: ends the session that this is asked by. A token is refused: it is taken back by `DELETE /tokens/{id}`.
#[utoipa::path(delete, path = "/sessions/current", tag = "sessions",
    responses((status = 204, description = "The session ended")))]
pub(super) async fn end_own_session(
    State(state): State<ApiState>,
    caller: Caller,
) -> Result<Response, Refused> {
    if caller.token.kind != TokenKind::Session {
        let detail =
            "a token was shown, which no logout ends; an admin takes it back with `tidegate token revoke`";
        return Err(Refused::new(StatusCode::CONFLICT, Code::Conflict, detail));
    }
    state
        .store
        .end_session(&caller.token.id, &caller.actor)
        .await
        .map_err(errors::of_query)?;
    state.authenticator.forget();
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl SessionView {
    fn of(session: Token, caller: &Caller) -> Self {
        Self {
            current: session.id == caller.token.id,
            id: session.id,
            name: session.name,
            role: session.role,
            owners: session.owners,
            parent: session.parent,
            person: session.person,
            created_at: session.created_at,
            expires_at: session.expires_at,
            ended_at: session.revoked_at,
            last_used_at: session.last_used_at,
        }
    }
}
