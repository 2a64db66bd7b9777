//! Core time of a cgroup, exact at the scale of a tick.
//!
//! The clocks that Linux shows as files move in steps: `cpu.stat` by 4 ms, `/proc/PID/stat` by 10 ms, useless for a tick of
//! 10 ms. perf's software task-clock is not a hardware counter: the kernel adds up the running time of every task in a
//! cgroup when it is switched out, and the running piece when it is read. So it is exact, and it works where no counter of
//! the processor does, in virtual machines for instance. It counts on one core, so there is one event for each. It is a wall
//! clock while a task is on a core: interrupts that hit the task, and time that a hypervisor stole from it, are in it.
//!
//! Source: `kernel/events/core.c`, `task_clock_event_read`; `perf_event_open(2)`, `PERF_FLAG_PID_CGROUP`.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::perf_event::{self, Who};
use super::processor::Processor;
use super::root::{ReadError, Root};

/// `PERF_TYPE_SOFTWARE` and `PERF_COUNT_SW_TASK_CLOCK` (`include/uapi/linux/perf_event.h`).
const SOFTWARE: u32 = 1;
const TASK_CLOCK: u64 = 1;

/// Why core time cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TaskClockError {
    /// The cgroup cannot be opened.
    #[error("{path}: {source}. Give the folder of a cgroup (version 2)")]
    Cgroup {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel refuses the event.
    #[error(
        "the kernel gives no task-clock of {path}: {reason}. It takes root, CAP_PERFMON, or `sudo sysctl kernel.perf_event_paranoid=0`, \
         and a cgroup of version 2"
    )]
    Refused {
        /// Which cgroup.
        path: PathBuf,
        /// Why.
        reason: ReadError,
    },
    /// An event that was open gives nothing any more.
    #[error("the task-clock stopped: {0}")]
    Stopped(std::io::Error),
}

/// The core time of everything in a cgroup, from now on.
#[derive(Debug)]
pub struct TaskClock {
    /// One event for each core.
    events: Vec<OwnedFd>,
}

impl TaskClock {
    /// Begins to count. Tasks that join later are counted from when they join; groups below this one are counted too.
    ///
    /// # Errors
    ///
    /// [`TaskClockError`] with what to do.
    pub fn of_cgroup(path: &Path) -> Result<Self, TaskClockError> {
        let folder = File::open(path).map_err(|source| TaskClockError::Cgroup { path: path.to_owned(), source })?;
        let events = Processor::of(&Root::machine())
            .online
            .into_iter()
            .map(|cpu| perf_event::open(Who::Cgroup(folder.as_fd()), SOFTWARE, TASK_CLOCK, cpu, None))
            .collect::<Result<_, _>>()
            .map_err(|reason| TaskClockError::Refused { path: path.to_owned(), reason })?;
        Ok(Self { events })
    }

    /// Core time since the beginning, in nanoseconds. Allocates nothing.
    ///
    /// # Errors
    ///
    /// [`TaskClockError::Stopped`]: an event that was open gives nothing.
    pub fn read_ns(&self) -> Result<u64, TaskClockError> {
        let mut total = 0u64;
        for event in &self.events {
            // PERF_FORMAT_GROUP: how many values follow, then the values.
            let mut answer = [0u8; 16];
            let length = rustix::io::read(event, &mut answer).map_err(|error| TaskClockError::Stopped(error.into()))?;
            if length != answer.len() {
                return Err(TaskClockError::Stopped(std::io::ErrorKind::UnexpectedEof.into()));
            }
            let (_, value) = answer.split_at(8);
            total = total.saturating_add(u64::from_ne_bytes(value.try_into().expect("eight of sixteen bytes")));
        }
        Ok(total)
    }
}
