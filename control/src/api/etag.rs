//! Versions in headers: entity tags and the conditions on them (RFC 9110 §8.8.3, §13.1).
//!
//! A policy at version 3 has the tag `"3"`. What else makes a representation differ stands after it, each part after a
//! dash: `"3-9f21k7-5e0c11d2"`. A condition is judged by the parts that it names, so that `"3"` alone is good for
//! `If-Match`, and a tag that came from here also tells a re-created name from the one before it.

use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};

use super::problem::{Code, Refused};

/// The tag of something as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    /// Its version.
    pub(super) version: u32,
    /// What tells it from another of the same name.
    pub(super) identity: String,
    /// What else this representation shows; empty for nothing.
    pub(super) state: String,
}

impl Tag {
    /// A tag; `state` is digested.
    pub(super) fn new(version: u32, identity: &str, state: &[u8]) -> Self {
        let state = match state {
            [] => String::new(),
            state => short_digest(state),
        };
        Self {
            version,
            identity: identity.to_owned(),
            state,
        }
    }

    /// For the `ETag` header.
    pub(super) fn header(&self) -> HeaderValue {
        // Digits, letters and dashes only.
        HeaderValue::from_str(&format!("\"{}\"", self.text())).unwrap_or(HeaderValue::from_static("\"\""))
    }

    fn text(&self) -> String {
        let parts = [
            self.version.to_string(),
            self.identity.clone(),
            self.state.clone(),
        ];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join("-")
    }

    /// True when a tag of a request means this version of this very thing, whatever the representation.
    fn means(&self, shown: &str) -> bool {
        let mut parts = shown.split('-');
        parts.next() == Some(self.version.to_string().as_str())
            && parts.next().is_none_or(|identity| identity == self.identity)
    }
}

/// 32 bits of a SHA-256, in hexadecimal: tells neighbours apart, guards nothing.
fn short_digest(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let first = digest
        .as_ref()
        .iter()
        .take(4)
        .fold(0, |bits: u32, byte| bits << 8 | u32::from(*byte));
    format!("{first:08x}")
}

/// What `If-Match` or `If-None-Match` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// `*`.
    Any,
    /// Tags, each with whether it is weak.
    Tags(Vec<(String, bool)>),
}

/// `If-Match` of a request; `None` when absent.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<Condition>, Refused> {
    condition(headers, &IF_MATCH)
}

/// `If-None-Match` of a request; `None` when absent.
pub(super) fn if_none_match(headers: &HeaderMap) -> Result<Option<Condition>, Refused> {
    condition(headers, &IF_NONE_MATCH)
}

impl Condition {
    /// True when the condition holds for a change of what has this tag: strong comparison (RFC 9110 §13.1.1).
    pub(super) fn allows_change_of(&self, tag: &Tag) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|(shown, weak)| !weak && tag.means(shown)),
        }
    }

    /// True when whoever asks has this very representation: weak comparison (RFC 9110 §13.1.2).
    pub(super) fn names(&self, tag: &Tag) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|(shown, _)| *shown == tag.text()),
        }
    }
}

