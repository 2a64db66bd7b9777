//! System calls that a sandboxed process may not make.
//!
//! A list of what is refused, like those of container engines (the default profiles of Docker and Podman name the same
//! calls), not of what is allowed: ordinary programs must run without a profile of their own. What is refused gives
//! `EPERM`, which programs handle, instead of death, which looks like a bug. Other architectures' calls (32-bit, x32) are
//! refused altogether, or they would be a way around. `clone3` gives `ENOSYS`, because a filter cannot look at its flags;
//! the C library then uses `clone`, where it can.

use std::collections::{BTreeMap, BTreeSet};

use libc::{c_long, c_ulong};
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, Ge, MaskedEq};
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, sock_filter};

use super::SandboxError;

/// When a call is refused: always, or if one of these holds for an argument.
type When = &'static [(u8, SeccompCmpOp, u64)];

/// A call, under the name by which it can be allowed.
struct Refused {
    name: &'static str,
    number: c_long,
    when: When,
}

const fn always(name: &'static str, number: c_long) -> Refused {
    Refused { name, number, when: &[] }
}

const fn if_any(name: &'static str, number: c_long, when: When) -> Refused {
    Refused { name, number, when }
}

/// `CLONE_NEW*` but the time namespace, whose bit is a signal's in `clone`.
macro_rules! namespaces {
    ($argument:expr $(, $more:expr)*) => {
        &[
            ($argument, MaskedEq(0x0002_0000), 0x0002_0000),
            ($argument, MaskedEq(0x0200_0000), 0x0200_0000),
            ($argument, MaskedEq(0x0400_0000), 0x0400_0000),
            ($argument, MaskedEq(0x0800_0000), 0x0800_0000),
            ($argument, MaskedEq(0x1000_0000), 0x1000_0000),
            ($argument, MaskedEq(0x2000_0000), 0x2000_0000),
            ($argument, MaskedEq(0x4000_0000), 0x4000_0000),
            $($more),*
        ]
    };
}

/// Policies that would starve the market's own threads: `SCHED_FIFO`, `RR`, `DEADLINE`, `EXT`, with or without the bit that
/// resets them on fork.
const REALTIME: When =
    &[(1, MaskedEq(0xff), 1), (1, MaskedEq(0xff), 2), (1, MaskedEq(0xff), 6), (1, MaskedEq(0xff), 7)];

/// `ioctl`s that type into a terminal (`TIOCSTI`), or drive the console (`TIOCLINUX`): ways out of the cell into the shell
/// that started it. `TIOCSETD` loads line disciplines.
const TERMINAL: When = &[(1, Eq, 0x5412), (1, Eq, 0x541c), (1, Eq, 0x5423)];

/// System calls that `libc` does not name on every architecture; numbers above 424 are the same on all.
const OPEN_TREE_ATTR: c_long = 467;

const REFUSED: &[Refused] = &[
    // The kernel itself.
    always("init_module", libc::SYS_init_module),
    always("finit_module", libc::SYS_finit_module),
    always("delete_module", libc::SYS_delete_module),
    always("kexec_load", libc::SYS_kexec_load),
    always("kexec_file_load", 320 + KEXEC_FILE),
    always("reboot", libc::SYS_reboot),
    always("bpf", libc::SYS_bpf),
    always("perf_event_open", libc::SYS_perf_event_open),
    always("syslog", libc::SYS_syslog),
    always("acct", libc::SYS_acct),
    always("userfaultfd", libc::SYS_userfaultfd),
    always("fanotify_init", libc::SYS_fanotify_init),
    always("lookup_dcookie", libc::SYS_lookup_dcookie),
    // Its calls would not pass this filter.
    always("io_uring", libc::SYS_io_uring_setup),
    always("io_uring", libc::SYS_io_uring_enter),
    always("io_uring", libc::SYS_io_uring_register),
    // The file system's shape.
    always("mount", libc::SYS_mount),
    always("umount", libc::SYS_umount2),
    always("pivot_root", libc::SYS_pivot_root),
    always("chroot", libc::SYS_chroot),
    always("move_mount", libc::SYS_move_mount),
    always("open_tree", libc::SYS_open_tree),
    always("open_tree", OPEN_TREE_ATTR),
    always("fsopen", libc::SYS_fsopen),
    always("fsconfig", libc::SYS_fsconfig),
    always("fsmount", libc::SYS_fsmount),
    always("fspick", libc::SYS_fspick),
    always("mount_setattr", libc::SYS_mount_setattr),
    always("swapon", libc::SYS_swapon),
    always("swapoff", libc::SYS_swapoff),
    always("quotactl", libc::SYS_quotactl),
    always("quotactl", libc::SYS_quotactl_fd),
    always("open_by_handle_at", libc::SYS_open_by_handle_at),
    always("nfsservctl", libc::SYS_nfsservctl),
    // Other processes.
    always("ptrace", libc::SYS_ptrace),
    always("process_vm", libc::SYS_process_vm_readv),
    always("process_vm", libc::SYS_process_vm_writev),
    always("process_madvise", libc::SYS_process_madvise),
    always("pidfd_getfd", libc::SYS_pidfd_getfd),
    always("kcmp", libc::SYS_kcmp),
    always("move_pages", libc::SYS_move_pages),
    always("migrate_pages", libc::SYS_migrate_pages),
    // Keys belong to users, not to cells.
    always("keyctl", libc::SYS_keyctl),
    always("keyctl", libc::SYS_add_key),
    always("keyctl", libc::SYS_request_key),
    // Namespaces.
    always("setns", libc::SYS_setns),
    if_any("namespaces", libc::SYS_unshare, namespaces!(0, (0, MaskedEq(0x80), 0x80))),
    if_any("namespaces", libc::SYS_clone, namespaces!(0)),
    // Names and clocks of the machine.
    always("sethostname", libc::SYS_sethostname),
    always("sethostname", libc::SYS_setdomainname),
    always("settimeofday", libc::SYS_settimeofday),
    always("settimeofday", libc::SYS_clock_settime),
    always("settimeofday", libc::SYS_clock_adjtime),
    always("settimeofday", libc::SYS_adjtimex),
    // There is no nice, only price.
    if_any("realtime", libc::SYS_sched_setscheduler, REALTIME),
    always("realtime", libc::SYS_sched_setattr),
    if_any("nice", libc::SYS_setpriority, &[(2, Ge, 0x8000_0000)]),
    // Terminals.
    if_any("terminal", libc::SYS_ioctl, TERMINAL),
    always("vhangup", libc::SYS_vhangup),
    // The host's channel to its virtual machines.
    if_any("vsock", libc::SYS_socket, &[(0, Eq, 40)]),
];

