//! Things that a sandbox refuses. Each gives 0 or an error number. Where the real thing would hurt the machine, the
//! arguments are such that the kernel refuses them, with another error than a sandbox does.

use std::io;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// Tries it; 0 or why not. Names are those of the sandbox's words.
pub(super) fn attempt(name: &str, argument: &str) -> i32 {
    let outcome = match name {
        "write" => std::fs::write(argument, "x"),
        "append" => append(argument),
        "make-directory" => std::fs::create_dir(argument),
        "remove" => std::fs::remove_file(argument),
        "read" => std::fs::read(argument).map(drop),
        "signal" => kill(argument.parse().unwrap_or(0)),
        "abstract" => {
            SocketAddr::from_abstract_name(argument).and_then(|address| UnixStream::connect_addr(&address)).map(drop)
        }
        "listen-abstract" => {
            SocketAddr::from_abstract_name(argument).and_then(|address| UnixListener::bind_addr(&address)).map(drop)
        }
        "thread" => std::thread::Builder::new().spawn(|| ()).map(|thread| thread.join().unwrap_or(())),
        "raise-nofile" => raise_descriptors(),
        other => return call(other),
    };
    outcome.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |()| 0)
}

fn append(path: &str) -> io::Result<()> {
    use std::io::Write;
    std::fs::File::options().append(true).open(path)?.write_all(b"x")
}

fn kill(pid: i32) -> io::Result<()> {
    // SAFETY: signal 0 only asks.
    if unsafe { libc::kill(pid, 0) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn raise_descriptors() -> io::Result<()> {
    let most = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
    // SAFETY: the structure lives during the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const most) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A system call, with arguments that a kernel without a sandbox refuses in its own way, or that do no harm.
fn call(name: &str) -> i32 {
    let bad = -1i64;
    let nothing = std::ptr::null::<u8>();
    let terminal = io::stdin().as_raw_fd();
    // SAFETY: null pointers and descriptors that are none are refused by the kernel; the namespaces that are made are this
    // process's own.
    let answer = unsafe {
        match name {
            "mount" => libc::syscall(libc::SYS_mount, nothing, nothing, nothing, bad, nothing),
            "umount" => libc::syscall(libc::SYS_umount2, nothing, 0),
            "pivot_root" => libc::syscall(libc::SYS_pivot_root, nothing, nothing),
            "chroot" => libc::syscall(libc::SYS_chroot, nothing),
            "open_tree" => libc::syscall(libc::SYS_open_tree, bad, nothing, 0),
            "fsopen" => libc::syscall(libc::SYS_fsopen, nothing, 0),
            "swapon" => libc::syscall(libc::SYS_swapon, nothing, 0),
            "reboot" => libc::syscall(libc::SYS_reboot, 0, 0, 0, nothing),
            "kexec_load" => libc::syscall(libc::SYS_kexec_load, 0, bad, nothing, bad),
            "init_module" => libc::syscall(libc::SYS_init_module, nothing, 0, nothing),
            "bpf" => libc::syscall(libc::SYS_bpf, 9999, nothing, 0),
            "perf_event_open" => libc::syscall(libc::SYS_perf_event_open, nothing, 0, 0, bad, 0),
            "ptrace" => libc::ptrace(libc::PTRACE_TRACEME),
            "process_vm" => libc::syscall(libc::SYS_process_vm_readv, libc::getppid(), nothing, 0, nothing, 0, 0),
            "pidfd_getfd" => libc::syscall(libc::SYS_pidfd_getfd, bad, bad, 0),
            "keyctl" => libc::syscall(libc::SYS_keyctl, 0, -3, 0),
            "userfaultfd" => libc::syscall(libc::SYS_userfaultfd, 0),
            "io_uring" => libc::syscall(libc::SYS_io_uring_setup, 0, nothing),
            "setns" => libc::syscall(libc::SYS_setns, bad, 0),
            "namespaces" => libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUTS),
            "clone-namespace" => child(libc::syscall(libc::SYS_clone, libc::CLONE_NEWUTS | libc::SIGCHLD, 0, 0, 0, 0)),
            "clone3" => libc::syscall(libc::SYS_clone3, nothing, 0),
            "open_by_handle_at" => libc::syscall(libc::SYS_open_by_handle_at, bad, nothing, 0),
            "settimeofday" => libc::syscall(libc::SYS_clock_settime, 0, nothing),
            "acct" => libc::syscall(libc::SYS_acct, 1),
            "quotactl" => libc::syscall(libc::SYS_quotactl, bad, nothing, 0, nothing),
            "sethostname" => libc::syscall(libc::SYS_sethostname, nothing, bad),
            "realtime" => {
                let priority = 1i32;
                libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_FIFO, &raw const priority)
            }
            "nice" => libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, -5),
            "terminal" => i64::from(libc::ioctl(terminal, libc::TIOCSTI, nothing)),
            // The upper half of a request is not looked at by the kernel, so it must not get past a filter.
            "terminal-wide" => libc::syscall(libc::SYS_ioctl, terminal, 0xdead_0000_0000u64 | libc::TIOCSTI, nothing),
            "vsock" => libc::syscall(libc::SYS_socket, libc::AF_VSOCK, libc::SOCK_STREAM, 0),
            #[cfg(target_arch = "x86_64")]
            "iopl" => libc::syscall(libc::SYS_iopl, 0),
            #[cfg(target_arch = "x86_64")]
            "x32" => libc::syscall(0x4000_0000 + libc::SYS_getpid),
            #[cfg(target_arch = "x86_64")]
            "32-bit" => return thirty_two_bit(),
            other => panic!("no attempt `{other}`"),
        }
    };
    if answer < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 }
}

/// Ends the child that a `clone` made.
fn child(answer: i64) -> i64 {
    if answer == 0 {
        // SAFETY: a child.
        unsafe { libc::_exit(0) }
    }
    answer
}

/// `getpid` by the way of 32-bit programs.
#[cfg(target_arch = "x86_64")]
fn thirty_two_bit() -> i32 {
    let mut answer: i64 = 20;
    // SAFETY: `int 0x80` with the number of `getpid`; changes `rax` and what a system call may.
    unsafe { std::arch::asm!("int 0x80", inout("rax") answer, out("r8") _, out("r9") _, out("r10") _, out("r11") _) };
    let answer = answer as i32;
    if answer < 0 { -answer } else { 0 }
}
