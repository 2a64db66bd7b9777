//! Freezing a group, thawing it, killing it; each confirmed.
//!
//! ```text
//!              freeze: write 1          `frozen 1` seen
//!   running ─────────────────► freezing ───────────────► frozen
//!      ▲                          │                        │
//!      │   deadline: write 0,     │          thaw: write 0,│
//!      ├──────────────────────────┘          `frozen 0` seen
//!      └───────────────────────────────────────────────────┘
//!                  kill, from any state; a frozen process dies without running
//! ```
//!
//! The kernel freezes a task when it returns to user space, so one that sits in an uninterruptible wait freezes late or
//! never. If the deadline passes, the freeze is undone: otherwise the kernel would go on and freeze the group some time
//! later, behind the back of whoever was told that it failed (opencontainers/runc#5325).
//!
//! `cgroup.events` announces a change by `POLLPRI`, but at most every 10 ms (`CGROUP_FILE_NOTIFY_MIN_INTV` in
//! `kernel/cgroup/cgroup.c`), as long as a tick. So we also look by ourselves, at intervals that double.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, pread, pwrite};
use rustix::process::Pid;

/// Why a group did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum FreezerError {
    /// Not all tasks froze in time; the freeze was undone and the group runs.
    #[error("not frozen within {0:?}: something in it is busy in the kernel; undone, it runs")]
    Undone(Duration),
    /// Not all tasks froze in time, and the freeze could not be undone: the group may freeze later.
    #[error("not frozen within {waited:?}, and undoing failed ({errno}): the group may freeze at any time")]
    HalfFrozen {
        /// How long we waited.
        waited: Duration,
        /// Why it could not be undone.
        errno: Errno,
    },
    /// The kernel does not say that the group runs.
    #[error("not thawed within {0:?}: is a group above it frozen?")]
    NotThawed(Duration),
    /// Something lives after the deadline.
    #[error("not empty within {0:?}")]
    NotEmpty(Duration),
    /// The group is gone.
    #[error("the group is gone")]
    Gone,
    /// The kernel gave no answer.
    #[error("cannot {doing}: {errno}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        errno: Errno,
    },
}

/// Looks in a row before the first sleep; each gives the core to the group.
const EAGER_LOOKS: u32 = 4;
/// The first and the longest time between two looks.
const SHORTEST_NS: i64 = 20_000;
const LONGEST_NS: i64 = 1_000_000;

/// A group's switches, kept open: no path is looked up and nothing is allocated while freezing and thawing.
#[derive(Debug)]
pub struct Freezer {
    freeze: OwnedFd,
    events: OwnedFd,
    kill: OwnedFd,
    procs: OwnedFd,
    threads: OwnedFd,
}

/// What `cgroup.events` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Events {
    populated: bool,
    frozen: bool,
}

impl Freezer {
    /// Opens the switches of the group at `path`.
    ///
    /// # Errors
    ///
    /// Why they cannot be opened. `cgroup.kill` takes Linux 5.14.
    pub fn open(path: &Path) -> Result<Self, FreezerError> {
        let open = |name, mode, doing| {
            openat(CWD, path.join(name), mode | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| FreezerError::Io { doing, errno })
        };
        Ok(Self {
            freeze: open("cgroup.freeze", OFlags::WRONLY, "open cgroup.freeze")?,
            events: open("cgroup.events", OFlags::RDONLY, "open cgroup.events")?,
            kill: open("cgroup.kill", OFlags::WRONLY, "open cgroup.kill (Linux 5.14 or newer)")?,
            procs: open("cgroup.procs", OFlags::RDONLY, "open cgroup.procs")?,
            threads: open("cgroup.threads", OFlags::RDONLY, "open cgroup.threads")?,
        })
    }

    /// Freezes, and returns when every task of the group is frozen. Allocates nothing.
    ///
    /// # Errors
    ///
    /// [`FreezerError::Undone`] after the deadline: the group runs as if nothing had happened.
    pub fn freeze(&self, deadline: Duration) -> Result<(), FreezerError> {
        self.begin_freeze()?;
        self.confirm_freeze(deadline)
    }

    /// Begins to freeze and does not wait, to freeze many groups at once. [`Self::confirm_freeze`] must follow.
    ///
    /// # Errors
    ///
    /// The group is gone.
    pub fn begin_freeze(&self) -> Result<(), FreezerError> {
        self.switch(b"1")
    }

    /// Waits until a freeze that was begun is complete; undoes it if it is not in time. Allocates nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::freeze`].
    pub fn confirm_freeze(&self, deadline: Duration) -> Result<(), FreezerError> {
        let seen = self.wait(Instant::now(), deadline, |events| events.frozen);
        if let Ok(true) = seen {
            return Ok(());
        }
        match (self.switch(b"0"), seen) {
            (Ok(()), Ok(_)) => Err(FreezerError::Undone(deadline)),
            (Ok(()), Err(error)) => Err(error),
            (Err(FreezerError::Io { errno, .. }), _) => Err(FreezerError::HalfFrozen { waited: deadline, errno }),
            (Err(error), _) => Err(error),
        }
    }

