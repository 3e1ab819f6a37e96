//! Why a token is not good: one sentence each, for the person whose job it was.
//!
//! Owns the sentences. What they quote from a token is cut short, because anybody may have written it.

use jiff::Timestamp;
use thiserror::Error;

use super::{LEEWAY_SECONDS, MAX_LIFE_SECONDS, MAX_TOKEN};

/// Characters of a token's text that an error quotes at most.
const SHOWN: usize = 200;

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OidcError {
    /// Larger than any forge's.
    #[error("the token has {0} bytes; at most {MAX_TOKEN} are read")]
    TooLarge(usize),
    /// Not a JWT.
    #[error("the token is not a signed JWT: {0}")]
    Malformed(&'static str),
    /// Signed in another way, or not at all.
    #[error("the token's algorithm {0:?} is not accepted; RS256 and ES256 are")]
    Algorithm(String),
    /// Its header demands extensions to be understood.
    #[error("the token's header names critical extensions (`crit`), and none is understood")]
    Critical,
    /// Its header names no key.
    #[error("the token's header names no key (`kid`)")]
    NoKeyId,
    /// Claims that are no object, come twice or have the wrong type.
    #[error("the token's claims can't be read: {0}")]
    Claims(String),
    /// Signed by somebody who is not configured.
    #[error("the token's issuer {0:?} is not configured (`control.oidc`)")]
    UnknownIssuer(String),
    /// An ID token of another issuer than the one that people log in at.
    #[error("the token's issuer is {found:?}, expected {expected:?}")]
    OtherIssuer {
        /// What the token says.
        found: String,
        /// What is configured.
        expected: String,
    },
    /// An ID token that was made for another client too, or for another alone.
    #[error("the token was given to {found:?} (`azp`), expected {expected:?}")]
    AuthorizedParty {
        /// What the token says; empty when it says nothing where it has to.
        found: String,
        /// The client's id.
        expected: String,
    },
    /// An ID token of another login.
    #[error("the token belongs to another login (`nonce`)")]
    Nonce,
    /// Signed by a key that is not in the issuer's set as last fetched. Fetching it again may help.
    #[error("the token's key {kid:?} is not among the keys of {issuer} as last fetched")]
    UnknownKey {
        /// Whose keys were looked through.
        issuer: String,
        /// The key's id in the token's header.
        kid: String,
    },
    /// The key is another kind's, or is not for signatures.
    #[error("the issuer's key {kid:?} is not one for {algorithm} signatures")]
    KeyMismatch {
        /// The key's id.
        kid: String,
        /// The algorithm in the token's header.
        algorithm: &'static str,
    },
    /// Changed on its way, or made by somebody else.
    #[error("the token's signature does not fit its contents")]
    Signature,
    /// Meant for another service.
    #[error("the token is meant for {found:?}, expected the audience {expected:?}")]
    Audience {
        /// What the token says.
        found: String,
        /// What is configured.
        expected: String,
    },
    /// Good, but of somebody else's job at the same forge.
    #[error(
        "the token is of a job of {owner:?}, whom `control.oidc` does not name among the owners for {issuer}"
    )]
    Owner {
        /// Whose job it is.
        owner: String,
        /// Who signed it.
        issuer: String,
    },
    /// Too late.
    #[error("the token expired at {at}, and it is {now} ({LEEWAY_SECONDS} s of skew are tolerated)")]
    Expired {
        /// Its `exp`.
        at: Timestamp,
        /// Our clock.
        now: Timestamp,
    },
    /// Too early.
    #[error(
        "the token is good from {at} (`{claim}`), and it is {now} ({LEEWAY_SECONDS} s of skew are tolerated): \
         compare the clocks"
    )]
    NotYetValid {
        /// `nbf` or `iat`.
        claim: &'static str,
        /// What it says.
        at: Timestamp,
        /// Our clock.
        now: Timestamp,
    },
    /// Too long: it would have to be remembered for too long.
    #[error("the token is good until {at}, more than {} hours from now", MAX_LIFE_SECONDS / 3600)]
    TooLong {
        /// Its `exp`.
        at: Timestamp,
    },
    /// Something that every job's token says is not there.
    #[error("the token has no claim `{0}`")]
    MissingClaim(&'static str),
    /// A claim that can't be right.
    #[error("the token's claim `{claim}` is {found:?}, expected {expected}")]
    BadClaim {
        /// Its name.
        claim: &'static str,
        /// What it says.
        found: String,
        /// What would be right.
        expected: &'static str,
    },
}

/// A stranger's text, cut short.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
