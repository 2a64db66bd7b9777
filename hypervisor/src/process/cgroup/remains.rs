//! A subtree whose Maxwell was killed, as its keeper ends it: `cgroup.kill`, wait until it is empty, remove the groups.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use super::remove::remove_tree;
use super::{Controller, HOME};
use crate::process::keeper::Remains;

/// The keeper gives up after this many rounds of 10 ms, a minute: what is not dead by then hangs in the kernel.
const MOST_ROUNDS: u32 = 6_000;

/// What it takes to end a subtree.
pub(super) struct Groups {
    kill: OwnedFd,
    events: OwnedFd,
    name: CString,
    /// `maxwell/` in version 2 and in each hierarchy of version 1, with the group that it lies in.
    homes: Vec<(OwnedFd, OwnedFd)>,
}

impl Groups {
    pub(super) fn of(subtree: &Path, version_1: &[(Controller, PathBuf)]) -> Result<Self, Errno> {
        let open = |path: &Path, flags| openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
        let home = |subtree: &Path| {
            let home = subtree.parent().ok_or(Errno::INVAL)?;
            let parent = home.parent().ok_or(Errno::INVAL)?;
            let _ = mkdirat(CWD, home, Mode::from_raw_mode(0o755));
            let folder = OFlags::PATH | OFlags::DIRECTORY;
            Ok::<_, Errno>((open(home, folder)?, open(parent, folder)?))
        };
        let mut homes = vec![home(subtree)?];
        // A controller that we may not use needs nobody to clean up.
        homes.extend(version_1.iter().filter_map(|(_, twin)| home(twin).ok()));
        let name = subtree.file_name().unwrap_or_default().as_bytes();
        Ok(Self {
            kill: open(&subtree.join("cgroup.kill"), OFlags::WRONLY)?,
            events: open(&subtree.join("cgroup.events"), OFlags::RDONLY)?,
            name: CString::new(name).map_err(|_| Errno::INVAL)?,
            homes,
        })
    }
}

impl Remains for Groups {
    fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let homes = self.homes.iter().flat_map(|(home, parent)| [home, parent]);
        [&self.kill, &self.events].into_iter().chain(homes).map(AsRawFd::as_raw_fd)
    }

    fn clean_up(&self) {
        for _ in 0..MOST_ROUNDS {
            // Again each round: a child that was being made while Maxwell died may have come late.
            let gone = rustix::io::pwrite(&self.kill, b"1", 0) == Err(Errno::NODEV);
            let mut left = !gone;
            for (home, parent) in &self.homes {
                left |= remove_tree(home, &self.name).is_err();
                let home: &CStr = HOME_NAME;
                let _ = unlinkat(parent, home, AtFlags::REMOVEDIR);
            }
            if !left {
                return;
            }
            let round = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            let mut events = [PollFd::new(&self.events, PollFlags::PRI)];
            // Read before waiting, or the kernel has nothing new to tell.
            let _ = rustix::io::pread(&self.events, &mut [0u8; 128], 0);
            let _ = poll(&mut events, Some(&round));
        }
    }
}

/// [`HOME`] as the kernel takes it.
const HOME_NAME: &CStr = c"maxwell";
const _: () = assert!(HOME.len() == HOME_NAME.count_bytes());