    /// Thaws, and returns when the kernel says so. Allocates nothing.
    ///
    /// # Errors
    ///
    /// [`FreezerError::NotThawed`]; the group is gone.
    pub fn thaw(&self, deadline: Duration) -> Result<(), FreezerError> {
        let since = Instant::now();
        self.switch(b"0")?;
        // The kernel says `frozen 0` as soon as it was told; the first look is enough unless a group above is frozen.
        if self.wait(since, deadline, |events| !events.frozen)? {
            Ok(())
        } else {
            Err(FreezerError::NotThawed(deadline))
        }
    }

    /// Kills everything in the group and below it, frozen or not. What is being forked meanwhile dies too.
    ///
    /// # Errors
    ///
    /// The group is gone.
    pub fn kill(&self) -> Result<(), FreezerError> {
        put(&self.kill, b"1", "write cgroup.kill")
    }

    /// Waits until nothing lives in the group.
    ///
    /// # Errors
    ///
    /// [`FreezerError::NotEmpty`] after the deadline.
    pub fn wait_empty(&self, deadline: Duration) -> Result<(), FreezerError> {
        let empty = self.wait(Instant::now(), deadline, |events| !events.populated)?;
        if empty { Ok(()) } else { Err(FreezerError::NotEmpty(deadline)) }
    }

    /// Whether anything lives in the group or below it.
    ///
    /// # Errors
    ///
    /// The group is gone.
    pub fn populated(&self) -> Result<bool, FreezerError> {
        self.events().map(|events| events.populated)
    }

    /// Whether every task of the group is frozen.
    ///
    /// # Errors
    ///
    /// The group is gone.
    pub fn frozen(&self) -> Result<bool, FreezerError> {
        self.events().map(|events| events.frozen)
    }

    /// A descriptor on which `POLLPRI` tells that the group became empty, or changed between frozen and not.
    #[must_use]
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// `cgroup.threads`: the threads in the group itself.
    pub(super) const fn threads(&self) -> &OwnedFd {
        &self.threads
    }

    /// Processes in the group itself, at most `most`.
    ///
    /// # Errors
    ///
    /// The group is gone.
    pub fn pids(&self, most: usize) -> Result<Vec<Pid>, FreezerError> {
        let failed = |error: std::io::Error| FreezerError::Io {
            doing: "read cgroup.procs",
            errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        };
        let mut file = File::from(self.procs.try_clone().map_err(failed)?);
        std::io::Seek::rewind(&mut file).map_err(failed)?;
        let mut text = String::new();
        // A pid has at most seven digits (`PID_MAX_LIMIT`), and a line feed.
        file.take(most.saturating_mul(8) as u64).read_to_string(&mut text).map_err(failed)?;
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or(""));
        Ok(whole.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).take(most).collect())
    }

    fn switch(&self, value: &[u8]) -> Result<(), FreezerError> {
        put(&self.freeze, value, "write cgroup.freeze")
    }

    fn events(&self) -> Result<Events, FreezerError> {
        let mut text = [0u8; 128];
        match pread(&self.events, &mut text, 0) {
            Ok(length) => Ok(parse(text.get(..length).unwrap_or(&text))),
            Err(Errno::NODEV) => Err(FreezerError::Gone),
            Err(errno) => Err(FreezerError::Io { doing: "read cgroup.events", errno }),
        }
    }

    /// Waits until `done`; false if the deadline came first.
    fn wait(&self, since: Instant, deadline: Duration, done: impl Fn(Events) -> bool) -> Result<bool, FreezerError> {
        let mut looks = 0;
        let mut step_ns = SHORTEST_NS;
        loop {
            if done(self.events()?) {
                return Ok(true);
            }
            let left = deadline.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            looks += 1;
            if looks < EAGER_LOOKS {
                rustix::thread::sched_yield();
                continue;
            }
            let left_ns = i64::try_from(left.as_nanos()).unwrap_or(i64::MAX);
            let timeout = Timespec { tv_sec: 0, tv_nsec: step_ns.min(left_ns) };
            let mut wanted = [PollFd::new(&self.events, PollFlags::PRI)];
            match poll(&mut wanted, Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(FreezerError::Io { doing: "wait for cgroup.events", errno }),
            }
            step_ns = (step_ns * 2).min(LONGEST_NS);
        }
    }
}

fn put(file: &OwnedFd, value: &[u8], doing: &'static str) -> Result<(), FreezerError> {
    match pwrite(file, value, 0) {
        Ok(_) => Ok(()),
        Err(Errno::NODEV) => Err(FreezerError::Gone),
        Err(errno) => Err(FreezerError::Io { doing, errno }),
    }
}

/// `populated 1\nfrozen 0\n`; what is not said is not so.
fn parse(text: &[u8]) -> Events {
    let says = |line: &[u8]| text.split(|byte| *byte == b'\n').any(|said| said == line);
    Events { populated: says(b"populated 1"), frozen: says(b"frozen 1") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_whatever_surrounds_them() {
        let both = Events { populated: true, frozen: true };
        assert_eq!(parse(b"populated 1\nfrozen 1\n"), both);
        assert_eq!(parse(b"oom 1\nfrozen 1\npopulated 1"), both);
        let neither = Events { populated: false, frozen: false };
        for text in [&b"populated 0\nfrozen 0\n"[..], b"", b"populated 10\nfrozen 11\n", b"\xff\xfe", b"frozen  1"] {
            assert_eq!(parse(text), neither);
        }
    }
}
