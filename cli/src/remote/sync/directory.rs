//! A synced directory: its files in the order of their names, and what they must not say together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tidegate_policy::document::MAX_BYTES;

use super::file::{FileError, PolicyFile};
use crate::remote::document::read_bounded;

/// Largest file: the largest policy, indented, and its scopes.
const MAX_FILE: u64 = 4 * MAX_BYTES as u64;
/// Files in a directory and below, at most.
const MAX_FILES: usize = 50_000;

/// Reads every policy file below a directory. Everything that is wrong is in one error.
pub(crate) fn read(dir: &Path) -> anyhow::Result<Vec<PolicyFile>> {
    let mut paths = Vec::new();
    collect(dir, &mut paths)?;
    let (mut files, mut wrong) = (Vec::new(), Vec::new());
    for path in &paths {
        let name = path.display().to_string();
        let text = read_bounded(path, MAX_FILE).with_context(|| format!("can't read {name}"))?;
        let Ok(text) = String::from_utf8(text) else {
            bail!("{name} is not in UTF-8");
        };
        match PolicyFile::parse(&name, &text) {
            Ok(file) => files.push(file),
            Err(error) => wrong.push(error),
        }
    }
    wrong.extend(conflicts(&files));
    if wrong.is_empty() {
        return Ok(files);
    }
    let said: Vec<String> = wrong.iter().map(FileError::to_string).collect();
    bail!("nothing was changed, because of\n{}", said.join("\n"))
}

/// Files below a directory, in order. What begins with a dot is somebody else's; links to directories are not followed,
/// so that none is met twice.
fn collect(dir: &Path, into: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let unreadable = || format!("can't read the directory {}", dir.display());
    let mut entries = std::fs::read_dir(dir)
        .with_context(unreadable)?
        .collect::<Result<Vec<_>, _>>()
        .with_context(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let kind = entry.file_type().with_context(unreadable)?;
        if kind.is_dir() {
            collect(&path, into)?;
        } else if path
            .extension()
            .is_some_and(|ending| ending == "yaml" || ending == "yml")
        {
            into.push(path);
        }
        if into.len() > MAX_FILES {
            bail!("{} has more than {MAX_FILES} policy files", dir.display());
        }
    }
    Ok(())
}

/// Names and scopes that two files have.
pub(crate) fn conflicts(files: &[PolicyFile]) -> Vec<FileError> {
    let mut wrong = Vec::new();
    let (mut names, mut scopes) = (BTreeMap::new(), BTreeMap::new());
    for file in files {
        let place = (file.document.file.as_str(), file.name_line);
        if let Some((other, line)) = names.insert(file.name.as_str(), place) {
            let reason = format!("the name {:?} stands in {other}:{line} too", file.name);
            wrong.push(file.error(file.name_line, reason));
        }
        for (scope, line) in &file.scopes {
            let place = (file.document.file.as_str(), *line);
            if let Some((other, there)) = scopes.insert(scope.as_str(), place) {
                let reason = format!("{scope} is attached in {other}:{there} too; a scope has one policy");
                wrong.push(file.error(*line, reason));
            }
        }
    }
    wrong
}

impl PolicyFile {
    fn error(&self, line: u32, reason: String) -> FileError {
        FileError {
            file: self.document.file.clone(),
            line,
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const BODY: &str = "policy:\n  egress-policy: audit\n";

    fn write(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn files_are_found_below_in_order_and_hidden_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for (file, name) in [("b.yml", "b"), ("a/z.yaml", "z"), ("a/k.yaml", "k")] {
            write(dir.path(), file, &format!("name: {name}\n{BODY}"));
        }
        for other in [".git/config.yaml", "README.md", ".hidden.yaml"] {
            write(dir.path(), other, "no policy");
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/loop")).unwrap();
        let names: Vec<String> = read(dir.path())
            .unwrap()
            .into_iter()
            .map(|file| file.name)
            .collect();
        assert_eq!(names, ["k", "z", "b"]);
        let error = format!("{:#}", read(&dir.path().join("none")).unwrap_err());
        assert!(error.contains("can't read the directory"), "{error}");
    }

    #[test]
    fn two_files_with_one_name_or_scope_are_both_named_with_their_lines() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            "1.yaml",
            &format!("name: caf\u{e9}\nattach: [org:acme, repo:Acme/Web]\n{BODY}"),
        );
        write(
            dir.path(),
            "2.yaml",
            &format!("# a comment\nname: cafe\u{301}\nattach:\n  - repo:acme/web\n{BODY}"),
        );
        write(dir.path(), "3.yaml", "name: 3\n");
        let error = read(dir.path()).unwrap_err().to_string();
        let at = |file: &str| dir.path().join(file).display().to_string();
        assert!(
            error.contains(&format!("{}:2: the name", at("2.yaml"))),
            "{error}"
        );
        assert!(
            error.contains(&format!("stands in {}:1 too", at("1.yaml"))),
            "{error}"
        );
        assert!(error.contains(&format!(
            "{}:4: repo:acme/web is attached in {}:2 too",
            at("2.yaml"),
            at("1.yaml")
        )));
        assert!(
            error.contains(&format!("{}:1:", at("3.yaml"))),
            "every file's errors are told: {error}"
        );
    }
}
