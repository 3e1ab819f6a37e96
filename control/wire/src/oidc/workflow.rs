//! From a workflow reference to the file that a policy is attached to.
//!
//! Owns the reading of `acme/web/.github/workflows/ci.yml@refs/heads/main`. It must never take a part of a branch's name,
//! a directory or another repository's file for a file of this repository's workflows: whoever may push a branch could
//! choose the policy then. What is not understood has no file, and the repository's policy governs.

/// Where a forge looks for workflows. It ignores directories below.
const FOLDER: &str = ".github/workflows/";

/// Longest file name in bytes.
const MAX_FILE: usize = 255;

/// The file name of a workflow in any of the forms that people and `GITHUB_WORKFLOW_REF` write: `ci.yml`,
/// `.github/workflows/ci.yml`, `acme/web/.github/workflows/ci.yml@refs/heads/main`.
///
/// `None` when it has no file (`acme/web/dynamic/pages/build@refs/heads/main`) or is not understood.
pub fn workflow_file(text: &str) -> Option<&str> {
    let path = without_ref(text.trim())?;
    let path = path.strip_prefix("./").unwrap_or(path);
    if !path.contains('/') {
        return is_file(path).then_some(path);
    }
    if let Some(file) = path.strip_prefix(FOLDER) {
        return is_file(file).then_some(file);
    }
    let (_, file) = in_repository(path)?;
    is_file(file).then_some(file)
}

/// The same for a job of `repository` (`owner/name`): a full reference to another repository's file has no file here. A
/// ruleset's required workflow is such a reference.
pub fn workflow_file_of<'a>(repository: &str, text: &'a str) -> Option<&'a str> {
    let file = workflow_file(text)?;
    match without_ref(text.trim()).and_then(in_repository) {
        Some((named, _)) if !named.eq_ignore_ascii_case(repository) => None,
        Some(_) | None => Some(file),
    }
}

/// The file of a signed `workflow_ref`, which is always full.
pub(super) fn signed_file<'a>(repository: &str, workflow_ref: &'a str) -> Option<&'a str> {
    let (named, file) = in_repository(without_ref(workflow_ref)?)?;
    (named.eq_ignore_ascii_case(repository) && is_file(file)).then_some(file)
}

/// What stands before `@refs/…` or `@` and a commit. The first `@` counts: a branch's name may have more of them, and a
/// file with one in its own name (`release.yml@x.yml`) leaves a rest that is no ref.
fn without_ref(text: &str) -> Option<&str> {
    let Some((path, git_ref)) = text.split_once('@') else {
        return Some(text);
    };
    let commit = matches!(git_ref.len(), 40 | 64) && git_ref.bytes().all(|byte| byte.is_ascii_hexdigit());
    (commit || git_ref.starts_with("refs/")).then_some(path)
}

/// Splits `owner/name/.github/workflows/file`.
fn in_repository(path: &str) -> Option<(&str, &str)> {
    let (owner, rest) = path.split_once('/')?;
    let (name, rest) = rest.split_once('/')?;
    if owner.is_empty() || name.is_empty() {
        return None;
    }
    let file = rest.strip_prefix(FOLDER)?;
    Some((&path[..owner.len() + 1 + name.len()], file))
}

/// A file that a scope can name: letters, digits, `._+-` and inner spaces, ending as workflows do.
fn is_file(name: &str) -> bool {
    let stem = name.strip_suffix(".yml").or_else(|| name.strip_suffix(".yaml"));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-' | ' ');
    stem.is_some_and(|stem| !stem.is_empty())
        && name.len() <= MAX_FILE
        && name.chars().all(plain)
        && !name.starts_with(' ')
}
