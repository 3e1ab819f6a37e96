//! The job's own OIDC token, asked of its forge where the job may (`id-token: write`).
//!
//! Owns one request, bounded in time and size. The request's token is a secret of the job's: it goes to the address that
//! the runner named, over TLS, and into no message. That request crosses the gateway before the job is registered, so the
//! network's default policy judges it.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde::Deserialize;
use tidegate_control_wire::text::printable;

use super::env::Given;

/// Largest answer, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(super) enum OidcError {
    /// The job has none.
    #[error("the workflow does not say `permissions: id-token: write`, so there is no OIDC token")]
    NotOffered,
    /// The forge was not reached, or refused.
    #[error("the forge gave no OIDC token: {0}")]
    Refused(String),
}

/// What the forge answers.
#[derive(Deserialize)]
struct Token {
    value: String,
}

/// Asks for a token for this audience.
pub(super) async fn fetch(given: &Given, audience: &str, patience: Duration) -> Result<String, OidcError> {
    let refused = |text: String| OidcError::Refused(printable(&text).into_owned());
    let url = given
        .get("ACTIONS_ID_TOKEN_REQUEST_URL")
        .ok_or(OidcError::NotOffered)?;
    let token = given
        .get("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
        .ok_or(OidcError::NotOffered)?;
    let mut url: Url = url.parse().map_err(|_| refused("its address is none".into()))?;
    url.query_pairs_mut().append_pair("audience", audience);
    let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| refused("the request's token is none".into()))?;
    bearer.set_sensitive(true);
    let client = Client::builder()
        .timeout(patience)
        .https_only(true)
        .redirect(Policy::none())
        .build()
        .map_err(|error| refused(error.to_string()))?;
    let request = client
        .get(url)
        .header(AUTHORIZATION, bearer)
        .header(ACCEPT, "application/json; api-version=2.0");
    // Without the address: it holds the job's ids and a path that is nobody's business.
    let failed = |error: reqwest::Error| {
        if error.is_timeout() {
            refused("no answer in time; the network's default policy has to allow its token endpoint".into())
        } else {
            refused(super::api::innermost(&error.without_url()))
        }
    };
    let mut response = request.send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(refused(format!("HTTP {}", response.status().as_u16())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Err(refused("its answer is too large".into()));
        }
    }
    let token: Token =
        serde_json::from_slice(&body).map_err(|_| refused("its answer is not understood".into()))?;
    Ok(token.value)
}
