//! Starting a program in a group, sandboxed.
//!
//! The child is born in its group (`clone3`, `CLONE_INTO_CGROUP`): moving it there later would wait for a grace period of
//! the kernel, some 100 ms now and then. If the group is frozen, the child is born frozen, and does nothing at all before
//! its first slot is paid for. Everything it needs is made before; between `clone` and `execve` it makes system calls only.
//! What fails there comes back through a pipe that `execve` closes.
//!
//! A child has copies of all descriptors of whoever made it until it executes, and a frozen one does not for as long as it
//! is frozen: pipes would not end, files would not be closed, locks not be freed. So children for groups are made by a
//! thread that has a table of descriptors of its own, with nothing in it but what the child needs.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Uid};

use super::cgroup::Cgroup;
use super::child::Child;
use super::exec::{Image, Nul, Stage, StartError};
use super::raw::{self, Birth};
use super::sandbox::{Prepared, SandboxError};

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
    /// Moves there itself before it executes anything; for kernels and containers that refuse `clone3`.
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
        Err(SpawnError::Clone(Errno::NOSYS | Errno::PERM | Errno::INVAL)) if group.is_some() => {
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
    let mut image = Image::new(&program.argv, &program.environment)?;
    let name = program.argv.first().cloned().unwrap_or_default();
    let directory = program.directory.as_deref().unwrap_or_else(|| Path::new("."));
    image.look(directory).map_err(|errno| StartError { program: name.clone(), stage: Stage::Execute, errno })?;

    let descriptors = |errno| SpawnError::Descriptors(errno);
    if let Some((target, _)) = streams.iter().find(|(target, _)| !(0..=MOST_TARGET).contains(target)) {
        return Err(SpawnError::Target(*target));
    }
    // Above every target, so that no redirection overwrites what is still needed.
    let above = streams.iter().map(|(target, _)| target + 1).max().unwrap_or(0).max(3);
    let sources = streams.iter().map(|(target, source)| Ok((*target, fcntl_dupfd_cloexec(source, above)?)));
    let sources = sources.collect::<Result<Vec<_>, _>>().map_err(descriptors)?;
    let (start, report) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(descriptors)?;
    let report = fcntl_dupfd_cloexec(&report, above).map_err(descriptors)?;
    let mut joins: Vec<OwnedFd> = Vec::new();
    for join in group.into_iter().flat_map(Cgroup::joins) {
        joins.push(fcntl_dupfd_cloexec(join, above).map_err(descriptors)?);
    }
    let into = match (group, entry) {
        (Some(group), Entry::Born) => Some(group.folder()),
        (Some(group), Entry::Moved) => {
            let path = group.path().join("cgroup.procs");
            let opened = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(descriptors)?;
            joins.push(opened);
            None
        }
        (None, _) => None,
    };
    let groups = program.identity.iter().flat_map(|identity| &identity.groups).map(|gid| Gid::from_raw(*gid)).collect();
    let directory = program.directory.as_deref().map(|path| {
        use std::os::unix::ffi::OsStrExt;
        std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|_| Nul("the working directory"))
    });
    let mut birth = Newborn {
        program,
        sources,
        joins,
        groups,
        directory: directory.transpose()?,
        sandbox: sandbox.above(above).map_err(descriptors)?,
        image: &mut image,
        report: report.as_fd(),
    };
    let kept = birth.descriptors(into);
    // SAFETY: `live` makes system calls with what was made above; it allocates nothing and takes no lock.
    let mut make = || unsafe { raw::clone(into, libc::SIGCHLD, |how| birth.live(how)) };
    // Without a group it cannot be frozen, and closes the descriptors in a moment by executing.
    let cloned = if group.is_some() { raw::with_descriptors(&kept, make) } else { make() };
    Ok(Child::of(cloned.map_err(SpawnError::Clone)?, Some((start, name))))
}

/// A child between `clone` and `execve`.
struct Newborn<'a> {
    program: &'a Program,
    sources: Vec<(RawFd, OwnedFd)>,
    joins: Vec<OwnedFd>,
    groups: Vec<Gid>,
    directory: Option<std::ffi::CString>,
    sandbox: super::sandbox::Armed<'a>,
    image: &'a mut Image,
    report: BorrowedFd<'a>,
}

impl Newborn<'_> {
    /// What it needs, besides the standard streams.
    fn descriptors(&self, into: Option<BorrowedFd<'_>>) -> Vec<RawFd> {
        let sources = self.sources.iter().map(|(_, source)| source);
        let owned = sources.chain(&self.joins).chain(self.sandbox.descriptor()).map(AsRawFd::as_raw_fd);
        owned.chain([0, 1, 2, self.report.as_raw_fd()]).chain(into.map(|group| group.as_raw_fd())).collect()
    }

    fn live(&mut self, how: Birth) -> Infallible {
        raw::reset_signals(how);
        let (stage, errno) = match self.prepare() {
            Ok(()) => {
                raw::set_signal_mask(0);
                (Stage::Execute, self.image.execute())
            }
            Err(failed) => failed,
        };
        let _ = rustix::io::write(self.report, &StartError::words(stage, errno));
        raw::exit(if (stage, errno) == (Stage::Execute, Errno::NOENT) { 127 } else { 126 })
    }

    fn prepare(&self) -> Result<(), (Stage, Errno)> {
        let at = |stage| move |errno| (stage, errno);
        // A group moves first: what follows is already metered.
        for join in &self.joins {
            rustix::io::write(join, b"0").map_err(at(Stage::Groups))?;
        }
        if self.sandbox.session() {
            rustix::process::setsid().map_err(at(Stage::Session))?;
        }
        raw::close_on_exec_from(3);
        for (target, source) in &self.sources {
            raw::redirect(source.as_fd(), *target).map_err(at(Stage::Descriptors))?;
        }
        self.sandbox.limit().map_err(at(Stage::Limits))?;
        if let Some(identity) = &self.program.identity {
            self.become_somebody(identity).map_err(at(Stage::Identity))?;
        }
        if let Some(directory) = &self.directory {
            rustix::process::chdir(directory.as_c_str()).map_err(at(Stage::Directory))?;
        }
        self.sandbox.confine()
    }

    /// The thread's calls, not the C library's: those signal all threads of the process that we are a copy of.
    fn become_somebody(&self, identity: &Identity) -> Result<(), Errno> {
        let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        rustix::thread::set_thread_groups(&self.groups)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    }
}
