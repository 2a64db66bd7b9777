//! Who owns a subtree: the process that holds this lock, for as long as it lives.
//!
//! The kernel frees the lock when its holder dies, however it dies, so there are no pid files and no guesses about reused
//! pids. It is a lock of the *process* (`fcntl(2)`, `F_SETLK`), not of the open file (`flock(2)`): a child that is
//! being made has copies of our descriptors, and if it is frozen then, it would hold a `flock` for us after our death.
//! The price of `F_SETLK` is that closing any descriptor of the same file frees it; so the file is one that nothing else
//! opens, and a list of our own subtrees keeps a sweep in the same process away from them.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, fcntl_lock, openat};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};

/// A file that every group has, that needs no controller, and that we never read or write.
const FILE: &str = "cgroup.max.descendants";

/// Subtrees of this process.
static OURS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn ours() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lock of a subtree, held until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    /// Closed before the path is no longer ours.
    file: Option<OwnedFd>,
}

impl Lock {
    /// Takes the lock of the subtree at `path`; none if somebody else holds it, or it is gone.
    pub(super) fn take(path: &Path) -> Result<Option<Self>, Errno> {
        if !ours().insert(path.to_owned()) {
            return Ok(None);
        }
        let mut lock = Self { path: path.to_owned(), file: None };
        let file = match openat(CWD, path.join(FILE), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT | Errno::NODEV) => return Ok(None),
            opened => opened?,
        };
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::ACCESS | Errno::AGAIN) => return Ok(None),
            locked => locked?,
        }
        lock.file = Some(file);
        Ok(Some(lock))
    }

    /// Whether somebody holds the lock of the subtree at `path`.
    pub(super) fn held(path: &Path) -> Result<bool, Errno> {
        let ours = ours();
        if ours.contains(path) {
            return Ok(true);
        }
        let file = openat(CWD, path.join(FILE), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)).map(|holder| holder.is_some())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.file = None;
        ours().remove(&self.path);
    }
}
