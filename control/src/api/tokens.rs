//! Tokens: made, shown once, listed without their texts, taken back.
//!
//! An admin token that is limited to owners makes and takes back only what lies within them: it can't make itself more.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidegate_control_wire::secret::Secret;
use utoipa::ToSchema;

use super::auth::Caller;
use super::errors;
use super::extract::{Json, Names, Params};
use super::jobs::ById;
use super::lists::{Paging, page_request};
use super::problem::Refused;
use super::state::ApiState;
use crate::model::{NewToken, Page, Role, Token};

/// A token that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewTokenText {
    /// Its id, named in histories.
    id: String,
    /// Its text, shown this once.
    token: String,
}

/// Tokens, oldest first, those that were taken back or have expired included.
#[utoipa::path(get, path = "/tokens", tag = "tokens", params(Paging), responses((status = 200, body = Page<Token>)))]
pub(super) async fn list_tokens(
    State(state): State<ApiState>,
    caller: Caller,
    Params(paging): Params<Paging>,
) -> Result<Response, Refused> {
    let page = page_request(paging)?;
    let mut found = state.store.tokens(&page).await.map_err(errors::of_query)?;
    found
        .items
        .retain(|token| caller.covers(&token.owners, &token.repos));
    Ok(axum::Json(found).into_response())
}

/// Makes a token. Its text is shown in this answer and never again.
#[utoipa::path(post, path = "/tokens", tag = "tokens", request_body = NewToken,
    responses((status = 201, body = NewTokenText)))]
pub(super) async fn create_token(
    State(state): State<ApiState>,
    caller: Caller,
    Json(wanted): Json<NewToken>,
) -> Result<Response, Refused> {
    caller.check_grant(&wanted)?;
    let secret = Secret::new(wanted.role);
    let token = state
        .store
        .create_token(&wanted, &secret.digest(), &caller.actor)
        .await?;
    let made = NewTokenText {
        id: token.id,
        token: secret.expose().to_owned(),
    };
    Ok((StatusCode::CREATED, axum::Json(made)).into_response())
}

/// Takes a token back. It is good nowhere from then on; gateways hear of it at once.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "tokens", params(ById), responses((status = 200, body = Token)))]
pub(super) async fn revoke_token(
    State(state): State<ApiState>,
    caller: Caller,
    Names(ById { id }): Names<ById>,
) -> Result<Response, Refused> {
    let token = state.store.token(&id).await.map_err(errors::of_query)?;
    if !caller.covers(&token.owners, &token.repos) {
        return Err(Refused::not_found(format!("there is no token {id:?}")));
    }
    let revoked = state
        .store
        .revoke_token(&id, &caller.actor)
        .await
        .map_err(errors::of_query)?;
    state.authenticator.forget();
    Ok(axum::Json(revoked).into_response())
}

impl Caller {
    /// True when limits lie within the caller's own.
    fn covers(&self, owners: &[String], repos: &[String]) -> bool {
        let owner_of = |repo: &String| repo.split('/').next().unwrap_or_default().to_owned();
        let named = !owners.is_empty() || !repos.is_empty();
        !self.is_limited()
            || (named
                && owners.iter().all(|owner| self.owns(owner))
                && repos.iter().map(owner_of).all(|owner| self.owns(&owner)))
    }

    /// 403 for a token that would reach further than the caller.
    fn check_grant(&self, wanted: &NewToken) -> Result<(), Refused> {
        let everywhere = match wanted.role {
            Role::Gateway | Role::Provisioner => true,
            Role::Admin | Role::Editor | Role::Viewer | Role::Runner => false,
        };
        if everywhere {
            self.check_unlimited(&format!("a token of role {}", wanted.role.as_str()))?;
        }
        if self.covers(&wanted.owners, &wanted.repos) {
            return Ok(());
        }
        let owners = self.token.owners.join(", ");
        let detail = format!("this token can make tokens for {owners} only; name some of them in `owners`");
        Err(Refused::forbidden(detail).field("owners"))
    }
}
