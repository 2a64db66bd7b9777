//! What a system call is about.
//!
//! A rough sorting for people who look at what an agent does: by what it acts on, not by how. Calls that are not named
//! here, and numbers that the kernel does not know, are [`Class::Other`].

/// The class of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Files, folders, and reading and writing through any descriptor.
    Files,
    /// Mappings.
    Memory,
    /// Processes, threads, their rights and signals.
    Process,
    /// Sockets.
    Network,
    /// Clocks, timers, sleep.
    Time,
    /// Pipes, futexes, events, queues, waiting for descriptors.
    Ipc,
    /// Everything else.
    Other,
}

impl Class {
    /// All, in the order of the kernel's counters.
    pub const ALL: [Self; 7] =
        [Self::Files, Self::Memory, Self::Process, Self::Network, Self::Time, Self::Ipc, Self::Other];

    /// The word for it in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Memory => "memory",
            Self::Process => "process",
            Self::Network => "network",
            Self::Time => "time",
            Self::Ipc => "ipc",
            Self::Other => "other",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// Entries of the table; `NUMBERS` of `bpf/syscall.bpf.c`. The last stands for every number beyond.
pub(crate) const NUMBERS: usize = 512;

/// The class of every system call of this processor.
pub(crate) fn table() -> [Class; NUMBERS] {
    let mut table = [Class::Other; NUMBERS];
    let lists = [(Class::Files, FILES), (Class::Memory, MEMORY), (Class::Process, PROCESS), (Class::Network, NETWORK)];
    let rest = [(Class::Time, TIME), (Class::Ipc, IPC), (Class::Files, OLD_FILES), (Class::Process, OLD_PROCESS)];
    for (class, numbers) in lists.into_iter().chain(rest).chain([(Class::Ipc, OLD_IPC), (Class::Time, OLD_TIME)]) {
        for &number in numbers {
            if let Some(entry) = usize::try_from(number).ok().and_then(|number| table.get_mut(number)) {
                *entry = class;
            }
        }
    }
    table
}

macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

const FILES: &[libc::c_long] = calls!(
    SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev SYS_preadv2 SYS_pwritev2
    SYS_openat SYS_openat2 SYS_close SYS_close_range SYS_lseek SYS_fstat SYS_newfstatat SYS_statx SYS_statfs SYS_fstatfs
    SYS_faccessat SYS_faccessat2 SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_ftruncate SYS_truncate
    SYS_fallocate SYS_fsync SYS_fdatasync SYS_sync SYS_syncfs SYS_getdents64 SYS_getcwd SYS_chdir
    SYS_fchdir SYS_chroot SYS_pivot_root SYS_mkdirat SYS_mknodat SYS_unlinkat SYS_renameat2 SYS_linkat SYS_symlinkat
    SYS_readlinkat SYS_utimensat SYS_umask SYS_fcntl SYS_flock SYS_ioctl SYS_dup SYS_dup3 SYS_sendfile SYS_splice SYS_tee
    SYS_vmsplice SYS_copy_file_range SYS_readahead SYS_fadvise64 SYS_setxattr SYS_lsetxattr SYS_fsetxattr SYS_getxattr
    SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr SYS_removexattr SYS_lremovexattr
    SYS_fremovexattr SYS_mount SYS_umount2 SYS_open_tree SYS_move_mount SYS_fsopen SYS_fsconfig SYS_fsmount SYS_fspick
    SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch SYS_fanotify_init SYS_fanotify_mark SYS_memfd_create
    SYS_io_setup SYS_io_destroy SYS_io_submit SYS_io_cancel SYS_io_getevents SYS_io_uring_setup SYS_io_uring_enter
    SYS_io_uring_register SYS_name_to_handle_at SYS_open_by_handle_at
);

const MEMORY: &[libc::c_long] = calls!(
    SYS_mmap SYS_munmap SYS_mremap SYS_mprotect SYS_madvise SYS_brk SYS_msync SYS_mlock SYS_mlock2 SYS_munlock
    SYS_mlockall SYS_munlockall SYS_mincore SYS_remap_file_pages SYS_process_madvise SYS_process_vm_readv
    SYS_process_vm_writev SYS_mbind SYS_set_mempolicy SYS_get_mempolicy SYS_migrate_pages SYS_move_pages SYS_pkey_alloc
    SYS_pkey_free SYS_pkey_mprotect SYS_userfaultfd SYS_membarrier SYS_memfd_secret SYS_process_mrelease
);

const PROCESS: &[libc::c_long] = calls!(
    SYS_clone SYS_clone3 SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_wait4 SYS_waitid SYS_kill SYS_tkill SYS_tgkill
    SYS_pidfd_open SYS_pidfd_send_signal SYS_pidfd_getfd SYS_getpid SYS_getppid SYS_gettid SYS_getuid SYS_geteuid SYS_getgid
    SYS_getegid SYS_setuid SYS_setgid SYS_setreuid SYS_setregid SYS_setresuid SYS_getresuid SYS_setresgid SYS_getresgid
    SYS_setfsuid SYS_setfsgid SYS_getgroups SYS_setgroups SYS_setpgid SYS_getpgid SYS_getsid SYS_setsid SYS_capget
    SYS_capset SYS_prctl SYS_ptrace SYS_seccomp SYS_setns SYS_unshare SYS_prlimit64
    SYS_getrusage SYS_getpriority SYS_setpriority SYS_ioprio_get SYS_ioprio_set SYS_sched_yield SYS_sched_setaffinity
    SYS_sched_getaffinity SYS_sched_setscheduler SYS_sched_getscheduler SYS_sched_setparam SYS_sched_getparam
    SYS_sched_setattr SYS_sched_getattr SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_rt_sigaction
    SYS_rt_sigprocmask SYS_rt_sigpending SYS_rt_sigtimedwait SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo SYS_rt_sigsuspend
    SYS_rt_sigreturn SYS_sigaltstack SYS_set_tid_address SYS_set_robust_list SYS_get_robust_list SYS_rseq
    SYS_landlock_create_ruleset SYS_landlock_add_rule SYS_landlock_restrict_self SYS_kcmp
);

const NETWORK: &[libc::c_long] = calls!(
    SYS_socket SYS_socketpair SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_connect SYS_getsockname SYS_getpeername
    SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_sendmmsg SYS_recvmmsg SYS_setsockopt SYS_getsockopt SYS_shutdown
);

const TIME: &[libc::c_long] = calls!(
    SYS_clock_gettime SYS_clock_settime SYS_clock_getres SYS_clock_nanosleep SYS_clock_adjtime SYS_nanosleep
    SYS_gettimeofday SYS_settimeofday SYS_adjtimex SYS_getitimer SYS_setitimer SYS_timer_create SYS_timer_settime
    SYS_timer_gettime SYS_timer_getoverrun SYS_timer_delete SYS_timerfd_create SYS_timerfd_settime SYS_timerfd_gettime
    SYS_times
);

const IPC: &[libc::c_long] = calls!(
    SYS_pipe2 SYS_futex SYS_futex_waitv SYS_eventfd2 SYS_signalfd4 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait
    SYS_epoll_pwait2 SYS_ppoll SYS_pselect6 SYS_shmget SYS_shmat SYS_shmdt SYS_shmctl SYS_semget SYS_semop SYS_semtimedop
    SYS_semctl SYS_msgget SYS_msgsnd SYS_msgrcv SYS_msgctl SYS_mq_open SYS_mq_unlink SYS_mq_timedsend SYS_mq_timedreceive
    SYS_mq_notify SYS_mq_getsetattr
);

// Calls that only x86 still has, since newer processors came after their successors, or that `libc` names only there.
#[cfg(target_arch = "x86_64")]
const OLD_FILES: &[libc::c_long] = calls!(
    SYS_open SYS_creat SYS_stat SYS_lstat SYS_access SYS_getdents SYS_mkdir SYS_rmdir SYS_unlink SYS_rename SYS_renameat
    SYS_link SYS_symlink SYS_readlink SYS_chmod SYS_chown SYS_lchown SYS_mknod SYS_utime SYS_utimes SYS_futimesat SYS_dup2
    SYS_inotify_init SYS_sync_file_range
);
#[cfg(target_arch = "x86_64")]
const OLD_PROCESS: &[libc::c_long] =
    calls!(SYS_fork SYS_vfork SYS_getpgrp SYS_arch_prctl SYS_pause SYS_getrlimit SYS_setrlimit);
#[cfg(target_arch = "x86_64")]
const OLD_IPC: &[libc::c_long] =
    calls!(SYS_pipe SYS_poll SYS_select SYS_epoll_create SYS_epoll_wait SYS_eventfd SYS_signalfd);
#[cfg(target_arch = "x86_64")]
const OLD_TIME: &[libc::c_long] = calls!(SYS_time SYS_alarm);

#[cfg(not(target_arch = "x86_64"))]
const OLD_FILES: &[libc::c_long] = &[];
#[cfg(not(target_arch = "x86_64"))]
const OLD_PROCESS: &[libc::c_long] = &[];
#[cfg(not(target_arch = "x86_64"))]
const OLD_IPC: &[libc::c_long] = &[];
#[cfg(not(target_arch = "x86_64"))]
const OLD_TIME: &[libc::c_long] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_in_two_classes() {
        let lists = [FILES, MEMORY, PROCESS, NETWORK, TIME, IPC, OLD_FILES, OLD_PROCESS, OLD_IPC, OLD_TIME];
        let mut all: Vec<_> = lists.concat();
        let listed = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), listed);
        assert!(all.iter().all(|&number| usize::try_from(number).is_ok_and(|number| number < NUMBERS - 1)));
    }

    #[test]
    fn numbers_beyond_the_table_are_other() {
        assert_eq!(table()[NUMBERS - 1], Class::Other);
        assert_eq!(table()[usize::try_from(libc::SYS_munmap).unwrap()], Class::Memory);
    }

    #[test]
    fn a_class_is_its_place_among_all() {
        assert!(Class::ALL.iter().enumerate().all(|(index, class)| class.index() == index));
    }
}
