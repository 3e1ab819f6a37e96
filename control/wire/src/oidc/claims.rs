//! The claims of a job's token, and what they say.
//!
//! Owns their reading: types, bounds, times and the identity. Claims that we don't know are left alone, those that we know
//! have to be right: an odd one refuses the token, except a workflow's file, whose oddity is known as «no file».

use compact_str::CompactString;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Number;
use tidegate_policy::job::{Assurance, JobIdentity};

use super::error::{OidcError, shown};
use super::workflow::signed_file;
use super::{LEEWAY_SECONDS, MAX_LIFE_SECONDS};

/// Longest short claim (names, numbers, events) in bytes.
const MAX_SHORT: usize = 255;
/// Longest Git ref in bytes.
const MAX_REF: usize = 1024;
/// Audiences in one token at most.
pub(super) const MAX_AUDIENCES: usize = 16;

/// What is read of a token. A claim that comes twice is an error: two readers could choose differently.
#[derive(Deserialize)]
pub(super) struct Claims {
    iss: Option<String>,
    aud: Option<Audience>,
    exp: Option<Number>,
    nbf: Option<Number>,
    iat: Option<Number>,
    jti: Option<String>,
    repository: Option<String>,
    repository_owner: Option<String>,
    /// The caller's workflow. `job_workflow_ref` names the called (reusable) one and is never read.
    workflow_ref: Option<String>,
    run_id: Option<Text>,
    run_attempt: Option<Text>,
    event_name: Option<String>,
    #[serde(rename = "ref")]
    git_ref: Option<String>,
    actor: Option<String>,
    runner_environment: Option<String>,
}

/// RFC 7519 §4.1.3: one string or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// GitHub writes numbers as strings; others write numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Number(u64),
}

impl Claims {
    pub(super) fn issuer(&self) -> Result<&str, OidcError> {
        self.iss.as_deref().ok_or(OidcError::MissingClaim("iss"))
    }

    pub(super) fn audience(&self) -> Result<Vec<&str>, OidcError> {
        match self.aud.as_ref().ok_or(OidcError::MissingClaim("aud"))? {
            Audience::One(one) => Ok(vec![one]),
            Audience::Many(many) if many.len() <= MAX_AUDIENCES => {
                Ok(many.iter().map(String::as_str).collect())
            }
            Audience::Many(many) => Err(OidcError::BadClaim {
                claim: "aud",
                found: format!("{} names", many.len()),
                expected: "at most 16",
            }),
        }
    }

    /// Judges `exp`, `nbf` and `iat`; returns until when the token may be used.
    pub(super) fn check_times(&self, now: Timestamp) -> Result<Timestamp, OidcError> {
        let times = Times {
            exp: self.exp.as_ref(),
            nbf: self.nbf.as_ref(),
            iat: self.iat.as_ref(),
        };
        times.check(now)
    }

    pub(super) fn jti(&self) -> Result<Option<CompactString>, OidcError> {
        let jti = short("jti", self.jti.as_deref())?;
        Ok((!jti.is_empty()).then_some(jti))
    }

    pub(super) fn runner_environment(&self) -> Result<CompactString, OidcError> {
        short("runner_environment", self.runner_environment.as_deref())
    }

    pub(super) fn identity(&self) -> Result<JobIdentity, OidcError> {
        let repository = self
            .repository
            .as_deref()
            .ok_or(OidcError::MissingClaim("repository"))?;
        let owner = owner_of(repository, self.repository_owner.as_deref())?;
        let file = self
            .workflow_ref
            .as_deref()
            .and_then(|text| signed_file(repository, text));
        let identity = JobIdentity {
            owner: owner.into(),
            repo: repository.into(),
            workflow: file.unwrap_or_default().into(),
            job: CompactString::default(),
            run_id: short("run_id", text(self.run_id.as_ref()).as_deref())?,
            run_attempt: self.run_attempt()?,
            runner_name: CompactString::default(),
            cluster: CompactString::default(),
            event: short("event_name", self.event_name.as_deref())?,
            git_ref: printable("ref", self.git_ref.as_deref(), MAX_REF)?,
            actor: short("actor", self.actor.as_deref())?,
            // No claim says it: [`JobIdentity::head_repo`] is the runner's word.
            head_repo: CompactString::default(),
            assurance: Assurance::Signed,
        };
        Ok(identity.canonical())
    }

