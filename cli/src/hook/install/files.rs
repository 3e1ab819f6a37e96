//! Files that are written whole or not at all, and only when something changes.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::Path;

/// Writes a file with this mode unless it is there already, just so; says whether it wrote. A file that is replaced keeps
/// its owner.
pub(super) fn write(file: &Path, text: &str, mode: u32) -> io::Result<bool> {
    let before = match fs::metadata(file) {
        Ok(meta) => Some(meta),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(meta) = &before {
        let same = meta.len() == text.len() as u64 && fs::read(file)? == text.as_bytes();
        if same && meta.mode() & 0o7777 == mode {
            return Ok(false);
        }
    }
    let parent = file.parent().unwrap_or(Path::new("/"));
    let name = file
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    let fresh = parent.join(format!(".{name}.{}", std::process::id()));
    let written = fill(&fresh, text, mode, before.as_ref()).and_then(|()| fs::rename(&fresh, file));
    if written.is_err() {
        drop(fs::remove_file(&fresh));
    }
    written.map(|()| true)
}

fn fill(fresh: &Path, text: &str, mode: u32, before: Option<&fs::Metadata>) -> io::Result<()> {
    // What a process of the same number left when it was killed.
    if let Err(error) = fs::remove_file(fresh)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut open = fs::OpenOptions::new();
    let mut open = open.write(true).create_new(true).mode(0o600).open(fresh)?;
    open.write_all(text.as_bytes())?;
    if let Some(before) = before {
        let now = open.metadata()?;
        if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
            chown(fresh, Some(before.uid()), Some(before.gid()))?;
        }
    }
    // After the owner: a change of it takes bits away. And whatever the umask was.
    open.set_permissions(Permissions::from_mode(mode))?;
    open.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_file_is_written_once_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("script.sh");
        assert!(write(&file, "one\n", 0o755).unwrap());
        assert!(!write(&file, "one\n", 0o755).unwrap());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o755);
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert!(write(&file, "one\n", 0o755).unwrap());
        assert!(write(&file, "two\n", 0o755).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "two\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        write(&dir.path().join("gone/script.sh"), "x", 0o755).unwrap_err();
    }
}