fn condition(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Condition>, Refused> {
    let mut tags = Vec::new();
    let mut any = false;
    let mut there = false;
    for value in headers.get_all(name) {
        there = true;
        let text = value.to_str().map_err(|_| wrong(name))?;
        if text.trim() == "*" {
            any = true;
        } else {
            tags.extend(entity_tags(text).ok_or_else(|| wrong(name))?);
        }
    }
    match (there, any, tags.is_empty()) {
        (false, ..) => Ok(None),
        (true, true, true) => Ok(Some(Condition::Any)),
        (true, false, false) => Ok(Some(Condition::Tags(tags))),
        (true, ..) => Err(wrong(name)),
    }
}

fn wrong(name: &HeaderName) -> Refused {
    let detail = format!("{name} has to be `*` or entity tags in quotes, such as \"3\", separated by commas");
    Refused::bad(name.as_str(), detail)
}

/// A list of entity tags; empty elements are allowed (RFC 9110 §5.6.1.2), and commas may stand in a tag.
fn entity_tags(text: &str) -> Option<Vec<(String, bool)>> {
    let mut tags = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(',') {
            rest = after.trim_start();
            continue;
        }
        let (weak, after) = rest
            .strip_prefix("W/")
            .map_or((false, rest), |after| (true, after));
        let (tag, after) = after.strip_prefix('"')?.split_once('"')?;
        if tag.contains(|c: char| c.is_ascii_control() || c == ' ') {
            return None;
        }
        tags.push((tag.to_owned(), weak));
        rest = after.trim_start();
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
    (!tags.is_empty()).then_some(tags)
}

/// 412: the condition does not hold for what is there now.
pub(super) fn stale(what: &str, current: u32) -> Refused {
    let detail = format!("{what} is at version {current} by now; read it again and merge your change");
    Refused::new(StatusCode::PRECONDITION_FAILED, Code::Stale, detail)
        .field("If-Match")
        .current(current)
}

/// 412: `If-Match` was sent for something that is not there.
pub(super) fn nothing_matches(what: &str) -> Refused {
    let detail = format!("there is no {what}, so If-Match can't hold; leave it out to create it");
    Refused::new(StatusCode::PRECONDITION_FAILED, Code::Stale, detail).field("If-Match")
}

/// 428 (RFC 6585 §3).
pub(super) fn required(what: &str) -> Refused {
    let detail = format!(
        "say which version of {what} your change is based on: If-Match with the ETag that you read, or `*` for any"
    );
    Refused::new(
        StatusCode::PRECONDITION_REQUIRED,
        Code::PreconditionRequired,
        detail,
    )
    .field("If-Match")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn read(values: &[&str]) -> Result<Option<Condition>, u16> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IF_MATCH, value.parse().unwrap());
        }
        if_match(&headers).map_err(|refused| refused.status())
    }

    fn tags(all: &[(&str, bool)]) -> Condition {
        Condition::Tags(all.iter().map(|(tag, weak)| ((*tag).to_owned(), *weak)).collect())
    }

    #[test]
    fn rfc_9110_section_8_8_3_entity_tags_are_read() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["*"]), Ok(Some(Condition::Any)));
        assert_eq!(read(&["\"3\""]), Ok(Some(tags(&[("3", false)]))));
        assert_eq!(
            read(&["W/\"3\" , \"4,5\",,\"\""]),
            Ok(Some(tags(&[("3", true), ("4,5", false), ("", false)])))
        );
        assert_eq!(
            read(&["\"3\"", "\"4\""]),
            Ok(Some(tags(&[("3", false), ("4", false)])))
        );
        for wrong in [
            "3",
            "",
            ",",
            "\"3",
            "\"3\" \"4\"",
            "w/\"3\"",
            "*, \"3\"",
            "\"a b\"",
            "\"3\";",
        ] {
            assert_eq!(read(&[wrong]), Err(400), "{wrong}");
        }
        assert_eq!(read(&["*", "\"3\""]), Err(400));
    }

    #[test]
    fn a_change_needs_a_strong_tag_of_this_version_of_this_thing() {
        let tag = Tag::new(3, "k7x2", b"attachments");
        let allows = |shown: &str| read(&[shown]).unwrap().unwrap().allows_change_of(&tag);
        assert!(allows("*") && allows("\"3\"") && allows("\"3-k7x2\"") && allows("\"3-k7x2-ffffffff\""));
        assert!(allows("\"2\", \"3\""));
        assert!(
            !allows("W/\"3\"")
                && !allows("\"2\"")
                && !allows("\"3-other\"")
                && !allows("\"30\"")
                && !allows("\"03\"")
        );
    }

    #[test]
    fn whoever_has_the_very_representation_is_told_so() {
        let (json, yaml) = (Tag::new(3, "k7x2", b"attachments"), Tag::new(3, "k7x2", b""));
        let shown = json.header().to_str().unwrap().to_owned();
        let weak = format!("W/{shown}");
        assert!(read(&[&shown]).unwrap().unwrap().names(&json));
        assert!(read(&[&weak]).unwrap().unwrap().names(&json));
        assert!(!read(&[&shown]).unwrap().unwrap().names(&yaml));
        assert!(
            !read(&["\"3\""]).unwrap().unwrap().names(&json),
            "its attachments may differ"
        );
        assert_eq!(yaml.header(), "\"3-k7x2\"");
    }
}
