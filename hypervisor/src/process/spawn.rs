//! Starting a program in a group, sandboxed.
//!
//! The child is born in its group (`clone3`, `CLONE_INTO_CGROUP`): moving it there later would wait for a grace period of
//! the kernel, some 100 ms now and then. If the group is frozen, the child is born frozen, and does nothing at all before
//! its first slot is paid for. Everything it needs is made before; between `clone` and `execve` it makes system calls only.
//! What fails there comes back through a pipe that `execve` closes. `vfork.rs` tells how it is made.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Uid};

use super::cgroup::Cgroup;
use super::child::Child;
use super::exec::{Image, Nul, Stage, StartError};
use super::raw;
use super::sandbox::{Armed, Prepared, SandboxError};
use super::vfork::{self, Call};

/// Whom a program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its other groups.
    pub groups: Vec<u32>,
}

/// What is started.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The command and its arguments.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it runs; our own directory if none.
    pub directory: Option<PathBuf>,
    /// Whom it runs as; as we do if none.
    pub identity: Option<Identity>,
}

/// Why no process was made.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program is not there.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What the kernel cannot take.
    #[error(transparent)]
    Nul(#[from] Nul),
    /// Not sandboxed as asked.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// Too many descriptors, most likely.
    #[error("cannot make descriptors for a child: {0}")]
    Descriptors(Errno),
    /// A target that is none.
    #[error("a child cannot have descriptor {0}: use 0 to {most}", most = MOST_TARGET)]
    Target(RawFd),
    /// The kernel refuses.
    #[error("cannot make a process: {0}{hint}", hint = if *.0 == Errno::AGAIN { " (too many processes: a limit of the group or of the user)" } else { "" })]
    Clone(Errno),
}

impl SpawnError {
    /// What `env` would exit with.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Start(error) => error.exit_code(),
            _ => 125,
        }
    }
}

/// Descriptors of a child are below this.
const MOST_TARGET: RawFd = 255;

/// How a child comes into its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Born there.
    Born,
    /// Moves there itself, if it has one, before it executes anything; for kernels and containers that refuse `clone3`.
    Moved,
}

