//! Removing a tree of groups. Allocates nothing and takes no lock, so that the keeper can do it after a bare `clone`.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, openat, unlinkat};
use rustix::io::Errno;

/// Groups deeper than this are not removed. We make two levels; a program with `--sandbox off` could make more.
const DEEPEST: u32 = 16;
/// No more groups are visited at one level.
const MOST: u32 = 65_536;

/// Removes the group `name` in `parent`, with all groups below it; a group that is gone is no error.
///
/// # Errors
///
/// `EBUSY` as long as something lives in it.
pub(super) fn remove_tree(parent: impl AsFd, name: &CStr) -> Result<(), Errno> {
    remove_below(parent, name, DEEPEST)
}

fn remove_below(parent: impl AsFd, name: &CStr, deeper: u32) -> Result<(), Errno> {
    // A group without groups in it is the usual case.
    match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::BUSY | Errno::NOTEMPTY) if deeper > 0 => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match openat(&parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let mut space = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(&folder, &mut space);
    for _ in 0..MOST {
        let Some(entry) = entries.next() else { break };
        let entry = entry?;
        if entry.file_type() == FileType::Directory && entry.file_name() != c"." && entry.file_name() != c".." {
            remove_below(&folder, entry.file_name(), deeper - 1)?;
        }
    }
    match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}
