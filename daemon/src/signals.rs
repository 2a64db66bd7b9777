//! Signals as a queue, with who sent them.
//!
//! A terminal sends Ctrl-C to every process in its foreground group, a `kill` to one. Who passes signals on must tell the two
//! apart, or its child hears the first twice. `signalfd(2)` tells.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// Which.
    pub number: i32,
    /// The kernel sent it: a terminal, to the whole group.
    pub from_terminal: bool,
}

/// Signals that are queued instead of acted on. Children that are started must have their mask reset.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Queues these signals from now on, but those that are ignored: `nohup` means us too, and a blocked signal would come
    /// although it is ignored. To be called before any thread is started: threads inherit what is blocked.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn queue(numbers: &[i32]) -> io::Result<Self> {
        // SAFETY: an all-zero set is a valid one, and is emptied before use.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set is ours and lives until the calls return.
        unsafe {
            libc::sigemptyset(&raw mut set);
            for number in numbers.iter().filter(|number| !is_ignored(**number)) {
                libc::sigaddset(&raw mut set, *number);
            }
        }
        // SAFETY: as above; the old mask is not asked for.
        let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: the set lives until the call returns; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so this descriptor is open and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Waits for the next one.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn next(&self) -> io::Result<Came> {
        /// `struct signalfd_siginfo` (signalfd(2)): the number first, the code third.
        const SIZE: usize = 128;
        let mut info = [0u8; SIZE];
        loop {
            match rustix::io::read(&self.0, &mut info) {
                Ok(SIZE) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let word = |at: usize| i32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
        Ok(Came { number: word(0), from_terminal: word(8) == libc::SI_KERNEL })
    }
}

fn is_ignored(number: i32) -> bool {
    // SAFETY: only asks; an all-zero structure is a valid one to write to.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(number, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}
