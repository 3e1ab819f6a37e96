//! What imported policies are called: `web-ci` for `acme/web/.github/workflows/ci.yml`.
//!
//! Pure. A name fits the store's grammar of names, and no two policies of an owner have the same one.

use std::collections::HashSet;

/// Characters of a name at most: the store takes 100, and a number may follow.
const LONGEST: usize = 90;

/// The names that were given.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<(String, String)>);

impl Names {
    /// A name for a workflow's policy, unique among its owner's: where repository and file make the same name as others
    /// did, a number follows, in the order in which they are asked for.
    pub(super) fn give(&mut self, owner: &str, repo: &str, file: &str) -> String {
        let stem = file
            .strip_suffix(".yml")
            .or_else(|| file.strip_suffix(".yaml"))
            .unwrap_or(file);
        let fit: String = format!("{repo}-{stem}")
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        // A file whose name begins with a dot is nobody's to sync.
        let fit = fit.trim_matches('.');
        let short: String = fit.chars().take(LONGEST).collect();
        let base = short.trim_end_matches('.');
        let numbered = (2..).map(|n| format!("{base}-{n}"));
        let mut names = std::iter::once(base.to_owned()).chain(numbered);
        // Policies on a file system that folds case must not be one file.
        let is_new = |name: &String| self.0.insert((owner.to_owned(), name.to_lowercase()));
        names.find(is_new).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_fit_and_never_given_twice() {
        let mut names = Names::default();
        for (repo, file, name) in [
            ("web", "ci.yml", "web-ci"),
            ("web", "ci.yaml", "web-ci-2"),
            ("web-ci", "x.yml", "web-ci-x"),
            ("web", "ci-x.yml", "web-ci-x-2"),
            ("web", "CI.yml", "web-CI-3"),
            (".github", "release & sign.yml", "github-release---sign"),
            ("web", "...yml", "web-"),
        ] {
            assert_eq!(names.give("acme", repo, file), name);
        }
        assert_eq!(
            names.give("other", "web", "ci.yml"),
            "web-ci",
            "owners have names of their own"
        );
        let long = names.give("acme", &"r".repeat(100), &"w".repeat(200));
        assert_eq!(long.len(), LONGEST);
    }
}
