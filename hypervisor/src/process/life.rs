//! One life of an agent that is a tree of processes: its group, its command, and what is read off them.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use maxwell_core::Bytes;
use maxwell_core::reason::Trap;
use maxwell_ebpf::{AuditedCalls, Calls, Watched};
use maxwell_physics::TaskClock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};

use super::census::Counted;
use super::cgroup::Cgroup;
use super::child::{Child, Exit};
use super::freezer::FreezerError;
use super::idle::{MOST_ASKED, is_any_runnable};
use super::placement::Placement;
use super::sandbox::Enforced;
use super::stop::{StopError, Tree};
use crate::lock;

/// How long a freeze may take before it is undone and tried again, and how often. Together they are the longest that a
/// slot is busy with an agent that does not freeze: a read from a cold or far disk takes seconds now and then, and its program
/// is not to blame.
const FREEZES: [Duration; 9] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(1),
];
/// Thawing is a matter of some tens of microseconds.
const THAW: Duration = Duration::from_millis(100);
/// After this many turns in which it kept to what it had bought, an agent is trusted to, until it does not.
const CLOSELY: u8 = 20;
/// The most processes that are told to end one by one; what has more is killed as one.
const MOST_TOLD: usize = 4_096;

/// Where its core time is read.
#[derive(Debug)]
pub(super) enum Clock {
    /// perf's task-clock: exact.
    Task(TaskClock),
    /// `cpu.stat`, which moves in steps of some milliseconds.
    Stat(File),
}

impl Clock {
    /// The best there is for a group.
    pub(super) fn of(group: &Path) -> std::io::Result<Self> {
        match TaskClock::of_cgroup(group) {
            Ok(clock) => Ok(Self::Task(clock)),
            Err(_) => File::open(group.join("cpu.stat")).map(Self::Stat),
        }
    }

    fn read_ns(&self) -> Option<u64> {
        match self {
            Self::Task(clock) => clock.read_ns().ok(),
            Self::Stat(file) => {
                let mut text = [0u8; 512];
                let length = file.read_at(&mut text, 0).ok()?;
                let text = std::str::from_utf8(text.get(..length)?).ok()?;
                let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
                usage.trim().parse::<u64>().ok()?.checked_mul(1_000)
            }
        }
    }
}

/// What holds its processes together.
#[derive(Debug)]
pub(super) enum Holder {
    /// A cgroup of its own.
    Group {
        /// The group.
        group: Cgroup,
        /// Its core time.
        clock: Clock,
        /// The command.
        child: Child,
    },
    /// Signals to every process that can be found: weaker.
    Tree {
        /// Those that are known.
        tree: Tree,
        /// The same, for the census.
        known: Arc<Mutex<Vec<u32>>>,
    },
}

