//! Reading the plainest of queries in place: one question of class IN, and at most an OPT record behind it.
//!
//! Never decides that a query is malformed: what it does not know by heart is `None`, and [`crate::wire::query`] reads it.
//! What it does read, that one reads the same way (shown by the property test below). Nothing is allocated.

use std::ops::Deref;

use tidegate_policy::judge::query::rtype;

use crate::wire::{EDNS_UDP, HEADER, IN, PLAIN_UDP, flag, u16_at, u32_at};

/// Longest name with its final zero (RFC 1035 §2.3.4).
const MAX_NAME: usize = 255;
/// Longest label (RFC 1035 §2.3.4).
const MAX_LABEL: u8 = 63;
/// Octets of an OPT record without options (RFC 6891 §6.1.2).
const OPT: usize = 11;
/// AD in a query: the client understands it in answers (RFC 6840 §5.7); ours never have it.
const AD: u16 = 0x0020;

/// A query that differs from others of its kind by its id, the case of its letters and RD alone. Small: what it says of the
/// name stands in the message, which is asked for along with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain {
    /// Message id.
    pub(super) id: u16,
    /// The second header word.
    pub(super) flags: u16,
    /// Asked type.
    pub(super) qtype: u16,
    /// The longest answer that the client takes.
    limit: u16,
    /// Whatever else an answer's form depends on.
    pub(super) shape: Shape,
    /// Octets of the name without its final zero.
    length: u8,
}

/// A name in canonical form (lower case, no final zero), on the stack.
pub(super) struct Lower {
    octets: [u8; MAX_NAME],
    length: u8,
}

impl Deref for Lower {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.octets.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// EDNS, DO and CD, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape(pub(super) u8);

impl Shape {
    const EDNS: u8 = 1;
    const DO: u8 = 2;
    const CD: u8 = 4;

    /// True when the query has an OPT record.
    pub(super) fn has_edns(self) -> bool {
        self.0 & Self::EDNS != 0
    }
}

impl Plain {
    /// The longest answer that the client takes.
    pub(super) fn limit(&self) -> usize {
        usize::from(self.limit)
    }

    /// The name as it came, without its final zero.
    pub(super) fn name<'q>(&self, message: &'q [u8]) -> &'q [u8] {
        message
            .get(HEADER..HEADER + usize::from(self.length))
            .unwrap_or_default()
    }

    /// The question section as it came (0x20 casing kept).
    pub(super) fn question<'q>(&self, message: &'q [u8]) -> &'q [u8] {
        message
            .get(HEADER..HEADER + usize::from(self.length) + 5)
            .unwrap_or_default()
    }

    /// The name in canonical form.
    pub(super) fn lower(&self, message: &[u8]) -> Lower {
        let mut octets = [0; MAX_NAME];
        crate::wire::patch(&mut octets, 0, self.name(message));
        // Length octets are below `A`, so folding all of it folds letters only.
        octets.make_ascii_lowercase();
        Lower {
            octets,
            length: self.length,
        }
    }
}

/// Reads a plain query; `None`: it is another one.
pub(super) fn read(message: &[u8]) -> Option<Plain> {
    let (id, flags) = (u16_at(message, 0)?, u16_at(message, 2)?);
    let counts: &[u8; 8] = message.get(4..)?.first_chunk()?;
    let [0, 1, 0, 0, 0, 0, 0, additional @ 0..=1] = *counts else {
        return None;
    };
    if flags & !(flag::RD | flag::CD | AD) != 0 {
        return None;
    }
    let length = name_length(message.get(HEADER..)?)?;
    let end = HEADER + length + 1;
    let (qtype, class) = (u16_at(message, end)?, u16_at(message, end + 2)?);
    // Reverse names are answered from tickets, and service labels belong to no host name.
    if class != IN || qtype == rtype::PTR || message.get(HEADER + 1) == Some(&b'_') {
        return None;
    }
    let rest = message.get(end + 4..)?;
    let (shape, limit) = match additional {
        0 if rest.is_empty() => (0, PLAIN_UDP as u16),
        1 => opt(rest)?,
        _other => return None,
    };
    let cd = if flags & flag::CD == 0 { 0 } else { Shape::CD };
    Some(Plain {
        id,
        flags,
        qtype,
        limit,
        shape: Shape(shape | cd),
        length: u8::try_from(length).ok()?,
    })
}

/// Octets of an uncompressed name without its final zero; the root is no plain one.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 if at > 0 => return Some(at),
            length @ 1..=MAX_LABEL => at += 1 + usize::from(length),
            _root_or_pointer => return None,
        }
        if at >= MAX_NAME {
            return None;
        }
    }
}

