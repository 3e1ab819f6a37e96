//! Whose word a request carries: a runner's token, a job's OIDC token, or both.
//!
//! Pure: decides by the credentials that were synced and the time it is given. It says who is asking, never what they
//! may do: that is the lease table's.

use std::sync::Arc;

use jiff::Timestamp;
use thiserror::Error;
use tidegate_control_wire::mirror::Credentials;
use tidegate_control_wire::oidc::{self, Issuer, OidcError, VerifiedJob};
use tidegate_control_wire::record::{SyncedRole, TokenRecord};
use tidegate_control_wire::secret;
use tidegate_policy::lease::TokenScope;

/// What a request shows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shown<'a> {
    /// The text behind `Authorization: Bearer`.
    pub(crate) bearer: Option<&'a str>,
    /// The OIDC token in its body.
    pub(crate) oidc: Option<&'a str>,
}

/// Who is asking.
#[derive(Clone, Debug)]
pub(crate) enum Proof {
    /// Who holds this runner token.
    Token(Arc<TokenRecord>),
    /// The job itself, as its forge signed it; beside it perhaps a runner token, which has to reach the job too.
    Job(Box<VerifiedJob>, Option<Arc<TokenRecord>>),
}

/// A request that does not say who is asking.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ProofError {
    /// It shows nothing.
    #[error("show a runner token (Authorization: Bearer) or the job's OIDC token (oidc_token)")]
    Missing,
    /// Two OIDC tokens.
    #[error("the bearer and `oidc_token` are two different OIDC tokens; send one of them")]
    Two,
    /// A token that nobody knows.
    #[error("the token is not known here: it is misspelled, was revoked, or is not a runner's")]
    Unknown,
    /// A runner token where a job itself has to speak.
    #[error("a runner token says nothing of one job; show the job's own OIDC token")]
    NoJob,
    /// A token that is not for runners.
    #[error("a provisioner's token registers jobs at the control plane; the runner API takes runner tokens")]
    Role,
    /// Its time is over.
    #[error("the token {id} expired at {at}")]
    Expired {
        /// Its id.
        id: String,
        /// When.
        at: Timestamp,
    },
    /// An OIDC token that is not good.
    #[error(transparent)]
    Oidc(#[from] OidcError),
}

/// Finds out who is asking.
pub(crate) fn verify(
    shown: Shown<'_>,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<Proof, ProofError> {
    // Runner tokens have no dot in them, and signed JWTs have two.
    let (token, job) = match (shown.bearer, shown.oidc) {
        (None, None) => return Err(ProofError::Missing),
        (Some(bearer), None) if bearer.contains('.') => (None, Some(bearer)),
        (Some(bearer), Some(other)) if bearer.contains('.') && bearer != other => {
            return Err(ProofError::Two);
        }
        (Some(bearer), Some(other)) if bearer.contains('.') => (None, Some(other)),
        (token, job) => (token, job),
    };
    let token = token
        .map(|text| runner_token(text, credentials, now))
        .transpose()?;
    let Some(job) = job else {
        return token.map(Proof::Token).ok_or(ProofError::Missing);
    };
    let issuers: Vec<Issuer> = credentials
        .issuers()
        .map(|issuer| Issuer::clone(issuer))
        .collect();
    let verified = oidc::verify(job, &issuers, now)?;
    Ok(Proof::Job(Box::new(verified), token))
}

fn runner_token(
    text: &str,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<Arc<TokenRecord>, ProofError> {
    let token = credentials
        .token(&secret::digest(text))
        .ok_or(ProofError::Unknown)?;
    if let Some(at) = token.expires_at.filter(|at| *at <= now) {
        let id = token.id.to_string();
        return Err(ProofError::Expired { id, at });
    }
    match token.role {
        SyncedRole::Runner => Ok(Arc::clone(token)),
        SyncedRole::Provisioner => Err(ProofError::Role),
    }
}

/// What a token is limited to, as the lease table reads it.
pub(super) fn scope_of(token: &TokenRecord) -> TokenScope {
    TokenScope {
        owners: token.owners.clone(),
        repos: token.repos.clone(),
        networks: token.networks.clone(),
        cluster: token.cluster.clone(),
    }
}
