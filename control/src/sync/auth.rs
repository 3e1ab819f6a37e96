//! Which gateway is speaking: by its token, or because it lives in this process.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::json;
use tidegate_control_wire::secret::{TokenDigest, digest};

use super::SyncState;
use crate::model::{Role, Token};
use crate::store::{Store, StoreError};

/// Stands in the extensions of every request of a connection that was made inside of this process: `tidegate up`'s own
/// gateway, which needs no token.
#[derive(Clone, Debug)]
pub struct InProcess {
    /// The gateway's name.
    pub gateway: String,
}

/// The gateway that asks.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Its name.
    pub(super) name: String,
    /// The token that it showed; none in this process.
    token: Option<TokenDigest>,
}

impl Caller {
    /// Whether the caller may still be served: a token that was revoked since ends its streams.
    pub(super) async fn is_good(&self, store: &Store) -> Result<bool, StoreError> {
        match &self.token {
            None => Ok(true),
            Some(token) => Ok(store.token_by_digest(token).await?.is_some_and(|one| is_alive(&one))),
        }
    }
}

fn is_alive(token: &Token) -> bool {
    token.role == Role::Gateway
        && token.revoked_at.is_none()
        && token.expires_at.is_none_or(|end| end > Timestamp::now())
}

impl FromRequestParts<SyncState> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &SyncState) -> Result<Self, Response> {
        if let Some(InProcess { gateway }) = parts.extensions.get() {
            return Ok(Self {
                name: gateway.clone(),
                token: None,
            });
        }
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let text = header.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(|| {
            problem(StatusCode::UNAUTHORIZED, "unauthorized", "show the gateway's token as a bearer")
        })?;
        let shown = digest(text);
        match state.store.token_by_digest(&shown).await {
            Ok(Some(token)) if is_alive(&token) => Ok(Self {
                name: token.name,
                token: Some(shown),
            }),
            Ok(Some(token)) if token.role != Role::Gateway => {
                let detail = format!("this is a token of role {}; a gateway's is needed", token.role.as_str());
                Err(problem(StatusCode::FORBIDDEN, "forbidden", &detail))
            }
            Ok(_) => Err(problem(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "the token is not known, was revoked or has expired; make one with `tidegate token create`",
            )),
            Err(error) => Err(unavailable(&error)),
        }
    }
}

/// An error as RFC 9457 has it.
pub(super) fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
        "code": code,
    });
    let headers = [("content-type", "application/problem+json")];
    (status, headers, body.to_string()).into_response()
}

/// The store failed: the gateway goes on with what it has and comes again.
pub(super) fn unavailable(error: &StoreError) -> Response {
    tracing::error!(error = error.chain(), "a gateway's request failed");
    problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &error.to_string())
}
