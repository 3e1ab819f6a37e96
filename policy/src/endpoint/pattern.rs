//! Host names and name patterns of the endpoint grammar: folding, IDNA, wildcards, how wide they are.
//!
//! Driven by [`super::parse`]. A pure ASCII name bypasses IDNA, which would refuse names that exist
//! (`rr4---sn-x.example`, `_x.example`); others go through UTS 46 with CheckHyphens off.

use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::ops::Range;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::parse::Role;
use super::problem::{EndpointError, NoticeKind, Problem};
use super::{LabelPattern, NamePattern};
use crate::name::MAX_LABEL;

/// Longest name in text form, without a trailing dot (RFC 1035 §2.3.4).
const MAX_TEXT: usize = 253;

/// What an unbracketed host is.
pub(super) enum Classified {
    /// Dotted digits.
    Address(Ipv4Addr),
    /// A name or a name pattern.
    Name(NamePattern),
}

/// Reads an unbracketed host that stands at `at` of its token. Not empty.
pub(super) fn classify(written: &str, at: Range<usize>) -> Result<Classified, EndpointError> {
    let reader = Reader {
        written,
        at,
        mapped: !written.is_ascii(),
    };
    let ascii = reader.to_ascii()?;
    let name = ascii.strip_suffix('.').unwrap_or(&ascii);
    if let Some(address) = reader.address(name)? {
        return Ok(Classified::Address(address));
    }
    reader.pattern(name).map(Classified::Name)
}

/// Reads one host; spans are exact for ASCII, the whole host where IDNA changed lengths.
struct Reader<'a> {
    written: &'a str,
    at: Range<usize>,
    mapped: bool,
}

impl<'a> Reader<'a> {
    fn error(&self, problem: Problem, within: Range<usize>) -> EndpointError {
        let span = if self.mapped {
            self.at.clone()
        } else {
            self.at.start + within.start..self.at.start + within.end
        };
        EndpointError::new(problem, span)
    }

    fn to_ascii(&self) -> Result<Cow<'a, str>, EndpointError> {
        if !self.mapped {
            return Ok(Cow::Owned(self.written.to_ascii_lowercase()));
        }
        if !self.written.contains('*') {
            return self.idna(self.written).map(Cow::Owned);
        }
        // Labels with a star are kept as they are; IDNA would refuse or remap them.
        let mut labels = Vec::new();
        for label in self.written.split('.') {
            labels.push(match (label.contains('*'), label.is_ascii()) {
                (_, true) => label.to_ascii_lowercase(),
                (false, false) => self.idna(label)?,
                (true, false) => return Err(self.error(Problem::WildcardNotAscii, 0..0)),
            });
        }
        Ok(Cow::Owned(labels.join(".")))
    }

    fn idna(&self, text: &str) -> Result<String, EndpointError> {
        // Encoding takes quadratic time; no name this long has an ASCII form that fits.
        if text.len() > 4 * MAX_TEXT {
            return Err(self.error(Problem::NameTooLong(text.chars().count()), 0..0));
        }
        let mapped = Uts46::new().to_ascii(
            text.as_bytes(),
            AsciiDenyList::EMPTY,
            Hyphens::Allow,
            DnsLength::Ignore,
        );
        let ascii = mapped
            .map_err(|_| self.error(Problem::Idna(text.into()), 0..0))?
            .into_owned();
        // U+FF0A and others map to `*`; a wildcard must be visible as one.
        if ascii.contains('*') {
            return Err(self.error(Problem::WildcardNotAscii, 0..0));
        }
        Ok(ascii)
    }

    /// A host whose last label is a number is an address or an error, as in the WHATWG URL standard:
    /// `1.2.3`, `0x7f.1` and `256.0.0.1` are addresses to some clients and must not pass as names.
    fn address(&self, name: &str) -> Result<Option<Ipv4Addr>, EndpointError> {
        let last = name.rsplit('.').next().unwrap_or_default();
        let hex = last
            .strip_prefix("0x")
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
        let digits = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
        let stars = name.contains('*')
            && name.bytes().any(|b| b.is_ascii_digit())
            && name
                .bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'*'));
        if !(hex || digits || stars) {
            return Ok(None);
        }
        if let Ok(address) = name.parse() {
            return Ok(Some(address));
        }
        let problem = Problem::NotAnAddress {
            v6: false,
            text: name.into(),
        };
        let error = self.error(problem, 0..self.written.len());
        Err(if stars {
            error.with_hint("write a range of addresses as a prefix, like `10.0.0.0/8`")
        } else {
            error
        })
    }

    fn pattern(&self, name: &str) -> Result<NamePattern, EndpointError> {
        let mut pattern = NamePattern {
            below: false,
            labels: Vec::new(),
        };
        let mut start = 0;
        for (index, label) in name.split('.').enumerate() {
            let span = start..start + label.len();
            start = span.end + 1;
            if index == 0 && label == "*" {
                pattern.below = true;
                continue;
            }
            pattern.labels.push(self.label(name, label, span)?);
        }
        if name.len() > MAX_TEXT {
            return Err(self.error(Problem::NameTooLong(name.len()), 0..self.written.len()));
        }
        Ok(pattern)
    }

    fn label(&self, name: &str, label: &str, span: Range<usize>) -> Result<LabelPattern, EndpointError> {
        if label.is_empty() {
            // Underline the dots around the gap.
            let around = span.start.saturating_sub(1)..(span.end + 1).min(self.written.len());
            let error = self.error(Problem::EmptyLabel, around);
            let rest = name
                .strip_prefix('.')
                .filter(|rest| !rest.is_empty() && span.start == 0);
            return Err(match rest {
                Some(rest) => error.with_hint(format!("every name below it is written `*.{rest}`")),
                None => error,
            });
        }
        let odd = label
            .char_indices()
            .find(|(_, c)| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*')));
        if let Some((offset, odd)) = odd {
            let at = span.start + offset;
            return Err(self.error(Problem::BadCharacter(odd), at..at + odd.len_utf8()));
        }
        if let Some(stars) = label.find("**") {
            let hint = "`*.example.com` already matches every name below example.com, at any depth";
            let at = span.start + stars;
            return Err(self.error(Problem::DoubleStar, at..at + 2).with_hint(hint));
        }
        if label.len() > MAX_LABEL {
            return Err(self.error(Problem::LabelTooLong(label.len()), span));
        }
        let bytes: Box<[u8]> = label.as_bytes().into();
        Ok(if label == "*" {
            LabelPattern::One
        } else if label.contains('*') {
            LabelPattern::Glob(bytes)
        } else {
            LabelPattern::Literal(bytes)
        })
    }
}

