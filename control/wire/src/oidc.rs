//! OIDC tokens of jobs: who the forge says that is asking.
//!
//! Owns the verification of a token in the manner of GitHub Actions (a signed JWT, RFC 7519) against the key sets of the
//! configured issuers. It fetches nothing and reads no clock: `control` keeps the key sets current and syncs them, and
//! the gateway's runner API hands over the token and the time.
//!
//! Claims are read once, by us, after the signature was checked over the very bytes that are read. The library does
//! the signatures alone; its own check of the claims reads the system's clock.
//!
//! People who log in at an issuer are [`person`]'s.

mod claims;
mod error;
mod keys;
pub mod person;
mod workflow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use compact_str::CompactString;
use jiff::Timestamp;
pub use jsonwebtoken::jwk::{Jwk, JwkSet};
use serde::{Deserialize, Serialize};
use tidegate_policy::job::JobIdentity;

use claims::Claims;
use error::shown;
use keys::Signing;

pub use error::OidcError;
pub use keys::{MAX_KEYS, usable_keys};
pub use workflow::{workflow_file, workflow_file_of};

/// Longest token in bytes. A forge's are two to three KiB.
pub const MAX_TOKEN: usize = 16 * 1024;

/// How far the issuer's clock and ours may be apart, in seconds.
pub const LEEWAY_SECONDS: i64 = 60;

/// Longest remaining life of a token in seconds: used tokens are remembered until they expire, and nothing here lives
/// for ever. The forge's live for minutes.
pub const MAX_LIFE_SECONDS: i64 = 24 * 3600;

/// An issuer whose tokens are good, as synced to gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// The `iss` claim, compared exactly.
    pub issuer: String,
    /// What the `aud` claim must name.
    pub audience: String,
    /// Owners whose jobs it may name, compared without case; empty limits nothing. A forge that many share signs for all of
    /// them, and lets each choose the audience.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<CompactString>,
    /// Its public keys (RFC 7517 §5).
    pub jwks: JwkSet,
}

impl Issuer {
    fn speaks_for(&self, owner: &str) -> bool {
        self.owners.is_empty() || self.owners.iter().any(|one| one.eq_ignore_ascii_case(owner))
    }
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedJob {
    /// Who runs, with assurance `signed`. The token says neither the job's id nor the runner's name nor the cluster:
    /// these are empty.
    pub identity: JobIdentity,
    /// Who signed it.
    pub issuer: String,
    /// The token's own id.
    pub jti: Option<CompactString>,
    /// What a second use of the token is known by: 64 hexadecimal digits, made from issuer and `jti`, or without a `jti`
    /// from the signed bytes. Not from the signature: an ECDSA signature can be changed into another that verifies.
    pub replay_key: String,
    /// When the token stops being good, leeway included: until then the replay key has to be remembered.
    pub expires_at: Timestamp,
    /// `self-hosted`, `github-hosted`, or empty.
    pub runner_environment: CompactString,
}

/// The header's fields that matter (RFC 7515 §4.1). A field that comes twice is an error.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

/// The three parts of a token in compact serialization (RFC 7515 §7.1).
struct Parts<'a> {
    /// Header and claims with the dot between them: what is signed.
    signed: &'a str,
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
}

