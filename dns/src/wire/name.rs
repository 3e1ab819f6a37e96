//! Names on the wire: compression followed backwards only, bounded by the length of a name.

use smallvec::SmallVec;
use tidegate_policy::DnsName;

use super::WireError;

/// Labels with their length octets and the final zero, as they came: case kept.
pub(crate) type RawName = SmallVec<[u8; 64]>;

/// Longest name with its final zero (RFC 1035 §2.3.4).
const MAX_NAME: usize = 255;

/// A name read from a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadName {
    /// Uncompressed, with the final zero.
    pub(crate) raw: RawName,
    /// Where the bytes after the name begin.
    pub(crate) end: usize,
    /// True when a compression pointer was followed.
    pub(crate) compressed: bool,
}

impl ReadName {
    /// The canonical form.
    pub(crate) fn canonical(&self) -> Result<DnsName, WireError> {
        canonical(&self.raw)
    }
}

/// Reads the name at `at`. A pointer must point before the label that it stands in (RFC 1035 §4.1.4:
/// "a prior occurrence"), so no chain of pointers can loop.
pub(crate) fn read(message: &[u8], at: usize) -> Result<ReadName, WireError> {
    let mut raw = RawName::new();
    let (mut at, mut floor, mut end) = (at, at, None);
    loop {
        let length = *message.get(at).ok_or(WireError("a name runs past the end"))?;
        match length {
            0 => {
                raw.push(0);
                let compressed = end.is_some();
                return Ok(ReadName {
                    raw,
                    end: end.unwrap_or(at + 1),
                    compressed,
                });
            }
            1..=63 => {
                let label = message.get(at..=at + usize::from(length));
                let label = label.ok_or(WireError("a label runs past the end"))?;
                if raw.len() + label.len() >= MAX_NAME {
                    return Err(WireError("a name is longer than 255 octets"));
                }
                raw.extend_from_slice(label);
                at += label.len();
            }
            192.. => {
                let low = *message
                    .get(at + 1)
                    .ok_or(WireError("a pointer runs past the end"))?;
                let target = usize::from(length & 0x3f) << 8 | usize::from(low);
                if target >= floor {
                    return Err(WireError("a compression pointer does not point backwards"));
                }
                end.get_or_insert(at + 2);
                (at, floor) = (target, target);
            }
            64..=191 => return Err(WireError("a label of an unknown kind")),
        }
    }
}

/// The canonical form of raw labels (with or without their final zero).
pub(crate) fn canonical(raw: &[u8]) -> Result<DnsName, WireError> {
    DnsName::from_labels(labels(raw)).map_err(|_| WireError("a name is too long"))
}

/// True when raw labels (with their final zero) spell `name`, in any case. Length octets are below `A`,
/// so folding whole slices can't confuse them with letters.
pub(crate) fn same(raw: &[u8], name: &DnsName) -> bool {
    raw.split_last()
        .is_some_and(|(_, labels)| labels.eq_ignore_ascii_case(name.as_wire()))
}

/// The labels of an uncompressed name.
fn labels(mut raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = raw.split_first()?;
        let (label, rest) = rest
            .split_at_checked(usize::from(*length))
            .filter(|(label, _)| !label.is_empty())?;
        raw = rest;
        Some(label)
    })
}

/// Writes a canonical name uncompressed.
pub(crate) fn write(out: &mut Vec<u8>, name: &DnsName) {
    out.extend_from_slice(name.as_wire());
    out.push(0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc1035_4_1_4_a_pointer_continues_an_earlier_name() {
        let message = b"\x03www\x01a\x04test\x00\x03cdn\xc0\x04";
        let read = read(message, 12).unwrap();
        assert_eq!(read.canonical().unwrap(), DnsName::parse("cdn.a.test").unwrap());
        assert_eq!(read.end, message.len());
    }

    #[test]
    fn d16_pointer_loops_and_forward_pointers_are_errors() {
        for message in [
            &b"\xc0\x00"[..],
            b"\x01a\xc0\x00",
            b"\xc0\x02\x00",
            b"\x01a\xc0\x02",
            b"\xc0",
        ] {
            assert!(read(message, 0).is_err(), "{message:?}");
        }
        // Two pointers at each other.
        assert!(read(b"\xc0\x02\xc0\x00", 2).is_err());
    }

    #[test]
    fn rfc1035_2_3_4_a_name_over_255_octets_is_an_error() {
        let label = [&[63u8][..], &[b'a'; 63]].concat();
        let long = [label.repeat(3), vec![61], vec![b'b'; 61], vec![0]].concat();
        assert_eq!(long.len(), 255);
        assert_eq!(read(&long, 0).unwrap().end, 255);
        let longer = [label.repeat(3), vec![62], vec![b'b'; 62], vec![0]].concat();
        assert!(read(&longer, 0).is_err());
    }

    #[test]
    fn d15_odd_bytes_stay_inside_of_their_label() {
        let read = read(b"\x0callowed.test\x00", 0).unwrap();
        assert_ne!(read.canonical().unwrap(), DnsName::parse("allowed.test").unwrap());
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_always_ends(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..300) {
            if let Ok(name) = read(&bytes, at) {
                prop_assert!(name.raw.len() <= MAX_NAME && name.end <= bytes.len());
                prop_assert!(name.canonical().is_ok());
            }
        }
    }
}
