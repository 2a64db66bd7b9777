//! Making a child without copying this process.
//!
//! ```text
//!   caller ──► thread: a table of descriptors of its own, with what the child needs ──clone(VM, VFORK)──► child
//!     ▲            │ sleeps until the child executes or ends                                                │
//!     └── pid ─────┴────────────────── the kernel writes it before the child runs ─────────────────────────┘
//! ```
//!
//! A child that is born frozen stays what it is until its first slot, minutes maybe. If it were a `fork`, it would hold a
//! copy of everything that this process had open: pipes would not end, files would not close. And a copy of its memory: 1
//! GiB takes 45 ms to copy the page tables of, and after it this process faults at every first write. So the child shares
//! our memory, as `posix_spawn` does it, on a stack of its own; and the descriptors of a thread that has few.
//!
//! The thread sleeps in the kernel meanwhile, and what the child uses belongs to the thread. The kernel does not count a
//! `vfork` child's memory against its group, nor choose it when memory runs out (`oom_badness`, `in_vfork`). A change of
//! user clears the shared memory's `dumpable`, so nobody traces the child before it executes (`commit_creds`).
//!
//! Sources: `clone(2)`, glibc's `sysdeps/unix/sysv/linux/spawni.c`.

use std::convert::Infallible;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};

use super::raw::{self, Cloned};

/// Which system call makes the child.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    /// Into this group, if one is given.
    Clone3 {
        /// An open directory.
        into: Option<RawFd>,
    },
    /// For kernels and containers that refuse the other.
    Clone,
}

/// The child's stack; its calls are few and flat.
const STACK: usize = 64 * 1024;
/// Looks for the pid that give the core away, before the first that sleep.
const EAGER_LOOKS: u32 = 16;

/// `CLONE_*` of `linux/sched.h`; those above 32 bits do not fit the types that `libc` gives them.
const VM_VFORK_SETTID: u64 = 0x100 | 0x4000 | 0x0010_0000;
const CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// What the thread and its child share.
struct Job<T> {
    data: T,
    live: fn(&mut T, bool) -> Infallible,
    handlers_reset: bool,
}

/// Makes a child that calls `live(data, whether signal handlers are reset)`, with all signals blocked, and with the
/// descriptors `kept` and no others.
///
/// # Errors
///
/// As `clone3`: `ENOSYS`, `EPERM`, `EINVAL` where it is not there or not allowed; `EAGAIN` where no more tasks are.
///
/// # Safety
///
/// `live` runs in this process's memory, beside its threads: it may only do what a signal handler may, and write only to
/// `data`.
pub(super) unsafe fn vfork<T: Send + 'static>(
    call: Call,
    kept: Vec<RawFd>,
    data: T,
    live: fn(&mut T, bool) -> Infallible,
) -> Result<Cloned, Errno> {
    let pid = Arc::new(AtomicI32::new(0));
    let written = Arc::clone(&pid);
    let mut job = Job { data, live, handlers_reset: matches!(call, Call::Clone3 { .. }) };
    let sleep_until_it_executes = move || {
        own_descriptors(kept)?;
        // A handler of ours that ran in the child would act in its name. This thread ends with its mask.
        raw::set_signal_mask(u64::MAX);
        make(call, &mut job, &written)
    };
    let thread = Builder::new().name("maxwell-spawn".to_owned()).stack_size(STACK).spawn(sleep_until_it_executes);
    let thread = thread.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
    let pid = wait_for(&pid, thread)?;
    // Nobody else waits for our child, so the number is still its own.
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Cloned { pid, pidfd }),
        Err(errno) => {
            // Nobody could hold it without a descriptor: it must not run.
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
            Err(errno)
        }
    }
}

/// Gives this thread a table of descriptors of its own, with these.
fn own_descriptors(kept: Vec<RawFd>) -> Result<(), Errno> {
    let mut kept: Vec<u32> = kept.into_iter().map(RawFd::unsigned_abs).collect();
    kept.sort_unstable();
    // SAFETY: this thread owns nothing in its table, and nobody sees what it closes there.
    raw::done(libc::c_long::from(unsafe { libc::unshare(libc::CLONE_FILES) }))?;
    raw::close_all_but(&kept);
    Ok(())
}

