//! Limits of a group: memory, tasks, cores. The market does not need them; they bound what a misbehaving program can do.
//!
//! A limit takes a controller. On a unified host it is enabled from our parent down to the group, when a limit is asked
//! for and not before; on a hybrid host it lives in version 1, and the group gets a twin directory there, which its first
//! process joins before it executes anything. Where there is none, the limit is [`Unavailable`], which the caller can show.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// A controller that limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Bytes of memory.
    Memory,
    /// Processes and threads.
    Pids,
    /// Core time.
    Cpu,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    /// As the kernel calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|controller| controller.name() == name)
    }
}

/// What a group may use at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory, with none of it swapped.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at once.
    pub tasks: Option<u32>,
    /// Core time in a period of 100 ms, in thousandths of a core: 1500 is a core and a half.
    pub millicores: Option<u32>,
}

/// A limit that does not hold, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// Which.
    pub controller: Controller,
    /// Why, in words.
    pub why: String,
}

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no limit of {}: {}", self.controller.name(), self.why)
    }
}

/// Period of the cpu controller; the kernel's own default.
const PERIOD_US: u64 = 100_000;

impl Limits {
    /// The controllers that they take.
    pub(crate) fn controllers(&self) -> impl Iterator<Item = Controller> {
        let wanted = [self.memory_bytes.is_some(), self.tasks.is_some(), self.millicores.is_some()];
        Controller::ALL.into_iter().zip(wanted).filter_map(|(controller, wanted)| wanted.then_some(controller))
    }

    /// Core time a period; the kernel refuses less than a millisecond.
    fn quota_us(&self) -> u64 {
        (u64::from(self.millicores.unwrap_or(0)) * PERIOD_US / 1_000).max(1_000)
    }

    /// Writes a limit into a group of version 2.
    pub(crate) fn write(&self, controller: Controller, group: &Path) -> io::Result<()> {
        match controller {
            Controller::Memory => {
                put(group, "memory.max", self.memory_bytes.unwrap_or(u64::MAX))?;
                // Without swap there is no such file, and nothing to forbid.
                put(group, "memory.swap.max", 0).or_else(missing)
            }
            Controller::Pids => put(group, "pids.max", self.tasks.unwrap_or(u32::MAX)),
            Controller::Cpu => put(group, "cpu.max", format!("{} {PERIOD_US}", self.quota_us())),
        }
    }

    /// Writes a limit into a group of version 1.
    fn write_version_1(&self, controller: Controller, group: &Path) -> io::Result<()> {
        match controller {
            Controller::Memory => {
                let bytes = self.memory_bytes.unwrap_or(u64::MAX);
                put(group, "memory.limit_in_bytes", bytes)?;
                put(group, "memory.memsw.limit_in_bytes", bytes).or_else(missing)
            }
            Controller::Pids => put(group, "pids.max", self.tasks.unwrap_or(u32::MAX)),
            Controller::Cpu => {
                put(group, "cpu.cfs_period_us", PERIOD_US)?;
                put(group, "cpu.cfs_quota_us", self.quota_us())
            }
        }
    }
}

/// A group's directory in version 1, with its `cgroup.procs`, in which its first process writes itself.
#[derive(Debug)]
pub(crate) struct Twin {
    pub(crate) controller: Controller,
    pub(crate) path: PathBuf,
    pub(crate) procs: OwnedFd,
}

impl Twin {
    /// Makes it, with its limit.
    pub(crate) fn new(path: PathBuf, controller: Controller, limits: &Limits) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        let make = || {
            limits.write_version_1(controller, &path)?;
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            Ok(openat(CWD, path.join("cgroup.procs"), flags, Mode::empty())?)
        };
        match make() {
            Ok(procs) => Ok(Self { controller, path, procs }),
            Err(error) => {
                let _ = fs::remove_dir(&path);
                Err(error)
            }
        }
    }
}

/// Enables a controller for the children of every group in `chain`, from the top.
pub(crate) fn enable(controller: Controller, chain: &[&Path]) -> Result<(), String> {
    let name = controller.name();
    for group in chain {
        let lists =
            |file| fs::read_to_string(group.join(file)).is_ok_and(|text| text.split_whitespace().any(|c| c == name));
        if lists("cgroup.subtree_control") {
            continue;
        }
        if !lists("cgroup.controllers") {
            return Err(format!("{} does not have this controller", group.display()));
        }
        if let Err(error) = put(group, "cgroup.subtree_control", format!("+{name}")) {
            return Err(if error.raw_os_error() == Some(libc::EBUSY) {
                format!(
                    "processes live in {}, so that it cannot hand out controllers; start Maxwell in a group of its own \
                     below a delegated one",
                    group.display()
                )
            } else {
                format!("{}: {error}", group.display())
            });
        }
    }
    Ok(())
}

fn put(group: &Path, file: &str, value: impl std::fmt::Display) -> io::Result<()> {
    // Never creates: what is not there, the kernel does not have.
    let file = openat(CWD, group.join(file), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, value.to_string().as_bytes())?;
    Ok(())
}

fn missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
