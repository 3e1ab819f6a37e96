//! Text from strangers as it is shown in pages, and the one way URLs are written.
//!
//! HTML is escaped by the templates. What they don't know is escaped here: control and bidirectional characters, which
//! would turn the text around them. Nothing is marked safe for HTML in this file.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use tidegate_control_wire::text::{cut, printable};

/// What stays as it is in a URL (RFC 3986 §2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A text that somebody wrote. Shown, it is printable; templates escape it for HTML besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Text(String);

impl Text {
    /// The text as it is: to compare, to ask the API, to stand in an editor.
    pub(crate) fn raw(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Cut to `most` characters.
    pub(crate) fn cut(&self, most: usize) -> String {
        cut(&printable(&self.0), most).into_owned()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&printable(&self.0))
    }
}

impl<T: AsRef<str> + ?Sized> From<&T> for Text {
    fn from(text: &T) -> Self {
        Self(text.as_ref().to_owned())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// An endpoint as a policy names it: `name:443`, `[2001:db8::1]:53/udp`; without its port where it is known for none.
pub(crate) fn endpoint(name: &str, port: u16, transport: &str) -> String {
    let protocol = if transport == "udp" { "/udp" } else { "" };
    match port {
        0 => name.to_owned(),
        port if name.contains(':') => format!("[{name}]:{port}{protocol}"),
        port => format!("{name}:{port}{protocol}"),
    }
}

/// A path of whole segments, with a query of those pairs that have a value. Everything is percent-encoded: `url(&["ui",
/// "orgs", owner, "policies"], &[("search", search)])`.
pub(crate) fn url(segments: &[&str], query: &[(&str, &str)]) -> String {
    let mut url = String::with_capacity(64);
    for segment in segments {
        url.push('/');
        url.extend(encoded(segment));
    }
    if url.is_empty() {
        url.push('/');
    }
    let mut before = '?';
    for (name, value) in query.iter().filter(|(_, value)| !value.is_empty()) {
        url.push(before);
        url.extend(encoded(name));
        url.push('=');
        url.extend(encoded(value));
        before = '&';
    }
    url
}

/// A segment of a path. `.` and `..` have no encoding that browsers leave alone; nothing of ours is named so.
fn encoded(text: &str) -> impl Iterator<Item = &str> {
    utf8_percent_encode(text, ENCODED)
}

/// A place of this UI to go to after a login or a change: what was asked for if it is one, else the overview. Whatever
/// could lead to another site is none.
pub(crate) fn local(next: &str) -> Cow<'_, str> {
    let plain = next
        .bytes()
        .all(|byte| matches!(byte, b'!'..=b'~') && byte != b'\\');
    if plain && next.starts_with("/ui/") && !next.starts_with("/ui/login") && !next.starts_with("/ui/oidc") {
        Cow::Borrowed(next)
    } else {
        Cow::Borrowed("/ui/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_encoded_whole() {
        let made = url(
            &["orgs", "acme", "policies", "a b/ü?#%"],
            &[("search", "x&y=z"), ("mode", ""), ("after", "1")],
        );
        assert_eq!(
            made,
            "/orgs/acme/policies/a%20b%2F%C3%BC%3F%23%25?search=x%26y%3Dz&after=1"
        );
        assert_eq!(url(&[], &[]), "/");
    }

    #[test]
    fn endpoints_are_written_as_policies_name_them() {
        assert_eq!(endpoint("a.test", 443, "tcp"), "a.test:443");
        assert_eq!(endpoint("2001:db8::1", 53, "udp"), "[2001:db8::1]:53/udp");
        assert_eq!(endpoint("a.test", 0, "udp"), "a.test");
    }

    #[test]
    fn a_text_from_a_stranger_turns_no_reading_direction() {
        let text = Text::from("x\u{202e}moc\u{1b}");
        assert_eq!(text.to_string(), "x\\u{202e}moc\\u{1b}");
        assert_eq!(text.raw(), "x\u{202e}moc\u{1b}");
    }

    #[test]
    fn next_leads_nowhere_else() {
        assert_eq!(local("/ui/events?verdict=refuse"), "/ui/events?verdict=refuse");
        for elsewhere in [
            "",
            "//evil.test/ui/",
            "https://evil.test/",
            "/ui/\\evil.test",
            "/ui/\r\nset-cookie: x",
            "/api/v1/tokens",
            "/ui/login?next=/ui/",
            "/ui/ü",
        ] {
            assert_eq!(local(elsewhere), "/ui/", "{elsewhere:?}");
        }
    }
}