    fn run_attempt(&self) -> Result<u32, OidcError> {
        let Some(attempt) = text(self.run_attempt.as_ref()) else {
            return Ok(0);
        };
        attempt
            .parse()
            .map_err(|_| bad("run_attempt", &attempt, "a number from 1"))
    }
}

/// When a token is good, as it says itself.
pub(super) struct Times<'a> {
    pub(super) exp: Option<&'a Number>,
    pub(super) nbf: Option<&'a Number>,
    pub(super) iat: Option<&'a Number>,
}

impl Times<'_> {
    /// Judges them; returns until when the token may be used.
    pub(super) fn check(&self, now: Timestamp) -> Result<Timestamp, OidcError> {
        let clock = now.as_second();
        let exp = self.exp.ok_or(OidcError::MissingClaim("exp"))?;
        let at = time("exp", exp)?;
        // RFC 7519 §4.1.4: the time must be *before* `exp`.
        let end = at.as_second().saturating_add(LEEWAY_SECONDS);
        if clock >= end {
            return Err(OidcError::Expired { at, now });
        }
        if at.as_second() > clock.saturating_add(MAX_LIFE_SECONDS) {
            return Err(OidcError::TooLong { at });
        }
        for (claim, value) in [("nbf", self.nbf), ("iat", self.iat)] {
            let Some(value) = value else { continue };
            let at = time(claim, value)?;
            if at.as_second() > clock.saturating_add(LEEWAY_SECONDS) {
                return Err(OidcError::NotYetValid { claim, at, now });
            }
        }
        Ok(Timestamp::from_second(end).unwrap_or(Timestamp::MAX))
    }
}

/// The owner in `owner/name`, which has to be the one that the other claim says.
fn owner_of<'a>(repository: &'a str, claimed: Option<&str>) -> Result<&'a str, OidcError> {
    let expected = "`owner/name` of letters, digits and `._-`";
    let owner = match repository.split_once('/') {
        Some((owner, name)) if is_name(owner) && is_name(name) => owner,
        Some(_) | None => return Err(bad("repository", repository, expected)),
    };
    match claimed {
        Some(claimed) if !claimed.eq_ignore_ascii_case(owner) => {
            Err(bad("repository_owner", claimed, "the owner in `repository`"))
        }
        Some(_) | None => Ok(owner),
    }
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=100).contains(&text.len()) && text.bytes().all(plain) && text.bytes().any(|byte| byte != b'.')
}

/// A NumericDate (RFC 7519 §2): seconds, perhaps with a fraction, which is cut off.
fn time(claim: &'static str, value: &Number) -> Result<Timestamp, OidcError> {
    let seconds = match (value.as_i64(), value.as_f64()) {
        (Some(whole), _) => Some(whole),
        // The cast saturates, and what saturates is no timestamp.
        (None, Some(real)) => Some(real as i64),
        (None, None) => None,
    };
    seconds
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .ok_or_else(|| bad(claim, &value.to_string(), "a time in seconds since 1970"))
}

fn text(value: Option<&Text>) -> Option<String> {
    value.map(|value| match value {
        Text::Text(text) => text.clone(),
        Text::Number(number) => number.to_string(),
    })
}

pub(super) fn short(claim: &'static str, value: Option<&str>) -> Result<CompactString, OidcError> {
    printable(claim, value, MAX_SHORT)
}

/// A claim that ends up in events and logs.
pub(super) fn printable(
    claim: &'static str,
    value: Option<&str>,
    max: usize,
) -> Result<CompactString, OidcError> {
    let value = value.unwrap_or_default();
    if value.len() > max || value.chars().any(char::is_control) {
        return Err(bad(claim, value, "a short text without control characters"));
    }
    Ok(value.into())
}

fn bad(claim: &'static str, found: &str, expected: &'static str) -> OidcError {
    OidcError::BadClaim {
        claim,
        found: shown(found),
        expected,
    }
}
