//! From an issuer's URL to its keys: two documents. Jobs' issuers and people's are asked alike.
//!
//! Owns what is asked and what of the answers is believed. It keeps nothing.

use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use thiserror::Error;
use tidegate_control_wire::oidc::{Jwk, JwkSet, usable_keys};

use crate::fetch::{Bounds, FetchError, Fetched, Fetcher, allowed_url};

/// Where an issuer describes itself (OpenID Connect Discovery 1.0 §4.1).
const DESCRIPTION: &str = "/.well-known/openid-configuration";

/// One document: a forge's have a few KiB.
const BOUNDS: Bounds = Bounds {
    bytes: 1024 * 1024,
    time: Duration::from_secs(10),
};

/// Why an issuer's keys are not known.
#[derive(Debug, Error)]
pub enum DiscoveryError {
    /// No document.
    #[error("can't fetch {0}")]
    Fetch(&'static str, #[source] FetchError),
    /// Not the JSON that it should be.
    #[error("{0} can't be read")]
    Syntax(&'static str, #[source] serde_json::Error),
    /// The description is another issuer's (§4.3: both must be the same).
    #[error("the issuer calls itself {0:?}")]
    OtherIssuer(String),
    /// The keys lie where nothing is fetched from.
    #[error("its keys lie at {0:?}, which is not https")]
    KeysPlace(String),
    /// An endpoint that logins need is not named.
    #[error("it names no {0}")]
    NoEndpoint(&'static str),
    /// An endpoint lies where nothing is sent to.
    #[error("its {0} is {1:?}, which is not https")]
    EndpointPlace(&'static str, String),
    /// A set without a single key for RS256 or ES256.
    #[error("its key set has no key for RS256 or ES256 signatures")]
    NoKeys,
}

/// What an issuer says of itself. What only logins need may be absent.
#[derive(Deserialize)]
pub(crate) struct Description {
    issuer: String,
    jwks_uri: String,
    #[serde(default)]
    pub(crate) authorization_endpoint: Option<String>,
    #[serde(default)]
    pub(crate) token_endpoint: Option<String>,
    #[serde(default)]
    pub(crate) token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// The keys stay JSON until each is read: one of a kind that nobody knows yet must not hide the others.
#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

/// Asks an issuer for its keys; only those that can verify a token come back, at least one.
pub(super) async fn fetch_keys(
    fetcher: &Fetcher,
    issuer: &str,
    base: &Url,
) -> Result<JwkSet, DiscoveryError> {
    let description = describe(fetcher, issuer, base).await?;
    keys_of(fetcher, base, &description).await
}

/// Asks an issuer what it says of itself.
pub(crate) async fn describe(
    fetcher: &Fetcher,
    issuer: &str,
    base: &Url,
) -> Result<Description, DiscoveryError> {
    let what = "its description";
    let mut place = base.clone();
    place.set_path(&format!("{}{DESCRIPTION}", base.path().trim_end_matches('/')));
    let body = document(fetcher, &place, what).await?;
    let description: Description =
        serde_json::from_slice(&body).map_err(|source| DiscoveryError::Syntax(what, source))?;
    if description.issuer != issuer {
        return Err(DiscoveryError::OtherIssuer(cut(&description.issuer)));
    }
    Ok(description)
}

/// Asks for the keys that a description names; only those that can verify a token come back, at least one.
pub(crate) async fn keys_of(
    fetcher: &Fetcher,
    base: &Url,
    description: &Description,
) -> Result<JwkSet, DiscoveryError> {
    let place = keys_place(base, &description.jwks_uri)?;
    let what = "its key set";
    let body = document(fetcher, &place, what).await?;
    let raw: RawSet = serde_json::from_slice(&body).map_err(|source| DiscoveryError::Syntax(what, source))?;
    let keys = raw
        .keys
        .into_iter()
        .filter_map(|key| serde_json::from_value::<Jwk>(key).ok())
        .collect();
    let usable = usable_keys(JwkSet { keys });
    if usable.keys.is_empty() {
        return Err(DiscoveryError::NoKeys);
    }
    Ok(usable)
}

/// The keys of an issuer with https come by https, whatever its description says.
fn keys_place(base: &Url, place: &str) -> Result<Url, DiscoveryError> {
    match allowed_url(place) {
        Ok(url) if url.scheme() == "https" || base.scheme() == "http" => Ok(url),
        Ok(_) | Err(_) => Err(DiscoveryError::KeysPlace(cut(place))),
    }
}

/// The same of an endpoint that codes and secrets are sent to.
pub(crate) fn allowed_place(base: &Url, name: &'static str, place: &str) -> Result<Url, DiscoveryError> {
    keys_place(base, place).map_err(|_| DiscoveryError::EndpointPlace(name, cut(place)))
}

async fn document(fetcher: &Fetcher, place: &Url, what: &'static str) -> Result<Vec<u8>, DiscoveryError> {
    match fetcher.get(place, None, BOUNDS).await {
        Ok(Fetched::Document { body, .. }) => Ok(body),
        // The fetcher answers so only to those who name an entity tag.
        Ok(Fetched::Unchanged) => Ok(Vec::new()),
        Err(error) => Err(DiscoveryError::Fetch(what, error)),
    }
}

/// A stranger's text, cut short.
fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}
