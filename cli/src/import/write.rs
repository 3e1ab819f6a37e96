//! Writing what was imported: a folder an owner with a file a policy, and the report beside them.
//!
//! Owns that nothing is written over unless it was asked for.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::disk::{self, What};
use super::markdown;
use super::report::Report;
use crate::Usage;

/// The report for people.
pub(super) const REPORT: &str = "report.md";
/// The report for scripts.
const JSON: &str = "report.json";

/// Refuses an output directory that holds something, before anything is read.
pub(super) fn check(output: &Path, force: bool) -> anyhow::Result<()> {
    if !output.exists() {
        return Ok(());
    }
    let name = output.display();
    if !output.is_dir() {
        return Err(Usage(format!("{name} is no directory")).into());
    }
    let mut entries = fs::read_dir(output).with_context(|| format!("can't read the directory {name}"))?;
    if !force && entries.next().is_some() {
        return Err(Usage(format!(
            "{name} is not empty; --force writes over files of the same name"
        ))
        .into());
    }
    Ok(())
}

/// Writes everything. Policy files that are there and are not written stay, and are named on stderr: a sync would take
/// them too.
pub(super) fn all(output: &Path, report: &Report) -> anyhow::Result<()> {
    let mut written: HashSet<PathBuf> = HashSet::new();
    for policy in &report.policies {
        let dir = output.join(&policy.owner);
        let path = dir.join(format!("{}.yaml", policy.name));
        fs::create_dir_all(&dir).with_context(|| format!("can't make the directory {}", dir.display()))?;
        put(&path, &policy.file())?;
        written.insert(path);
    }
    fs::create_dir_all(output).with_context(|| format!("can't make the directory {}", output.display()))?;
    put(&output.join(REPORT), &markdown::write(report))?;
    put(
        &output.join(JSON),
        &format!("{}\n", serde_json::to_string_pretty(report)?),
    )?;
    for owner in report.owners() {
        let entries = disk::entries(&output.join(owner))?.into_iter();
        let left = entries.filter(|entry| {
            let is_policy = entry.path.extension() == Some(OsStr::new("yaml"));
            entry.what == What::File && is_policy && !written.contains(&entry.path)
        });
        for entry in left {
            eprintln!(
                "tidegate: {} is not of this import, and stays",
                entry.path.display()
            );
        }
    }
    Ok(())
}

fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
}
