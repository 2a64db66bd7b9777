//! How the kernel names a cgroup, and where it lies in the tree.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::Path;

use crate::error::EbpfError;

/// The inode of the first cgroup of the tree (`kernfs_root`, fs/kernfs/dir.c: ids begin at 1).
const ROOT_INODE: u64 = 1;
/// The kernel's own default bound is far below (`cgroup.max.depth`); a path is no reason to loop.
const DEEPEST: u32 = 256;

/// The id by which BPF programs know the group at `folder`: its inode.
///
/// # Errors
///
/// [`EbpfError::NotACgroup`]: it is no folder of a cgroup v2 mount.
pub fn id(folder: &Path) -> Result<u64, EbpfError> {
    let refuse = |why: String| EbpfError::NotACgroup { path: folder.to_owned(), why };
    if !folder.join("cgroup.procs").exists() || folder.join("tasks").exists() {
        return Err(refuse("not the folder of a cgroup of version 2".to_owned()));
    }
    fs::metadata(folder).map(|data| data.st_ino()).map_err(|error| refuse(error.to_string()))
}

/// How many groups lie above the one at `folder`.
///
/// # Errors
///
/// [`EbpfError::NotACgroup`]: it is none, or the mount shows only a part of the tree, as in containers. What lies above
/// cannot be counted then.
pub fn level(folder: &Path) -> Result<u32, EbpfError> {
    let refuse = |why: &str| EbpfError::NotACgroup { path: folder.to_owned(), why: why.to_owned() };
    id(folder)?;
    let mut here = folder.canonicalize().map_err(|error| refuse(&error.to_string()))?;
    for level in 0..DEEPEST {
        let inode = fs::metadata(&here).map_err(|error| refuse(&error.to_string()))?.st_ino();
        if inode == ROOT_INODE {
            return Ok(level);
        }
        if !here.pop() || id(&here).is_err() {
            return Err(refuse(
                "the mount shows only a part of the tree of cgroups. Run in the host's cgroup namespace (--cgroupns=host)",
            ));
        }
    }
    Err(refuse("too deep in the tree of cgroups"))
}
