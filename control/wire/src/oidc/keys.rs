//! Which keys of an issuer's set verify which signatures.
//!
//! Owns the rule that a key serves one algorithm (RFC 8725 §3.1), so that a token never chooses how its key is used.

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};

/// How a token may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signing {
    /// RSA, PKCS #1 v1.5, SHA-256.
    Rs256,
    /// ECDSA on P-256, SHA-256.
    Es256,
}

impl Signing {
    const ALL: [Self; 2] = [Self::Rs256, Self::Es256];

    /// Reads a header's `alg`. Everything else ends here: `none`, HMAC (a public key as its secret), weaker and other
    /// signatures.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }

    pub(super) const fn algorithm(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
        }
    }

    const fn key_algorithm(self) -> KeyAlgorithm {
        match self {
            Self::Rs256 => KeyAlgorithm::RS256,
            Self::Es256 => KeyAlgorithm::ES256,
        }
    }
}

/// Keys of one issuer at most; a set has two to five.
pub const MAX_KEYS: usize = 64;

/// Characters in base64url of an RSA modulus: 2048 to 8192 bits, as the verification takes them.
const MODULUS: std::ops::RangeInclusive<usize> = 342..=1366;

/// Characters in base64url of a coordinate of P-256: 32 bytes.
const COORDINATE: usize = 43;

/// The keys of a set that a token can be verified by, the first [`MAX_KEYS`] of them: named, public, for signatures.
/// Nothing else of a set has to reach a gateway.
#[must_use]
pub fn usable_keys(set: JwkSet) -> JwkSet {
    let usable = |key: &Jwk| {
        key.common.key_id.is_some()
            && Signing::ALL
                .into_iter()
                .any(|signing| decoding_key(key, signing).is_some())
    };
    JwkSet {
        keys: set.keys.into_iter().filter(usable).take(MAX_KEYS).collect(),
    }
}

/// The key for signatures of this algorithm, when it is one.
pub(super) fn decoding_key(key: &Jwk, signing: Signing) -> Option<DecodingKey> {
    let common = &key.common;
    let for_it = common
        .key_algorithm
        .is_none_or(|own| own == signing.key_algorithm());
    let signs = common
        .public_key_use
        .as_ref()
        .is_none_or(|own| *own == PublicKeyUse::Signature);
    let verifies = common
        .key_operations
        .as_ref()
        .is_none_or(|own| own.contains(&KeyOperations::Verify));
    if !(for_it && signs && verifies) {
        return None;
    }
    match (signing, &key.algorithm) {
        (Signing::Rs256, AlgorithmParameters::RSA(rsa)) if MODULUS.contains(&rsa.n.len()) => {
            DecodingKey::from_rsa_components(&rsa.n, &rsa.e).ok()
        }
        (Signing::Es256, AlgorithmParameters::EllipticCurve(point))
            if point.curve == EllipticCurve::P256
                && point.x.len() == COORDINATE
                && point.y.len() == COORDINATE =>
        {
            DecodingKey::from_ec_components(&point.x, &point.y).ok()
        }
        (_, _) => None,
    }
}
