//! Files that Maxwell makes for people: whole or not at all, and never in place of another unless that was asked for.
//!
//! The text is written beside its final place and then renamed, so a reader sees the old file or the new one. Where
//! nothing may be replaced, the rename itself refuses: a look beforehand would leave a gap.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// What to do where a file is already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Keep it, and fail with [`ErrorKind::AlreadyExists`].
    Keep,
    /// Replace it.
    Replace,
}

/// Writes `text` to a file.
///
/// # Errors
///
/// [`ErrorKind::AlreadyExists`] where something must be kept; otherwise what the file system said. Nothing is left behind.
pub fn write(path: &Path, text: &str, existing: Existing) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(ErrorKind::InvalidInput, "this is not the name of a file"));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(hidden);
    let written = fill(&beside, text).and_then(|()| move_to(&beside, path, existing));
    if written.is_err() {
        // What went wrong is what counts; a leftover that cannot be removed cannot be told better.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn fill(path: &PathBuf, text: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn move_to(from: &Path, to: &Path, existing: Existing) -> io::Result<()> {
    if existing == Existing::Replace {
        return std::fs::rename(from, to);
    }
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems cannot refuse; there a look beforehand is the best there is.
        Err(Errno::INVAL | Errno::NOSYS) if to.symlink_metadata().is_err() => std::fs::rename(from, to),
        Err(Errno::INVAL | Errno::NOSYS) => Err(ErrorKind::AlreadyExists.into()),
        other => other.map_err(io::Error::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_only_when_asked_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        write(&path, "one", Existing::Keep).unwrap();
        assert_eq!(write(&path, "two", Existing::Keep).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        write(&path, "three", Existing::Replace).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three");
        assert!(write(&dir.path().join("no/such/dir.toml"), "x", Existing::Replace).is_err());
        assert!(write(Path::new("/"), "x", Existing::Replace).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no leftovers");
    }
}