/// Starts a program. `streams` says which descriptors it gets under which numbers; of 0, 1 and 2 it has ours if they are not
/// named, and no others.
///
/// # Errors
///
/// [`SpawnError`]; what fails later is in [`Child::started`].
pub fn spawn(
    program: &Program,
    streams: &[(RawFd, BorrowedFd<'_>)],
    sandbox: &Prepared,
    group: Option<&Cgroup>,
) -> Result<Child, SpawnError> {
    match enter(program, streams, sandbox, group, Entry::Born) {
        Err(SpawnError::Clone(Errno::NOSYS | Errno::PERM | Errno::INVAL)) => {
            enter(program, streams, sandbox, group, Entry::Moved)
        }
        made => made,
    }
}

/// As [`spawn`], in one way only.
///
/// # Errors
///
/// As [`spawn`].
pub fn enter(
    program: &Program,
    streams: &[(RawFd, BorrowedFd<'_>)],
    sandbox: &Prepared,
    group: Option<&Cgroup>,
    entry: Entry,
) -> Result<Child, SpawnError> {
    let image = Image::new(&program.argv, &program.environment)?;
    let name = program.argv.first().cloned().unwrap_or_default();
    let directory = program.directory.as_deref().unwrap_or_else(|| Path::new("."));
    image.look(directory).map_err(|errno| StartError { program: name.clone(), stage: Stage::Execute, errno })?;

    if let Some((target, _)) = streams.iter().find(|(target, _)| !(0..=MOST_TARGET).contains(target)) {
        return Err(SpawnError::Target(*target));
    }
    // Above every target, so that no redirection overwrites what is still needed.
    let above = streams.iter().map(|(target, _)| target + 1).max().unwrap_or(0).max(3);
    // What the child has a copy of, and we need no longer when it is made.
    let mut held: Vec<OwnedFd> = Vec::new();
    let mut hold = |fd: BorrowedFd<'_>| {
        let copy = fcntl_dupfd_cloexec(fd, above).map_err(SpawnError::Descriptors)?;
        let number = copy.as_raw_fd();
        held.push(copy);
        Ok::<_, SpawnError>(number)
    };
    let sources =
        streams.iter().map(|(target, source)| Ok((*target, hold(*source)?))).collect::<Result<_, SpawnError>>()?;
    let (start, report) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(SpawnError::Descriptors)?;
    let report = hold(report.as_fd())?;
    let mut joins = group.into_iter().flat_map(Cgroup::joins).map(&mut hold).collect::<Result<Vec<_>, _>>()?;
    let rules = sandbox.descriptor().map(|rules| hold(rules.as_fd())).transpose()?;
    let into = match (group, entry) {
        (Some(group), Entry::Born) => Some(hold(group.folder())?),
        (Some(group), Entry::Moved) => {
            let path = group.path().join("cgroup.procs");
            let opened = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
            joins.push(hold(opened.map_err(SpawnError::Descriptors)?.as_fd())?);
            None
        }
        (None, _) => None,
    };
    let directory = program.directory.as_deref().map(|path| CString::new(path.as_os_str().as_bytes()));
    let newborn = Newborn {
        sources,
        joins,
        identity: program.identity.as_ref().map(Ids::of),
        directory: directory.transpose().map_err(|_| Nul("the working directory"))?,
        sandbox: sandbox.arm(rules),
        image,
        report,
    };
    let kept = held.iter().map(AsRawFd::as_raw_fd).chain([0, 1, 2]).collect();
    let vfork = if entry == Entry::Born { Call::Clone3 { into } } else { Call::Clone };
    // SAFETY: `live` makes system calls with what was made above; it allocates nothing and takes no lock.
    let cloned = unsafe { vfork::vfork(vfork, kept, newborn, Newborn::live) }.map_err(SpawnError::Clone)?;
    Ok(Child::of(cloned, Some((start, name))))
}

/// An identity as the kernel takes it.
struct Ids {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Ids {
    fn of(identity: &Identity) -> Self {
        let groups = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        Self { uid: Uid::from_raw(identity.uid), gid: Gid::from_raw(identity.gid), groups }
    }

    /// The thread's calls, not the C library's: those signal all threads of the process that the child was made by.
    fn assume(&self) -> Result<(), Errno> {
        rustix::thread::set_thread_groups(&self.groups)?;
        rustix::thread::set_thread_res_gid(self.gid, self.gid, self.gid)?;
        rustix::thread::set_thread_res_uid(self.uid, self.uid, self.uid)
    }
}

/// A child between `clone` and `execve`. Descriptors are numbers in its own table.
struct Newborn {
    sources: Vec<(RawFd, RawFd)>,
    joins: Vec<RawFd>,
    identity: Option<Ids>,
    directory: Option<CString>,
    sandbox: Armed,
    image: Image,
    report: RawFd,
}

impl Newborn {
    fn live(&mut self, handlers_reset: bool) -> Infallible {
        raw::reset_signals(handlers_reset);
        let (stage, errno) = match self.prepare() {
            Ok(()) => {
                raw::set_signal_mask(0);
                (Stage::Execute, self.image.execute())
            }
            Err(failed) => failed,
        };
        let _ = rustix::io::write(raw::borrow(self.report), &StartError::words(stage, errno));
        raw::exit(if (stage, errno) == (Stage::Execute, Errno::NOENT) { 127 } else { 126 })
    }

    fn prepare(&self) -> Result<(), (Stage, Errno)> {
        let at = |stage| move |errno| (stage, errno);
        // Groups first: what follows is already metered.
        for join in &self.joins {
            rustix::io::write(raw::borrow(*join), b"0").map_err(at(Stage::Groups))?;
        }
        if self.sandbox.session() {
            rustix::process::setsid().map_err(at(Stage::Session))?;
        }
        raw::close_on_exec_from(3);
        for (target, source) in &self.sources {
            raw::redirect(*source, *target).map_err(at(Stage::Descriptors))?;
        }
        self.sandbox.limit().map_err(at(Stage::Limits))?;
        if let Some(identity) = &self.identity {
            identity.assume().map_err(at(Stage::Identity))?;
        }
        if let Some(directory) = &self.directory {
            rustix::process::chdir(directory.as_c_str()).map_err(at(Stage::Directory))?;
        }
        self.sandbox.confine()
    }
}
