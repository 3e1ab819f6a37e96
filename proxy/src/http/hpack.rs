//! HPACK (RFC 7541), as far as it takes to see whom an HTTP/2 client asks for: every field is decoded, because
//! each one moves the table that later ones refer to; only authorities are kept. Owns the table; never does
//! I/O. Driven by [`super::frames`].

#![deny(clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::sync::LazyLock;

/// Largest table that a client may keep. Servers advertise 4096 octets, some 64 KiB.
const MOST_TABLE: usize = 64 << 10;
/// What an entry counts beyond its octets (RFC 7541 §4.1).
const OVERHEAD: usize = 32;

/// Names of the static table (RFC 7541 appendix A). No value in it is an authority.
#[rustfmt::skip]
const STATIC: [&str; 61] = [
    ":authority", ":method", ":method", ":path", ":path", ":scheme", ":scheme", ":status", ":status",
    ":status", ":status", ":status", ":status", ":status", "accept-charset", "accept-encoding",
    "accept-language", "accept-ranges", "accept", "access-control-allow-origin", "age", "allow",
    "authorization", "cache-control", "content-disposition", "content-encoding", "content-language",
    "content-length", "content-location", "content-range", "content-type", "cookie", "date", "etag",
    "expect", "expires", "from", "host", "if-match", "if-modified-since", "if-none-match", "if-range",
    "if-unmodified-since", "last-modified", "link", "location", "max-forwards", "proxy-authenticate",
    "proxy-authorization", "range", "referer", "refresh", "retry-after", "server", "set-cookie",
    "strict-transport-security", "transfer-encoding", "user-agent", "vary", "via", "www-authenticate",
];

/// Octets' code lengths in bits (RFC 7541 appendix B). The code is canonical: these are all of it.
#[rustfmt::skip]
const BITS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8,
    7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7,
    7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23,
    24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22,
    23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24,
    20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
    27, 27, 27, 26,
];

/// What a field's name says here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// `:authority`
    Authority,
    /// `host`
    Host,
    /// Anything else, of so many octets.
    Other(usize),
}

impl Name {
    fn of(name: &[u8]) -> Self {
        match name {
            b":authority" => Self::Authority,
            b"host" => Self::Host,
            other => Self::Other(other.len()),
        }
    }

    fn octets(self) -> usize {
        match self {
            Self::Authority => 10,
            Self::Host => 4,
            Self::Other(octets) => octets,
        }
    }
}

/// An entry of the dynamic table.
#[derive(Debug)]
struct Entry {
    name: Name,
    /// Octets of the value; kept only for authorities.
    octets: usize,
    value: Vec<u8>,
}

impl Entry {
    fn size(&self) -> usize {
        self.name.octets() + self.octets + OVERHEAD
    }
}

/// Decodes the field blocks of one client, in order.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest entry first.
    table: VecDeque<Entry>,
    size: usize,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            limit: 4096,
        }
    }
}

impl Decoder {
    /// Decodes one whole block; `field` is shown its authorities. `None` when it can't be decoded: from
    /// then on the table is not the client's.
    pub(super) fn block(&mut self, block: &[u8], mut field: impl FnMut(Name, &[u8])) -> Option<()> {
        let mut input = Input(block);
        while let Some(first) = input.0.first().copied() {
            if first & 0x80 != 0 {
                let entry = self.entry(input.number(7)?)?;
                show(entry.0, entry.1, &mut field);
            } else if first & 0xe0 == 0x20 {
                let limit = input.number(5)?;
                if limit > MOST_TABLE {
                    return None;
                }
                self.limit = limit;
                self.evict(0);
            } else {
                let indexed = first & 0xc0 == 0x40;
                let (name, value) = self.literal(&mut input, if indexed { 6 } else { 4 })?;
                show(name, &value, &mut field);
                if indexed {
                    self.insert(name, value);
                }
            }
        }
        Some(())
    }

    fn literal(&self, input: &mut Input<'_>, prefix: u32) -> Option<(Name, Vec<u8>)> {
        let name = match input.number(prefix)? {
            0 => Name::of(&input.string()?),
            index => self.entry(index)?.0,
        };
        Some((name, input.string()?))
    }

    fn entry(&self, index: usize) -> Option<(Name, &[u8])> {
        let at = index.checked_sub(1)?;
        if let Some(name) = STATIC.get(at) {
            return Some((Name::of(name.as_bytes()), &[]));
        }
        let entry = self.table.get(at - STATIC.len())?;
        Some((entry.name, &entry.value))
    }

    fn insert(&mut self, name: Name, value: Vec<u8>) {
        let octets = value.len();
        let value = if matches!(name, Name::Other(_)) {
            Vec::new()
        } else {
            value
        };
        let entry = Entry { name, octets, value };
        self.evict(entry.size());
        // RFC 7541 §4.4: one that is larger than the table empties it, and that is no error.
        if entry.size() <= self.limit {
            self.size += entry.size();
            self.table.push_front(entry);
        }
    }

    fn evict(&mut self, room: usize) {
        while self.size + room > self.limit {
            let Some(oldest) = self.table.pop_back() else {
                return;
            };
            self.size -= oldest.size();
        }
    }
}

