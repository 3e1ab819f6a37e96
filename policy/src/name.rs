//! Canonical DNS names: the one form in which names are compared.
//!
//! A [`DnsName`] holds lower-cased wire labels, so a label with an odd byte (a dot, NUL, a space) never
//! equals a rule that only looks like it. Names are folded once, where bytes enter the gateway (a
//! question, an SNI, a Host, a policy), and never again.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;
use thiserror::Error;

/// Longest label in octets (RFC 1035 §2.3.4).
pub const MAX_LABEL: usize = 63;
/// Longest name in wire form without the root's zero octet (RFC 1035 §2.3.4: 255 with it).
pub const MAX_WIRE: usize = 254;

/// Why bytes or text are not a DNS name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing at all, or the root alone, where a host name is needed.
    #[error("the name is empty")]
    Empty,
    /// Two dots in a row, or a leading dot.
    #[error("the name has an empty label")]
    EmptyLabel,
    /// A label over 63 octets.
    #[error("a label is longer than 63 octets")]
    LabelTooLong,
    /// A name over 253 characters (254 octets on the wire without the root).
    #[error("the name is longer than 253 characters")]
    NameTooLong,
    /// A character that no host name has.
    #[error("the name has a character that no host name has: {0:?}")]
    BadCharacter(char),
}

/// A DNS name in canonical form: lower-cased wire labels (length octet, bytes) without the final root.
///
/// Cloning shares the bytes. The root itself is the empty name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName(Arc<[u8]>);

/// Labels of one name, leftmost first; lives on the stack for up to 16 labels.
pub type Labels<'a> = SmallVec<[&'a [u8]; 16]>;

impl DnsName {
    /// The root of the name space (no labels).
    pub fn root() -> Self {
        Self(Arc::from([]))
    }

    /// Reads a host name as SNI, Host headers and policies write it: letters, digits, hyphens and
    /// underscores, ASCII only, one trailing dot dropped, upper case folded.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if let Some(odd) = text
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        {
            return Err(NameError::BadCharacter(odd));
        }
        Self::from_labels(text.as_bytes().split(|b| *b == b'.'))
    }

    /// Builds a name from raw labels, leftmost first, as a DNS message carries them. Any byte is
    /// allowed in a label; ASCII letters are folded (RFC 4343).
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, NameError> {
        let mut wire: SmallVec<[u8; 256]> = SmallVec::new();
        for label in labels {
            if label.is_empty() {
                return Err(NameError::EmptyLabel);
            }
            if label.len() > MAX_LABEL {
                return Err(NameError::LabelTooLong);
            }
            if wire.len() + 1 + label.len() > MAX_WIRE {
                return Err(NameError::NameTooLong);
            }
            wire.push(label.len() as u8);
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        Ok(Self(Arc::from(wire.as_slice())))
    }

    /// The canonical bytes: each label with its length octet, no final zero. At most 254 octets.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The name as text, put together in `room`, when it is made of letters, digits, hyphens and underscores: what events
    /// are written with, at a tenth of the cost of [`Display`](fmt::Display). `None` for any other name and for the root.
    pub fn plain<'a>(&self, room: &'a mut [u8; MAX_WIRE]) -> Option<&'a str> {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let wire = self.as_wire();
        let text = room.get_mut(..wire.len())?;
        text.copy_from_slice(wire);
        let mut at = 0;
        while let Some(length) = wire.get(at) {
            let end = at + 1 + usize::from(*length);
            if !wire.get(at + 1..end)?.iter().all(plain) {
                return None;
            }
            *text.get_mut(at)? = b'.';
            at = end;
        }
        std::str::from_utf8(text.get(1..)?).ok()
    }

    /// True for the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The labels, leftmost first.
    pub fn labels(&self) -> Labels<'_> {
        let mut labels = Labels::new();
        let mut rest: &[u8] = &self.0;
        while let Some((len, tail)) = rest.split_first() {
            let Some((label, tail)) = tail.split_at_checked(usize::from(*len)) else {
                break;
            };
            labels.push(label);
            rest = tail;
        }
        labels
    }

    /// The name without its leftmost label; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let len = usize::from(*self.0.first()?);
        Some(Self(Arc::from(self.0.get(1 + len..)?)))
    }

    /// True when `self` lies strictly below `ancestor`, at any depth.
    pub fn is_below(&self, ancestor: &Self) -> bool {
        let (mine, theirs) = (self.labels(), ancestor.labels());
        mine.len() > theirs.len() && mine.ends_with(&theirs)
    }

    /// True when its first label begins with an underscore ([`Self::without_service_labels`]).
    pub fn has_service_labels(&self) -> bool {
        self.0.get(1) == Some(&b'_')
    }

    /// The name without its leading labels that begin with an underscore (`_mongodb._tcp.db.example`
    /// becomes `db.example`): the service labels of RFC 2782 and RFC 9460.
    #[must_use]
    pub fn without_service_labels(&self) -> Self {
        let mut rest: &[u8] = &self.0;
        while let (Some(len), Some(b'_')) = (rest.first(), rest.get(1)) {
            let skip = 1 + usize::from(*len);
            let Some(tail) = rest.get(skip..) else { break };
            rest = tail;
        }
        if rest.len() == self.0.len() {
            self.clone()
        } else {
            Self(Arc::from(rest))
        }
    }
}

