//! Which suffixes end inside of an edge: a pattern goes on there, though no node stands at that place.
//!
//! Owns a Bloom filter of their hashes. A suffix that is neither a node nor in here ends a lookup, however many labels the
//! name has to its left; and a name that is wholly in here may lie above a pattern, which nearly no refused one does. What
//! the filter lets pass is compared label by label, so that it never decides.

/// Entries a word: with two bits each, one suffix in fifty that isn't there passes.
const A_WORD: usize = 5;

/// The filter. Empty where no edge has two labels.
#[derive(Default)]
pub(super) struct Inner(Box<[u64]>);

impl Inner {
    /// Of the hashes of all suffixes that end inside of an edge.
    pub(super) fn of(hashes: &[u64]) -> Self {
        let mut words = vec![0; hashes.len().div_ceil(A_WORD)];
        let count = words.len();
        for hash in hashes {
            words[home(*hash, count)] |= bits(*hash);
        }
        Self(words.into())
    }

    /// False when the suffix with this hash ends inside of no edge.
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        let bits = bits(hash);
        !self.0.is_empty() && self.0[home(hash, self.0.len())] & bits == bits
    }

    /// Heap memory in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// The word of a hash: by its high bits.
fn home(hash: u64, words: usize) -> usize {
    ((u128::from(hash) * words as u128) >> 64) as usize
}

/// Its two bits there: by its low ones.
fn bits(hash: u64) -> u64 {
    1 << (hash & 63) | 1 << (hash >> 6 & 63)
}

#[cfg(test)]
mod tests {
    use super::Inner;

    #[test]
    fn holds_what_was_put_in_and_little_else() {
        // Splitmix64.
        let hash = |number: u64| {
            let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        let hashes: Vec<u64> = (0..10_000).map(hash).collect();
        let inner = Inner::of(&hashes);
        assert!(hashes.iter().all(|hash| inner.may_hold(*hash)));
        let others = (10_000..20_000)
            .filter(|number| inner.may_hold(hash(*number)))
            .count();
        assert!(others < 600, "{others} of 10 000");
        assert!(!Inner::of(&[]).may_hold(1));
    }
}