/// `kexec_file_load` is 320 on x86-64 and 294 on 64-bit ARM.
#[cfg(target_arch = "x86_64")]
const KEXEC_FILE: c_long = 0;
#[cfg(not(target_arch = "x86_64"))]
const KEXEC_FILE: c_long = -26;

/// Calls that only x86 has.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[Refused] = &[
    always("iopl", libc::SYS_iopl),
    always("iopl", libc::SYS_ioperm),
    always("modify_ldt", libc::SYS_modify_ldt),
    always("uselib", libc::SYS_uselib),
    always("_sysctl", libc::SYS__sysctl),
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[Refused] = &[];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// The names by which refused calls can be allowed.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let all: BTreeSet<_> = REFUSED.iter().chain(REFUSED_HERE).map(|call| call.name).collect();
    all.into_iter().collect()
}

/// A filter, and how many calls it refuses.
pub(super) fn filter(allow: &BTreeSet<&'static str>) -> Result<(BpfProgram, usize), SandboxError> {
    let failed = |error: seccompiler::BackendError| SandboxError::Seccomp(error.to_string());
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in REFUSED.iter().chain(REFUSED_HERE).filter(|call| !allow.contains(call.name)) {
        let conditions = call.when.iter().map(|(argument, operator, value)| {
            // Flags and requests are `int`s: the kernel does not look at the upper half.
            SeccompRule::new(vec![SeccompCondition::new(*argument, Dword, operator.clone(), *value)?])
        });
        rules.insert(call.number, conditions.collect::<Result<_, _>>().map_err(failed)?);
    }
    let refused = rules.len();
    let architecture = std::env::consts::ARCH.try_into().map_err(failed)?;
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, eperm, architecture).map_err(failed)?;
    let body = BpfProgram::try_from(filter).map_err(failed)?;
    // Its own check of the architecture, three instructions, kills; ours refuses.
    let program = prologue(allow).into_iter().chain(body.into_iter().skip(3)).collect();
    Ok((program, refused))
}

const LOAD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Calls of the x32 ABI have this bit.
const X32: u32 = 0x4000_0000;

/// Refuses other architectures, and `clone3` as if the kernel did not have it.
fn prologue(allow: &BTreeSet<&'static str>) -> Vec<sock_filter> {
    let step = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let refuse = |errno: i32| step(RETURN, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs(), 0, 0);
    // Offsets of `struct seccomp_data`: the number at 0, the architecture at 4.
    let mut program =
        vec![step(LOAD, 4, 0, 0), step(IF_EQUAL, ARCHITECTURE, 1, 0), refuse(libc::EPERM), step(LOAD, 0, 0, 0)];
    if cfg!(target_arch = "x86_64") {
        program.extend([step(IF_AT_LEAST, X32, 0, 1), refuse(libc::EPERM)]);
    }
    if !allow.contains("namespaces") {
        let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(435);
        program.extend([step(IF_EQUAL, clone3, 0, 1), refuse(libc::ENOSYS)]);
    }
    program
}

/// Installs a filter for this thread. Runs between `clone` and `execve`.
pub(super) fn install(program: &[sock_filter]) -> Result<(), rustix::io::Errno> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| rustix::io::Errno::INVAL)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    const FLAGS: c_ulong = 0;
    // SAFETY: the kernel copies the program, which is a list of its own instructions and lives during the call.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, FLAGS, &raw const program) };
    super::super::raw::done(answer).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refused_call_can_be_allowed_and_none_is_lost() {
        let (all, refused) = filter(&BTreeSet::new()).unwrap();
        let numbers: BTreeSet<_> = REFUSED.iter().chain(REFUSED_HERE).map(|call| call.number).collect();
        // A number that stood twice would have lost its first conditions.
        assert_eq!((refused, numbers.len()), (REFUSED.len() + REFUSED_HERE.len(), refused));
        for name in names() {
            let (program, fewer) = filter(&BTreeSet::from([name])).unwrap();
            assert!(fewer < refused && program.len() < all.len(), "{name}");
        }
    }

    #[test]
    fn the_library_begins_with_the_three_instructions_that_are_replaced() {
        let allow = SeccompFilter::new(
            BTreeMap::from([(1, Vec::new())]),
            SeccompAction::Allow,
            SeccompAction::Trap,
            std::env::consts::ARCH.try_into().unwrap(),
        );
        let body = BpfProgram::try_from(allow.unwrap()).unwrap();
        let kill = body.get(2).unwrap();
        assert_eq!((kill.code, kill.k), (RETURN, libc::SECCOMP_RET_KILL_PROCESS));
        assert_eq!(body.get(1).map(|check| check.k), Some(ARCHITECTURE));
        assert_eq!(body.get(3).map(|load| (load.code, load.k)), Some((LOAD, 0)));
    }
}
