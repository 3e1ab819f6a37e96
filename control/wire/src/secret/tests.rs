//! Shows that a token has one text, that nothing prints it, and what is said about a wrong one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

#[test]
fn a_token_names_its_role_and_comes_back_from_its_text() {
    let letters: HashSet<char> = Role::ALL.into_iter().map(Role::letter).collect();
    assert_eq!(letters.len(), Role::ALL.len());
    for role in Role::ALL {
        let secret = Secret::new(role);
        assert_eq!(secret.expose().len(), SECRET_CHARS);
        let read = Secret::parse(&format!(" {}\n", secret.expose())).unwrap();
        assert_eq!(read.role(), role);
        assert_eq!(read.expose(), secret.expose());
        assert_eq!(read.digest(), secret.digest());
        assert_eq!(role.as_str().parse::<Role>().unwrap(), role);
        assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{role}\""));
    }
}

#[test]
fn no_two_tokens_are_the_same() {
    let texts: HashSet<String> = (0..1000)
        .map(|_| Secret::new(Role::Runner).expose().to_owned())
        .collect();
    assert_eq!(texts.len(), 1000);
}

#[test]
fn nothing_prints_a_token() {
    let secret = Secret::new(Role::Admin);
    let hidden = &secret.expose()[4..];
    let shown = format!("{secret} {secret:?} {:?} {}", secret.digest(), secret.digest());
    assert!(!shown.contains(hidden), "{shown}");
    assert!(shown.starts_with("tga_… Secret(admin)"), "{shown}");
    let cut = &secret.expose()[..20];
    assert!(!Secret::parse(cut).unwrap_err().to_string().contains(&cut[4..]));
}

#[test]
fn a_wrong_text_is_told_why() {
    let good = Secret::new(Role::Viewer).expose().to_owned();
    let body = "A".repeat(43);
    let loose = format!("tgv_{}B", "A".repeat(42));
    for (text, error) in [
        (String::new(), SecretError::Prefix),
        ("ghp_0123456789".into(), SecretError::Prefix),
        ("tg".into(), SecretError::Prefix),
        (format!("tgv{body}"), SecretError::Prefix),
        (format!("tgx_{body}"), SecretError::Role('x')),
        (Secret::session(Role::Admin).expose().into(), SecretError::Session),
        (format!("tgV_{body}"), SecretError::Role('V')),
        (good[..46].into(), SecretError::Length(46)),
        (format!("{good}A"), SecretError::Length(48)),
        (format!("tgv_{}+/", "A".repeat(41)), SecretError::Characters),
        (format!("tgv_{}=", "A".repeat(42)), SecretError::Characters),
        (loose, SecretError::Characters),
        (format!("tgv_{}é", "A".repeat(41)), SecretError::Characters),
    ] {
        assert_eq!(Secret::parse(&text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn a_digest_is_sha_256_in_hexadecimal() {
    // FIPS 180-2, appendix B.1.
    let abc = digest("abc");
    let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(abc.to_string(), text);
    assert_eq!(text.parse::<TokenDigest>().unwrap(), abc);
    assert_eq!(serde_json::to_string(&abc).unwrap(), format!("\"{text}\""));
    let read: TokenDigest = serde_json::from_str(&format!("\"{text}\"")).unwrap();
    assert_eq!(read, abc);
    assert_ne!(digest("abd"), abc);
    assert_eq!(HashSet::from([abc, read, digest("abd")]).len(), 2);
    for wrong in [&text[1..], &text.to_uppercase(), &format!("{text}00"), "", "é"] {
        assert_eq!(wrong.parse::<TokenDigest>(), Err(DigestError), "{wrong}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}", tail in "[A-Za-z0-9_-]{40,46}") {
        let _ = Secret::parse(&text);
        let _ = text.parse::<TokenDigest>();
        let text = format!("tgr_{tail}");
        if let Ok(secret) = Secret::parse(&text) {
            prop_assert_eq!(secret.expose(), text.as_str());
        }
    }
}
