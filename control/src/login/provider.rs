//! The issuer as its own documents describe it, and its token endpoint.
//!
//! Owns what is asked of it and how often: its description and keys are fetched when somebody logs in, once an hour, by
//! one at a time; after a failure nobody asks for a moment, and what was known stays in use.

use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde::Deserialize;
use tidegate_control_wire::oidc::JwkSet;
use tidegate_control_wire::text::printable;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::LoginError;
use crate::config::LoginConfig;
use crate::fetch::{Bounds, Credentials, Fetcher, SetupError, allowed_url, in_full};
use crate::oidc::discovery::{self, Description, DiscoveryError};

/// How long a description and keys are used.
const FRESH: Duration = Duration::from_hours(1);
/// After a failure nobody asks for so long.
const PAUSE: Duration = Duration::from_secs(2);
/// An answer of the token endpoint.
const BOUNDS: Bounds = Bounds {
    bytes: 512 * 1024,
    time: Duration::from_secs(10),
};
/// Characters of an issuer's words that are shown.
const SHOWN: usize = 200;

/// What is known of the issuer.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) authorization: Url,
    token: Url,
    /// It takes the client's secret in the form only.
    secret_in_form: bool,
    pub(super) keys: JwkSet,
    fetched: Instant,
}

/// The issuer.
pub(super) struct Provider {
    issuer: String,
    base: Url,
    client_id: String,
    client_secret: Option<String>,
    fetcher: Fetcher,
    /// Sends codes and secrets, and so follows no redirect.
    poster: Fetcher,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    known: Option<Known>,
    failed: Option<(Instant, String)>,
}

/// The token endpoint's answer (RFC 6749 §5.1, OpenID Connect Core §3.1.3.3). Its other tokens are not looked at.
#[derive(Deserialize)]
struct Given {
    id_token: String,
}

/// Its refusal (RFC 6749 §5.2).
#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Provider {
    pub(super) fn new(config: &LoginConfig) -> Result<Self, SetupError> {
        Ok(Self {
            issuer: config.issuer.clone(),
            base: allowed_url(&config.issuer)?,
            client_id: config.client_id.clone(),
            client_secret: config.client_secret.clone(),
            fetcher: Fetcher::new(config.ca.as_deref())?,
            poster: Fetcher::without_redirects(config.ca.as_deref())?,
            memory: Mutex::default(),
        })
    }

    pub(super) fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// The issuer's description and keys, fetched when they are not fresh.
    pub(super) async fn known(&self) -> Result<Known, LoginError> {
        let mut memory = self.memory.lock().await;
        if let Some(known) = memory
            .known
            .as_ref()
            .filter(|known| known.fetched.elapsed() < FRESH)
        {
            return Ok(known.clone());
        }
        if let Some((at, reason)) = &memory.failed
            && at.elapsed() < PAUSE
        {
            return match &memory.known {
                Some(known) => Ok(known.clone()),
                None => Err(self.unreachable(reason.clone())),
            };
        }
        match self.fetch().await {
            Ok(known) => {
                *memory = Memory {
                    known: Some(known.clone()),
                    failed: None,
                };
                Ok(known)
            }
            Err(error) => {
                let reason = in_full(&error);
                tracing::warn!(
                    issuer = self.issuer,
                    error = reason,
                    "the issuer of people can't be asked"
                );
                memory.failed = Some((Instant::now(), reason.clone()));
                memory.known.clone().ok_or_else(|| self.unreachable(reason))
            }
        }
    }

    /// The same, newer than what somebody found too old.
    pub(super) async fn again(&self, old: &Known) -> Result<Known, LoginError> {
        {
            let mut memory = self.memory.lock().await;
            if memory
                .known
                .as_ref()
                .is_some_and(|known| known.fetched <= old.fetched)
            {
                memory.known = None;
            }
        }
        self.known().await
    }

    async fn fetch(&self) -> Result<Known, DiscoveryError> {
        let description = discovery::describe(&self.fetcher, &self.issuer, &self.base).await?;
        let keys = discovery::keys_of(&self.fetcher, &self.base, &description).await?;
        let place = |name, place: &Option<String>| {
            let place = place.as_deref().ok_or(DiscoveryError::NoEndpoint(name))?;
            discovery::allowed_place(&self.base, name, place)
        };
        Ok(Known {
            authorization: place("authorization_endpoint", &description.authorization_endpoint)?,
            token: place("token_endpoint", &description.token_endpoint)?,
            secret_in_form: wants_secret_in_form(&description),
            keys,
            fetched: Instant::now(),
        })
    }

    /// Exchanges a code for the ID token.
    pub(super) async fn exchange(
        &self,
        known: &Known,
        code: &str,
        verifier: &str,
        callback: &str,
    ) -> Result<String, LoginError> {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", callback),
            ("code_verifier", verifier),
        ];
        let basic = self.client_secret.as_deref().filter(|_| !known.secret_in_form);
        let credentials = basic.map(|secret| Credentials {
            name: &self.client_id,
            secret,
        });
        if credentials.is_none() {
            form.push(("client_id", &self.client_id));
            form.extend(
                self.client_secret
                    .as_deref()
                    .map(|secret| ("client_secret", secret)),
            );
        }
        let answer = self
            .poster
            .post_form(&known.token, &form, credentials, BOUNDS)
            .await;
        let (status, body) = answer.map_err(|error| self.unreachable(in_full(&error)))?;
        if status == StatusCode::OK {
            let given = serde_json::from_slice::<Given>(&body);
            return given
                .map(|given| given.id_token)
                .map_err(|_| self.unreachable("its token endpoint answered without an ID token".to_owned()));
        }
        Err(self.refused(status, &body))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> LoginError {
        let Ok(refusal) = serde_json::from_slice::<Refusal>(body) else {
            return self.unreachable(format!("its token endpoint answered {status}"));
        };
        let said = match refusal.error_description.as_str() {
            "" => shown(&refusal.error),
            more => format!("{}: {}", shown(&refusal.error), shown(more)),
        };
        tracing::warn!(issuer = self.issuer, said, "the issuer took no code");
        match refusal.error.as_str() {
            "invalid_client" | "unauthorized_client" => self.unreachable(format!(
                "it does not know this deployment ({said}); look at control.login's client-id and client-secret-file"
            )),
            _ => LoginError::Code(said),
        }
    }

    fn unreachable(&self, reason: String) -> LoginError {
        LoginError::Issuer {
            issuer: self.issuer.clone(),
            reason,
        }
    }
}

/// Basic is what every server takes (RFC 6749 §2.3.1), unless it says that it does not.
fn wants_secret_in_form(description: &Description) -> bool {
    let methods = description.token_endpoint_auth_methods_supported.as_deref();
    let has = |name: &str| methods.is_some_and(|methods| methods.iter().any(|one| one == name));
    has("client_secret_post") && !has("client_secret_basic")
}

/// Somebody else's words, cut short.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN).collect();
    printable(&cut).into_owned()
}
