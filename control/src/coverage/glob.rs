//! Patterns for picking many scopes at once: `acme/service-*`, `*/release.yml`.
//!
//! Pure. `*` stands for any text, slashes included, `?` for one character; case does not count. Never slower than the
//! product of both lengths.

/// A pattern, read once for many texts.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Vec<char>);

impl Pattern {
    /// Any text is one.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_lowercase().chars().collect())
    }

    /// Whether it matches a text as a whole.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let Self(pattern) = self;
        let text: Vec<char> = text.to_lowercase().chars().collect();
        let (mut at, mut seen) = (0, 0);
        // Where the last star stands, and how much of the text it has taken.
        let mut star: Option<(usize, usize)> = None;
        while seen < text.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, seen));
                    at += 1;
                }
                Some(one) if *one == '?' || *one == text[seen] => {
                    at += 1;
                    seen += 1;
                }
                _ => {
                    let Some((place, taken)) = star else {
                        return false;
                    };
                    star = Some((place, taken + 1));
                    at = place + 1;
                    seen = taken + 1;
                }
            }
        }
        pattern[at..].iter().all(|rest| *rest == '*')
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).matches(text)
    }

    #[test]
    fn stars_and_question_marks_stand_for_text() {
        for (pattern, text, wanted) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "acme/web", true),
            ("acme/*", "acme/web", true),
            ("ACME/*", "acme/Web", true),
            ("acme/*", "beta/web", false),
            ("acme/svc-?", "acme/svc-1", true),
            ("acme/svc-?", "acme/svc-12", false),
            ("*/release.yml", "acme/web/release.yml", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxxcx", false),
            ("a**b", "ab", true),
            ("[a]", "a", false),
            ("日?", "日本", true),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn a_pattern_of_stars_costs_no_more_than_the_product() {
        let pattern = "*a".repeat(120);
        assert!(!matches(&pattern, &"a".repeat(119)));
        assert!(matches(&pattern, &"a".repeat(200)));
        assert!(!matches(&format!("{pattern}b"), &"a".repeat(2_000)));
    }
}
