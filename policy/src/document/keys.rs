//! The keys of documents, and which of them an unknown one probably means.

/// A key of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    EgressPolicy,
    AllowedEndpoints,
    DeniedEndpoints,
    Use,
    Platform,
    Icmp,
    LockdownMode,
}

/// What the keys are called.
pub(super) const POLICY: [(&str, Key); 7] = [
    ("egress-policy", Key::EgressPolicy),
    ("allowed-endpoints", Key::AllowedEndpoints),
    ("denied-endpoints", Key::DeniedEndpoints),
    ("use", Key::Use),
    ("platform", Key::Platform),
    ("icmp", Key::Icmp),
    ("lockdown-mode", Key::LockdownMode),
];

/// Inputs of the Harden-Runner action (v2) that are about the host, the vendor's service or its store:
/// accepted in a pasted block, and nothing that a network gateway could enforce.
pub(super) const NOT_ENFORCED: [&str; 10] = [
    "token",
    "disable-telemetry",
    "disable-sudo",
    "disable-sudo-and-containers",
    "disable-file-monitoring",
    "exempt-files",
    "policy",
    "api-key",
    "use-policy-store",
    "deploy-on-self-hosted-vm",
];

/// Keys of a workflow step, which a pasted block may still have around its `with`.
pub(super) const STEP: [&str; 8] = [
    "name",
    "id",
    "uses",
    "if",
    "env",
    "continue-on-error",
    "timeout-minutes",
    "with",
];

/// The known word nearest to `word`, when it is near enough to be meant: one that it begins, or else a
/// third of its letters, and at most three, may differ.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase().replace('_', "-");
    let length = word.chars().count();
    let limit = (length / 3).clamp(1, 3);
    let far = |candidate: &str| {
        let begun = length >= 3 && candidate.starts_with(&word);
        if begun {
            limit
        } else {
            distance(&word, &candidate.to_lowercase())
        }
    };
    known
        .into_iter()
        .map(|candidate| (far(candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words: insertions, deletions, replacements and swaps of neighbours (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = a[i - 1] == b[j - 1];
            let mut best = (rows[i - 1][j - 1] + usize::from(!same))
                .min(rows[i - 1][j] + 1)
                .min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(word: &str) -> Option<&'static str> {
        nearest(word, POLICY.map(|(name, _)| name))
    }

    #[test]
    fn misspelt_keys_find_theirs() {
        assert_eq!(key("alowed-endpoints"), Some("allowed-endpoints"));
        assert_eq!(key("allowed_endpoints"), Some("allowed-endpoints"));
        assert_eq!(key("egress-polciy"), Some("egress-policy"));
        assert_eq!(key("Lockdown-Mode"), Some("lockdown-mode"));
        assert_eq!(key("egress"), Some("egress-policy"));
    }

    #[test]
    fn strangers_find_nothing() {
        assert_eq!(key("permissions"), None);
        assert_eq!(key("x"), None);
        assert_eq!(key(&"u".repeat(100_000)), None);
    }

    #[test]
    fn a_swap_is_one_edit() {
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
