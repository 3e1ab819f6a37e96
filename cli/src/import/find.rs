//! Finding repositories and their workflow files in a directory.
//!
//! A folder is a repository when it has `.github/workflows`. Whose it is says its remote `origin`, else the folders that it
//! lies in, else the command line. Links are told, never followed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tidegate_control_wire::text::printable;

use super::disk::{self, Entry, What};
use super::item::{Item, Items};

/// Repositories of one import at most.
const MAX_REPOSITORIES: usize = 10_000;
/// Workflow files of one repository at most.
const MAX_WORKFLOWS: usize = 1_000;
/// Longest name of a workflow file that the store takes, in bytes.
const LONGEST_FILE: usize = 255;
/// Longest owner or repository that the store takes.
const LONGEST_PART: usize = 100;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In the order of owner and name.
    pub(super) repositories: Vec<Repository>,
    /// What was not looked at.
    pub(super) items: Vec<Item>,
}

/// A repository.
#[derive(Debug)]
pub(super) struct Repository {
    /// Lower case, as the store has owners.
    pub(super) owner: String,
    /// Without its owner; lower case.
    pub(super) name: String,
    pub(super) root: PathBuf,
    /// Its path below the imported directory, with a slash behind it; empty for the directory itself.
    pub(super) shown: String,
    pub(super) workflows: Vec<WorkflowFile>,
}

/// A workflow file.
#[derive(Debug)]
pub(super) struct WorkflowFile {
    pub(super) path: PathBuf,
    /// `ci.yml`
    pub(super) name: String,
    /// Its path below the imported directory.
    pub(super) shown: String,
}

/// Finds what there is.
pub(super) fn find(dir: &Path, owner: Option<&str>) -> anyhow::Result<Found> {
    let mut search = Search {
        owner,
        found: Found::default(),
        seen: HashSet::new(),
    };
    if is_repository(dir) {
        let name = dir.canonicalize().ok();
        let name = name.as_deref().and_then(Path::file_name).unwrap_or_default();
        search.repository(dir, "", (None, &name.to_string_lossy()))?;
    } else {
        search.folder(dir)?;
    }
    let mut found = search.found;
    found
        .repositories
        .sort_by(|one, other| (&one.owner, &one.name).cmp(&(&other.owner, &other.name)));
    Ok(found)
}

fn is_repository(dir: &Path) -> bool {
    let github = dir.join(".github");
    [&github, &github.join("workflows")]
        .into_iter()
        .all(|path| disk::what(path) == Some(What::Directory))
}

/// Folders that may be repositories or hold some, by name.
fn folders(dir: &Path) -> anyhow::Result<Vec<Entry>> {
    let mut entries =
        disk::entries(dir).with_context(|| format!("can't read the directory {}", dir.display()))?;
    entries.retain(|entry| matches!(entry.what, What::Directory | What::Link) && entry.name != ".git");
    Ok(entries)
}

struct Search<'a> {
    owner: Option<&'a str>,
    found: Found,
    /// `owner/name` of what was found.
    seen: HashSet<String>,
}

impl Search<'_> {
    fn folder(&mut self, dir: &Path) -> anyhow::Result<()> {
        for entry in folders(dir)? {
            let name = entry.name.to_string_lossy().into_owned();
            if entry.what == What::Link {
                self.link(&name);
            } else if is_repository(&entry.path) {
                self.repository(&entry.path, &format!("{name}/"), (None, &name))?;
            } else {
                self.owners(&entry.path, &name)?;
            }
        }
        Ok(())
    }

    /// A folder of one owner's repositories.
    fn owners(&mut self, dir: &Path, owner: &str) -> anyhow::Result<()> {
        for entry in folders(dir)? {
            let name = entry.name.to_string_lossy().into_owned();
            if entry.what == What::Link {
                self.link(&format!("{owner}/{name}"));
            } else if is_repository(&entry.path) {
                self.repository(&entry.path, &format!("{owner}/{name}/"), (Some(owner), &name))?;
            }
        }
        Ok(())
    }

    fn link(&mut self, shown: &str) {
        let mut items = Items::new(shown);
        items.note(
            0,
            shown,
            "it is a link, and links are not followed",
            "import what it points at by itself",
        );
        self.found.items.extend(items.kept);
    }

    /// Takes a repository whose folders say these names.
    fn repository(&mut self, root: &Path, shown: &str, folders: (Option<&str>, &str)) -> anyhow::Result<()> {
        if self.found.repositories.len() == MAX_REPOSITORIES {
            bail!("there are more than {MAX_REPOSITORIES} repositories; import some of them at a time");
        }
        let mut items = Items::new(if shown.is_empty() { "." } else { shown });
        if let Some((owner, name)) = self.whose(root, folders, &mut items) {
            let workflows = workflows(root, shown, &mut items)?;
            self.found.repositories.push(Repository {
                owner,
                name,
                root: root.to_owned(),
                shown: printable(shown).into_owned(),
                workflows,
            });
        }
        self.found.items.extend(items.kept);
        Ok(())
    }

    /// Owner and name of a repository; `None` when they are not known, no names, or taken.
    fn whose(
        &mut self,
        root: &Path,
        (owner, name): (Option<&str>, &str),
        items: &mut Items,
    ) -> Option<(String, String)> {
        let by_folder = owner
            .or(self.owner)
            .map(|owner| (owner.to_lowercase(), name.to_lowercase()));
        let by_remote = origin(root);
        if let (Some(remote), Some(folder), Some(_)) = (&by_remote, &by_folder, owner)
            && remote != folder
        {
            let what = format!("{}/{}", remote.0, remote.1);
            items.note(
                0,
                &what,
                "its remote `origin` says so, not its folders",
                "look whether that is where its workflows run",
            );
        }
        let Some((owner, name)) = by_remote.or(by_folder) else {
            let why = "nothing says whose repository it is: no remote `origin`, no folder of an owner";
            items.lost(0, "the repository", why, "say it with --owner");
            return None;
        };
        if !is_part(&owner) || owner.starts_with(['.', '-']) || owner.ends_with('.') || !is_part(&name) {
            let what = format!("{owner}/{name}");
            items.lost(
                0,
                &what,
                "no owner or repository of a forge is called so",
                "rename the folders",
            );
            return None;
        }
        if !self.seen.insert(format!("{owner}/{name}")) {
            let what = format!("{owner}/{name}");
            items.lost(
                0,
                &what,
                "it was found before in another folder",
                "remove one of the two",
            );
            return None;
        }
        Some((owner, name))
    }
}

