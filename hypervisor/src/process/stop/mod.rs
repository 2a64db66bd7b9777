//! Stopping process trees by signals: the fallback where no cgroup v2 is writable. **Weaker**, and to be labelled so.
//!
//! ```text
//!   stop: ┌─► walk from what we know, and from orphans that came to us ─► SIGSTOP to what is new ─┐
//!         └──────────────── until a walk finds nothing new, and all are stopped ◄────────────────┘
//!         deadline first: SIGCONT to all (undone)
//! ```
//!
//! What is weaker than a frozen group:
//!
//! * A process that is forked during a walk is found by the next one, not stopped at birth. A walk after which nothing is
//!   new stopped everything, because a stopped process forks nothing.
//! * Processes are found by descent. Orphans come to us (`PR_SET_CHILD_SUBREAPER`) and are known by having been seen, by
//!   their session, or by a token in their environment. One that was never seen, began a session and cleaned its
//!   environment escapes.
//! * Programs see it: shells report stopped jobs, and a process that stopped itself is continued with the others.
//! * Core time is the sum of the processes' clocks. What descendants used that their parents waited for is known to 10 ms
//!   until the parent ends, and what was never waited for is lost.
//! * The kernel's list of children may leave some out while others end, so a stop ends with a look at every process of the
//!   machine: it costs milliseconds.
//!
//! * When Maxwell is killed, its keeper finds what it ran by the token alone.
//!
//! A pid is used only together with a pidfd that was open before the last look at it, so no reused number is signalled.

mod proc;
mod remains;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

pub(super) use remains::{Marked, prefix};
pub use remains::{Stray, strays, sweep};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal, set_child_subreaper};

use super::child::Child;
use super::raw;

/// What this is called where people read it.
pub const LABEL: &str = "SIGSTOP to the process tree (weaker: no writable cgroup v2)";

/// The variable whose value is the token of a tree.
pub const TOKEN: &str = "MAXWELL_CELL";

/// A tree is not followed further than this.
const MOST_PROCESSES: usize = 16_384;

/// Why a tree did not stop.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// Not in time; it runs again.
    #[error("{running} of {processes} processes did not stop within {waited:?}; undone, all run")]
    Undone {
        /// How many did not.
        running: usize,
        /// Of how many.
        processes: usize,
        /// How long we waited.
        waited: Duration,
    },
    /// Too many to follow.
    #[error("more than {MOST_PROCESSES} processes; undone, all run. Use cgroup v2, which has no such limit")]
    TooMany,
    /// The kernel cannot tell who is whose child.
    #[error("this kernel does not list the children of processes (CONFIG_PROC_CHILDREN)")]
    NoChildren,
    /// Orphans cannot come to us.
    #[error("cannot adopt orphans: {0}")]
    Orphans(Errno),
}

/// A process of the tree.
#[derive(Debug)]
struct Member {
    pidfd: OwnedFd,
    session: i32,
}

/// A command and all that descend from it.
#[derive(Debug)]
pub struct Tree {
    root: Child,
    token: Vec<u8>,
    members: HashMap<Pid, Member>,
    stopped: bool,
    /// Core time of orphans that we waited for.
    reaped: Duration,
    /// The core time last told; it never falls.
    told: Duration,
}

impl Tree {
    /// Follows a child and its descendants. `token` must be in its environment, as the value of [`TOKEN`], and in no other
    /// tree's. From here on this process adopts orphans.
    ///
    /// # Errors
    ///
    /// [`StopError::NoChildren`], [`StopError::Orphans`]
    pub fn new(root: Child, token: &str) -> Result<Self, StopError> {
        set_child_subreaper(Some(getpid())).map_err(StopError::Orphans)?;
        if !proc::lists_children() {
            return Err(StopError::NoChildren);
        }
        let token = format!("{TOKEN}={token}").into_bytes();
        let mut tree =
            Self { root, token, members: HashMap::new(), stopped: false, reaped: Duration::ZERO, told: Duration::ZERO };
        tree.meet(tree.root.pid());
        Ok(tree)
    }

    /// The command itself.
    pub const fn root(&mut self) -> &mut Child {
        &mut self.root
    }

