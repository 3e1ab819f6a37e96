//! The grammar of names: of policies, sets, owners and scopes, before any of them reaches SQL.
//!
//! Pure. Names end up in URLs, file names (`tidegate policy sync`), logs and terminals; the grammar leaves no room for
//! paths, control characters or look-alikes that differ only in their encoding.

use tidegate_policy::job::Scope;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use super::StoreError;

/// Characters of a name at most.
const LONGEST: usize = 100;
/// Bytes of a workflow's file name at most, as file systems have it.
const LONGEST_FILE: usize = 255;

/// A policy's name, in Unicode's form C: 1 to 100 letters, digits, `-`, `_`, `.` and spaces, without a dot or space at
/// either end.
pub(super) fn policy(name: &str) -> Result<String, StoreError> {
    // Normalizing never makes a text shorter than a third (UAX #15, table 3 gives 3 for form D).
    let long = || StoreError::invalid("name", format!("it is longer than {LONGEST} characters"));
    if name.len() > LONGEST * 4 * 3 {
        return Err(long());
    }
    let name: String = name.nfc().collect();
    if name.chars().count() > LONGEST {
        return Err(long());
    }
    let reason = match name.chars().find(|c| !is_plain(*c) && *c != ' ') {
        _ if name.is_empty() => "it is empty".to_owned(),
        Some(odd) => format!("{odd:?} is not allowed; letters, digits, `-`, `_`, `.` and spaces are"),
        None if name.starts_with(['.', ' ']) || name.ends_with(['.', ' ']) => {
            "it begins or ends with a dot or a space".to_owned()
        }
        None if name.chars().next().is_some_and(is_combining_mark) => {
            "it begins with a combining mark".to_owned()
        }
        None => return Ok(name),
    };
    Err(StoreError::invalid("name", reason))
}

/// Letters and digits of every script, the marks that some scripts write letters with, and `-`, `_`, `.`.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c) || matches!(c, '-' | '_' | '.')
}

/// A set's name: what `use:` can name, so 1 to 100 ASCII letters, digits, `-`, `_` and `.` only, without `-` or `.` at
/// the front or `.` at the end.
pub(super) fn set(name: &str) -> Result<String, StoreError> {
    framed(name).map_err(|reason| StoreError::invalid("name", reason))?;
    Ok(name.to_owned())
}

/// An owner, as forges have it, in lower case; the same characters.
pub(crate) fn owner(owner: &str) -> Result<String, StoreError> {
    framed(owner).map_err(|reason| StoreError::invalid("owner", reason))?;
    Ok(owner.to_ascii_lowercase())
}

/// What forges let an account be called.
fn framed(text: &str) -> Result<(), String> {
    ascii_part(text)?;
    if text.starts_with(['.', '-']) || text.ends_with('.') {
        return Err("it begins with a dot or a hyphen or ends with a dot".into());
    }
    Ok(())
}

/// One part of a forge's path. Repositories may be called `.github`.
fn ascii_part(text: &str) -> Result<(), String> {
    let odd = text
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'));
    match odd {
        _ if text.is_empty() => Err("it is empty".into()),
        _ if text.len() > LONGEST => Err(format!("it is longer than {LONGEST} characters")),
        Some(odd) => Err(format!(
            "{odd:?} is not allowed; ASCII letters, digits, `-`, `_` and `.` are"
        )),
        None if text.bytes().all(|byte| byte == b'.') => Err(format!("{text:?} is no name")),
        None => Ok(()),
    }
}

/// A scope's text, when a policy may be attached to it and its parts can be names at a forge.
pub(super) fn scope(field: &'static str, scope: &Scope) -> Result<String, StoreError> {
    let wrong = |reason: String| StoreError::invalid(field, format!("{:?}: {reason}", scope.to_string()));
    let parts = |path: &str| path.split('/').try_for_each(ascii_part);
    match scope {
        Scope::Organization(name) => framed(name).map_err(wrong)?,
        Scope::Repository(name) | Scope::Cluster(name) => parts(name).map_err(wrong)?,
        Scope::Workflow(path) => {
            let (repo, file) = path.rsplit_once('/').unwrap_or((path, ""));
            parts(repo).map_err(wrong)?;
            file_name(file).map_err(wrong)?;
        }
        Scope::Network(_) | Scope::Lease(_) => {
            return Err(wrong("nothing can be attached there".into()));
        }
    }
    Ok(scope.to_string())
}

