//! Which workflow file a reference names, and which it must not.

use proptest::prelude::*;

use super::*;

fn signed_workflow(workflow_ref: &str) -> String {
    let job = check(&signed(&with("workflow_ref", json!(workflow_ref)))).unwrap();
    job.identity.workflow.into()
}

#[test]
fn the_callers_file_counts() {
    for (reference, file) in [
        ("Acme/Web/.github/workflows/ci.yml@refs/heads/main", "ci.yml"),
        (
            "acme/web/.github/workflows/Release Train.yaml@refs/tags/v1",
            "Release Train.yaml",
        ),
        ("acme/web/.github/workflows/ci.yml@refs/pull/7/merge", "ci.yml"),
        (
            "acme/web/.github/workflows/ci.yml@0123456789abcdef0123456789abcdef01234567",
            "ci.yml",
        ),
        ("acme/web/.github/workflows/ci.yml@refs/heads/a@b", "ci.yml"),
        // No file of ours.
        (
            "acme/web/dynamic/pages/pages-build-deployment@refs/heads/main",
            "",
        ),
        ("dynamic/github-code-scanning/codeql", ""),
        // A ruleset's required workflow lives elsewhere.
        ("acme/rules/.github/workflows/ci.yml@refs/heads/main", ""),
        ("evil/web/.github/workflows/ci.yml@refs/heads/main", ""),
        // A branch's name can't become a file.
        (
            "acme/web/dynamic/x@refs/heads/acme/web/.github/workflows/release.yml",
            "",
        ),
        (
            "acme/web/.github/workflows/dynamic@refs/heads/.github/workflows/release.yml",
            "",
        ),
        // Nor can a file's name become a ref.
        ("acme/web/.github/workflows/release.yml@x.yml@refs/heads/main", ""),
        ("acme/web/.github/workflows/deep/ci.yml@refs/heads/main", ""),
        ("acme/web/.github/workflows/../../ci.yml@refs/heads/main", ""),
        ("acme/web/x/.github/workflows/ci.yml@refs/heads/main", ""),
        ("acme/web/.github/workflows/ci\n.yml@refs/heads/main", ""),
        ("acme/web/.github/workflows/ci.sh@refs/heads/main", ""),
        ("acme/web/.github/workflows/.yml@refs/heads/main", ""),
        ("ci.yml@refs/heads/main", ""),
        (".github/workflows/ci.yml@refs/heads/main", ""),
        ("", ""),
    ] {
        assert_eq!(signed_workflow(reference), file, "{reference}");
    }
}

#[test]
fn people_write_a_workflow_in_three_ways() {
    let sha = "0123456789abcdef0123456789abcdef01234567";
    for text in [
        "ci.yml",
        " ci.yml ",
        ".github/workflows/ci.yml",
        "./.github/workflows/ci.yml",
        "acme/web/.github/workflows/ci.yml",
        "acme/web/.github/workflows/ci.yml@refs/heads/main",
        &format!("acme/web/.github/workflows/ci.yml@{sha}"),
        "ci.yml@refs/heads/main",
    ] {
        assert_eq!(workflow_file(text), Some("ci.yml"), "{text}");
        assert_eq!(workflow_file_of("Acme/web", text), Some("ci.yml"), "{text}");
    }
    for text in [
        "",
        "ci",
        "CI",
        "dir/ci.yml",
        "../ci.yml",
        "a/b/c/d/.github/workflows/ci.yml",
        "ci.yml@main",
        "@",
        "/",
    ] {
        assert_eq!(workflow_file(text), None, "{text}");
        assert_eq!(workflow_file_of("acme/web", text), None, "{text}");
    }
    let required = "acme/rules/.github/workflows/ci.yml@refs/heads/main";
    assert_eq!(workflow_file(required), Some("ci.yml"));
    assert_eq!(workflow_file_of("acme/web", required), None);
}

proptest! {
    #[test]
    fn a_file_is_always_one_plain_name_of_the_text(text in "[a-z./@ -]{0,60}|\\PC{0,60}") {
        for found in [workflow_file(&text), workflow_file_of("acme/web", &text)].into_iter().flatten() {
            prop_assert!(text.contains(found));
            prop_assert!(!found.contains(['/', '@', '\\', ':']));
        }
    }
}
