//! Header fields of a head (RFC 9110 §5): names, values, and lists of tokens in them. Owns their grammar;
//! never knows what a field means. Driven by the request, response and trailer parsers.

use super::lines::Lines;
use super::{Flaw, bad};

/// Where a field lies in the head's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    name: (usize, usize),
    value: (usize, usize),
}

/// What to do with a line that is no field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadLines {
    /// Refuse the message.
    Refuse,
    /// Leave the line as it is: a server's sloppiness harms nobody but its client.
    Keep,
}

/// The fields of one head, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<Field>);

impl Fields {
    /// Parses the lines from `first` on. On a flaw the fields before it come with it.
    pub(crate) fn parse(lines: &Lines, first: usize, bad_lines: BadLines) -> (Self, Result<(), Flaw>) {
        let mut fields = Vec::with_capacity(lines.count().saturating_sub(first));
        for index in first..lines.count() {
            let range = lines.range(index);
            match field(lines.line(index), range.start) {
                Ok(field) => fields.push(field),
                Err(_) if bad_lines == BadLines::Keep => {
                    fields.push(Field {
                        name: (range.start, range.start),
                        value: (range.start, range.end),
                    });
                }
                Err(flaw) => return (Self(fields), Err(flaw)),
            }
        }
        (Self(fields), Ok(()))
    }

    /// Names and values in order, values without the blanks around; an empty name means a kept line.
    pub(crate) fn iter<'a>(&'a self, lines: &'a Lines) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let of = |(start, end): (usize, usize)| lines.bytes().get(start..end).unwrap_or_default();
        self.0.iter().map(move |field| (of(field.name), of(field.value)))
    }

    /// All values of a name, case ignored.
    pub(crate) fn all<'a>(&'a self, lines: &'a Lines, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter(lines)
            .filter(move |(found, _)| is(found, name))
            .map(|(_, value)| value)
    }

    /// The elements of the comma-separated lists in all fields of a name (RFC 9110 §5.6.1).
    pub(crate) fn list<'a>(&'a self, lines: &'a Lines, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.all(lines, name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }

    /// True when a list field has the element, case ignored.
    pub(crate) fn lists(&self, lines: &Lines, name: &str, element: &str) -> bool {
        self.list(lines, name).any(|found| is(found, element))
    }
}

/// Whether a name or token is the given one, case ignored.
pub(crate) fn is(found: &[u8], name: &str) -> bool {
    found.eq_ignore_ascii_case(name.as_bytes())
}

/// Writes one field line.
pub(crate) fn write(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

fn field(line: &[u8], start: usize) -> Result<Field, Flaw> {
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .ok_or(bad("a header line without a colon"))?;
    let (name, value) = line.split_at_checked(colon).unwrap_or((line, &[]));
    let value = value.strip_prefix(b":").unwrap_or(value);
    // RFC 9112 §5.1: a blank before the colon is refused, it has hidden fields from filters.
    if !is_token(name) {
        return Err(bad("a header name that is no token"));
    }
    if value
        .iter()
        .any(|byte| matches!(byte, 0..=0x08 | 0x0a..=0x1f | 0x7f))
    {
        return Err(bad("a control character in a header value"));
    }
    let blanks = value
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    let from = start + colon + 1 + blanks;
    let length = value.trim_ascii().len();
    Ok(Field {
        name: (start, start + colon),
        value: (from, from + length),
    })
}

/// A token (RFC 9110 §5.6.2): what methods and field names are made of.
pub(crate) fn is_token(text: &[u8]) -> bool {
    let tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(tchar)
}
