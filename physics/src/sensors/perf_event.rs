//! `perf_event_open(2)`: the only system call here that no safe library offers.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::root::ReadError;

/// `struct perf_event_attr` as of its first version (`include/uapi/linux/perf_event.h`, `PERF_ATTR_SIZE_VER0`): later
/// kernels take it for what it is by its size.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    breakpoint_address: u64,
}

const SIZE: u32 = 64;
const _: () = assert!(size_of::<Attributes>() == SIZE as usize, "the kernel's PERF_ATTR_SIZE_VER0");
/// `PERF_FORMAT_GROUP`: one read answers all members.
const FORMAT_GROUP: u64 = 1 << 3;
/// `PERF_FLAG_FD_CLOEXEC`.
const FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;

/// `PERF_FLAG_PID_CGROUP`: the process is the descriptor of a cgroup's folder.
const FLAG_PID_CGROUP: libc::c_ulong = 1 << 2;

/// Whose events are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who<'a> {
    /// Everybody's.
    Everybody,
    /// Those of the processes in a cgroup (version 2), now and later.
    Cgroup(BorrowedFd<'a>),
}

/// Opens an event on one core, counting at once. With a leader it joins the leader's group.
///
/// # Errors
///
/// [`ReadError`]: denied without `CAP_PERFMON`, unless `perf_event_paranoid` is 0 or less.
pub(crate) fn open(
    who: Who<'_>,
    kind: u32,
    config: u64,
    cpu: u32,
    leader: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, ReadError> {
    let attributes = Attributes { kind, size: SIZE, config, read_format: FORMAT_GROUP, ..Attributes::default() };
    let cpu = libc::c_int::try_from(cpu).map_err(|_| ReadError::Impossible)?;
    let group = leader.map_or(-1, |leader| leader.as_raw_fd());
    let (pid, flags): (libc::pid_t, _) = match who {
        Who::Everybody => (-1, FLAG_FD_CLOEXEC),
        Who::Cgroup(folder) => (folder.as_raw_fd(), FLAG_FD_CLOEXEC | FLAG_PID_CGROUP),
    };
    // SAFETY: the kernel reads `size` bytes of the attributes, which live until the call returns, and writes to no memory
    // of ours: a size that it knows is never written back.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, pid, cpu, group, flags) };
    match libc::c_int::try_from(fd) {
        // SAFETY: the call succeeded, so this descriptor is open and nobody else's.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}
