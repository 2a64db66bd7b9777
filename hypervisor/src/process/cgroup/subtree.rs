//! One Maxwell's groups.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Errno;

use super::group::Place;
use super::lock::Lock;
use super::remains::Groups;
use crate::process::keeper::Keeper;

use super::{Cgroup, CgroupError, Controller, HOME, Hierarchy, Limits, failed, sweep};

/// How long a dropped subtree may take to die.
const DROP_PATIENCE: Duration = Duration::from_secs(5);
/// Names are tried until one is free and no sweep got in between.
const MOST_TRIES: u32 = 64;

/// The groups of one Maxwell, and their keeper. Dropping kills everything in them and removes them.
#[derive(Debug)]
pub struct Subtree {
    parent: PathBuf,
    home: PathBuf,
    path: PathBuf,
    level: u32,
    /// Its directories in version 1; each is made with the first group in it.
    version_1: Vec<(Controller, PathBuf)>,
    keeper: Option<Keeper>,
    _lock: Lock,
}

impl Subtree {
    /// Makes a subtree with nothing in it, and starts its keeper: a process that ends everything if we are killed. Start
    /// early, while this process is small.
    ///
    /// # Errors
    ///
    /// [`CgroupError`]
    pub fn new(hierarchy: &Hierarchy) -> Result<Self, CgroupError> {
        let home = hierarchy.parent().join(HOME);
        let (path, lock) = make(&home)?;
        let name = path.file_name().unwrap_or_default();
        let version_1: Vec<_> =
            hierarchy.version_1().iter().map(|(controller, own)| (*controller, own.join(HOME).join(name))).collect();
        let mut subtree = Self {
            parent: hierarchy.parent().to_owned(),
            home,
            path,
            // The root is 0, a group in it 1: `maxwell/` and the instance come below the parent.
            level: hierarchy.level() + 2,
            version_1,
            keeper: None,
            _lock: lock,
        };
        let keeper = Groups::of(&subtree.path, &subtree.version_1).and_then(|groups| Keeper::start(&groups));
        subtree.keeper = Some(keeper.map_err(|errno| CgroupError::Keeper(errno.into()))?);
        Ok(subtree)
    }

    /// Its directory in version 2.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its depth below the root of the hierarchy. Agents' groups lie one below, which is what a BPF program passes to
    /// `bpf_get_current_ancestor_cgroup_id`.
    #[must_use]
    pub const fn level(&self) -> u32 {
        self.level
    }

    /// The process that cleans up after us.
    #[must_use]
    pub fn keeper(&self) -> Option<&Keeper> {
        self.keeper.as_ref()
    }

    /// Makes a group in it. Limits that cannot be set are in [`Cgroup::unavailable`].
    ///
    /// # Errors
    ///
    /// [`CgroupError`]; the name is taken, or none.
    pub fn group(&self, name: &str, limits: &Limits) -> Result<Cgroup, CgroupError> {
        let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        // Names that begin with `cgroup.` or a controller and a dot are the kernel's own files.
        if name.is_empty() || name.len() > 64 || !letters || name.starts_with('.') || name.starts_with("cgroup.") {
            return Err(CgroupError::Name(name.to_owned()));
        }
        let chain = [self.parent.as_path(), self.home.as_path(), self.path.as_path()];
        let place = Place { chain: &chain, version_1: &self.version_1 };
        Cgroup::new(self.path.join(name), name, self.level + 1, limits, &place)
    }

    /// Kills everything and removes all groups.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Undead`]
    pub fn end(mut self, deadline: Duration) -> Result<(), CgroupError> {
        self.clear(deadline)
    }

    fn clear(&mut self, deadline: Duration) -> Result<(), CgroupError> {
        let Some(keeper) = self.keeper.take() else {
            return sweep::empty(&self.path, deadline).map(drop);
        };
        let done = sweep::empty(&self.path, deadline);
        for (_, twin) in &self.version_1 {
            let _ = sweep::remove(twin, deadline);
            let _ = twin.parent().map(fs::remove_dir);
        }
        // Not empty while another Maxwell lives.
        let _ = fs::remove_dir(&self.home);
        // Last: if we are killed in between, it finishes.
        keeper.dismiss();
        done.map(drop)
    }
}

impl Drop for Subtree {
    fn drop(&mut self) {
        if self.keeper.is_some() || self.path.exists() {
            let _ = self.clear(DROP_PATIENCE);
        }
    }
}

/// Makes a directory with a name of its own, and locks it.
fn make(home: &Path) -> Result<(PathBuf, Lock), CgroupError> {
    let mut errno = Errno::AGAIN;
    for attempt in 0..MOST_TRIES {
        match mkdirat(CWD, home, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("make", home)(error)),
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        let path = home.join(format!("{}-{:x}", std::process::id(), now.wrapping_add(attempt)));
        match mkdirat(CWD, &path, Mode::from_raw_mode(0o755)) {
            Ok(()) => {}
            // Somebody has this name, or the last other Maxwell removed `maxwell/` just now.
            Err(error @ (Errno::EXIST | Errno::NOENT | Errno::NODEV)) => {
                errno = error;
                continue;
            }
            Err(error) => return Err(failed("make", path)(error)),
        }
        match Lock::take(&path).map_err(failed("lock", &path))? {
            // A sweep that took it for a dead one may have removed it before we locked it.
            Some(lock) if path.exists() => return Ok((path, lock)),
            _ => {}
        }
    }
    Err(failed("make a group in", home)(errno))
}
