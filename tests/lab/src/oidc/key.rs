//! Owns an issuer's signing keys: making them, publishing them as JSON Web
//! Keys (RFC 7517, RFC 7518 section 6), signing with them. No sockets.
//! Never keeps a key: they live as long as their issuer.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::error::{LabError, invalid};

/// What kind of key an issuer signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA, 2048 bits: what GitHub's issuer has.
    Rs256,
    /// ECDSA on P-256.
    Es256,
}

/// A key and its name.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) kid: String,
    /// Whether `/jwks` shows it.
    pub(super) published: bool,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl Key {
    pub(super) fn generate(kind: KeyKind, kid: String) -> Result<Self, LabError> {
        let pair = match kind {
            KeyKind::Rs256 => RsaKeyPair::generate(KeySize::Rsa2048).map(Pair::Rsa),
            KeyKind::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Pair::Ec),
        };
        Ok(Self {
            pair: pair.map_err(|error| invalid(format!("key {kid}"), error))?,
            kid,
            published: true,
        })
    }

    /// The algorithm that it is for.
    pub(super) fn alg(&self) -> &'static str {
        match &self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ec(_) => "ES256",
        }
    }

    /// Its public half, as `/jwks` shows it.
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let (modulus, exponent) = rsa_numbers(pair.public_key().as_ref());
                json!({"kty": "RSA", "n": base64(modulus), "e": base64(exponent)})
            }
            Pair::Ec(pair) => {
                // SEC 1 section 2.3.3: 04, x, y.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y)})
            }
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.alg());
        jwk["use"] = json!("sig");
        jwk
    }

    /// The signature that fits a header with this algorithm, as well as the
    /// key can: `none` has none, `HS256` takes the public half for a secret
    /// (RFC 8725 section 2.1), an RSA key does RS256, RS384, RS512 and PS256.
    pub(super) fn sign(&self, alg: &str, message: &[u8]) -> Result<Vec<u8>, LabError> {
        let random = SystemRandom::new();
        let signed = match (&self.pair, alg) {
            (_, "none") => Ok(Vec::new()),
            (Pair::Rsa(pair), "HS256") => Ok(hmac_with(pair.public_key().as_ref(), message)),
            (Pair::Ec(pair), "HS256") => Ok(hmac_with(pair.public_key().as_ref(), message)),
            (Pair::Rsa(pair), alg) => {
                let padding = match alg {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                let signed = pair.sign(padding, &random, message, &mut signature);
                signed.map(|()| signature)
            }
            (Pair::Ec(pair), _) => pair.sign(&random, message).map(|signed| signed.as_ref().to_vec()),
        };
        signed.map_err(|error| invalid(format!("signature by {}", self.kid), error))
    }
}

/// Without padding, as everything in a JSON Web Token (RFC 7515 section 2).
pub(super) fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn hmac_with(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::sign(&key, message).as_ref().to_vec()
}

/// Modulus and exponent of a 2048 bit `RSAPublicKey` (RFC 8017 appendix A.1.1).
/// All its lengths are fixed: SEQUENCE (4 octets of tag and length), INTEGER
/// (4, and a zero), 256 octets, INTEGER (2), 3 octets.
fn rsa_numbers(der: &[u8]) -> (&[u8], &[u8]) {
    assert_eq!(der.len(), 270, "an RSAPublicKey of 2048 bits with exponent 65537");
    (&der[9..265], &der[267..])
}
