//! Local composite actions: whether a Harden-Runner step hides in one.
//!
//! What such a step says is not read: its inputs are the action's, and may differ with every use. It is only found. Owns
//! that each action's file is read once, however many jobs use it, and that what was not looked at is told.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use super::disk::{self, What};
use super::workflow::composite;

/// Local actions that are looked at for one use at most, and that one of them is followed to.
const MOST: usize = 50;

/// Where a local action leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hidden {
    /// To no Harden-Runner step that could be found.
    Nothing,
    /// To one, in this file and line.
    Step(String, u32),
    /// To more actions than are looked at.
    TooMany,
}

/// The local actions of one repository.
pub(super) struct Actions<'a> {
    root: &'a Path,
    /// By their directories.
    read: HashMap<PathBuf, Option<Action>>,
    /// Where those lead that jobs use.
    known: HashMap<PathBuf, Hidden>,
}

/// An action, read.
struct Action {
    file: String,
    /// The line of its Harden-Runner step.
    step: Option<u32>,
    /// The local actions that it uses, each once; one more than [`MOST`] stands for any number.
    uses: Vec<PathBuf>,
}

impl<'a> Actions<'a> {
    /// None is read yet.
    pub(super) fn new(root: &'a Path) -> Self {
        Self {
            root,
            read: HashMap::new(),
            known: HashMap::new(),
        }
    }

    /// Where an action leads (`./path`), itself and those that it uses. A path that leaves the repository, or goes through
    /// a link, leads nowhere.
    pub(super) fn hidden(&mut self, action: &str) -> Hidden {
        let Some(path) = inside(action) else {
            return Hidden::Nothing;
        };
        if let Some(known) = self.known.get(&path) {
            return known.clone();
        }
        let found = self.follow(path.clone());
        self.known.insert(path, found.clone());
        found
    }

    fn follow(&mut self, path: PathBuf) -> Hidden {
        let root = self.root;
        let (mut seen, mut wanted) = (HashSet::new(), vec![path]);
        while let Some(path) = wanted.pop() {
            if seen.contains(&path) {
                continue;
            }
            if seen.len() == MOST {
                return Hidden::TooMany;
            }
            seen.insert(path.clone());
            let action = self
                .read
                .entry(path)
                .or_insert_with_key(|path| Action::read(root, path));
            let Some(action) = action else {
                continue;
            };
            if let Some(line) = action.step {
                return Hidden::Step(action.file.clone(), line);
            }
            wanted.extend(action.uses.iter().cloned());
        }
        Hidden::Nothing
    }
}

impl Action {
    /// Reads a directory's `action.yml`.
    fn read(root: &Path, path: &Path) -> Option<Self> {
        let mut dir = root.to_path_buf();
        for part in path {
            dir.push(part);
            if disk::what(&dir) != Some(What::Directory) {
                return None;
            }
        }
        let (name, text) = ["action.yml", "action.yaml"]
            .into_iter()
            .find_map(|name| Some((name, disk::text(&dir.join(name)).ok()?)))?;
        let (lines, used) = composite(&text)?;
        let mut seen = HashSet::new();
        let uses = used.iter().filter_map(|action| inside(action));
        Some(Self {
            file: path.join(name).to_string_lossy().into_owned(),
            step: lines.first().copied(),
            uses: uses
                .filter(|path| seen.insert(path.clone()))
                .take(MOST + 1)
                .collect(),
        })
    }
}

/// The path of `./path` below the repository; nothing for one that leaves it.
fn inside(action: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(action).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => path.push(part),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;

    use super::*;

    const STEP: &str = "runs:\n  steps:\n    - uses: step-security/harden-runner@v2\n";

    fn write(root: &Path, action: &str, text: &str) {
        let dir = root.join(action);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("action.yml"), text).unwrap();
    }

    fn using(actions: impl Iterator<Item = String>) -> String {
        let uses: Vec<String> = actions.map(|action| format!("    - uses: {action}\n")).collect();
        format!("runs:\n  steps:\n{}", uses.concat())
    }

    /// The action's file is gone after the first look, and still it is known.
    #[test]
    fn an_action_is_read_once_however_it_is_spelled() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a/b", STEP);
        write(dir.path(), "c", &using(["./a/b".to_owned()].into_iter()));
        let mut actions = Actions::new(dir.path());
        let found = Hidden::Step("a/b/action.yml".into(), 3);
        assert_eq!(actions.hidden("./a/b"), found);
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        for spelled in ["./a/b", "./a/b/", "././a//b", "./c"] {
            assert_eq!(actions.hidden(spelled), found, "{spelled}");
        }
        assert_eq!(actions.hidden("./a/../a/b"), Hidden::Nothing);
        assert_eq!(actions.hidden("./d"), Hidden::Nothing);
    }

    #[test]
    fn actions_that_use_each_other_come_to_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let all = |except: u32| (0..20).filter(move |n| *n != except).map(|n| format!("./{n}"));
        for n in 0..20 {
            write(dir.path(), &n.to_string(), &using(all(n)));
        }
        assert_eq!(Actions::new(dir.path()).hidden("./0"), Hidden::Nothing);
        write(dir.path(), "19", STEP);
        assert_eq!(
            Actions::new(dir.path()).hidden("./0"),
            Hidden::Step("19/action.yml".into(), 3)
        );
    }

    #[test]
    fn more_than_are_looked_at_is_said_and_not_taken_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let many = u32::try_from(MOST).unwrap();
        write(dir.path(), "all", &using((1..many).map(|n| format!("./{n}"))));
        assert_eq!(Actions::new(dir.path()).hidden("./all"), Hidden::Nothing);
        write(dir.path(), "all", &using((0..30_000).map(|n| format!("./{n}"))));
        assert_eq!(Actions::new(dir.path()).hidden("./all"), Hidden::TooMany);
    }
}