/// The name of a workflow's file, whose letters may be of any script.
fn file_name(name: &str) -> Result<(), String> {
    let hidden = |c: char| c.is_control() || c == '\\';
    match name {
        "" | "." | ".." => Err(format!("{name:?} is no file name")),
        _ if name.len() > LONGEST_FILE => Err(format!("the file name is longer than {LONGEST_FILE} bytes")),
        _ if name.contains(hidden) => Err("the file name has a control character or a backslash".into()),
        _ => Ok(()),
    }
}

/// What somebody else calls himself or his things: without control characters, and cut at `most` characters.
pub(super) fn clean(text: &str, most: usize) -> String {
    let shown = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars().take(most).map(shown).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_every_script_are_names_and_have_one_encoding() {
        for name in [
            "base",
            "Default policy",
            "a.b-c_d 1",
            "Grundschutz für Büro",
            "基本",
            "नीति",
            "x",
        ] {
            assert_eq!(policy(name).unwrap(), name);
        }
        assert_eq!(policy("Bu\u{308}ro").unwrap(), "B\u{fc}ro");
        assert_eq!(policy(&"ü".repeat(100)).unwrap().chars().count(), 100);
        assert_eq!(policy(&"u\u{308}".repeat(100)).unwrap().chars().count(), 100);
    }

    #[test]
    fn paths_controls_and_hidden_characters_are_no_names() {
        let long = "a".repeat(101);
        let huge = "a".repeat(1 << 20);
        for name in [
            "",
            ".",
            "..",
            "../../etc/passwd",
            "a/b",
            "a\\b",
            "a\0b",
            "a\nb",
            " a",
            "a ",
            ".a",
            "a.",
            "a'b",
            "a\"b",
            "a;--",
            "a%b",
            "<b>",
            "a\u{202e}b",
            "a\u{200b}b",
            "\u{301}a",
            &long,
            &huge,
        ] {
            let error = policy(name).unwrap_err().to_string();
            assert!(error.starts_with("name: "), "{error}");
            assert!(error.len() < 200, "{error}");
        }
    }

    #[test]
    fn owners_fold_and_sets_do_not() {
        assert_eq!(owner("Acme-Corp").unwrap(), "acme-corp");
        assert_eq!(set("Corp.Base_1").unwrap(), "Corp.Base_1");
        for wrong in [
            "", ".", "..", ".a", "-a", "a.", "a/b", "bücher", "a b", "a'", "a\0",
        ] {
            assert!(owner(wrong).is_err() && set(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn scopes_that_nothing_can_be_attached_to_are_refused() {
        for good in [
            "org:acme",
            "repo:acme/web.js",
            "workflow:acme/web/Ünïcode 1.yml",
            "cluster:prod-1",
        ] {
            assert_eq!(scope("add", &good.parse().unwrap()).unwrap(), good);
        }
        let mut wrong: Vec<Scope> = [
            "org:a b",
            "repo:acme/..",
            "workflow:acme/web/..",
            "workflow:acme/w;/x.yml",
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        wrong.extend([
            "workflow:acme/web/a\nb".parse().unwrap(),
            Scope::Network("runners".into()),
            Scope::Lease("x".into()),
            Scope::Cluster("a\0b".into()),
        ]);
        for one in wrong {
            assert!(scope("add", &one).is_err(), "{one}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_its_own_canonical_form(text in "\\PC{0,40}") {
            if let Ok(name) = policy(&text) {
                prop_assert_eq!(policy(&name).unwrap(), name);
            }
        }
    }
}