    /// Stops everything; returns how many living processes that are.
    ///
    /// # Errors
    ///
    /// [`StopError`]; then everything runs.
    pub fn stop(&mut self, deadline: Duration) -> Result<usize, StopError> {
        let since = Instant::now();
        self.stopped = true;
        // What was stopped before stays so; signals to it do nothing.
        self.signal_all(Signal::STOP);
        loop {
            let new = self.walk();
            self.reap();
            if self.members.len() >= MOST_PROCESSES {
                self.resume();
                return Err(StopError::TooMany);
            }
            let running = self.running();
            if new == 0 && running == 0 && self.census() == 0 {
                return Ok(self.members.len());
            }
            if since.elapsed() >= deadline {
                let processes = self.members.len();
                self.resume();
                return Err(StopError::Undone { running, processes, waited: deadline });
            }
            if new == 0 {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    }

    /// How many run. Who waits in `vfork(2)` for a child that is stopped does not, although it cannot be stopped itself.
    fn running(&self) -> usize {
        let stats: Vec<_> = self.members.keys().filter_map(|pid| Some((*pid, proc::Stat::of(*pid)?))).collect();
        let waits = |parent: Pid| {
            let parent = parent.as_raw_nonzero().get();
            stats.iter().any(|(_, child)| child.parent == parent && child.is_stopped())
        };
        stats.iter().filter(|(pid, stat)| stat.runs() && !(stat.is_uninterruptible() && waits(*pid))).count()
    }

    /// Lets everything run.
    pub fn resume(&mut self) {
        self.stopped = false;
        self.signal_all(Signal::CONT);
    }

    /// Sends a signal to everything that is known.
    pub fn signal_all(&self, signal: Signal) {
        for member in self.members.values() {
            // One that has ended needs no signal.
            let _ = pidfd_send_signal(&member.pidfd, signal);
        }
    }

    /// Kills everything and waits for its end; returns whether nothing is left.
    pub fn kill(&mut self, deadline: Duration) -> bool {
        let since = Instant::now();
        loop {
            self.stopped = false;
            self.signal_all(Signal::KILL);
            let new = self.walk();
            self.signal_all(Signal::KILL);
            let _ = self.root.try_wait();
            self.reap();
            if new == 0 && self.members.is_empty() && self.census() == 0 {
                return true;
            }
            if since.elapsed() >= deadline {
                return false;
            }
            // One of them, any of them, is waited for.
            let oldest = self.members.values().next();
            let pause = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
            if let Some(member) = oldest {
                let _ = poll(&mut [PollFd::new(&member.pidfd, PollFlags::IN)], Some(&pause));
            }
        }
    }

    /// How many processes are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Those that are known.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.members.keys().filter_map(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()).collect()
    }

    /// Whether everything has ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Core time of the tree so far; never less than before. Exact to the microsecond when it is stopped, but for what
    /// descendants used that were waited for (see above).
    pub fn core_time(&mut self) -> Duration {
        self.walk();
        self.reap();
        let root = self.root.try_wait().ok().flatten();
        let mut total = self.reaped + root.map_or(Duration::ZERO, |ended| ended.core_time);
        for (pid, member) in &self.members {
            let used = proc::core_time(*pid).unwrap_or_default();
            // A number is somebody else's only after its process was waited for, which is after it ended.
            if !ended(&member.pidfd) || waits_to_be_waited_for(*pid, member) {
                total += used;
            }
        }
        self.told = self.told.max(total);
        self.told
    }

    /// Looks for processes that are not known yet; returns how many were.
    fn walk(&mut self) -> usize {
        let mut new = 0;
        let ours = raw::session();
        for (pid, member) in self.members.iter_mut().filter(|(_, member)| member.session == ours) {
            member.session = proc::Stat::of(*pid).map_or(ours, |stat| stat.session);
        }
        let mut queue: Vec<Pid> = self.members.keys().copied().collect();
        queue.extend(self.orphans());
        while let Some(pid) = queue.pop() {
            if !self.members.contains_key(&pid) {
                if self.members.len() >= MOST_PROCESSES || !self.meet(pid) {
                    continue;
                }
                new += 1;
            }
            queue.extend(proc::children(pid).into_iter().filter(|child| !self.members.contains_key(child)));
        }
        new
    }

    /// Asks every process of the machine whether it is of this tree; returns how many were not known.
    fn census(&mut self) -> usize {
        let us = getpid().as_raw_nonzero().get();
        let missed: Vec<Pid> = proc::everybody()
            .filter(|(pid, stat)| {
                let parent = Pid::from_raw(stat.parent).is_some_and(|parent| self.members.contains_key(&parent));
                !self.members.contains_key(pid) && (parent || stat.parent == us && self.is_orphan(*pid, *stat))
            })
            .map(|(pid, _)| pid)
            .take(MOST_PROCESSES)
            .collect();
        missed.into_iter().filter(|pid| self.meet(*pid)).count()
    }

    /// Children of ours that must be of this tree, and were not seen before.
    fn orphans(&self) -> Vec<Pid> {
        let ours = |pid: &Pid| proc::Stat::of(*pid).is_some_and(|stat| self.is_orphan(*pid, stat));
        proc::children(getpid()).into_iter().filter(|pid| !self.members.contains_key(pid)).filter(ours).collect()
    }

    /// Whether a child of ours is an orphan of this tree.
    fn is_orphan(&self, pid: Pid, stat: proc::Stat) -> bool {
        // A child that did not come to begin its own session yet has ours, and so have children of others.
        let by_session = || stat.session != raw::session() && self.members.values().any(|m| m.session == stat.session);
        pid != self.root.pid() && (by_session() || proc::has_variable(pid, &self.token))
    }

    /// Takes a process in, if it is a child of one that we know, or of ours.
    fn meet(&mut self, pid: Pid) -> bool {
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
        // Looked at after the pidfd was open: if this is the wrong process, its parent is.
        let Some(stat) = proc::Stat::of(pid) else { return false };
        let known = Pid::from_raw(stat.parent).is_some_and(|p| p == getpid() || self.members.contains_key(&p));
        if !known {
            return false;
        }
        if self.stopped {
            let _ = pidfd_send_signal(&pidfd, Signal::STOP);
        }
        self.members.insert(pid, Member { pidfd, session: stat.session });
        true
    }

    /// Forgets what has ended, after waiting for it if it is our child.
    fn reap(&mut self) {
        let root = self.root.pid();
        let mut reaped = Duration::ZERO;
        self.members.retain(|pid, member| {
            if !ended(&member.pidfd) {
                return true;
            }
            if *pid == root {
                return false;
            }
            match raw::wait(member.pidfd.as_fd(), false) {
                Ok(Some(waited)) => {
                    reaped += waited.cpu;
                    false
                }
                // Somebody else's child: its parent is yet to wait for it, or has.
                _ => waits_to_be_waited_for(*pid, member),
            }
        });
        self.reaped += reaped;
    }
}

fn ended(pidfd: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut wanted = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut wanted, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Whether a process that has ended still has its number.
fn waits_to_be_waited_for(pid: Pid, member: &Member) -> bool {
    let same = |stat: proc::Stat| stat.session == member.session || member.session == raw::session();
    proc::Stat::of(pid).is_some_and(|stat| stat.state == b'Z' && same(stat))
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.kill(Duration::from_secs(2));
    }
}