/// Why it runs on although it should stand still.
#[derive(Debug, thiserror::Error)]
pub(super) enum Restless {
    /// A group.
    #[error(transparent)]
    Group(#[from] FreezerError),
    /// A tree.
    #[error(transparent)]
    Tree(#[from] StopError),
}

/// What proves the bytes that it erased.
#[derive(Debug)]
pub(super) enum Proof {
    /// The kernel counts them.
    Kernel(Watched),
    /// The census estimates them.
    Census,
}

/// A life. Dropping it kills everything in it.
#[derive(Debug)]
pub(super) struct Life {
    holder: Holder,
    proof: Proof,
    counted: Arc<Counted>,
    wait_all: bool,
    thawed: bool,
    /// The core that it was thawed on, if it was sent to one.
    core: Option<usize>,
    /// Its command has ended.
    child_gone: bool,
    /// Up to which reading of its clock it has paid.
    paid_ns: u64,
    /// The newest reading: what it cannot read any more it keeps.
    clock_ns: u64,
    /// Core time that it used beyond what it had bought; it does without in its next turns.
    debt_ns: u64,
    /// Turns in which it is looked at closely yet: it has used more than it bought not long ago, or is new.
    closely: u8,
    erased_paid: u64,
    erased: u64,
    /// What of its sandbox holds, and which of its limits do not.
    enforced: Enforced,
    unavailable: Vec<String>,
    /// Its system calls, if they are counted.
    audited: Option<AuditedCalls>,
}

impl Life {
    pub(super) fn new(holder: Holder, proof: Proof, counted: Arc<Counted>, wait_all: bool) -> Self {
        Self {
            proof,
            counted,
            wait_all,
            child_gone: false,
            thawed: matches!(holder, Holder::Tree { .. }),
            core: None,
            holder,
            paid_ns: 0,
            clock_ns: 0,
            debt_ns: 0,
            closely: CLOSELY,
            erased_paid: 0,
            erased: 0,
            enforced: Enforced::default(),
            unavailable: Vec::new(),
            audited: None,
        }
    }

    /// Core time since its birth, in nanoseconds; never falls.
    pub(super) fn clock_ns(&mut self) -> u64 {
        let read = match &mut self.holder {
            Holder::Group { clock, .. } => clock.read_ns(),
            Holder::Tree { tree, .. } => u64::try_from(tree.core_time().as_nanos()).ok(),
        };
        self.clock_ns = self.clock_ns.max(read.unwrap_or(0));
        self.clock_ns
    }

    /// The same as of the last look.
    pub(super) const fn last_clock_ns(&self) -> u64 {
        self.clock_ns
    }

    /// What it owes for core time: up to the last look and `ahead`, less what it paid ahead before.
    pub(super) fn bill(&mut self, ahead: Duration) -> u64 {
        let ahead = u64::try_from(ahead.as_nanos()).unwrap_or(u64::MAX);
        let until = self.clock_ns.saturating_add(ahead);
        let due = until.saturating_sub(self.paid_ns);
        self.paid_ns = self.paid_ns.max(until);
        due
    }

    /// What of this core time it may use, in nanoseconds, after what it used too much before.
    pub(super) fn less_debt(&mut self, bought_ns: u64) -> u64 {
        let paid = self.debt_ns.min(bought_ns);
        self.debt_ns -= paid;
        bought_ns - paid
    }

    /// A turn is over in which it had bought `core_ns` and used `used_ns`. `stopped` says that it was stopped because it had used
    /// all that it may. A twentieth more is how late a thread is stopped; who used more than that used more cores than it had
    /// bought.
    pub(super) fn settle(&mut self, core_ns: u64, used_ns: u64, stopped: bool) {
        let beyond = used_ns.saturating_sub(core_ns);
        let too_much = beyond > core_ns / 20;
        if stopped || too_much {
            self.debt_ns = self.debt_ns.saturating_add(beyond);
            self.closely = CLOSELY;
        } else {
            self.closely = self.closely.saturating_sub(1);
        }
    }

    /// Whether it may use more cores than it buys, for all that is known.
    pub(super) const fn is_watched_closely(&self) -> bool {
        self.closely > 0
    }

    /// Bytes erased since the last bill.
    pub(super) fn erased(&mut self) -> u64 {
        let total = match &self.proof {
            Proof::Kernel(watched) => watched.read().map_or(self.erased, |released| released.bytes),
            Proof::Census => self.counted.erased(),
        };
        self.erased = self.erased.max(total);
        self.erased - self.erased_paid
    }

    /// The same, billed with this.
    pub(super) fn take_erased(&mut self) -> u64 {
        let new = self.erased();
        self.erased_paid = self.erased;
        new
    }

    /// Memory that it held when the census last looked.
    pub(super) fn held(&self) -> Bytes {
        Bytes(self.counted.held())
    }

    /// Notes what of its sandbox holds, and which of its limits do not.
    pub(super) fn note(&mut self, enforced: Enforced, unavailable: Vec<String>) {
        (self.enforced, self.unavailable) = (enforced, unavailable);
    }

    /// Its system calls are counted from now on.
    pub(super) fn audit(&mut self, calls: AuditedCalls) {
        self.audited = Some(calls);
    }

    /// Its system calls so far, if they are counted.
    pub(super) fn calls(&self) -> Option<Calls> {
        self.audited.as_ref()?.read().ok()
    }

    /// What the kernel calls its group.
    pub(super) fn group_id(&self) -> Option<u64> {
        match &self.holder {
            Holder::Group { group, .. } => Some(group.id()),
            Holder::Tree { .. } => None,
        }
    }

    /// Its group, if it is held by one.
    pub(super) fn group(&self) -> Option<&Path> {
        match &self.holder {
            Holder::Group { group, .. } => Some(group.path()),
            Holder::Tree { .. } => None,
        }
    }

    /// What was noted.
    pub(super) fn noted(&self) -> (Enforced, Vec<String>) {
        (self.enforced.clone(), self.unavailable.clone())
    }

    /// What the census finds of it.
    pub(super) fn counted(&self) -> Arc<Counted> {
        Arc::clone(&self.counted)
    }

    /// Whether one of its threads would run if it had a core.
    pub(super) fn wants_core(&self) -> bool {
        let pids = match &self.holder {
            Holder::Group { group, .. } => group.freezer().pids(MOST_ASKED).unwrap_or_default(),
            Holder::Tree { tree, .. } => {
                let raw = tree.pids().into_iter().filter_map(|pid| i32::try_from(pid).ok());
                raw.filter_map(Pid::from_raw).take(MOST_ASKED).collect()
            }
        };
        is_any_runnable(&pids)
    }

    /// Whether it stands still.
    pub(super) fn is_frozen(&self) -> bool {
        !self.thawed
    }

    /// Lets it run, from this core on if one is given: the caller's, which has real-time priority there.
    pub(super) fn thaw(&mut self, core: Option<usize>) -> Result<(), Restless> {
        let moves = core.is_some() && self.core.is_some() && self.core != core;
        if self.thawed && moves {
            // It lingers on the core of another slot, which somebody else has now. Who cannot be frozen goes on there.
            let _ = self.freeze();
        }
        if self.thawed {
            return Ok(());
        }
        self.core = core;
        match &mut self.holder {
            Holder::Group { group, .. } => {
                let freezer = group.freezer();
                let placed = core.map(|core| Placement::on(core, freezer.threads()));
                freezer.thaw(THAW)?;
                drop(placed);
            }
            Holder::Tree { tree, .. } => tree.resume(),
        }
        self.thawed = true;
        Ok(())
    }

    /// Freezes it, with more patience each time.
    ///
    /// # Errors
    ///
    /// It runs: nothing could freeze it.
    pub(super) fn freeze(&mut self) -> Result<(), Restless> {
        if !self.thawed {
            return Ok(());
        }
        let mut last = Ok(());
        for patience in FREEZES {
            last = match &mut self.holder {
                Holder::Group { group, .. } => group.freezer().freeze(patience).map_err(Restless::from),
                Holder::Tree { tree, known } => tree.stop(patience).map_err(Restless::from).map(|_| {
                    *lock(known) = tree.pids();
                }),
            };
            match last {
                Ok(()) => {
                    self.thawed = false;
                    return Ok(());
                }
                Err(
                    Restless::Group(FreezerError::Undone(_) | FreezerError::HalfFrozen { .. })
                    | Restless::Tree(StopError::Undone { .. }),
                ) => {}
                Err(_) => break,
            }
        }
        last
    }

    /// Waits at most this long; whether its command has ended. Wakes when that happens.
    ///
    /// # Errors
    ///
    /// Its program never started, and why.
    pub(super) fn wait(&mut self, patience: Duration) -> Result<bool, (Trap, String)> {
        if !self.child_gone {
            let pidfd = self.child().pidfd();
            if !wait_for(&mut [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)], patience) {
                return Ok(false);
            }
            self.child_gone = self.child_ended();
        } else if self.wait_all {
            self.wait_empty(patience);
        }
        if let Some(Err(error)) = self.child().started() {
            return Err((Trap::Start, error.to_string()));
        }
        Ok(self.child_gone && (!self.wait_all || self.is_empty()))
    }

    fn child_ended(&mut self) -> bool {
        // Somebody else waited for it: it has ended.
        self.child().try_wait().map_or(true, |ended| ended.is_some())
    }

    /// What `env` would exit with, if its program never started.
    pub(super) fn start_failure(&mut self) -> Option<i32> {
        match self.child().started() {
            Some(Err(error)) => Some(error.exit_code()),
            _ => None,
        }
    }

    /// How its command ended, if it has.
    pub(super) fn exit(&mut self) -> Option<Exit> {
        self.child().try_wait().ok().flatten().map(|ended| ended.exit)
    }

    /// Whether nothing lives in it.
    pub(super) fn is_empty(&mut self) -> bool {
        match &mut self.holder {
            Holder::Group { group, .. } => !group.freezer().populated().unwrap_or(false),
            Holder::Tree { tree, .. } => tree.is_empty(),
        }
    }

    /// Waits at most this long until nothing lives in it, or its command ends.
    pub(super) fn wait_empty(&mut self, patience: Duration) -> bool {
        match &mut self.holder {
            Holder::Group { group, .. } => {
                // Zombies that we must reap are not alive, but keep nothing waiting.
                let fd = group.freezer().events_fd();
                wait_for(&mut [PollFd::from_borrowed_fd(fd, PollFlags::PRI)], patience);
            }
            Holder::Tree { tree, .. } => {
                std::thread::sleep(patience.min(Duration::from_millis(5)));
                tree.core_time();
            }
        }
        self.is_empty()
    }

    /// Its command, for signals.
    pub(super) fn pidfd(&mut self) -> Option<OwnedFd> {
        self.child().pidfd().try_clone_to_owned().ok()
    }

    /// Tells every process in it to end, and lets them: those that stopped themselves too.
    pub(super) fn terminate(&mut self) -> Result<(), Restless> {
        // Frozen, so that no number means another process meanwhile.
        self.freeze()?;
        match &self.holder {
            Holder::Group { group, .. } => {
                for pid in group.freezer().pids(MOST_TOLD).unwrap_or_default() {
                    for signal in [Signal::TERM, Signal::CONT] {
                        let _ = rustix::process::kill_process(pid, signal);
                    }
                }
            }
            Holder::Tree { tree, .. } => tree.signal_all(Signal::TERM),
        }
        self.thaw(None)
    }

    fn child(&mut self) -> &mut Child {
        match &mut self.holder {
            Holder::Group { child, .. } => child,
            Holder::Tree { tree, .. } => tree.root(),
        }
    }

    /// Kills everything in it. Does not wait.
    pub(super) fn kill(&mut self) {
        match &mut self.holder {
            // A group that is gone holds nobody.
            Holder::Group { group, .. } => drop(group.freezer().kill()),
            Holder::Tree { tree, .. } => drop(tree.kill(Duration::ZERO)),
        }
        self.thawed = true;
    }

    /// Kills everything in it and waits at most this long until all of it is gone.
    pub(super) fn finish(&mut self, patience: Duration) {
        self.kill();
        let since = Instant::now();
        while !self.is_empty() && since.elapsed() < patience {
            self.wait_empty(Duration::from_millis(1));
        }
        let _ = self.child().wait_timeout(patience.saturating_sub(since.elapsed()));
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.counted.close();
    }
}

/// Whether something happened in time.
fn wait_for(events: &mut [PollFd<'_>], patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    // An interrupted wait is a short one.
    poll(events, Some(&timeout)).is_ok_and(|ready| ready > 0)
}
