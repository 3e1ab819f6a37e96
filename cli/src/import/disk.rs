//! Reading somebody else's directories: in order, bounded, following no link.
//!
//! A tree of checkouts holds whatever its authors liked: links out of it, pipes that never end, files of gigabytes.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Largest file that is read, in bytes; GitHub takes workflows of half of that.
pub(super) const MAX_FILE: u64 = 1 << 20;
/// Entries of one directory at most.
const MAX_ENTRIES: usize = 50_000;

/// What to do about a file that can't be read.
pub(super) const MEND: &str = "mend the file and import again, or write its policy by hand";

/// Why a file was not read.
#[derive(Debug, Error)]
pub(super) enum Unreadable {
    /// A link.
    #[error("it is a link, and links are not followed")]
    Link,
    /// A pipe, a socket, a device, a directory.
    #[error("it is no regular file")]
    Odd,
    /// Too long.
    #[error("it is larger than {MAX_FILE} bytes")]
    Large,
    /// Not text.
    #[error("it is not in UTF-8")]
    NotText,
    /// The system said no.
    #[error("it can't be read: {0}")]
    Io(#[from] io::Error),
}

/// What an entry of a directory is; links are links, whatever they point at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Directory,
    File,
    Link,
    Other,
}

/// An entry of a directory.
pub(super) struct Entry {
    pub(super) name: OsString,
    pub(super) path: PathBuf,
    pub(super) what: What,
}

/// What stands at a path; `None` for nothing.
pub(super) fn what(path: &Path) -> Option<What> {
    let kind = fs::symlink_metadata(path).ok()?.file_type();
    Some(match kind {
        _ if kind.is_symlink() => What::Link,
        _ if kind.is_dir() => What::Directory,
        _ if kind.is_file() => What::File,
        _ => What::Other,
    })
}

/// The entries of a directory, by name.
pub(super) fn entries(dir: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if let Some(what) = what(&path) {
            entries.push(Entry {
                name: entry.file_name(),
                path,
                what,
            });
        }
        if entries.len() > MAX_ENTRIES {
            return Err(io::Error::other(format!(
                "it has more than {MAX_ENTRIES} entries"
            )));
        }
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// A file's text.
pub(super) fn text(path: &Path) -> Result<String, Unreadable> {
    match what(path) {
        Some(What::File) => {}
        Some(What::Link) => return Err(Unreadable::Link),
        Some(What::Directory | What::Other) => return Err(Unreadable::Odd),
        None => return Err(io::Error::from(io::ErrorKind::NotFound).into()),
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Unreadable::Large);
    }
    String::from_utf8(bytes).map_err(|_| Unreadable::NotText)
}
