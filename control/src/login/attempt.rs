//! Attempts to log in: what ties the way back to the way there.
//!
//! Owns state, nonce and code verifier. Nothing is kept: all three are made from the attempt's random number by a key,
//! and the attempt's text carries the number with a seal. So nobody fills a memory by beginning logins, and any control
//! plane with the key finishes what another began. That a code is good once is the issuer's to see to.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

/// Bytes of the key.
const KEY_BYTES: usize = 32;
/// How long a person may take at the issuer.
const LIFE: SignedDuration = SignedDuration::from_mins(10);
/// How far the clocks of two control planes may be apart.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);
/// Random bytes, and those of the second in which it began.
const NUMBER: usize = 16;
const BORN: usize = 8;
const SEAL: usize = 32;

/// Why an attempt is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AttemptError {
    /// Not made here, or changed.
    #[error("this login was not begun here; begin it again")]
    Unknown,
    /// Took too long.
    #[error("this login was begun more than {} minutes ago; begin it again", LIFE.as_mins())]
    Expired,
    /// The way back belongs to another way there.
    #[error("the issuer's answer belongs to another login (`state`); begin it again")]
    State,
}

/// What attempts are made and known by; shared by the control planes of one store.
pub struct LoginKey([u8; KEY_BYTES]);

impl LoginKey {
    /// Makes one from the system's random source.
    pub fn random() -> Self {
        Self(random())
    }

    /// As it is stored: 43 characters of base64url.
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// From that text; `None` for any other.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // aws-lc aborts the process rather than give out predictable bytes; its wrapper's error is never made.
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source answers");
    bytes
}

/// Makes attempts, and knows its own.
pub(super) struct Attempts {
    key: Key,
}

/// An attempt with all that is made from it.
pub(super) struct Attempt {
    /// What comes back from the browser that began.
    pub(super) text: String,
    pub(super) state: String,
    pub(super) nonce: String,
    pub(super) verifier: String,
    pub(super) expires_at: Timestamp,
}

impl Attempts {
    pub(super) fn new(key: &LoginKey) -> Self {
        Self {
            key: Key::new(HMAC_SHA256, &key.0),
        }
    }

    /// A new one.
    pub(super) fn begin(&self, now: Timestamp) -> Attempt {
        let number = [random::<NUMBER>().as_slice(), &now.as_second().to_be_bytes()].concat();
        self.attempt(&number)
    }

    /// The one of this text, if it was made with the key and is young enough.
    pub(super) fn open(&self, text: &str, now: Timestamp) -> Result<Attempt, AttemptError> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .filter(|bytes| bytes.len() == NUMBER + BORN + SEAL)
            .ok_or(AttemptError::Unknown)?;
        let (number, seal) = bytes.split_at(NUMBER + BORN);
        if verify_slices_are_equal(&self.made("attempt", number), seal).is_err() {
            return Err(AttemptError::Unknown);
        }
        let attempt = self.attempt(number);
        let age = now.duration_since(attempt.expires_at - LIFE);
        if age > LIFE || age < -LEEWAY {
            return Err(AttemptError::Expired);
        }
        Ok(attempt)
    }

    fn attempt(&self, number: &[u8]) -> Attempt {
        let mut born = [0; BORN];
        born.copy_from_slice(&number[NUMBER..]);
        // Sealed by us, so it is a time.
        let born = Timestamp::from_second(i64::from_be_bytes(born)).unwrap_or(Timestamp::UNIX_EPOCH);
        let coded = |what| URL_SAFE_NO_PAD.encode(self.made(what, number));
        Attempt {
            text: URL_SAFE_NO_PAD.encode([number, &self.made("attempt", number)].concat()),
            state: coded("state"),
            nonce: coded("nonce"),
            verifier: coded("verifier"),
            expires_at: born + LIFE,
        }
    }

    /// 32 bytes that only the key makes from this number, others for each use.
    fn made(&self, what: &str, number: &[u8]) -> [u8; SEAL] {
        let text = [what.as_bytes(), b"\0", number].concat();
        let mut made = [0; SEAL];
        made.copy_from_slice(sign(&self.key, &text).as_ref());
        made
    }
}