/// Says when a pattern is wider than one registrable domain, with a hint when a narrower one is meant.
pub(super) fn breadth(pattern: &NamePattern, role: Role) -> Option<(NoticeKind, Option<String>)> {
    let wild = pattern
        .labels
        .iter()
        .rposition(|label| !matches!(label, LabelPattern::Literal(_)));
    let (rightmost, fixed) = match wild {
        Some(index) => (
            pattern.labels.get(index),
            pattern.labels.get(index + 1..).unwrap_or_default(),
        ),
        None if pattern.below => (None, pattern.labels.as_slice()),
        None => return None,
    };
    let suffix = NamePattern {
        below: false,
        labels: fixed.to_vec(),
    }
    .to_string();
    let public = is_public_suffix(&suffix);
    if let (Some(LabelPattern::Glob(glob)), Some(0), false) = (rightmost, wild, pattern.below)
        && let Some(kind) = leading_glob(pattern, glob, &suffix, public)
    {
        let hint = match &kind {
            NoticeKind::GlobbedDomain { base, .. } | NoticeKind::LeadingGlob { base, .. } => {
                Some(format!("did you mean `*.{base}`?"))
            }
            NoticeKind::AnyName(_)
            | NoticeKind::EveryAddress(_)
            | NoticeKind::PublicSuffix(_)
            | NoticeKind::HostBits { .. }
            | NoticeKind::Mapped { .. }
            | NoticeKind::NeverDialDenied(_) => None,
        };
        return Some((kind, hint));
    }
    // A denied endpoint can't be too wide.
    match role {
        Role::Denied => None,
        Role::Allowed if suffix.is_empty() => Some((NoticeKind::AnyName(pattern.to_string()), None)),
        Role::Allowed if public => Some((NoticeKind::PublicSuffix(suffix), None)),
        Role::Allowed => None,
    }
}

/// `*github.com`: one star, first in the leftmost label.
fn leading_glob(pattern: &NamePattern, glob: &[u8], suffix: &str, public: bool) -> Option<NoticeKind> {
    let rest = glob.strip_prefix(b"*").filter(|rest| !rest.contains(&b'*'))?;
    // `*-eu.example.com` is no domain with its dot forgotten.
    rest.first().filter(|byte| byte.is_ascii_alphanumeric())?;
    if suffix.is_empty() {
        return None;
    }
    let base = format!("{}.{suffix}", String::from_utf8_lossy(rest));
    let written = pattern.to_string();
    Some(if public {
        NoticeKind::GlobbedDomain {
            written,
            example: format!("evil{base}"),
            base,
        }
    } else {
        NoticeKind::LeadingGlob { written, base }
    })
}

/// True when the public suffix list names `suffix`, or makes every name one label below it a public
/// suffix (its `*.` rules). Top-level domains that the list doesn't know, an organization's own, are not.
fn is_public_suffix(suffix: &str) -> bool {
    let listed = |name: &str| {
        psl::suffix(name.as_bytes())
            .is_some_and(|found| found.is_known() && found.as_bytes() == name.as_bytes())
    };
    !suffix.is_empty() && (listed(suffix) || listed(&format!("x.{suffix}")))
}
