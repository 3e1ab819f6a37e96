//! Tokens: made, shown once, listed without their texts, taken back.
//!
//! An admin token that is limited to owners makes and takes back only what lies within them: it can't make itself more.
//! A session makes no admin token: who got hold of a browser for a moment could stay for ever. It makes every other, and
//! the audit log says that a session did.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidegate_control_wire::secret::Secret;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::errors;
use super::extract::{Json, Names, Params};
use super::jobs::ById;
use super::lists::{Paging, page_request, searched};
use super::problem::Refused;
use super::state::ApiState;
use super::system::Order;
use crate::model::{NewToken, Page, Role, Token, TokenFilter, TokenKind};

/// A token that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewTokenText {
    /// Its id, named in histories.
    id: String,
    /// Its text, shown this once.
    token: String,
}

/// Which tokens are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichTokens {
    /// Of this role.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    role: Option<Role>,
    /// Good now (`true`), or taken back or expired (`false`); both when nothing is said.
    #[serde(default)]
    living: Option<bool>,
    /// Part of the name, in any case, or a whole id.
    #[serde(default)]
    search: Option<String>,
    /// `asc`, oldest first, when nothing is said; `desc`.
    #[serde(default = "oldest_first")]
    #[param(inline)]
    order: Order,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Items at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

fn oldest_first() -> Order {
    Order::Asc
}

/// Tokens, oldest first, those that were taken back or have expired included. Sessions are listed apart.
#[utoipa::path(get, path = "/tokens", tag = "tokens", params(WhichTokens), responses((status = 200, body = Page<Token>)))]
pub(super) async fn list_tokens(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichTokens>,
) -> Result<Response, Refused> {
    let page = page_request(Paging {
        after: which.after,
        limit: which.limit,
    })?;
    let filter = TokenFilter {
        kind: TokenKind::Token,
        role: which.role,
        living: which.living,
        search: searched(which.search)?,
        newest_first: which.order == Order::Desc,
    };
    let visible = |token: &Token| caller.covers(&token.owners, &token.repos);
    let found = state
        .store
        .tokens(&filter, &page, visible)
        .await
        .map_err(errors::of_query)?;
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
    caller.check_lasting(&wanted)?;
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

/// Takes a token back. It is good nowhere from then on; gateways hear of it at once, and its sessions end.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "tokens", params(ById), responses((status = 200, body = Token)))]
pub(super) async fn revoke_token(
    State(state): State<ApiState>,
    caller: Caller,
    Names(ById { id }): Names<ById>,
) -> Result<Response, Refused> {
    let token = state.store.token(&id).await.map_err(errors::of_query)?;
    if token.kind != TokenKind::Token || !caller.covers(&token.owners, &token.repos) {
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
    pub(super) fn covers(&self, owners: &[String], repos: &[String]) -> bool {
        let owner_of = |repo: &String| repo.split('/').next().unwrap_or_default().to_owned();
        let named = !owners.is_empty() || !repos.is_empty();
        !self.is_limited()
            || (named
                && owners.iter().all(|owner| self.owns(owner))
                && repos.iter().map(owner_of).all(|owner| self.owns(&owner)))
    }

    /// 403 for a session that would make what outlives it with all its power.
    fn check_lasting(&self, wanted: &NewToken) -> Result<(), Refused> {
        if self.token.kind == TokenKind::Token || wanted.role != Role::Admin {
            return Ok(());
        }
        let detail = "a session ends by itself and makes no admin token; make it with an admin token: \
                      `tidegate token create --role admin`";
        Err(Refused::forbidden(detail).field("role"))
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
