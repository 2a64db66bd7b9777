//! A process that Maxwell started, held by a pidfd: no signal and no wait can hit another process that got its number.
//!
//! ```text
//!   cloned ──(born frozen: waits for its first slot)──► prepares itself ──execve──► runs ──► ended
//!                                                             └── a step fails: StartError, then ended
//! ```

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, pidfd_send_signal};

use super::exec::StartError;
use super::raw::{self, Cloned};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal {
        /// Which.
        signal: i32,
        /// Whether it left a core file.
        core: bool,
    },
}

impl Exit {
    /// The code that a shell gives: 128 and the signal for one that was killed.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal { signal, .. } => 128 + signal,
        }
    }

    fn of(code: i32, status: i32) -> Self {
        match code {
            libc::CLD_KILLED => Self::Signal { signal: status, core: false },
            libc::CLD_DUMPED => Self::Signal { signal: status, core: true },
            _ => Self::Code(status),
        }
    }
}

/// A process that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub exit: Exit,
    /// Core time of it and of its descendants that it, or somebody below it, waited for; to the microsecond.
    pub core_time: Duration,
}

/// Whether a program runs.
#[derive(Debug)]
enum Start {
    /// Its first words, or the end of the pipe, are still to come.
    Pending {
        pipe: OwnedFd,
        program: std::ffi::OsString,
    },
    Known(Result<(), StartError>),
}

/// A child of this process.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    start: Start,
    ended: Option<Ended>,
}

impl Child {
    pub(super) fn of(cloned: Cloned, start: Option<(OwnedFd, std::ffi::OsString)>) -> Self {
        let start = start.map_or(Start::Known(Ok(())), |(pipe, program)| Start::Pending { pipe, program });
        Self { pid: cloned.pid, pidfd: cloned.pidfd, start, ended: None }
    }

    /// Its pid. It stays its own until [`Self::try_wait`] has said how it ended.
    #[must_use]
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable when it has ended.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Whether its program was started: none as long as it prepares itself, or is frozen before it could. Never blocks. A
    /// child that was killed before its program started counts as started; how it ended tells.
    pub fn started(&mut self) -> Option<&Result<(), StartError>> {
        if let Start::Pending { pipe, program } = &self.start {
            let mut words = [0u8; 8];
            let known = match rustix::io::read(pipe, &mut words) {
                // The thread that made it holds the pipe a moment longer. Who failed spoke before it ended.
                Err(Errno::AGAIN) if self.ended.is_some() => Ok(()),
                Err(Errno::AGAIN | Errno::INTR) => return None,
                Ok(8) => Err(StartError::read(words, program)),
                // Closed by `execve`, or by death.
                _ => Ok(()),
            };
            self.start = Start::Known(known);
        }
        match &self.start {
            Start::Known(known) => Some(known),
            Start::Pending { .. } => None,
        }
    }

    /// Readable when [`Self::started`] will answer; none if it has.
    #[must_use]
    pub fn start_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.start {
            Start::Pending { pipe, .. } => Some(pipe.as_fd()),
            Start::Known(_) => None,
        }
    }

    /// How it ended, if it has. Never blocks.
    ///
    /// # Errors
    ///
    /// It is not our child, or was waited for by somebody else.
    pub fn try_wait(&mut self) -> std::io::Result<Option<Ended>> {
        self.wait_for(false)
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// As [`Self::try_wait`].
    pub fn wait(&mut self) -> std::io::Result<Ended> {
        self.wait_for(true)?.ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn wait_for(&mut self, block: bool) -> std::io::Result<Option<Ended>> {
        if self.ended.is_none() {
            let waited = raw::wait(self.pidfd.as_fd(), block)?;
            self.ended =
                waited.map(|waited| Ended { exit: Exit::of(waited.code, waited.status), core_time: waited.cpu });
        }
        Ok(self.ended)
    }

    /// Waits for its end, at most this long.
    ///
    /// # Errors
    ///
    /// As [`Self::try_wait`].
    pub fn wait_timeout(&mut self, patience: Duration) -> std::io::Result<Option<Ended>> {
        if self.ended.is_none() {
            let timeout = Timespec::try_from(patience).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.try_wait()
    }

    /// Sends a signal to it alone. A process that has ended is no error.
    ///
    /// # Errors
    ///
    /// No permission: it runs as somebody else.
    pub fn signal(&self, signal: Signal) -> std::io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
