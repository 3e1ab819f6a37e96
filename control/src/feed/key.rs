//! Who signs a feed.
//!
//! Owns the reading of the public key as `openssl` and people write it, and the check of a signature (Ed25519, RFC 8032).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, ED25519_PUBLIC_KEY_LEN, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

/// What stands before the 32 bytes in a SubjectPublicKeyInfo (RFC 8410 §4): always the same.
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Bytes of a signature.
const SIGNATURE: usize = 64;

/// Why a text is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not base64, or a length that no such key has.
    #[error("an Ed25519 public key is 32 bytes in base64, or what `openssl pkey -pubout` prints")]
    Shape,
    /// A private key, which has no place here.
    #[error("this is a private key; write the public one (`openssl pkey -in KEY -pubout`)")]
    Private,
}

/// A feed's Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; ED25519_PUBLIC_KEY_LEN]);

impl PublicKey {
    /// True when `signature` (base64, white space around it left out) was made over exactly these bytes.
    pub(super) fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        match STANDARD.decode(signature.trim_ascii()) {
            Ok(signature) if signature.len() == SIGNATURE => UnparsedPublicKey::new(&ED25519, &self.0)
                .verify(bytes, &signature)
                .is_ok(),
            Ok(_) | Err(_) => false,
        }
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let mut coded: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("-----"))
            .collect();
        coded.retain(|c| !c.is_whitespace());
        let bytes = STANDARD.decode(coded).map_err(|_| KeyError::Shape)?;
        let bare = bytes.strip_prefix(&SPKI).unwrap_or(&bytes);
        bare.try_into().map(Self).map_err(|_| KeyError::Shape)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PublicKey({self})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// RFC 8032 §7.1, test 2: the key, and its signature over the byte 0x72.
    const KEY: [u8; 32] = [
        0x3d, 0x40, 0x17, 0xc3, 0xe8, 0x43, 0x89, 0x5a, 0x92, 0xb7, 0x0a, 0xa7, 0x4d, 0x1b, 0x7e, 0xbc, 0x9c,
        0x98, 0x2c, 0xcf, 0x2e, 0xc4, 0x96, 0x8c, 0xc0, 0xcd, 0x55, 0xf1, 0x2a, 0xf4, 0x66, 0x0c,
    ];
    const SIGNED: [u8; 64] = [
        0x92, 0xa0, 0x09, 0xa9, 0xf0, 0xd4, 0xca, 0xb8, 0x72, 0x0e, 0x82, 0x0b, 0x5f, 0x64, 0x25, 0x40, 0xa2,
        0xb2, 0x7b, 0x54, 0x16, 0x50, 0x3f, 0x8f, 0xb3, 0x76, 0x22, 0x23, 0xeb, 0xdb, 0x69, 0xda, 0x08, 0x5a,
        0xc1, 0xe4, 0x3e, 0x15, 0x99, 0x6e, 0x45, 0x8f, 0x36, 0x13, 0xd0, 0xf1, 0x1d, 0x8c, 0x38, 0x7b, 0x2e,
        0xae, 0xb4, 0x30, 0x2a, 0xee, 0xb0, 0x0d, 0x29, 0x16, 0x12, 0xbb, 0x0c, 0x00,
    ];

    #[test]
    fn a_key_is_read_bare_and_as_openssl_prints_it() {
        let bare = STANDARD.encode(KEY);
        let spki = STANDARD.encode([&SPKI[..], &KEY].concat());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n");
        for text in [&bare, &format!(" {bare}\n"), &spki, &pem] {
            let key: PublicKey = text.parse().unwrap();
            assert_eq!(key.to_string(), bare);
        }
        let private = pem.replace("PUBLIC", "PRIVATE");
        assert_eq!(private.parse::<PublicKey>(), Err(KeyError::Private));
        let long = STANDARD.encode([0; 33]);
        for text in ["", "x", "AAAA", &bare[1..], &long, &spki[..40], "ключ"] {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError::Shape), "{text}");
        }
    }

    #[test]
    fn a_signature_is_good_for_its_bytes_only() {
        let key = PublicKey(KEY);
        let signature = STANDARD.encode(SIGNED);
        assert!(key.verifies(&[0x72], signature.as_bytes()));
        assert!(key.verifies(&[0x72], format!("{signature}\n").as_bytes()));
        assert!(!key.verifies(&[0x73], signature.as_bytes()));
        assert!(!key.verifies(&[], signature.as_bytes()));
        assert!(!key.verifies(&[0x72], &SIGNED));
        for wrong in ["", "AAAA", &signature[4..], "-----BEGIN"] {
            assert!(!key.verifies(&[0x72], wrong.as_bytes()), "{wrong}");
        }
        let mut other = KEY;
        other[0] ^= 1;
        assert!(!PublicKey(other).verifies(&[0x72], signature.as_bytes()));
    }
}