/// Waits until the kernel has written the pid, or the thread knows better.
fn wait_for(pid: &AtomicI32, thread: JoinHandle<Result<(), Errno>>) -> Result<Pid, Errno> {
    let mut looks = 0;
    loop {
        // Asked first: what a thread that has ended wrote is there.
        let ended = thread.is_finished();
        if let Some(pid) = Pid::from_raw(pid.load(Ordering::Acquire)) {
            return Ok(pid);
        }
        if ended {
            return Err(thread.join().unwrap_or(Err(Errno::FAULT)).err().unwrap_or(Errno::SRCH));
        }
        looks += 1;
        if looks < EAGER_LOOKS { std::thread::yield_now() } else { std::thread::sleep(Duration::from_micros(10)) }
    }
}

/// Makes the child, and returns when it has executed or ended.
fn make<T>(call: Call, job: &mut Job<T>, pid: &AtomicI32) -> Result<(), Errno> {
    let mut stack: Vec<MaybeUninit<u8>> = vec![MaybeUninit::uninit(); STACK];
    let (entry, job): (Entry, *mut c_void) = (enter::<T>, std::ptr::from_mut(job).cast());
    let made = match call {
        Call::Clone3 { into } => {
            let mut arguments = Arguments {
                flags: VM_VFORK_SETTID | CLEAR_SIGHAND | into.map_or(0, |_| INTO_CGROUP),
                parent_tid: pid.as_ptr() as u64,
                exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
                // Both ends on a multiple of 16, which functions expect.
                stack: (stack.as_mut_ptr() as u64).next_multiple_of(16),
                stack_size: (STACK - 32) as u64,
                cgroup: into.map_or(0, |fd| u64::from(fd.unsigned_abs())),
                ..Arguments::default()
            };
            // SAFETY: the child runs `enter` on the new stack, with a job that lives as long as this thread sleeps here.
            raw::answer(unsafe { clone3(&raw mut arguments, entry, job) })
        }
        Call::Clone => {
            let flags = c_int::try_from(VM_VFORK_SETTID).unwrap_or(0) | libc::SIGCHLD;
            // SAFETY: within the stack; the C library aligns it.
            let top = unsafe { stack.as_mut_ptr().add(STACK) };
            // SAFETY: as above.
            raw::done(libc::c_long::from(unsafe { libc::clone(entry, top.cast(), flags, job, pid.as_ptr()) }))
        }
    };
    made.map(drop)
}

type Entry = extern "C" fn(*mut c_void) -> c_int;

/// The first function of a child.
#[expect(unreachable_code, reason = "the C library wants a function that could return")]
extern "C" fn enter<T>(job: *mut c_void) -> c_int {
    // SAFETY: `make` gave a job of this type, and sleeps, so that nobody else uses it.
    let job = unsafe { &mut *job.cast::<Job<T>>() };
    match (job.live)(&mut job.data, job.handlers_reset) {}
}

/// `struct clone_args` of Linux 5.7.
#[repr(C, align(8))]
#[derive(Default)]
struct Arguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `clone3` with a function for the child, which the C library has only for its own use. A function that returned twice, as
/// the bare system call does, would find its frame overwritten by its child.
///
/// # Safety
///
/// The arguments give a stack. `entry` never returns, and `job` is what it takes.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(arguments: *mut Arguments, entry: Entry, job: *mut c_void) -> i64 {
    let answer;
    // SAFETY: the system call overwrites rax, rcx and r11 only. The child never leaves the block.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inout("rax") libc::SYS_clone3 => answer,
            in("rdi") arguments,
            in("rsi") size_of::<Arguments>(),
            in("r12") job,
            in("r13") entry,
            out("rcx") _,
            out("r11") _,
        );
    }
    answer
}

#[cfg(target_arch = "aarch64")]
unsafe fn clone3(arguments: *mut Arguments, entry: Entry, job: *mut c_void) -> i64 {
    let answer;
    // SAFETY: the system call overwrites x0 only. The child never leaves the block.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            inout("x0") arguments => answer,
            in("x1") size_of::<Arguments>(),
            in("x8") libc::SYS_clone3,
            in("x20") job,
            in("x21") entry,
        );
    }
    answer
}

/// Elsewhere children move into their groups themselves.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone3(_: *mut Arguments, _: Entry, _: *mut c_void) -> i64 {
    -i64::from(libc::ENOSYS)
}