/// An OPT record that ends the message: its shape and the longest answer. Options are not looked at, as anywhere.
fn opt(record: &[u8]) -> Option<(u8, u16)> {
    let owner = record.first()?;
    let (kind, payload, ttl, length) = (
        u16_at(record, 1)?,
        u16_at(record, 3)?,
        u32_at(record, 5)?,
        u16_at(record, 9)?,
    );
    let [_, version, high, _] = ttl.to_be_bytes();
    let is_last = record.len() == OPT + usize::from(length);
    if *owner != 0 || kind != crate::wire::rtype::OPT || version != 0 || !is_last {
        return None;
    }
    let dnssec = if high & 0x80 == 0 { 0 } else { Shape::DO };
    Some((Shape::EDNS | dnssec, payload.clamp(PLAIN_UDP as u16, EDNS_UDP)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;
    use crate::wire::query;

    const PLAIN: &[u8] = b"\x12\x34\x01\x10\0\x01\0\0\0\0\0\x01\x03wWw\x01a\x04TEST\0\0\x01\0\x01\0\0\x29\x10\0\0\0\x80\0\0\x04\0\x0a\0\0";

    /// Both readers see the same, where this one sees anything.
    fn agrees(bytes: &[u8]) {
        let Some(plain) = read(bytes) else { return };
        let full = query::parse(bytes).unwrap();
        assert_eq!(
            (plain.id, plain.flags, plain.qtype),
            (full.id, full.flags, full.qtype)
        );
        assert_eq!(
            (plain.question(bytes), &*plain.lower(bytes)),
            (&full.question[..], full.name.as_wire())
        );
        assert_eq!(plain.limit(), full.udp_limit());
        assert!(full.is_internet() && full.is_standard());
        let bits = [
            (Shape::EDNS, full.edns.is_some()),
            (Shape::DO, full.dnssec_ok()),
            (Shape::CD, full.checking_disabled()),
        ];
        for (bit, is) in bits {
            assert_eq!(plain.shape.0 & bit != 0, is);
        }
        assert_eq!(full.name, full.name.without_service_labels());
    }

    #[test]
    fn an_everyday_query_is_plain() {
        let plain = read(PLAIN).unwrap();
        assert_eq!(&*plain.lower(PLAIN), b"\x03www\x01a\x04test");
        assert_eq!((plain.shape, plain.limit()), (Shape(7), 1232));
        agrees(PLAIN);
        let mut bare = PLAIN[..PLAIN.len() - 15].to_vec();
        bare[11] = 0;
        assert_eq!(read(&bare).unwrap().limit(), 512);
        agrees(&bare);
    }

    #[test]
    fn what_is_odd_is_not_plain() {
        let change = |at: usize, to: u8| {
            let mut bytes = PLAIN.to_vec();
            bytes[at] = to;
            bytes
        };
        for (at, to) in [
            (2, 0x81),  // a response
            (2, 0x09),  // another opcode
            (5, 2),     // two questions
            (7, 1),     // an answer
            (11, 2),    // two more records
            (12, 0xc0), // a pointer
            (13, b'_'), // a service label
            (25, 12),   // PTR
            (27, 3),    // another class
            (28, 1),    // a named OPT
            (34, 1),    // another version of EDNS
            (38, 5),    // options past the end
            (38, 3),    // octets after the message
        ] {
            let bytes = change(at, to);
            assert!(read(&bytes).is_none(), "{at} {to}");
        }
        let root = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\0\0\x01\0\x01";
        assert!(read(root).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn both_readers_see_the_same(changes in proptest::collection::vec((0..PLAIN.len(), any::<u8>()), 0..4), cut in 0..=PLAIN.len(), tail in proptest::collection::vec(any::<u8>(), 0..3)) {
            let mut bytes = PLAIN.to_vec();
            for (at, to) in changes {
                bytes[at] = to;
            }
            agrees(&bytes);
            bytes.truncate(cut);
            bytes.extend(tail);
            agrees(&bytes);
        }

        #[test]
        fn names_of_any_length_are_read_alike(labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..64), 1..8)) {
            let mut bytes = b"\0\0\x01\0\0\x01\0\0\0\0\0\0".to_vec();
            for label in labels {
                bytes.push(label.len() as u8);
                bytes.extend(label);
            }
            bytes.extend(b"\0\0\x1c\0\x01");
            agrees(&bytes);
            // The bound: 254 octets of labels, 255 with the final zero.
            let length = bytes.len() - HEADER - 5;
            prop_assert_eq!(read(&bytes).is_some(), length < MAX_NAME && bytes[HEADER + 1] != b'_');
        }
    }
}
