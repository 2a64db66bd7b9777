//! System calls that `rustix` does not have.
//!
//! Between `clone` and `execve` a child of a program with threads may only do what a signal handler may: locks can be held
//! by threads that do not exist in it. So no allocation, no `std`, no lock. `rustix` makes raw system calls without any
//! state, and what is missing there is here.
//!
//! Sources: `clone(2)`, `signal-safety(7)`, `kernel/fork.c`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::process::Pid;

/// A process that was just made.
#[derive(Debug)]
pub(super) struct Cloned {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
}

/// Makes a child with a copy of this process's memory. All signals are blocked in it.
///
/// # Errors
///
/// As `clone`: `EAGAIN` where no more tasks are allowed.
///
/// # Safety
///
/// `child` runs in a copy of a process that may have had threads: it may only do what a signal handler may.
pub(super) unsafe fn clone(child: impl FnOnce() -> std::convert::Infallible) -> Result<Cloned, Errno> {
    // A handler of ours that ran in the child would act on descriptors that it shares with us.
    let before = set_signal_mask(u64::MAX);
    let mut pidfd: RawFd = -1;
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: asks for no shared memory and no stack, which makes this a `fork`. The third argument is where the pidfd goes, on
    // every architecture that Maxwell runs on.
    let made = done(unsafe { libc::syscall(libc::SYS_clone, PIDFD, nothing, &raw mut pidfd, nothing, nothing) });
    if made == Ok(0) {
        child();
    }
    set_signal_mask(before);
    let pid = Pid::from_raw(made?).ok_or(Errno::SRCH)?;
    // SAFETY: the kernel has put a new descriptor there, which is nobody else's.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned { pid, pidfd })
}

const PIDFD: u64 = 0x1000;

/// Closes every descriptor of this process, or of this thread if it has a table of its own, but these, in ascending order.
pub(super) fn close_all_but(kept: &[u32]) {
    let mut from = 0;
    for fd in kept {
        if *fd > from {
            close_range(from, fd - 1);
        }
        from = fd.saturating_add(1);
    }
    close_range(from, u32::MAX);
}

/// Replaces this thread's signal mask. The C library's own function would leave out two signals.
pub(super) fn set_signal_mask(mask: u64) -> u64 {
    let mut before = 0u64;
    // SAFETY: both sets are the kernel's eight bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, &raw mut before, 8) };
    before
}

/// Gives signals their default action, but those that are ignored: `nohup` means it. `SIGPIPE` too, because Rust programs
/// ignore it and no other program expects that.
pub(super) fn reset_signals(handlers_reset: bool) {
    let default = |signal| {
        // SAFETY: sets a default action; the structure is plain data.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = libc::SIG_DFL;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    };
    default(libc::SIGPIPE);
    if handlers_reset {
        return;
    }
    for signal in 1..=64 {
        // SAFETY: only asks.
        let ignored = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
        };
        if !ignored {
            default(signal);
        }
    }
}

/// Our session, as `/proc/PID/stat` shows it to us: 0 if it began outside of our PID namespace, as in many containers. The
/// type of `rustix` has no 0, and it panics.
pub(super) fn session() -> i32 {
    // SAFETY: asks about this process, which cannot fail.
    unsafe { libc::getsid(0) }
}

/// Ends this process at once.
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: runs nothing of the C library.
    unsafe { libc::_exit(code) }
}

/// Closes descriptors from `first` to `last`.
fn close_range(first: u32, last: u32) {
    // SAFETY: the caller is a child that owns none of them; on kernels without the call they stay open.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0u32) };
}

/// Has descriptors from `first` closed by `execve`.
pub(super) fn close_on_exec_from(first: u32) {
    // SAFETY: changes a flag. Kernels before 5.11 refuse; Rust opens everything with this flag anyway.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Makes `target` the same as `source`, and open after `execve`.
pub(super) fn redirect(source: RawFd, target: RawFd) -> Result<(), Errno> {
    // SAFETY: the caller is a child between `clone` and `execve`, where nothing owns `target`.
    done(unsafe { libc::syscall(libc::SYS_dup3, source, target, 0) }).map(drop)
}

/// A descriptor of a child's own table.
pub(super) const fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the caller is a child between `clone` and `execve`, which closes none of the descriptors it was given.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Sends without `SIGPIPE`.
pub(super) fn send(socket: impl AsFd, bytes: &[u8]) -> Result<(), Errno> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the bytes are there during the call.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(last_error()) } else { Ok(()) }
}

/// How a process ended: `si_code` and `si_status` of `waitid(2)`, and the processor time of it and of its descendants that
/// were waited for.
pub(super) struct Waited {
    pub(super) code: i32,
    pub(super) status: i32,
    pub(super) cpu: std::time::Duration,
}

/// Waits for the process, which must be a child of ours; none if `block` is false and it lives.
pub(super) fn wait(pidfd: BorrowedFd<'_>, block: bool) -> Result<Option<Waited>, Errno> {
    let options = libc::WEXITED | libc::__WALL | if block { 0 } else { libc::WNOHANG };
    loop {
        // SAFETY: plain data; zero is a value of both.
        let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
        let id = pidfd.as_raw_fd();
        // SAFETY: both structures are the kernel's and live during the call. The C library's `waitid` has no `rusage`.
        let waited =
            done(unsafe { libc::syscall(libc::SYS_waitid, libc::P_PIDFD, id, &raw mut info, options, &raw mut usage) });
        match waited {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        // SAFETY: `waitid` fills these fields, or leaves them zero if there is nothing to tell.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        return Ok((pid != 0).then(|| Waited {
            code: info.si_code,
            status,
            cpu: span(usage.ru_utime) + span(usage.ru_stime),
        }));
    }
}

fn span(time: libc::timeval) -> std::time::Duration {
    std::time::Duration::from_secs(time.tv_sec.unsigned_abs())
        + std::time::Duration::from_micros(time.tv_usec.unsigned_abs())
}

/// The answer of a system call whose answers fit an `int`.
pub(super) fn done(answer: libc::c_long) -> Result<i32, Errno> {
    if answer < 0 { Err(last_error()) } else { Ok(i32::try_from(answer).unwrap_or(i32::MAX)) }
}

/// The answer of a system call that was made without the C library: an error is negative.
pub(super) fn answer(answer: i64) -> Result<i32, Errno> {
    let answer = i32::try_from(answer).unwrap_or(i32::MAX);
    if answer < 0 { Err(Errno::from_raw_os_error(-answer)) } else { Ok(answer) }
}

/// `errno`, which the C library keeps for each thread; a child has a copy.
pub(super) fn last_error() -> Errno {
    // SAFETY: always a valid pointer.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}
