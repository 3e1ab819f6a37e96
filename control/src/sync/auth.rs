//! Which gateway is speaking: by its token, or because it lives in this process. Who shows wrong tokens has to wait.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hashbrown::HashSet;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::json;
use tidegate_control_wire::secret::{TokenDigest, digest};

use super::SyncState;
use crate::model::{Role, Token};
use crate::store::{Store, StoreError};
use crate::throttle::Throttle;

/// Good tokens that are remembered.
const MAX_GOOD: usize = 4_096;
/// Last use is noted in steps of this.
const TOUCH: SignedDuration = SignedDuration::from_mins(1);

/// Stands in the extensions of every request of a connection that was made inside of this process: `tidegate up`'s own
/// gateway, which needs no token.
#[derive(Clone, Debug)]
pub struct InProcess {
    /// The gateway's name.
    pub gateway: String,
}

/// Who showed wrong tokens, and the tokens that were good: a gateway is let through beside whatever its neighbours show.
#[derive(Debug, Default)]
pub(super) struct Wrong {
    shown: Mutex<Throttle>,
    good: Mutex<HashSet<TokenDigest>>,
}

impl Wrong {
    /// Seconds to wait, for a token that was never good, from where too many wrong ones came.
    fn check(&self, token: &TokenDigest, peer: IpAddr, now: Timestamp) -> Result<(), u64> {
        if self.good.lock().contains(token) {
            return Ok(());
        }
        self.shown.lock().check(peer, now)
    }

    fn charge(&self, token: &TokenDigest, peer: IpAddr, now: Timestamp) {
        self.good.lock().remove(token);
        self.shown.lock().charge(peer, now);
    }

    fn good(&self, token: TokenDigest) {
        let mut good = self.good.lock();
        if good.len() >= MAX_GOOD && !good.contains(&token) {
            // Who is forgotten is looked up like a stranger once.
            good.clear();
        }
        good.insert(token);
    }
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
    /// Whether the caller may still be served: a token that was revoked since ends its streams. One that is good is noted
    /// as used.
    pub(super) async fn is_good(&self, store: &Store) -> Result<bool, StoreError> {
        let Some(shown) = &self.token else {
            return Ok(true);
        };
        let Some(token) = store.token_by_digest(shown).await?.filter(is_alive) else {
            return Ok(false);
        };
        let now = Timestamp::now();
        if token
            .last_used_at
            .is_none_or(|last| now.duration_since(last) >= TOUCH)
        {
            store.touch_tokens(&[(token.id, now)]).await?;
        }
        Ok(true)
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
        let header = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let text = header
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or_else(|| {
                problem(
                    StatusCode::UNAUTHORIZED,
                    "unauthorized",
                    "show the gateway's token as a bearer",
                )
            })?;
        let (shown, peer, now) = (digest(text), peer(parts), Timestamp::now());
        state.wrong.check(&shown, peer, now).map_err(too_many)?;
        let found = state.store.token_by_digest(&shown).await;
        match &found {
            Ok(Some(token)) if is_alive(token) => state.wrong.good(shown),
            Ok(_) => state.wrong.charge(&shown, peer, now),
            Err(_) => {}
        }
        match found {
            Ok(Some(token)) if is_alive(&token) => Ok(Self {
                name: token.name,
                token: Some(shown),
            }),
            Ok(Some(token)) if token.role != Role::Gateway => {
                let detail = format!(
                    "this is a token of role {}; a gateway's is needed",
                    token.role.as_str()
                );
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

/// The address of the other end; one for all where the server did not say.
fn peer(parts: &Parts) -> IpAddr {
    let said = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    said.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |said| said.0.ip())
}

fn too_many(seconds: u64) -> Response {
    let detail = "too many wrong tokens were shown from this address";
    let mut response = problem(StatusCode::TOO_MANY_REQUESTS, "rate-limited", detail);
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
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
