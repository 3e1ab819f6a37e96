//! The spool's files: made closed to others, replaced whole, mended, set aside when they mean nothing.
//!
//! Owns how bytes get to the disk; never what they mean. It waits for the disk: not for async threads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Folder of damaged files, in the spool's.
pub(super) const DAMAGED: &str = "damaged";
/// Extension of a file that is being written.
const HALF: &str = "new";
/// Damaged files that are kept, for somebody to look at.
const KEPT: usize = 8;

/// Makes the folder, for the gateway's own user only: what is in it names jobs and hosts.
pub(super) fn folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Opens a file of lines for appending and reading.
pub(super) fn append_to(path: &Path) -> io::Result<File> {
    options().create(true).append(true).open(path)
}

fn options() -> OpenOptions {
    let mut options = File::options();
    options.read(true).mode(0o600);
    options
}

/// All bytes of a file that has at most `most`.
pub(super) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length > most {
        let what = format!("{} has more than {most} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Replaces a file, or makes it; a crash leaves either the old bytes or the new. Which of them, only [`sync_folder`] says.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension(HALF);
    let written = (|| {
        let mut file = options().create(true).truncate(true).write(true).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&fresh, path)
    })();
    if written.is_err() {
        // Half of a file on a full disk would be in the way of the next try.
        let _ = fs::remove_file(&fresh);
    }
    written
}

/// Puts what is sound of a damaged file in its place, and keeps the damaged one for a look. A crash leaves either of them
/// where it was, so that it is mended again or is mended already.
pub(super) fn mend(path: &Path, sound: &[u8]) -> io::Result<()> {
    if let Err(error) = keep_a_look(path) {
        tracing::warn!(file = %path.display(), %error, "a damaged file can't be kept for a look");
    }
    replace(path, sound)
}

/// Removes what a crash left of [`replace`]: it is no part of anything, and no bound counts it.
pub(super) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == HALF) {
            // One that can't be removed costs its bytes; the next start tries again.
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}

/// Removes a file; one that is gone already is as good.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Moves a damaged file out of the way.
pub(super) fn set_aside(path: &Path) -> io::Result<()> {
    let (folder, aside) = aside(path)?;
    fs::rename(path, aside)?;
    forget_oldest(&folder)
}

/// Gives a damaged file a second name, out of the way.
fn keep_a_look(path: &Path) -> io::Result<()> {
    let (folder, aside) = aside(path)?;
    // One of the same name: an earlier one, or this one before a crash.
    remove(&aside)?;
    fs::hard_link(path, aside)?;
    forget_oldest(&folder)
}

/// The folder of damaged files, which is there from now on, and what a file is called in it.
fn aside(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = parent.join(DAMAGED);
    self::folder(&folder)?;
    let aside = folder.join(name);
    Ok((folder, aside))
}

fn forget_oldest(folder: &Path) -> io::Result<()> {
    let mut kept: Vec<(std::time::SystemTime, PathBuf)> = fs::read_dir(folder)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    kept.sort();
    for (_, path) in kept.iter().rev().skip(KEPT) {
        remove(path)?;
    }
    Ok(())
}

/// What the folder's files are called is on the disk when this returns.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_is_damaged_is_kept_for_a_look_but_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..=KEPT {
            let path = dir.path().join(format!("file-{n}"));
            replace(&path, b"x").unwrap();
            if n % 2 == 0 {
                set_aside(&path).unwrap();
                assert!(!path.exists());
            } else {
                mend(&path, b"y").unwrap();
                assert_eq!(read(&path, 1).unwrap(), b"y");
            }
        }
        assert_eq!(fs::read_dir(dir.path().join(DAMAGED)).unwrap().count(), KEPT);
    }

    #[test]
    fn files_are_for_the_gateways_user_only_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("state/spool");
        folder(&spool).unwrap();
        let path = spool.join("state.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"two");
        assert_eq!(read(&path, 2).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&spool), mode(&path)), (0o700, 0o600));
        assert!(replace(&spool.join("no/such"), b"x").is_err());
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}
