//! People who log in at an issuer: OpenID Connect, authorization code with PKCE (RFC 7636), groups to roles.
//!
//! Owns the way from a browser that wants in to a person with a role: where it is sent ([`Login::begin`]), and what the
//! code is worth that it comes back with ([`Login::finish`]). It makes no session (the API does) and keeps nothing but the
//! issuer's description and keys, in memory. Those keys never reach the store's issuers: gateways trust these for jobs.

mod attempt;
mod grant;
mod provider;

use jiff::Timestamp;
use thiserror::Error;
use tidegate_control_wire::oidc::OidcError;
use tidegate_control_wire::oidc::person::{Expected, VerifiedPerson, verify_person};
use tidegate_control_wire::secret::Role;

use crate::config::LoginConfig;
use crate::fetch::SetupError;

use attempt::{Attempt, Attempts};
use provider::{Known, Provider};

pub use attempt::{AttemptError, LoginKey};

/// Where the web UI takes a browser that comes back from the issuer.
const CALLBACK: &str = "/ui/oidc/callback";

/// Why nobody was logged in: one sentence each, for the person in front of the browser.
#[derive(Debug, Error)]
pub enum LoginError {
    /// What came back does not belong to a login that was begun here.
    #[error(transparent)]
    Attempt(#[from] AttemptError),
    /// The issuer can't be asked.
    #[error("the issuer {issuer} can't be asked: {reason}")]
    Issuer {
        /// The issuer.
        issuer: String,
        /// Why.
        reason: String,
    },
    /// The issuer does not take the code.
    #[error("the issuer does not take the code of this login ({0}); log in again")]
    Code(String),
    /// The issuer's token is not good.
    #[error("the issuer's answer is not good: {0}")]
    Token(#[from] OidcError),
    /// Known, but in no group that means anything here.
    #[error(
        "{name:?} may not log in here: none of the groups that the issuer names has a role in \
         `control.login.groups`; ask an admin to add one"
    )]
    NoGroup {
        /// What the person is called.
        name: String,
    },
}

/// A login that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Where the browser goes.
    pub url: String,
    /// What has to come back beside the code: for the browser that began, and for no other.
    pub attempt: String,
    /// Until when.
    pub expires_at: Timestamp,
}

/// What a browser came back with.
#[derive(Clone, Copy, Debug)]
pub struct Returned<'a> {
    /// What [`Login::begin`] gave.
    pub attempt: &'a str,
    /// The issuer's code.
    pub code: &'a str,
    /// What the issuer sent back beside the code.
    pub state: &'a str,
}

/// Who logged in, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// `ISSUER|SUBJECT`.
    pub person: String,
    /// What histories call the person.
    pub name: String,
    /// The strongest role that the groups give.
    pub role: Role,
    /// Owners that it is limited to; empty limits nothing.
    pub owners: Vec<String>,
}

/// The configured issuer of people.
pub struct Login {
    config: LoginConfig,
    attempts: Attempts,
    provider: Provider,
}

impl Login {
    /// Checks the configuration; asks nobody yet. `key` authenticates the attempts: control planes that share it finish
    /// each other's logins.
    pub fn new(config: LoginConfig, key: &LoginKey) -> Result<Self, SetupError> {
        Ok(Self {
            attempts: Attempts::new(key),
            provider: Provider::new(&config)?,
            config,
        })
    }

    /// The issuer's URL.
    pub fn issuer(&self) -> &str {
        &self.config.issuer
    }

    /// The issuer's host, for people.
    pub fn host(&self) -> &str {
        self.provider.host()
    }

    /// Where the issuer sends browsers back to; to be registered there.
    pub fn callback(&self) -> String {
        format!("{}{CALLBACK}", self.config.public_url)
    }

    /// Begins a login: where to send the browser.
    pub async fn begin(&self, now: Timestamp) -> Result<Begun, LoginError> {
        let known = self.provider.known().await?;
        let attempt = self.attempts.begin(now);
        let mut url = known.authorization.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.config.client_id)
            .append_pair("redirect_uri", &self.callback())
            .append_pair("scope", &self.config.scopes.join(" "))
            .append_pair("state", &attempt.state)
            .append_pair("nonce", &attempt.nonce)
            .append_pair("code_challenge", &attempt.challenge())
            .append_pair("code_challenge_method", "S256");
        Ok(Begun {
            url: url.into(),
            attempt: attempt.text,
            expires_at: attempt.expires_at,
        })
    }

    /// Finishes a login: who it is, and as what. Whoever has no role by a group is nobody here.
    pub async fn finish(&self, returned: Returned<'_>, now: Timestamp) -> Result<Person, LoginError> {
        let attempt = self.attempts.open(returned.attempt, now)?;
        attempt.check_state(returned.state)?;
        let known = self.provider.known().await?;
        let token = self
            .provider
            .exchange(&known, returned.code, &attempt.verifier, &self.callback())
            .await?;
        let person = self.verified(&token, known, &attempt, now).await?;
        let granted = grant::strongest(&person.groups, &self.config.groups);
        let Some((role, owners)) = granted else {
            tracing::warn!(
                issuer = self.config.issuer,
                subject = person.subject,
                "somebody without a role by a group was not logged in"
            );
            return Err(LoginError::NoGroup { name: person.name });
        };
        Ok(Person {
            person: format!("{}|{}", self.config.issuer, person.subject),
            name: person.name,
            role,
            owners,
        })
    }

    /// The person of an ID token. A key that is not known is looked for once more.
    async fn verified(
        &self,
        token: &str,
        known: Known,
        attempt: &Attempt,
        now: Timestamp,
    ) -> Result<VerifiedPerson, LoginError> {
        let expected = Expected {
            issuer: &self.config.issuer,
            client_id: &self.config.client_id,
            nonce: &attempt.nonce,
            name_claim: self.config.name_claim.as_deref(),
            groups_claim: &self.config.groups_claim,
        };
        match verify_person(token, &known.keys, &expected, now) {
            Err(OidcError::UnknownKey { .. }) => {
                let known = self.provider.again(&known).await?;
                Ok(verify_person(token, &known.keys, &expected, now)?)
            }
            other => Ok(other?),
        }
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Login")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
