//! The keeper: a small process that ends what a Maxwell ran when that Maxwell is killed.
//!
//! ```text
//!   Maxwell ──clone──► keeper: waits for the pipe, and for the end of Maxwell's process
//!      │ one byte: all is well ──────► exits
//!      ╳ killed: the pipe ends, or the process does ──► cleans up what remains, exits
//! ```
//!
//! `kill -9` and the out-of-memory killer leave no time to clean up, and agents that stand still would stay for ever. A
//! library cannot count on a second program, so the keeper is a bare `clone` of this one: it executes nothing, allocates
//! nothing, takes no lock, and keeps only the descriptors it needs. It has a session of its own and blocks all signals, so
//! that Ctrl-C does not end it. Any process that Maxwell is making just then has a copy of the pipe, so the pipe alone may not
//! tell; the pidfd of Maxwell does.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use super::child::Child;
use super::raw;

/// What remains of a Maxwell that was killed, and how it is cleaned up.
pub(super) trait Remains {
    /// The descriptors that this takes: at most [`MOST_DESCRIPTORS`].
    fn descriptors(&self) -> impl Iterator<Item = RawFd>;

    /// Cleans up, in bounded time. Allocates nothing and takes no lock.
    fn clean_up(&self);
}

/// What a keeper may keep open for cleaning up.
const MOST_DESCRIPTORS: usize = 14;

/// A running keeper. Dropping dismisses it.
#[derive(Debug)]
pub struct Keeper {
    pipe: UnixStream,
    child: Child,
    dismissed: bool,
}

impl Keeper {
    pub(super) fn start(remains: &impl Remains) -> Result<Self, Errno> {
        // A pair of sockets, because a write to it can do without SIGPIPE.
        let (pipe, reader) =
            UnixStream::pair().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::MFILE))?;
        let watch = Watch { pipe: reader.into(), owner: pidfd_open(getpid(), PidfdFlags::empty()).ok() };
        // SAFETY: `keep` runs in the child. It touches only what was made before, allocates nothing, takes no lock, and never
        // returns.
        let child = unsafe { raw::clone(|| keep(&watch, remains)) }?;
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

/// What tells that Maxwell is dead.
struct Watch {
    pipe: OwnedFd,
    /// None on kernels without them.
    owner: Option<OwnedFd>,
}

/// The keeper's life.
fn keep(watch: &Watch, remains: &impl Remains) -> ! {
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"maxwell-keeper");
    let _ = rustix::process::chdir(c"/");
    close_all_but(watch, remains);
    if watch.waits_for_the_end() {
        remains.clean_up();
    }
    raw::exit(0)
}

/// Closes every descriptor that is not needed; standard streams too, so that whoever reads Maxwell's output sees its end.
fn close_all_but(watch: &Watch, remains: &impl Remains) {
    let mut kept = [u32::MAX; MOST_DESCRIPTORS + 2];
    let ours = [&watch.pipe].into_iter().chain(&watch.owner).map(AsRawFd::as_raw_fd);
    for (place, fd) in kept.iter_mut().zip(ours.chain(remains.descriptors())) {
        *place = fd.unsigned_abs();
    }
    kept.sort_unstable();
    let used = kept.iter().position(|fd| *fd == u32::MAX).unwrap_or(kept.len());
    raw::close_all_but(kept.get(..used).unwrap_or_default());
}

impl Watch {
    /// Whether Maxwell is dead; false if all is well.
    fn waits_for_the_end(&self) -> bool {
        loop {
            let owner = self.owner.as_ref().unwrap_or(&self.pipe);
            let mut wanted = [PollFd::new(&self.pipe, PollFlags::IN), PollFd::new(owner, PollFlags::IN)];
            let answered = poll(&mut wanted, None);
            let [pipe, owner] = wanted.map(|fd| !fd.revents().is_empty());
            match answered {
                Ok(_) if pipe => {
                    let mut byte = [0u8; 1];
                    return !matches!(rustix::io::read(&self.pipe, &mut byte), Ok(1));
                }
                Ok(_) if owner => return true,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return true,
            }
        }
    }
}
