//! ID tokens of people: who an issuer says has logged in (OpenID Connect Core 1.0 §3.1.3.7).
//!
//! Owns the verification of an ID token that the token endpoint gave for a code. It is never asked about a job, and what
//! it reads never is a job's identity: neither side takes the other's tokens, whatever keys they share.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use jiff::Timestamp;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::claims::{MAX_AUDIENCES, Times, printable, short};
use super::error::{OidcError, shown};
use super::{JwkSet, check_signature, decode, read_header, split};

/// Longest ID token in bytes: a person may be in hundreds of groups.
pub const MAX_ID_TOKEN: usize = 128 * 1024;
/// Groups of one person at most.
pub const MAX_GROUPS: usize = 2_000;
/// Longest name of a group, in bytes.
const MAX_GROUP: usize = 512;

/// What an ID token has to say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The `iss` claim, compared exactly.
    pub issuer: &'a str,
    /// Who it has to be for.
    pub client_id: &'a str,
    /// What the login sent along, compared in constant time.
    pub nonce: &'a str,
    /// The claim that names the person; without one the first of `email` (unless it is said not to be verified),
    /// `preferred_username` and `sub`.
    pub name_claim: Option<&'a str>,
    /// The claim that lists the person's groups.
    pub groups_claim: &'a str,
}

/// Who logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPerson {
    /// The `sub` claim: stays though a name changes.
    pub subject: String,
    /// What to call the person; never empty, without control characters.
    pub name: String,
    /// The groups, as the issuer writes them; none where the claim is absent.
    pub groups: Vec<String>,
}

/// Checks an ID token by these keys and reads who it is about.
///
/// Accepts RS256 and ES256 by the key that its header names. `iss` must equal the issuer; `aud` must name the client,
/// which must be `azp` where that is said or where `aud` has further names; `exp`, `iat`, `sub` and `nonce` must be there.
/// Times are judged by `now`, with [`super::LEEWAY_SECONDS`].
pub fn verify_person(
    token: &str,
    keys: &JwkSet,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Result<VerifiedPerson, OidcError> {
    let token = token.trim();
    if token.len() > MAX_ID_TOKEN {
        return Err(OidcError::Malformed("it has more than 128 KiB"));
    }
    let parts = split(token)?;
    let (signing, kid) = read_header(parts.header)?;
    let claims: Claims = {
        let bytes = decode(parts.claims, "its claims are not base64url")?;
        serde_json::from_slice(&bytes).map_err(|error| OidcError::Claims(shown(&error.to_string())))?
    };
    let issuer = claims.required("iss")?;
    if issuer != expected.issuer {
        return Err(OidcError::OtherIssuer {
            found: shown(issuer),
            expected: expected.issuer.to_owned(),
        });
    }
    check_signature(&parts, signing, &kid, issuer, keys.keys.iter())?;
    claims.check_audience(expected.client_id)?;
    claims.check_times(now)?;
    let nonce = claims.required("nonce")?;
    if verify_slices_are_equal(nonce.as_bytes(), expected.nonce.as_bytes()).is_err() {
        return Err(OidcError::Nonce);
    }
    let subject = claims.required("sub")?;
    let subject = short("sub", Some(subject))?.to_string();
    if subject.is_empty() {
        return Err(OidcError::MissingClaim("sub"));
    }
    Ok(VerifiedPerson {
        name: claims.name(expected.name_claim, &subject)?,
        groups: claims.groups(expected.groups_claim)?,
        subject,
    })
}

/// The claims by their names, which are configured in part. A claim that comes twice is an error: two readers could
/// choose differently.
struct Claims(HashMap<String, Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Once)
    }
}

/// Reads an object whose fields come once.
struct Once;

impl<'de> Visitor<'de> for Once {
    type Value = Claims;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Claims, A::Error> {
        let mut claims = HashMap::new();
        while let Some((name, value)) = fields.next_entry::<String, Value>()? {
            if claims.contains_key(&name) {
                return Err(A::Error::custom(format!("`{name}` comes twice")));
            }
            claims.insert(name, value);
        }
        Ok(Claims(claims))
    }
}

impl Claims {
    fn text(&self, claim: &str) -> Option<&str> {
        self.0.get(claim).and_then(Value::as_str)
    }

    fn required(&self, claim: &'static str) -> Result<&str, OidcError> {
        self.text(claim).ok_or(OidcError::MissingClaim(claim))
    }

    fn check_audience(&self, client: &str) -> Result<(), OidcError> {
        let audience: Vec<&str> = match self.0.get("aud") {
            None => return Err(OidcError::MissingClaim("aud")),
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) if many.len() <= MAX_AUDIENCES => {
                many.iter().filter_map(Value::as_str).collect()
            }
            Some(_) => {
                return Err(OidcError::Claims(
                    "`aud` is neither a text nor a short list".into(),
                ));
            }
        };
        if !audience.contains(&client) {
            return Err(OidcError::Audience {
                found: shown(&audience.join(", ")),
                expected: client.to_owned(),
            });
        }
        match self.0.get("azp") {
            None if audience.len() == 1 => Ok(()),
            Some(Value::String(party)) if party == client => Ok(()),
            other => Err(OidcError::AuthorizedParty {
                found: shown(other.and_then(Value::as_str).unwrap_or_default()),
                expected: client.to_owned(),
            }),
        }
    }

    fn check_times(&self, now: Timestamp) -> Result<(), OidcError> {
        let number = |claim| match self.0.get(claim) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(number)),
            Some(_) => Err(OidcError::Claims(format!("`{claim}` is no number"))),
        };
        let times = Times {
            exp: number("exp")?,
            nbf: number("nbf")?,
            iat: number("iat")?,
        };
        if times.iat.is_none() {
            return Err(OidcError::MissingClaim("iat"));
        }
        times.check(now).map(drop)
    }

    /// What to call the person.
    fn name(&self, claim: Option<&str>, subject: &str) -> Result<String, OidcError> {
        // Some issuers say it in a text.
        let verified = match self.0.get("email_verified") {
            Some(Value::Bool(said)) => *said,
            Some(Value::String(said)) => !said.eq_ignore_ascii_case("false"),
            None | Some(Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_)) => true,
        };
        let name = match claim {
            Some(claim) => self.text(claim),
            None => self
                .text("email")
                .filter(|_| verified)
                .or_else(|| self.text("preferred_username")),
        };
        let name = printable("name", name, MAX_GROUP)?;
        let name = name.trim();
        Ok(if name.is_empty() { subject } else { name }.to_owned())
    }

    fn groups(&self, claim: &str) -> Result<Vec<String>, OidcError> {
        let odd = || OidcError::Claims("the claim of groups is no list of short texts".into());
        match self.0.get(claim) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::String(one)) => Ok(vec![one.clone()]),
            Some(Value::Array(many)) if many.len() <= MAX_GROUPS => many
                .iter()
                .map(|group| {
                    let group = group.as_str().filter(|text| text.len() <= MAX_GROUP);
                    group.map(str::to_owned).ok_or_else(odd)
                })
                .collect(),
            Some(_) => Err(odd()),
        }
    }
}
