//! Ids of what the control plane keeps: `pol_01k7x…`, `job_…`, `tok_…`.
//!
//! Owns their making and their shape. An id names a thing and is never a credential: who knows one may do nothing with
//! it. It carries no host name and no count of anything.

use jiff::Timestamp;
use uuid::Uuid;

/// Characters after the prefix and its underscore: 128 bits, five a character.
pub const ID_CHARS: usize = 26;

/// Letters of a prefix at most.
pub const MAX_PREFIX: usize = 8;

/// Crockford's base 32 in lower case: in ASCII order, so that ids sort by the time they were made, and without
/// `i`, `l`, `o` and `u`, which are misread.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Makes an id: the prefix (one to [`MAX_PREFIX`] lower-case letters), `_` and [`ID_CHARS`] characters.
///
/// The characters are a UUID of version 7 (RFC 9562 §5.7): 48 bits of time in milliseconds, a counter that keeps the ids
/// of one process in order, and at least 32 fresh random bits.
pub fn new_id(prefix: &str) -> String {
    debug_assert!(is_prefix(prefix), "{prefix:?} is no prefix of an id");
    let mut id = String::with_capacity(prefix.len() + 1 + ID_CHARS);
    id.push_str(prefix);
    id.push('_');
    id.extend(spell(Uuid::now_v7().as_u128()));
    id
}

/// 128 bits in base 32, the highest first.
fn spell(bits: u128) -> impl Iterator<Item = char> {
    (0..ID_CHARS)
        .rev()
        .map(move |at| char::from(ALPHABET[(bits >> (5 * at)) as usize & 0x1f]))
}

/// True when this text has the shape of an id with this prefix; whether there is such a thing, only the store knows.
pub fn is_id(prefix: &str, text: &str) -> bool {
    let Some(rest) = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')) else {
        return false;
    };
    // 26 characters hold 130 bits: the first one says three of 128.
    rest.len() == ID_CHARS && rest.as_bytes()[0] <= b'7' && rest.bytes().all(|byte| ALPHABET.contains(&byte))
}

/// When an id with this prefix was made, by the clock of who made it: the time in it, milliseconds. `None` for what is no
/// such id.
pub fn made_at(prefix: &str, text: &str) -> Option<Timestamp> {
    if !is_id(prefix, text) {
        return None;
    }
    let digits = text.bytes().skip(prefix.len() + 1);
    let bits = digits.fold(0_u128, |bits, byte| {
        let digit = ALPHABET.iter().position(|one| *one == byte).unwrap_or_default();
        bits << 5 | digit as u128
    });
    // RFC 9562 §5.7: the first 48 bits.
    Timestamp::from_millisecond((bits >> 80) as i64).ok()
}

fn is_prefix(text: &str) -> bool {
    (1..=MAX_PREFIX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_id_says_when_it_was_made() {
        let before = Timestamp::now().as_millisecond();
        let made = made_at("job", &new_id("job")).map(Timestamp::as_millisecond);
        assert!(
            made.is_some_and(|made| made >= before && made <= Timestamp::now().as_millisecond()),
            "{made:?}"
        );
        assert_eq!(made_at("job", "static-1"), None);
        assert_eq!(made_at("job", &new_id("pol")), None);
    }

    #[test]
    fn ids_have_a_fixed_length_and_shape() {
        let id = new_id("pol");
        assert_eq!(id.len(), 3 + 1 + ID_CHARS, "{id}");
        assert!(is_id("pol", &id), "{id}");
        assert!(!is_id("job", &id), "another prefix");
    }

    #[test]
    fn ids_sort_in_the_order_in_which_one_process_makes_them() {
        let ids: Vec<String> = (0..10_000).map(|_| new_id("job")).collect();
        assert!(ids.is_sorted());
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }

    #[test]
    fn the_spelling_keeps_the_order_of_the_bits() {
        let text = |bits| spell(bits).collect::<String>();
        assert_eq!(text(0), "0".repeat(26));
        assert_eq!(text(u128::MAX), format!("7{}", "z".repeat(25)));
        // The example of RFC 9562, appendix A.6.
        let example = 0x017F_22E2_79B0_7CC3_98C4_DC0C_0C07_398F;
        assert_eq!(text(example), "01fwhe4ydgfk1shh6w1g60eecf");
        assert!(is_id("t", &format!("t_{}", text(example))));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let id = new_id("tok");
        let upper = id.to_uppercase();
        let short = &id[..id.len() - 1];
        let long = format!("{id}0");
        let big = format!("tok_8{}", "0".repeat(25));
        let odd = format!("tok_0{}", "u".repeat(25));
        let wide = format!("tok_0{}é", "0".repeat(23));
        for text in [
            "",
            "tok",
            "tok_",
            &upper,
            short,
            &long,
            &big,
            &odd,
            &wide,
            "../../etc",
        ] {
            assert!(!is_id("tok", text), "{text}");
        }
    }
}
