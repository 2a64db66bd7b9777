//! Waking an agent on the core of its slot.
//!
//! The kernel wakes a thawed thread on the core where it ran last, or on the one that thaws it, by which has less load; both look
//! busy, because its slot's thread is running on one of them. Now and then that left two agents on one core and none on the other,
//! and a core that was idle for a moment does not pull: for some milliseconds, until the kernel balances its load, a slot that was
//! paid for stood still (docs/experiment-host.md has the trace).
//!
//! So while it is frozen its threads may run on the slot's core only, and when it is thawed they may run again where they
//! could before. None of it runs in between: the slot's thread does not leave the core until then, and has real-time priority. So
//! no thread sees the change, and none that is forked inherits it.

use std::os::fd::OwnedFd;

use rustix::io::pread;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// An agent with more threads is left to the kernel: it spreads out anyway.
const MOST_THREADS: usize = 16;
/// A number has at most seven digits (`PID_MAX_LIMIT`), and a line feed.
const MOST_BYTES: usize = 8 * (MOST_THREADS + 1);

/// Threads that may run on one core only, and where they may run else. Dropping lets them.
#[derive(Debug, Default)]
pub(super) struct Placement {
    threads: [Option<(Pid, CpuSet)>; MOST_THREADS],
}

impl Placement {
    /// Binds the threads listed in `threads`, an open `cgroup.threads`, to this core: those that may run there at all. Allocates
    /// nothing.
    pub(super) fn on(core: usize, threads: &OwnedFd) -> Self {
        let mut placement = Self::default();
        if core >= CpuSet::MAX_CPU {
            return placement;
        }
        let mut only = CpuSet::new();
        only.set(core);
        let mut text = [0u8; MOST_BYTES];
        let length = pread(threads, &mut text, 0).unwrap_or(0);
        let text = std::str::from_utf8(text.get(..length).unwrap_or_default()).unwrap_or_default();
        if text.lines().count() > MOST_THREADS {
            return placement;
        }
        let named = text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?));
        for (place, thread) in placement.threads.iter_mut().zip(named) {
            // One that has ended, or that may not be moved, is not.
            let may = sched_getaffinity(Some(thread)).ok().filter(|may| may.is_set(core) && may.count() > 1);
            *place = may.filter(|_| sched_setaffinity(Some(thread), &only).is_ok()).map(|may| (thread, may));
        }
        placement
    }
}

impl Drop for Placement {
    fn drop(&mut self) {
        for (thread, may) in self.threads.iter().flatten() {
            let _ = sched_setaffinity(Some(*thread), may);
        }
    }
}
