//! Bearer tokens: their text, and the digest by which they are known.
//!
//! Owns how a token is made, read and compared. Whoever made one shows its text once; stores and gateways keep only the
//! digest. Nothing here prints a text, not even in an error.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Length of a token's text: `tg`, a letter (a role's, or `s` of a session), `_`, 43 characters.
pub const SECRET_CHARS: usize = 47;

/// Random bytes of a token.
const RANDOM: usize = 32;

/// The letter of a session's text, which no role has: who finds one sees that it ends by itself.
const SESSION: char = 's';

/// What a token is for. Its letter in the text lets a person (and a scanner for leaked secrets) tell what was found;
/// what the token may do is what the store says, never the letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Reads and writes policies.
    Editor,
    /// Reads.
    Viewer,
    /// A gateway: syncs.
    Gateway,
    /// An autoscaler: registers jobs and ends any source in its networks.
    Provisioner,
    /// A runner: registers, reads and ends its own job.
    Runner,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] = [
        Self::Admin,
        Self::Editor,
        Self::Viewer,
        Self::Gateway,
        Self::Provisioner,
        Self::Runner,
    ];

    /// The spelling in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Editor => "editor",
            Self::Viewer => "viewer",
            Self::Gateway => "gateway",
            Self::Provisioner => "provisioner",
            Self::Runner => "runner",
        }
    }

    /// The letter after `tg`.
    pub const fn letter(self) -> char {
        match self {
            Self::Admin => 'a',
            Self::Editor => 'e',
            Self::Viewer => 'v',
            Self::Gateway => 'g',
            Self::Provisioner => 'p',
            Self::Runner => 'r',
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A word that is no role.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a role; write admin, editor, viewer, gateway, provisioner or runner")]
pub struct RoleError(pub String);

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| RoleError(text.chars().take(64).collect()))
    }
}

/// Why a text is no token. Never says the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SecretError {
    /// Not `tg`, a letter, `_`.
    #[error("a token begins with `tg`, a letter for its role and `_`")]
    Prefix,
    /// A letter that no role has.
    #[error("no role has the letter {0:?}; a token begins with tga_, tge_, tgv_, tgg_, tgp_ or tgr_")]
    Role(char),
    /// What a browser is logged in by.
    #[error("this is a browser's session, which ends by itself; make a token with `tidegate token create`")]
    Session,
    /// Cut off, or with something behind it.
    #[error("a token has {SECRET_CHARS} characters, this text has {0}")]
    Length(usize),
    /// Not base64url, or not the text that 32 bytes are written as.
    #[error("after its prefix a token has only letters, digits, `-` and `_`, as they were shown")]
    Characters,
}

/// The text of a token. Neither `Debug` nor `Display` shows it.
#[derive(Clone)]
pub struct Secret {
    role: Role,
    text: Box<str>,
}

impl Secret {
    /// Makes a token from 32 random bytes.
    pub fn new(role: Role) -> Self {
        Self::made(role, role.letter())
    }

    /// The same for a session of this role, which [`Self::parse`] refuses: a session is no token to be kept in a file.
    pub fn session(role: Role) -> Self {
        Self::made(role, SESSION)
    }

    fn made(role: Role, letter: char) -> Self {
        let mut random = [0; RANDOM];
        // aws-lc aborts the process rather than give out predictable bytes; its wrapper's error is never made.
        rand::fill(&mut random).expect("the system's random source answers");
        let text = format!("tg{letter}_{}", URL_SAFE_NO_PAD.encode(random));
        Self {
            role,
            text: text.into(),
        }
    }

    /// Reads a token as someone typed or stored it; white space around it is left out.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let rest = text.strip_prefix("tg").ok_or(SecretError::Prefix)?;
        let mut rest = rest.chars();
        let letter = rest.next().ok_or(SecretError::Prefix)?;
        let coded = rest.as_str().strip_prefix('_').ok_or(SecretError::Prefix)?;
        if letter == SESSION {
            return Err(SecretError::Session);
        }
        let role = Role::ALL
            .into_iter()
            .find(|role| role.letter() == letter)
            .ok_or(SecretError::Role(letter))?;
        if text.len() != SECRET_CHARS {
            return Err(SecretError::Length(text.chars().count()));
        }
        // The decoder refuses padding and loose bits at the end, so one token has one text.
        let bytes = URL_SAFE_NO_PAD
            .decode(coded)
            .map_err(|_| SecretError::Characters)?;
        if bytes.len() != RANDOM {
            return Err(SecretError::Characters);
        }
        Ok(Self {
            role,
            text: text.into(),
        })
    }

    /// What its letter says that it is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The text, to be shown once or sent as a bearer.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// What is kept of it.
    pub fn digest(&self) -> TokenDigest {
        digest(&self.text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Secret({})", self.role)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}_…", self.text.get(..3).unwrap_or_default())
    }
}

/// SHA-256 of a token's text; written as 64 lower-case hexadecimal digits.
///
/// A plain hash is enough: slow hashes (Argon2, bcrypt) buy time against a guesser who has the hash and a short list of
/// likely passwords. A token is 256 random bits, so there is no list, and every request of every runner is
/// authenticated: a slow hash would only be a lever for exhausting the gateway.
///
/// Equality takes the same time wherever the digests differ.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; SHA256_OUTPUT_LEN]);

/// The digest of a token's text, white space around it left out. Any text has one, so that a wrong token costs what a
/// right one does.
pub fn digest(text: &str) -> TokenDigest {
    let hash = aws_lc_rs::digest::digest(&SHA256, text.trim().as_bytes());
    let mut bytes = [0; SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(hash.as_ref());
    TokenDigest(bytes)
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for TokenDigest {}

impl Hash for TokenDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for TokenDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TokenDigest({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// A text that is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a token's digest is 64 lower-case hexadecimal digits")]
pub struct DigestError;

impl FromStr for TokenDigest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let nibble = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(DigestError),
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != SHA256_OUTPUT_LEN || !rest.is_empty() {
            return Err(DigestError);
        }
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for TokenDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