impl fmt::Display for DnsName {
    /// Presentation form without a final dot; bytes outside of printable ASCII, dots and backslashes
    /// inside of labels are escaped (RFC 1035 §5.1). The root is `.`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_from(0, out)
    }
}

impl DnsName {
    /// Its text, as `Display` has it, without the `skip` labels on the left; in one piece of memory and at a fifth of the
    /// cost.
    pub(crate) fn text_from(&self, skip: usize) -> String {
        let mut text = String::with_capacity(self.0.len() + 2);
        self.write_from(skip, &mut text)
            .expect("writing to a String can't fail");
        text
    }

    fn write_from(&self, skip: usize, out: &mut impl fmt::Write) -> fmt::Result {
        let labels = self.labels();
        let labels = labels.get(skip..).unwrap_or_default();
        if labels.is_empty() {
            return out.write_char('.');
        }
        for (at, label) in labels.iter().enumerate() {
            if at > 0 {
                out.write_char('.')?;
            }
            // Nearly every label is plain: at once, not byte by byte, since every event shows a name.
            let plain = |byte: &u8| matches!(byte, 0x21..=0x7e) && !matches!(byte, b'.' | b'\\');
            if let (true, Ok(text)) = (label.iter().all(plain), std::str::from_utf8(label)) {
                out.write_str(text)?;
                continue;
            }
            for byte in *label {
                match byte {
                    b'.' | b'\\' => write!(out, "\\{}", char::from(*byte))?,
                    0x21..=0x7e => write!(out, "{}", char::from(*byte))?,
                    odd => write!(out, "\\{odd:03}")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "DnsName({self})")
    }
}

impl serde::Serialize for DnsName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn folds_case_and_drops_one_trailing_dot() {
        assert_eq!(
            DnsName::parse("GitHub.COM.").unwrap(),
            DnsName::parse("github.com").unwrap()
        );
        assert_eq!(DnsName::parse("github.com..").unwrap_err(), NameError::EmptyLabel);
    }

    #[test]
    fn d15_an_escaped_dot_is_not_a_label_boundary() {
        let odd = DnsName::from_labels([&b"allowed.test"[..]]).unwrap();
        assert_ne!(odd, DnsName::parse("allowed.test").unwrap());
        assert_eq!(odd.to_string(), "allowed\\.test");
    }

    #[test]
    fn bounds_of_rfc_1035_hold() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), 253);
        assert!(DnsName::parse(&longest).is_ok());
        assert_eq!(
            DnsName::parse(&format!("{longest}a")).unwrap_err(),
            NameError::NameTooLong
        );
        assert_eq!(
            DnsName::parse(&"a".repeat(64)).unwrap_err(),
            NameError::LabelTooLong
        );
    }

    #[test]
    fn service_labels_are_stripped_from_the_left_only() {
        let asked = DnsName::parse("_mongodb._tcp.db._x.example").unwrap();
        assert_eq!(asked.without_service_labels().to_string(), "db._x.example");
    }

    #[test]
    fn below_is_strict_and_by_whole_labels() {
        let base = DnsName::parse("example.com").unwrap();
        assert!(DnsName::parse("a.b.example.com").unwrap().is_below(&base));
        assert!(!base.is_below(&base));
        assert!(!DnsName::parse("badexample.com").unwrap().is_below(&base));
    }
}