fn show(name: Name, value: &[u8], field: &mut impl FnMut(Name, &[u8])) {
    if !matches!(name, Name::Other(_)) {
        field(name, value);
    }
}

/// What is left of a block.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// An integer with a prefix of so many bits (RFC 7541 §5.1), below 2^28.
    fn number(&mut self, prefix: u32) -> Option<usize> {
        let most = (1_usize << prefix) - 1;
        let mut number = usize::from(self.octet()?) & most;
        if number < most {
            return Some(number);
        }
        for shift in [0, 7, 14, 21] {
            let octet = self.octet()?;
            number += usize::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// A string literal (RFC 7541 §5.2).
    fn string(&mut self) -> Option<Vec<u8>> {
        let huffman = self.0.first()? & 0x80 != 0;
        let octets = self.number(7)?;
        let (string, rest) = self.0.split_at_checked(octets)?;
        self.0 = rest;
        if huffman {
            CODE.decode(string)
        } else {
            Some(string.to_vec())
        }
    }
}

static CODE: LazyLock<Code> = LazyLock::new(Code::new);

/// The Huffman code: for each length, the first code of it and the octets that have one.
struct Code {
    lengths: Vec<(u32, Vec<u8>)>,
}

impl Code {
    fn new() -> Self {
        let mut lengths = Vec::with_capacity(31);
        let mut first = 0_u32;
        for bits in 0..=30 {
            let octets: Vec<u8> = (0..=u8::MAX)
                .zip(BITS)
                .filter(|(_, of)| *of == bits)
                .map(|(octet, _)| octet)
                .collect();
            let next = (first + octets.len() as u32) << 1;
            lengths.push((first, octets));
            first = next;
        }
        Self { lengths }
    }

    /// `None` for bits that are no code, EOS among them. What is left at the end is padding: fewer than
    /// eight ones (RFC 7541 §5.2).
    fn decode(&self, string: &[u8]) -> Option<Vec<u8>> {
        let mut decoded = Vec::with_capacity(string.len() * 8 / 5);
        let (mut code, mut bits) = (0_u32, 0_usize);
        for at in 0..string.len() * 8 {
            let bit = string.get(at / 8)? >> (7 - at % 8) & 1;
            code = code << 1 | u32::from(bit);
            bits += 1;
            let (first, octets) = self.lengths.get(bits)?;
            let place = code
                .checked_sub(*first)
                .and_then(|place| octets.get(place as usize));
            if let Some(octet) = place {
                decoded.push(*octet);
                (code, bits) = (0, 0);
            }
        }
        (bits < 8 && code + 1 == 1 << bits).then_some(decoded)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let octet = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
        digits.chunks(2).map(octet).collect()
    }

    fn authorities(decoder: &mut Decoder, block: &str) -> Vec<String> {
        let mut seen = Vec::new();
        decoder
            .block(&hex(block), |_, value| {
                seen.push(String::from_utf8_lossy(value).into_owned());
            })
            .unwrap();
        seen
    }

    #[test]
    fn rfc_7541_c_3_and_c_4_requests_name_their_authority_by_literal_and_by_index() {
        for blocks in [
            [
                "828684410f7777772e6578616d706c652e636f6d",
                "828684be58086e6f2d6361636865",
                "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
            ],
            [
                "828684418cf1e3c2e5f23a6ba0ab90f4ff",
                "828684be5886a8eb10649cbf",
                "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
            ],
        ] {
            let mut decoder = Decoder::default();
            for block in blocks {
                assert_eq!(authorities(&mut decoder, block), ["www.example.com"], "{block}");
            }
            assert_eq!(decoder.size, 164);
        }
    }

    #[test]
    fn rfc_7541_4_3_4_4_the_table_shrinks_and_forgets() {
        let mut decoder = Decoder::default();
        assert_eq!(authorities(&mut decoder, "410161 410162"), ["a", "b"]);
        assert_eq!(authorities(&mut decoder, "be bf"), ["b", "a"]);
        assert_eq!(
            authorities(&mut decoder, "3f0e be"),
            ["b"],
            "45 octets hold one entry"
        );
        assert!(decoder.block(&hex("bf"), |_, _| {}).is_none());
        assert_eq!(authorities(&mut decoder, "20"), Vec::<String>::new());
        assert!(decoder.block(&hex("be"), |_, _| {}).is_none());
    }

    #[test]
    fn rfc_7541_5_2_padding_is_less_than_an_octet_of_ones() {
        assert_eq!(CODE.decode(&hex("1f")).unwrap(), b"a");
        assert!(CODE.decode(&hex("1e")).is_none(), "a zero in the padding");
        assert!(CODE.decode(&hex("1fff")).is_none(), "a whole octet of it");
        assert!(CODE.decode(&hex("ffffffff")).is_none(), "EOS");
    }

    proptest! {
        #[test]
        fn any_block_is_decoded_or_given_up(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5)) {
            let mut decoder = Decoder::default();
            for block in blocks {
                let _ = decoder.block(&block, |_, _| {});
                prop_assert!(decoder.size <= decoder.limit && decoder.limit <= MOST_TABLE);
            }
        }
    }
}
