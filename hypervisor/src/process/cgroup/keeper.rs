//! The keeper: a small process that ends a subtree when its Maxwell is killed.
//!
//! ```text
//!   Maxwell ──clone──► keeper: waits for the pipe, and for the end of Maxwell's process
//!      │ one byte: all is well ──────► exits
//!      ╳ killed: the pipe ends, or the process does ──► cgroup.kill, waits until empty, removes the groups, exits
//! ```
//!
//! `kill -9` and the out-of-memory killer leave no time to clean up, and frozen agents would stay for ever. A library
//! cannot count on a second program, so the keeper is a bare `clone` of this one: it executes nothing, allocates nothing,
//! takes no lock, and keeps only the descriptors it needs. It has a session of its own and blocks all signals, so that
//! Ctrl-C does not end it. Any process that Maxwell is making just then has a copy of the pipe, so the pipe alone may not
//! tell; the pidfd of Maxwell does.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use super::remove::remove_tree;
use super::{CgroupError, Controller, HOME};
use crate::process::child::Child;
use crate::process::raw;

/// The keeper gives up after this many rounds of 10 ms, a minute: what is not dead by then hangs in the kernel.
const MOST_ROUNDS: u32 = 6_000;

/// A running keeper. Dropping dismisses it.
#[derive(Debug)]
pub struct Keeper {
    pipe: UnixStream,
    child: Child,
    dismissed: bool,
}

/// What the keeper holds.
struct Tools {
    pipe: OwnedFd,
    /// None on kernels without them.
    owner: Option<OwnedFd>,
    kill: OwnedFd,
    events: OwnedFd,
    name: CString,
    /// `maxwell/` in version 2 and in each hierarchy of version 1, with the group that it lies in.
    homes: Vec<(OwnedFd, OwnedFd)>,
}

impl Keeper {
    pub(super) fn start(subtree: &Path, version_1: &[(Controller, PathBuf)]) -> Result<Self, CgroupError> {
        Self::clone(subtree, version_1).map_err(|errno| CgroupError::Keeper(errno.into()))
    }

    fn clone(subtree: &Path, version_1: &[(Controller, PathBuf)]) -> Result<Self, Errno> {
        // A pair of sockets, because a write to it can do without SIGPIPE.
        let (pipe, reader) =
            UnixStream::pair().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::MFILE))?;
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
        let tools = Tools {
            pipe: reader.into(),
            owner: pidfd_open(getpid(), PidfdFlags::empty()).ok(),
            kill: open(&subtree.join("cgroup.kill"), OFlags::WRONLY)?,
            events: open(&subtree.join("cgroup.events"), OFlags::RDONLY)?,
            name: CString::new(name).map_err(|_| Errno::INVAL)?,
            homes,
        };
        // SAFETY: `keep` runs in the child. It touches only what was made above, allocates nothing, takes no lock, and never
        // returns.
        let child = unsafe { raw::clone(|| keep(&tools)) }?;
        Ok(Self { pipe, child: Child::of(child, None), dismissed: false })
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.child.pid()
    }

    /// Tells it that all is well, and waits for its end.
    pub fn dismiss(mut self) {
        self.say_all_is_well();
    }

    fn say_all_is_well(&mut self) {
        if !std::mem::replace(&mut self.dismissed, true) {
            // Fails only if it is dead already.
            let _ = raw::send(&self.pipe, b"!");
            let _ = self.child.wait();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.say_all_is_well();
    }
}

/// The keeper's life.
fn keep(tools: &Tools) -> ! {
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"maxwell-keeper");
    let _ = rustix::process::chdir(c"/");
    close_all_but(tools);
    if wait_for_the_end(tools) {
        clean_up(tools);
    }
    raw::exit(0)
}

/// Closes every descriptor that is not a tool; standard streams too, so that whoever reads Maxwell's output sees its end.
fn close_all_but(tools: &Tools) {
    let mut kept = [u32::MAX; 16];
    let homes = tools.homes.iter().flat_map(|(home, parent)| [home, parent]);
    let single = [&tools.pipe, &tools.kill, &tools.events].into_iter().chain(&tools.owner);
    for (place, fd) in kept.iter_mut().zip(single.chain(homes)) {
        *place = fd.as_raw_fd().unsigned_abs();
    }
    kept.sort_unstable();
    let used = kept.iter().position(|fd| *fd == u32::MAX).unwrap_or(kept.len());
    raw::close_all_but(kept.get(..used).unwrap_or_default());
}

/// Whether Maxwell is dead; false if all is well.
fn wait_for_the_end(tools: &Tools) -> bool {
    loop {
        let owner = tools.owner.as_ref().unwrap_or(&tools.pipe);
        let mut wanted = [PollFd::new(&tools.pipe, PollFlags::IN), PollFd::new(owner, PollFlags::IN)];
        let answered = poll(&mut wanted, None);
        let [pipe, owner] = wanted.map(|fd| !fd.revents().is_empty());
        match answered {
            Ok(_) if pipe => {
                let mut byte = [0u8; 1];
                return !matches!(rustix::io::read(&tools.pipe, &mut byte), Ok(1));
            }
            Ok(_) if owner => return true,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}

fn clean_up(tools: &Tools) {
    for _ in 0..MOST_ROUNDS {
        // Again each round: a child that was being made while Maxwell died may have come late.
        let gone = rustix::io::pwrite(&tools.kill, b"1", 0) == Err(Errno::NODEV);
        let mut left = !gone;
        for (home, parent) in &tools.homes {
            left |= remove_tree(home, &tools.name).is_err();
            let home: &CStr = HOME_NAME;
            let _ = unlinkat(parent, home, AtFlags::REMOVEDIR);
        }
        if !left {
            return;
        }
        let round = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        let mut events = [PollFd::new(&tools.events, PollFlags::PRI)];
        // Read before waiting, or the kernel has nothing new to tell.
        let _ = rustix::io::pread(&tools.events, &mut [0u8; 128], 0);
        let _ = poll(&mut events, Some(&round));
    }
}

/// [`HOME`] as the kernel takes it.
const HOME_NAME: &CStr = c"maxwell";
const _: () = assert!(HOME.len() == HOME_NAME.count_bytes());
