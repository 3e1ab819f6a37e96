//! Local composite actions: whether a Harden-Runner step hides in one.
//!
//! What such a step says is not read: its inputs are the action's, and may differ with every use. It is only found.

use std::path::{Component, Path};

use super::disk::{self, What};
use super::workflow::composite;

/// How deep local actions are followed into local actions.
const DEEPEST: usize = 4;
/// Local actions that are looked at for one use at most.
const MOST: usize = 50;

/// The file and line of a Harden-Runner step in a local action, or in one that it uses. A path that leaves the
/// repository, or goes through a link, leads nowhere.
pub(super) fn hidden(root: &Path, action: &str) -> Option<(String, u32)> {
    let mut wanted = vec![(action.to_owned(), 0)];
    let mut looked = 0;
    while let Some((action, depth)) = wanted.pop() {
        looked += 1;
        if looked > MOST {
            return None;
        }
        let Some((file, text)) = text(root, &action) else {
            continue;
        };
        let Some((lines, used)) = composite(&text) else {
            continue;
        };
        if let Some(line) = lines.first() {
            return Some((file, *line));
        }
        if depth < DEEPEST {
            wanted.extend(used.into_iter().map(|used| (used, depth + 1)));
        }
    }
    None
}

/// The text of `./path`'s `action.yml`, and what the file is called.
fn text(root: &Path, action: &str) -> Option<(String, String)> {
    let mut path = root.to_path_buf();
    for part in Path::new(action).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => path.push(part),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
        if disk::what(&path) != Some(What::Directory) {
            return None;
        }
    }
    let action = action.trim_start_matches("./").trim_end_matches('/');
    ["action.yml", "action.yaml"].into_iter().find_map(|name| {
        let text = disk::text(&path.join(name)).ok()?;
        Some((format!("{action}/{name}"), text))
    })
}
