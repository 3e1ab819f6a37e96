//! From an issuer's URL to its keys: two documents.
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
    /// A set without a single key for RS256 or ES256.
    #[error("its key set has no key for RS256 or ES256 signatures")]
    NoKeys,
}

#[derive(Deserialize)]
struct Description {
    issuer: String,
    jwks_uri: String,
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
    let what = "its description";
    let mut place = base.clone();
    place.set_path(&format!("{}{DESCRIPTION}", base.path().trim_end_matches('/')));
    let body = document(fetcher, &place, what).await?;
    let description: Description =
        serde_json::from_slice(&body).map_err(|source| DiscoveryError::Syntax(what, source))?;
    if description.issuer != issuer {
        return Err(DiscoveryError::OtherIssuer(cut(&description.issuer)));
    }
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