impl Attempt {
    /// RFC 7636 §4.2, `S256`.
    pub(super) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.verifier.as_bytes()))
    }

    pub(super) fn check_state(&self, state: &str) -> Result<(), AttemptError> {
        verify_slices_are_equal(self.state.as_bytes(), state.as_bytes()).map_err(|_| AttemptError::State)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_772_366_400 + seconds).unwrap()
    }

    fn opened(attempts: &Attempts, text: &str, now: Timestamp) -> Result<String, AttemptError> {
        attempts.open(text, now).map(|attempt| attempt.verifier)
    }

    #[test]
    fn an_attempt_comes_back_from_its_text_and_its_parts_differ() {
        let attempts = Attempts::new(&LoginKey([7; KEY_BYTES]));
        let (one, two) = (attempts.begin(at(0)), attempts.begin(at(0)));
        let same = attempts.open(&one.text, at(1)).unwrap();
        assert_eq!(
            (&same.state, &same.nonce, &same.verifier),
            (&one.state, &one.nonce, &one.verifier)
        );
        let all = [
            &one.text,
            &one.state,
            &one.nonce,
            &one.verifier,
            &two.text,
            &two.state,
        ];
        let unique: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(unique.len(), all.len());
        assert_eq!(
            one.verifier.len(),
            43,
            "RFC 7636 section 4.1: 43 to 128 characters"
        );
        assert!(one.check_state(&one.state).is_ok());
        assert_eq!(one.check_state(&two.state), Err(AttemptError::State));
        assert_eq!(one.check_state(""), Err(AttemptError::State));
        let shared = Attempts::new(&LoginKey([7; KEY_BYTES]));
        assert_eq!(
            opened(&shared, &one.text, at(1)).unwrap(),
            one.verifier,
            "another control plane"
        );
    }

    #[test]
    fn what_was_not_made_with_the_key_is_unknown() {
        let attempts = Attempts::new(&LoginKey([7; KEY_BYTES]));
        let text = attempts.begin(at(0)).text;
        let stranger = Attempts::new(&LoginKey([8; KEY_BYTES])).begin(at(0)).text;
        for odd in [
            "",
            "x",
            &text[..74],
            &stranger,
            &format!("{text}A"),
            "n-0S6_WzA2Mj",
        ] {
            assert_eq!(opened(&attempts, odd, at(0)), Err(AttemptError::Unknown), "{odd}");
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        for place in 0..bytes.len() {
            bytes[place] ^= 1;
            let changed = URL_SAFE_NO_PAD.encode(&bytes);
            assert_eq!(opened(&attempts, &changed, at(0)), Err(AttemptError::Unknown));
            bytes[place] ^= 1;
        }
    }

    #[test]
    fn a_key_comes_back_from_its_text() {
        let key = LoginKey::random();
        assert_eq!(LoginKey::parse(&key.text()).unwrap().0, key.0);
        assert_ne!(LoginKey::random().0, key.0);
        assert!(LoginKey::parse("").is_none() && LoginKey::parse(&key.text()[1..]).is_none());
    }

    #[test]
    fn ten_minutes_and_no_second_more() {
        let attempts = Attempts::new(&LoginKey([7; KEY_BYTES]));
        let text = attempts.begin(at(0)).text;
        for (seconds, good) in [(-61, false), (-60, true), (600, true), (601, false)] {
            assert_eq!(opened(&attempts, &text, at(seconds)).is_ok(), good, "{seconds}");
        }
    }

    #[test]
    fn the_challenge_is_the_verifiers_digest() {
        // RFC 7636, appendix B.
        let attempt = Attempt {
            text: String::new(),
            state: String::new(),
            nonce: String::new(),
            verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into(),
            expires_at: at(0),
        };
        assert_eq!(attempt.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