/// Checks a token and reads the job's identity from it.
///
/// Accepts RS256 and ES256 by a key of the set that the header names; `iss` must equal an issuer, `aud` must name its
/// audience, `exp` must be there. Times are judged by `now`, with [`LEEWAY_SECONDS`].
pub fn verify(token: &str, issuers: &[Issuer], now: Timestamp) -> Result<VerifiedJob, OidcError> {
    let token = token.trim();
    if token.len() > MAX_TOKEN {
        return Err(OidcError::TooLarge(token.len()));
    }
    let parts = split(token)?;
    let (signing, kid) = read_header(parts.header)?;
    let claims = read_claims(parts.claims)?;
    let issuer = claims.issuer()?;
    // One issuer may be configured with several audiences.
    let named: Vec<&Issuer> = issuers.iter().filter(|one| one.issuer == issuer).collect();
    if named.is_empty() {
        return Err(OidcError::UnknownIssuer(shown(issuer)));
    }
    let keys = named.iter().flat_map(|one| &one.jwks.keys);
    check_signature(&parts, signing, &kid, issuer, keys)?;
    let audience = claims.audience()?;
    let mut meant = named
        .iter()
        .filter(|one| audience.contains(&one.audience.as_str()))
        .peekable();
    if meant.peek().is_none() {
        return Err(OidcError::Audience {
            found: shown(&audience.join(", ")),
            expected: named
                .iter()
                .map(|one| one.audience.as_str())
                .collect::<Vec<_>>()
                .join(" or "),
        });
    }
    let expires_at = claims.check_times(now)?;
    let jti = claims.jti()?;
    let identity = claims.identity()?;
    if !meant.any(|one| one.speaks_for(&identity.owner)) {
        return Err(OidcError::Owner {
            owner: identity.owner.to_string(),
            issuer: issuer.to_owned(),
        });
    }
    Ok(VerifiedJob {
        identity,
        issuer: issuer.to_owned(),
        replay_key: replay_key(issuer, jti.as_deref(), parts.signed),
        jti,
        expires_at,
        runner_environment: claims.runner_environment()?,
    })
}

fn split(token: &str) -> Result<Parts<'_>, OidcError> {
    let malformed = OidcError::Malformed("it is not three parts with dots between them");
    let Some((signed, signature)) = token.rsplit_once('.') else {
        return Err(malformed);
    };
    match signed.split_once('.') {
        Some((header, claims)) if !claims.contains('.') => Ok(Parts {
            signed,
            header,
            claims,
            signature,
        }),
        Some(_) | None => Err(malformed),
    }
}

fn read_header(part: &str) -> Result<(Signing, String), OidcError> {
    let bytes = decode(part, "its header is not base64url")?;
    let header: Header = serde_json::from_slice(&bytes)
        .map_err(|_| OidcError::Malformed("its header is not an object with `alg`"))?;
    // RFC 8725 §3.1: only algorithms that we chose.
    let signing = Signing::parse(&header.alg).ok_or_else(|| OidcError::Algorithm(shown(&header.alg)))?;
    // RFC 7515 §4.1.11: extensions that must be understood, of which we know none.
    if header.crit.is_some() {
        return Err(OidcError::Critical);
    }
    let kid = header.kid.ok_or(OidcError::NoKeyId)?;
    Ok((signing, kid))
}

fn read_claims(part: &str) -> Result<Claims, OidcError> {
    let bytes = decode(part, "its claims are not base64url")?;
    serde_json::from_slice(&bytes).map_err(|error| OidcError::Claims(shown(&error.to_string())))
}

fn decode(part: &str, problem: &'static str) -> Result<Vec<u8>, OidcError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| OidcError::Malformed(problem))
}

fn check_signature<'k>(
    parts: &Parts<'_>,
    signing: Signing,
    kid: &str,
    issuer: &str,
    keys: impl Iterator<Item = &'k Jwk>,
) -> Result<(), OidcError> {
    let mut named = keys
        .filter(|key| key.common.key_id.as_deref() == Some(kid))
        .peekable();
    if named.peek().is_none() {
        return Err(OidcError::UnknownKey {
            issuer: issuer.to_owned(),
            kid: shown(kid),
        });
    }
    let unusable = || OidcError::KeyMismatch {
        kid: shown(kid),
        algorithm: signing.as_str(),
    };
    let key = named
        .find_map(|key| keys::decoding_key(key, signing))
        .ok_or_else(unusable)?;
    match jsonwebtoken::crypto::verify(
        parts.signature,
        parts.signed.as_bytes(),
        &key,
        signing.algorithm(),
    ) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(OidcError::Signature),
    }
}

fn replay_key(issuer: &str, jti: Option<&str>, signed: &str) -> String {
    let seen = match jti {
        Some(jti) => format!("{issuer}\n{jti}"),
        None => signed.to_owned(),
    };
    crate::secret::digest(&seen).to_string()
}

#[cfg(test)]
mod tests;
