//! The cookies of the UI: the session's, that of a login at an issuer, and three that only say how pages look.
//!
//! Owns their names, their attributes and how they are read. Only the first two are worth anything.

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue};

/// The choice of light or dark.
pub(crate) const THEME: &str = "tidegate-theme";
/// What a change has to say on the next page: a code of `flash.rs`.
pub(crate) const FLASH: &str = "tidegate-flash";
/// The organization that was looked at last.
pub(crate) const OWNER: &str = "tidegate-owner";

const YEAR: u32 = 365 * 24 * 60 * 60;

/// The session's name. `__Host-` makes browsers insist on `Secure` and on this very host, so it can't stand on plain
/// HTTP, where they would drop it.
pub(crate) fn session_name(secure: bool) -> &'static str {
    if secure { "__Host-tidegate" } else { "tidegate" }
}

/// The name of a login's cookie, between the way to the issuer and the way back: nobody beside this host may plant one.
pub(crate) fn attempt_name(secure: bool) -> &'static str {
    if secure {
        "__Host-tidegate-login"
    } else {
        "tidegate-login"
    }
}

/// The value of a cookie that was sent; the first of its name.
pub(crate) fn read<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value)
}

/// The session's cookie, until the browser closes or the session ends.
pub(crate) fn session(secure: bool, token: &str) -> Option<HeaderValue> {
    let name = session_name(secure);
    written(name, token, "; HttpOnly", secure)
}

/// Ends the session's cookie.
pub(crate) fn no_session(secure: bool) -> Option<HeaderValue> {
    written(session_name(secure), "", "; HttpOnly; Max-Age=0", secure)
}

/// A cookie that lives for a year.
pub(crate) fn kept(secure: bool, name: &str, value: &str) -> Option<HeaderValue> {
    written(name, value, &format!("; HttpOnly; Max-Age={YEAR}"), secure)
}

/// The cookie of a login that was begun, for as long as it may take.
pub(crate) fn attempt(secure: bool, value: &str) -> Option<HeaderValue> {
    written(attempt_name(secure), value, "; HttpOnly; Max-Age=600", secure)
}

/// A cookie for the next page.
pub(crate) fn brief(secure: bool, name: &str, value: &str) -> Option<HeaderValue> {
    written(name, value, "; HttpOnly; Max-Age=60", secure)
}

/// Takes a cookie back.
pub(crate) fn gone(secure: bool, name: &str) -> Option<HeaderValue> {
    written(name, "", "; HttpOnly; Max-Age=0", secure)
}

/// `None` where the value has characters that a cookie can't carry (RFC 6265 §4.1.1).
fn written(name: &str, value: &str, attributes: &str, secure: bool) -> Option<HeaderValue> {
    let plain = value
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\'));
    if !plain {
        return None;
    }
    let secure = if secure { "; Secure" } else { "" };
    HeaderValue::try_from(format!(
        "{name}={value}; Path=/; SameSite=Lax{attributes}{secure}"
    ))
    .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_session_is_bound_to_its_host_where_it_can_be() {
        let safe = session(true, "tga_x").unwrap();
        assert_eq!(
            safe,
            "__Host-tidegate=tga_x; Path=/; SameSite=Lax; HttpOnly; Secure"
        );
        let plain = session(false, "tga_x").unwrap();
        assert_eq!(plain, "tidegate=tga_x; Path=/; SameSite=Lax; HttpOnly");
        assert_eq!(session(true, "a; Domain=evil.test"), None);
    }

    #[test]
    fn cookies_are_told_apart_by_their_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(
            COOKIE,
            HeaderValue::from_static("xtidegate=1; tidegate-theme=dark"),
        );
        headers.append(COOKIE, HeaderValue::from_static("tidegate=tga_x"));
        assert_eq!(read(&headers, "tidegate"), Some("tga_x"));
        assert_eq!(read(&headers, THEME), Some("dark"));
        assert_eq!(read(&headers, "__Host-tidegate"), None);
    }
}
