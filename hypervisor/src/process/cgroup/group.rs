//! One agent's group.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use super::limits::{self, Controller, Limits, Twin, Unavailable};
use super::{CgroupError, failed};
use crate::process::freezer::{Freezer, FreezerError};

/// How long a dropped group may take to die.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

/// A group of processes that are frozen, killed, limited and metered as one. Dropping kills what is in it and removes it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    folder: OwnedFd,
    id: u64,
    level: u32,
    freezer: Freezer,
    twins: Vec<Twin>,
    unavailable: Vec<Unavailable>,
    /// Limits that were asked for.
    limited: Vec<Controller>,
    removed: bool,
}

/// Where a group's limits can be.
pub(super) struct Place<'a> {
    /// Groups of version 2 from the hierarchy's parent to the subtree.
    pub(super) chain: &'a [&'a Path],
    /// The subtree's directories in version 1.
    pub(super) version_1: &'a [(Controller, PathBuf)],
}

impl Cgroup {
    /// Makes the group `name` in the last group of the chain.
    pub(super) fn new(
        path: PathBuf,
        name: &str,
        level: u32,
        limits: &Limits,
        place: &Place<'_>,
    ) -> Result<Self, CgroupError> {
        mkdirat(CWD, &path, Mode::from_raw_mode(0o755)).map_err(failed("make", &path))?;
        let removes = Removes(Some(&path));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, &path, flags, Mode::empty()).map_err(failed("open", &path))?;
        let id = fstat(&folder).map_err(failed("look at", &path))?.st_ino;
        let freezer = Freezer::open(&path).map_err(|error| broken(&path, error))?;
        let (mut twins, mut unavailable) = (Vec::new(), Vec::new());
        for controller in limits.controllers() {
            match limit(controller, name, limits, &path, place) {
                Ok(twin) => twins.extend(twin),
                Err(why) => unavailable.push(Unavailable { controller, why }),
            }
        }
        removes.keep();
        let limited = limits.controllers().collect();
        Ok(Self { path, folder, id, level, freezer, twins, unavailable, limited, removed: false })
    }

    /// Its directory in version 2.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the kernel calls it, for BPF programs: the inode of its directory.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Its depth below the root of the hierarchy.
    #[must_use]
    pub const fn level(&self) -> u32 {
        self.level
    }

    /// Its directory, open: for `clone3` and `perf_event_open`.
    #[must_use]
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Freeze, thaw, kill.
    #[must_use]
    pub const fn freezer(&self) -> &Freezer {
        &self.freezer
    }

    /// Where a limit of it is set: its own directory, or its twin's in version 1; none where the limit was not asked for, or does
    /// not hold.
    #[must_use]
    pub fn limited_in(&self, controller: Controller) -> Option<&Path> {
        if self.unavailable.iter().any(|missing| missing.controller == controller) {
            return None;
        }
        let twin = self.twins.iter().find(|twin| twin.controller == controller);
        match twin {
            Some(twin) => Some(&twin.path),
            None => self.limited.contains(&controller).then_some(&self.path),
        }
    }

    /// Limits that were asked for and do not hold.
    #[must_use]
    pub fn unavailable(&self) -> &[Unavailable] {
        &self.unavailable
    }

    /// Files in which the first process of the group writes itself before it executes anything.
    pub(crate) fn joins(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.twins.iter().map(|twin| twin.procs.as_fd())
    }

    /// Kills what is in it and removes it.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Undead`]: something survived the deadline. The group stays; a later sweep removes it.
    pub fn remove(mut self, deadline: Duration) -> Result<(), CgroupError> {
        self.end(deadline)
    }

    fn end(&mut self, deadline: Duration) -> Result<(), CgroupError> {
        if std::mem::replace(&mut self.removed, true) {
            return Ok(());
        }
        match self.freezer.kill().and_then(|()| self.freezer.wait_empty(deadline)) {
            Ok(()) => {}
            // The whole subtree was removed before.
            Err(FreezerError::Gone) => return Ok(()),
            Err(FreezerError::NotEmpty(_)) => {
                let processes = self.freezer.pids(4096).map_or(0, |pids| pids.len());
                return Err(CgroupError::Undead { path: self.path.clone(), processes, seconds: deadline.as_secs() });
            }
            Err(error) => return Err(broken(&self.path, error)),
        }
        for twin in &self.twins {
            super::sweep::remove(&twin.path, deadline)?;
        }
        super::sweep::remove(&self.path, deadline)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What survives is left to the subtree, and after it to a sweep.
        let _ = self.end(DROP_PATIENCE);
    }
}

/// Sets a limit, in version 2 or else by a twin in version 1.
fn limit(
    controller: Controller,
    name: &str,
    limits: &Limits,
    path: &Path,
    place: &Place<'_>,
) -> Result<Option<Twin>, String> {
    let in_version_1 = place.version_1.iter().find(|(found, _)| *found == controller);
    if let Some((_, folder)) = in_version_1 {
        let twin = folder.join(name);
        return Twin::new(twin.clone(), controller, limits)
            .map(Some)
            .map_err(|error| format!("{}: {error}", twin.display()));
    }
    limits::enable(controller, place.chain)?;
    limits.write(controller, path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(None)
}

/// Removes an empty group unless told to keep it.
struct Removes<'a>(Option<&'a Path>);

impl Removes<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Removes<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = unlinkat(CWD, path, AtFlags::REMOVEDIR);
        }
    }
}

pub(super) fn broken(path: &Path, error: FreezerError) -> CgroupError {
    let source = match error {
        FreezerError::Io { errno, .. } => errno.into(),
        FreezerError::Gone => Errno::NODEV.into(),
        other => std::io::Error::other(other),
    };
    CgroupError::Io { doing: "use the switches of", path: path.to_owned(), source }
}