/// What the store takes as a part of a scope.
fn is_part(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=LONGEST_PART).contains(&text.len()) && text.chars().all(plain) && !text.chars().all(|c| c == '.')
}

fn workflows(root: &Path, shown: &str, items: &mut Items) -> anyhow::Result<Vec<WorkflowFile>> {
    let dir = root.join(".github/workflows");
    let entries =
        disk::entries(&dir).with_context(|| format!("can't read the directory {}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let is_yaml = entry
            .path
            .extension()
            .is_some_and(|ending| ending == "yml" || ending == "yaml");
        if !is_yaml || entry.what == What::Directory {
            continue;
        }
        let name = entry.name.to_str().filter(|name| is_file(name));
        let Some(name) = name else {
            let why = "the store takes no such file name as a scope";
            items.lost(
                0,
                &entry.name.to_string_lossy(),
                why,
                "rename the workflow's file",
            );
            continue;
        };
        if files.len() == MAX_WORKFLOWS {
            let why = format!("the repository has more than {MAX_WORKFLOWS} workflow files");
            items.lost(
                0,
                name,
                &why,
                "write the policies of this one and all after it by hand",
            );
            break;
        }
        files.push(WorkflowFile {
            shown: format!("{shown}.github/workflows/{name}"),
            name: name.to_owned(),
            path: entry.path,
        });
    }
    Ok(files)
}

fn is_file(name: &str) -> bool {
    name.len() <= LONGEST_FILE && !name.contains(|c: char| c.is_control() || c == '\\')
}

/// Owner and name, in lower case, that the remote `origin` of a checkout says.
fn origin(root: &Path) -> Option<(String, String)> {
    let git = root.join(".git");
    // A worktree's or submodule's `.git` is a file that points elsewhere, maybe out of the directory.
    if disk::what(&git) != Some(What::Directory) {
        return None;
    }
    let config = disk::text(&git.join("config")).ok()?;
    let mut lines = config.lines().map(str::trim);
    lines.find(|line| *line == "[remote \"origin\"]")?;
    let section = lines.take_while(|line| !line.starts_with('['));
    let url = section
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim() == "url");
    parts(url?.1.trim())
}

/// `https://host/owner/name.git`, `ssh://git@host/owner/name`, `git@host:owner/name.git`; a path on this machine says
/// nothing.
fn parts(url: &str) -> Option<(String, String)> {
    let path = match url.split_once("://") {
        Some(("file", _)) => return None,
        Some((_, rest)) => rest.split_once('/')?.1,
        None => {
            let (host, path) = url.split_once(':')?;
            if host.contains('/') {
                return None;
            }
            path
        }
    };
    let path = path.trim_matches('/');
    let (owner, name) = path.strip_suffix(".git").unwrap_or(path).split_once('/')?;
    (!name.contains('/') && !name.is_empty()).then(|| (owner.to_lowercase(), name.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_say_owner_and_name_and_paths_say_nothing() {
        for url in [
            "https://github.test/Acme/Web.git",
            "https://token@github.test/acme/web",
            "ssh://git@github.test:22/acme/web.git",
            "git@github.test:acme/web.git",
        ] {
            assert_eq!(parts(url), Some(("acme".into(), "web".into())), "{url}");
        }
        for url in [
            "../web.git",
            "/srv/acme/web.git",
            "file:///srv/acme/web",
            "https://gitlab.test/a/b/c.git",
            "x",
            "",
        ] {
            assert_eq!(parts(url), None, "{url}");
        }
    }
}
