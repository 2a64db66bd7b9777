//! What Maxwells that were killed left behind.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::lock::Lock;
use super::remove::remove_tree;
use super::{CgroupError, HOME, Hierarchy, failed, group};
use crate::process::freezer::{Freezer, FreezerError};

/// No more subtrees are looked at.
const MOST_SUBTREES: usize = 4_096;
/// No more processes are counted in one.
const MOST_PROCESSES: usize = 65_536;

/// A subtree without an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Where.
    pub path: PathBuf,
    /// Processes in it.
    pub processes: usize,
}

/// Subtrees whose owners are dead. Changes nothing.
///
/// # Errors
///
/// The hierarchy cannot be read.
pub fn leftovers(hierarchy: &Hierarchy) -> Result<Vec<Leftover>, CgroupError> {
    let mut found = Vec::new();
    for path in subtrees(&hierarchy.parent().join(HOME))? {
        match Lock::held(&path) {
            Ok(false) => found.push(Leftover { processes: processes(&path), path }),
            // Gone since it was listed; or somebody else's.
            Ok(true) | Err(Errno::NOENT | Errno::NODEV | Errno::ACCESS) => {}
            Err(errno) => return Err(failed("look at the lock of", path)(errno)),
        }
    }
    Ok(found)
}

/// Kills and removes subtrees whose owners are dead; returns what was removed.
///
/// # Errors
///
/// The first that could not be removed, when all others were.
pub fn sweep(hierarchy: &Hierarchy, deadline: Duration) -> Result<Vec<Leftover>, CgroupError> {
    let home = hierarchy.parent().join(HOME);
    let mut swept = Vec::new();
    let mut first_error = None;
    for path in subtrees(&home)? {
        // Holding the lock keeps a second sweep away.
        let removed = match Lock::take(&path) {
            Ok(None) | Err(Errno::ACCESS) => continue,
            Ok(Some(_lock)) => empty(&path, deadline),
            Err(errno) => Err(failed("lock", &path)(errno)),
        };
        match removed {
            Ok(processes) => swept.push(Leftover { path, processes }),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let _ = fs::remove_dir(&home);
    // A subtree is made in version 2 first and removed there last, so twins without one have no owner.
    for (_, own) in hierarchy.version_1() {
        let twins = own.join(HOME);
        for twin in subtrees(&twins)? {
            if twin.file_name().is_some_and(|name| !home.join(name).exists()) {
                let _ = remove(&twin, deadline);
            }
        }
        let _ = fs::remove_dir(&twins);
    }
    first_error.map_or(Ok(swept), Err)
}

/// Kills everything in a subtree and removes it; returns how many processes there were.
pub(super) fn empty(path: &Path, deadline: Duration) -> Result<usize, CgroupError> {
    let since = Instant::now();
    let counted = processes(path);
    let killed = Freezer::open(path).and_then(|freezer| {
        freezer.kill()?;
        freezer.wait_empty(deadline)
    });
    match killed {
        Ok(()) => {
            remove(path, deadline.saturating_sub(since.elapsed()).max(Duration::from_millis(10))).map(|()| counted)
        }
        Err(FreezerError::Gone | FreezerError::Io { errno: Errno::NOENT, .. }) => Ok(counted),
        Err(FreezerError::NotEmpty(_)) => {
            Err(CgroupError::Undead { path: path.to_owned(), processes: processes(path), seconds: deadline.as_secs() })
        }
        Err(error) => Err(group::broken(path, error)),
    }
}

/// Removes a tree of groups. The kernel refuses for a moment after the last process died.
pub(super) fn remove(path: &Path, deadline: Duration) -> Result<(), CgroupError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let Ok(name) = CString::new(name.as_bytes()) else { return Ok(()) };
    let parent = match openat(CWD, parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened.map_err(failed("open", parent))?,
    };
    let since = Instant::now();
    loop {
        match remove_tree(&parent, &name) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) if since.elapsed() < deadline => std::thread::sleep(Duration::from_millis(1)),
            Err(errno) => return Err(failed("remove", path)(errno)),
        }
    }
}

/// Directories in `maxwell/`.
fn subtrees(home: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let entries = match fs::read_dir(home) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(|source| CgroupError::Io { doing: "list", path: home.to_owned(), source })?,
    };
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(folders.take(MOST_SUBTREES).map(|entry| entry.path()).collect())
}

/// Processes in a subtree's groups, as far as they can be counted.
fn processes(path: &Path) -> usize {
    let groups = subtrees(path).unwrap_or_default();
    let in_group =
        |group: &Path| Freezer::open(group).and_then(|f| f.pids(MOST_PROCESSES)).map_or(0, |pids| pids.len());
    in_group(path) + groups.iter().map(|group| in_group(group)).sum::<usize>()
}
